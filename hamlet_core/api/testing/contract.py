"""The contract of a registry adapter as tests. R1 to R10 are the rules of `RegistrySpec`, in its words.

Every test acts through the hooks and through `RegistryBackend`, so it holds for any backend. Nothing
asserts how fast anything is but the end of a watch; the other deadlines are only where waiting ends. The name of
a test begins with its rule: `test_r3_...` is about R3.
"""

from __future__ import annotations

from hamlet_core.api.testing.check_rules import CheckRules
from hamlet_core.api.testing.import_rules import ImportRules
from hamlet_core.api.testing.mark_rules import MarkRules
from hamlet_core.api.testing.watch_rules import WatchRules


class RegistryContract(CheckRules, ImportRules, MarkRules, WatchRules):
    """Subclass it in a plugin's tests and override `backend`; see `hamlet_core.api.testing`.

    `deadline` are the seconds (20) that a change may take to be seen and an outage to be noticed: the limit of R1 and
    R3. `stop_deadline` is the one that R4 gives a watch to end: a check fails that found it late three times in a
    row, as a busy machine may be once. `names` are who the agents are and how things are called. A subclass may set
    each of them.
    """

"""Which versions of Consul have a terminating gateway check the name of an owner's ingress. Pure.

A link's SNI became the name that the certificate has to present with Consul's change 12672 of April 2022, which late
releases of 1.9 to 1.12 have and 1.13 has from the beginning. Before it, any certificate of the authority passed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

CERTAIN = (1, 13)
"""All releases of this series and of later ones check names."""
_VERSION = re.compile(r"(\d+)\.(\d+)\.")


def checks_names(build: str) -> bool:
    """Whether an agent of this build (`1.13.2:0e046bbb`) is certain to have names checked."""
    found = _VERSION.match(build)
    return found is not None and (int(found[1]), int(found[2])) >= CERTAIN


def unchecked(builds: Mapping[str, str]) -> str:
    """Which of these agents (their builds by name) may leave names unchecked, in words; empty when none may.

    Where no agent is seen at all, one that is hidden may.
    """
    if not builds:
        return "(none is seen)"
    old = [name for name, build in sorted(builds.items()) if not checks_names(build)]
    if not old:
        return ""
    version = builds[old[0]].partition(":")[0] or "an unknown version"
    return f"{old[0]} ({version})" + (f" and {len(old) - 1} more agents" if len(old) > 1 else "")

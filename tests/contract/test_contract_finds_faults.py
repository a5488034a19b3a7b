"""The kit is right: adapters with one fault each are found by the check meant for it, and by no other rule's.

Gross faults are those of services that are lost or cannot be written: who loses services loses them everywhere.
"""

import contextlib
import os
import threading
from contextlib import contextmanager

from hamlet_core.api import RegistrySpec, RegistryUnavailable
from hamlet_core.api.testing import MemoryRegistry, RegistryContract
from hamlet_core.api.testing.agents import Agents
from hamlet_core.api.testing.memory import MemoryAdapter
from tests.contract import (
    broken_afterwards,
    broken_changes,
    broken_checks,
    broken_imports,
    broken_listings,
    broken_marks,
    broken_watches,
)
from tests.contract.finding import FindsFaults, together

BROKEN = (
    broken_watches,
    broken_listings,
    broken_afterwards,
    broken_imports,
    broken_changes,
    broken_marks,
    broken_checks,
)


class Faulty(MemoryRegistry):
    """A memory with a faulty adapter; `left` and `over` are what that leaves behind.

    `rewrites` shows what was written for nothing, `hidden` hides the marks; `noted` is what that keeps over restarts.
    """

    def __init__(self, adapter):
        super().__init__()
        self._adapter = adapter
        self.left = []
        self.over = threading.Event()
        self.rewrites = 0
        self.hidden = False
        self.noted = {}

    def entries(self):
        hidden = "lost " if self.hidden else "never "
        seen = {name: each for name, each in super().entries().items() if not name.startswith(hidden)}
        return {**seen, **({"rewritten": self.rewrites} if self.rewrites else {})}

    def open(self, context):
        return self._adapter(self, context)


class TestRegistryFaults(FindsFaults):
    spec = RegistrySpec
    contracts = (RegistryContract,)
    faults = together(*(each.FAULTS for each in BROKEN))
    gross = frozenset().union(*(getattr(each, "GROSS", ()) for each in BROKEN))
    sound = MemoryAdapter
    ends = (*FindsFaults.ends, RegistryUnavailable)

    @contextmanager
    def stage(self, contract, made, folder, seconds):
        backend, suite = Faulty(made), contract()
        agents = Agents(backend, folder)
        suite.deadline = suite.stop_deadline = seconds
        try:
            yield suite, {"backend": backend, "agents": agents}
        finally:
            backend.over.set()
            for descriptor in backend.left:
                os.close(descriptor)
            for watching in agents._watching:
                with contextlib.suppress(AssertionError):
                    watching.end(seconds)

"""What each registry finds wrong with itself (`registry_check`), for status: fresh enough, and never at a high price.

A watch tells services and nothing of what it had to leave out (a malformed file, a missing right); a check does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

from hamlet_core.api import Finding, Severity
from hamlet_core.plugins.registry_port import RegistryPort

FRESH = 1.0
"""Seconds for which an answer counts; nobody who asks status over and over makes more of them."""
SHARE = 50
"""An answer that took long counts so many times as long: a check of very many files is no small work."""
OLDEST = 30.0
"""Seconds for which an answer counts at most: one that was slow for once must not be told for minutes."""
WITHIN = 1.0
"""Seconds that status waits for an answer; one that comes later is told the next time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The errors that a registry's check found, and when it was asked."""

    errors: tuple[Finding, ...]
    at: datetime


class Checks:
    """Asks the registries when it is asked itself, each of them once at a time."""

    def __init__(self, ports: Mapping[str, RegistryPort]) -> None:
        self._ports = ports
        self._found: dict[str, Checked] = {}
        self._due: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    def found(self, name: str) -> Checked | None:
        """What the registry `name` said last; None before it has said anything."""
        return self._found.get(name)

    async def refresh(self) -> None:
        """Ask those whose answer is old, and wait for them for a moment."""
        asked = [self._ask(name) for name in self._ports if self._is_due(name)]
        if asked:
            await asyncio.wait(asked, timeout=WITHIN)

    def _is_due(self, name: str) -> bool:
        return name not in self._asking and monotonic() >= self._due.get(name, 0.0)

    def _ask(self, name: str) -> asyncio.Task[None]:
        task = self._asking[name] = asyncio.get_running_loop().create_task(self._check(name))
        task.add_done_callback(lambda _: self._asking.pop(name))
        return task

    async def _check(self, name: str) -> None:
        began, at = monotonic(), datetime.now(UTC)
        findings: Sequence[Finding] = await self._ports[name].check()  # what fails is a finding, too
        self._found[name] = Checked(errors=tuple(f for f in findings if f.severity is Severity.ERROR), at=at)
        took = monotonic() - began
        self._due[name] = monotonic() + min(max(FRESH, SHARE * took), OLDEST)

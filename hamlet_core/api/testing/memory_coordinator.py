"""A coordinator in memory: for tests of whatever stands above the coordinator's hooks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from hamlet_core.api import (
    AdapterContext,
    AdapterOptions,
    AdapterType,
    CoordinatorUnavailable,
    Finding,
    Severity,
    Stop,
    hookimpl,
    lead_by_renewing,
)
from hamlet_core.api.testing.coordinator_backend import CoordinatorBackend


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who leads a mesh, until when by the monotonic clock; `holder` is None for what someone else has put there."""

    holder: object
    until: float = 0.0


class MemoryCoordinator(CoordinatorBackend):
    """Who leads which mesh; it outlives its adapters. Any thread may look. A claim counts for `ttl` seconds."""

    def __init__(self, ttl: float = 2.0) -> None:
        self.ttl = ttl
        self.lock = threading.RLock()
        self.claims: dict[str, Claim] = {}
        self.out_of_reach: set[object] = set()
        self.opened = 0

    def adapter_type(self) -> AdapterType:
        """The adapter type of kind `memory` that opens this very coordinator."""
        return AdapterType(
            kind="memory",
            role="coordinator",
            options=AdapterOptions,
            open=lambda options, context: self.open(context),  # noqa: ARG005 - it needs none
            api_version=1,
            summary="a coordinator in memory, for tests",
        )

    def open(self, context: AdapterContext) -> MemoryCoordinatorAdapter:
        """Open another adapter."""
        with self.lock:
            self.opened += 1
            return MemoryCoordinatorAdapter(self, self.key(context), self.opened)

    def key(self, context: AdapterContext) -> str:
        """Where the lead of a mesh stands."""
        return f"{context.trust_domain}/{context.mesh}"

    @contextmanager
    def cut(self, adapter: object) -> Iterator[None]:
        """Take the memory from one adapter."""
        with self.lock:
            self.out_of_reach.add(adapter)
        try:
            yield
        finally:
            with self.lock:
                self.out_of_reach.discard(adapter)

    def add_foreign(self, context: AdapterContext) -> str:
        """Put a claim there that is nobody's of us."""
        with self.lock:
            self.claims[self.key(context)] = Claim(holder=None)
        return self.key(context)

    def remove_foreign(self, context: AdapterContext) -> None:
        """Take it out again."""
        with self.lock:
            self.claims.pop(self.key(context), None)

    def entries(self) -> Mapping[str, object]:
        """Every claim."""
        with self.lock:
            return dict(self.claims)

    def lead(self, adapter: MemoryCoordinatorAdapter, stop: Stop) -> Iterator[bool]:
        """What the hook yields."""
        return lead_by_renewing(stop, lambda: self.claim(adapter), lambda: self.release(adapter), ttl=self.ttl)

    def claim(self, adapter: MemoryCoordinatorAdapter) -> bool:
        """Take the lead, or renew it, for `ttl` seconds from now."""
        with self.lock:
            self.reach(adapter)
            held = self.claims.get(adapter.key)
            if held is not None and held.holder is None:
                message = f"{adapter.key} is somebody else's"
                raise CoordinatorUnavailable(message)
            if held is not None and held.holder is not adapter and time.monotonic() < held.until:
                return False
            self.claims[adapter.key] = Claim(holder=adapter, until=self.lasts())
            return True

    def lasts(self) -> float:
        """Until when a claim of now counts."""
        return time.monotonic() + self.ttl

    def release(self, adapter: MemoryCoordinatorAdapter) -> None:
        """Give the lead up."""
        with self.lock:
            self.reach(adapter)
            held = self.claims.get(adapter.key)
            if held is not None and held.holder is adapter:
                del self.claims[adapter.key]

    def findings(self, adapter: object) -> Sequence[Finding]:
        """Whether an adapter reaches it."""
        cut = adapter in self.out_of_reach
        severity, message = (Severity.ERROR, "out of reach") if cut else (Severity.OK, "in reach")
        return [Finding(subject="memory", severity=severity, message=message)]

    def reach(self, adapter: object) -> None:
        """Raise `CoordinatorUnavailable` for who is cut off."""
        if adapter in self.out_of_reach:
            message = "the memory is out of reach"
            raise CoordinatorUnavailable(message)


class MemoryCoordinatorAdapter:
    """The hooks of a `MemoryCoordinator`, for the `number`th agent that opened it."""

    def __init__(self, memory: MemoryCoordinator, key: str, number: int) -> None:
        self._memory = memory
        self.key = key
        self.number = number

    @hookimpl
    def coordinator_lead(self, stop: Stop) -> Iterator[bool]:
        """See `CoordinatorSpec`."""
        return self._memory.lead(self, stop)

    @hookimpl
    def coordinator_check(self) -> Sequence[Finding]:
        """See `CoordinatorSpec`."""
        return self._memory.findings(self)

    @hookimpl
    def coordinator_close(self) -> None:
        """See `CoordinatorSpec`."""

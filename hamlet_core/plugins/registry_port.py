"""A registry as the event loop sees it: every read and write of an adapter goes through its port.

It attributes every error to its registry and checks what adapters answer; it decides nothing and retries
nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from types import MappingProxyType

from hamlet_core.api import (
    AdapterError,
    AdapterType,
    Batch,
    Finding,
    ImportChange,
    Outcome,
    RegistrySpec,
    RegistryUnavailable,
    Remove,
    Snapshot,
    StandingImport,
    Status,
    Upsert,
)
from hamlet_core.plugins.attribution import FAULT
from hamlet_core.plugins.calls import Calls, Late, hook_relay

_REQUIRED = ("registry_watch", "registry_imports", "registry_apply", "registry_mark_peer", "registry_check")
_NOT_WRAPPED = ("registry_observed", "registry_close")


class RegistryPort:
    """One configured registry: the adapter, the wrappers around it, and the threads they run on.

    `call_timeout` (seconds) bounds every call, `stop_timeout` how long a watch may take to end after it
    was told to. All methods belong to one event loop.
    """

    def __init__(
        self,
        name: str,
        adapter_type: AdapterType,
        adapter: object,
        wrappers: Mapping[str, object] = MappingProxyType({}),
        *,
        call_timeout: float = 60.0,
        stop_timeout: float = 5.0,
    ) -> None:
        self.name = name
        self.kind = adapter_type.kind
        self.title = f"registry {name!r} ({adapter_type.kind})"
        self._hooks = hook_relay(self.title, RegistrySpec, _REQUIRED, _NOT_WRAPPED, adapter, wrappers)
        self._calls = Calls(
            name, self.title, RegistryUnavailable, call_timeout=call_timeout, stop_timeout=stop_timeout
        )

    async def watch(self) -> AsyncGenerator[Batch, None]:
        """Yield the batches of `registry_watch`, a `Snapshot` first; leaving the loop stops the adapter.

        Use it under `contextlib.aclosing`, so that it ends when you leave it. It ends by itself only after
        `close`; otherwise it raises `RegistryUnavailable` (call again, with backoff) or `AdapterError`.
        """
        first = True
        async with aclosing(
            self._calls.watch("registry_watch", lambda stop: self._hooks.registry_watch(stop=stop))
        ) as batches:
            async for batch in batches:
                self._check_batch(batch, first=first)
                first = False
                yield batch
                await self._show(batch)

    async def imports(self) -> Sequence[StandingImport]:
        """List what the registry holds that carries our mark.

        Raises `RegistryUnavailable`, also when there is no answer in time, and `AdapterError`.
        """
        standing = await self._calls.answer("registry_imports", self._hooks.registry_imports)
        if not isinstance(standing, Sequence) or not all(isinstance(each, StandingImport) for each in standing):
            message = f"{self.title}: registry_imports returned {standing!r:.200}, which is no list of StandingImport"
            raise AdapterError(message, mend=FAULT)
        return standing

    async def apply(self, changes: Sequence[ImportChange]) -> Sequence[Outcome]:
        """Write `changes` and return one outcome for each, in their order.

        A call that outlives its deadline comes back as `RETRY` for all of them; the next call waits until
        it has returned. Raises `RegistryUnavailable` when nothing could be tried, and `AdapterError`, also
        when the answers are not those to the questions.
        """
        if not changes:
            return []
        try:
            outcomes = await self._calls.attempt(
                "registry_apply", lambda: self._hooks.registry_apply(changes=tuple(changes))
            )
        except Late as late:
            return [
                Outcome(key=change.key, status=Status.RETRY, reason=f"{self.title}: {late}") for change in changes
            ]
        if not isinstance(outcomes, Sequence) or not all(isinstance(each, Outcome) for each in outcomes):
            message = f"{self.title}: registry_apply returned {outcomes!r:.200}, which is no list of Outcome"
            raise AdapterError(message, mend=FAULT)
        if [outcome.key for outcome in outcomes] != [change.key for change in changes]:
            message = (
                f"{self.title}: registry_apply answered {len(changes)} changes with {len(outcomes)} outcomes"
                " that are not theirs, one by one and in their order"
            )
            raise AdapterError(message, mend=FAULT)
        return outcomes

    async def mark_peer(self, peer: str, lost_since: datetime | None) -> None:
        """Record in the registry since when `peer` is lost, or that it is back. Raises as `imports` does."""
        await self._calls.answer(
            "registry_mark_peer", lambda: self._hooks.registry_mark_peer(peer=peer, lost_since=lost_since)
        )

    async def check(self) -> list[Finding]:
        """Ask the adapter how it is; a check that fails or hangs is a finding too. Waits for no write."""
        return await self._calls.check("registry_check", self._hooks.registry_check)

    async def close(self) -> None:
        """End the watch, wait for the call that is under way, release the adapter; see `Calls.close`."""
        await self._calls.close("registry_close", self._hooks.registry_close)

    async def _show(self, batch: Batch) -> None:
        """Tell the observers of a batch the core has taken; one that fails is logged, and the watch goes on."""
        if self._hooks.registry_observed.get_hookimpls():
            await self._calls.aside("registry_observed", lambda: self._hooks.registry_observed(batch=batch))

    def _check_batch(self, batch: object, *, first: bool) -> None:
        if first and not isinstance(batch, Snapshot):
            message = f"{self.title}: the first batch of its watch is {batch!r:.200} and must be a Snapshot"
            raise AdapterError(message, mend=FAULT)
        changes = isinstance(batch, tuple) and all(isinstance(each, Upsert | Remove) for each in batch)
        if not (changes or isinstance(batch, Snapshot)):
            message = f"{self.title}: its watch yielded {batch!r:.200}; a Snapshot or a tuple of changes is due"
            raise AdapterError(message, mend=FAULT)

"""A registry as the event loop sees it: every read and write of an adapter goes through its port.

The one place that knows threads: one runs the watch, one call at a time runs beside it. It attributes
every error to its registry and checks what adapters answer; it decides nothing and retries nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar

import pluggy
import structlog

from hamlet_core.api import (
    PROJECT,
    AdapterError,
    AdapterType,
    Batch,
    Finding,
    ImportChange,
    Outcome,
    RegistrySpec,
    RegistryUnavailable,
    Remove,
    Severity,
    Snapshot,
    StandingImport,
    Status,
    Stop,
    Upsert,
)
from hamlet_core.plugins.attribution import attributed
from hamlet_core.plugins.registration import register
from hamlet_core.plugins.threads import Answer, start

T = TypeVar("T")
_log = structlog.get_logger(__name__)

_REQUIRED = frozenset(
    {"registry_watch", "registry_imports", "registry_apply", "registry_mark_peer", "registry_check"}
)
_NOT_WRAPPED = frozenset({"registry_observed", "registry_close"})
"""Hooks that call everybody, so that a wrapper plugin implements them plainly."""

_END = object()
"""Follows the last batch of a watch."""

AHEAD = 4
"""Batches that a watch may be ahead of the core; then its thread waits."""


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
        self._call_timeout = call_timeout
        self._stop_timeout = stop_timeout
        self._hooks = _hooks(self.title, adapter, wrappers)
        self._turn = asyncio.Lock()
        self._call: asyncio.Future[Answer[Any]] | None = None
        self._stop: Stop | None = None
        self._watching: asyncio.Future[Answer[None]] | None = None
        self._closed = False

    async def watch(self) -> AsyncGenerator[Batch, None]:
        """Yield the batches of `registry_watch`, a `Snapshot` first; leaving the loop stops the adapter.

        Use it under `contextlib.aclosing`, so that it ends when you leave it. It ends by itself only after
        `close`; otherwise it raises `RegistryUnavailable` (call again, with backoff) or `AdapterError`.
        """
        self._refuse_closed()
        if self._watching is not None and not self._watching.done():
            message = f"{self.title}: the watch before this one has not ended yet"
            raise RegistryUnavailable(message)
        stop = Stop()
        room = threading.Semaphore(AHEAD)
        stop.on_stop(room.release)  # wakes the thread that waits for room
        batches: asyncio.Queue[Any] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def run() -> None:
            iterator = self._hooks.registry_watch(stop=stop)
            try:
                for batch in iterator:
                    room.acquire()
                    if stop.is_set():
                        return
                    loop.call_soon_threadsafe(batches.put_nowait, batch)
            finally:
                if hasattr(iterator, "close"):
                    iterator.close()

        self._stop = stop
        self._watching = ended = start(run, f"hamlet-watch-{self.name}")
        ended.add_done_callback(lambda _: batches.put_nowait(_END))
        first = True
        try:
            while (batch := await batches.get()) is not _END:
                self._check_batch(batch, first=first)
                first = False
                yield batch
                room.release()
                await self._show(batch)
            if stop.is_set():
                return
            error = ended.result().error
            if error is None:
                message = f"{self.title}: the watch ended without being asked to"
                raise RegistryUnavailable(message)
            raise attributed(self.title, error) from error
        finally:
            await self._end_watch(stop, ended)

    async def imports(self) -> Sequence[StandingImport]:
        """List what the registry holds that carries our mark.

        Raises `RegistryUnavailable`, also when there is no answer in time, and `AdapterError`.
        """
        standing = await self._answer("registry_imports", self._hooks.registry_imports)
        if not isinstance(standing, Sequence) or not all(isinstance(each, StandingImport) for each in standing):
            message = f"{self.title}: registry_imports returned {standing!r:.200}, which is no list of StandingImport"
            raise AdapterError(message)
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
            outcomes = await self._answer(
                "registry_apply", lambda: self._hooks.registry_apply(changes=tuple(changes))
            )
        except _Late as late:
            return [
                Outcome(key=change.key, status=Status.RETRY, reason=f"{self.title}: {late}") for change in changes
            ]
        if not isinstance(outcomes, Sequence) or not all(isinstance(each, Outcome) for each in outcomes):
            message = f"{self.title}: registry_apply returned {outcomes!r:.200}, which is no list of Outcome"
            raise AdapterError(message)
        if [outcome.key for outcome in outcomes] != [change.key for change in changes]:
            message = (
                f"{self.title}: registry_apply answered {len(changes)} changes with {len(outcomes)} outcomes"
                " that are not theirs, one by one and in their order"
            )
            raise AdapterError(message)
        return outcomes

    async def mark_peer(self, peer: str, lost_since: datetime | None) -> None:
        """Record in the registry since when `peer` is lost, or that it is back. Raises as `imports` does."""
        await self._answer(
            "registry_mark_peer", lambda: self._hooks.registry_mark_peer(peer=peer, lost_since=lost_since)
        )

    async def check(self) -> list[Finding]:
        """Ask the adapter how it is; a check that fails or hangs is a finding too. Waits for no write."""
        checking = start(self._hooks.registry_check, f"hamlet-check-{self.name}")
        done, _ = await asyncio.wait({checking}, timeout=self._call_timeout)
        if not done:
            return [self._finding(f"no answer to registry_check within {self._call_timeout:g} s")]
        answer = checking.result()
        if answer.error is not None:
            error = attributed(self.title, answer.error)
            return [self._finding(str(error), error.mend)]
        return list(answer.value or ())

    async def close(self) -> None:
        """End the watch, wait for the call that is under way, release the adapter. Once; later ones do nothing.

        What does not end in time, or fails, is logged and left behind: closing goes on.
        """
        if self._closed:
            return
        self._closed = True
        if self._stop is not None and self._watching is not None:
            await self._end_watch(self._stop, self._watching)
        if self._call is not None:
            await asyncio.wait({self._call}, timeout=self._stop_timeout)
        closing = start(self._hooks.registry_close, f"hamlet-close-{self.name}")
        await asyncio.wait({closing}, timeout=self._stop_timeout)
        self._report(closing, "registry_close")

    async def _answer(self, hook: str, call: Callable[[], T]) -> T:
        """Run one call, after the one before it has returned, all within the deadline."""
        self._refuse_closed()
        mine: asyncio.Future[Answer[T]] | None = None
        try:
            async with asyncio.timeout(self._call_timeout), self._turn:
                if self._call is not None:
                    await asyncio.shield(self._call)
                self._call = mine = start(call, f"hamlet-call-{self.name}")
                answer = await asyncio.shield(mine)
        except TimeoutError:
            if mine is None:
                message = f"a call before this one has not returned for {self._call_timeout:g} s"
                raise _Late(message) from None
            mine.add_done_callback(lambda late: self._report(late, hook))
            message = f"no answer to {hook} within {self._call_timeout:g} s"
            raise _Late(message) from None
        if answer.error is not None:
            raise attributed(self.title, answer.error) from answer.error
        return answer.value  # type: ignore[return-value]  # a call that raised nothing has returned a T

    async def _show(self, batch: Batch) -> None:
        """Tell the observers of a batch the core has taken; one that fails is logged, and the watch goes on."""
        if not self._hooks.registry_observed.get_hookimpls():
            return
        observing = start(lambda: self._hooks.registry_observed(batch=batch), f"hamlet-observe-{self.name}")
        await asyncio.wait({observing}, timeout=self._call_timeout)
        self._report(observing, "registry_observed")

    async def _end_watch(self, stop: Stop, ended: asyncio.Future[Answer[None]]) -> None:
        # On a thread of its own: a callback of the adapter's may block.
        stopping = start(stop.set, f"hamlet-stop-{self.name}")
        await asyncio.wait({stopping, ended}, timeout=self._stop_timeout)
        self._report(stopping, "Stop.set")
        if not ended.done():
            _log.error("watch does not end", registry=self.name, kind=self.kind, seconds=self._stop_timeout)

    def _report(self, call: asyncio.Future[Answer[Any]], hook: str) -> None:
        """Log a call that nobody waits for any more and that failed or has not returned."""
        if not call.done():
            _log.error("adapter does not return", registry=self.name, kind=self.kind, hook=hook)
        elif (error := call.result().error) is not None:
            _log.error("adapter failed", registry=self.name, kind=self.kind, hook=hook, exc_info=error)

    def _check_batch(self, batch: object, *, first: bool) -> None:
        if first and not isinstance(batch, Snapshot):
            message = f"{self.title}: the first batch of its watch is {batch!r:.200} and must be a Snapshot"
            raise AdapterError(message)
        changes = isinstance(batch, tuple) and all(isinstance(each, Upsert | Remove) for each in batch)
        if not (changes or isinstance(batch, Snapshot)):
            message = f"{self.title}: its watch yielded {batch!r:.200}; a Snapshot or a tuple of changes is due"
            raise AdapterError(message)

    def _finding(self, message: str, mend: str = "") -> Finding:
        return Finding(subject=self.title, severity=Severity.ERROR, message=message, mend=mend)

    def _refuse_closed(self) -> None:
        if self._closed:
            message = f"{self.title} is closed"
            raise AdapterError(message)


class _Late(RegistryUnavailable):
    """A call did not come back within its deadline."""


def _hooks(title: str, adapter: object, wrappers: Mapping[str, object]) -> pluggy.HookRelay:
    """Register the adapter and what stands around it on a plugin manager of their own."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(RegistrySpec)
    hooks = register(manager, adapter, "adapter", described=f"{title}: the adapter")
    if missing := sorted(_REQUIRED - hooks):
        message = f"{title}: the adapter does not implement {', '.join(missing)}"
        raise AdapterError(message)
    for plugin, wrapper in wrappers.items():
        described = f"{title}: the wrapper of plugin {plugin!r}"
        for hook in register(manager, wrapper, f"wrapper {plugin}", described=described) - _NOT_WRAPPED:
            impls = getattr(manager.hook, hook).get_hookimpls()
            if not all(impl.wrapper or impl.hookwrapper for impl in impls if impl.plugin is wrapper):
                message = f"{described} answers {hook} itself; a wrapper has @hookimpl(wrapper=True)"
                raise AdapterError(message)
    return manager.hook

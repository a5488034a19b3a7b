"""The calls of one adapter: which thread each runs on, how long it may take, and whose its errors are.

The one place that knows threads: one runs the watch, one call at a time runs beside it. It decides nothing
and retries nothing; what an answer must look like is for the port that asks.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Hashable, Iterable, Iterator, Mapping
from traceback import walk_tb
from typing import Any, TypeVar

import pluggy
import structlog

from hamlet_core.api import PROJECT, AdapterError, Finding, HamletError, Severity, Stop
from hamlet_core.plugins.attribution import FAULT, attributed, described
from hamlet_core.plugins.registration import register
from hamlet_core.plugins.threads import Answer, start

T = TypeVar("T")
_log = structlog.get_logger(__name__)

_END = object()
"""Follows the last item of a watch."""

FAULTS = 100
"""So many different failures of an adapter are logged with a traceback; then something else is wrong."""

AHEAD = 4
"""Items that a watch may be ahead of the core; then its thread waits."""


class Calls:
    """The threads and deadlines of the adapter `title` (`registry 'west' (consul)`).

    `call_timeout` (seconds) bounds every call, `stop_timeout` how long a watch may take to end after it was
    told to. `unavailable` is the error for an adapter that does not answer. All methods belong to one loop.
    """

    def __init__(
        self,
        name: str,
        title: str,
        unavailable: type[HamletError],
        *,
        call_timeout: float,
        stop_timeout: float,
    ) -> None:
        self.title = title
        self._name = name
        self._unavailable = unavailable
        self._call_timeout = call_timeout
        self._stop_timeout = stop_timeout
        self._turn = asyncio.Lock()
        self._call: asyncio.Future[Answer[Any]] | None = None
        self._stop: Stop | None = None
        self._watching: asyncio.Future[Answer[None]] | None = None
        self._closed = False
        self._faults: set[Hashable] = set()

    async def watch(self, hook: str, begin: Callable[[Stop], Iterator[T]]) -> AsyncGenerator[T, None]:
        """Yield what the iterator of `begin` does, which runs on a thread of its own; leaving the loop stops it.

        `begin` calls `hook`. An item counts as taken when the next is asked for. Use it under
        `contextlib.aclosing`. It ends by itself only after `close`.
        """
        self.refuse_closed()
        if self._watching is not None and not self._watching.done():
            message = f"{self.title}: the watch before this one has not ended yet"
            raise self._unavailable(message)
        stop = Stop()
        room = threading.Semaphore(AHEAD)
        stop.on_stop(room.release)  # wakes the thread that waits for room
        items: asyncio.Queue[Any] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def run() -> None:
            iterator = begin(stop)
            try:
                for item in iterator:
                    room.acquire()
                    if stop.is_set():
                        return
                    loop.call_soon_threadsafe(items.put_nowait, item)
            finally:
                if hasattr(iterator, "close"):
                    iterator.close()

        self._stop = stop
        self._watching = ended = start(run, f"hamlet-watch-{self._name}")
        ended.add_done_callback(lambda _: items.put_nowait(_END))
        try:
            while (item := await items.get()) is not _END:
                yield item
                room.release()
            if stop.is_set():
                return
            error = ended.result().error
            if error is None:
                message = f"{self.title}: the watch ended without being asked to"
                raise self._unavailable(message, mend=FAULT)
            raise self._attributed(hook, error) from error
        finally:
            await self._end_watch(stop, ended)

    async def answer(self, hook: str, call: Callable[[], T]) -> T:
        """Run one call as `attempt` does; one that is late means that the adapter is unavailable."""
        try:
            return await self.attempt(hook, call)
        except Late as late:
            message = f"{self.title}: {late}"
            raise self._unavailable(message) from late

    async def attempt(self, hook: str, call: Callable[[], T]) -> T:
        """Run one call, after the one before it has returned, all within the deadline; `Late` when it is over."""
        self.refuse_closed()
        mine: asyncio.Future[Answer[T]] | None = None
        try:
            async with asyncio.timeout(self._call_timeout), self._turn:
                if self._call is not None:
                    await asyncio.shield(self._call)
                self._call = mine = start(call, f"hamlet-call-{self._name}")
                answer = await asyncio.shield(mine)
        except TimeoutError:
            if mine is None:
                message = f"a call before this one has not returned for {self._call_timeout:g} s"
                raise Late(message) from None
            mine.add_done_callback(lambda late: self._report(late, hook))
            message = f"no answer to {hook} within {self._call_timeout:g} s"
            raise Late(message) from None
        if answer.error is not None:
            raise self._attributed(hook, answer.error) from answer.error
        return answer.value  # type: ignore[return-value]  # a call that raised nothing has returned a T

    async def aside(self, hook: str, call: Callable[[], object]) -> None:
        """Run a call that nobody's work depends on; one that fails is logged."""
        running = start(call, f"hamlet-observe-{self._name}")
        await asyncio.wait({running}, timeout=self._call_timeout)
        self._report(running, hook)

    async def check(self, hook: str, call: Callable[[], Iterable[Finding] | None]) -> list[Finding]:
        """Ask the adapter how it is; a check that fails or hangs is a finding too. Waits for no other call."""
        checking = start(lambda: list(call() or ()), f"hamlet-check-{self._name}")
        done, _ = await asyncio.wait({checking}, timeout=self._call_timeout)
        if not done:
            return [self._finding(f"no answer to {hook} within {self._call_timeout:g} s")]
        answer = checking.result()
        if answer.error is not None:
            error = self._attributed(hook, answer.error)
            return [self._finding(str(error), error.mend)]
        findings = answer.value or []
        if not all(isinstance(each, Finding) for each in findings):
            return [self._finding(f"{hook} returned {findings!r:.200}, which is no list of Finding", FAULT)]
        return findings

    async def close(self, hook: str, release: Callable[[], object]) -> None:
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
        closing = start(release, f"hamlet-close-{self._name}")
        await asyncio.wait({closing}, timeout=self._stop_timeout)
        self._report(closing, hook)

    def refuse_closed(self) -> None:
        """Raise `AdapterError` after `close`."""
        if self._closed:
            message = f"{self.title} is closed"
            raise AdapterError(message)

    async def _end_watch(self, stop: Stop, ended: asyncio.Future[Answer[None]]) -> None:
        # On a thread of its own: a callback of the adapter's may block.
        stopping = start(stop.set, f"hamlet-stop-{self._name}")
        await asyncio.wait({stopping, ended}, timeout=self._stop_timeout)
        self._report(stopping, "Stop.set")
        if not ended.done():
            _log.error("watch does not end", adapter=self.title, seconds=self._stop_timeout)

    def _report(self, call: asyncio.Future[Answer[Any]], hook: str) -> None:
        """Log a call that nobody waits for any more and that failed or has not returned."""
        if not call.done():
            _log.error("adapter does not return", adapter=self.title, hook=hook)
        elif (error := call.result().error) is not None:
            self._log_failure(hook, error, trace=self._is_new(hook, error))

    def _attributed(self, hook: str, error: BaseException) -> HamletError:
        """Return `error` as `attributed` does; a fault of the adapter that is new goes into the log."""
        if not isinstance(error, HamletError) and self._is_new(hook, error):
            self._log_failure(hook, error, trace=True)
        return attributed(self.title, error)

    def _log_failure(self, hook: str, error: BaseException, *, trace: bool) -> None:
        exc_info = error if trace else None
        _log.error("adapter failed", adapter=self.title, hook=hook, error=described(error), exc_info=exc_info)

    def _is_new(self, hook: str, error: BaseException) -> bool:
        """Whether `hook` failed otherwise than ever before: in another place, or with another type of error."""
        fault = (hook, type(error), tuple((frame.f_code, line) for frame, line in walk_tb(error.__traceback__)))
        if fault in self._faults or len(self._faults) >= FAULTS:
            return False
        self._faults.add(fault)
        return True

    def _finding(self, message: str, mend: str = "") -> Finding:
        return Finding(subject=self.title, severity=Severity.ERROR, message=message, mend=mend)


class Late(Exception):
    """A call did not come back within its deadline; the message says which and how long."""


def hook_relay(
    title: str,
    spec: type,
    required: Collection[str],
    unwrapped: Collection[str],
    adapter: object,
    wrappers: Mapping[str, object],
) -> pluggy.HookRelay:
    """Register the adapter and what stands around it on a plugin manager of their own.

    `required` are the hooks an adapter must have, `unwrapped` those that call everybody, which a wrapper
    plugin implements plainly. Raises `AdapterError` for an adapter or wrapper that breaks that.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(spec)
    hooks = register(manager, adapter, "adapter", described=f"{title}: the adapter")
    if missing := sorted(set(required) - hooks):
        message = f"{title}: the adapter does not implement {', '.join(missing)}"
        unmarked = ", ".join(hook for hook in missing if callable(getattr(adapter, hook, None)))
        raise AdapterError(message, mend=f"mark {unmarked} with @hookimpl of hamlet_core.api" if unmarked else "")
    for plugin, wrapper in wrappers.items():
        described = f"{title}: the wrapper of plugin {plugin!r}"
        for hook in register(manager, wrapper, f"wrapper {plugin}", described=described) - set(unwrapped):
            impls = getattr(manager.hook, hook).get_hookimpls()
            if not all(impl.wrapper or impl.hookwrapper for impl in impls if impl.plugin is wrapper):
                message = f"{described} answers {hook} itself; a wrapper has @hookimpl(wrapper=True)"
                raise AdapterError(message)
    return manager.hook

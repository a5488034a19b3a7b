"""The process of the agent: signals, the admin socket, the loopback web server, and a watched file."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog
import watchfiles
from prometheus_client import CollectorRegistry

from hamlet_core.agent.admin import AdminServer, Method
from hamlet_core.agent.agent import Agent
from hamlet_core.agent.control import METHODS, Control
from hamlet_core.agent.leadership import Leadership, leadership_of
from hamlet_core.agent.logs import configure_logs
from hamlet_core.agent.metrics import StatusCollector
from hamlet_core.agent.standby import Standby
from hamlet_core.agent.status import Document, Reporter
from hamlet_core.agent.web import WebServer
from hamlet_core.api import HamletError
from hamlet_core.config import load
from hamlet_core.config.load import Loaded
from hamlet_core.identity.source import IdentitySource
from hamlet_core.plugins.options import adapter_options

log = structlog.get_logger()

NOTE_STATES = 1.0
"""Seconds between two looks at the peers' states."""
FOLLOW = 5.0
"""Seconds between two looks at the configuration's file where nothing says that it has changed."""


def run(path: Path, *, watch: bool) -> None:
    """Run the agent of the configuration at `path` until SIGTERM or SIGINT; raises `HamletError` if it cannot start.

    SIGHUP, and with `watch` a change of the file, makes it take over the configuration anew.
    """
    loaded = load.read(path)
    configure_logs(loaded.config.log)
    with suppress(ImportError):
        import uvloop

        uvloop.run(Process(loaded, watch=watch).run())
        return
    asyncio.run(Process(loaded, watch=watch).run())


class Serving:
    """One agent that runs, and what is told of it."""

    def __init__(self, loaded: Loaded, leadership: Leadership | None) -> None:
        self._agent = Agent(loaded)
        self._leadership = leadership
        self._reporter = Reporter(self._agent, leadership)
        self.supervisor = self._agent.supervisor
        self.status, self.tick, self.reload = self._reporter.status, self._reporter.tick, self._agent.reload
        self.start, self.stop = self._agent.start, self._agent.stop

    @property
    def loaded(self) -> Loaded:
        """The configuration in force."""
        return self._agent.loaded

    @property
    def identity(self) -> IdentitySource:
        """Our certificate, and whom to believe."""
        return self._agent.identity

    @property
    def rotated(self) -> list[str]:
        """The keys whose value is another now than the one in use, until a restart."""
        return self._reporter.rotated

    @property
    def not_ready(self) -> str:
        """Why it does not serve yet, or serves no more; an empty string when it does."""
        lost = self._leadership.why_not if self._leadership is not None else ""
        return lost or self._agent.not_ready

    def methods(self, reload: Callable[[], Awaitable[None]]) -> Mapping[str, Method]:
        """What the admin socket serves."""
        return Control(self._agent, self._reporter, reload, self._leadership).methods()


class Process:
    """One agent with everything around it; with a coordinator, one after the other, and a standby in between."""

    def __init__(self, loaded: Loaded, *, watch: bool) -> None:
        self._watch = watch
        if loaded.config.coordinator is not None:
            adapter_options(loaded)  # a standby must not find out what is wrong only when it has to lead
        self._leadership = leadership_of(loaded)
        self._turn: Serving | Standby = (
            Serving(loaded, None) if self._leadership is None else Standby(loaded, self._leadership)
        )
        self._stop = asyncio.Event()
        self._reload_asked = asyncio.Event()
        self._reload_refused = ""
        """Why the configuration was not taken over when it was last asked for; an empty string when it was."""

    async def run(self) -> None:
        """Start, wait for the signal to stop, stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_asked.set)
        admin = self._turn.loaded.config.admin
        server = AdminServer(admin.socket, {name: partial(self._answer, name) for name in METHODS})
        await server.start()  # first: that an agent runs here already is what to say before anything else
        web: WebServer | None = None
        try:
            if admin.http:
                web = await self._web(admin.http, loop)
            await self._take_turns(web)
        finally:
            if self._leadership is not None:
                await self._leadership.stop()
            await server.stop()
            if web:
                await asyncio.to_thread(web.stop)

    async def _web(self, address: str, loop: asyncio.AbstractEventLoop) -> WebServer:
        try:
            return WebServer(address, self._metrics(loop), lambda: self._turn.not_ready)
        except HamletError:
            await self._turn.stop()  # it has opened what it needs, and will not start
            raise

    async def _take_turns(self, web: WebServer | None) -> None:
        """Serve; with a coordinator only while this agent leads, and stand by otherwise."""
        leadership = self._leadership
        if leadership is None:
            await self._take_turn(web, self._stop)
            return
        leadership.start()
        while not self._stop.is_set():
            await self._take_turn(web, self._stop, leadership.leads)
            if self._stop.is_set():
                return
            self._turn = Serving(self._turn.loaded, leadership)
            await self._take_turn(web, self._stop, leadership.stands_by)
            self._turn = Standby(self._turn.loaded, leadership)

    async def _take_turn(self, web: WebServer | None, *ends: asyncio.Event) -> None:
        """Be what it is the turn to be until one of `ends` is set."""
        turn = self._turn
        try:
            await turn.start()
            if web:
                web.start()
            turn.supervisor.start("states", self._note_states)
            turn.supervisor.start("reloads", self._reloads)
            if self._watch:
                turn.supervisor.start("configuration", self._follow_file)
            # What stands after the start stays: without its modules and models a full collection, which a large
            # batch sets off, takes 50 ms less.
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            await _first_of(ends)
        finally:
            await turn.stop()

    async def _answer(self, method: str, request: Document) -> Document:
        refused = self._reload_refused if method == "status" else ""
        if refused and await self._in_force() and self._reload_refused is refused:
            self._reload_refused = ""
        document = await self._turn.methods(self._reload)[method](request)
        # Read last, and without waiting: an empty string must not stand beside what was in force before.
        return document | {"reload_refused": self._reload_refused} if method == "status" else document

    async def _in_force(self) -> bool:
        """Whether what would be read now is in force: what was refused was put back, and nobody told us."""
        loaded = self._turn.loaded
        try:
            return (await asyncio.to_thread(load.read, loaded.path)).config == loaded.config
        except HamletError:
            return False

    def _metrics(self, loop: asyncio.AbstractEventLoop) -> CollectorRegistry:
        async def status() -> Document:
            return self._turn.status()

        def ask() -> Document:
            return asyncio.run_coroutine_threadsafe(status(), loop).result(timeout=10)

        def expiry() -> float:
            return self._turn.identity.credentials.not_after.timestamp()

        registry = CollectorRegistry()
        registry.register(StatusCollector(ask, expiry))
        return registry

    async def _note_states(self) -> None:
        told: datetime | None = None  # the end of the certificate that was reported as expired
        while True:
            self._turn.tick()
            not_after = self._turn.identity.credentials.not_after
            if not_after <= datetime.now(UTC) and not_after != told:
                told = not_after
                log.error("our certificate has expired: peers refuse us", not_after=str(not_after))
            await asyncio.sleep(NOTE_STATES)

    async def _reloads(self) -> None:
        while True:
            await self._reload_asked.wait()
            self._reload_asked.clear()
            try:
                await self._reload()
            except HamletError as error:
                log.error(
                    "configuration not taken over; the old one stays in force", error=str(error), mend=error.mend
                )
            except asyncio.CancelledError:
                self._reload_asked.set()  # whoever leads or stands by next makes up for it
                raise

    async def _reload(self) -> None:
        turn = self._turn
        try:
            await turn.reload(await asyncio.to_thread(load.read, turn.loaded.path))
        except HamletError as error:
            self._reload_refused = f"{error} ({error.mend})" if error.mend else str(error)
            raise
        self._reload_refused = ""
        for key in turn.rotated:
            log.warning("a value is another now than the one in use", key=key, mend="restart the agent to take it")

    async def _follow_file(self) -> None:
        """Ask for a reload whenever there is another file than the one in force.

        Events alone do not tell: those of a file behind a link (a ConfigMap that is mounted) name others, and what
        changed before somebody listened has none.
        """
        path = self._turn.loaded.path.absolute()
        seen = _version(path)
        if not await self._in_force():
            self._reload_asked.set()
        looks = watchfiles.awatch(
            path.parent,
            watch_filter=None,
            recursive=False,
            rust_timeout=int(FOLLOW * 1000),
            yield_on_timeout=True,
        )
        async for _ in looks:
            if (version := _version(path)) != seen:
                seen = version
                self._reload_asked.set()


def _version(path: Path) -> tuple[int, int, int] | None:
    """What tells a file from what was or will be in its place; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


async def _first_of(events: Sequence[asyncio.Event]) -> None:
    """Wait until one of them is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()

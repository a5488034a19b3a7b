"""The process of the agent: logs, signals, the admin socket, the loopback web server, and a watched file."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog
import watchfiles
from prometheus_client import CollectorRegistry

from hamlet_core.agent.admin import AdminServer
from hamlet_core.agent.agent import Agent
from hamlet_core.agent.control import Control
from hamlet_core.agent.metrics import StatusCollector
from hamlet_core.agent.status import Document, Reporter
from hamlet_core.agent.web import WebServer
from hamlet_core.api import HamletError
from hamlet_core.config import load
from hamlet_core.config.load import Loaded
from hamlet_core.config.model import Log

log = structlog.get_logger()

NOTE_STATES = 1.0
"""Seconds between two looks at the peers' states."""


def configure_logs(settings: Log) -> None:
    """Send logs to standard error: text for people, JSON lines for programs."""
    as_text = settings.format == "text" or (settings.format == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if as_text else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if as_text else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


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


class Process:
    """One agent with everything around it."""

    def __init__(self, loaded: Loaded, *, watch: bool) -> None:
        self._watch = watch
        self._agent = Agent(loaded)
        self._reporter = Reporter(self._agent)
        self._stop = asyncio.Event()
        self._reload_asked = asyncio.Event()

    async def run(self) -> None:
        """Start, wait for the signal to stop, stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_asked.set)
        agent, admin = self._agent, self._agent.config.admin
        control = Control(agent, self._reporter, self._reload)
        server = AdminServer(admin.socket, control.methods())
        await server.start()  # first: that an agent runs here already is what to say before anything else
        web: WebServer | None = None
        try:
            if admin.http:
                web = WebServer(admin.http, self._metrics(loop), lambda: agent.not_ready)
            await agent.start()
            if web:
                web.start()
            agent.supervisor.start("states", self._note_states)
            agent.supervisor.start("reloads", self._reloads)
            if self._watch:
                agent.supervisor.start("configuration", self._follow_file)
            # What stands after the start stays: without its modules and models a full collection, which a large
            # batch sets off, takes 50 ms less.
            gc.collect()
            gc.freeze()
            await self._stop.wait()
        finally:
            await agent.stop()
            await server.stop()
            if web:
                await asyncio.to_thread(web.stop)

    def _metrics(self, loop: asyncio.AbstractEventLoop) -> CollectorRegistry:
        async def status() -> Document:
            return self._reporter.status()

        def ask() -> Document:
            return asyncio.run_coroutine_threadsafe(status(), loop).result(timeout=10)

        def expiry() -> float:
            return self._agent.identity.credentials.not_after.timestamp()

        registry = CollectorRegistry()
        registry.register(StatusCollector(ask, expiry))
        return registry

    async def _note_states(self) -> None:
        told: datetime | None = None  # the end of the certificate that was reported as expired
        while True:
            self._reporter.tick()
            not_after = self._agent.identity.credentials.not_after
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

    async def _reload(self) -> None:
        loaded = await asyncio.to_thread(load.read, self._agent.loaded.path)
        await self._agent.reload(loaded)

    async def _follow_file(self) -> None:
        path = self._agent.loaded.path.absolute()
        async for changes in watchfiles.awatch(path.parent, watch_filter=None, recursive=False):
            if any(Path(changed) == path for _, changed in changes):
                self._reload_asked.set()

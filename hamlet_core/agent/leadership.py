"""Whether this agent leads its mesh, as the coordinator says. It starts and stops nothing itself."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import structlog

from hamlet_core import backoff
from hamlet_core.agent.fixed import rotated_in
from hamlet_core.agent.supervise import Supervisor
from hamlet_core.api import Finding, HamletError, Severity
from hamlet_core.config.driven import Coordinator
from hamlet_core.config.load import Loaded
from hamlet_core.config.model import Config
from hamlet_core.plugins import loader
from hamlet_core.plugins.coordinator_port import CoordinatorPort
from hamlet_core.plugins.opening import open_coordinator

log = structlog.get_logger()

CAP = 10.0
"""Longest delay, in seconds, before a coordinator that failed is asked again: nobody may lead meanwhile."""
ANOTHER_LEADS = "standing by: another agent leads"


class Leadership:
    """Follows the coordinator; `leads` and `stands_by` are set as it says."""

    def __init__(self, port: CoordinatorPort, settings: Coordinator | None = None) -> None:
        self.port = port
        self._settings = settings
        self.leads = asyncio.Event()
        self.stands_by = asyncio.Event()
        self.stands_by.set()
        self.error = ""
        """Why it is not known who leads; then this agent does not."""
        self._heard = False
        self._supervisor = Supervisor()

    @property
    def why_not(self) -> str:
        """Why this agent does not lead, or an empty string."""
        if self.leads.is_set():
            return ""
        if self.error:
            return f"standing by: {self.error}"
        return ANOTHER_LEADS if self._heard else "standing by: waiting for the coordinator"

    def rotated(self, config: Config) -> list[str]:
        """The keys of the coordinator whose value is another in `config` than the one it was opened with."""
        return rotated_in(self._settings, config.coordinator, ("coordinator",))

    def start(self) -> None:
        """Begin to follow."""
        self._supervisor.start("leadership", self._follow)

    async def stop(self) -> None:
        """Give the lead up and release the coordinator."""
        await self._supervisor.stop_all()
        await self.port.close()

    async def check(self) -> list[Finding]:
        """What the coordinator finds, and what this agent is."""
        message = self.why_not or "this agent leads"
        severity = Severity.WARNING if self.error else Severity.OK
        return [
            Finding(subject=self.port.title, severity=severity, message=message),
            *await self.port.check(),
        ]

    async def _follow(self) -> None:
        attempt = 0
        try:
            while True:
                try:
                    async with aclosing(self.port.lead()) as words:
                        async for leads in words:
                            attempt, self.error, self._heard = 0, "", True
                            self._set(leads=leads)
                except HamletError as error:
                    self._set(leads=False)
                    self.error = str(error)
                    log.warning("the coordinator cannot say who leads", error=self.error, mend=error.mend)
                await asyncio.sleep(backoff.delay(attempt, CAP))
                attempt += 1
        finally:
            self._set(leads=False)

    def _set(self, *, leads: bool) -> None:
        if leads == self.leads.is_set():
            return
        log.info("this agent leads now" if leads else "this agent leads no more")
        for event, on in ((self.leads, leads), (self.stands_by, not leads)):
            event.set() if on else event.clear()


def leadership_of(loaded: Loaded) -> Leadership | None:
    """Open the coordinator of a configuration, where there is one; raises `HamletError` for one that is wrong."""
    settings = loaded.config.coordinator
    if settings is None:
        return None
    plugins = loader.load(plugins=loaded.config.plugins, coordinators=[settings.kind])
    return Leadership(open_coordinator(settings, plugins, loaded.context("coordinator")), settings)

"""The publishing half of the agent: what each registry reports goes into the publication, as long as it lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime

import structlog

from hamlet_core import backoff
from hamlet_core.api import AdapterError, Batch, HamletError, RegistryUnavailable, Snapshot
from hamlet_core.plugins.registry_port import RegistryPort
from hamlet_core.publish.publication import Publication

log = structlog.get_logger()

RETRY_CAP = 30.0
"""Longest delay, in seconds, before a registry that was down is asked again."""


class Publisher:
    """Watches one registry; what was last reported stays published while the registry is down.

    `on_change` gets each batch, and whether the names of local services changed with it.
    """

    def __init__(
        self, port: RegistryPort, publication: Publication, on_change: Callable[[Batch, bool], None]
    ) -> None:
        self.port = port
        self._publication = publication
        self._on_change = on_change
        self.since = datetime.now(UTC)
        self.error = ""
        """Why nothing is heard from the registry now, or an empty string."""
        self.mend = ""
        """What to do about it, where the error says so."""
        self.reported = False
        """Whether it has given a snapshot since the agent started."""

    async def run(self) -> None:
        """Watch for ever; a registry that is gone is asked again with backoff."""
        attempt = 0
        while True:
            try:
                async with aclosing(self.port.watch()) as batches:
                    async for batch in batches:
                        attempt = 0
                        self._heard()
                        names_changed = self._publication.observe(self.port.name, batch, datetime.now(UTC))
                        if isinstance(batch, Snapshot):
                            log.info("registry reported", registry=self.port.name, services=len(batch.services))
                        self._on_change(batch, names_changed)
            except (RegistryUnavailable, AdapterError) as error:
                seconds = backoff.delay(attempt, RETRY_CAP)
                attempt += 1
                self._silent(error, seconds)
                await asyncio.sleep(seconds)
            else:
                return

    def _heard(self) -> None:
        if self.error or not self.reported:
            self.error, self.mend, self.reported, self.since = "", "", True, datetime.now(UTC)

    def _silent(self, error: HamletError, retry_in: float) -> None:
        reason, self.mend = str(error), error.mend
        if reason != self.error:
            log.warning("registry is silent; what it last said stays", registry=self.port.name, error=reason,
                        retry_in=round(retry_in, 1))  # fmt: skip
            self.since = self.since if self.error else datetime.now(UTC)
            self.error = reason

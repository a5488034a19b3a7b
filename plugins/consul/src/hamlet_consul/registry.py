"""The adapter: the hooks of `RegistrySpec` on one Consul datacenter. It only puts the parts together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from hamlet_consul.apply import Writer
from hamlet_consul.check import findings
from hamlet_consul.client import Client
from hamlet_consul.follow import Alarm
from hamlet_consul.local import Rules
from hamlet_consul.options import ConsulOptions
from hamlet_consul.table import ImportTable
from hamlet_consul.transport import Requests, Transport
from hamlet_consul.watch import Memory, Pace, Watch
from hamlet_core.api import (
    AdapterContext,
    Batch,
    Finding,
    ImportChange,
    Outcome,
    StandingImport,
    Stop,
    hookimpl,
)

FOLLOWED = 3
"""Blocking queries that stay open while a watch runs."""


class ConsulRegistry:
    """A Consul datacenter as a registry. `requests` counts the calls that it makes."""

    def __init__(self, options: ConsulOptions, context: AdapterContext) -> None:
        self._options = options
        self._context = context
        self.requests = Requests()
        self._alarm = Alarm()
        # What was read stale could be older than the change that is being looked at, or than our own writing.
        self._fresh = "default" if options.consistency == "stale" else options.consistency
        self._client = self._connect(self._fresh)
        self._table = ImportTable(self._client, context)
        self._memory = Memory()
        self._writer = Writer(self._client, context, self._table, self._memory.known.keys)

    def _connect(self, consistency: str, connections: int = 4) -> Client:
        settings = self._options.settings(self._context, consistency=consistency)
        transport = Transport(settings, requests=self.requests, connections=connections, revoked=self._alarm.ring)
        return Client(transport)

    @hookimpl
    def registry_watch(self, stop: Stop) -> Iterator[Batch]:
        """Yield the local services."""
        options = self._options
        return Watch(
            self._connect(options.consistency, FOLLOWED),
            self._connect(self._fresh),
            self._table,
            self._memory,
            Rules(
                publish_key=options.publish_key,
                protocol_key=options.protocol_key,
                passing_only=options.health == "passing",
                gateway_kind=(options.outside.kind if options.outside else None) or "",
                gateway_service=(options.outside.service if options.outside else None) or "",
                namespace=options.namespace or "default",
            ),
            Pace(wait=options.wait, sweep=options.sweep, settle=options.settle),
            self._alarm,
        ).run(stop)

    @hookimpl
    def registry_imports(self) -> Sequence[StandingImport]:
        """List what carries our mark."""
        self._table.load()
        return self._table.standing()

    @hookimpl
    def registry_apply(self, changes: Sequence[ImportChange]) -> Sequence[Outcome]:
        """Write imports, and take them out."""
        return self._writer.apply(changes)

    @hookimpl
    def registry_mark_peer(self, peer: str, lost_since: datetime | None) -> bool:
        """Record since when a peer is lost."""
        self._writer.mark_peer(peer, lost_since)
        return True

    @hookimpl
    def registry_check(self) -> Sequence[Finding]:
        """Say how Consul is and which rights the token lacks."""
        client = self._connect(self._fresh)
        try:
            return list(findings(client, self._options, self._context))
        finally:
            client.close()

    @hookimpl
    def registry_close(self) -> None:
        """Close the connections."""
        self._client.close()

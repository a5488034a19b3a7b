"""The adapter: the hooks of `RegistrySpec` on one cluster. It only puts the parts together."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from hamlet_core.api import (
    AdapterContext,
    Batch,
    Finding,
    ImportChange,
    Outcome,
    RegistryUnavailable,
    RemoveImport,
    StandingImport,
    Stop,
    hookimpl,
)
from hamlet_istio.apply import Writer
from hamlet_istio.check import findings
from hamlet_istio.connection import Connect, Connection, Refusal
from hamlet_istio.consumers import Consumers
from hamlet_istio.events import Events
from hamlet_istio.local import Rules
from hamlet_istio.marks import Marker
from hamlet_istio.options import IstioOptions
from hamlet_istio.peers import Peers
from hamlet_istio.resources import Discovery
from hamlet_istio.sight import Sight, taken_by
from hamlet_istio.standing import Standing, imports_in
from hamlet_istio.watch import Watch

_SHAPING = ("mode", "export_to", "tls", "plaintext", "virtual_addresses", "endpoints_api")
"""Options that change what an import is written as: those written under others are written again."""


class IstioRegistry:
    """A Kubernetes cluster as a registry. `connection.requests` counts its calls by method."""

    def __init__(self, options: IstioOptions, context: AdapterContext, connect: Connect = Connection) -> None:
        self._options, self._connect = options, connect
        self.connection = connect(options, context.directory)
        self._discovery = Discovery(self.connection, options)
        marker = Marker(context, _form(options))
        self._marker, self._rules, self._sight = marker, Rules.of(options, context.trust_domain), Sight()
        namespace, manager = options.import_namespace, options.field_manager
        self._consumers = Consumers(self.connection, options, marker)
        self._standing = Standing(self.connection, namespace, marker, self._consumers)
        self._events = Events(self.connection, namespace, enabled=options.events)
        self._peers = Peers(self.connection, namespace, manager, marker, self._standing, self._events)
        self._writer = Writer(
            self.connection,
            self._discovery,
            options,
            marker,
            self._standing,
            self._consumers,
            self._sight,
            self._events,
        )

    @hookimpl
    def registry_watch(self, stop: Stop) -> Iterator[Batch]:
        """Yield the local services."""
        return Watch(self.connection, self._discovery, self._options, self._rules, self._sight).run(stop)

    @hookimpl
    def registry_imports(self) -> Sequence[StandingImport]:
        """List what carries our mark."""
        apis = self._discovery.apis(anew=True)
        self._learn_consumers()
        objects = self._standing.everything(apis, ours=True)
        self._writer.learn(objects)
        taken = taken_by(each for at, each in objects.items() if at.kind == "ServiceEntry")

        def clashing(thing: dict[str, Any]) -> bool:
            """Another import has its virtual address, and comes first by its name."""
            name = thing["metadata"]["name"]
            addresses = (
                (thing.get("spec") or {}).get("addresses") or () if thing.get("kind") == "ServiceEntry" else ()
            )
            return any(min(holder for _, holder in taken.addresses[address]) < name for address in addresses)

        return imports_in(list(objects.values()), self._marker, self._standing.lost(), clashing)

    @hookimpl
    def registry_apply(self, changes: Sequence[ImportChange]) -> Sequence[Outcome]:
        """Write imports, and take them out."""
        try:
            outcomes = self._writer.apply(changes)
        except Refusal as refusal:
            message = f"nothing could be tried: {refusal}"
            raise RegistryUnavailable(message, mend="`hamlet check` names missing rights") from refusal
        for peer in sorted({change.key.peer for change in changes if isinstance(change, RemoveImport)}):
            self._tidy(peer)
        return outcomes

    @hookimpl
    def registry_mark_peer(self, peer: str, lost_since: datetime | None) -> bool:
        """Record since when a peer is lost."""
        self._peers.mark(self._discovery.apis(), peer, lost_since)
        return True

    @hookimpl
    def registry_check(self) -> Sequence[Finding]:
        """Say how the cluster is and which rights are missing."""
        connection = self._connect(self._options, self._marker.context.directory)
        try:
            discovery = Discovery(connection, self._options)
            pods = "{service_account}" in self._rules.san
            consumers = Consumers(connection, self._options, self._marker)
            return list(findings(connection, discovery, self._options, consumers, pods=pods))
        finally:
            connection.close()

    @hookimpl
    def registry_close(self) -> None:
        """Close the connections."""
        self._writer.close()
        self._events.close()
        self.connection.close()

    def _learn_consumers(self) -> None:
        try:
            self._consumers.learn()
        except Refusal as refusal:
            mend = f"allow get of configmaps in namespace {self._options.import_namespace!r}"
            raise RegistryUnavailable(f"imports cannot be listed: {refusal}", mend=mend) from refusal

    def _tidy(self, peer: str) -> None:
        # A mark that stays says nothing wrong of a peer without imports; the next removal tries again.
        with contextlib.suppress(Refusal, RegistryUnavailable):
            self._peers.tidy(self._discovery.apis(), peer)


def _form(options: IstioOptions) -> str:
    text = options.model_dump_json(include=set(_SHAPING))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

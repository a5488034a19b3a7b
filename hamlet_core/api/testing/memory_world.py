"""Meshes in memory around a `MemoryGateway`: authorities are words, and a connection is a look at the gateway."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from hamlet_core.api import AdapterContext, Endpoint, ImportRoute, Ingress, PeerTrust, PublishRoute, Route, Trust
from hamlet_core.api.testing.gateway_backend import Connection, GatewayBackend
from hamlet_core.api.testing.memory_gateway import MemoryGateway, Standing


class MemoryConnection(Connection):
    """A connection that lasts until the gateway cuts it."""

    def __init__(self, word: str, standing: Standing, gateway: MemoryGateway) -> None:
        self._word = word
        self._standing = standing
        self._gateway = gateway
        gateway.standing.append(standing)

    def ask(self) -> str | None:
        """See `Connection`."""
        return None if self._standing.cut else self._word

    def close(self) -> None:
        """See `Connection`."""
        self._standing.cut = True
        if self._standing in self._gateway.standing:
            self._gateway.standing.remove(self._standing)


class MemoryGatewayBackend(GatewayBackend):
    """The world around `gateway`, in which every word has an address."""

    def __init__(self, gateway: MemoryGateway | None = None) -> None:
        self.gateway = gateway or MemoryGateway()
        self._authorities: Counter[str] = Counter()
        self._words: dict[Endpoint, str] = {}
        self._owners: dict[Endpoint, tuple[str, str, Collection[str]]] = {}

    def open(self, context: AdapterContext) -> object:
        """See `GatewayBackend`."""
        adapter_type = self.gateway.adapter_type()
        return adapter_type.open(adapter_type.options(), context)

    def trust(self, *peers: str) -> Trust:
        """See `GatewayBackend`."""
        believed = (
            PeerTrust(peer=peer, trust_domain=f"{peer}.example", bundle=self._authority(peer)) for peer in peers
        )
        return Trust(certificate="ours", key="key", peers=tuple(believed))

    def rotate(self, peer: str) -> None:
        """See `GatewayBackend`."""
        self._authorities[peer] += 1

    def serve(self, word: str) -> Endpoint:
        """See `GatewayBackend`."""
        endpoint = Endpoint(address="10.0.0.1", port=1 + len(self._words))
        self._words[endpoint] = word
        return endpoint

    def enter(self, ingress: Ingress, sni: str, peer: str | None, *, signed_by: str = "") -> Connection | None:
        """See `GatewayBackend`."""
        del ingress
        bundle = self._authority(signed_by or peer) if peer is not None else None
        endpoint = self.gateway.admits(sni, bundle, f"{peer}.example" if peer is not None else None)
        if endpoint is None:
            return None
        return self._connect(self._words[endpoint], bundle or "")

    def presented(self, ingress: Ingress, sni: str) -> Collection[str]:
        """See `GatewayBackend`."""
        del ingress, sni
        return self.gateway.presents

    def owner(self, peer: str, word: str, sans: Collection[str], *, signed_by: str = "") -> Endpoint:
        """See `GatewayBackend`."""
        endpoint = Endpoint(address="198.51.100.1", port=1 + len(self._owners))
        self._owners[endpoint] = (word, self._authority(signed_by or peer), sans)
        return endpoint

    def leave(self, imported: ImportRoute, route: Route) -> Connection | None:
        """See `GatewayBackend`."""
        gateway = self.gateway
        (place, *_) = route.endpoints[imported.service.instances[0].id]
        key = next((key for (key, _), port in gateway.ports.items() if port == place.port), None)
        led = gateway.imported.get(key) if key is not None else None
        if led is None:
            return None
        word, bundle, sans = self._owners[led.service.endpoints[0]]
        return self._connect(word, bundle) if gateway.believes(led, bundle, sans) else None

    def outage(self) -> AbstractContextManager[None]:
        """See `GatewayBackend`."""
        return self.gateway.outage()

    def hide(self) -> AbstractContextManager[None]:
        """See `GatewayBackend`."""
        return self._hidden()

    @contextmanager
    def _hidden(self) -> Iterator[None]:
        ingress = self.gateway.ingress
        self.gateway.move(None)
        try:
            yield
        finally:
            self.gateway.move(ingress)

    def spoil(self, route: PublishRoute) -> PublishRoute:
        """See `GatewayBackend`."""
        spoiled = replace(route, sni=f"spoiled.{route.sni}")
        self.gateway.refuse[spoiled.sni] = "it is spoiled"
        return spoiled

    def _authority(self, peer: str) -> str:
        return f"authority {self._authorities[peer]} of {peer}"

    def _connect(self, word: str, bundle: str) -> Connection:
        return MemoryConnection(word, Standing(bundle=bundle), self.gateway)

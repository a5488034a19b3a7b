"""The world of the gateway contract around a terminating gateway of a real Consul, whose proxy is a real Envoy.

A workload that calls out has a sidecar of Consul. Its part is played by a TLS client with the certificate that
Consul's authority gives that workload and with the SNI by which sidecars ask a terminating gateway.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from hamlet_consul.gateway import ConsulGateway
from hamlet_consul.gateway_options import ConsulGatewayOptions
from hamlet_consul.naming import service_name
from hamlet_consul.options import ConsulOptions
from hamlet_consul.registry import ConsulRegistry

from hamlet_core.api import AdapterContext, ImportedService, ImportRoute, Route, Status, WriteImport
from hamlet_core.api.testing.gateway_backend import Connection
from hamlet_core.api.testing.gateway_world import PATIENCE, GatewayWorld, SocketConnection
from tests.backends.consul import Consul
from tests.backends.consul_xds import TerminatingEnvoy
from tests.backends.file_envoy import Said
from tests.support.ports import free_port

GATEWAY = "terminating-gateway"
WORKLOAD = "web"
"""The service whose workload calls out."""
SETTLED = 40.0
"""Seconds within which Consul and Envoy have followed a change."""


class TerminatingGateway:
    """A Consul that keeps its data, with a terminating gateway on it: registered anew for each test."""

    def __init__(self, consul: Consul, folder: Path) -> None:
        self.consul = consul
        self.port = free_port()
        self.envoy = TerminatingEnvoy(consul.grpc_address, GATEWAY, folder)

    def start(self) -> None:
        """Start the proxy; Consul runs."""
        self.register()
        self.envoy.start()

    def register(self) -> None:
        """Tell Consul of the proxy, as `consul connect envoy -register` does."""
        place = {"Address": "127.0.0.1", "Port": self.port}
        said = {"Kind": "terminating-gateway", "Name": GATEWAY, "ID": GATEWAY, **place}
        self.consul.do("PUT", "/v1/agent/service/register", said)

    def close(self) -> None:
        """End the proxy."""
        self.envoy.close()

    def links(self) -> dict[str, dict[str, str]]:
        """What the config entry says, by the name of the service."""
        reply = self.consul.call("GET", f"/v1/config/terminating-gateway/{GATEWAY}")
        return {link["Name"]: link for link in reply.body["Services"] or ()} if reply.status == 200 else {}

    def server_name(self, name: str) -> str:
        """The SNI by which a sidecar asks for a service."""
        domain = self.consul.do("GET", "/v1/connect/ca/roots")["TrustDomain"]
        return f"{name}.default.{self.consul.datacenter}.internal.{domain}"

    def settle(self) -> None:
        """Wait until Consul tells the proxy what config entry and catalog say, and Envoy has it."""
        end = time.monotonic() + SETTLED
        while True:
            wanted, said = self._wanted(), self.envoy.bridge.said
            lacks = f"Consul says {told(said)}" if told(said) != wanted else self.envoy.lacks(said)
            if not lacks:
                return
            assert time.monotonic() < end, f"not within {SETTLED:g} s: {wanted}; {lacks}"
            time.sleep(0.05)

    def _wanted(self) -> dict[str, Any]:
        found = {}
        for name, link in self.links().items():
            instances = self.consul.do("GET", f"/v1/health/service/{name}?passing=1")
            if not instances:
                continue
            places = sorted((each["Service"]["Address"], each["Service"]["Port"]) for each in instances)
            files = tuple(link[key] for key in ("CAFile", "CertFile", "KeyFile"))
            found[self.server_name(name)] = (link["SNI"], *files, places)
        return found

    def call(self, name: str) -> ssl.SSLSocket | None:
        """Connect as a workload's sidecar does; None when the handshake is refused."""
        leaf = self.consul.do("GET", f"/v1/agent/connect/ca/leaf/{WORKLOAD}")
        roots = self.consul.do("GET", "/v1/connect/ca/roots")["Roots"]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # a service of Consul's has a SPIFFE ID
        context.load_verify_locations(cadata="".join(each["RootCert"] for each in roots))
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(leaf["CertPEM"] + leaf["PrivateKeyPEM"])
            file.flush()
            context.load_cert_chain(file.name)
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        try:
            return context.wrap_socket(plain, server_hostname=self.server_name(name))
        except TimeoutError:
            plain.close()
            raise
        except OSError:
            plain.close()
            return None


def told(said: Said) -> dict[str, Any]:
    """What Consul told the proxy of each service, by its server name: SNI, files and places of the owner."""
    asked = {
        name
        for listener in said.listeners
        for chain in listener["filter_chains"]
        for name in chain.get("filter_chain_match", {}).get("server_names", ())
    }
    found: dict[str, Any] = {}
    for cluster in said.clusters:
        context = cluster["transport_socket"]["typed_config"]
        common = context["common_tls_context"]
        (own,) = common["tls_certificates"]
        sources = (common["validation_context"]["trusted_ca"], own["certificate_chain"], own["private_key"])
        places = [
            each["endpoint"]["address"]["socket_address"]
            for locality in cluster["load_assignment"]["endpoints"]
            for each in locality.get("lb_endpoints", ())
        ]
        found[cluster["name"]] = (
            context["sni"],
            *(source["filename"] for source in sources),
            sorted((place["address"], place["port_value"]) for place in places),
        )
    return found if asked == found.keys() else {"listeners": asked, "clusters": found}


class ConsulWorld(GatewayWorld):
    """A terminating gateway between workloads with sidecars and the owners of the other meshes.

    What is imported stands in the catalog too, written by the registry of the same mesh.
    """

    def __init__(self, gateway: TerminatingGateway, folder: Path, **options: Any) -> None:
        super().__init__(folder)
        self._gateway, self._given = gateway, options
        self._registry: ConsulRegistry | None = None
        gateway.register()

    def open(self, context: AdapterContext) -> object:
        """See `GatewayBackend`."""
        address = self._gateway.consul.address
        if self._registry is None:
            self._registry = ConsulRegistry(ConsulOptions(address=address), context)
        return ConsulGateway(ConsulGatewayOptions(address=address, gateway=GATEWAY, **self._given), context)

    def leave(self, imported: ImportRoute, route: Route) -> Connection | None:
        """See `GatewayBackend`: by way of the workload's sidecar, which leaves TLS to the gateway."""
        assert self._registry is not None
        fqdn = imported.service.fqdn
        entry = ImportedService(peer=imported.peer, local_name=fqdn, service=imported.service, route=route)
        (outcome,) = self._registry.registry_apply([WriteImport(entry)])
        assert outcome.status is Status.APPLIED, outcome
        self._gateway.settle()
        channel = self._gateway.call(service_name(fqdn))
        return None if channel is None else SocketConnection(channel)

    def outage(self) -> AbstractContextManager[None]:
        """See `GatewayBackend`: Consul is killed, and started again with the data it had."""
        return self._killed()

    @contextmanager
    def _killed(self) -> Iterator[None]:
        self._gateway.consul.kill()
        try:
            yield
        finally:
            self._gateway.consul.start()

    def close(self) -> None:
        """End the workloads, and take out what was written."""
        super().close()
        if self._registry is not None:
            self._registry.registry_close()
        self._gateway.consul.wipe()

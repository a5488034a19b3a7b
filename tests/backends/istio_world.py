"""The world of the gateway contract with a mesh of Istio in its middle: a real Kubernetes API and a real Envoy.

Between them stands `IstioControl` in istiod's place. Where there is a control plane, what an adapter wrote is in
force once that has read it and the proxies have taken it. Whoever connects here waits for just that, and so for
nothing that the adapter should have done before its call returned.
"""

from __future__ import annotations

import secrets
import socket
import ssl
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hamlet_istio.gateway import IstioGateway
from hamlet_istio.gateway_options import IstioGatewayOptions
from hamlet_istio.options import IstioOptions
from hamlet_istio.registry import IstioRegistry

from hamlet_core.api import (
    AdapterContext,
    Endpoint,
    ImportedService,
    ImportRoute,
    Ingress,
    PublishRoute,
    Route,
    Status,
    WriteImport,
)
from hamlet_core.api.testing import Connection, GatewayWorld
from hamlet_core.api.testing.gateway_world import PATIENCE, SocketConnection
from hamlet_core.api.testing.minting import usage
from tests.backends.istio_control import COLLECTIONS, IstioControl
from tests.backends.istio_gateway import load_balanced
from tests.backends.istio_translation import Proxy
from tests.backends.kubernetes import ADMIN, OwnKubernetes
from tests.backends.proxy import HANG_UP, FaultProxy

SERVICE = "ingress"
PORT = {"name": "tcp", "protocol": "TCP"}
"""Of every published service."""
_KINDS = {"services": "Service", "serviceentries": "ServiceEntry", "workloadentries": "WorkloadEntry"}


@dataclass(frozen=True, slots=True, kw_only=True)
class IstioMesh:
    """A cluster with namespaces of its own for a mesh, its control plane, and its API as an agent reaches it."""

    kubernetes: OwnKubernetes
    namespaces: Mapping[str, str]
    """By their use: `ingress`, `shop`, `callers` and `imports`."""
    selector: Mapping[str, str]
    labels: Mapping[str, str]
    control: IstioControl
    proxy: FaultProxy = field(repr=False)

    @classmethod
    def make(cls, kubernetes: OwnKubernetes, folder: Path) -> IstioMesh:
        """Set one up; `folder` is for Envoy."""
        own = secrets.token_hex(4)
        uses = ("ingress", "shop", "callers", "imports")
        namespaces = {use: kubernetes.make_namespace(f"{use}-{own}") for use in uses}
        selector, labels = {"istio": f"ingress-{own}"}, {"app": "till", "mesh": "out"}
        gateway = Proxy(namespace=namespaces["ingress"], labels=selector | {"app": "ingress"})
        workload = Proxy(namespace=namespaces["callers"], labels=labels)
        control = IstioControl(kubernetes.kubeconfig, folder, namespaces.values(), gateway, workload)
        proxy = FaultProxy(kubernetes.server, str(kubernetes.ca))
        return cls(
            kubernetes=kubernetes,
            namespaces=namespaces,
            selector=selector,
            labels=labels,
            control=control,
            proxy=proxy,
        )

    def put(self, kind: str, use: str, name: str, spec: Mapping[str, Any]) -> None:
        """Have an object stand, as its owner would write it."""
        version = COLLECTIONS[kind].rpartition("/")[0].removeprefix("/apis/").removeprefix("/api/")
        body = {"apiVersion": version, "kind": _KINDS[kind], "metadata": {"name": name}, "spec": dict(spec)}
        path = f"{self._path(kind, use)}/{name}?fieldManager=owner"
        self.control.do("PATCH", path, body, kind="application/apply-patch+yaml")

    def tell_address(self, *addresses: str) -> None:
        """Say where the ingress gateway's Service is reached, as a load balancer's controller does."""
        path = f"{self._path('services', 'ingress')}/{SERVICE}/status"
        told = load_balanced(*({"ip": each} for each in addresses))
        self.control.do("PATCH", path, told, kind="application/merge-patch+json")

    def wipe(self) -> None:
        """Leave the namespaces empty."""
        seen = self.control.read()
        for kind, path in COLLECTIONS.items():
            group, _, plural = path.rpartition("/")
            for each in getattr(seen, kind):
                place = each["metadata"]
                path = f"{group}/namespaces/{place['namespace']}/{plural}/{place['name']}"
                self.control.do("DELETE", path)

    def close(self) -> None:
        """End what was started."""
        self.proxy.close()
        self.control.close()

    def _path(self, kind: str, use: str) -> str:
        group, _, plural = COLLECTIONS[kind].rpartition("/")
        return f"{group}/namespaces/{self.namespaces[use]}/{plural}"


class _Settled(Connection):
    """A connection that is asked once Envoy has what the API holds at that moment."""

    def __init__(self, connection: Connection, control: IstioControl) -> None:
        self._connection, self._control = connection, control

    def ask(self) -> str | None:
        self._control.settle()
        return self._connection.ask()

    def close(self) -> None:
        self._connection.close()


class IstioWorld(GatewayWorld):
    """A mesh of Istio, of whose gateway `without` its `ingress` or `egress` is under test.

    `ingress` are further options of the ingress.
    """

    def __init__(self, mesh: IstioMesh, folder: Path, without: str = "", **ingress: Any) -> None:
        super().__init__(folder)
        self._mesh, self._without, self._ingress = mesh, without, ingress
        self._registered: dict[str, int] = {}
        self._written: IstioRegistry | None = None
        self._agent: AdapterContext | None = None
        spec = {
            "type": "LoadBalancer",
            "selector": dict(mesh.selector),
            "ports": [PORT | {"port": mesh.control.port}],
        }
        mesh.put("services", "ingress", SERVICE, spec)
        mesh.tell_address("127.0.0.1")

    def open(self, context: AdapterContext) -> object:
        """See `GatewayBackend`."""
        self._agent = context
        mesh = self._mesh
        halves: dict[str, Any] = {
            "ingress": {
                "namespace": mesh.namespaces["ingress"],
                "service": SERVICE,
                "selector": dict(mesh.selector),
                "port": mesh.control.port,
                **self._ingress,
            },
            "egress": {"consumers": {mesh.namespaces["callers"]: {"mesh": "out"}}},
        }
        halves.pop(self._without, None)
        options = IstioGatewayOptions(server=mesh.proxy.address, token=ADMIN, retry="1s", timeout="10s", **halves)
        return IstioGateway(options, context)

    def register(self, name: str, endpoints: Sequence[Endpoint]) -> str:
        """See `GatewayBackend`: by turns a Service, which selects machines, and a ServiceEntry."""
        mesh, number = self._mesh, self._registered.setdefault(name, len(self._registered))
        if number % 2:
            places = [{"address": each.address, "ports": {"tcp": each.port}} for each in endpoints]
            entry = {"hosts": [f"{name}.internal"], "location": "MESH_INTERNAL", "resolution": "STATIC"}
            mesh.put("serviceentries", "shop", name, entry | {"ports": [PORT | {"number": 80}], "endpoints": places})
        else:
            labels = {"app": name}
            mesh.put("services", "shop", name, {"ports": [PORT | {"port": 80, "targetPort": 80}], "selector": labels})
            for index, each in enumerate(endpoints):
                machine = {"address": each.address, "labels": labels, "ports": {"tcp": each.port}}
                mesh.put("workloadentries", "shop", f"{name}-{index}", machine)
        return f"{name}.{mesh.namespaces['shop']}"

    def enter(self, ingress: Ingress, sni: str, peer: str | None, *, signed_by: str = "") -> Connection | None:
        """See `GatewayBackend`."""
        self._mesh.control.settle()
        found = super().enter(ingress, sni, peer, signed_by=signed_by)
        return _Settled(found, self._mesh.control) if found is not None else None

    def call_as(self, ingress: Ingress, sni: str, uri: str, *, signed_by: str) -> ssl.SSLSocket:
        """Connect with a certificate for `uri` by the authority of a mesh; `OSError` when the handshake fails."""
        self._mesh.control.settle()
        leaf = self.authority(signed_by).leaf(uri, extensions=[(usage("digital_signature"), True)])
        return self._handshake(ingress, sni, leaf)

    def presented(self, ingress: Ingress, sni: str) -> Collection[str]:
        """See `GatewayBackend`."""
        self._mesh.control.settle()
        return super().presented(ingress, sni)

    def leave(self, imported: ImportRoute, route: Route) -> Connection | None:
        """See `GatewayBackend`: by its sidecar, once the registry of this mesh has the import with this route."""
        assert not route.originates_tls, "sidecars originate TLS"
        service = imported.service
        change = WriteImport(
            service=ImportedService(peer=imported.peer, local_name=service.fqdn, service=service, route=route)
        )
        (outcome,) = self._registry().registry_apply([change])
        assert outcome.status is Status.APPLIED, outcome
        self._mesh.control.settle()
        place = self._mesh.control.outbound(service.fqdn)
        assert place is not None, f"no sidecar catches calls of {service.fqdn}"
        try:
            channel = socket.create_connection((place.address, place.port), timeout=PATIENCE)
        except ConnectionError:
            return None
        return _Settled(SocketConnection(channel), self._mesh.control)

    def outage(self) -> AbstractContextManager[None]:
        """See `GatewayBackend`: the adapter does not reach the API server; everybody else does."""
        return self._out_of_reach()

    @contextmanager
    def _out_of_reach(self) -> Iterator[None]:
        proxy = self._mesh.proxy
        proxy.fail(lambda _method, _path: True, HANG_UP)
        proxy.cut()
        try:
            yield
        finally:
            proxy.heal()

    def hide(self) -> AbstractContextManager[None]:
        """See `GatewayBackend`: the Service of the ingress gateway has no address."""
        return self._hidden()

    @contextmanager
    def _hidden(self) -> Iterator[None]:
        self._mesh.tell_address()
        try:
            yield
        finally:
            self._mesh.tell_address("127.0.0.1")

    def spoil(self, route: PublishRoute) -> PublishRoute:
        """See `GatewayBackend`: the gateway leads to no service that the cluster does not know."""
        return replace(route, service=f"no-{route.service}")

    def close(self) -> None:
        """End the workloads, and leave the mesh as it was."""
        if self._written is not None:
            self._written.registry_close()
        super().close()
        self._mesh.wipe()

    def _registry(self) -> IstioRegistry:
        if self._written is None:
            assert self._agent is not None, "a gateway is opened first"
            options = IstioOptions(
                kubeconfig=self._mesh.kubernetes.kubeconfig,
                namespaces=(self._mesh.namespaces["shop"],),
                import_namespace=self._mesh.namespaces["imports"],
                events=False,
            )
            self._written = IstioRegistry(options, replace(self._agent, name="registry"))
        return self._written

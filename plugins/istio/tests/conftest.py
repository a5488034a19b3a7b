"""The cluster as the adapter's tests need it: the hands of everybody but the adapter. Nothing of it is faked."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pluggy
import pytest
from hamlet_istio.gateway import IstioGateway
from hamlet_istio.gateway_options import IstioGatewayOptions
from hamlet_istio.options import IstioOptions
from hamlet_istio.registry import IstioRegistry

from hamlet_core.api import PROJECT, AdapterContext, GatewaySpec, RegistrySpec
from hamlet_core.api.testing import Watching
from hamlet_core.api.testing.minting import Mint
from tests.backends.istio_gateway import IngressNamespace
from tests.backends.kubernetes import Kubernetes

JSON_PATCH = "application/json-patch+json"
NETWORKING = "/apis/networking.istio.io/v1/namespaces/{namespace}/"
DISCOVERY = "/apis/discovery.k8s.io/v1beta1/namespaces/{namespace}/"
CORE = "/api/v1/namespaces/{namespace}/"
ENTRIES, RULES, WORKLOADS = (
    f"{NETWORKING}{each}" for each in ("serviceentries", "destinationrules", "workloadentries")
)
SERVICES, ENDPOINTS, MAPS, PODS = (f"{CORE}{each}" for each in ("services", "endpoints", "configmaps", "pods"))
ACCOUNTS = f"{CORE}serviceaccounts"
SLICES = f"{DISCOVERY}endpointslices"
ALL = (ENTRIES, RULES, WORKLOADS, SERVICES, ENDPOINTS, SLICES, MAPS, PODS)


class Cluster:
    """One namespace of a cluster, and the hands of everybody but the adapter on it."""

    def __init__(self, kubernetes: Kubernetes, namespace: str, **options: Any) -> None:
        self.kubernetes, self.namespace = kubernetes, namespace
        given: dict[str, Any] = {"kubeconfig": kubernetes.kubeconfig, "context": None, "events": False}
        given |= {"namespaces": (namespace,), "import_namespace": namespace}
        given |= {"retry": "60s", "timeout": "30s", "connect_timeout": "30s"}  # a busy machine is no outage
        self.options = given | options

    def path(self, collection: str, name: str = "") -> str:
        return collection.format(namespace=self.namespace) + (f"/{name}" if name else "")

    def get(self, collection: str, name: str) -> Any:
        return self.kubernetes.do("GET", self.path(collection, name))

    def all(self, collection: str) -> dict[str, Any]:
        found = self.kubernetes.do("GET", self.path(collection))["items"]
        return {each["metadata"]["name"]: each for each in found}

    def put(self, collection: str, name: str, body: dict[str, Any]) -> Any:
        return self.kubernetes.put(self.path(collection), name, body)

    def patch(self, collection: str, name: str, operations: list[dict[str, Any]], manager: str = "somebody") -> Any:
        path = f"{self.path(collection, name)}?fieldManager={manager}"
        while (reply := self.kubernetes.call("PATCH", path, operations, kind=JSON_PATCH)).status == 409:
            pass  # somebody wrote it between the server's look and its write
        assert reply.status < 300, reply
        return reply.body

    def remove(self, collection: str, name: str) -> None:
        self.kubernetes.do("DELETE", self.path(collection, name))

    def add_service(
        self,
        name: str,
        ports: list[dict[str, Any]] | None = None,
        addresses: tuple[str, ...] = ("10.0.0.5",),
        *,
        unready: tuple[str, ...] = (),
        pods: dict[str, str] | None = None,
        metadata: dict[str, Any] | None = None,
        **spec: Any,
    ) -> str:
        """A Service and its slice, as its controller would make it; `pods`: address to name."""
        ports = ports or [{"name": "http", "port": 8080}]
        for port in ports:
            port.setdefault("protocol", "TCP")
        metadata = metadata or {}
        self.put(SERVICES, name, {"metadata": dict(metadata), "spec": {"ports": ports, **spec}})
        self.put(
            SLICES,
            name,
            {
                "metadata": {"labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "endpoints": [
                    {
                        "addresses": [address],
                        "conditions": {"ready": address not in unready},
                        **({"targetRef": self._pod(pods[address])} if pods else {}),
                    }
                    for address in (*addresses, *unready)
                ],
                "ports": [
                    {"name": port.get("name", ""), "port": port.get("targetPort", port["port"]), "protocol": "TCP"}
                    for port in ports
                    if port["protocol"] == "TCP"
                ],
            },
        )
        return f"{name}.{self.namespace}"

    def remove_service(self, name: str) -> None:
        """Take out what `add_service` made."""
        self.remove(SERVICES, name)
        self.remove(SLICES, name)

    def _pod(self, name: str) -> dict[str, str]:
        reply = self.kubernetes.call("GET", self.path(PODS, name))
        uid = {"uid": reply.body["metadata"]["uid"]} if reply.status == 200 else {}
        return {"kind": "Pod", "name": name, **uid}

    def add_pod(self, name: str, account: str, labels: dict[str, str] | None = None) -> None:
        containers = [{"name": "c", "image": "none"}]
        spec = {"serviceAccountName": account, "containers": containers}
        self.put(PODS, name, {"metadata": {"labels": labels or {}}, "spec": spec})

    def run_pod(self, name: str, address: str, *, ready: bool = True, phase: str = "Running") -> None:
        """Say of a pod what its kubelet would."""
        conditions = [{"type": "Ready", "status": str(ready)}]
        status = {"status": {"podIP": address, "phase": phase, "conditions": conditions}}
        path = f"{self.path(PODS, name)}/status"
        self.kubernetes.do("PATCH", path, status, kind="application/merge-patch+json")

    def remove_pod(self, name: str) -> None:
        self.kubernetes.do("DELETE", f"{self.path(PODS, name)}?gracePeriodSeconds=0")

    def administrator(self, name: str) -> str:
        """A new token of a service account of this namespace that may do everything."""
        self.put(ACCOUNTS, name, {})
        self.kubernetes.let((self.namespace, name), may=True)
        return self.kubernetes.token_for(self.namespace, name)

    def revoke(self, name: str) -> None:
        """Have the tokens of a service account count no more."""
        self.remove(ACCOUNTS, name)

    @property
    def main(self) -> str:
        """The collection of the objects that stand for imports."""
        return ENTRIES if self.options.get("mode", "istio") == "istio" else SERVICES

    def everything(self) -> dict[str, object]:
        """Everything but Events, and but what the API server itself makes of them."""
        found: dict[str, object] = {}
        for collection in ALL:
            for name, each in self.all(collection).items():
                metadata = {key: value for key, value in each["metadata"].items() if key != "selfLink"}
                found[f"{collection} {name}"] = {**each, "metadata": metadata}
        return found

    def wipe(self) -> None:
        self.kubernetes.wipe(self.namespace, *ALL)


def hooks_of(registry: object) -> pluggy.HookRelay:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(RegistrySpec)
    manager.register(registry)
    return manager.hook


def context(directory: Path = Path("/"), name: str = "main") -> AdapterContext:
    return AdapterContext(
        name=name, mesh="west", domain="west.example", trust_domain="west.example", directory=directory
    )


class Opened:
    """A registry as an agent of mesh `west` opens it."""

    def __init__(self, cluster: Cluster, directory: Path, **options: Any) -> None:
        self.registry = IstioRegistry(IstioOptions(**(cluster.options | options)), context(directory))
        self.hooks = hooks_of(self.registry)
        self._watching: list[Watching] = []

    def watch(self, seconds: float = 60) -> Watching:
        """Begin a watch and wait for its first batch."""
        watching = Watching(self.hooks)
        self._watching.append(watching)
        watching.until(lambda _: True, seconds)
        return watching

    def close(self) -> None:
        for watching in self._watching:
            if watching.error is None:
                watching.end(30)
        self.registry.registry_close()


@pytest.fixture
def make_cluster(kubernetes: Kubernetes, namespace: str) -> Iterator[Callable[..., Cluster]]:
    """This module's namespace, with options of the registry; empty before and after."""
    made: list[Cluster] = []

    def make(**options: Any) -> Cluster:
        made.append(Cluster(kubernetes, namespace, **options))
        return made[-1]

    yield make
    for each in made[:1]:
        each.wipe()


@pytest.fixture
def cluster(make_cluster: Callable[..., Cluster]) -> Cluster:
    """An empty namespace."""
    return make_cluster()


@pytest.fixture
def open_registry(tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """Open registries; closed at the end."""
    opened: list[Opened] = []

    def open_one(cluster: Cluster, **options: Any) -> Opened:
        opened.append(Opened(cluster, tmp_path, **options))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture
def fresh_namespace(kubernetes: Kubernetes) -> Iterator[str]:
    """A namespace of this test alone, left empty."""
    name = kubernetes.make_namespace(f"only-{secrets.token_hex(4)}")
    yield name
    kubernetes.wipe(name, *ALL)


@pytest.fixture
def world(kubernetes: Kubernetes) -> Iterator[IngressNamespace]:
    """Namespaces of this test alone."""
    mint = functools.cache(lambda name: Mint(f"authority of {name}"))
    one = IngressNamespace(kubernetes, kubernetes.make_namespace(f"ingress-{secrets.token_hex(4)}"), mint)
    yield one
    one.close()


@pytest.fixture
def open_gateway(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Open gateways, as an agent of mesh `west` does, and return their hooks; closed at the end."""
    opened: list[IstioGateway] = []

    def open_one(**options: Any) -> Any:
        opened.append(IstioGateway(IstioGatewayOptions(**options), context(tmp_path, "gateway")))
        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(GatewaySpec)
        manager.register(opened[-1], name="gateway")
        return manager.hook

    yield open_one
    for each in opened:
        each.gateway_close()

"""`hamlet verify-adapter istio` on a real Kubernetes API that is in use: every check, and nothing of it stays."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hamlet_istio.options import IstioOptions
from hamlet_istio.registry import IstioRegistry

from hamlet_core.api import AdapterContext, Status, WriteImport
from hamlet_core.api.testing import imported_service
from tests.backends.kubernetes import OwnKubernetes
from tests.support.verifying import unwell, verified

pytestmark = [pytest.mark.xdist_group("kubernetes-contracts"), pytest.mark.timeout(600)]

ISTIO = "/apis/networking.istio.io/v1/namespaces/{}/"
CORE = "/api/v1/namespaces/{}/"
COLLECTIONS = (
    *(f"{ISTIO}{each}" for each in ("serviceentries", "destinationrules", "workloadentries")),
    *(f"{CORE}{each}" for each in ("services", "endpoints", "configmaps", "events")),
    "/apis/discovery.k8s.io/v1beta1/namespaces/{}/endpointslices",
    "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
)


class InUse:
    """Namespaces with services, imports of a real agent and its Lease."""

    def __init__(self, kubernetes: OwnKubernetes, folder: Path) -> None:
        self.kubernetes, self._folder = kubernetes, folder
        end = secrets.token_hex(4)
        self.shop, self.imports, self.leads = (
            kubernetes.make_namespace(f"{name}-{end}") for name in ("shop", "imports", "leads")
        )
        ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
        kubernetes.put(f"{CORE.format(self.shop)}services", "orders", {"spec": {"ports": ports}})
        kubernetes.put(f"{CORE.format(self.imports)}configmaps", "notes", {"data": {"a": "b"}})
        leases = f"/apis/coordination.k8s.io/v1/namespaces/{self.leads}/leases"
        kubernetes.put(leases, "hamlet-west", {"spec": {"holderIdentity": "agent-1"}})

    def write(self, mode: str, way: dict[str, Any]) -> dict[str, Any]:
        """Have an agent's imports; its registry and coordinator, as its configuration has them."""
        options = {"mode": mode, "import_namespace": self.imports, "namespaces": [self.shop, self.imports], **way}
        context = AdapterContext(
            name="main", mesh="west", domain="west.example", trust_domain="west.example", directory=self._folder
        )
        registry = IstioRegistry(IstioOptions(**options), context)
        stock = imported_service("stock", "east")
        outcomes = registry.registry_apply([WriteImport(stock)])
        registry.registry_close()
        assert [each.status for each in outcomes] == [Status.APPLIED]
        return {
            "registries": {"main": {"kind": "istio", **options}},
            "coordinator": {"kind": "istio", "namespace": self.leads, "ttl": "6s", **way},
        }

    def standing(self) -> dict[str, Any]:
        """Everything in the namespaces."""
        return {
            each["metadata"]["uid"]: each
            for collection in COLLECTIONS
            for namespace in (self.shop, self.imports, self.leads)
            for each in self.kubernetes.do("GET", collection.format(namespace))["items"]
        }

    def close(self) -> None:
        for namespace in (self.shop, self.imports, self.leads):
            self.kubernetes.wipe(namespace, *(each.replace("{}", "{namespace}") for each in COLLECTIONS))


@pytest.fixture
def in_use(own_kubernetes: OwnKubernetes, tmp_path: Path) -> Iterator[InUse]:
    """A cluster in use."""
    one = InUse(own_kubernetes, tmp_path)
    yield one
    one.close()


@pytest.mark.parametrize("mode", ["istio", "kubernetes"])
def test_a_cluster_in_use_is_verified_with_what_the_plugin_ships_and_left_as_it_was(
    in_use: InUse, own_kubernetes: OwnKubernetes, tmp_path: Path, mode: str
) -> None:
    adapters = in_use.write(mode, {"kubeconfig": str(own_kubernetes.kubeconfig)})
    if mode != "istio":
        del adapters["coordinator"]  # it is the same one in either mode
    before = in_use.standing()
    code, report = verified(tmp_path, "istio", adapters)
    assert (unwell(report), code) == ([], 0)
    assert (report["failed"], report["not_run"], len(report["subjects"])) == (0, 0, len(adapters))
    assert in_use.standing() == before

"""`hamlet verify-adapter istio` on a real Kubernetes API that is in use: every check, and nothing of it stays."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hamlet_istio.options import IstioOptions
from hamlet_istio.registry import IstioRegistry

from hamlet_core.api import AdapterContext, Status, WriteImport
from hamlet_core.api.testing import imported_service
from tests.backends.kubernetes import OwnKubernetes

pytestmark = [pytest.mark.xdist_group("kubernetes"), pytest.mark.timeout(600)]

ISTIO = "/apis/networking.istio.io/v1/namespaces/{}/"
CORE = "/api/v1/namespaces/{}/"
COLLECTIONS = (
    *(f"{ISTIO}{each}" for each in ("serviceentries", "destinationrules", "workloadentries")),
    *(f"{CORE}{each}" for each in ("services", "endpoints", "configmaps", "events")),
    "/apis/discovery.k8s.io/v1beta1/namespaces/{}/endpointslices",
    "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
)


class InUse:
    """Namespaces with services, imports of a real agent and its Lease; `folder` has a configuration for them."""

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

    def write(self, mode: str, way: dict[str, Any], *roles: str) -> None:
        """Have an agent's imports and its configuration."""
        options = {"mode": mode, "import_namespace": self.imports, "namespaces": [self.shop, self.imports], **way}
        context = AdapterContext(
            name="main", mesh="west", domain="west.example", trust_domain="west.example", directory=self._folder
        )
        registry = IstioRegistry(IstioOptions(**options), context)
        stock = imported_service("stock", "east")
        outcomes = registry.registry_apply([WriteImport(stock)])
        registry.registry_close()
        assert [each.status for each in outcomes] == [Status.APPLIED]
        coordinator = {"kind": "istio", "namespace": self.leads, "ttl": "6s", **way}
        configuration = {
            "mesh": {"name": "west", "domain": "west.example", "trust_domain": "west.example"},
            "identity": {"certificate": "a.crt", "key": "a.key"},
            "registries": {"main": {"kind": "istio", **options}},
            **({"coordinator": coordinator} if "coordinator" in roles else {}),
        }
        (self._folder / "hamlet.yaml").write_text(yaml.safe_dump(configuration))

    def standing(self) -> dict[str, Any]:
        """Everything in the namespaces."""
        return {
            each["metadata"]["uid"]: each
            for collection in COLLECTIONS
            for namespace in (self.shop, self.imports, self.leads)
            for each in self.kubernetes.do("GET", collection.format(namespace))["items"]
        }

    def verify(self) -> tuple[int, list[dict[str, Any]]]:
        """Type it: the exit code and the report on each role."""
        command = [sys.executable, "-m", "hamlet_core", "verify-adapter", "istio", "--config", "hamlet.yaml"]
        done = subprocess.run(
            [*command, "--yes", "--json"], cwd=self._folder, capture_output=True, text=True, timeout=500, check=False
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)["subjects"]

    def close(self) -> None:
        for namespace in (self.shop, self.imports, self.leads):
            self.kubernetes.wipe(namespace, *(each.replace("{}", "{namespace}") for each in COLLECTIONS))


@pytest.fixture
def in_use(own_kubernetes: OwnKubernetes, tmp_path: Path) -> Iterator[InUse]:
    """A cluster in use."""
    one = InUse(own_kubernetes, tmp_path)
    yield one
    one.close()


def unsound(subject: dict[str, Any]) -> list[tuple[str, str]]:
    """What did not pass, and why, but for what does not apply to a registry in use."""
    return [
        (check["check"], check["reason"])
        for rule in subject["rules"]
        for check in rule["checks"]
        if check["result"] not in ("passed", "does not apply")
    ]


@pytest.mark.parametrize("mode", ["istio", "kubernetes"])
def test_a_cluster_in_use_is_verified_with_what_the_plugin_ships_and_left_as_it_was(
    in_use: InUse, own_kubernetes: OwnKubernetes, mode: str
) -> None:
    roles = ("coordinator",) if mode == "istio" else ()
    in_use.write(mode, {"kubeconfig": str(own_kubernetes.kubeconfig)}, *roles)
    before = in_use.standing()
    code, subjects = in_use.verify()
    assert [unsound(each) for each in subjects] == [[] for _ in ("registry", *roles)]
    assert [(each["failed"], each["not_run"], each["left_behind"]) for each in subjects] == [
        (0, 0, []) for _ in ("registry", *roles)
    ]
    assert code == 0
    assert in_use.standing() == before

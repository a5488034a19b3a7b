"""The gateway's manifest gives exactly what is needed: all works with it, and a check names each missing verb."""

from __future__ import annotations

import copy
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hamlet_istio
import pytest
import yaml
from hamlet_istio import gateway_rights

from hamlet_core.api import (
    GatewayUnavailable,
    ImportRoute,
    Refused,
    Severity,
    Stop,
)
from hamlet_core.api.testing import imported_service
from tests.backends.istio_gateway import published

pytestmark = pytest.mark.xdist_group("kubernetes")
MANIFEST = Path(hamlet_istio.__file__).parent / "manifests" / "rbac-gateway.yaml"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
PATIENCE = 60.0


def test_the_manifest_that_is_shipped_is_that_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert gateway_rights.main([]) == 0
    assert capsys.readouterr().out == MANIFEST.read_text()


def test_each_half_asks_for_its_own_rights_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert gateway_rights.main(["--no-ingress", "--consumers", "shop,bank", "--service-account", "here:agent"]) == 0
    found = list(yaml.safe_load_all(capsys.readouterr().out))
    roles = {each["metadata"].get("namespace"): each["rules"] for each in found if each["kind"].endswith("Role")}
    assert set(roles) == {"shop", "bank"}
    assert [rule["resources"] for rule in roles["shop"]] == [["secrets"]]


class Granted:
    """The manifests, in force for a service account and the namespaces of one test."""

    def __init__(self, world: Any) -> None:
        self.world, self.kubernetes = world, world.kubernetes
        self.agent = self.kubernetes.make_namespace(f"agent-{secrets.token_hex(4)}")
        found = gateway_rights.manifests(
            ingress=True,
            namespace=world.namespace,
            nodes=True,
            consumers=(world.callers,),
            account=(self.agent, "hamlet"),
        )
        self.objects = [self._own(each) for each in found]
        for each in self.objects:
            self.kubernetes.put(self.path(each), each["metadata"]["name"], each)
        roles = [each for each in self.objects if each["kind"].endswith("Role")]
        self.kubernetes.wait_for_roles((self.agent, "hamlet"), roles)
        self.token = self.kubernetes.token_for(self.agent, "hamlet")

    def _own(self, thing: Any) -> Any:
        """Objects of the whole cluster get a name of this test's own."""
        text = yaml.safe_dump(thing)
        return yaml.safe_load(text.replace("name: hamlet-gateway\n", f"name: {self.agent}\n"))

    @staticmethod
    def path(thing: dict[str, Any]) -> str:
        plural = f"{thing['kind'].lower()}s"
        namespace = thing["metadata"].get("namespace")
        root = "/api/v1" if thing["kind"] == "ServiceAccount" else RBAC
        return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"

    def options(self) -> dict[str, Any]:
        reached = {
            "kubeconfig": None,
            "server": self.kubernetes.server,
            "ca": self.kubernetes.ca,
            "token": self.token,
        }
        ingress = {"namespace": self.world.namespace, "address": "node_port"}
        return dict(self.world.options(**reached, ingress=ingress))

    def set_rules(self, role: dict[str, Any], rules: list[dict[str, Any]]) -> None:
        operations = [{"op": "replace", "path": "/rules", "value": rules}]
        path = f"{self.path(role)}/{role['metadata']['name']}"
        self.kubernetes.do("PATCH", path, operations, kind="application/json-patch+json")

    def close(self) -> None:
        for each in self.objects:
            self.kubernetes.call("DELETE", f"{self.path(each)}/{each['metadata']['name']}")


@pytest.fixture
def granted(own_kubernetes: Any, world: Any) -> Iterator[Granted]:
    one = Granted(world)
    yield one
    one.close()


@pytest.fixture
def exposed(world: Any) -> Iterator[None]:
    """An ingress gateway that is reached by a node."""
    world.add_ingress("NodePort")
    name = f"{world.namespace}-node"
    status = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "addresses": [{"type": "InternalIP", "address": "10.9.8.6"}],
    }
    world.kubernetes.put("/api/v1/nodes", name, {})
    path = f"/api/v1/nodes/{name}"
    world.kubernetes.do("PATCH", f"{path}/status", {"status": status}, kind="application/merge-patch+json")
    yield
    world.kubernetes.do("DELETE", path)


def test_everything_works_with_exactly_these_rights(
    granted: Granted, exposed: None, world: Any, open_gateway: Callable[..., Any]
) -> None:
    hooks = open_gateway(**granted.options())
    assert {each.severity for each in hooks.gateway_check()} == {Severity.OK}
    hooks.gateway_trust(trust=world.trust("east"))
    stop = Stop()
    ingress = next(hooks.gateway_ingress(stop=stop))
    stop.set()
    assert [each.address for each in ingress.endpoints] == ["10.9.8.6"]
    routes = [published(world.add_service("orders")), published(f"gone.{world.namespace}")]
    assert set(hooks.gateway_publish(routes=routes)) == {"gone.west.example"}
    stock = ImportRoute(peer="east", service=imported_service("stock").service)
    assert not any(isinstance(each, Refused) for each in hooks.gateway_import(routes=[stock], keep=()).values())
    hooks.gateway_trust(trust=world.trust("east"))
    assert hooks.gateway_publish(routes=[]) == {}
    assert hooks.gateway_import(routes=[], keep=()) == {}
    for path in ("secrets", "services"):
        names = [
            each["metadata"]["name"]
            for each in granted.kubernetes.do("GET", f"/api/v1/namespaces/{world.callers}/{path}")["items"]
        ]
        assert names == []


def test_each_verb_that_is_taken_away_is_named_with_the_rule_to_add(
    granted: Granted, exposed: None, open_gateway: Callable[..., Any]
) -> None:
    hooks = open_gateway(**granted.options())
    tried = 0
    for role in (each for each in granted.objects if each["kind"].endswith("Role")):
        for number, rule in enumerate(role["rules"]):
            (resource,) = rule["resources"]
            for verb in rule["verbs"]:
                rules = copy.deepcopy(role["rules"])
                rules[number]["verbs"].remove(verb)
                granted.set_rules(role, [each for each in rules if each["verbs"]])
                missing = until_missing(hooks, verb, resource)
                assert f'"resources": ["{resource}"]' in missing.mend
                assert "hamlet_istio.gateway_rights" in missing.mend
                assert missing.severity is Severity.ERROR
                tried += 1
        granted.set_rules(role, role["rules"])
    assert tried > 25


def until_missing(hooks: Any, verb: str, resource: str) -> Any:
    """What is not well, all of it about this verb; the server takes a moment to believe a changed role."""
    found: list[Any] = []
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = [each for each in hooks.gateway_check() if each.severity is not Severity.OK]
        if found and all(each.subject.startswith(f"right {verb} {resource}") for each in found):
            return found[0]
    raise AssertionError((verb, resource, found))


def test_a_right_that_is_missing_takes_nothing_away_and_is_named(
    granted: Granted, exposed: None, world: Any, open_gateway: Callable[..., Any]
) -> None:
    hooks = open_gateway(**granted.options())
    hooks.gateway_trust(trust=world.trust("east"))
    orders = published(world.add_service("orders"))
    hooks.gateway_publish(routes=[orders])
    role = next(each for each in granted.objects if each["kind"] == "ClusterRole")
    granted.set_rules(role, [rule for rule in role["rules"] if rule["resources"] != ["services"]])
    until_missing(hooks, "get", "services")
    with pytest.raises(GatewayUnavailable, match="services") as caught:
        hooks.gateway_publish(routes=[orders, published(world.add_service("mail"))])
    assert "hamlet check" in caught.value.mend
    path = f"/apis/networking.istio.io/v1/namespaces/{world.namespace}/gateways"
    assert [each["metadata"]["name"] for each in granted.kubernetes.do("GET", path)["items"]] == [
        "orders-west-example"
    ]

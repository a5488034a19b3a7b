"""The manifests give exactly what is needed: all works with them, and without any one verb a check names it."""

from __future__ import annotations

import copy
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hamlet_istio
import pytest
import yaml
from hamlet_istio import rights

from hamlet_core.api import RegistryUnavailable, RemoveImport, Severity, Status, WriteImport
from hamlet_core.api.testing import imported_service

pytestmark = pytest.mark.xdist_group("kubernetes")
MANIFESTS = Path(hamlet_istio.__file__).parent / "manifests"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
PATIENCE = 60.0


@pytest.mark.parametrize("mode", ["istio", "kubernetes"])
def test_the_manifests_that_are_shipped_are_those_of_the_table(mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert rights.main(["--mode", mode]) == 0
    assert capsys.readouterr().out == (MANIFESTS / f"rbac-{mode}.yaml").read_text()


def test_namespaces_that_are_named_need_no_cluster_role(capsys: pytest.CaptureFixture[str]) -> None:
    assert rights.main(["--namespaces", "shop,bank", "--service-account", "here:agent"]) == 0
    found = list(yaml.safe_load_all(capsys.readouterr().out))
    assert {each["kind"] for each in found} == {"ServiceAccount", "Role", "RoleBinding"}
    roles = [each["metadata"].get("namespace") for each in found if each["kind"] == "Role"]
    assert roles == ["shop", "bank", "hamlet-imports"]


def test_consuming_namespaces_get_a_role_for_their_rules_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert rights.main(["--consumers", "shop,bank"]) == 0
    found = list(yaml.safe_load_all(capsys.readouterr().out))
    roles = {each["metadata"]["namespace"]: each["rules"] for each in found if each["kind"] == "Role"}
    assert set(roles) == {"hamlet-imports", "shop", "bank"}
    (rule,) = roles["shop"]
    assert (rule["resources"], roles["bank"]) == (["destinationrules"], [rule])


class Granted:
    """The shipped manifests, in force for a service account and namespaces of one test's own."""

    def __init__(self, kubernetes: Any, mode: str) -> None:
        self.kubernetes, self.mode = kubernetes, mode
        self.agent = kubernetes.make_namespace(f"agent-{secrets.token_hex(4)}")
        self.imports = kubernetes.make_namespace(f"imports-{secrets.token_hex(4)}")
        self.consumer = kubernetes.make_namespace(f"consumer-{secrets.token_hex(4)}")
        self.cluster_role = f"hamlet-read-{secrets.token_hex(4)}"
        text = (MANIFESTS / f"rbac-{mode}.yaml").read_text()
        shipped = list(yaml.safe_load_all(text))
        if mode == "istio":
            account = ("hamlet", "hamlet")
            given: dict[str, Any] = {"import_namespace": "hamlet-imports", "namespaces": None, "account": account}
            shipped = list(rights.manifests(istio=True, consumers=("shop",), **given))
            assert shipped[: len(list(yaml.safe_load_all(text)))] == list(yaml.safe_load_all(text))
        self.objects = [self._renamed(each) for each in shipped]
        for each in self.objects:
            kubernetes.put(self.path(each), each["metadata"]["name"], each)
        kubernetes.wait_for_roles((self.agent, "hamlet"), self.roles())
        self.token = kubernetes.token_for(self.agent, "hamlet")

    def _renamed(self, thing: Any) -> Any:
        """The same for our namespaces; the role of the whole cluster has a name of its own."""
        if isinstance(thing, list):
            return [self._renamed(each) for each in thing]
        if not isinstance(thing, dict):
            return self.cluster_role if thing == "hamlet-read" else thing
        made = {key: self._renamed(value) for key, value in thing.items()}
        if "namespace" in made:
            ours = {"hamlet": self.agent, "hamlet-imports": self.imports, "shop": self.consumer}
            made["namespace"] = ours[made["namespace"]]
        return made

    def path(self, thing: dict[str, Any]) -> str:
        plural = f"{thing['kind'].lower()}s"
        namespace = thing["metadata"].get("namespace")
        root = "/api/v1" if thing["kind"] == "ServiceAccount" else RBAC
        return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"

    def options(self) -> dict[str, Any]:
        found: dict[str, Any] = {"mode": self.mode, "namespaces": None, "import_namespace": self.imports}
        found |= {"kubeconfig": None, "server": self.kubernetes.server, "ca": self.kubernetes.ca}
        if self.mode == "istio":
            secret = {"mode": "MUTUAL", "credential_name": "client", "consumers": {self.consumer: {"mesh": "out"}}}
            found["tls"] = secret
        return found | {"token": self.token, "events": True}

    def roles(self) -> list[dict[str, Any]]:
        return [each for each in self.objects if each["kind"] in ("Role", "ClusterRole")]

    def set_rules(self, role: dict[str, Any], rules: list[dict[str, Any]]) -> None:
        operations = [{"op": "replace", "path": "/rules", "value": rules}]
        path = f"{self.path(role)}/{role['metadata']['name']}"
        self.kubernetes.do("PATCH", path, operations, kind="application/json-patch+json")

    def wait_for(self, resource: str, verb: str, namespace: str = "", *, group: str = "", may: bool) -> None:
        """Wait until the server believes a changed role."""
        right = {"group": group, "resource": resource, "verb": verb, "namespace": namespace}
        self.kubernetes.wait_for_right((self.agent, "hamlet"), right, may=may)

    def close(self) -> None:
        for plural in ("serviceentries", "destinationrules"):
            for namespace in (self.imports, self.consumer):
                self.kubernetes.wipe(namespace, f"/apis/networking.istio.io/v1/namespaces/{{namespace}}/{plural}")
        for each in self.objects:
            self.kubernetes.call("DELETE", f"{self.path(each)}/{each['metadata']['name']}")


@pytest.fixture(params=["istio", "kubernetes"])
def granted(own_kubernetes: Any, request: pytest.FixtureRequest) -> Iterator[Granted]:
    one = Granted(own_kubernetes, request.param)
    yield one
    one.close()


def test_everything_works_with_exactly_these_rights(
    granted: Granted, cluster: Any, open_registry: Callable[..., Any]
) -> None:
    cluster.add_pod("pod", "orders")
    name = cluster.add_service("orders", pods={"10.0.0.5": "pod"})
    opened = open_registry(cluster, **granted.options())
    service = imported_service("stock")
    if granted.mode == "istio":
        cluster.add_pod("selected", "orders", {"app": "vm"})
        cluster.run_pod("selected", "10.2.0.1")
        spec: dict[str, Any] = {"hosts": ["vm.internal"], "location": "MESH_INTERNAL", "resolution": "STATIC"}
        spec |= {"ports": [{"number": 80, "name": "http"}], "workloadSelector": {"labels": {"app": "vm"}}}
        path = "/apis/networking.istio.io/v1/namespaces/{namespace}/serviceentries"
        cluster.put(path, "vm", {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "spec": spec})
    state = opened.watch().state
    assert name in state
    assert granted.mode != "istio" or state[f"vm.{cluster.namespace}"].endpoints
    findings = opened.hooks.registry_check()
    assert {each.severity for each in findings} == {Severity.OK}
    definitions = {each.subject: each.message for each in findings if each.subject.startswith("CRD ")}
    wanted = ("serviceentries", "destinationrules") if granted.mode == "istio" else ()
    assert set(definitions) == {f"CRD {each}.networking.istio.io" for each in wanted}
    assert all(message.startswith("served in v1") for message in definitions.values())
    for change in (service, imported_service("stock", address="203.0.113.9")):
        (outcome,) = opened.hooks.registry_apply(changes=[WriteImport(change)])
        assert outcome.status is Status.APPLIED, outcome.reason
    opened.hooks.registry_mark_peer(peer="east", lost_since=datetime(2024, 5, 17, tzinfo=UTC))
    assert [each.lost_since is not None for each in opened.hooks.registry_imports()] == [True]
    (outcome,) = opened.hooks.registry_apply(changes=[RemoveImport(service.key, service.local_name)])
    assert outcome.status is Status.APPLIED
    assert opened.hooks.registry_imports() == []
    path = f"/api/v1/namespaces/{granted.imports}"
    marks = granted.kubernetes.do("GET", f"{path}/configmaps")["items"]
    assert not any("hamlet-peer" in each["metadata"]["name"] for each in marks)
    deadline = time.monotonic() + PATIENCE
    while not granted.kubernetes.do("GET", f"{path}/events")["items"]:
        assert time.monotonic() < deadline, "nothing is told"
        time.sleep(0.05)


def test_each_verb_that_is_taken_away_is_named_with_the_rule_to_add(
    granted: Granted, cluster: Any, open_registry: Callable[..., Any]
) -> None:
    opened = open_registry(cluster, **granted.options())
    used = {"endpointslices": "read", "endpoints": "imports"}  # what this cluster serves decides between the two
    tried = 0
    places = {granted.imports: "imports", granted.consumer: "consumers", None: "read"}
    for role in granted.roles():
        place = places[role["metadata"].get("namespace")]
        for number, rule in enumerate(role["rules"]):
            (resource,) = rule["resources"]
            if used.get(resource, place) != place:
                continue
            for verb in rule["verbs"]:
                rules = copy.deepcopy(role["rules"])
                rules[number]["verbs"].remove(verb)
                granted.set_rules(role, [each for each in rules if each["verbs"]])
                missing = until_missing(opened, verb, resource)
                assert verb in missing.subject
                assert f'"resources": ["{resource}"]' in missing.mend
                assert missing.severity is (Severity.WARNING if resource == "events" else Severity.ERROR)
                tried += 1
        granted.set_rules(role, role["rules"])
    assert tried > 15


def until_missing(opened: Any, verb: str, resource: str) -> Any:
    """What is not well, all of it about this verb; the server takes a moment to believe a changed role."""
    found: list[Any] = []
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = [each for each in opened.hooks.registry_check() if each.severity is not Severity.OK]
        if found and all(each.subject.startswith(f"right {verb} {resource}") for each in found):
            return found[0]
    raise AssertionError((verb, resource, found))


def test_a_right_that_is_missing_is_an_outage_of_the_watch_and_no_withdrawal(
    granted: Granted, cluster: Any, open_registry: Callable[..., Any]
) -> None:
    cluster.add_service("orders")
    role = next(each for each in granted.roles() if not each["metadata"].get("namespace"))
    granted.set_rules(role, [rule for rule in role["rules"] if rule["resources"] != ["services"]])
    granted.wait_for("services", "list", may=False)
    opened = open_registry(cluster, **granted.options())
    with pytest.raises(AssertionError) as caught:
        opened.watch()
    error = caught.value.__cause__
    assert isinstance(error, RegistryUnavailable)
    assert "services in all namespaces" in str(error)
    assert "allow list and watch of services" in error.mend


@pytest.mark.parametrize("granted", ["istio"], indirect=True)
def test_a_right_taken_away_with_its_namespace_stops_nothing_and_is_warned_of(
    granted: Granted, cluster: Any, open_registry: Callable[..., Any]
) -> None:
    options = granted.options()
    first = open_registry(cluster, **options)
    first.hooks.registry_apply(changes=[WriteImport(imported_service("stock"))])
    role = next(each for each in granted.roles() if each["metadata"].get("namespace") == granted.consumer)
    granted.set_rules(role, [])
    of_rules = {"group": "networking.istio.io", "namespace": granted.consumer}
    for verb in ("get", "list", "delete"):
        granted.wait_for("destinationrules", verb, **of_rules, may=False)
    later = open_registry(cluster, **(options | {"tls": {}}))
    found = [each for each in later.hooks.registry_check() if each.severity is not Severity.OK]
    assert {each.severity for each in found} == {Severity.WARNING}
    assert {each.subject for each in found} == {
        f"right {verb} destinationrules.networking.istio.io in {granted.consumer}"
        for verb in ("get", "list", "delete")
    }
    (standing,) = later.hooks.registry_imports()
    assert standing.digest == ""
    (outcome,) = later.hooks.registry_apply(changes=[WriteImport(imported_service("stock"))])
    assert outcome.status is Status.APPLIED
    granted.set_rules(role, role["rules"])
    for verb in ("get", "list", "delete"):
        granted.wait_for("destinationrules", verb, **of_rules, may=True)
    rules = f"/apis/networking.istio.io/v1/namespaces/{granted.consumer}/destinationrules"
    assert granted.kubernetes.do("GET", rules)["items"], "it could not be taken out"
    assert later.hooks.registry_imports()[0].digest == "", "with the right, what was left there is seen again"
    later.hooks.registry_apply(changes=[WriteImport(imported_service("stock"))])
    assert granted.kubernetes.do("GET", rules)["items"] == []

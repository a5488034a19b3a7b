"""Rules in the namespaces of workloads with a secret: they come, change and go with their import, on the real API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hamlet_core.api import ImportedService, Outcome, RemoveImport, Severity, Status, WriteImport
from hamlet_core.api.testing import imported_service
from tests.backends.kubernetes import OwnKubernetes
from tests.backends.proxy import FaultProxy

pytestmark = pytest.mark.xdist_group("kubernetes")
ENTRIES = "/apis/networking.istio.io/v1/namespaces/{namespace}/serviceentries"
RULES = "/apis/networking.istio.io/v1/namespaces/{namespace}/destinationrules"
MAPS = "/api/v1/namespaces/{namespace}/configmaps"
RULE = {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule"}
NAME = "stock-east-example"


class Places:
    """Two namespaces with workloads, beside the one of the imports."""

    def __init__(self, cluster: Any) -> None:
        self.cluster, self.kubernetes = cluster, cluster.kubernetes
        self.shop, self.bank = (
            self.kubernetes.make_namespace(f"{cluster.namespace}-{each}"[-63:]) for each in ("shop", "bank")
        )

    def tls(self, *consumers: str) -> dict[str, Any]:
        labels: dict[str, Any] = {"mode": "MUTUAL", "credential_name": "client", "workload_selector": {"mesh": "out"}}
        return {"tls": {**labels, "consumers": {each: {} for each in consumers}}}

    def rules(self) -> dict[str, set[str]]:
        """The names of the rules in each namespace: of the imports, `shop` and `bank`."""
        found = {}
        for short, namespace in {"imports": self.cluster.namespace, "shop": self.shop, "bank": self.bank}.items():
            items = self.kubernetes.do("GET", RULES.format(namespace=namespace))["items"]
            found[short] = {each["metadata"]["name"] for each in items}
        return found

    def record(self) -> list[str]:
        """The namespaces in the record, or nothing where there is none."""
        return [each["data"]["namespaces"] for each in self.cluster.all(MAPS).values()]

    def rule_in(self, namespace: str) -> str:
        return f"{RULES.format(namespace=namespace)}/{NAME}"

    def close(self) -> None:
        for each in (self.shop, self.bank):
            self.kubernetes.wipe(each, RULES)


@pytest.fixture
def places(cluster: Any) -> Iterator[Places]:
    found = Places(cluster)
    yield found
    found.close()


def apply(opened: Any, *services: ImportedService) -> list[Outcome]:
    outcomes: list[Outcome] = opened.hooks.registry_apply(changes=[WriteImport(each) for each in services])
    return outcomes


def remove(opened: Any, *services: ImportedService) -> list[Outcome]:
    changes = [RemoveImport(each.key, each.local_name) for each in services]
    outcomes: list[Outcome] = opened.hooks.registry_apply(changes=changes)
    return outcomes


def digests(opened: Any) -> dict[str, str]:
    return {each.key.name: each.digest for each in opened.hooks.registry_imports()}


@pytest.mark.parametrize("count", [1, 30], ids=["one by one", "a large batch"])
def test_each_import_has_a_rule_in_each_namespace_and_none_is_left_when_it_goes(
    places: Places, cluster: Any, open_registry: Callable[..., Any], count: int
) -> None:
    opened = open_registry(cluster, **places.tls(places.shop, places.bank))
    services = [imported_service(f"stock-{number}") for number in range(count)]
    assert {each.status for each in apply(opened, *services)} == {Status.APPLIED}
    names = set(cluster.all(ENTRIES))
    assert len(names) == count
    assert places.rules() == {"imports": set(), "shop": names, "bank": names}
    assert digests(open_registry(cluster, **places.tls(places.shop, places.bank))) == {
        each.key.name: each.digest for each in services
    }
    remove(opened, *services)
    assert places.rules() == {"imports": set(), "shop": set(), "bank": set()}
    assert cluster.all(ENTRIES) == {}


def test_what_stands_unchanged_is_not_written_again(
    places: Places, cluster: Any, open_registry: Callable[..., Any]
) -> None:
    opened = open_registry(cluster, **places.tls(places.shop, places.bank))
    apply(opened, imported_service("stock"))
    before = dict(opened.registry.connection.requests)
    assert len(digests(opened)) == 1
    apply(opened, imported_service("stock"))
    after = opened.registry.connection.requests
    assert {verb for verb in after if after[verb] != before.get(verb, 0)} == {"GET"}


@pytest.mark.parametrize("count", [1, 30], ids=["one by one", "a large batch"])
def test_a_namespace_that_is_no_longer_named_loses_its_rules(
    places: Places, cluster: Any, open_registry: Callable[..., Any], count: int
) -> None:
    services = [imported_service(f"stock-{number}") for number in range(count)]
    apply(open_registry(cluster), *services)
    names = set(cluster.all(RULES))
    for consumers, record in (([places.shop], [places.shop]), ([places.bank], [places.bank]), ([], [])):
        options = places.tls(*consumers) if consumers else {}
        changed = open_registry(cluster, **options)
        assert set(digests(changed).values()) == {""}, "written under other options"
        assert {each.status for each in apply(changed, *services)} == {Status.APPLIED}
        wanted = {"imports": set() if consumers else names}
        wanted |= {each: names if getattr(places, each) in consumers else set() for each in ("shop", "bank")}
        assert places.rules() == wanted
        assert places.record() == record
        assert set(digests(changed).values()) == {each.digest for each in services}


def test_a_rule_whose_import_was_never_finished_is_found_under_other_options_and_removed(
    places: Places, own_kubernetes: OwnKubernetes, cluster: Any, open_registry: Callable[..., Any]
) -> None:
    proxy = FaultProxy(own_kubernetes.server, str(own_kubernetes.ca))
    options = {"kubeconfig": None, "server": proxy.address, "token": "admin-token", "retry": "0.1s"}
    interrupted = open_registry(cluster, **options, **places.tls(places.shop))
    proxy.fail(lambda method, path: method == "PATCH" and "serviceentries" in path, 500)
    service = imported_service("stock")
    (outcome,) = apply(interrupted, service)
    assert outcome.status is Status.RETRY
    assert places.rules()["shop"] == {NAME}
    assert cluster.all(ENTRIES) == {}
    later = open_registry(cluster)
    assert digests(later) == {"stock.east.example": ""}, "half an import is listed, so that it is taken care of"
    (outcome,) = remove(later, service)
    assert outcome.status is Status.APPLIED
    assert places.rules() == {"imports": set(), "shop": set(), "bank": set()}
    assert places.record() == []
    assert digests(later) == {}
    proxy.close()


def test_an_edit_or_a_loss_in_one_of_the_namespaces_is_seen_and_mended(
    places: Places, cluster: Any, open_registry: Callable[..., Any]
) -> None:
    opened = open_registry(cluster, **places.tls(places.shop, places.bank))
    service = imported_service("stock")
    apply(opened, service)
    cluster.kubernetes.do("DELETE", places.rule_in(places.bank))
    assert digests(opened) == {"stock.east.example": ""}
    apply(opened, service)
    assert digests(opened) == {"stock.east.example": service.digest}
    edit = [{"op": "remove", "path": "/spec/trafficPolicy/tls/subjectAltNames"}]
    cluster.kubernetes.do("PATCH", places.rule_in(places.shop), edit, kind="application/json-patch+json")
    assert digests(opened) == {"stock.east.example": ""}
    apply(opened, service)
    rule = cluster.kubernetes.do("GET", places.rule_in(places.shop))
    assert rule["spec"]["trafficPolicy"]["tls"]["subjectAltNames"]


def test_a_foreign_rule_in_a_consuming_namespace_is_named_and_left(
    places: Places, cluster: Any, open_registry: Callable[..., Any]
) -> None:
    spec = {"host": "somebody.example"}
    cluster.kubernetes.put(RULES.format(namespace=places.bank), NAME, {**RULE, "spec": spec})
    opened = open_registry(cluster, **places.tls(places.shop, places.bank))
    (outcome,) = apply(opened, imported_service("stock"))
    assert outcome.status is Status.REJECTED
    assert f"DestinationRule {places.bank}/{NAME} is in the way" in outcome.reason
    assert places.rules()["shop"] == set(), "nothing was begun"
    remove(opened, imported_service("stock"))
    assert cluster.kubernetes.do("GET", places.rule_in(places.bank))["spec"] == spec


def test_a_consuming_namespace_that_is_missing_is_waited_for_and_named(
    places: Places, cluster: Any, open_registry: Callable[..., Any]
) -> None:
    missing = f"{cluster.namespace}-later"[-63:]
    opened = open_registry(cluster, **places.tls(places.shop, missing))
    (outcome,) = apply(opened, imported_service("stock"))
    assert outcome.status is Status.RETRY
    assert f"kubectl create namespace {missing}" in outcome.reason
    findings = {each.subject: each for each in opened.hooks.registry_check()}
    assert findings[f"namespace {missing}"].severity is Severity.ERROR
    assert findings[f"namespace {places.shop}"].severity is Severity.OK
    cluster.kubernetes.make_namespace(missing)
    (outcome,) = apply(opened, imported_service("stock"))
    assert outcome.status is Status.APPLIED
    cluster.kubernetes.wipe(missing, RULES)


def test_a_record_that_someone_else_has_made_is_named(
    places: Places, cluster: Any, open_registry: Callable[..., Any]
) -> None:
    first = open_registry(cluster, **places.tls(places.shop))
    apply(first, imported_service("stock"))
    (name,) = cluster.all(MAPS)
    unmarked = {"metadata": {"labels": {}, "annotations": {}}}
    cluster.put(MAPS, name, unmarked)
    (finding,) = [
        each
        for each in open_registry(cluster, **places.tls(places.shop)).hooks.registry_check()
        if each.severity is Severity.ERROR
    ]
    assert name in finding.message

"""Writing on the real API: what is others' stays, what stands is kept, what goes wrong is said."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from hamlet_core.api import ImportedService, Instance, Outcome, RemoveImport, Status, WriteImport
from hamlet_core.api.testing import imported_service

pytestmark = pytest.mark.xdist_group("kubernetes")
ENTRIES = "/apis/networking.istio.io/v1/namespaces/{namespace}/serviceentries"
RULES = "/apis/networking.istio.io/v1/namespaces/{namespace}/destinationrules"
EVENTS = "/api/v1/namespaces/{namespace}/events"
MAPS = "/api/v1/namespaces/{namespace}/configmaps"
ENTRY = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry"}
NAME = "stock-east-example"


def tcp_service(name: str) -> ImportedService:
    found = imported_service(name)
    instance = Instance(id="db", protocol="TCP", metadata={"SNI": f"{name}.east.example", "PORT": "5432"})
    return replace(found, service=replace(found.service, instances=(instance,)))


def apply(opened: Any, *services: ImportedService) -> list[Outcome]:
    outcomes: list[Outcome] = opened.hooks.registry_apply(changes=[WriteImport(each) for each in services])
    return outcomes


def digests(opened: Any) -> dict[str, str]:
    return {each.key.name: each.digest for each in opened.hooks.registry_imports()}


def test_an_import_shows_where_it_came_from(cluster: Any, open_registry: Callable[..., Any]) -> None:
    service = imported_service("stock", description="Everything in stock")
    apply(open_registry(cluster), service)
    for collection in (ENTRIES, RULES):
        metadata = cluster.get(collection, NAME)["metadata"]
        assert metadata["labels"] == {
            "app.kubernetes.io/managed-by": "hamlet",
            "hamlet.federation/peer": "east",
            "hamlet.federation/mesh": "west",
            "hamlet.federation/registry": "main",
        }
        notes = metadata["annotations"]
        assert notes["hamlet.federation/fqdn"] == "stock.east.example"
        assert notes["hamlet.federation/digest"] == service.digest
        assert notes["hamlet.federation/description"] == "Everything in stock"
        assert metadata["managedFields"][0]["manager"] == "hamlet"
        assert metadata["managedFields"][0]["operation"] == "Apply"


def test_a_host_that_someone_elses_entry_has_is_refused_and_the_entry_named(
    cluster: Any, open_registry: Callable[..., Any], fresh_namespace: str
) -> None:
    spec = {"hosts": ["stock.east.example"], "ports": [{"number": 80, "name": "http"}]}
    cluster.kubernetes.put(ENTRIES.format(namespace=fresh_namespace), "theirs", {**ENTRY, "spec": spec})
    opened = open_registry(cluster, namespaces=None)
    for watched in (False, True):
        if watched:
            opened.watch()
        (outcome,) = apply(opened, imported_service("stock"))
        assert outcome.status is Status.REJECTED
        assert f"{fresh_namespace}/theirs" in outcome.reason
    assert cluster.all(ENTRIES) == {}
    hidden = {**spec, "exportTo": ["."]}
    cluster.kubernetes.put(ENTRIES.format(namespace=fresh_namespace), "theirs", {**ENTRY, "spec": hidden})
    (outcome,) = apply(open_registry(cluster, namespaces=None), imported_service("stock"))
    assert outcome.status is Status.APPLIED, "an entry that only its own namespace sees is in nobody's way"
    cluster.kubernetes.wipe(fresh_namespace, ENTRIES)


def test_what_an_import_namespace_before_this_one_still_holds_is_named(
    cluster: Any, open_registry: Callable[..., Any], fresh_namespace: str
) -> None:
    apply(open_registry(cluster, import_namespace=fresh_namespace), imported_service("stock"))
    (outcome,) = apply(open_registry(cluster, namespaces=None), imported_service("stock"))
    assert outcome.status is Status.REJECTED
    assert f"{fresh_namespace}/{NAME}" in outcome.reason
    assert "import_namespace" in outcome.reason


@pytest.mark.parametrize("watched", [False, True])
def test_services_of_tcp_get_addresses_of_their_own_and_keep_them(
    cluster: Any, open_registry: Callable[..., Any], watched: bool
) -> None:
    services = [tcp_service(f"db-{number}") for number in range(6)]
    small = {"virtual_addresses": "240.128.0.0/28"}
    opened = open_registry(cluster, **small)
    if watched:
        opened.watch()
    assert {each.status for each in apply(opened, *services)} == {Status.APPLIED}
    given = {name: each["spec"]["addresses"] for name, each in cluster.all(ENTRIES).items()}
    assert len({address for (address,) in given.values()}) == 6
    opened.hooks.registry_apply(changes=[RemoveImport(services[0].key, services[0].local_name)])
    later = open_registry(cluster, **small)
    apply(later, *(replace(each, service=replace(each.service, tags=("new",))) for each in services[1:]))
    kept = {name: each["spec"]["addresses"] for name, each in cluster.all(ENTRIES).items()}
    assert kept == {name: address for name, address in given.items() if name in kept}
    assert len(kept) == 5


def test_two_imports_of_one_address_are_told_apart_again(cluster: Any, open_registry: Callable[..., Any]) -> None:
    first, second = tcp_service("a"), tcp_service("b")
    opened = open_registry(cluster)
    apply(opened, first, second)
    entry = cluster.get(ENTRIES, "a-east-example")["spec"]["addresses"]
    path = "/spec/addresses"
    cluster.patch(ENTRIES, "b-east-example", [{"op": "replace", "path": path, "value": entry}], manager="hamlet")
    assert digests(opened)["b.east.example"] == ""
    later = open_registry(cluster, force_conflicts=True)
    later.hooks.registry_imports()
    apply(later, second)
    assert cluster.get(ENTRIES, "b-east-example")["spec"]["addresses"] != entry


def test_no_address_is_given_where_the_cluster_gives_them_or_none_is_needed(
    cluster: Any, open_registry: Callable[..., Any]
) -> None:
    apply(open_registry(cluster, virtual_addresses=None), tcp_service("db"))
    apply(open_registry(cluster), imported_service("web"))
    assert all("addresses" not in each["spec"] for each in cluster.all(ENTRIES).values())


def test_a_field_that_another_manager_took_is_reported_with_its_name_and_not_forced(
    cluster: Any, open_registry: Callable[..., Any]
) -> None:
    opened = open_registry(cluster)
    service = imported_service("stock")
    apply(opened, service)
    cluster.patch(ENTRIES, NAME, [{"op": "replace", "path": "/spec/resolution", "value": "DNS"}], "gitops")
    assert digests(opened) == {"stock.east.example": ""}
    (outcome,) = apply(opened, service)
    assert outcome.status is Status.REJECTED
    assert "gitops" in outcome.reason
    assert ".spec.resolution" in outcome.reason
    assert cluster.get(ENTRIES, NAME)["spec"]["resolution"] == "DNS"
    (outcome,) = apply(open_registry(cluster, force_conflicts=True), service)
    assert outcome.status is Status.APPLIED
    assert digests(opened) == {"stock.east.example": service.digest}


def test_what_another_manager_added_is_reported_too_and_taken_out_only_by_force(
    cluster: Any, open_registry: Callable[..., Any]
) -> None:
    opened = open_registry(cluster)
    service = imported_service("stock")
    apply(opened, service)
    policy = {"insecureSkipVerify": True}
    path = "/spec/trafficPolicy/tls/insecureSkipVerify"
    cluster.patch(RULES, NAME, [{"op": "add", "path": path, "value": policy["insecureSkipVerify"]}], "helpful")
    assert digests(opened) == {"stock.east.example": ""}
    (outcome,) = apply(opened, service)
    assert outcome.status is Status.REJECTED
    assert "helpful" in outcome.reason
    (outcome,) = apply(open_registry(cluster, force_conflicts=True), service)
    assert outcome.status is Status.APPLIED
    assert "insecureSkipVerify" not in cluster.get(RULES, NAME)["spec"]["trafficPolicy"]["tls"]


def test_other_options_have_imports_written_again(cluster: Any, open_registry: Callable[..., Any]) -> None:
    apply(open_registry(cluster), imported_service("stock"))
    changed = open_registry(cluster, export_to=("shop",))
    assert digests(changed) == {"stock.east.example": ""}
    apply(changed, imported_service("stock"))
    assert cluster.get(ENTRIES, NAME)["spec"]["exportTo"] == ["shop"]


def test_half_of_an_import_is_seen_and_made_whole(cluster: Any, open_registry: Callable[..., Any]) -> None:
    opened = open_registry(cluster)
    service = imported_service("stock")
    apply(opened, service)
    cluster.remove(RULES, NAME)
    assert digests(opened) == {"stock.east.example": ""}
    apply(opened, service)
    assert digests(opened) == {"stock.east.example": service.digest}


def test_one_that_stands_under_two_names_loses_the_older(cluster: Any, open_registry: Callable[..., Any]) -> None:
    old, new = imported_service("stock"), imported_service("stock", local_name="other.example")
    apply(open_registry(cluster), old)
    apply(open_registry(cluster, field_manager="elsewhere"), imported_service("mail"))
    opened = open_registry(cluster)
    apply(opened, new)
    assert set(cluster.all(ENTRIES)) == {"other-example", "mail-east-example"}
    assert digests(opened)["stock.east.example"] == new.digest


def test_a_missing_namespace_is_no_reason_to_give_up_and_is_named(
    cluster: Any, open_registry: Callable[..., Any]
) -> None:
    opened = open_registry(cluster, import_namespace="nowhere")
    (outcome,) = apply(opened, imported_service("stock"))
    assert outcome.status is Status.RETRY
    assert "kubectl create namespace nowhere" in outcome.reason
    findings = {each.subject: each for each in opened.hooks.registry_check()}
    assert findings["namespace nowhere"].severity == "error"


def test_a_namespace_that_is_ending_is_waited_for_and_takes_imports_out(
    cluster: Any, open_registry: Callable[..., Any], fresh_namespace: str
) -> None:
    opened = open_registry(cluster, import_namespace=fresh_namespace)
    stock, mail = imported_service("stock"), imported_service("mail")
    apply(opened, stock)
    cluster.kubernetes.do("DELETE", f"/api/v1/namespaces/{fresh_namespace}")
    kept, outcome = apply(opened, stock, mail)
    assert kept.status is Status.APPLIED
    assert outcome.status is Status.RETRY
    assert "terminat" in outcome.reason
    assert digests(opened) == {"stock.east.example": stock.digest}
    (outcome,) = opened.hooks.registry_apply(changes=[RemoveImport(stock.key, stock.local_name)])
    assert outcome.status is Status.APPLIED


def test_an_object_the_api_refuses_is_rejected_with_its_words_and_alone(
    make_cluster: Callable[..., Any], open_registry: Callable[..., Any]
) -> None:
    opened = open_registry(make_cluster(mode="kubernetes"))
    loop, fine = imported_service("loop", address="127.0.0.1"), imported_service("fine")
    bad, good = apply(opened, loop, fine)
    assert (bad.status, good.status) == (Status.REJECTED, Status.APPLIED)
    assert "loopback" in bad.reason


def events(cluster: Any, namespace: str, wanted: set[str], query: str = "") -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        found = cluster.kubernetes.do("GET", EVENTS.format(namespace=namespace) + query)["items"]
        by_reason = {each["reason"]: each for each in found}
        if wanted <= set(by_reason) or time.monotonic() > deadline:
            assert wanted <= set(by_reason), set(by_reason)
            return by_reason
        time.sleep(0.05)


def test_events_tell_what_happened_to_an_import(
    cluster: Any, open_registry: Callable[..., Any], fresh_namespace: str
) -> None:
    opened = open_registry(cluster, import_namespace=fresh_namespace, events=True)
    service = imported_service("stock")
    apply(opened, service)
    apply(opened, imported_service("stock", address="203.0.113.8"))
    path = ENTRIES.format(namespace=fresh_namespace)
    cluster.kubernetes.put(path, "mail-east-example", {**ENTRY, "spec": {"hosts": ["their.example"]}})
    for _ in range(3):
        apply(opened, imported_service("mail"))
    opened.hooks.registry_mark_peer(peer="east", lost_since=datetime(2024, 5, 17, tzinfo=UTC))
    opened.hooks.registry_mark_peer(peer="east", lost_since=None)
    wanted = {"Imported", "ImportChanged", "ImportRefused", "PeerLost", "PeerBack", "ImportStale", "ImportCurrent"}
    found = events(cluster, fresh_namespace, wanted)
    assert found["Imported"]["involvedObject"]["name"] == NAME
    assert found["Imported"]["involvedObject"]["kind"] == "ServiceEntry"
    assert found["Imported"]["source"]["component"] == "hamlet"
    assert "is in the way" in found["ImportRefused"]["message"]
    assert found["PeerLost"]["involvedObject"]["kind"] == "ConfigMap"
    assert found["ImportStale"]["type"] == found["PeerLost"]["type"] == "Warning"
    assert "2024-05-17" in found["ImportStale"]["message"]
    for reason in ("ImportStale", "ImportCurrent"):
        about = found[reason]["involvedObject"]
        assert (about["kind"], about["apiVersion"], about["name"]) == ("ServiceEntry", ENTRY["apiVersion"], NAME)
    everything = cluster.kubernetes.do("GET", EVENTS.format(namespace=fresh_namespace))["items"]
    assert sum(each["reason"] == "ImportRefused" for each in everything) == 1, "a refusal is told once"


def test_kubectl_describe_shows_why_a_standing_import_is_refused_and_that_it_is_stale(
    make_cluster: Callable[..., Any], open_registry: Callable[..., Any], fresh_namespace: str
) -> None:
    """It asks for the Events of an object by its UID, in the object's namespace."""
    cluster = make_cluster(mode="kubernetes")
    opened = open_registry(cluster, import_namespace=fresh_namespace, events=True)
    apply(opened, imported_service("stock"))
    (outcome,) = apply(opened, imported_service("stock", address="127.0.0.1"))
    assert outcome.status is Status.REJECTED
    opened.hooks.registry_mark_peer(peer="east", lost_since=datetime(2024, 5, 17, tzinfo=UTC))
    service = cluster.kubernetes.do("GET", f"/api/v1/namespaces/{fresh_namespace}/services/{NAME}")
    query = f"?fieldSelector=involvedObject.uid={service['metadata']['uid']}"
    events(cluster, fresh_namespace, {"Imported", "ImportRefused", "ImportStale"}, query)


def test_the_mark_of_a_lost_peer_goes_with_its_last_import(cluster: Any, open_registry: Callable[..., Any]) -> None:
    opened = open_registry(cluster)
    since = datetime(2024, 5, 17, tzinfo=UTC)
    opened.hooks.registry_mark_peer(peer="east", lost_since=since)
    assert cluster.all(MAPS) == {}, "a peer without imports needs no mark"
    services = [imported_service("stock"), imported_service("mail")]
    apply(opened, *services)
    opened.hooks.registry_mark_peer(peer="east", lost_since=since)
    (config_map,) = cluster.all(MAPS).values()
    assert config_map["data"]["lostSince"] == since.isoformat()
    for service, left in zip(services, (1, 0), strict=True):
        opened.hooks.registry_apply(changes=[RemoveImport(service.key, service.local_name)])
        assert len(cluster.all(MAPS)) == left

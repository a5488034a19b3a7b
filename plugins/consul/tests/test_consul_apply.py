"""Imports as they stand in Consul: usable at once, conditional, apart from what others have there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hamlet_consul.entries import entries_for

from hamlet_core.api import (
    Endpoint,
    ImportedService,
    Instance,
    Outcome,
    RegistryUnavailable,
    RemoveImport,
    Route,
    Status,
    WriteImport,
)
from hamlet_core.api.testing import imported_service
from tests.backends.consul import Consul

Start = Callable[..., Any]
LOST = datetime(2024, 5, 17, 8, 30, 15, tzinfo=UTC)
NODE = "hamlet-west-east"


def write(started: Any, *services: ImportedService) -> Sequence[Outcome]:
    return started.hooks.registry_apply(changes=[WriteImport(service) for service in services])


def statuses(outcomes: Sequence[Outcome]) -> list[Status]:
    return [outcome.status for outcome in outcomes]


def passing(consul: Consul, name: str) -> list[dict[str, Any]]:
    return consul.do("GET", f"/v1/health/service/{name}?passing")


def with_places(count: int, name: str = "stock") -> ImportedService:
    """An import with so many endpoints."""
    plain = imported_service(name)
    endpoints = tuple(Endpoint(address=f"203.0.113.{n % 200 + 1}", port=8000 + n) for n in range(count))
    return dataclasses.replace(plain, service=dataclasses.replace(plain.service, endpoints=endpoints))


def edit(consul: Consul, service_id: str, **changes: Any) -> None:
    """Change an entry on our node as a person would."""
    (one,) = [
        one for one in consul.do("GET", f"/v1/catalog/node-services/{NODE}")["Services"] if one["ID"] == service_id
    ]
    one = {key: one[key] for key in ("ID", "Service", "Address", "Port", "Tags", "Meta")} | changes
    consul.do("PUT", "/v1/txn", [{"Service": {"Verb": "set", "Node": NODE, "Service": one}}])


# What stands


def test_a_workload_finds_an_import_at_once(consul: Consul, start_registry: Start) -> None:
    write(start_registry(consul), imported_service("stock"))
    (found,) = passing(consul, "stock-east-example")
    service = found["Service"]
    assert (service["Address"], service["Port"]) == ("203.0.113.7", 8443)
    assert service["Tags"] == ["v1", "http"]
    meta = service["Meta"]
    assert {key: meta[key] for key in ("hamlet-peer", "fqdn", "sni", "sans", "protocol", "label-team")} == {
        "hamlet-peer": "east",
        "fqdn": "stock.east.example",
        "sni": "stock.east.example",
        "sans": "spiffe://east.example/ingress",
        "protocol": "http",
        "label-team": "shop",
    }
    node = found["Node"]
    assert node["Node"] == NODE
    assert (node["Meta"]["external-node"], node["Meta"]["external-probe"]) == ("true", "false")


def test_every_instance_and_endpoint_is_an_entry(consul: Consul, start_registry: Start) -> None:
    plain = imported_service("stock")
    service = dataclasses.replace(
        plain.service,
        endpoints=(
            Endpoint(address="203.0.113.1", port=1, labels=("http",)),
            Endpoint(address="203.0.113.2", port=1, labels=("http",)),
            Endpoint(address="gateway.east.example", port=2, labels=("grpc",)),
        ),
        instances=(
            Instance(id="web", protocol="HTTP", endpoint_selector=("http",)),
            Instance(id="rpc", protocol="GRPC", endpoint_selector=("grpc",)),
        ),
    )
    write(start_registry(consul), dataclasses.replace(plain, service=service))
    assert {
        (one["Service"]["Address"], one["Service"]["Port"], one["Service"]["Meta"]["protocol"])
        for one in passing(consul, "stock-east-example")
    } == {("203.0.113.1", 1, "http"), ("203.0.113.2", 1, "http"), ("gateway.east.example", 2, "grpc")}
    tagged = consul.do("GET", "/v1/health/service/stock-east-example?passing&tag=rpc")
    assert [one["Service"]["Address"] for one in tagged] == ["gateway.east.example"]


@pytest.mark.parametrize(("originates", "by"), [(True, "gateway"), (False, "caller")])
def test_an_import_leads_where_the_gateway_says_and_tells_who_does_tls(
    consul: Consul, start_registry: Start, originates: bool, by: str
) -> None:
    started = start_registry(consul)
    plain = imported_service("stock")
    (instance,) = plain.service.instances
    places = (Endpoint(address="10.1.2.3", port=20_000), Endpoint(address="10.1.2.4", port=20_000))
    led = dataclasses.replace(plain, route=Route(endpoints={instance.id: places}, originates_tls=originates))
    write(started, plain)
    assert "hamlet-tls" not in passing(consul, "stock-east-example")[0]["Service"]["Meta"]
    write(started, led)
    found = [one["Service"] for one in passing(consul, "stock-east-example")]
    assert {(one["Address"], one["Port"]) for one in found} == {("10.1.2.3", 20_000), ("10.1.2.4", 20_000)}
    assert {one["Meta"]["hamlet-tls"] for one in found} == {by}
    assert [each.digest for each in started.hooks.registry_imports()] == [led.digest]
    write(started, plain)
    (found_again,) = passing(consul, "stock-east-example")
    assert found_again["Service"]["Address"] == "203.0.113.7"


def test_an_import_that_the_gateway_leads_nowhere_is_refused(consul: Consul, start_registry: Start) -> None:
    led = dataclasses.replace(imported_service("stock"), route=Route(endpoints={}, originates_tls=True))
    (outcome,) = write(start_registry(consul), led)
    assert outcome.status is Status.REJECTED
    assert "by the route of the gateway" in outcome.reason


def test_a_lost_peers_services_stay_passing_and_say_so(consul: Consul, start_registry: Start) -> None:
    started = start_registry(consul)
    write(started, imported_service("stock"), imported_service("mail"))
    before = started.registry.requests.snapshot()
    started.hooks.registry_mark_peer(peer="east", lost_since=LOST)
    assert (started.registry.requests.snapshot() - before)["txn"] == 1, "one write, however many services"
    for name in ("stock-east-example", "mail-east-example"):
        (found,) = passing(consul, name)
        (check,) = found["Checks"]
        assert "lost since 2024-05-17T08:30:15+00:00" in check["Output"]
        assert found["Node"]["Meta"]["hamlet-lost-since"] == "2024-05-17T08:30:15+00:00"
    started.hooks.registry_mark_peer(peer="east", lost_since=None)
    (found,) = passing(consul, "mail-east-example")
    assert "lost since" not in found["Checks"][0]["Output"]


def test_long_sans_are_kept_whole(consul: Consul, start_registry: Start) -> None:
    sans = tuple(f"spiffe://east.example/ingress/{number:04}" for number in range(40))
    plain = imported_service("stock")
    write(start_registry(consul), dataclasses.replace(plain, service=dataclasses.replace(plain.service, sans=sans)))
    meta = passing(consul, "stock-east-example")[0]["Service"]["Meta"]
    parts = [meta["sans"]] + [meta[f"sans-{number}"] for number in range(2, 4)]
    assert "".join(parts) == ",".join(sans)


# Refusals


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"instances": ()}, "no instance with an endpoint"),
        ({"sans": tuple(f"spiffe://east.example/{'x' * 200}/{n}" for n in range(200))}, "64 pairs of meta"),
    ],
)
def test_what_consul_cannot_hold_is_rejected_and_the_rest_written(
    consul: Consul, start_registry: Start, changes: dict[str, Any], says: str
) -> None:
    plain = imported_service("stock")
    bad = dataclasses.replace(plain, service=dataclasses.replace(plain.service, **changes))
    outcomes = write(start_registry(consul), bad, imported_service("mail"))
    assert statuses(outcomes) == [Status.REJECTED, Status.APPLIED]
    assert says in outcomes[0].reason


def test_what_only_consul_refuses_is_named_and_fails_alone(
    consul: Consul, start_registry: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule of a Consul that we do not know of: played by not keeping to one that we do."""
    monkeypatch.setattr("hamlet_consul.naming.VALUE_LIMIT", 600)
    plain = imported_service("stock")
    bad = dataclasses.replace(plain, service=dataclasses.replace(plain.service, description="x" * 600))
    outcomes = write(start_registry(consul), imported_service("first"), bad, imported_service("mail"))
    assert statuses(outcomes) == [Status.APPLIED, Status.REJECTED, Status.APPLIED]
    assert "stock.east.example" in outcomes[1].reason
    assert "Value is too long" in outcomes[1].reason


def test_two_imports_that_read_the_same_get_names_of_their_own(consul: Consul, start_registry: Start) -> None:
    started = start_registry(consul)
    one = imported_service("one", local_name="a-b.east.example", address="203.0.113.1")
    other = imported_service("other", local_name="a.b-east.example", address="203.0.113.2")
    assert statuses(write(started, one, other)) == [Status.APPLIED, Status.APPLIED]
    names = {name for name in consul.do("GET", "/v1/catalog/services") if name.startswith("a-b-east-example")}
    assert len(names) == 2
    assert {each.local_name for each in started.hooks.registry_imports()} == {"a-b.east.example", "a.b-east.example"}
    started.registry.registry_close()
    again = start_registry(consul)
    assert statuses(write(again, other, one)) == [Status.APPLIED, Status.APPLIED]
    assert {
        name for name in consul.do("GET", "/v1/catalog/services") if name.startswith("a-b-east-example")
    } == names, "each keeps the name it has"


def test_a_service_that_comes_to_stand_where_an_import_is_is_reported(consul: Consul, start_registry: Start) -> None:
    started = start_registry(consul)
    write(started, imported_service("stock"))
    consul.register("stock-east-example")
    started.watch().until(lambda state: "stock-east-example" in state, 30)
    (outcome,) = write(started, imported_service("stock", address="203.0.113.9"))
    assert outcome.status is Status.REJECTED
    assert "stock-east-example" in outcome.reason
    assert len(passing(consul, "stock-east-example")) == 2


def test_someone_elses_node_where_ours_would_stand_is_left_alone(consul: Consul, start_registry: Start) -> None:
    consul.register("theirs", node=NODE)
    started = start_registry(consul)
    (outcome,) = write(started, imported_service("stock"))
    assert outcome.status is Status.REJECTED
    assert NODE in outcome.reason
    assert started.hooks.registry_mark_peer(peer="east", lost_since=LOST) is True
    assert consul.do("GET", f"/v1/catalog/node/{NODE}")["Node"]["Meta"] is None


def test_someone_elses_service_on_our_node_outlives_our_removal(consul: Consul, start_registry: Start) -> None:
    started = start_registry(consul)
    service = imported_service("stock")
    write(started, service)
    theirs = {"ID": "theirs", "Service": "theirs", "Port": 1}
    consul.do("PUT", "/v1/txn", [{"Service": {"Verb": "set", "Node": NODE, "Service": theirs}}])
    (outcome,) = started.hooks.registry_apply(changes=[RemoveImport(service.key, service.local_name)])
    assert outcome.status is Status.APPLIED
    services = consul.do("GET", f"/v1/catalog/node-services/{NODE}")["Services"]
    assert [one["ID"] for one in services] == ["theirs"]


def test_an_id_of_ours_that_someone_took_is_left_alone(consul: Consul, start_registry: Start) -> None:
    started = start_registry(consul)
    write(started, imported_service("mail"))
    taken = {"ID": "stock-east-example:0", "Service": "theirs", "Port": 1}
    consul.do("PUT", "/v1/txn", [{"Service": {"Verb": "set", "Node": NODE, "Service": taken}}])
    outcomes = write(started, imported_service("stock"), imported_service("news"))
    assert statuses(outcomes) == [Status.REJECTED, Status.APPLIED]
    assert "stock-east-example:0" in outcomes[0].reason
    assert passing(consul, "theirs")


# Between two writers


def test_an_edit_that_came_between_is_neither_overwritten_nor_lost(consul: Consul, start_registry: Start) -> None:
    started = start_registry(consul)
    service, other = imported_service("stock"), imported_service("mail")
    write(started, service, other)
    edit(consul, "stock-east-example:0", Tags=["by hand"])
    changed = [imported_service(name, address="203.0.113.9") for name in ("stock", "mail")]
    outcomes = write(started, *changed)
    assert statuses(outcomes) == [Status.RETRY, Status.APPLIED]
    assert "someone else edited it" in outcomes[0].reason
    assert passing(consul, "stock-east-example")[0]["Service"]["Tags"] == ["by hand"]
    digests = {each.key: each.digest for each in started.hooks.registry_imports()}
    assert digests == {service.key: "", changed[1].key: changed[1].digest}, "the edit is seen, and then decided on"
    assert statuses(write(started, changed[0])) == [Status.APPLIED]


def test_an_entry_whose_mark_was_taken_off_is_no_longer_ours(consul: Consul, start_registry: Start) -> None:
    started = start_registry(consul)
    service = imported_service("stock")
    write(started, service)
    edit(consul, "stock-east-example:0", Meta={"owner": "me"})
    (outcome,) = write(started, imported_service("stock", address="203.0.113.9"))
    assert outcome.status is Status.REJECTED
    assert started.hooks.registry_imports() == []


def test_a_write_of_ours_that_was_made_after_we_looked_is_not_taken_for_someone_elses(
    consul: Consul, start_registry: Start
) -> None:
    started, late = start_registry(consul), start_registry(consul)
    write(started, imported_service("mail"))
    write(late, imported_service("stock"), imported_service("more"))
    services = [imported_service(name, address="203.0.113.9") for name in ("stock", "more", "new")]
    assert statuses(write(started, *services)) == [Status.APPLIED] * 3
    (found,) = passing(consul, "stock-east-example")
    assert found["Service"]["Address"] == "203.0.113.9"


def test_what_someone_deleted_is_written_again(consul: Consul, start_registry: Start) -> None:
    started = start_registry(consul)
    service = imported_service("stock")
    write(started, service)
    consul.deregister("stock-east-example:0", node=NODE)
    assert started.hooks.registry_imports() == []
    assert statuses(write(started, service)) == [Status.APPLIED]
    consul.do("PUT", "/v1/catalog/deregister", {"Node": NODE})
    assert statuses(write(started, imported_service("stock", address="203.0.113.9"))) == [Status.APPLIED]
    assert passing(consul, "stock-east-example")[0]["Service"]["Address"] == "203.0.113.9"


def test_removing_what_someone_deleted_succeeds(consul: Consul, start_registry: Start) -> None:
    started = start_registry(consul)
    service = imported_service("stock")
    write(started, service)
    consul.do("PUT", "/v1/catalog/deregister", {"Node": NODE})
    (outcome,) = started.hooks.registry_apply(changes=[RemoveImport(service.key, service.local_name)])
    assert outcome.status is Status.APPLIED


def test_a_lost_mark_is_written_over_an_edit_of_the_node_and_keeps_it(consul: Consul, start_registry: Start) -> None:
    started = start_registry(consul)
    write(started, imported_service("stock"))
    node = consul.do("GET", f"/v1/catalog/node/{NODE}")["Node"]
    edited = {"Node": NODE, "Address": node["Address"], "Meta": node["Meta"] | {"rack": "7"}}
    consul.do("PUT", "/v1/txn", [{"Node": {"Verb": "set", "Node": edited}}])
    started.hooks.registry_mark_peer(peer="east", lost_since=LOST)
    meta = consul.do("GET", f"/v1/catalog/node/{NODE}")["Node"]["Meta"]
    assert meta["rack"] == "7"
    assert meta["hamlet-lost-since"]


def test_a_key_twice_in_one_call_ends_as_the_last_says(consul: Consul, start_registry: Start) -> None:
    started = start_registry(consul)
    first, last = imported_service("stock"), imported_service("stock", address="203.0.113.9")
    changes = [WriteImport(first), RemoveImport(first.key, first.local_name), WriteImport(last)]
    assert statuses(started.hooks.registry_apply(changes=changes)) == [Status.APPLIED] * 3
    assert passing(consul, "stock-east-example")[0]["Service"]["Address"] == "203.0.113.9"


def test_an_import_takes_over_the_local_name_of_one_that_goes(consul: Consul, start_registry: Start) -> None:
    started = start_registry(consul)
    old = imported_service("old", local_name="stock.alias.example")
    new = imported_service("new", local_name="stock.alias.example", address="203.0.113.9")
    write(started, old)
    outcomes = started.hooks.registry_apply(changes=[RemoveImport(old.key, old.local_name), WriteImport(new)])
    assert statuses(outcomes) == [Status.APPLIED] * 2
    assert [each.key for each in started.hooks.registry_imports()] == [new.key]


# In transactions


def test_transactions_are_filled(consul: Consul, start_registry: Start) -> None:
    started = start_registry(consul)
    services = [imported_service(f"stock-{number}") for number in range(640)]
    before = started.registry.requests.snapshot()
    assert set(statuses(write(started, *services))) == {Status.APPLIED}
    assert (started.registry.requests.snapshot() - before)["txn"] == 1 + 640 // 64, "the node, then 64 at a time"
    before = started.registry.requests.snapshot()
    write(started, *services)
    assert (started.registry.requests.snapshot() - before)["txn"] == 0, "there is nothing to write"


def test_the_catalog_is_asked_for_names_only_where_an_import_is_new(consul: Consul, start_registry: Start) -> None:
    started = start_registry(consul)
    old, new = imported_service("old"), imported_service("new")
    asked = []
    for changes in (
        [WriteImport(old)],
        [WriteImport(imported_service("old", address="203.0.113.9"))],
        [WriteImport(old), WriteImport(new)],
        [RemoveImport(old.key, old.local_name), WriteImport(new)],
    ):
        before = started.registry.requests.snapshot()
        assert set(statuses(started.hooks.registry_apply(changes=changes))) == {Status.APPLIED}
        asked.append((started.registry.requests.snapshot() - before)["catalog/services"])
    assert asked == [1, 0, 1, 0]


def test_an_import_made_ready_under_a_name_that_is_taken_gets_another(consul: Consul, start_registry: Start) -> None:
    started = start_registry(consul)
    first, second = (imported_service(name, local_name=name) for name in ("stock.east", "stock-east"))
    assert statuses(write(started, first, second)) == [Status.APPLIED] * 2
    names = {one["Service"] for one in consul.do("GET", f"/v1/catalog/node-services/{NODE}")["Services"]}
    assert len(names) == 2
    assert "stock-east" in names


def test_one_conflict_does_not_cost_a_request_for_each_of_the_others(consul: Consul, start_registry: Start) -> None:
    started = start_registry(consul)
    services = [imported_service(f"stock-{number}") for number in range(64)]
    write(started, *services)
    edit(consul, "stock-7-east-example:0", Tags=["by hand"])
    before = started.registry.requests.snapshot()
    outcomes = write(started, *(imported_service(f"stock-{n}", address="203.0.113.9") for n in range(64)))
    assert statuses(outcomes) == [Status.RETRY if n == 7 else Status.APPLIED for n in range(64)]
    assert (started.registry.requests.snapshot() - before)["txn"] <= 3


def test_a_conflict_in_one_of_many_transactions_is_that_imports_alone(consul: Consul, start_registry: Start) -> None:
    started = start_registry(consul)
    services = [imported_service(f"stock-{number}") for number in range(320)]
    write(started, *services)
    for number in (7, 100, 319):
        edit(consul, f"stock-{number}-east-example:0", Tags=["by hand"])
    outcomes = write(started, *(imported_service(f"stock-{n}", address="203.0.113.9") for n in range(320)))
    assert [one.key.name for one in outcomes] == [service.key.name for service in services]
    assert [n for n, one in enumerate(outcomes) if one.status is not Status.APPLIED] == [7, 100, 319]
    found = {one["ID"]: one["Address"] for one in consul.do("GET", f"/v1/catalog/node-services/{NODE}")["Services"]}
    assert sum(address == "203.0.113.9" for address in found.values()) == 317


def test_what_is_refused_in_one_of_many_transactions_is_that_imports_alone(
    consul: Consul, start_registry: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hamlet_consul.naming.VALUE_LIMIT", 600)
    services = [imported_service(f"stock-{number}") for number in range(200)]
    bad = dataclasses.replace(services[130].service, description="x" * 600)
    services[130] = dataclasses.replace(services[130], service=bad)
    outcomes = write(start_registry(consul), *services)
    assert [n for n, one in enumerate(outcomes) if one.status is not Status.APPLIED] == [130]
    assert outcomes[130].status is Status.REJECTED
    assert "stock-130" in outcomes[130].reason


def test_an_import_of_more_entries_than_a_transaction_takes(consul: Consul, start_registry: Start) -> None:
    started = start_registry(consul)
    big = with_places(150)
    assert statuses(write(started, imported_service("mail"), big)) == [Status.APPLIED] * 2
    assert len(passing(consul, "stock-east-example")) == 150
    assert {each.digest for each in started.hooks.registry_imports()} >= {big.digest}
    assert statuses(write(started, with_places(2))) == [Status.APPLIED]
    assert len(passing(consul, "stock-east-example")) == 2


def test_an_import_that_lost_an_entry_is_known_not_to_be_whole(consul: Consul, start_registry: Start) -> None:
    started = start_registry(consul)
    service = with_places(3)
    write(started, service)
    consul.deregister("stock-east-example:1", node=NODE)
    assert [each.digest for each in started.hooks.registry_imports()] == [""]


def test_a_write_whose_answer_was_lost_is_found_by_the_next(
    consul: Consul, start_registry: Start, cut_answers: Callable[..., Any]
) -> None:
    started = start_registry(consul)
    write(started, imported_service("mail"))
    cutting = cut_answers(consul, cuts=0, methods=(b"PUT",))
    other = start_registry(consul, address=cutting.address)
    write(other, imported_service("mail"))
    cutting.cuts = 1
    service = imported_service("stock")
    with pytest.raises(RegistryUnavailable):
        write(other, service)
    outcomes = write(other, service, imported_service("news"))
    assert statuses(outcomes) == [Status.APPLIED] * 2
    digests = {each.key: each.digest for each in other.hooks.registry_imports()}
    assert digests[service.key] == service.digest


def test_entries_are_the_same_for_the_same_import() -> None:
    service = imported_service("stock")
    assert entries_for(service, "stock") == entries_for(service, "stock")
    assert all(entry.intact for entry in entries_for(service, "stock"))

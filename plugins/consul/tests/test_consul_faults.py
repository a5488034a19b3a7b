"""What goes wrong with a Consul: nothing imported is lost, nothing is withdrawn falsely, all recovers by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from hamlet_core.api import RegistryUnavailable, Remove, Snapshot, Status, WriteImport
from hamlet_core.api.testing import Watching, imported_service
from tests.backends.consul import Consul, StartConsul
from tests.support.processes import wait_until

WITHIN = 60.0
Start = Callable[..., Any]


def removed(watching: Watching) -> list[str]:
    return [
        change.name
        for batch in watching.batches
        if not isinstance(batch, Snapshot)
        for change in batch
        if isinstance(change, Remove)
    ]


def all_applied(started: Any, changes: list[WriteImport]) -> bool:
    try:
        return {one.status for one in started.hooks.registry_apply(changes=changes)} == {Status.APPLIED}
    except RegistryUnavailable:
        return False


def written(started: Any, *names: str) -> list[Status]:
    changes = [WriteImport(imported_service(name)) for name in names]
    return [outcome.status for outcome in started.hooks.registry_apply(changes=changes)]


def test_a_hanging_agent_is_noticed_and_found_again(
    start_consul: StartConsul, start_registry: Start, hurried: Callable[..., Any]
) -> None:
    consul = start_consul()
    consul.register("orders")
    started = start_registry(consul, wait="500ms", timeout="5s")
    watching = started.watch()
    consul.pause()
    assert isinstance(watching.failed(WITHIN), RegistryUnavailable)
    with hurried(started.registry._client):
        with pytest.raises(RegistryUnavailable):
            written(started, "stock")
        with pytest.raises(RegistryUnavailable):
            started.hooks.registry_imports()
    consul.resume()
    assert set(watching.state) == set(started.watch().state) == {"orders"}
    assert written(started, "stock") == [Status.APPLIED]


def test_after_the_first_write_that_gets_no_answer_no_further_one_is_sent(
    start_consul: StartConsul, start_registry: Start, hurried: Callable[..., Any]
) -> None:
    consul = start_consul()
    started = start_registry(consul)
    assert written(started, "first") == [Status.APPLIED]
    changes = [WriteImport(imported_service(f"stock-{number}")) for number in range(64 * 8)]
    before = started.registry.requests.snapshot()
    client = started.registry._client
    transact = client.begin_transaction

    def hang_at_once(operations: Any) -> Any:
        consul.pause()
        with hurried(client):
            return transact(operations)

    client.begin_transaction = hang_at_once
    try:
        with pytest.raises(RegistryUnavailable, match="did not answer"):
            started.hooks.registry_apply(changes=changes)
    finally:
        consul.resume()
        client.begin_transaction = transact
    assert (started.registry.requests.snapshot() - before)["txn"] == 2, "those that were under way"
    # What was under way is made now, beside what is tried again: an import may be in its own way once.
    wait_until(lambda: all_applied(started, changes), within=WITHIN)


def test_a_watch_of_a_hanging_agent_ends_when_told_to(start_consul: StartConsul, start_registry: Start) -> None:
    consul = start_consul()
    watching = start_registry(consul).watch()
    consul.pause()
    watching.end(WITHIN)
    consul.resume()


def test_an_agent_without_servers_is_unavailable_and_not_empty(
    start_consul: StartConsul, start_registry: Start
) -> None:
    """The agent goes on answering: 500."""
    server = start_consul(durable=True)
    client = start_consul(joins=server)
    server.register("orders")
    started = start_registry(client, wait="500ms")
    watching = started.watch()
    assert written(started, "stock") == [Status.APPLIED]
    server.kill()
    assert isinstance(watching.failed(60), RegistryUnavailable)
    with pytest.raises(RegistryUnavailable, match="answered 500"):
        written(started, "mail")
    assert "error" in {finding.severity for finding in started.hooks.registry_check()}
    server.start()
    again = recovered(started)
    assert set(again.state) == {"orders"}
    assert [each.key.name for each in started.hooks.registry_imports()] == ["stock.east.example"]
    assert written(started, "mail") == [Status.APPLIED]


def recovered(started: Any) -> Watching:
    """Watch until a watch does not fail before it has said anything, as the core does."""
    deadline = time.monotonic() + 2 * WITHIN
    while time.monotonic() < deadline:
        watching = Watching(started.hooks)
        started._watching.append(watching)
        watching.settled(lambda _, watching=watching: watching.batches, WITHIN)
        if watching.batches:
            return watching
        time.sleep(0.1)
    message = f"it did not recover: {watching.error!r}"
    raise AssertionError(message)


def test_a_consul_that_lost_its_data_withdraws_nothing_that_comes_back(
    start_consul: StartConsul, start_registry: Start
) -> None:
    consul = start_consul(durable=True)
    consul.register("orders")
    consul.register("billing")
    started = start_registry(consul, settle="10s")
    watching = started.watch()
    consul.restart(forget=True)
    assert isinstance(watching.failed(WITHIN), RegistryUnavailable)
    again = recovered(started)
    assert set(again.state) == {"orders", "billing"}, "what is not back yet is still told"
    consul.register("orders", Address="10.1.1.9")
    again.until(lambda state: {e.address for e in state["orders"].endpoints} == {"10.1.1.9"}, WITHIN)
    again.until(lambda state: set(state) == {"orders"}, WITHIN)
    assert removed(again) == ["billing"], "what did not come back in time is gone"


def test_imports_are_written_again_after_consul_lost_its_data(
    start_consul: StartConsul, start_registry: Start
) -> None:
    consul = start_consul(durable=True)
    started = start_registry(consul)
    names = [f"stock-{number}" for number in range(200)]
    assert set(written(started, *names)) == {Status.APPLIED}
    consul.restart(forget=True)
    before = started.registry.requests.snapshot()
    assert set(written(started, *names)) == {Status.APPLIED}
    assert (started.registry.requests.snapshot() - before)["txn"] <= 1 + 200 // 64 + 1
    assert {each.key.name for each in started.hooks.registry_imports() if each.digest} == {
        f"{name}.east.example" for name in names
    }


def test_imports_survive_a_kill_of_consul(start_consul: StartConsul, start_registry: Start) -> None:
    consul = start_consul(durable=True)
    started = start_registry(consul)
    assert written(started, "stock", "mail") == [Status.APPLIED] * 2
    before = started.hooks.registry_imports()
    consul.restart()
    assert sorted(started.hooks.registry_imports(), key=str) == sorted(before, key=str)
    assert written(started, "stock", "news") == [Status.APPLIED] * 2


def test_someone_elses_keys_are_neither_needed_nor_touched(consul: Consul, start_registry: Start) -> None:
    consul.do("PUT", "/v1/kv/hamlet", b"theirs")
    consul.do("PUT", "/v1/kv/hamlet/west/east", b"theirs")
    before = consul.do("GET", "/v1/kv/hamlet?recurse")
    started = start_registry(consul)
    started.watch()
    assert written(started, "stock") == [Status.APPLIED]
    assert consul.do("GET", "/v1/kv/hamlet?recurse") == before
    assert "kv" not in {endpoint.partition("/")[0] for endpoint in started.registry.requests.snapshot()}


def test_what_answers_may_not_be_consul(consul: Consul, start_registry: Start, make_client: Any) -> None:
    """A page of Consul's own UI in place of an answer of its API."""
    client = make_client(consul)
    from consul import base

    with pytest.raises(RegistryUnavailable, match="is not Consul"):
        client.http.get(base.CB.json(), "/ui/")

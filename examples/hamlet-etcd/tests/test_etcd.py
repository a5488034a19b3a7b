"""What the contract does not ask, and etcd makes necessary: compaction, pages, silence, users, sizes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hamlet_core.api import (
    AdapterContext,
    ConfigError,
    RegistryUnavailable,
    Remove,
    Severity,
    Snapshot,
    Status,
    Stop,
    Upsert,
    WriteImport,
)
from hamlet_core.api.testing import imported_service, local_service
from pydantic import SecretStr

from hamlet_etcd.calls import Calls, Compacted, Cut, Unreachable
from hamlet_etcd.options import EtcdOptions
from hamlet_etcd.plugin import open_registry
from hamlet_etcd.registry import EtcdRegistry
from hamlet_etcd.store import PAGE, Store
from hamlet_etcd.verification import EtcdBackend
from tests.server import Server

CONTEXT = AdapterContext(
    name="main", mesh="west", domain="west.example", trust_domain="west.example", directory=Path()
)


@pytest.fixture
def hands(options: EtcdOptions) -> Iterator[EtcdBackend]:
    hands = EtcdBackend(options)
    yield hands
    hands.close()


@pytest.fixture
def registry(options: EtcdOptions) -> Iterator[EtcdRegistry]:
    registry = EtcdRegistry(options, CONTEXT)
    yield registry
    registry.registry_close()


def compact(options: EtcdOptions) -> None:
    """Have etcd forget everything before now."""
    store, calls = Store(options), Calls(options)
    revision = store.list(options.prefix)[1]
    calls.call("kv/compaction", {"revision": revision, "physical": True})
    store.close()
    calls.close()


def test_a_watch_that_etcd_has_forgotten_begins_anew_with_a_snapshot(
    options: EtcdOptions, hands: EtcdBackend, registry: EtcdRegistry
) -> None:
    hands.add_local(local_service("orders"))
    stop = Stop()
    batches = registry.registry_watch(stop)
    assert next(batches) == Snapshot((local_service("orders"),))
    hands.remove_local("orders")
    hands.add_local(local_service("stock"))
    compact(options)  # the watch has not been asked for yet: it would begin at a revision that is gone
    assert next(batches) == Snapshot((local_service("stock"),))
    hands.add_local(local_service("mail"))
    assert next(batches) == (Upsert(local_service("mail")),)
    stop.set()
    assert list(batches) == []


def test_a_listing_of_many_pages_is_that_of_one_revision(options: EtcdOptions) -> None:
    store = Store(options)
    for number in range(PAGE + 1):
        store.put(f"{options.prefix}{number:05}", "x")
    items, revision = store.list(options.prefix)
    assert list(items) == [f"{options.prefix}{number:05}" for number in range(PAGE + 1)]
    assert revision == max(item.revision for item in items.values())
    store.close()


def test_changes_follow_the_snapshot_one_by_one(
    options: EtcdOptions, hands: EtcdBackend, registry: EtcdRegistry
) -> None:
    stop = Stop()
    batches = registry.registry_watch(stop)
    assert next(batches) == Snapshot(())
    hands.add_local(local_service("orders"))
    assert next(batches) == (Upsert(local_service("orders")),)
    hands.remove_local("orders")
    assert next(batches) == (Remove("orders"),)
    stop.set()
    assert list(batches) == []


def test_a_quiet_watch_is_renewed_and_misses_nothing(
    options: EtcdOptions, hands: EtcdBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Semaphore(0)
    stream = Calls.stream

    def counted(self: Calls, path: str, body: Mapping[str, object], cut: Cut) -> Iterator[dict[str, Any]]:
        asked.release()
        return stream(self, path, body, cut)

    monkeypatch.setattr(Calls, "stream", counted)
    registry = EtcdRegistry(options, CONTEXT)
    stop = Stop()
    batches = registry.registry_watch(stop)
    assert next(batches) == Snapshot(())
    with ThreadPoolExecutor(1) as somebody:
        news = somebody.submit(next, batches)
        for _ in range(2):
            assert asked.acquire(timeout=60)
        hands.add_local(local_service("orders"))
        assert news.result(60) == (Upsert(local_service("orders")),)
    stop.set()
    assert list(batches) == []
    registry.registry_close()


def test_a_server_that_falls_silent_is_an_outage(server: Server, options: EtcdOptions) -> None:
    registry = EtcdRegistry(options, CONTEXT)
    batches = registry.registry_watch(Stop())
    assert next(batches) == Snapshot(())
    with server.silence(), pytest.raises(RegistryUnavailable, match="cannot be reached"):
        next(batches)
    registry.registry_close()


def test_what_answers_and_is_no_etcd_is_an_outage(options: EtcdOptions) -> None:
    store = Store(options.model_copy(update={"address": f"{options.address}/nothing"}))
    with pytest.raises(Unreachable, match="is that etcd"):
        store.list("mesh/")
    store.close()


def test_a_revision_that_is_forgotten_is_told_from_an_outage(options: EtcdOptions) -> None:
    store = Store(options)
    first = store.put(f"{options.prefix}a", "1")
    store.put(f"{options.prefix}a", "2")
    compact(options)
    assert first
    with pytest.raises(Compacted):
        next(store.watch(options.prefix, first - 1, Stop()))
    store.close()


def test_an_import_that_etcd_finds_too_large_is_refused_and_others_go_on(registry: EtcdRegistry) -> None:
    large = imported_service("large", description="x" * 2_000_000)
    outcomes = registry.registry_apply([WriteImport(large), WriteImport(imported_service("small"))])
    assert [outcome.status for outcome in outcomes] == [Status.REJECTED, Status.APPLIED]
    assert "too large" in outcomes[0].reason


def test_a_service_under_the_key_of_another_name_is_none_and_the_check_says_so(
    options: EtcdOptions, registry: EtcdRegistry
) -> None:
    store = Store(options)
    store.put(f"{options.prefix}services/orders", '{"service": {"name": "stock", "ports": []}}')
    store.put(f"{options.prefix}services/text", "no JSON")
    store.close()
    assert next(registry.registry_watch(Stop())) == Snapshot(())
    warned = {finding.subject for finding in registry.registry_check() if finding.severity is Severity.WARNING}
    assert warned == {f"{options.prefix}services/orders", f"{options.prefix}services/text"}


def test_a_user_logs_in_again_when_the_token_is_gone_and_the_check_names_a_right_that_is_missing() -> None:
    server = Server()
    server.start()
    root = EtcdOptions(address=server.address, user="root", password=SecretStr("secret"))
    plain = Calls(EtcdOptions(address=server.address))

    def do(path: str, **body: object) -> None:
        plain.call(f"auth/{path}", body)

    try:
        for name in ("root", "reader"):
            do("user/add", name=name, password="secret")  # noqa: S106 - that of a server which lives for seconds
            do("role/add", name=name)
            do("user/grant", user=name, role=name)
        permission = {"permType": "READ", "key": "bWVzaC8=", "range_end": "bWVzaDA="}
        do("role/grant", name="reader", perm=permission)
        do("enable")
        with pytest.raises(Unreachable, match="user name is empty"):
            plain.call("kv/range", {"key": "bWVzaC8="})
        reader = EtcdRegistry(root.model_copy(update={"user": "reader"}), CONTEXT)
        found = {finding.subject: finding for finding in reader.registry_check()}
        assert found[server.address].severity is Severity.OK
        assert found["mesh/services/ (write)"].severity is Severity.WARNING
        assert "permission denied" in found["mesh/services/ (write)"].message
        (outcome,) = reader.registry_apply([WriteImport(imported_service("stock"))])
        assert (outcome.status, "permission denied" in outcome.reason) == (Status.RETRY, True)
        store = Store(root)
        store.put("mesh/services/x", "1")
        with server.outage():  # etcd keeps simple tokens in memory
            pass
        assert store.list("mesh/")[0]["mesh/services/x"].value == "1"
        wrong = Store(root.model_copy(update={"password": SecretStr("wrong")}))
        with pytest.raises(Unreachable, match="user root: "):
            wrong.list("mesh/")
        for each in (store, wrong):
            each.close()
        reader.registry_close()
    finally:
        plain.close()
        server.close()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"user": "hamlet"}, "password"),
        ({"certificate": Path("a.crt")}, "key"),
        ({"ca": Path("ca.pem")}, "https"),
    ],
)
def test_options_that_contradict_each_other_do_not_open(options: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        open_registry(EtcdOptions.model_validate(options), CONTEXT)

"""Faults of the real API server, and of the way to it: nothing is withdrawn, nothing is lost, all comes back."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hamlet_istio import reflector
from hamlet_istio.naming import object_name

from hamlet_core.api import RegistryUnavailable, Remove, Severity, Snapshot, Status, WriteImport
from hamlet_core.api.testing import Watching, imported_service
from tests.backends.kubernetes import OwnKubernetes
from tests.backends.proxy import HANG, HOLD, Fault, FaultProxy

pytestmark = [pytest.mark.xdist_group("kubernetes"), pytest.mark.timeout(240)]
SECONDS = 60.0
WATCHES = 4
"""Services, EndpointSlices, ServiceEntries, WorkloadEntries."""
SERVICES = "/api/v1/namespaces/{namespace}/services"
ENTRIES = "/apis/networking.istio.io/v1/namespaces/{namespace}/serviceentries"
MACHINE: dict[str, Any] = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "ServiceEntry",
    "spec": {
        "hosts": ["vm.internal"],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "ports": [{"number": 80, "name": "http"}],
        "endpoints": [{"address": "10.1.0.1"}],
    },
}


@pytest.fixture
def proxy(own_kubernetes: OwnKubernetes) -> Iterator[FaultProxy]:
    one = FaultProxy(own_kubernetes.server, str(own_kubernetes.ca))
    yield one
    one.close()


@pytest.fixture
def through(proxy: FaultProxy, cluster: Any, open_registry: Callable[..., Any]) -> Callable[..., Any]:
    """Open a registry whose way to the server is the proxy."""

    def open_one(**options: Any) -> Any:
        return open_registry(cluster, kubeconfig=None, server=proxy.address, token="admin-token", **options)

    return open_one


def removals(watching: Watching) -> list[object]:
    return [
        each
        for batch in watching.batches
        if not isinstance(batch, Snapshot)
        for each in batch
        if isinstance(each, Remove)
    ]


def until(check: Callable[[], Any], what: str = "") -> Any:
    deadline = time.monotonic() + SECONDS
    while not (found := check()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def is_watch(method: str, path: str) -> bool:
    return "watch=true" in path


def test_a_watch_that_is_cut_goes_on_where_it_was(proxy: FaultProxy, through: Any, cluster: Any) -> None:
    first = cluster.add_service("first")
    watching = through().watch()
    for number in range(3):
        until(lambda: proxy.watches == WATCHES)
        proxy.cut()
        name = cluster.add_service(f"more-{number}")
        watching.until(lambda state, name=name: name in state, SECONDS)  # type: ignore[misc]
    assert first in watching.state
    assert removals(watching) == []
    assert sum(isinstance(batch, Snapshot) for batch in watching.batches) == 1


@pytest.mark.parametrize("calm", [0.0, 3600.0], ids=["it had stood", "it had just begun"])
def test_a_watch_in_which_nothing_happens_may_be_cut_again_and_again_once_it_has_stood(
    proxy: FaultProxy, through: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch, calm: float
) -> None:
    """As by a proxy on the way that ends what is idle."""
    monkeypatch.setattr(reflector, "CALM", calm)
    name = cluster.add_service("quiet")
    watching = through().watch()
    for _ in range(6):
        until(lambda: proxy.watches == WATCHES or watching.error is not None)
        proxy.cut()
    if calm:
        assert isinstance(watching.failed(SECONDS), RegistryUnavailable)
    else:
        until(lambda: proxy.watches == WATCHES)
        assert watching.error is None
        assert len(watching.batches) == 1
    assert set(watching.state) == {name}


def test_a_watch_whose_past_was_compacted_lists_again_and_tells_a_snapshot(
    own_kubernetes: OwnKubernetes, proxy: FaultProxy, through: Any, cluster: Any
) -> None:
    kept, goes = cluster.add_service("kept"), cluster.add_service("goes")
    watching = through().watch()
    until(lambda: proxy.watches == WATCHES)
    held = proxy.fail(is_watch, HANG)
    proxy.cut()
    until(lambda: held.met == WATCHES, "the watches are opened again")
    cluster.remove_service("goes")
    comes = cluster.add_service("comes")
    own_kubernetes.compact()
    proxy.heal(but=Fault(lambda method, path: is_watch(method, path) and "/services" in path, 410, times=1))
    state = watching.until(lambda state: comes in state and goes not in state, SECONDS)
    assert kept in state
    assert removals(watching) == []
    assert sum(isinstance(batch, Snapshot) for batch in watching.batches) >= 2


def test_a_real_410_of_a_compacted_store_is_understood(
    kubernetes_binaries: Any, open_registry: Callable[..., Any], make_cluster: Callable[..., Any]
) -> None:
    """Without the server's watch cache a compaction reaches the client as it is."""
    server = OwnKubernetes(*kubernetes_binaries, "--watch-cache=false")
    server.start()
    try:
        server.make_namespace("own")
        cluster = type(make_cluster())(server, "own", mode="kubernetes")
        kept = cluster.add_service("kept")
        proxy = FaultProxy(server.server, str(server.ca))
        opened = open_registry(cluster, kubeconfig=None, server=proxy.address, token="admin-token")
        watching = opened.watch()
        until(lambda: proxy.watches == 2)
        held = proxy.fail(is_watch, HANG)
        proxy.cut()
        until(lambda: held.met == 2, "both watches are opened again")
        cluster.remove(SERVICES, "kept")
        comes = cluster.add_service("comes")
        for number in range(5):
            cluster.add_service(f"filler-{number}")
        server.compact()
        proxy.heal()
        state = watching.until(lambda state: comes in state and kept not in state, SECONDS)
        assert "filler-4.own" in state
        assert removals(watching) == [], "it came as a snapshot"
        watching.end(30)
        proxy.close()
    finally:
        server.close()


def test_a_killed_server_withdraws_nothing_and_everything_goes_on_when_it_is_back(
    own_kubernetes: OwnKubernetes, cluster: Any, open_registry: Callable[..., Any]
) -> None:
    name = cluster.add_service("orders")
    opened = open_registry(cluster)
    stock = imported_service("stock")
    opened.hooks.registry_apply(changes=[WriteImport(stock)])
    watching = opened.watch()
    own_kubernetes.kill_apiserver()
    assert isinstance(watching.failed(SECONDS), RegistryUnavailable)
    assert set(watching.state) == {name}
    with pytest.raises(RegistryUnavailable, match="does not answer"):
        opened.hooks.registry_imports()
    own_kubernetes.start()
    assert set(opened.watch().state) == {name}
    assert [each.digest for each in opened.hooks.registry_imports()] == [stock.digest]


def test_a_frozen_server_is_noticed_and_withdraws_nothing(
    own_kubernetes: OwnKubernetes, cluster: Any, open_registry: Callable[..., Any]
) -> None:
    name = cluster.add_service("orders")
    opened = open_registry(cluster, watch="1s", timeout="4s", connect_timeout="3s", retry="1s")
    watching = opened.watch()
    own_kubernetes.pause()
    try:
        error = watching.failed(SECONDS)
        assert isinstance(error, RegistryUnavailable)
        with pytest.raises(RegistryUnavailable):
            opened.hooks.registry_apply(changes=[WriteImport(imported_service("stock"))])
        assert Severity.ERROR in {each.severity for each in opened.hooks.registry_check()}
    finally:
        own_kubernetes.resume()
    assert set(watching.state) == {name}
    assert set(open_registry(cluster).watch().state) == {name}


def test_a_quiet_watch_that_lives_is_not_taken_for_dead(cluster: Any, open_registry: Callable[..., Any]) -> None:
    watching = open_registry(cluster, watch="1s").watch()
    time.sleep(3.5)  # three lives of a watch in which nothing happens
    name = cluster.add_service("late")
    watching.until(lambda state: name in state, SECONDS)
    assert len([batch for batch in watching.batches if isinstance(batch, Snapshot)]) == 1


def test_a_stop_ends_every_thread_of_a_watch(cluster: Any, open_registry: Callable[..., Any]) -> None:
    cluster.add_service("orders")
    opened = open_registry(cluster)
    watching = Watching(opened.hooks)
    watching.until(len, SECONDS)
    watching.end(30)
    until(
        lambda: (
            not [
                each for each in threading.enumerate() if each.name.startswith("istio-") and "write" not in each.name
            ]
        )
    )


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_a_busy_server_is_asked_again_as_it_says(proxy: FaultProxy, through: Any, status: int) -> None:
    opened = through()
    fault = proxy.fail(lambda method, path: method == "PATCH", status, times=2, Retry_After="1")
    before = time.monotonic()
    (outcome,) = opened.hooks.registry_apply(changes=[WriteImport(imported_service("stock"))])
    assert outcome.status is Status.APPLIED
    assert fault.met == 2
    assert time.monotonic() - before >= 2, "twice it said: after a second"


def test_a_server_that_stays_busy_is_left_for_later_and_fails_only_what_it_refuses(
    proxy: FaultProxy, through: Any
) -> None:
    opened = through(retry="1s")
    name = object_name("bad.east.example")
    proxy.fail(lambda method, path: method == "PATCH" and name in path, 500)
    services = [imported_service(each) for each in ("first", "bad", "last")]
    outcomes = opened.hooks.registry_apply(changes=[WriteImport(each) for each in services])
    assert [each.status for each in outcomes] == [Status.APPLIED, Status.RETRY, Status.APPLIED]
    assert "500" in outcomes[1].reason
    proxy.heal()
    (outcome,) = opened.hooks.registry_apply(changes=[WriteImport(services[1])])
    assert outcome.status is Status.APPLIED


def test_an_edit_that_came_between_is_looked_at_anew(proxy: FaultProxy, through: Any) -> None:
    opened = through()

    def move(address: str) -> Status:
        service = imported_service("stock", address=address)
        (outcome,) = opened.hooks.registry_apply(changes=[WriteImport(service)])
        return outcome.status

    assert move("203.0.113.7") is Status.APPLIED
    fault = proxy.fail(lambda method, path: method == "PATCH", 409, times=2)
    assert move("203.0.113.8") is Status.APPLIED
    assert fault.met == 2
    proxy.fail(lambda method, path: method == "PATCH", 409)
    assert move("203.0.113.9") is Status.RETRY


def test_a_server_that_takes_no_version_for_what_is_new_is_written_to_all_the_same(
    proxy: FaultProxy, through: Any, cluster: Any
) -> None:
    opened = through()
    fault = proxy.fail(lambda method, path: method == "PATCH", 409, times=2)
    for address in ("203.0.113.7", "203.0.113.8", "203.0.113.9"):
        service = imported_service("stock", address=address)
        (outcome,) = opened.hooks.registry_apply(changes=[WriteImport(service)])
        assert outcome.status is Status.APPLIED, outcome.reason
        assert [each.digest for each in opened.hooks.registry_imports()] == [service.digest]
    assert fault.met == 2
    (entry,) = cluster.all(ENTRIES).values()
    assert [(each["manager"], each["operation"]) for each in entry["metadata"]["managedFields"]] == [
        ("hamlet", "Apply")
    ]
    assert [each["address"] for each in entry["spec"]["endpoints"]] == ["203.0.113.9"]


def test_an_answer_that_is_lost_is_found_written(proxy: FaultProxy, through: Any, cluster: Any) -> None:
    opened = through()
    proxy.fail(lambda method, path: method == "PATCH" and "serviceentries" in path, 0, times=1)
    with pytest.raises(RegistryUnavailable):
        opened.hooks.registry_apply(changes=[WriteImport(imported_service("stock"))])
    (outcome,) = opened.hooks.registry_apply(changes=[WriteImport(imported_service("stock"))])
    assert outcome.status is Status.APPLIED
    assert [each.digest != "" for each in opened.hooks.registry_imports()] == [True]


def test_a_list_that_expires_between_two_pages_begins_anew(proxy: FaultProxy, through: Any) -> None:
    opened = through()
    services = [imported_service(f"s-{number}") for number in range(30)]
    opened.hooks.registry_apply(changes=[WriteImport(each) for each in services])
    fault = proxy.fail(lambda method, path: "limit=" in path and "serviceentries" in path, 410, times=1)
    assert len(opened.hooks.registry_imports()) == 30
    assert fault.met == 1


def test_a_definition_that_is_removed_withdraws_nothing_and_its_return_brings_imports_back(
    own_kubernetes: OwnKubernetes, cluster: Any, open_registry: Callable[..., Any]
) -> None:
    cluster.put(ENTRIES, "vm", MACHINE)
    machine, plain = f"vm.{cluster.namespace}", cluster.add_service("orders")
    opened = open_registry(cluster)
    stock = imported_service("stock")
    opened.hooks.registry_apply(changes=[WriteImport(stock)])
    watching = opened.watch()
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/serviceentries.networking.istio.io"
    own_kubernetes.do("DELETE", path)
    try:
        error = watching.failed(SECONDS)
        assert isinstance(error, RegistryUnavailable)
        assert "serviceentries" in str(error)
        assert set(watching.state) == {machine, plain}
        assert removals(watching) == []
        until(lambda: own_kubernetes.call("GET", path).status == 404)
        until(lambda: "serviceentries" not in own_kubernetes.resources("/apis/networking.istio.io/v1"))
        with pytest.raises(RegistryUnavailable, match="does not serve"):
            until(lambda: opened.hooks.registry_imports() is None)
        with pytest.raises(RegistryUnavailable):
            opened.hooks.registry_apply(changes=[WriteImport(stock)])
        findings = {each.subject: each for each in opened.hooks.registry_check()}
        assert findings["CRD serviceentries.networking.istio.io"].severity is Severity.ERROR
    finally:
        own_kubernetes.install_crds()
    assert opened.hooks.registry_imports()[0].digest == "", "the entry is gone, its rule still stands"
    (outcome,) = opened.hooks.registry_apply(changes=[WriteImport(stock)])
    assert outcome.status is Status.APPLIED
    assert [each.digest for each in opened.hooks.registry_imports()] == [stock.digest]


def test_a_token_that_was_revoked_is_an_outage_and_a_new_one_in_its_file_ends_it(
    own_kubernetes: OwnKubernetes, cluster: Any, open_registry: Callable[..., Any], tmp_path: Any
) -> None:
    name = cluster.add_service("orders")
    file = tmp_path / "token"
    file.write_text(cluster.administrator("agent"))
    options = {"kubeconfig": None, "server": own_kubernetes.server, "ca": own_kubernetes.ca, "token_file": file}
    opened = open_registry(cluster, **options, watch="1s")
    watching = opened.watch()
    cluster.revoke("agent")
    error = watching.failed(SECONDS)
    assert isinstance(error, RegistryUnavailable)
    assert "401" in str(error)
    assert "renew" in error.mend
    assert set(watching.state) == {name}
    with pytest.raises(RegistryUnavailable, match="401"):
        opened.hooks.registry_apply(changes=[WriteImport(imported_service("stock"))])
    (finding,) = [each for each in opened.hooks.registry_check() if each.severity is Severity.ERROR]
    assert "401" in finding.message
    file.write_text(cluster.administrator("agent"))
    assert set(opened.watch().state) == {name}


def test_what_changes_while_the_collections_are_still_being_listed_is_not_lost(
    proxy: FaultProxy, through: Any, cluster: Any, fresh_namespace: str
) -> None:
    opened = through(namespaces=(cluster.namespace, fresh_namespace))
    held = proxy.fail(lambda _, path: "limit=" in path and "endpointslices" in path, HOLD)
    watching = Watching(opened.hooks)
    until(lambda: held.met == 2 and proxy.watches == 2 * (WATCHES - 1), "all but the slices are followed")
    name = cluster.add_service("early")
    cluster.put(ENTRIES, "vm", MACHINE)
    proxy.heal()
    try:
        state = watching.until(lambda state: {name, f"vm.{cluster.namespace}"} <= set(state), SECONDS)
        assert state[name].endpoints
    finally:
        watching.end(30)


def test_a_bookmark_moves_a_watch_on_in_which_nothing_happens(
    proxy: FaultProxy, through: Any, cluster: Any, fresh_namespace: str
) -> None:
    name = cluster.add_service("quiet")
    watching = through(watch="4s").watch()
    numbers = itertools.count()

    def versions() -> list[str]:
        watched = [path for method, path in proxy.requests if "/services?" in path and "watch=true" in path]
        return [parse_qs(urlsplit(path).query)["resourceVersion"][0] for path in watched]

    def moved() -> bool:
        # Again and again, as the server has no bookmark for what happened before a watch stood.
        body = {"metadata": {"name": f"busy-{next(numbers)}"}, "spec": {"ports": [{"port": 80}]}}
        cluster.kubernetes.do("POST", SERVICES.format(namespace=fresh_namespace), body)
        threading.Event().wait(0.3)
        return len(set(versions())) > 1

    until(moved, "a watch that is opened anew begins where the bookmark was")
    assert watching.batches == watching.batches[:1], "and nothing was told"
    assert set(watching.state) == {name}


def test_no_more_imports_are_written_at_a_time_than_is_set(proxy: FaultProxy, through: Any) -> None:
    opened = through(concurrency=3)
    services = [imported_service(f"s-{number}") for number in range(60)]
    outcomes = opened.hooks.registry_apply(changes=[WriteImport(each) for each in services])
    assert {each.status for each in outcomes} == {Status.APPLIED}
    assert 1 < proxy.most_under_way["PATCH"] <= 3

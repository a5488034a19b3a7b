"""Consul in west, Kubernetes with Istio's resources in east: what is registered in one is called from the other.

The configurations are those of docs/tutorial-consul-istio.md. A workload has no way to the other site but through
the egress of its own mesh. No sidecar runs in east: its workload reads the ServiceEntry as one would.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial

import pytest
import yaml

from tests.mixed import tutorial
from tests.mixed.federation import ENTRIES, PATIENCE, RULES, East, West
from tests.mixed.resolving import by_dns, by_service_entry
from tests.mixed.sites import Served, Site, http_service, tcp_service
from tests.support.processes import wait_until

pytestmark = [pytest.mark.xdist_group("mixed"), pytest.mark.timeout(300)]
INGRESS_PORT = 15443


def soon(check: Callable[[], object], what: str) -> None:
    """Wait for what the two agents will bring about."""
    wait_until(check, what=what, within=PATIENCE)


def found_by_dns(site: Site, name: str) -> tuple[str, int]:
    """Where Consul's DNS leads to, once it does."""
    found: tuple[str, int] = wait_until(lambda: by_dns(site, name), what=f"{name} in Consul's DNS", within=PATIENCE)
    return found


def unknown_to_dns(site: Site, name: str) -> bool:
    return by_dns(site, name) is None


def stands(east: East, wanted: bool) -> bool:
    return bool(east.objects(ENTRIES)) is wanted


def refuses(site: Site, address: str, port: int) -> bool:
    return not site.connects(address, port)


def ended(connection: socket.socket) -> bool:
    """Whether the other side ends it, in whatever way, and says nothing more."""
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True


def came_in_by(site: Site, *services: Served) -> set[str]:
    """From where these were called, by others than their own workload."""
    return {address for served in services for address in served.connections} - {site.address}


def unreachable_but_by_gateways(site: Site, other: Site, served: Served) -> None:
    """A workload of `site` reaches neither the service in `other` nor its ingress; the one next door reaches it."""
    assert not site.connects(served.address, served.port)
    assert not site.connects(other.wan, INGRESS_PORT)
    assert other.connects(served.address, served.port)
    assert set(served.connections) <= {other.address}


def test_a_service_of_consul_is_called_by_a_workload_of_kubernetes_until_it_is_deregistered(
    federation: tuple[West, East],
) -> None:
    west, east = federation
    with (
        http_service(west.site, "orders of west", 8080) as orders,
        tcp_service(west.site, "ledger of west") as ledger,
    ):
        for served in (orders, ledger):
            unreachable_but_by_gateways(east.site, west.site, served)
        west.register("orders", orders, "http")
        west.register("ledger", ledger, "tcp")

        entry = east.entry("orders-west-example")
        assert entry["metadata"]["labels"]["hamlet.federation/peer"] == "west"
        web = by_service_entry(entry, "orders.west.example")
        assert web[0] == east.site.gateway, "east's own egress"
        assert east.site.get(*web, "orders.west.example") == "orders of west, asked for orders.west.example"
        raw = by_service_entry(east.entry("ledger-west-example"), "ledger.west.example")
        assert east.site.say(*raw, b"how much?") == b"ledger of west: how much?"
        assert came_in_by(west.site, orders, ledger) == {west.site.gateway}
        modes = [each["spec"]["trafficPolicy"]["tls"]["mode"] for each in east.objects(RULES).values()]
        assert set(modes) <= {"DISABLE"}, "a sidecar would speak TLS to the egress, which speaks it itself"

        with east.site.workload.entered():
            standing = socket.create_connection(raw, timeout=PATIENCE)
        with standing:
            standing.sendall(b"stay\n")
            assert standing.recv(100) == b"ledger of west: stay\n"
            west.deregister("orders")
            west.deregister("ledger")
            soon(lambda: not east.objects(ENTRIES), "no ServiceEntry is left")
            assert ended(standing), "the connection that stood is ended"
        soon(partial(refuses, east.site, *web), "the egress does not listen for orders")
        soon(partial(refuses, east.site, *raw), "the egress does not listen for ledger")
        assert east.objects(RULES) == {}
        assert west.site.say(ledger.address, ledger.port, b"still?") == b"ledger of west: still?", "it runs on"


def test_a_service_of_kubernetes_is_found_by_consuls_dns_and_called_until_it_is_deleted(
    federation: tuple[West, East],
) -> None:
    west, east = federation
    with http_service(east.site, "stock of east", 8080) as stock, tcp_service(east.site, "wire of east") as wire:
        for served in (stock, wire):
            unreachable_but_by_gateways(west.site, east.site, served)
        assert by_dns(west.site, "stock-shop-east-example") is None
        east.expose("stock", stock, "http", 80, yaml.safe_load(tutorial.files()["east/stock.yaml"]))
        east.expose("wire", wire, "tcp", 7000)

        web, raw = (found_by_dns(west.site, f"{name}-shop-east-example") for name in ("stock", "wire"))
        assert {"stock-shop-east-example", "wire-shop-east-example"} <= west.catalog().keys()
        assert (web[0], raw[0]) == (west.site.gateway, west.site.gateway), "west's own egress"
        host = "stock.shop.east.example"
        assert west.site.get(*web, host) == f"stock of east, asked for {host}"
        assert west.site.say(*raw, b"hello") == b"wire of east: hello"
        assert came_in_by(east.site, stock, wire) == {east.site.gateway}

        east.withdraw("stock")
        east.withdraw("wire")
        for name, (address, port) in (("stock", web), ("wire", raw)):
            soon(partial(unknown_to_dns, west.site, f"{name}-shop-east-example"), f"{name} leaves the DNS")
            soon(partial(refuses, west.site, address, port), f"the egress does not listen for {name}")
        assert "stock-shop-east-example" not in west.catalog()
        assert east.site.get(stock.address, stock.port, host), "it runs on"


def test_what_does_not_ask_to_be_published_stays_at_home(federation: tuple[West, East]) -> None:
    west, east = federation
    with http_service(west.site, "payroll of west") as payroll, http_service(west.site, "news of west") as news:
        with west.site.host.entered():
            west.consul.register("payroll", Address=payroll.address, Port=payroll.port)
        west.register("news", news, "http")  # after it, so that payroll has been looked at when this arrives
        entry = east.entry("news-west-example")
        place = by_service_entry(entry, "news.west.example")
        assert east.site.get(*place, "news.west.example")
        assert set(east.objects(ENTRIES)) == {"news-west-example"}
        assert not east.site.get(*place, "payroll.west.example").startswith("payroll"), (
            "the SNI decides, not the Host"
        )
        for name in ("payroll", "news"):
            west.deregister(name)
        soon(lambda: not east.objects(ENTRIES), "no ServiceEntry is left")


def test_a_check_finds_nothing_wrong_with_what_the_tutorial_sets_up(federation: tuple[West, East]) -> None:
    west, east = federation
    with http_service(west.site, "orders of west") as orders, http_service(east.site, "stock of east") as stock:
        west.register("orders", orders, "http")
        east.expose("stock", stock, "http", 80)
        east.entry("orders-west-example")
        found_by_dns(west.site, "stock-shop-east-example")
        findings = [*west.agent.ask("check")["findings"], *east.agent.ask("check")["findings"]]
    assert len(findings) > 30
    assert [each for each in findings if each["severity"] != "ok"] == []


def test_a_service_without_a_healthy_instance_is_out_of_reach_until_it_has_one(federation: tuple[West, East]) -> None:
    west, east = federation
    with http_service(west.site, "orders of west") as orders:
        for status, reached in (("passing", True), ("critical", False), ("passing", True)):
            west.register("orders", orders, "http", status=status)
            soon(partial(stands, east, reached), f"whether there is an entry for {status}: {reached}")
            if reached:
                place = by_service_entry(east.entry("orders-west-example"), "orders.west.example")
                assert east.site.get(*place, "orders.west.example")


def test_what_the_brake_of_the_consumer_holds_is_refused_by_the_owner_all_the_same(
    federation: tuple[West, East],
) -> None:
    west, east = federation
    names = [f"many{number}" for number in range(12)]  # ten may go in a minute, whatever their share
    with http_service(west.site, "many") as served:
        for name in names:
            west.register(name, served, "http")
        hosts = {f"{name}-west-example": f"{name}.west.example" for name in names}
        places = {name: by_service_entry(east.entry(name), host) for name, host in hosts.items()}
        assert all(east.site.get(*places[name], host) for name, host in hosts.items())
        for name in names:
            west.deregister(name)
        soon(lambda: east.agent.peer("west")["imports"]["held"], "some are held")
        held = set(east.agent.peer("west")["imports"]["held"])
        soon(lambda: not any(east.site.get(*places[name], host) for name, host in hosts.items()), "none is called")
        assert {host for name, host in hosts.items() if name in east.objects(ENTRIES)} >= held, "their entries stand"
        east.agent.ask("confirm", peer="west")
        soon(lambda: not east.objects(ENTRIES), "no ServiceEntry is left")

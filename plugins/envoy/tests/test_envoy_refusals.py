"""Who is turned away, at the ingress and by the egress, and what is refused to the core."""

from __future__ import annotations

import dataclasses
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from hamlet_core.api import GatewayUnavailable, PeerTrust, Protocol, Refused
from hamlet_core.api.testing.minting import Mint
from tests.backends.envoy import DEADLINE, SIGNING, Mesh, Server, send, wait_for

MakeMesh = Callable[..., Mesh]
MakeServer = Callable[..., Server]

EAST, NORTH = Mint("east"), Mint("north")


def trusted(name: str, mint: Mint, domain: str | None = "") -> PeerTrust:
    return PeerTrust(peer=name, trust_domain=f"{name}.example" if domain == "" else domain, bundle=mint.pem.decode())


@pytest.fixture
def west(make_mesh: MakeMesh) -> Mesh:
    mesh = make_mesh("west")
    mesh.trust(trusted("east", EAST), trusted("north", NORTH))
    return mesh


def caller(mint: Mint, uri: str, **more: object):
    return mint.leaf(uri, **{"extensions": SIGNING, **more})


def test_only_workloads_of_a_mesh_that_a_service_is_published_to_reach_it(west: Mesh, server: MakeServer) -> None:
    greeter = server(greeting=b"welcome ")
    west.gateway.gateway_publish(
        [west.publishes("orders", greeter, to=["east"]), west.publishes("stock", greeter, to=["east", "north"])]
    )
    orders, stock = "orders.west.example", "stock.west.example"
    of_east, of_north = caller(EAST, "spiffe://east.example/a"), caller(NORTH, "spiffe://north.example/a")
    assert west.ask(orders, of_east).startswith(b"welcome")
    assert west.ask(stock, of_east).startswith(b"welcome")
    assert west.ask(stock, of_north).startswith(b"welcome")
    wait_for(lambda: greeter.received == 3 * b"hello", "end of what the allowed ones sent")
    reached, received = greeter.accepted, greeter.received
    refused = {
        "a mesh that it is not published to": west.ask(orders, of_north),
        "no certificate": west.ask(orders, None),
        "an unknown authority": west.ask(orders, caller(Mint("none"), "spiffe://east.example/a")),
        "another's trust domain, by a trusted authority": west.ask(orders, caller(NORTH, "spiffe://east.example/a")),
        "a foreign trust domain": west.ask(stock, caller(EAST, "spiffe://far.example/a")),
        "a trust domain that begins alike": west.ask(orders, caller(EAST, "spiffe://east.example.evil/a")),
        "no SPIFFE ID": west.ask(orders, EAST.leaf(dns=["east.example"], extensions=SIGNING)),
        "an expired certificate": west.ask(
            orders, caller(EAST, "spiffe://east.example/a", end=EAST.certificate.not_valid_before_utc)
        ),
        "an unknown name": west.ask("nothing.west.example", of_east),
        "the name of nobody": west.ask("nobody.invalid", of_east),
    }
    assert refused == dict.fromkeys(refused, b"")
    assert (greeter.accepted, greeter.received) == (reached, received), "not even a connection reached the service"


def test_no_name_at_all_and_no_tls_lead_nowhere(west: Mesh, server: MakeServer) -> None:
    echo = server()
    west.gateway.gateway_publish([west.publishes("orders", echo, to=["east"])])
    assert west.ask(None, caller(EAST, "spiffe://east.example/a")) == b""
    with socket.create_connection(("127.0.0.1", west.port), timeout=DEADLINE) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with suppress(ConnectionResetError):
            assert plain.recv(100) == b""
    assert echo.accepted == 0


def test_an_older_tls_than_1_3_is_refused(west: Mesh, server: MakeServer) -> None:
    west.gateway.gateway_publish([west.publishes("orders", server(), to=["east"])])
    leaf = caller(EAST, "spiffe://east.example/a")
    with west.connect("orders.west.example", leaf) as connection:
        assert connection.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        west.connect("orders.west.example", leaf, newest=ssl.TLSVersion.TLSv1_2)


def test_no_session_is_given_that_would_outlive_trust(west: Mesh, server: MakeServer) -> None:
    west.gateway.gateway_publish([west.publishes("orders", server(), to=["east"])])
    with west.connect("orders.west.example", caller(EAST, "spiffe://east.example/a")) as connection:
        connection.sendall(b"x")
        assert connection.recv(10) == b"x"  # tickets come before the first answer
        assert connection.session is None or not connection.session.has_ticket


def test_a_withdrawn_service_cannot_be_called_and_its_connections_end_within_seconds(
    west: Mesh, server: MakeServer
) -> None:
    echo = server()
    both = [west.publishes("orders", echo, to=["east"]), west.publishes("stock", echo, to=["east"])]
    west.gateway.gateway_publish(both)
    leaf = caller(EAST, "spiffe://east.example/a")
    with west.connect("orders.west.example", leaf) as orders, west.connect("stock.west.example", leaf) as stock:
        for connection in (orders, stock):
            connection.sendall(b"1")
            assert connection.recv(10) == b"1"
        west.gateway.gateway_publish(both[1:])
        assert west.ask("orders.west.example", leaf) == b""
        assert orders.recv(10) == b"", "cut while it did nothing"
        stock.sendall(b"2")
        assert stock.recv(10) == b"2", "the other service's stands"


def test_a_peer_that_a_service_is_no_longer_published_to_is_cut_off(west: Mesh, server: MakeServer) -> None:
    echo = server()
    west.gateway.gateway_publish([west.publishes("orders", echo, to=["east", "north"])])
    leaf = caller(NORTH, "spiffe://north.example/a")
    with west.connect("orders.west.example", leaf) as standing:
        standing.sendall(b"1")
        assert standing.recv(10) == b"1"
        west.gateway.gateway_publish([west.publishes("orders", echo, to=["east"])])
        assert west.ask("orders.west.example", leaf) == b""
        assert standing.recv(10) == b""
    assert west.ask("orders.west.example", caller(EAST, "spiffe://east.example/a")) == b"hello"


@pytest.mark.parametrize(
    ("presented", "sans", "answer"),
    [
        ("spiffe://west.example/gateway", ["spiffe://west.example/gateway"], b"hello"),
        ("spiffe://west.example/gateway", ["spiffe://other.example/x", "*.west.example"], b"hello"),
        ("spiffe://west.example/gateway", ["spiffe://west.example/other"], b""),
        ("spiffe://west.example/gateway", ["spiffe://west.example/gatewa"], b""),
        ("spiffe://west.example/gateway", ["orders.west.example.evil"], b""),
    ],
)
def test_the_egress_calls_only_who_presents_a_name_of_the_service(
    make_mesh: MakeMesh, server: MakeServer, presented: str, sans: list[str], answer: bytes
) -> None:
    west, east = make_mesh("west"), make_mesh("east")
    west.trust(east.peer(), own=west.mint.leaf(presented, dns=["*.west.example"], extensions=SIGNING))
    east.trust(west.peer())
    west.gateway.gateway_publish([west.publishes("orders", server(), to=["east"])])
    (port,) = east.imports(west.offers("orders", sans=sans))
    assert send(port) == answer


def test_the_egress_believes_nobody_but_the_owners_own_authority(make_mesh: MakeMesh, server: MakeServer) -> None:
    west, east = make_mesh("west"), make_mesh("east")
    # the ingress presents the right name, signed by the authority of another peer
    west.trust(east.peer(), own=NORTH.leaf("spiffe://west.example/gateway", extensions=SIGNING))
    east.trust(west.peer(), trusted("north", NORTH))
    echo = server()
    west.gateway.gateway_publish([west.publishes("orders", echo, to=["east"])])
    (port,) = east.imports(west.offers("orders"))
    assert send(port) == b""
    assert echo.received == b""


def test_what_cannot_be_done_is_refused_with_a_sentence_and_the_rest_is_done(west: Mesh, server: MakeServer) -> None:
    echo = server()
    west.trust(trusted("east", EAST), trusted("plain", NORTH, domain=None))
    routes = [
        west.publishes("orders", echo, to=["east"]),
        west.publishes("stock", echo, to=["plain"]),
        west.publishes("shop", echo, to=["nobody"]),
        dataclasses.replace(west.publishes("odd", echo, to=["east"]), sni="not a name"),
    ]
    refused = west.gateway.gateway_publish(routes)
    assert refused.keys() == {"stock.west.example", "shop.west.example", "not a name"}
    assert "trust domain" in refused["stock.west.example"].reason
    assert west.ask("orders.west.example", caller(EAST, "spiffe://east.example/a")) == b"hello"

    def offered(name: str, **more: object):
        service = west.offers(name).service
        return dataclasses.replace(west.offers(name), peer="east", service=dataclasses.replace(service, **more))

    good, bare, empty = offered("a"), offered("b", sans=()), offered("c", instances=())
    unknown = dataclasses.replace(offered("d"), peer="nobody")
    answers = west.gateway.gateway_import((good, bare, empty, unknown), ())
    assert not isinstance(answers[good.key], Refused)
    for route, word in ((bare, "SANs"), (empty, "instances"), (unknown, "bundle")):
        answer = answers[route.key]
        assert isinstance(answer, Refused)
        assert word in answer.reason


def test_a_port_more_than_there_are_is_refused(make_mesh: MakeMesh) -> None:
    east = make_mesh("east", ports=2)
    east.trust(trusted("north", NORTH))
    offers = [dataclasses.replace(east.offers(name), peer="north") for name in ("a", "b", "c", "d", "e")]
    answers = east.gateway.gateway_import(offers, ())
    refused = [answer for answer in answers.values() if isinstance(answer, Refused)]
    assert len(refused) >= 3
    assert all("egress.ports" in answer.reason for answer in refused)


def test_routes_before_trust_are_for_later(make_mesh: MakeMesh, server: MakeServer) -> None:
    west = make_mesh("west")
    with pytest.raises(GatewayUnavailable, match="no certificate"):
        west.gateway.gateway_publish([west.publishes("orders", server(), to=["east"])])


def test_a_removed_peer_is_cut_off_within_seconds_and_others_are_not_touched(west: Mesh, server: MakeServer) -> None:
    echo = server()
    west.gateway.gateway_publish(
        [west.publishes("orders", echo, to=["east", "north"]), west.publishes("stock", echo, to=["north"])]
    )
    of_east, of_north = caller(EAST, "spiffe://east.example/a"), caller(NORTH, "spiffe://north.example/a")
    with west.connect("orders.west.example", of_east) as gone, west.connect("stock.west.example", of_north) as stays:
        for connection in (gone, stays):
            connection.sendall(b"1")
            assert connection.recv(10) == b"1"
        west.trust(trusted("north", NORTH))
        assert west.ask("orders.west.example", of_east) == b""
        assert west.ask("orders.west.example", of_north) == b"hello"
        assert gone.recv(10) == b""
        stays.sendall(b"2")
        assert stays.recv(10) == b"2"


def test_an_authority_that_a_peer_replaces_is_no_longer_believed_nor_are_its_connections(
    west: Mesh, server: MakeServer
) -> None:
    echo, new = server(), Mint("the next of east")
    west.gateway.gateway_publish([west.publishes("orders", echo, to=["east"])])
    old_leaf, new_leaf = caller(EAST, "spiffe://east.example/a"), caller(new, "spiffe://east.example/a")
    both = dataclasses.replace(trusted("east", EAST), bundle=(EAST.pem + new.pem).decode())
    with west.connect("orders.west.example", old_leaf) as standing:
        standing.sendall(b"1")
        assert standing.recv(10) == b"1"
        assert west.ask("orders.west.example", new_leaf) == b""
        west.trust(both)
        assert west.ask("orders.west.example", new_leaf) == b"hello"
        assert west.ask("orders.west.example", old_leaf) == b"hello"
        time.sleep(1.5)  # longer than the drain: an authority more ends no connection
        standing.sendall(b"2")
        assert standing.recv(10) == b"2"
        west.trust(trusted("east", new))
        assert west.ask("orders.west.example", old_leaf) == b""
        assert west.ask("orders.west.example", new_leaf) == b"hello"
        assert standing.recv(10) == b""


def test_a_removed_owner_is_no_longer_called(make_mesh: MakeMesh, server: MakeServer) -> None:
    west, east = make_mesh("west"), make_mesh("east")
    west.trust(east.peer())
    east.trust(west.peer())
    west.gateway.gateway_publish([west.publishes("orders", server(), to=["east"])])
    offer = west.offers("orders")
    (port,) = east.imports(offer)
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as standing:
        standing.sendall(b"1")
        assert standing.recv(10) == b"1"
        east.trust()
        assert wait_for(lambda: send(port) == b"", "end of calls")
        assert standing.recv(10) == b""
    east.trust(west.peer())
    assert send(port) == b"hello", "with trust comes the route, at its port"


def test_http_connections_end_too_when_requests_are_passed_on_one_by_one(
    make_mesh: MakeMesh, server: MakeServer
) -> None:
    west = make_mesh("west", ingress={"caller_header": True})
    west.trust(trusted("east", EAST))
    west.gateway.gateway_publish([west.publishes("shop", server(), to=["east"], protocol=Protocol.HTTP)])
    with west.connect("shop.west.example", caller(EAST, "spiffe://east.example/a")) as standing:
        standing.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\n")  # a request that is not at its end
        west.gateway.gateway_publish([])
        while standing.recv(65536):
            pass
    assert west.ask("shop.west.example", caller(EAST, "spiffe://east.example/a")) == b""

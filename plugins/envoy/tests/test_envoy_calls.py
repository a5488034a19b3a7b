"""Calls through both gateways: egress, mTLS, ingress, service."""

from __future__ import annotations

import ast
import dataclasses
import http.client
import http.server
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from hamlet_core.api import Endpoint, Instance, Protocol, Route
from tests.backends.envoy import DEADLINE, Mesh, Server, send, wait_for
from tests.support.ports import free_port

MakeMesh = Callable[..., Mesh]
MakeServer = Callable[..., Server]


@pytest.fixture
def two(make_mesh: MakeMesh) -> tuple[Mesh, Mesh]:
    west, east = make_mesh("west"), make_mesh("east")
    west.trust(east.peer())
    east.trust(west.peer())
    return west, east


class _Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.path} for {self.headers['Host']}".encode()
        if self.path == "/headers":
            body = repr(sorted((name.lower(), value) for name, value in self.headers.items())).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[Endpoint]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hello)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Endpoint(address="127.0.0.1", port=server.server_address[1])
    server.shutdown()
    server.server_close()


def published(mesh: Mesh, name: str, endpoint: Endpoint, protocol: Protocol) -> None:
    server = type("At", (), {"endpoint": endpoint})()
    route = mesh.publishes(name, server, to=["east"], protocol=protocol)
    assert mesh.gateway.gateway_publish((route,)) == {}


def test_bytes_cross_from_one_mesh_to_the_other(two: tuple[Mesh, Mesh], server: MakeServer) -> None:
    west, east = two
    assert west.gateway.gateway_publish((west.publishes("orders", server(), to=["east"]),)) == {}
    (port,) = east.imports(west.offers("orders"))
    assert send(port) == b"hello"


def test_an_http_request_crosses_with_its_host_as_it_was(two: tuple[Mesh, Mesh], web: Endpoint) -> None:
    west, east = two
    published(west, "shop", web, Protocol.HTTP)
    (port,) = east.imports(west.offers("shop", protocol="HTTP"))
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    for path in ("/one", "/two"):  # on one connection
        client.request("GET", path, headers={"Host": "shop.west.example"})
        assert client.getresponse().read() == f"{path} for shop.west.example".encode()
    client.close()


@pytest.mark.parametrize("protocol", [Protocol.GRPC, Protocol.HTTP2])
def test_a_grpc_call_crosses_also_as_plain_http2(two: tuple[Mesh, Mesh], protocol: Protocol) -> None:
    west, east = two
    handler = grpc.method_handlers_generic_handler(
        "demo.Echo", {"Say": grpc.unary_unary_rpc_method_handler(lambda request, _: b"said " + request)}
    )
    serving = grpc.server(futures.ThreadPoolExecutor(2), handlers=(handler,))
    place = Endpoint(address="127.0.0.1", port=serving.add_insecure_port("127.0.0.1:0"))
    serving.start()
    try:
        published(west, "talk", place, protocol)
        (port,) = east.imports(west.offers("talk", protocol=str(protocol)))
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert channel.unary_unary("/demo.Echo/Say")(b"this", timeout=DEADLINE) == b"said this"
    finally:
        serving.stop(None).wait()


@pytest.mark.parametrize("protocol", [Protocol.TLS, Protocol.MTLS])
def test_the_tls_of_a_service_itself_crosses_from_end_to_end(
    two: tuple[Mesh, Mesh], tmp_path: Path, protocol: Protocol
) -> None:
    """Within the gateways' TLS: the caller sees the service's own certificate, and the service the caller's."""
    west, east = two
    service = west.leaf("vault", dns=["vault.west.example"])
    caller = east.leaf("caller", dns=["caller.east.example"])
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(*service.write(tmp_path / "service"))
    calling = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    calling.load_verify_locations(cadata=west.mint.pem.decode())
    if protocol is Protocol.MTLS:
        serving.verify_mode = ssl.CERT_REQUIRED
        serving.load_verify_locations(cadata=east.mint.pem.decode())
        calling.load_cert_chain(*caller.write(tmp_path / "caller"))
    seen: list[bytes | None] = []

    def answer(listener: socket.socket) -> None:
        plain, _ = listener.accept()
        with serving.wrap_socket(plain, server_side=True) as stream:
            seen.append(stream.getpeercert(binary_form=True))
            stream.sendall(b"secret " + stream.recv(100))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE)
        thread = threading.Thread(target=answer, args=(listener,), daemon=True)
        thread.start()
        place = Endpoint(address="127.0.0.1", port=listener.getsockname()[1])
        published(west, "vault", place, protocol)
        (port,) = east.imports(west.offers("vault", protocol=str(protocol)))
        with (
            socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as plain,
            calling.wrap_socket(plain, server_hostname="vault.west.example") as stream,
        ):
            assert stream.getpeercert(binary_form=True) == service.certificate.public_bytes(Encoding.DER)
            stream.sendall(b"word")
            assert stream.recv(100) == b"secret word"
        thread.join(DEADLINE)
    own = caller.certificate.public_bytes(Encoding.DER)
    assert seen == [own if protocol is Protocol.MTLS else None]


def test_large_bodies_and_the_end_of_one_direction_cross(two: tuple[Mesh, Mesh], server: MakeServer) -> None:
    west, east = two
    west.gateway.gateway_publish((west.publishes("orders", server(), to=["east"]),))
    (port,) = east.imports(west.offers("orders"))
    sent, received = b"x" * 3_000_000, b""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        writer = threading.Thread(target=lambda: (connection.sendall(sent), connection.shutdown(socket.SHUT_WR)))
        writer.start()
        while piece := connection.recv(1 << 20):
            received += piece
        writer.join()
    assert received == sent


def test_a_server_that_speaks_first_is_heard(two: tuple[Mesh, Mesh], server: MakeServer) -> None:
    west, east = two
    west.gateway.gateway_publish((west.publishes("mail", server(greeting=b"220 ready"), to=["east"]),))
    (port,) = east.imports(west.offers("mail"))
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        assert connection.recv(100) == b"220 ready"


def test_each_port_of_a_service_has_its_own_way(two: tuple[Mesh, Mesh], server: MakeServer) -> None:
    west, east = two
    routes = []
    for name, number in (("web", 80), ("rpc", 90)):
        route = west.publishes(f"{name}.shop", server(name), to=["east"], port=number)
        routes.append(route)
    assert west.gateway.gateway_publish(routes) == {}
    offer = west.offers("shop")
    instances = tuple(
        Instance(id=name, protocol="TCP", metadata={"sni": f"{name}.shop.west.example"}) for name in ("web", "rpc")
    )
    offer = dataclasses.replace(offer, service=dataclasses.replace(offer.service, instances=instances))
    answer = east.gateway.gateway_import((offer,), ())[offer.key]
    assert isinstance(answer, Route)
    ports = {name: endpoints[0].port for name, endpoints in answer.endpoints.items()}
    assert send(ports["web"]) == b"webhello"
    assert send(ports["rpc"]) == b"rpchello"


@pytest.mark.parametrize("subset", ["", "v1"])
def test_istios_names_lead_to_the_port_of_the_service(
    two: tuple[Mesh, Mesh], server: MakeServer, subset: str
) -> None:
    west, east = two
    west.gateway.gateway_publish(
        [
            west.publishes("orders", server("eighty"), to=["east"]),
            west.publishes("old.orders", server("other"), to=["east"], port=81),
        ]
    )
    name = f"outbound_.80_.{subset}_.orders.west.example"
    (port,) = east.imports(west.offers("orders", sni=name))
    assert send(port) == b"eightyhello"
    for wrong in ("outbound_.81_._.orders.west.example", "outbound_.80_._.x.orders.west.example"):
        assert west.ask(wrong, east.own) == b""


def test_several_endpoints_take_turns_and_a_dead_one_is_left_out(two: tuple[Mesh, Mesh], server: MakeServer) -> None:
    west, east = two
    first, second = server("a"), server("b")
    west.gateway.gateway_publish((west.publishes("orders", first, second, to=["east"]),))
    (port,) = east.imports(west.offers("orders"))
    assert {send(port) for _ in range(6)} == {b"ahello", b"bhello"}
    second.close()
    assert [send(port) for _ in range(10)] == [b"ahello"] * 10


def test_a_dead_ingress_address_costs_no_call(two: tuple[Mesh, Mesh], server: MakeServer) -> None:
    west, east = two
    west.gateway.gateway_publish((west.publishes("orders", server(), to=["east"]),))
    dead = Endpoint(address="127.0.0.1", port=free_port())
    alive = Endpoint(address="127.0.0.1", port=west.port)
    (port,) = east.imports(west.offers("orders", endpoints=(dead, alive)))
    assert [send(port) for _ in range(10)] == [b"hello"] * 10


def test_an_address_that_is_a_name_is_looked_up(two: tuple[Mesh, Mesh], server: MakeServer) -> None:
    west, east = two
    west.gateway.gateway_publish((west.publishes("orders", server(), to=["east"]),))
    named = Endpoint(address="localhost", port=west.port)
    (port,) = east.imports(west.offers("orders", endpoints=(named,)))
    wait_for(lambda: send(port) == b"hello", "answer by way of a name")


def test_a_new_service_and_new_endpoints_disturb_no_standing_connection(
    two: tuple[Mesh, Mesh], server: MakeServer
) -> None:
    west, east = two
    orders = west.publishes("orders", server("old "), to=["east"])
    west.gateway.gateway_publish((orders,))
    (port,) = east.imports(west.offers("orders"))
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        connection.sendall(b"1")
        assert connection.recv(10) == b"old 1"
        moved = west.publishes("orders", server("new "), to=["east"])
        west.gateway.gateway_publish((moved, west.publishes("stock", server(), to=["east"])))
        east.imports(west.offers("orders"), west.offers("stock"))
        wait_for(lambda: send(port, b"2") == b"new 2", "call to the new endpoint")
        connection.sendall(b"3")
        assert connection.recv(10) == b"old 3"


def test_what_returns_is_in_force(two: tuple[Mesh, Mesh], server: MakeServer) -> None:
    west, east = two
    echo = server()
    for turn in range(8):
        names = [f"s{turn}", f"s{turn + 1}"]
        west.gateway.gateway_publish([west.publishes(name, echo, to=["east"]) for name in names])
        ports = east.imports(*(west.offers(name) for name in names))
        assert [send(port) for port in ports] == [b"hello", b"hello"], turn
        assert west.ask(f"s{turn - 1}.west.example", east.own) == b"", turn


def caller(header: str) -> str:
    """The one URI in the one element of an `x-forwarded-client-cert` header."""
    (uri,) = [value for key, _, value in (part.partition("=") for part in header.split(";")) if key == "URI"]
    assert "," not in header
    return uri


def test_a_service_is_told_who_calls_where_that_is_wanted(
    make_mesh: MakeMesh, web: Endpoint, server: MakeServer
) -> None:
    west, east = make_mesh("west", ingress={"caller_header": True}), make_mesh("east")
    west.trust(east.peer())
    east.trust(west.peer())
    bare = west.publishes("raw", server(), to=["east"])
    http_route = dataclasses.replace(west.publishes("shop", to=["east"], protocol=Protocol.HTTP), endpoints=(web,))
    assert west.gateway.gateway_publish((http_route, bare)) == {}
    port, raw = east.imports(west.offers("shop", protocol="HTTP"), west.offers("raw"))
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    sent = {"Host": "shop.west.example", "X-Forwarded-Client-Cert": "URI=spiffe://west.example/admin"}
    client.request("GET", "/headers", headers=sent)
    headers = dict(ast.literal_eval(client.getresponse().read().decode()))
    client.close()
    assert caller(headers.pop("x-forwarded-client-cert")) == "spiffe://east.example/gateway"
    assert headers.pop("x-forwarded-proto") == "https"
    assert headers == {"host": "shop.west.example", "accept-encoding": "identity"}
    assert send(raw) == b"hello", "what is no HTTP is passed on as it is"


@pytest.mark.parametrize("header", [True, False])
def test_grpc_streams_cross_with_and_without_word_of_the_caller(make_mesh: MakeMesh, header: bool) -> None:
    west, east = make_mesh("west", ingress={"caller_header": header}), make_mesh("east")
    west.trust(east.peer())
    east.trust(west.peer())
    told: list[str | None] = []

    def say(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        told.append(dict(context.invocation_metadata()).get("x-forwarded-client-cert"))
        yield from (b"said " + request for request in requests)

    handler = grpc.method_handlers_generic_handler("demo.Echo", {"Say": grpc.stream_stream_rpc_method_handler(say)})
    serving = grpc.server(futures.ThreadPoolExecutor(2), handlers=(handler,))
    place = Endpoint(address="127.0.0.1", port=serving.add_insecure_port("127.0.0.1:0"))
    serving.start()
    try:
        published(west, "talk", place, Protocol.GRPC)
        (port,) = east.imports(west.offers("talk", protocol="GRPC"))
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            answers = channel.stream_stream("/demo.Echo/Say")(iter((b"a", b"b")), timeout=DEADLINE)
            assert list(answers) == [b"said a", b"said b"]
    finally:
        serving.stop(None).wait()
    (word,) = told
    if header:
        assert word is not None
        assert caller(word) == "spiffe://east.example/gateway"
    else:
        assert word is None


def test_more_connections_than_envoys_own_limit_stand_at_once(two: tuple[Mesh, Mesh], server: MakeServer) -> None:
    west, east = two
    west.gateway.gateway_publish((west.publishes("orders", server(), to=["east"]),))
    (port,) = east.imports(west.offers("orders"))
    with ExitStack() as stack:
        for _ in range(1_100):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=DEADLINE))
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"

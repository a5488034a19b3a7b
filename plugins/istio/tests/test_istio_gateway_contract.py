"""The gateway keeps the contract: calls cross a real Envoy that is led by what stands in a real Kubernetes API."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hamlet_core.api import Endpoint, Protocol, ServicePort
from hamlet_core.api.testing import EgressContract, GatewayBackend, GatewayContract, IngressContract
from hamlet_core.api.testing.gateway_stage import GatewayAgents, ingress_of, word
from hamlet_core.api.testing.gateway_world import SocketConnection
from tests.backends.istio_world import IstioMesh, IstioWorld
from tests.backends.kubernetes import OwnKubernetes

pytestmark = pytest.mark.xdist_group("kubernetes-contracts")


@pytest.fixture(scope="module")
def mesh(own_kubernetes: OwnKubernetes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IstioMesh]:
    """One Envoy for the checks: each leaves the mesh empty."""
    one = IstioMesh.make(own_kubernetes, tmp_path_factory.mktemp("envoy"))
    yield one
    one.close()


class TestIstioGatewayContract(GatewayContract):
    @pytest.fixture
    def backend(self, mesh: IstioMesh, tmp_path: Path) -> Iterator[GatewayBackend]:
        world = IstioWorld(mesh, tmp_path)
        yield world
        world.close()


class TestIstioEgressContract(EgressContract):
    @pytest.fixture
    def backend(self, mesh: IstioMesh, tmp_path: Path) -> Iterator[GatewayBackend]:
        world = IstioWorld(mesh, tmp_path, without="ingress")
        yield world
        world.close()


class TestIstioIngressContract(IngressContract):
    """And calls in are kept to the audience and to the host by what is no part of the contract."""

    @pytest.fixture
    def backend(self, mesh: IstioMesh, tmp_path: Path) -> Iterator[GatewayBackend]:
        world = IstioWorld(mesh, tmp_path, without="egress", http=True)
        yield world
        world.close()

    @pytest.mark.parametrize(
        ("service", "authority", "domain", "heard"),
        [
            ("orders", "east", "east.example", "orders"),
            ("cart", "north", "north.example", "cart"),
            ("orders", "east", "north.example", None),
            ("orders", "east", "east.example.org", None),
            ("orders", "east", "west.example", None),
            ("orders", "north", "east.example", None),
            ("cart", "east", "north.example", None),
        ],
    )
    def test_a_peers_authority_vouches_for_workloads_of_its_own_trust_domain_alone(
        self,
        backend: IstioWorld,
        agents: GatewayAgents,
        service: str,
        authority: str,
        domain: str,
        heard: str | None,
    ) -> None:
        agent = agents.start("east", "north")
        routes = [
            self.way_in("orders", backend.serve("orders"), peers=("east",)),
            self.way_in("cart", backend.serve("cart"), peers=("north",)),
        ]
        assert not agent.gateway_publish(routes=routes)
        uri = f"spiffe://{domain}/till"
        call = backend.call_as(ingress_of(agent), f"{service}.west.example", uri, signed_by=authority)
        assert word(SocketConnection(call)) == heard

    @pytest.mark.parametrize(
        ("host", "uri", "status"),
        [
            ("orders.west.example", "spiffe://east.example/till", "200"),
            ("cart.west.example", "spiffe://east.example/till", "404"),
            ("orders.west.example", "spiffe://north.example/till", "403"),
        ],
    )
    def test_requests_are_led_by_the_host_they_ask_for(
        self, backend: IstioWorld, agents: GatewayAgents, host: str, uri: str, status: str
    ) -> None:
        agent = agents.start("east")
        with site() as endpoint:
            routes = [
                replace(
                    self.way_in(each, endpoint),
                    port=ServicePort(name="tcp", port=80, protocol=Protocol.HTTP),
                )
                for each in ("orders", "cart")
            ]
            assert not agent.gateway_publish(routes=routes)
            with backend.call_as(ingress_of(agent), routes[0].sni, uri, signed_by="east") as call:
                call.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                assert call.makefile("rb").readline().split()[1].decode() == status


@contextmanager
def site() -> Iterator[Endpoint]:
    """A server of HTTP that finds everything."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield Endpoint(address="127.0.0.1", port=server.server_address[1])
        server.shutdown()
        thread.join(10)

"""Two sites in network namespaces: in each a host with agent, gateway and registry, and a workload on a LAN with it.

    west workload ──LAN── west host ══WAN══ east host ──LAN── east workload
    10.1.0.20       10.1.0.5   203.0.113.7  198.51.100.7  10.2.0.5   10.2.0.20

No host passes packets on, and a workload has no way beyond its LAN: what reaches the other site came through a
gateway. A workload is this process with one thread in its namespace.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, TCPServer, ThreadingTCPServer

from hamlet_core.cli.demo_calls import call_service
from tests.support.netns import Namespace

CALL_SECONDS = 5.0
"""The longest time for a call that succeeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One mesh's place: `host` has the addresses `wan` and `gateway`, `workload` has `address` alone."""

    name: str
    host: Namespace
    workload: Namespace
    wan: str
    gateway: str
    address: str

    def connects(self, address: str, port: int) -> bool:
        """Whether a workload here gets a TCP connection to an address."""
        with self.workload.entered():
            try:
                socket.create_connection((address, port), timeout=1).close()
            except OSError:
                return False
        return True

    def get(self, address: str, port: int, host: str) -> str:
        """What a workload here is answered by HTTP; empty when it is not."""
        with self.workload.entered():
            return call_service(f"{address}:{port}", host)

    def say(self, address: str, port: int, words: bytes) -> bytes:
        """What a workload here is answered over TCP to a line of `words`; empty when it is not."""
        with self.workload.entered():
            try:
                with socket.create_connection((address, port), timeout=CALL_SECONDS) as connection:
                    connection.sendall(words + b"\n")
                    return connection.makefile("rb").readline().rstrip()
            except OSError:
                return b""


@contextmanager
def two_sites() -> Iterator[tuple[Site, Site]]:
    """West and east; raises `CannotIsolate` where there are no namespaces to be had."""
    with ExitStack() as stack:

        def place(label: str) -> Namespace:
            return stack.enter_context(Namespace(label))

        west, east = (
            Site(
                name=name,
                host=place(f"{name}'s host"),
                workload=place(f"{name}'s workload"),
                wan=wan,
                gateway=f"{lan}.5",
                address=f"{lan}.20",
            )
            for name, wan, lan in (("west", "203.0.113.7", "10.1.0"), ("east", "198.51.100.7", "10.2.0"))
        )
        for site in (west, east):
            site.host.join(site.workload, "lan", site.gateway, site.address)
        west.host.join(east.host, "wan", west.wan, east.wan)
        yield west, east


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server of a workload, and how often somebody connected to it."""

    address: str
    port: int
    connections: list[str]


def _counting(connections: list[str], server: type[TCPServer]) -> type[TCPServer]:
    """The same server, that writes down who connects."""

    class Counting(server):  # type: ignore[misc, valid-type]
        daemon_threads = True
        allow_reuse_address = True

        def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
            connection, (address, port) = super().get_request()
            connections.append(address)
            return connection, (address, port)

    return Counting


@contextmanager
def http_service(site: Site, says: str, port: int = 0) -> Iterator[Served]:
    """An HTTP server of a workload at `site` that answers `says` and the name by which it was asked.

    `port` 0 is any.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = f"{says}, asked for {self.headers['Host']}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with _running(site, port, ThreadingHTTPServer, Handler) as served:
        yield served


@contextmanager
def tcp_service(site: Site, says: str) -> Iterator[Served]:
    """A TCP server of a workload at `site` that answers each line with `says` and the line."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                self.wfile.write(f"{says}: ".encode() + line)

    with _running(site, 0, ThreadingTCPServer, Handler) as served:
        yield served


@contextmanager
def _running(site: Site, port: int, server: type[TCPServer], handler: type[StreamRequestHandler]) -> Iterator[Served]:
    connections: list[str] = []
    with site.workload.entered():
        one = _counting(connections, server)((site.address, port), handler)
    thread = threading.Thread(target=one.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield Served(address=site.address, port=one.server_address[1], connections=connections)
    finally:
        one.shutdown()
        thread.join()
        one.server_close()

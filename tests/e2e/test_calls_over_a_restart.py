"""What calls through a gateway do while its agent restarts: docs/operations.md says which go on, and which do not."""

from __future__ import annotations

import shlex
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from hamlet_core.identity import authority
from tests.docs.typing_blocks import typed
from tests.support.meshes import PATIENCE, Mesh
from tests.support.ports import free_port
from tests.support.processes import AgentProcess, wait_until


class Orders(BaseHTTPRequestHandler):
    """A service of west."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"four")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[int]:
    """The port of a service."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Orders) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


class Caller:
    """A workload of east, at west's ingress with east's certificate; each call is a connection of its own."""

    def __init__(self, west: Mesh, east: Mesh, port: int) -> None:
        self._port = port
        self._tls = ssl.create_default_context(cafile=west.bundle)
        self._tls.load_cert_chain(east.folder / "pki" / "agent.crt", east.folder / "pki" / "agent.key")

    def succeeds(self) -> bool:
        """Call once."""
        try:
            with (
                socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE) as plain,
                self._tls.wrap_socket(plain, server_hostname="orders.west.example") as call,
            ):
                call.sendall(b"GET / HTTP/1.1\r\nHost: orders.west.example\r\nConnection: close\r\n\r\n")
                return b"".join(iter(lambda: call.recv(4096), b"")).endswith(b"four")
        except OSError:
            return False


@contextmanager
def own_envoy(west: Mesh) -> Iterator[None]:
    """An Envoy of the operator's own, started as the page of hamlet-envoy says."""
    (command,) = typed("plugins/envoy/README.md", "An Envoy of your own")
    line = command.replace("\\\n", " ").replace("DIRECTORY", str(west.folder / "envoy")).partition("2>>")[0]
    arguments = shlex.split(line)
    program = str(Path(sys.executable).with_name(arguments[0]))
    with (
        (west.folder / "envoy.log").open("wb") as log,
        subprocess.Popen([program, *arguments[1:]], stderr=log) as envoy,
    ):
        try:
            yield
        finally:
            envoy.kill()


@pytest.fixture
def restarted(west: Mesh, east: Mesh, service: int) -> Iterator[AgentProcess]:
    """West's agent, which publishes the service to east through an Envoy; not started."""
    authority.issue(west.folder / "pki", dns_names=["agent.west.example", "*.west.example"])
    west.write_service("orders", port=service)
    agent = AgentProcess(west)
    yield agent
    agent.end()


def configure(west: Mesh, east: Mesh, *, manage: bool) -> int:
    """Write west's configuration; the port of its ingress."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    ingress = {"listen": address, "advertise": [address]}
    gateway = {"kind": "envoy", "directory": "envoy", "manage": manage, "threads": 1, "ingress": ingress}
    west.configure({"east": east.peer()}, publish=[{"to": "all"}], gateway=gateway)
    return port


def failed_over_a_restart(agent: AgentProcess, caller: Caller) -> int:
    """Call while the agent ends, is away, starts and has its gateway again; how many calls fail."""
    calls = []
    ending = Thread(target=agent.end)
    ending.start()
    while ending.is_alive():
        calls.append(caller.succeeds())
    calls += [caller.succeeds() for _ in range(20)]
    agent.start()

    def well() -> bool:
        calls.append(caller.succeeds())
        return agent.status().get("ready") is True and agent.status()["gateway"]["published"] == 1

    wait_until(well, what="the agent has its gateway again")
    assert caller.succeeds()
    return calls.count(False)


def test_calls_through_an_envoy_of_the_operators_own_go_on(west: Mesh, east: Mesh, restarted: AgentProcess) -> None:
    caller = Caller(west, east, configure(west, east, manage=False))
    restarted.start()
    wait_until((west.folder / "envoy" / "bootstrap.json").exists, what="the agent writes the files")
    with own_envoy(west):
        wait_until(caller.succeeds, what="the first call succeeds")
        assert failed_over_a_restart(restarted, caller) == 0


def test_calls_through_an_envoy_that_the_agent_manages_fail_until_it_is_back(
    west: Mesh, east: Mesh, restarted: AgentProcess
) -> None:
    caller = Caller(west, east, configure(west, east, manage=True))
    restarted.start()
    wait_until(caller.succeeds, what="the first call succeeds")
    assert failed_over_a_restart(restarted, caller) >= 20, "none succeeds while the agent is away"

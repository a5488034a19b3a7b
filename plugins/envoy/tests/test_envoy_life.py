"""Envoy's life: certificates that rotate, restarts of it and of the agent, what it rejects, what a check finds."""

from __future__ import annotations

import dataclasses
import os
import resource
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from hamlet_envoy.bootstrap import arguments, find_binary
from hamlet_envoy.gateway import EnvoyGateway

from hamlet_core.api import Endpoint, GatewayUnavailable, ImportKey, Refused, Severity, Stop, Trust
from hamlet_core.api.testing.minting import Mint
from tests.backends.envoy import DEADLINE, Mesh, Server, send, wait_for

MakeMesh = Callable[..., Mesh]
MakeServer = Callable[..., Server]


def serial(mesh: Mesh, sni: str) -> int:
    """Of the certificate that the ingress presents."""
    with mesh.connect(sni, None) as connection:
        certificate = connection.getpeercert(binary_form=True)
    assert certificate is not None
    return x509.load_der_x509_certificate(certificate).serial_number


def restarted(mesh: Mesh, *peers: Mesh) -> None:
    mesh.gateway.gateway_close()
    mesh.gateway = mesh.open()
    mesh.trust(*(peer.peer() for peer in peers))


def refuses(port: int) -> bool:
    """Whether nobody listens there: Envoy's workers close what its main thread has taken away."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE).close()
    except ConnectionRefusedError:
        return True
    return False


def has_ended(process: Path) -> bool:
    """Whether a process, by its folder in /proc, has ended, be it that nobody has asked how."""
    try:
        return " Z " in (process / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def two(make_mesh: MakeMesh) -> tuple[Mesh, Mesh]:
    west, east = make_mesh("west"), make_mesh("east")
    west.trust(east.peer())
    east.trust(west.peer())
    return west, east


class Told:
    """What `gateway_ingress` yields, from a thread of its own."""

    def __init__(self, gateway: EnvoyGateway) -> None:
        self.ingresses: list[Any] = []
        self.error: BaseException | None = None
        self.stop = Stop()
        self.thread = threading.Thread(target=self._follow, args=(gateway,), daemon=True)
        self.thread.start()

    def _follow(self, gateway: EnvoyGateway) -> None:
        try:
            for each in gateway.gateway_ingress(self.stop):
                self.ingresses.append(each)
        except GatewayUnavailable as error:
            self.error = error


@pytest.fixture
def follow() -> Iterator[Callable[[Mesh], Told]]:
    followed = []

    def begin(mesh: Mesh) -> Told:
        followed.append(Told(mesh.gateway))
        return followed[-1]

    yield begin
    for told in followed:
        told.stop.set()
        told.thread.join(DEADLINE)
        assert not told.thread.is_alive()


def test_our_certificate_rotates_without_a_broken_connection(two: tuple[Mesh, Mesh], server: MakeServer) -> None:
    west, east = two
    west.gateway.gateway_publish([west.publishes("orders", server(), to=["east"])])
    (port,) = east.imports(west.offers("orders"))
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as standing:
        for turn, (mesh, other) in enumerate([(west, east), (east, west)]):
            standing.sendall(b"x")
            assert standing.recv(10) == b"x"
            mesh.trust(other.peer(), own=mesh.leaf("gateway"))
            assert send(port) == b"hello", turn
        assert serial(west, "orders.west.example") == west.own.certificate.serial_number
        standing.sendall(b"y")
        assert standing.recv(10) == b"y"


def test_the_ingress_tells_the_names_it_presents_and_tells_new_ones(
    make_mesh: MakeMesh, follow: Callable[[Mesh], Told]
) -> None:
    west = make_mesh("west")
    west.trust()  # before anybody asks: Envoy may take longer to come up than an ingress may be unknown
    told = follow(west)
    wait_for(lambda: told.ingresses, "ingress")
    assert told.ingresses[0].sans == ("spiffe://west.example/gateway", "*.west.example")
    assert told.ingresses[0].endpoints == (Endpoint(address="127.0.0.1", port=west.port),)
    west.trust(own=west.leaf("gateway"))
    west.trust(own=west.leaf("other", dns=["orders.west.example"]))
    wait_for(lambda: len(told.ingresses) > 1, "new names")
    assert told.ingresses[1].sans == ("spiffe://west.example/other", "orders.west.example")


def test_a_gateway_that_only_leads_out_says_so(make_mesh: MakeMesh, follow: Callable[[Mesh], Told]) -> None:
    east = make_mesh("east", ingress=None)
    told = follow(east)
    wait_for(lambda: told.ingresses, "word of the gateway")
    assert told.ingresses == [None]


def test_an_ingress_without_a_name_is_not_known(make_mesh: MakeMesh, follow: Callable[[Mesh], Told]) -> None:
    west = make_mesh("west")
    west.trust(own=west.mint.leaf(common_name="west"))
    told = follow(west)
    error = wait_for(lambda: told.error, "report")
    assert "neither URI nor DNS names" in str(error)


def test_a_certificate_of_the_ingress_alone_is_presented_and_follows_its_files(
    make_mesh: MakeMesh, server: MakeServer, follow: Callable[[Mesh], Told], tmp_path: Path
) -> None:
    east = make_mesh("east")
    first = east.mint.leaf("spiffe://east.example/door", dns=["*.east.example"])
    certificate, key = first.write(tmp_path)
    other = make_mesh("east", mint=east.mint, ingress={"certificate": str(certificate), "key": str(key)})
    other.trust(east.peer())
    told = follow(other)
    other.gateway.gateway_publish([other.publishes("orders", server(), to=["east"])])
    assert serial(other, "orders.east.example") == first.certificate.serial_number
    wait_for(lambda: told.ingresses, "ingress")
    assert told.ingresses[0].sans[0] == "spiffe://east.example/door"
    key.write_text("half")
    second = east.mint.leaf("spiffe://east.example/next")
    second.write(tmp_path)
    wait_for(lambda: told.ingresses[-1].sans == ("spiffe://east.example/next",), "the new certificate's name")
    assert serial(other, "orders.east.example") == second.certificate.serial_number


def test_a_killed_envoy_is_started_again_with_what_it_had(two: tuple[Mesh, Mesh], server: MakeServer) -> None:
    west, east = two
    west.gateway.gateway_publish([west.publishes("orders", server(), to=["east"])])
    (port,) = east.imports(west.offers("orders"))
    before = east.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: east.pid not in (None, before), "new process")
    wait_for(lambda: send(port) == b"hello", "answer through the new process")
    assert east.imports(west.offers("orders"), west.offers("stock"))[0] == port


def test_an_envoy_that_does_not_come_back_is_told_and_so_is_its_return(
    make_mesh: MakeMesh, follow: Callable[[Mesh], Told], tmp_path: Path
) -> None:
    broken, program = tmp_path / "broken", tmp_path / "envoy"
    real = find_binary(Mesh.options(1, 1, 1, {}), tmp_path)
    program.write_text(f'#!/bin/sh\n[ -e {broken} ] && exit 3\nexec {real} "$@"\n')
    program.chmod(0o755)
    west = make_mesh("west", extra={"binary": str(program)})
    west.trust()
    told = follow(west)
    wait_for(lambda: told.ingresses, "ingress")
    broken.touch()
    assert west.pid is not None
    os.kill(west.pid, signal.SIGKILL)
    wait_for(lambda: told.error, "the gateway says that it is out of reach")
    assert "Envoy does not run: it ended with" in str(told.error)
    broken.unlink()
    wait_for(lambda: west.pid is not None and west.gateway._admin.is_live(), "Envoy's return")
    again = follow(west)
    wait_for(lambda: again.ingresses, "ingress")


def test_after_a_restart_of_the_agent_ports_stay_and_what_is_kept_works(
    two: tuple[Mesh, Mesh], server: MakeServer
) -> None:
    west, east = two
    west.gateway.gateway_publish([west.publishes("orders", server("o"), to=["east"])])
    first, second, third = east.imports(*(west.offers(name) for name in ("stock", "orders", "shop")))
    restarted(east, west)
    assert send(second) == b"ohello", "before anybody asked for it"
    assert east.gateway.gateway_import((), None) == {}
    assert send(second) == b"ohello", "nothing may be taken away before all registries have spoken"
    answers = east.gateway.gateway_import((west.offers("shop"),), {ImportKey("west", "orders.west.example")})
    assert list(answers) == [ImportKey("west", "shop.west.example")]
    assert send(second) == b"ohello", "kept"
    wait_for(lambda: refuses(first), "end of what is neither wanted nor kept")
    assert east.imports(west.offers("orders"), west.offers("shop"), west.offers("new"))[:2] == [second, third]


def test_a_port_that_was_given_up_is_not_given_to_the_next(two: tuple[Mesh, Mesh]) -> None:
    west, east = two
    (first,) = east.imports(west.offers("orders"))
    east.imports()
    (second,) = east.imports(west.offers("stock"))
    assert second != first


def test_envoy_ends_with_the_agent_even_if_that_is_killed(tmp_path: Path) -> None:
    child = f"""
import os, subprocess, time
launch = [{sys.executable!r}, "-m", "hamlet_envoy.launch", str(os.getpid()), "/bin/sleep", "600"]
print(subprocess.Popen(launch).pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        started = int(agent.stdout.readline())
        state = Path(f"/proc/{started}")
        wait_for(lambda: b"sleep" in (state / "cmdline").read_bytes().split(b"\0")[0], "program")
        agent.kill()
    wait_for(lambda: has_ended(state), "end of the program")


def test_a_port_that_someone_else_took_refuses_that_service_alone(two: tuple[Mesh, Mesh], server: MakeServer) -> None:
    west, east = two
    west.gateway.gateway_publish([west.publishes(name, server(name), to=["east"]) for name in ("a", "b")])
    port_a, port_b = east.imports(west.offers("a"), west.offers("b"))
    east.gateway.gateway_close()
    with socket.create_server(("127.0.0.1", port_a)):
        east.gateway = east.open()
        east.trust(west.peer())
        answers = east.gateway.gateway_import((west.offers("a"), west.offers("b")), ())
        refused = answers[west.offers("a").key]
        assert isinstance(refused, Refused)
        assert str(port_a) in refused.reason
        assert send(port_b) == b"bhello"
        (found,) = [each for each in east.gateway.gateway_check() if each.subject == "configuration"]
        assert found.severity is Severity.ERROR
        assert str(port_a) in found.message
    assert east.imports(west.offers("a"), west.offers("b")) == [port_a, port_b]
    assert send(port_a) == b"ahello"
    assert {each.severity for each in east.gateway.gateway_check()} == {Severity.OK}


def test_an_ingress_that_envoy_rejects_leaves_what_stood(make_mesh: MakeMesh, server: MakeServer) -> None:
    west = make_mesh("west")
    with socket.create_server(("127.0.0.1", west.port)):
        with pytest.raises(GatewayUnavailable, match="Envoy rejected") as raised:
            west.trust(west.peer())
        assert str(west.port) in str(raised.value) or "ddress already in use" in str(raised.value)
    west.trust(west.peer())
    west.gateway.gateway_publish([west.publishes("orders", server(), to=["west"])])
    assert west.ask("orders.west.example", west.own) == b"hello"


def test_an_envoy_of_the_operators_own_is_used_and_left_running(make_mesh: MakeMesh, server: MakeServer) -> None:
    west = make_mesh("west", extra={"manage": False})
    with pytest.raises(GatewayUnavailable, match="does not run") as raised:
        west.trust(west.peer())
    assert "--config-path" in raised.value.mend
    binary = find_binary(west.gateway._options, west.folder)
    assert binary is not None
    directory = west.folder / "envoy"
    command = [str(binary), *arguments(west.gateway._options, directory)]
    with (directory / "envoy.log").open("ab") as log, subprocess.Popen(command, stderr=log) as envoy:
        try:
            wait_for(west.gateway._admin.is_live, "Envoy")
            west.trust(west.peer())
            west.gateway.gateway_publish([west.publishes("orders", server(), to=["west"])])
            assert west.ask("orders.west.example", west.own) == b"hello"
            west.gateway.gateway_close()
            assert west.ask("orders.west.example", west.own) == b"hello"
        finally:
            envoy.terminate()


def test_two_agents_do_not_share_a_directory(make_mesh: MakeMesh) -> None:
    west = make_mesh("west")
    west.trust()
    second = west.open()
    first, west.gateway = west.gateway, second
    with pytest.raises(GatewayUnavailable, match="another agent uses"):
        west.trust()
    assert any(finding.subject == "version" for finding in second.gateway_check()), "looking is allowed"
    first.gateway_close()
    west.trust()


def test_keys_can_be_read_by_nobody_else(make_mesh: MakeMesh) -> None:
    west = make_mesh("west")
    west.trust(west.peer())
    directory = west.folder / "envoy"
    assert directory.stat().st_mode & 0o777 == 0o700
    files = [path for path in directory.iterdir() if path.is_file()]
    assert any("PRIVATE KEY" in path.read_text() for path in files)
    assert {path.name for path in files if path.stat().st_mode & 0o077} == set()


def test_only_what_changed_is_written(two: tuple[Mesh, Mesh], server: MakeServer) -> None:
    west, _ = two
    routes = [west.publishes("orders", server(), to=["east"]), west.publishes("stock", server(), to=["east"])]
    west.gateway.gateway_publish(routes)
    directory = west.folder / "envoy"

    def written() -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in directory.glob("*.json")}

    before = written()
    west.gateway.gateway_publish(list(reversed(routes)))
    assert written() == before
    moved = dataclasses.replace(routes[0], endpoints=(Endpoint(address="127.0.0.1", port=9),))
    west.gateway.gateway_publish([moved, routes[1]])
    assert {name for name, inode in written().items() if before[name] != inode} == {"cds.json", "routes.json"}


def test_a_check_says_what_is_missing_and_what_is_well(make_mesh: MakeMesh, server: MakeServer) -> None:
    west = make_mesh("west")
    before = {each.subject: each for each in west.gateway.gateway_check()}
    assert before["version"].severity is Severity.OK
    assert "started with the agent" in before["process"].message
    with socket.create_server(("127.0.0.1", west.port)):
        (taken,) = [each for each in west.gateway.gateway_check() if each.subject == "ingress"]
    assert taken.severity is Severity.ERROR
    west.trust(west.peer(), own=west.leaf("gateway", dns=["orders.west.example"]))
    west.gateway.gateway_publish([west.publishes("orders", server(), to=["west"])])
    assert {each.severity for each in west.gateway.gateway_check()} == {Severity.OK}
    west.gateway.gateway_publish([west.publishes("stock", server(), to=["west"])])
    (warning,) = [each for each in west.gateway.gateway_check() if each.severity is not Severity.OK]
    assert "stock.west.example" in warning.message


@pytest.mark.parametrize("certificate", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_certificate_that_is_none_changes_nothing(
    make_mesh: MakeMesh, server: MakeServer, certificate: str
) -> None:
    west = make_mesh("west")
    west.trust(west.peer())
    west.gateway.gateway_publish([west.publishes("orders", server(), to=["west"])])
    with pytest.raises(GatewayUnavailable, match="cannot be used"):
        west.gateway.gateway_trust(
            Trust(certificate=certificate or west.own.pem.decode(), key="no key", peers=(west.peer(),))
        )
    assert west.ask("orders.west.example", west.own) == b"hello"


@pytest.mark.parametrize("kept", ["root", "both"])
def test_certificates_of_an_intermediate_authority_are_believed(
    make_mesh: MakeMesh, server: MakeServer, kept: str
) -> None:
    root = Mint("root")
    middle = Mint("middle", under=root)
    bundle = root.pem if kept == "root" else root.pem + middle.pem
    west, east = make_mesh("west", mint=middle), make_mesh("east", mint=middle)
    west.trust(east.peer(bundle))
    east.trust(west.peer(bundle))
    west.gateway.gateway_publish([west.publishes("orders", server(), to=["east"])])
    (port,) = east.imports(west.offers("orders"))
    assert send(port) == b"hello"


def test_a_bundle_without_a_root_is_found_since_envoy_lets_none_of_its_callers_in(
    make_mesh: MakeMesh, server: MakeServer
) -> None:
    root = Mint("root")
    middle = Mint("middle", under=root)
    west, east = make_mesh("west"), make_mesh("east", mint=middle)
    west.trust(east.peer())
    west.gateway.gateway_publish([west.publishes("orders", server(), to=["east"])])
    assert west.ask("orders.west.example", east.own) == b""
    (found,) = [each for each in west.gateway.gateway_check() if each.subject == "bundle of east"]
    assert found.severity is Severity.WARNING
    west.trust(east.peer(middle.pem + root.pem))
    assert west.ask("orders.west.example", east.own) == b"hello"
    assert not [each for each in west.gateway.gateway_check() if each.subject == "bundle of east"]


def test_an_owners_ingress_is_believed_by_an_intermediate_authority_alone(
    make_mesh: MakeMesh, server: MakeServer
) -> None:
    middle = Mint("middle", under=Mint("root"))
    west, east = make_mesh("west", mint=middle), make_mesh("east")
    west.trust(east.peer())
    east.trust(west.peer())
    west.gateway.gateway_publish([west.publishes("orders", server(), to=["east"])])
    (port,) = east.imports(west.offers("orders"))
    assert send(port) == b"hello"


def test_envoy_may_open_as_many_files_as_it_is_allowed_to() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    launch = (sys.executable, "-m", "hamlet_envoy.launch", str(os.getpid()), "/bin/sh", "-c", "ulimit -n")
    less = f"ulimit -Sn 64; exec {shlex.join(launch)}"
    # exec keeps the process, and with it who its parent is
    said = subprocess.run(("/bin/sh", "-c", less), capture_output=True, text=True, check=True, timeout=DEADLINE)
    assert said.stdout.split() == ["unlimited" if hard == resource.RLIM_INFINITY else str(hard)]


def test_a_handshake_that_is_begun_and_left_is_ended(two: tuple[Mesh, Mesh], server: MakeServer) -> None:
    west, _ = two
    west.gateway.gateway_publish([west.publishes("orders", server(), to=["east"])])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls = context.wrap_bio(incoming, outgoing, server_hostname="orders.west.example")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    with socket.create_connection(("127.0.0.1", west.port), timeout=DEADLINE) as connection:
        connection.sendall(outgoing.read())
        while connection.recv(65536):
            pass  # its side of the handshake, then the end


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"version_info": "other", "resources": [{"@type": "nothing"}]}',
        '{"version_info": "other", "resources": [{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster"}]}',
    ],
)
def test_a_file_that_someone_spoiled_is_found_from_outside_and_written_again(
    make_mesh: MakeMesh, content: str
) -> None:
    west = make_mesh("west")
    west.trust(west.peer())
    outside = west.open()

    def found() -> Severity:
        (finding,) = [each for each in outside.gateway_check() if each.subject == "configuration"]
        return finding.severity

    assert found() is Severity.OK
    clusters = west.folder / "envoy" / "cds.json"
    wrong = clusters.with_name("wrong")
    wrong.write_text(content)
    wrong.replace(clusters)
    assert found() is Severity.ERROR
    west.trust(west.peer())
    assert found() is Severity.OK, "what is wrong is written again"

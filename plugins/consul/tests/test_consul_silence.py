"""Why no answer came, in sentences with a mend: real sockets that refuse, hang, break off or speak something else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hamlet_consul.client import Client
from hamlet_consul.transport import Settings, Transport

from hamlet_core.api import RegistryUnavailable
from tests.support.ports import free_port

RUNNING = "is its agent running, and is `address` right?"


def told(address: str, within: float = 30) -> tuple[str, str]:
    """What a read, and a call whose answer is read later, say of the agent there; `within` is in seconds."""
    client = Client(Transport(Settings(address=address, retries=0, connect_timeout=30, timeout=within)))
    try:
        with pytest.raises(RegistryUnavailable) as asked:
            client.services()
        with pytest.raises(RegistryUnavailable) as sent:
            client.http.begin_get("/v1/catalog/services").result(lambda response: response)
    finally:
        client.close()
    assert (str(asked.value), asked.value.mend) == (str(sent.value), sent.value.mend)
    return str(asked.value), asked.value.mend


@contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """A port whose connections get `answer` and are closed; None: they get nothing and stay open."""
    server = socket.create_server(("127.0.0.1", 0))
    kept: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                near, _ = server.accept()
            except OSError:
                return
            kept.append(near)
            if answer is not None:
                with suppress(OSError):  # who does not understand the answer may hang up before its end
                    near.recv(65536)
                    near.sendall(answer)
                    near.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(60)
        for near in kept:
            near.close()


def test_a_port_where_nobody_listens() -> None:
    port = free_port()
    assert told(f"http://127.0.0.1:{port}") == (f"Consul at http://127.0.0.1:{port} refuses connections", RUNNING)


def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/http.sock"
    assert told(address) == (f"Consul at {address} cannot be connected to: No such file or directory", RUNNING)


def test_a_name_that_has_no_address() -> None:
    said, mend = told("http://consul.invalid:8500")
    assert said.startswith("Consul at http://consul.invalid:8500 cannot be connected to: the name has no address (")
    assert mend == "look at `address`, and at what resolves names on this machine"


def test_an_agent_that_hangs() -> None:
    with listening(None) as port:
        said, mend = told(f"http://127.0.0.1:{port}", within=0.5)
    assert said == f"Consul at http://127.0.0.1:{port} did not answer /v1/catalog/services in time"
    assert mend == "does its agent hang, or is a firewall in between?"


def test_an_agent_that_breaks_off() -> None:
    with listening(b"") as port:
        said, mend = told(f"http://127.0.0.1:{port}")
    broke = f"Consul at http://127.0.0.1:{port} did not answer /v1/catalog/services: the connection broke ("
    assert said.startswith(broke)
    assert mend == RUNNING


def test_the_port_of_something_else() -> None:
    with listening(b"SSH-2.0-OpenSSH\r\n") as port:
        said, mend = told(f"http://127.0.0.1:{port}")
    assert said == f"what answered at http://127.0.0.1:{port} does not speak HTTP"
    assert mend == "look at `address`: is it https, or the port of something else?"


def test_a_port_without_tls() -> None:
    with listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        said, mend = told(f"https://127.0.0.1:{port}")
    assert said.startswith(f"Consul at https://127.0.0.1:{port} and we do not agree on TLS: ")
    assert not {"[", "_ssl"} & set(said.split())
    assert mend == "look at `address`, `ca`, `certificate` and `tls_server_name`"

"""What Consul's DNS answers for an import: its address for as long as it stands, whether or not its peer is lost."""

from __future__ import annotations

import secrets
import socket
import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from hamlet_core.api import RemoveImport, Status, WriteImport
from hamlet_core.api.testing import imported_service
from tests.backends.consul import Consul, StartConsul
from tests.support.ports import free_port

A, SRV, NXDOMAIN = 1, 33, 3
PATIENCE = 60.0


def ask(port: int, name: str, kind: int) -> tuple[int, list[bytes]]:
    """One question over UDP (RFC 1035, section 4): the code of the answer, and the data of each record in it."""
    number = secrets.randbelow(0x10000)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = labels + b"\0" + struct.pack("!HH", kind, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(PATIENCE)
        one.connect(("127.0.0.1", port))
        one.send(struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + question)
        reply = one.recv(4096)
    answered, flags, _, records = struct.unpack("!4H", reply[:8])
    assert answered == number
    at = 12 + len(question)
    found = []
    for _ in range(records):
        while reply[at] and reply[at] < 0xC0:  # the labels of its name, up to the end or to a pointer
            at += 1 + reply[at]
        at += 2 if reply[at] else 1
        said, _, _, length = struct.unpack("!HHIH", reply[at : at + 10])
        at += 10
        if said == kind:
            found.append(reply[at : at + length])
        at += length
    return flags & 0xF, found


class Resolver:
    """The DNS of one Consul."""

    def __init__(self, port: int) -> None:
        self._port = port

    def addresses(self, service: str) -> list[str]:
        code, records = ask(self._port, f"{service}.service.consul", A)
        assert code in (0, NXDOMAIN)
        return [socket.inet_ntoa(record) for record in records]

    def ports(self, service: str) -> list[int]:
        return [
            struct.unpack("!3H", record[:6])[2] for record in ask(self._port, f"{service}.service.consul", SRV)[1]
        ]

    def exists(self, service: str) -> bool:
        return ask(self._port, f"{service}.service.consul", A)[0] != NXDOMAIN


@pytest.fixture
def consul_and_dns(start_consul: StartConsul) -> tuple[Consul, Resolver]:
    port = free_port()
    consul = start_consul(hcl=f"ports {{ dns = {port} }}")
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if Resolver(port).exists("consul"):
                return consul, Resolver(port)
        except OSError:
            pass
        assert time.monotonic() < deadline, consul.log.read_text()
        time.sleep(0.05)


def test_dns_answers_for_an_import_while_its_peer_is_there_or_lost_and_not_after_its_removal(
    consul_and_dns: tuple[Consul, Resolver], start_registry: Callable[..., Any]
) -> None:
    consul, dns = consul_and_dns
    hooks = start_registry(consul).hooks
    assert not dns.exists("stock-east-example")
    stock = imported_service("stock", address="203.0.113.7")
    (outcome,) = hooks.registry_apply(changes=[WriteImport(stock)])
    assert outcome.status is Status.APPLIED
    assert dns.addresses("stock-east-example") == ["203.0.113.7"], "not the address of the synthetic node"
    assert dns.ports("stock-east-example") == [8443]

    hooks.registry_mark_peer(peer="east", lost_since=datetime(2024, 5, 17, 8, 30, tzinfo=UTC))
    assert dns.addresses("stock-east-example") == ["203.0.113.7"], "what is retained stays callable"
    hooks.registry_mark_peer(peer="east", lost_since=None)
    assert dns.addresses("stock-east-example") == ["203.0.113.7"]

    moved = imported_service("stock", address="203.0.113.9")
    hooks.registry_apply(changes=[WriteImport(moved)])
    assert dns.addresses("stock-east-example") == ["203.0.113.9"]
    hooks.registry_apply(changes=[RemoveImport(key=moved.key, local_name=moved.local_name)])
    assert not dns.exists("stock-east-example")

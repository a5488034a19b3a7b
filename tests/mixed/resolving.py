"""How workloads find what was imported: in west by Consul's DNS, in east by the ServiceEntry as a sidecar does."""

from __future__ import annotations

import secrets
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from tests.mixed.sites import Site

A, SRV, NXDOMAIN = 1, 33, 3
DNS_PORT = 8600
ATTEMPTS = 4


def by_dns(site: Site, service: str) -> tuple[str, int] | None:
    """Where Consul's DNS leads a workload that asks for `<service>.service.consul`: address and port, or None."""
    name = f"{service}.service.consul"
    with site.workload.entered():
        addresses = [socket.inet_ntoa(data) for data in ask(site.gateway, DNS_PORT, name, A)]
        ports = [struct.unpack("!3H", data[:6])[2] for data in ask(site.gateway, DNS_PORT, name, SRV)]
    return (addresses[0], ports[0]) if addresses and ports else None


def ask(server: str, port: int, name: str, kind: int) -> list[bytes]:
    """The data of each record of this kind (RFC 1035, section 4; RFC 2782), asked for over UDP."""
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question += b"\0" + struct.pack("!HH", kind, 1)
    reply = _asked(server, port, question)
    _, flags, _, count = struct.unpack("!4H", reply[:8])
    assert flags & 0xF in (0, NXDOMAIN), f"{name}: DNS answers with code {flags & 0xF}"
    return [data for said, data in _records(reply, 12 + len(question), count) if said == kind]


def _asked(server: str, port: int, question: bytes) -> bytes:
    """The reply; it is asked again where none comes, as resolvers do: UDP may lose either."""
    for _ in range(ATTEMPTS):
        number = secrets.randbelow(0x10000)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, suppress(TimeoutError):
            one.settimeout(5)  # resolv.conf(5)
            one.connect((server, port))
            one.send(struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + question)
            reply = one.recv(4096)
            assert struct.unpack("!H", reply[:2]) == (number,)
            return reply
    message = f"{server} port {port} has answered none of {ATTEMPTS} questions"
    raise TimeoutError(message)


def _records(reply: bytes, at: int, count: int) -> Iterator[tuple[int, bytes]]:
    for _ in range(count):
        while reply[at] and reply[at] < 0xC0:  # the labels of its name, up to the end or to a pointer
            at += 1 + reply[at]
        at += 2 if reply[at] else 1
        kind, _, _, length = struct.unpack("!HHIH", reply[at : at + 10])
        at += 10
        yield kind, reply[at : at + length]
        at += length


def by_service_entry(entry: dict[str, Any], host: str) -> tuple[str, int]:
    """Where a ServiceEntry of one port leads callers of `host`.

    No sidecar runs here, so this does what one does (Istio, "Service Entry"): the host picks the entry, its port
    picks the port of the endpoint, and the connection goes to the endpoint, whatever virtual address the
    entry has.
    """
    spec = entry["spec"]
    assert spec["hosts"] == [host]
    assert spec["resolution"] == "STATIC"
    (port,) = spec["ports"]
    (endpoint,) = spec["endpoints"]
    return endpoint["address"], endpoint.get("ports", {}).get(port["name"], port.get("targetPort", port["number"]))

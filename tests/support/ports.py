"""TCP and UDP ports of loopback for servers that want to be told theirs before they start.

They lie below the range from which the kernel takes the ports of outgoing connections, so no connection of a
test that runs beside can sit on one, and each is reserved among processes by the name of a Unix socket, which
is free again when the process that asked has ended, or has asked for many others since.
"""

from __future__ import annotations

import errno
import random
import socket
from pathlib import Path

LOWEST = 10_240
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_HELD = 300
"""So many reservations a process keeps, the latest ones: each costs it a file descriptor."""
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""What a machine says that has none."""
_reserved: dict[int, socket.socket] = {}


def free_ports(count: int) -> list[int]:
    """`count` different ports, free now, and this process's alone for as long as it matters."""
    return [free_port() for _ in range(count)]


def free_port() -> int:
    """A port, free now, and this process's alone for as long as it matters."""
    highest = int(_EPHEMERAL.read_text().split()[0])
    for port in random.SystemRandom().sample(range(LOWEST, highest), highest - LOWEST):
        if port not in _reserved and _reserve(port):
            return port
    message = f"no port from {LOWEST} to {highest} is free"
    raise RuntimeError(message)


def free_range(count: int) -> int:
    """The first of `count` ports in a row, all of them free now; as `free_port`."""
    highest = int(_EPHEMERAL.read_text().split()[0]) - count
    for first in random.SystemRandom().sample(range(LOWEST, highest), highest - LOWEST):
        wanted = range(first, first + count)
        if not any(port in _reserved for port in wanted) and all(_reserve(port) for port in wanted):
            return first
    message = f"no {count} ports in a row from {LOWEST} to {highest} are free"
    raise RuntimeError(message)


def _reserve(port: int) -> bool:
    reservation = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        reservation.bind(f"\0hamlet-port-{port}")
    except OSError:
        reservation.close()
        return False
    if not _is_free(port):
        reservation.close()
        return False
    _reserved[port] = reservation
    if len(_reserved) > _HELD:
        _reserved.pop(next(iter(_reserved))).close()
    return True


def _is_free(port: int) -> bool:
    """Whether nobody has it, for TCP or UDP, on any address."""
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            try:
                with socket.socket(family, kind) as probe:
                    probe.bind((address, port))
            except OSError as error:
                if error.errno not in _NO_IPV6:
                    return False
    return True

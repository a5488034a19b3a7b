"""What `dig +short @SERVER -p PORT NAME [SRV]` prints, for machines without it: python -m tests.mixed.dig ...

Nothing else of dig's command line is understood.
"""

from __future__ import annotations

import socket
import struct
import sys

from tests.mixed.resolving import SRV, A, ask


def _target(data: bytes) -> str:
    """A name that is written out label by label."""
    labels = []
    while data[0]:
        labels.append(data[1 : 1 + data[0]].decode())
        data = data[1 + data[0] :]
    return "".join(f"{label}." for label in labels)


def main(arguments: list[str]) -> None:
    """Ask, and print one line for each record."""
    short, server, dash_p, port, name, *kind = arguments
    assert (short, server[0], dash_p, kind in ([], ["SRV"])) == ("+short", "@", "-p", True), arguments
    for data in ask(server[1:], int(port), name, SRV if kind else A):
        if kind:
            sys.stdout.write("{} {} {} {}\n".format(*struct.unpack("!3H", data[:6]), _target(data[6:])))
        else:
            sys.stdout.write(f"{socket.inet_ntoa(data)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Namespaces of a test's own: apart from each other, from this machine, and gone when they are let go."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.netns import CannotIsolate, Namespace
from tests.support.processes import wait_until

pytestmark = pytest.mark.usefixtures("isolated")


def links(namespace: Namespace) -> set[str]:
    """The names of its links."""
    with namespace.entered():
        return {name for _, name in socket.if_nameindex()}


def test_what_listens_in_a_namespace_is_reached_over_its_links_alone() -> None:
    with Namespace("one") as one, Namespace("other") as other, Namespace("third") as third:
        one.join(other, "cable", "192.0.2.1", "192.0.2.2")
        with other.entered():
            server = socket.create_server(("192.0.2.2", 8080))
        with server, one.entered(), socket.create_connection(("192.0.2.2", 8080), timeout=5) as connection:
            assert connection.getsockname()[0] == "192.0.2.1"
        with third.entered(), pytest.raises(OSError, match="unreachable"):
            socket.create_connection(("192.0.2.2", 8080), timeout=5)
        with pytest.raises(OSError, match=r"unreachable|timed out|refused"):  # a machine may have a way to everywhere
            socket.create_connection(("192.0.2.2", 8080), timeout=1)


def test_a_process_that_is_started_in_a_namespace_stays_there() -> None:
    with Namespace("one") as one:
        with one.entered():
            ask = "import socket; print([name for _, name in socket.if_nameindex()])"
            command = [sys.executable, "-c", ask]
            said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
        assert said.strip() == "['lo']"


def test_a_thread_is_back_where_it_was_after_a_failure_within() -> None:
    before = Path("/proc/thread-self/ns/net").readlink()
    with Namespace("one") as one:
        within = []

        def fail() -> None:
            with one.entered():
                within.append(Path("/proc/thread-self/ns/net").readlink())
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert within
        assert before not in within
        assert Path("/proc/thread-self/ns/net").readlink() == before


def test_a_namespace_is_gone_with_its_links_when_it_is_let_go() -> None:
    with Namespace("one") as one:
        other = Namespace("other")
        one.join(other, "cable", "192.0.2.1", "192.0.2.2")
        assert links(one) == {"lo", "cable"}
        other.close()
        other.close()  # a second time does nothing
        wait_until(lambda: links(one) == {"lo"}, what="the other end of the link is gone")


def test_what_cannot_be_set_up_is_said_with_its_cause() -> None:
    with Namespace("one") as one, pytest.raises(CannotIsolate, match=r"ip link set nothing up in one: .*nothing"):
        one.ip("link", "set", "nothing", "up")

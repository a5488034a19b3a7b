"""The relay of the kit: what goes through it, what a cut does, and what is left of it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hamlet_core.api.testing import Relay
from hamlet_core.api.testing import relay as relay_module
from hamlet_core.api.testing.leaks import grown, held

PATIENCE = 20.0


@pytest.fixture
def target() -> Iterator[int]:
    """A server that sends back what it gets, and ends when its client does; its port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while piece := connection.recv(4096):
                    connection.sendall(piece)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join(PATIENCE)


@pytest.fixture
def relay(target: int) -> Iterator[Relay]:
    with Relay("127.0.0.1", target) as relay:
        yield relay


def connected(relay: Relay) -> socket.socket:
    return socket.create_connection(("127.0.0.1", relay.port), timeout=PATIENCE)


def answered(connection: socket.socket, word: bytes = b"hello") -> bool:
    """Whether a word comes back."""
    connection.sendall(word)
    heard = b""
    while len(heard) < len(word):
        piece = connection.recv(4096)
        if not piece:
            return False
        heard += piece
    return heard == word


def test_what_connects_is_passed_on_both_ways_to_the_end(relay: Relay) -> None:
    assert relay.address == f"127.0.0.1:{relay.port}"
    sent = bytes(range(256)) * 8_192
    with connected(relay) as connection, ThreadPoolExecutor(1) as sender:

        def send() -> None:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)

        sending = sender.submit(send)
        heard = b"".join(iter(lambda: connection.recv(65_536), b""))
        sending.result()
    assert heard == sent


def test_a_cut_breaks_what_stands_and_refuses_what_comes_until_it_is_over(relay: Relay) -> None:
    with connected(relay) as standing:
        assert answered(standing)
        with relay.cut():
            with pytest.raises(OSError, match=r"reset|Broken pipe"):
                assert not answered(standing), "it still answers"
            with pytest.raises(ConnectionRefusedError):
                connected(relay)
    with connected(relay) as again:
        assert answered(again)


def test_a_cut_with_nobody_connected_refuses_at_once(relay: Relay) -> None:
    for _ in range(20):
        with relay.cut(), pytest.raises(ConnectionRefusedError):
            connected(relay)
        with connected(relay) as connection:
            assert answered(connection)


def test_of_cuts_that_overlap_the_last_one_ends_the_outage(relay: Relay) -> None:
    first, second = relay.cut(), relay.cut()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with pytest.raises(ConnectionRefusedError):
        connected(relay)
    second.__exit__(None, None, None)
    with connected(relay) as connection:
        assert answered(connection)


def test_in_a_silence_nothing_passes_and_nobody_is_told_until_it_is_over(relay: Relay) -> None:
    with connected(relay) as standing:
        assert answered(standing)
        with relay.silence(), connected(relay) as fresh:
            for each in (standing, fresh):
                each.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    answered(each)
            fresh.shutdown(socket.SHUT_WR)  # not even an end gets through
            with pytest.raises(TimeoutError):
                fresh.recv(1)
        standing.settimeout(PATIENCE)
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            assert not answered(standing), "it still answers"
    with connected(relay) as again:
        assert answered(again)


def test_who_has_said_nothing_by_the_end_of_a_silence_is_hung_up_on_in_order(relay: Relay) -> None:
    with relay.silence():
        connection = connected(relay)
        end = time.monotonic() + PATIENCE
        while not relay._tasks:
            assert time.monotonic() < end
            time.sleep(0.01)
    with connection:
        assert connection.recv(1) == b""
        connection.getpeername()  # Python would not, and lose the socket of a TLS handshake, after a reset


def test_who_is_still_being_connected_at_the_end_of_a_silence_is_hung_up_on_in_order(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    connecting, connect = threading.Event(), asyncio.open_connection

    async def slow(*target: Any, **options: Any) -> Any:
        if target:
            connecting.set()
            await asyncio.Event().wait()
        return await connect(*target, **options)

    monkeypatch.setattr(asyncio, "open_connection", slow)
    with relay.silence():
        connection = connected(relay)
        assert connecting.wait(PATIENCE)
    with connection:
        assert connection.recv(1) == b""


def test_a_cut_ends_when_its_body_fails(relay: Relay) -> None:
    with pytest.raises(ZeroDivisionError), relay.cut():
        raise ZeroDivisionError
    with connected(relay) as connection:
        assert answered(connection)


def test_many_threads_may_connect_while_it_is_cut_again_and_again(relay: Relay) -> None:
    over = threading.Event()

    def call() -> int:
        heard = 0
        while not over.is_set():
            try:
                with connected(relay) as connection:
                    heard += answered(connection)
            except ConnectionError:
                continue
        return heard

    with ThreadPoolExecutor(4) as callers:
        calls = [callers.submit(call) for _ in range(4)]
        for _ in range(30):
            with relay.cut(), pytest.raises(ConnectionRefusedError):
                connected(relay)
        with connected(relay) as connection:
            assert answered(connection)
        over.set()
        assert all(each.result(PATIENCE) >= 0 for each in calls)


def test_who_hangs_up_on_a_target_that_says_nothing_is_not_held_on_to() -> None:
    sockets = "descriptors (socket)"
    with socket.create_server(("127.0.0.1", 0)) as silent, Relay("127.0.0.1", silent.getsockname()[1]) as relay:
        before = held()[sockets]
        with connected(relay) as caller:
            caller.sendall(b"a long question")
            thinking, _ = silent.accept()
        with thinking:
            thinking.settimeout(PATIENCE)
            assert thinking.recv(4096) == b"a long question"
            end = time.monotonic() + PATIENCE
            while held()[sockets] > before + 1:  # what is left is the target's own end
                assert time.monotonic() < end, "the relay holds on to it"
                time.sleep(0.02)


def test_a_target_that_goes_on_answering_is_heard_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "LAST_WORDS", 4.0)
    with (
        socket.create_server(("127.0.0.1", 0)) as slow,
        Relay("127.0.0.1", slow.getsockname()[1]) as relay,
        connected(relay) as caller,
    ):
        caller.shutdown(socket.SHUT_WR)
        answering, _ = slow.accept()
        with answering:
            assert answering.recv(4096) == b""
            for _ in range(20):  # together they take longer than it would wait for the first
                answering.sendall(b"word ")
                time.sleep(0.25)
        assert b"".join(iter(lambda: caller.recv(4096), b"")) == b"word " * 20


def test_a_target_that_is_gone_hangs_up_on_the_caller() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # it never listens
        port = bound.getsockname()[1]
        with Relay("127.0.0.1", port) as relay, pytest.raises(ConnectionResetError), connected(relay) as caller:
            caller.recv(1)  # where it has not been told while it connected


def test_what_is_closed_refuses_and_leaves_no_thread_and_no_socket(target: int) -> None:
    def live() -> None:
        relay = Relay("localhost", target)
        with connected(relay) as standing:
            assert answered(standing)
            with relay.cut():
                relay.close()
                relay.close()
        with pytest.raises(ConnectionRefusedError):
            connected(relay)

    live()
    before = held()
    for _ in range(5):
        live()
    assert grown(before, 5, PATIENCE) == {}

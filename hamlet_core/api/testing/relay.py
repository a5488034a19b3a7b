"""A TCP relay on loopback that can be cut: an outage for the adapter that goes through it, and for nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

_HOST = "127.0.0.1"
_CHUNK = 64 * 1024
LAST_WORDS = 1.0
"""Seconds without a byte after which who has ended its side is taken to have hung up: a server that thinks about a
long poll does not see that nobody waits for it any more, and would be held on to."""
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: what is closed so is reset, as by a host that is gone, and not ended in order."""


class Relay:
    """Passes on to `host` and `port` whatever connects to `address`, until it is closed. Any thread may use it.

    One whose target cannot be reached hangs up on who connects. It knows nothing of what passes: with TLS, its
    clients must be told the name that the target's certificate has.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        # It never listens: while the relay is cut it keeps the port from being given to anybody else.
        self._reserved = _bound(0)
        self.port: int = self._reserved.getsockname()[1]
        self.address = f"{_HOST}:{self.port}"
        self._lock = threading.Lock()
        self._cuts = 0
        self._silences = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: socket.socket | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"relay {self.address}", daemon=True)
        self._thread.start()
        self._do(self._listen())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Break the connections that stand, and refuse new ones until the context is left.

        Of cuts that overlap, the last to be left ends the outage.
        """
        with self._lock:
            self._cuts += 1
            if self._cuts == 1:
                self._do(self._hang_up())
        try:
            yield
        finally:
            with self._lock:
                self._cuts -= 1
                if not self._cuts and not self._loop.is_closed():
                    self._do(self._listen())

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """Take whatever comes and pass on nothing until the context is left, as a broken cable; then hang up.

        Who has a connection, or makes one, hears nothing meanwhile: it finds out by its own timeout.
        """
        with self._lock:
            self._silences += 1
        try:
            yield
        finally:
            with self._lock:
                self._silences -= 1
                if not self._loop.is_closed():
                    self._do(self._break())

    def close(self) -> None:
        """Break the connections, and relay nothing any more. Closing twice does nothing."""
        with self._lock:
            if self._loop.is_closed():
                return
            self._do(self._hang_up())
            self._do(self._loop.shutdown_default_executor())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._reserved.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        done: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        done.result()

    async def _listen(self) -> None:
        self._listening = _bound(self.port)
        self._listening.settimeout(0)
        self._listening.listen()
        self._loop.add_reader(self._listening, self._accept, self._listening)

    def _accept(self, listening: socket.socket) -> None:
        # In the loop and at once, so that a cut finds every connection either not taken or in a task.
        try:
            taken, _ = listening.accept()
        except OSError:
            return  # whoever called has hung up
        taken.settimeout(0)
        task = self._loop.create_task(self._relayed(taken))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: taken.close())  # for one that was cancelled before it began

    async def _hang_up(self) -> None:
        if self._listening is not None:
            self._loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None
        await self._break()

    async def _break(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # what the tasks have let go of is closed by now

    async def _relayed(self, taken: socket.socket) -> None:
        ends: list[asyncio.StreamWriter] = []
        inward: _Way | None = None
        absent = False
        try:
            reader, writer = await asyncio.open_connection(sock=taken)
            ends.append(writer)
            onward, outward = await asyncio.open_connection(*self._target)
            ends.append(outward)
            inward = _Way(reader, outward, self._is_silent)
            await _until_the_end(inward, _Way(onward, writer, self._is_silent))
            for end in ends:
                end.close()
                await end.wait_closed()
        except OSError:  # an end is gone, or was never there: so is the other one now
            absent = inward is None
        finally:
            # Who has said nothing yet is not reset: Python loses the socket of a TLS client that is gone by then.
            for end in ends:
                _let_go(end, reset=absent if inward is None else inward.passed > 0)

    def _is_silent(self) -> bool:
        return self._silences > 0


class _Way:
    """One direction: passes on until the end, and the end too; nothing while it is silent, not even an end."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: Callable[[], bool]
    ) -> None:
        self._reader, self._writer, self._silent = reader, writer, silent
        self.passed = 0

    async def follow(self) -> None:
        while piece := await self._reader.read(_CHUNK):
            if not self._silent():
                self._writer.write(piece)
                await self._writer.drain()
            self.passed += 1
        if self._silent():
            await asyncio.Event().wait()  # until the silence is over, and every connection with it
        self._writer.write_eof()


async def _until_the_end(*ways: _Way) -> None:
    """Follow both ways. When one has ended the other may go on as long as something comes: see `LAST_WORDS`."""
    tasks = [asyncio.ensure_future(way.follow()) for way in ways]
    try:
        waiting, seconds = set(tasks), None
        while waiting:
            before = [way.passed for way in ways]
            done, waiting = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if not done and before == [way.passed for way in ways]:
                raise BrokenPipeError
            seconds = LAST_WORDS
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _let_go(end: asyncio.StreamWriter, *, reset: bool) -> None:
    with contextlib.suppress(OSError):  # it has been closed
        if reset:
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    end.transport.abort()


def _bound(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((_HOST, port))
    return bound

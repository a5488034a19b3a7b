"""Sessions and streams without gRPC: frames go into lists and come out of queues."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from grpc.aio import EOF

from hamlet_core.api import Endpoint, FederatedService, Instance
from hamlet_core.rpc.consumer import Received, Verdict
from hamlet_core.wire.messages import Message
from hamlet_core.wire.v1alpha1 import V1Alpha1
from hamlet_core.wire.v1alpha2 import V1Alpha2

ONE, TWO = V1Alpha1(), V1Alpha2()


def service(name: str, description: str = "") -> FederatedService:
    return FederatedService(
        name=name,
        fqdn=name,
        description=description,
        endpoints=(Endpoint(address="192.0.2.1", port=443),),
        instances=(Instance(id="http", protocol="HTTP"),),
    )


async def until(check: Callable[[], Any], what: str = "", within: float = 60.0) -> Any:
    """Let the loop go on until `check()` is true."""
    deadline = time.monotonic() + within
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {within:g} s: {what or check}"
        await asyncio.sleep(0.002)
    return found


async def settle() -> None:
    """Let everything run that is able to run now."""
    for _ in range(20):
        await asyncio.sleep(0)


class Frames:
    """What was sent, decoded."""

    def __init__(self, codec: Any, *, from_server: bool) -> None:
        self.messages: list[Message] = []
        self.open = asyncio.Event()
        self.open.set()
        self._codec = codec
        self._from_server = from_server

    async def send(self, frame: bytes) -> None:
        await self.open.wait()
        self.messages += self._codec.read(frame, from_server=self._from_server)

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.messages if isinstance(message, kind)]


class FakeCall:
    """A gRPC call of which a test plays the other side. A write that is cancelled cancels it, as in grpcio."""

    def __init__(self, codec: Any = TWO, *, dialled: bool = False) -> None:
        self.sent = Frames(codec, from_server=not dialled)
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.cancelled = False

    async def read(self) -> Any:
        frame = await self.inbox.get()
        if isinstance(frame, BaseException):
            raise frame
        return frame

    async def write(self, frame: bytes) -> None:
        try:
            await self.sent.send(frame)
        except asyncio.CancelledError:
            self.cancelled = True
            self.inbox.put_nowait(asyncio.CancelledError())
            raise

    def hang_up(self) -> None:
        self.inbox.put_nowait(EOF)


class Sink:
    """An importing half that takes note; `verdict` decides what becomes of a message."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.verdict: Callable[[Received], Verdict] = lambda _: Verdict()
        self.open = asyncio.Event()
        self.open.set()

    def begin(self, peer: str) -> None:
        self.events.append("begin")

    def complete(self, peer: str) -> None:
        self.events.append("complete")

    def lost(self, peer: str) -> None:
        self.events.append("lost")

    async def deliver(self, peer: str, received: Sequence[Received]) -> Sequence[Verdict]:
        self.events += [each.message.name for each in received]
        await self.open.wait()
        return [self.verdict(each) for each in received]

"""A worker that runs an agent, loads its registry and notes when the answers of its consumers come in.

The agent is the whole one (`hamlet_core.agent.agent.Agent`), without its admin socket. One method of it is
instrumented: `OwnerSession.answered`, by a counter.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import plugin
from bench.meshes import Mesh, local_service, write_service
from bench.plugin import Backends
from bench.workers import resident
from hamlet_core.agent.agent import Agent
from hamlet_core.api import LocalService
from hamlet_core.api.testing import MemoryRegistry
from hamlet_core.config import load
from hamlet_core.rpc.owner import OwnerSession
from hamlet_core.rpc.server import CODECS
from hamlet_core.wire.messages import OK, Answer

PATIENCE = 150.0
"""Seconds after which what is waited for will not come."""
CONTEXT = ""
"""The context of every link here."""
CODEC = {codec.api: codec for codec in CODECS}


class Tally:
    """Counts the answers that owner sessions take; `reached` is set at the one that is waited for."""

    def __init__(self) -> None:
        self.answers = 0
        self.refused = 0
        self.at = 0.0
        self._wanted = 0
        self._reached = threading.Event()

    def expect(self, answers: int) -> None:
        """Count from now on, up to `answers`."""
        self.answers, self._wanted = 0, answers
        self._reached.clear()

    def count(self, answer: Answer) -> None:
        """One answer was taken."""
        self.answers += 1
        self.refused += answer.code != OK
        if self.answers == self._wanted:
            self.at = time.monotonic()
            self._reached.set()

    def wait(self) -> float:
        """Block until there are enough; the monotonic time of the last one."""
        if not self._reached.wait(PATIENCE):
            message = f"{self.answers} of {self._wanted} answers within {PATIENCE:g} s"
            raise TimeoutError(message)
        if self.refused:
            message = f"{self.refused} services were refused: this measures something else"
            raise ValueError(message)
        return self.at


class AgentWorker:
    """See the module. Commands are called one at a time; an agent is opened after the one before is closed."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hamlet-bench-")
        plugin.install(Path(self._folder.name))
        self._agent: Agent | None = None
        self._tally = Tally()
        _count_answers(self._tally)

    @property
    def agent(self) -> Agent:
        """The agent that runs."""
        assert self._agent is not None
        return self._agent

    async def register(self, services: int) -> None:
        """Give kind `bench` a new registry with so many services."""
        Backends.memory, Backends.written = MemoryRegistry(), {}
        for number in range(services):
            Backends.memory.add_local(local_service(number))

    async def open(self, config: Path) -> None:
        """Start the agent, and wait until its registry has reported."""
        self._agent = Agent(load.read(config))
        await self._agent.start()
        await _until(lambda: not self.agent.not_ready)

    async def close(self) -> None:
        """Stop the agent, if one runs."""
        if self._agent is not None:
            await self._agent.stop()
        self._agent = None

    async def resident(self) -> int:
        """Bytes of memory resident."""
        return resident()

    async def payload_bytes(self) -> int:
        """Bytes of the serialised services, in both versions of the protocol."""
        return self.agent.catalog.stats().payload_bytes

    async def frames(self, api: str, peer: str) -> list[bytes]:
        """What a peer with a new stream would be sent, byte by byte."""
        subscription = self.agent.catalog.subscribe(self.agent.publication.audience(peer))
        entries = subscription.take(10**9)
        subscription.close()
        payloads = [getattr(entry.payload, api) for entry in entries]
        return [
            CODEC[api].offer(str(number + 1), payload, CONTEXT, created=True)
            for number, payload in enumerate(payloads)
        ]

    # --- as an owner

    async def expect(self, answers: int) -> None:
        """Count the answers from now on."""
        self._tally.expect(answers)

    async def answered(self) -> float:
        """Wait for the answers expected; the monotonic time of the last one."""
        return await asyncio.to_thread(self._tally.wait)

    async def change(self, numbers: Sequence[int], tag: str) -> float:
        """Change services of kind `bench` all at once; the monotonic time before the first."""
        began = time.monotonic()
        for number in numbers:
            Backends.memory.add_local(local_service(number, tag))
        return began

    async def change_spaced(
        self, mesh: Mesh, kind: str, numbers: Sequence[int], tag: str, gap: tuple[float, float]
    ) -> dict[tuple[str, str], float]:
        """Change services one by one, each after the one before was answered and a pause.

        Returns the monotonic times: before the registry's event (kind `bench`), before the rename (`file`).
        """
        return await asyncio.to_thread(self._change_spaced, mesh, kind, numbers, tag, gap)

    def _change_spaced(
        self, mesh: Mesh, kind: str, numbers: Sequence[int], tag: str, gap: tuple[float, float]
    ) -> dict[tuple[str, str], float]:
        changed: dict[tuple[str, str], float] = {}
        for number in numbers:
            self._tally.expect(1)
            time.sleep(random.uniform(*gap))
            name = f"service-{number:05}.{mesh.trust_domain}"
            if kind == "file":
                changed[name, tag] = write_service(mesh, number, tag)
            else:
                service: LocalService = local_service(number, tag)
                changed[name, tag] = time.monotonic()
                Backends.memory.add_local(service)
            self._tally.wait()
        return changed

    # --- as a consumer

    async def reload(self, config: Path) -> float:
        """Take over a configuration; the monotonic time just before, which is when a new peer is dialled."""
        loaded = load.read(config)
        began = time.monotonic()
        await self.agent.reload(loaded)
        return began

    async def standing(self, peer: str, services: int) -> None:
        """Wait until so many services of a peer stand in the registry."""
        (lane,) = self.agent.importer.lanes
        await _until(lambda: lane.reconciler.status(peer).standing == services)

    async def written(self) -> dict[tuple[str, str], float]:
        """When the registry had which service in which form."""
        return Backends.written


def _count_answers(tally: Tally) -> None:
    taken = OwnerSession.answered

    def answered(session: OwnerSession, answer: Answer) -> None:
        taken(session, answer)
        tally.count(answer)

    OwnerSession.answered = answered  # type: ignore[method-assign, assignment]


async def _until(check: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not check():
        if time.monotonic() > deadline:
            message = f"not within {PATIENCE:g} s"
            raise TimeoutError(message)
        await asyncio.sleep(0.01)

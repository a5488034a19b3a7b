"""How long a consumer takes to get a whole catalog: from dialling to the owner having the last ACK.

In the number: connection, mutual TLS, first request, each service's way to the consumer and its answer's way back.
Where the consumer is our agent: validation, the plan, and the writes into its registry. Not in it: starting the
agents, and the owner's registry, which has reported before.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.agents import AgentWorker
from bench.bare import BareConsumers, BareOwner
from bench.measure import Row, compared
from bench.meshes import Mesh
from bench.setting import WINDOW, Setting, script
from bench.workers import Worker

SECONDS = "s"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What is measured, as a key of the times, and the key of the reference it is beside."""

    name: str
    reference: str
    run: Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """An owner of ours, a bare one with the same services elsewhere, and consumers of both kinds."""

    west: Mesh
    bare_west: Mesh
    east: Mesh
    services: int
    owner: Worker
    bare_owner: Worker
    consumer: Worker
    bare_consumers: Worker
    frames: dict[str, list[bytes]] = field(default_factory=dict)

    def bare(self, api: str, window: int) -> float:
        """Bare on both sides."""
        self.bare_owner.ask("load", self.frames[api], window=window)
        began = self._bare_walk(self.bare_west, api, window)
        ended = float(self.bare_owner.ask("ended", 1))
        self.bare_consumers.ask("close")
        return ended - began

    def foreign_consumer(self, api: str, window: int) -> float:
        """Our owner, a bare consumer."""
        self.owner.ask("expect", self.services)
        began = self._bare_walk(self.west, api, window)
        ended = float(self.owner.ask("answered"))
        self.bare_consumers.ask("close")
        return ended - began

    def foreign_owner(self) -> float:
        """A bare owner that knows no extensions, and our consumer with its registry in memory."""
        self.bare_owner.ask("load", self.frames["v1alpha2"])
        began = self._dial(self.bare_west, "bench")
        ended = float(self.bare_owner.ask("ended", 1))
        self._hang_up()
        return ended - began

    def two_agents(self, kind: str) -> float:
        """Ours on both sides, and the consumer's registry of this kind."""
        self.owner.ask("expect", self.services)
        began = self._dial(self.west, kind)
        ended = float(self.owner.ask("answered"))
        self.consumer.ask("standing", "west", self.services)
        self._hang_up()
        return ended - began

    def _bare_walk(self, target: Mesh, api: str, window: int) -> float:
        return float(self.bare_consumers.ask("walk", target, [self.east], script(api, self.services, window=window)))

    def _dial(self, target: Mesh, kind: str) -> float:
        self.consumer.ask("register", 0)
        shutil.rmtree(self.east.folder / "mesh" / "imported", ignore_errors=True)
        self.consumer.ask("open", self.east.configure(kind=kind, peers=[]))
        return float(self.consumer.ask("reload", self.east.configure(kind=kind, peers=[target], dial=target)))

    def _hang_up(self) -> None:
        self.consumer.ask("close")

    def cases(self) -> list[_Case]:
        """Everything that is measured, each reference before what is beside it."""
        windowed = f"window {WINDOW}"
        return [
            _Case(name="bare v1alpha1", reference="", run=lambda: self.bare("v1alpha1", 1)),
            _Case(
                name="v1alpha1 lock-step: our owner, bare consumer",
                reference="bare v1alpha1",
                run=lambda: self.foreign_consumer("v1alpha1", 1),
            ),
            _Case(name="bare v1alpha2", reference="", run=lambda: self.bare("v1alpha2", 1)),
            _Case(
                name="v1alpha2 lock-step: our owner, bare consumer",
                reference="bare v1alpha2",
                run=lambda: self.foreign_consumer("v1alpha2", 1),
            ),
            _Case(
                name="v1alpha2 lock-step: bare owner, our consumer (memory)",
                reference="bare v1alpha2",
                run=self.foreign_owner,
            ),
            _Case(name="bare windowed", reference="", run=lambda: self.bare("v1alpha2", WINDOW)),
            _Case(
                name=f"v1alpha2 {windowed}: our owner, bare consumer",
                reference="bare windowed",
                run=lambda: self.foreign_consumer("v1alpha2", WINDOW),
            ),
            _Case(
                name=f"v1alpha2 {windowed}: two agents (memory)",
                reference="bare windowed",
                run=lambda: self.two_agents("bench"),
            ),
            _Case(
                name=f"v1alpha2 {windowed}: two agents (file)",
                reference="bare windowed",
                run=lambda: self.two_agents("file"),
            ),
        ]


def run(setting: Setting) -> list[Row]:
    """Measure every catalog size."""
    west, east = setting.mesh("west"), setting.mesh("east")
    rows: list[Row] = []
    for services, rounds in setting.sizes.sync:
        with (
            setting.worker(AgentWorker) as owner,
            setting.worker(BareOwner) as bare_owner,
            setting.worker(AgentWorker) as consumer,
            setting.worker(BareConsumers) as bare_consumers,
        ):
            scene = _Scene(
                west=west,
                bare_west=west.elsewhere(),
                east=east,
                services=services,
                owner=owner,
                bare_owner=bare_owner,
                consumer=consumer,
                bare_consumers=bare_consumers,
            )
            rows += _rows(setting, scene, rounds)
    return rows


def _rows(setting: Setting, scene: _Scene, rounds: int) -> list[Row]:
    config: Path = scene.west.configure(kind="bench", peers=[scene.east])
    scene.owner.ask("register", scene.services)
    scene.owner.ask("open", config)
    scene.bare_owner.ask("open", scene.bare_west, [scene.east])
    for api in ("v1alpha1", "v1alpha2"):
        scene.frames[api] = scene.owner.ask("frames", api, "east")
    cases = scene.cases()
    times: dict[str, list[float]] = {case.name: [] for case in cases}
    for number in range(rounds):
        for case in cases:
            setting.step(f"{scene.services:,} services, round {number + 1} of {rounds}: {case.name}")
            times[case.name].append(case.run())
    return [
        compared(
            "sync", f"{scene.services:,} services, {case.name}", SECONDS, times[case.name], times[case.reference]
        )
        for case in cases
        if case.reference
    ]

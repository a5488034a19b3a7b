"""What a published service and a standing consumer cost the owner in resident memory.

The services themselves, as the registry in memory has them, are there before the owner's agent starts and not in
the number; a service costs what the agent adds to that, without what an agent with no services takes. A consumer
has the whole catalog when it is counted. RSS is read after a garbage collection and comes in whole pages of the
allocators, so small numbers are rough.
"""

from __future__ import annotations

from itertools import pairwise

from bench.agents import AgentWorker
from bench.bare import BareConsumers, BareOwner
from bench.measure import Row, alone, compared
from bench.meshes import Mesh
from bench.setting import WINDOW, Setting, script

BARE_MESSAGES = 1_000
"""A bare stream has no catalog; it is counted after so many messages."""


def run(setting: Setting) -> list[Row]:
    """Measure one catalog with growing numbers of consumers."""
    west, peers = setting.mesh("west"), setting.consumers(setting.sizes.memory_consumers[-1])
    services, counts = setting.sizes.memory_services, (0, *setting.sizes.memory_consumers)
    setting.step("an agent without services")
    empty = _started(setting, west, peers, 0)
    ours, payload = _ours(setting, west, peers, counts)
    bare = _bare(setting, west, peers, counts)
    per_service = (ours["started"] - empty) / services
    growth = sum(ours[f"{before}-{after}"] for before, after in pairwise(counts))
    case = f"{services:,} services"
    rows = [
        compared(
            "memory", f"{case}: a service", "bytes", [per_service], [payload / services],
            "reference: its serialised forms in both versions",
        )
    ]  # fmt: skip
    for before, after in pairwise(counts):
        added = after - before
        mine, theirs = ours[f"{before}-{after}"] / added, max(bare[f"{before}-{after}"] / added, 1)
        label = f"{case}: a consumer more, from {before} to {after}"
        rows.append(compared("memory", label, "kB", [mine / 1000], [theirs / 1000], "reference: a bare stream"))
    each = growth / counts[-1] / payload
    label = f"{case}: a consumer of {counts[-1]}, as a share of the serialised catalog"
    rows.append(alone("memory", label, "times", [each], "a copy of the catalog per consumer would be about 0.5"))
    return rows


def _started(setting: Setting, west: Mesh, peers: list[Mesh], services: int) -> int:
    with setting.worker(AgentWorker) as owner:
        owner.ask("register", services)
        before = owner.ask("resident")
        owner.ask("open", west.configure(kind="bench", peers=peers))
        return int(owner.ask("resident")) - int(before)


def _ours(setting: Setting, west: Mesh, peers: list[Mesh], counts: tuple[int, ...]) -> tuple[dict[str, int], int]:
    services = setting.sizes.memory_services
    grown: dict[str, int] = {}
    with setting.worker(AgentWorker) as owner, setting.worker(BareConsumers) as consumers:
        owner.ask("register", services)
        before = int(owner.ask("resident"))
        owner.ask("open", west.configure(kind="bench", peers=peers))
        now = int(owner.ask("resident"))
        grown["started"] = now - before
        for few, many in pairwise(counts):
            setting.step(f"{services:,} services, from {few} to {many} consumers")
            owner.ask("expect", services * (many - few))
            consumers.ask("walk", west, peers[few:many], script("v1alpha2", services, window=WINDOW))
            owner.ask("answered")
            before, now = now, int(owner.ask("resident"))
            grown[f"{few}-{many}"] = now - before
        return grown, int(owner.ask("payload_bytes"))


def _bare(setting: Setting, west: Mesh, peers: list[Mesh], counts: tuple[int, ...]) -> dict[str, int]:
    grown: dict[str, int] = {}
    messages = min(BARE_MESSAGES, setting.sizes.memory_services)
    with setting.worker(BareOwner) as owner, setting.worker(BareConsumers) as consumers:
        owner.ask("open", west, peers)
        owner.ask("load", [bytes(450)] * messages, window=WINDOW)
        now = int(owner.ask("resident"))
        for few, many in pairwise(counts):
            setting.step(f"bare, from {few} to {many} streams")
            consumers.ask("walk", west, peers[few:many], script("v1alpha2", messages, window=WINDOW))
            owner.ask("ended", many)
            before, now = now, int(owner.ask("resident"))
            grown[f"{few}-{many}"] = now - before
    return grown

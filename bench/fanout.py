"""How fast one owner serves many consumers at once: CPU time, in the end, and so messages a second.

All connections stand before the clock starts; it stops when the owner has the last answer. Each consumer is a peer
of its own; all of them are bare and share one process, in the reference too.
"""

from __future__ import annotations

from bench.agents import AgentWorker
from bench.bare import BareConsumers, BareOwner
from bench.measure import Row, compared
from bench.meshes import Mesh
from bench.setting import WINDOW, Setting, script

MICRO = 1_000_000.0


def run(setting: Setting) -> list[Row]:
    """Measure each number of consumers, in lock-step and with a window."""
    west = setting.mesh("west")
    peers = setting.consumers(max(count for count, _ in setting.sizes.fan_out))
    return [
        row for count, messages in setting.sizes.fan_out for row in _count(setting, west, peers[:count], messages)
    ]


def _count(setting: Setting, west: Mesh, peers: list[Mesh], services: int) -> list[Row]:
    bare_west, total = west.elsewhere(), services * len(peers)
    windows = {"lock-step": 1, f"window {WINDOW}": WINDOW}
    ours: dict[str, list[float]] = {name: [] for name in windows}
    reference: dict[str, list[float]] = {name: [] for name in windows}
    with (
        setting.worker(AgentWorker) as owner,
        setting.worker(BareOwner) as bare_owner,
        setting.worker(BareConsumers) as consumers,
    ):
        owner.ask("register", services)
        owner.ask("open", west.configure(kind="bench", peers=peers))
        frames = owner.ask("frames", "v1alpha2", peers[0].name)
        bare_owner.ask("open", bare_west, peers)
        for number in range(setting.sizes.fan_out_rounds):
            for name, window in windows.items():
                setting.step(f"{len(peers)} consumers, {name}, round {number + 1} of {setting.sizes.fan_out_rounds}")
                said = script("v1alpha2", services, window=window)
                bare_owner.ask("load", frames, window=window)
                began = consumers.ask("walk", bare_west, peers, said, connected=True)
                reference[name].append((bare_owner.ask("ended", len(peers)) - began) / total * MICRO)
                consumers.ask("close")
                owner.ask("expect", total)
                began = consumers.ask("walk", west, peers, said, connected=True)
                ours[name].append((owner.ask("answered") - began) / total * MICRO)
                consumers.ask("close")
    return [
        compared("fanout", f"{len(peers)} consumers, {name}", "µs/message", ours[name], reference[name])
        for name in windows
    ]

"""How long one change takes from the owner's registry into the consumer's, on a link that stands and is idle.

From the moment before the registry's event (`memory`: the call that yields an Upsert; `file`: the rename) to the
moment the consumer's registry has returned from the write. The reference is a round trip of the same bytes on
an idle bare stream: our number is one way, but through two agents and two registries.
"""

from __future__ import annotations

from bench.agents import AgentWorker
from bench.bare import BareConsumers, BareOwner, Gap
from bench.measure import Row, compared, percentile
from bench.meshes import write_service
from bench.setting import Setting, script
from bench.workers import Worker

GAP: Gap = (0.002, 0.010)
"""Seconds between two changes, so that none meets what is left of the one before."""
KINDS = {"bench": "memory", "file": "file"}
MILLI = 1000.0


def run(setting: Setting) -> list[Row]:
    """Measure both kinds of registry."""
    return [row for kind in KINDS for row in _kind(setting, kind)]


def _kind(setting: Setting, kind: str) -> list[Row]:
    west, east = setting.mesh(f"west-{KINDS[kind]}"), setting.mesh(f"east-{KINDS[kind]}")
    standing, chunks = setting.sizes.standing, setting.sizes.chunks
    each = setting.sizes.changes // chunks
    bare_west = west.elsewhere()
    with (
        setting.worker(AgentWorker) as owner,
        setting.worker(BareOwner) as bare_owner,
        setting.worker(AgentWorker) as consumer,
        setting.worker(BareConsumers) as bare_consumers,
    ):
        setting.step(f"{KINDS[kind]}: {standing:,} services")
        for number in range(standing if kind == "file" else 0):
            write_service(west, number)
        owner.ask("register", standing)
        owner.ask("open", west.configure(kind=kind, peers=[east]))
        consumer.ask("register", 0)
        consumer.ask("open", east.configure(kind=kind, peers=[west], dial=west))
        consumer.ask("standing", west.name, standing)
        frame = owner.ask("frames", "v1alpha2", east.name)[0]
        bare_owner.ask("open", bare_west, [east])
        ours: list[list[float]] = []
        reference: list[list[float]] = []
        for chunk in range(chunks):
            setting.step(f"{KINDS[kind]}: round {chunk + 1} of {chunks}, {each} changes each")
            bare_owner.ask("load", [frame] * each, gap=GAP)
            bare_consumers.ask("walk", bare_west, [east], script("v1alpha2", each))
            bare_owner.ask("ended", 1)
            reference.append(bare_owner.ask("round_trips"))
            bare_consumers.ask("close")
            numbers = [(chunk * each + step) % standing for step in range(each)]
            changed = owner.ask("change_spaced", west, kind, numbers, f"c{chunk}", GAP)
            ours.append(_latencies(consumer, changed))
    case = f"one change, {KINDS[kind]} to {KINDS[kind]}, at {standing:,} services"
    return [
        compared("latency", f"{case}, p50", "ms", _medians(ours), _medians(reference)),
        compared("latency", f"{case}, p99 of {each * chunks}", "ms", _tail(ours), _tail(reference)),
    ]


def _medians(chunks: list[list[float]]) -> list[float]:
    return [MILLI * percentile(chunk, 0.5) for chunk in chunks]


def _tail(chunks: list[list[float]]) -> list[float]:
    """One number for the whole run: a chunk alone is too short to have a 99th percentile."""
    return [MILLI * percentile([sample for chunk in chunks for sample in chunk], 0.99)]


def _latencies(consumer: Worker, changed: dict[tuple[str, str], float]) -> list[float]:
    written = consumer.ask("written")
    return [written[service] - began for service, began in changed.items()]

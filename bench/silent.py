"""What a consumer that subscribes and then neither reads nor answers does to the others and to the owner.

The others walk the whole catalog, with it and without it; the reference of a row is the walk without it.
"""

from __future__ import annotations

from bench.agents import AgentWorker
from bench.bare import BareConsumers
from bench.measure import Row, alone, compared
from bench.setting import WINDOW, Setting, script
from bench.workers import Worker


def run(setting: Setting) -> list[Row]:
    """Measure the others' time and the owner's memory."""
    west, peers = setting.mesh("west"), setting.consumers(setting.sizes.silent_consumers)
    services, others = setting.sizes.silent_services, peers[:-1]
    said = script("v1alpha2", services, window=WINDOW)
    times: dict[bool, list[float]] = {True: [], False: []}
    grown: dict[bool, list[float]] = {True: [], False: []}
    with (
        setting.worker(AgentWorker) as owner,
        setting.worker(BareConsumers) as consumers,
        setting.worker(BareConsumers) as silent,
    ):
        owner.ask("register", services)
        owner.ask("open", west.configure(kind="bench", peers=peers))

        def walk(name: str) -> tuple[float, float]:
            setting.step(f"{services:,} services to {len(others)} consumers: {name}")
            owner.ask("expect", services * len(others))
            began = consumers.ask("walk", west, others, said, connected=True)
            seconds = owner.ask("answered") - began
            memory = _quiescent(owner)
            consumers.ask("close")
            return seconds, memory / 1e6

        walk("once for the memory that stays")
        for number in range(setting.sizes.silent_rounds):
            # In turn first and second, so that a machine that gets slower favours neither.
            for with_it in (True, False) if number % 2 == 0 else (False, True):
                if with_it:
                    silent.ask("be_silent", west, peers[-1], said)
                seconds, memory = walk("one more is silent" if with_it else "without a silent one")
                silent.ask("close")
                times[with_it].append(seconds)
                grown[with_it].append(memory)
    case = f"{len(others)} consumers of {services:,} services"
    deltas = [mine - without for mine, without in zip(grown[True], grown[False], strict=True)]
    return [
        compared("silent", f"{case} beside a silent one", "s", times[True], times[False], "reference: without it"),
        alone("silent", f"{case}: the owner's memory for the silent one", "MB", deltas),
    ]


def _quiescent(owner: Worker) -> float:
    return float(owner.ask("resident"))

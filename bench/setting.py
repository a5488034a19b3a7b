"""How large the measurements are, and what each of them is handed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.agents import CODEC, CONTEXT
from bench.bare import Script
from bench.meshes import Mesh, make
from bench.workers import Target, Worker
from hamlet_core.wire.messages import Answer

WINDOW = 256
"""The window that two agents agree on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Numbers of services, consumers, messages and rounds.

    `sync` pairs services with rounds; `fan_out` pairs consumers with the messages that each of them gets;
    `consul_imports` pairs imports with rounds, `consul_changes` registrations with services that stand;
    `envoy_calls` calls on a connection with rounds.
    """

    sync: tuple[tuple[int, int], ...]
    standing: int
    changes: int
    chunks: int
    memory_services: int
    memory_consumers: tuple[int, ...]
    fan_out: tuple[tuple[int, int], ...]
    fan_out_rounds: int
    silent_services: int
    silent_consumers: int
    silent_rounds: int
    consul_imports: tuple[int, int]
    consul_changes: tuple[int, int]
    consul_services: tuple[int, ...]
    envoy_calls: tuple[int, int]
    envoy_services: tuple[int, ...]
    envoy_changes: int


FULL = Sizes(
    sync=((1_000, 5), (10_000, 3)),
    standing=1_000,
    changes=300,
    chunks=6,
    memory_services=10_000,
    memory_consumers=(1, 10, 50),
    fan_out=((1, 3_000), (10, 1_000), (50, 300)),
    fan_out_rounds=3,
    silent_services=10_000,
    silent_consumers=20,
    silent_rounds=2,
    consul_imports=(5_000, 7),
    consul_changes=(500, 200),
    consul_services=(100, 1_000, 5_000),
    envoy_calls=(2_000, 5),
    envoy_services=(10, 500, 2_000),
    envoy_changes=10,
)
QUICK = Sizes(
    sync=((500, 2),),
    standing=300,
    changes=60,
    chunks=2,
    memory_services=2_000,
    memory_consumers=(1, 5, 10),
    fan_out=((1, 500), (10, 100)),
    fan_out_rounds=2,
    silent_services=1_000,
    silent_consumers=5,
    silent_rounds=2,
    consul_imports=(1_000, 3),
    consul_changes=(60, 50),
    consul_services=(100, 1_000),
    envoy_calls=(500, 3),
    envoy_services=(10, 500),
    envoy_changes=5,
)
TINY = Sizes(
    sync=((20, 1),),
    standing=10,
    changes=4,
    chunks=2,
    memory_services=50,
    memory_consumers=(1, 2, 3),
    fan_out=((1, 20), (2, 10)),
    fan_out_rounds=1,
    silent_services=20,
    silent_consumers=3,
    silent_rounds=1,
    consul_imports=(70, 1),
    consul_changes=(3, 2),
    consul_services=(10,),
    envoy_calls=(20, 1),
    envoy_services=(3,),
    envoy_changes=2,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A folder of its own, the sizes, and `step`, which shows what is being done."""

    root: Path
    sizes: Sizes
    step: Callable[[str], None]
    profile: Path | None = None

    def mesh(self, name: str) -> Mesh:
        """A new mesh in the folder."""
        return make(self.root, name)

    def consumers(self, count: int) -> list[Mesh]:
        """New meshes that consume, each with an authority of its own: to an owner they are as many peers."""
        return [self.mesh(f"peer{number:02}") for number in range(count)]

    def worker(self, of: Callable[[], Target]) -> Worker:
        """A process for an owner or for consumers."""
        return Worker(of, self.profile)


def script(api: str, messages: int, *, window: int = 1) -> Script:
    """What a consumer says that acknowledges so many messages; our owner's nonces are 1, 2, 3 and so on."""
    codec = CODEC[api]
    answers = [codec.answer(Answer(str(number + 1)), CONTEXT) for number in range(messages)]
    return Script(api=api, first=codec.subscribe(CONTEXT), answers=answers, window=window)

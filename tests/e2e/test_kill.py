"""kill -9 at any moment: the registries converge to the same state, nothing lost and nothing left over."""

from __future__ import annotations

import random

import pytest

from tests.e2e.conftest import Launch
from tests.support.meshes import Mesh
from tests.support.processes import wait_until

SERVICES = 1_000
KILLS = 20


@pytest.mark.timeout(600)
def test_twenty_kills_of_either_agent_during_a_sync_lose_nothing_and_leave_nothing(
    west: Mesh, east: Mesh, launch: Launch
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    west.configure({"east": east.peer()})
    east.configure({"west": west.peer(backoff_cap="1s")})
    for number in range(SERVICES):
        west.write_service(f"s{number:04}")
    owner, consumer = launch(west), launch(east)
    alive = set(range(SERVICES))
    for kill in range(KILLS):
        # Between two kills some services go and some change, so that each sync has something to do.
        for number in rng.sample(sorted(alive), 5):
            west.remove_service(f"s{number:04}")
            alive.discard(number)
        for number in rng.sample(sorted(alive), 20):
            west.write_service(f"s{number:04}", tag=f"kill{kill}")
        target = rng.choice((owner, consumer))
        progress = len(east.imported_names("west"))
        goal = min(progress + rng.randrange(1, 200), len(alive) - 1)
        wait_until(lambda goal=goal: len(east.imported_names("west")) >= goal, what="the sync goes on", within=90)
        target.kill()
        target.start()
    expected = {f"s{number:04}.west.example" for number in alive}
    consumer.state("west", "imports", "live", within=120)
    wait_until(lambda: east.imported_names("west") == expected, what="the same services on both sides", within=120)
    tags = {path.stem: path.read_text().partition("tags: [")[2].partition("]")[0] for path in west.services.iterdir()}

    def late() -> list[str]:
        return [name for name, text in east.imported("west").items() if tags[name.partition(".")[0]] not in text]

    wait_until(lambda: not late(), what="as they are now: what was written while one was killed has come, too")

    def left() -> list[str]:
        return [path.name for path in (east.folder / "mesh" / "imported" / "west").iterdir()]

    wait_until(lambda: not [each for each in left() if each.endswith((".tmp", ".new"))], what="no half of a file")
    assert {name.removesuffix(".yaml") for name in left() if not name.startswith(".")} == expected

"""The diff of two tables, and the arithmetic of the brake."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hamlet_core.api import (
    Endpoint,
    FederatedService,
    ImportedService,
    ImportKey,
    Instance,
    RemoveImport,
    StandingImport,
    WriteImport,
)
from hamlet_core.imports.brake import Deletions, exceeds, floods
from hamlet_core.imports.plan import plan


def wanted(key: str, local_name: str, state: object = 1) -> ImportedService:
    peer, name = key.split("/")
    service = FederatedService(
        name=name,
        fqdn=local_name,
        description=str(state),
        endpoints=(Endpoint(address="192.0.2.1", port=443),),
        instances=(Instance(id="http", protocol="HTTP"),),
    )
    return ImportedService(peer=peer, local_name=local_name, service=service)


def tables(desired: dict[str, tuple], standing: dict[str, tuple]):
    """`{key: (local name, state)}` each; a state of None is an entry that someone edited."""
    return (
        {ImportKey(*key.split("/")): wanted(key, *value) for key, value in desired.items()},
        {
            ImportKey(*key.split("/")): StandingImport(
                key=ImportKey(*key.split("/")),
                local_name=name,
                digest="" if state is None else wanted(key, name, state).digest,
            )
            for key, (name, state) in standing.items()
        },
    )


def said(changes) -> list[str]:
    return [
        f"+{change.key.peer}/{change.key.name}={change.service.local_name}"
        if isinstance(change, WriteImport)
        else f"-{change.key.peer}/{change.key.name}={change.local_name}"
        for change in changes
    ]


@pytest.mark.parametrize(
    ("desired", "standing", "expected"),
    [
        ({}, {}, []),
        ({"e/a": ("a", 1)}, {"e/a": ("a", 1)}, []),
        ({"e/a": ("a", 1)}, {}, ["+e/a=a"]),
        ({}, {"e/a": ("a", 1)}, ["-e/a=a"]),
        ({"e/a": ("a", 2)}, {"e/a": ("a", 1)}, ["+e/a=a"]),
        ({"e/a": ("a", 1)}, {"e/a": ("a", None)}, ["+e/a=a"]),
        ({"e/a": ("b", 1)}, {"e/a": ("a", 1)}, ["-e/a=a", "+e/a=b"]),
        ({"e/c": ("c", 1), "e/a": ("a", 1), "d/z": ("z", 1)}, {}, ["+d/z=z", "+e/a=a", "+e/c=c"]),
        ({}, {"e/c": ("c", 1), "e/a": ("a", 1), "d/z": ("z", 1)}, ["-d/z=z", "-e/a=a", "-e/c=c"]),
        # Writes come before removals that nobody waits for.
        ({"e/z": ("z", 1)}, {"e/a": ("a", 1)}, ["+e/z=z", "-e/a=a"]),
        # A name handed over is taken from the one before it is given to the other.
        ({"w/a": ("a", 1)}, {"e/a": ("a", 1)}, ["-e/a=a", "+w/a=a"]),
        ({"e/a": ("a", 1)}, {"w/a": ("a", 1)}, ["-w/a=a", "+e/a=a"]),
        ({"w/a": ("a", 1)}, {"e/a": ("a", 1), "e/b": ("b", 1)}, ["-e/a=a", "+w/a=a", "-e/b=b"]),
        # Two that exchange their names.
        (
            {"e/a": ("b", 1), "w/a": ("a", 1)},
            {"e/a": ("a", 1), "w/a": ("b", 1)},
            ["-e/a=a", "-w/a=b", "+e/a=b", "+w/a=a"],
        ),
        # A chain: one takes the name of the next, which takes another.
        (
            {"e/a": ("b", 1), "e/b": ("c", 1)},
            {"e/a": ("a", 1), "e/b": ("b", 1)},
            ["-e/a=a", "-e/b=b", "+e/a=b", "+e/b=c"],
        ),
    ],
)
def test_the_plan_is_the_difference_in_an_order_that_frees_names_first(desired, standing, expected):
    assert said(plan(*tables(desired, standing))) == expected


NAMES = st.sampled_from([f"{peer}/{name}" for peer in "ew" for name in "abcd"])
LOCAL = st.lists(st.sampled_from([f"n{number}" for number in range(8)]), unique=True, min_size=8, max_size=8)


@st.composite
def a_table(draw):
    keys = sorted(draw(st.sets(NAMES)))
    return {key: (name, draw(st.integers(1, 3))) for key, name in zip(keys, draw(LOCAL), strict=False)}


@given(desired=a_table(), standing=a_table())
def test_applied_one_by_one_the_plan_leads_to_what_is_desired_and_no_name_is_ever_twice(desired, standing):
    want, stands = tables(desired, standing)
    held = {key: (entry.local_name, entry.digest) for key, entry in stands.items()}
    for change in plan(want, stands):
        if isinstance(change, RemoveImport):
            assert held.pop(change.key)[0] == change.local_name
        else:
            others = {name for key, (name, _) in held.items() if key != change.key}
            assert change.service.local_name not in others
            held[change.key] = (change.service.local_name, change.service.digest)
    assert held == {key: (service.local_name, service.digest) for key, service in want.items()}


@given(desired=a_table(), standing=a_table())
def test_the_order_of_the_tables_does_not_matter(desired, standing):
    turned = dict(reversed(desired.items())), dict(reversed(standing.items()))
    assert plan(*tables(desired, standing)) == plan(*tables(*turned))


@pytest.mark.parametrize(
    ("removals", "total", "share", "held"),
    [
        (0, 0, 0.3, False),
        (0, 10, 0.0, False),
        (1, 10, 0.0, True),
        (1, 1, 0.3, True),
        (1, 2, 0.3, True),
        (1, 3, 0.3, True),
        (1, 4, 0.3, False),
        (2, 4, 0.3, True),
        (3, 10, 0.3, False),
        (4, 10, 0.3, True),
        (29, 100, 0.29, False),
        (30, 100, 0.29, True),
        (7, 10, 0.7, False),
        (5, 10, 0.5, False),
        (6, 10, 0.5, True),
        (300, 1000, 0.3, False),
        (301, 1000, 0.3, True),
        (10, 10, 1.0, False),
        (1, 0, 0.3, True),
    ],
)
def test_more_than_the_share_is_too_many_however_few_there_are(removals, total, share, held):
    assert exceeds(removals, total, share) is held


@pytest.mark.parametrize(
    ("removals", "stood", "share", "flood"),
    [
        (1, 1, 0.3, False),
        (10, 10, 0.3, False),
        (11, 11, 0.3, True),
        (11, 36, 0.3, True),
        (11, 37, 0.3, False),
        (30, 100, 0.3, False),
        (31, 100, 0.3, True),
        (100, 100, 1.0, False),
        (11, 1000, 0.0, True),
    ],
)
def test_a_flood_is_more_than_a_handful_and_more_than_the_share(removals, stood, share, flood):
    assert floods(removals, stood, share) is flood


def at(seconds: float) -> datetime:
    return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def test_deletions_are_counted_over_a_window_that_slides():
    window, deletions = timedelta(seconds=60), Deletions()
    for second in (0, 30, 59):
        deletions.note(f"s{second}", at(second))
    assert [deletions.count(at(second), window) for second in (59, 60, 89, 90, 118, 119)] == [3, 2, 2, 1, 1, 0]


@pytest.mark.parametrize(
    ("steps", "count"),
    [
        (["-a", "-b"], 2),
        (["-a", "-a"], 1),
        (["-a", "+a"], 0),
        (["-a", "+a", "-a"], 1),
        (["+a"], 0),
        (["-a", "-b", "clear"], 0),
    ],
)
def test_a_service_counts_once_and_not_when_it_came_back(steps, count):
    deletions = Deletions()
    for number, step in enumerate(steps):
        if step == "clear":
            deletions.clear()
        elif step.startswith("-"):
            deletions.note(step[1:], at(number))
        else:
            deletions.returned(step[1:])
    assert deletions.count(at(10), timedelta(seconds=60)) == count


def test_a_service_deleted_again_counts_from_the_last_time():
    deletions = Deletions()
    deletions.note("a", at(0))
    deletions.note("b", at(10))
    deletions.note("a", at(50))
    assert deletions.count(at(75), timedelta(seconds=60)) == 1


def test_a_window_of_zero_counts_nothing():
    deletions = Deletions()
    deletions.note("a", at(0))
    assert deletions.count(at(0), timedelta(0)) == 0

"""Who is told to stop has the second that the rules give, on a busy machine three times in a row, and no more."""

import threading

import pytest

from hamlet_core.api import CoordinatorSpec, GatewaySpec, RegistrySpec, hookimpl
from hamlet_core.api.testing import (
    CoordinatorContract,
    GatewayContract,
    MemoryCoordinator,
    MemoryGateway,
    MemoryGatewayBackend,
    MemoryRegistry,
    RegistryContract,
)
from hamlet_core.api.testing.agents import Agents
from hamlet_core.api.testing.candidates import Candidates
from hamlet_core.api.testing.gateway_stage import GatewayAgents
from hamlet_core.api.testing.in_time import TRIES, Late, in_time
from hamlet_core.api.testing.leaks import require_nothing_left
from hamlet_core.api.testing.memory import MemoryAdapter
from hamlet_core.api.testing.rules import rules_of
from tests.contract.finding import awaited

LONGER = 1.5
"""Seconds: more than the rules give."""


class SlowAdapter(MemoryAdapter):
    @hookimpl
    def registry_watch(self, stop):
        yield from super().registry_watch(stop)
        threading.Event().wait(LONGER)


class SlowRegistry(MemoryRegistry):
    def open(self, context):
        return SlowAdapter(self, context)


class SlowGateway(MemoryGateway):
    def ingresses(self, stop):
        yield from super().ingresses(stop)
        threading.Event().wait(LONGER)


class SlowCoordinator(MemoryCoordinator):
    def lead(self, adapter, stop):
        yield from super().lead(adapter, stop)
        threading.Event().wait(LONGER)


@pytest.fixture(autouse=True)
def _all_over():
    """What ends late is over before others count their threads."""
    with awaited():
        yield


@pytest.mark.parametrize(
    "check",
    [
        RegistryContract.test_r4_a_watch_ends_when_told_to_and_leaves_no_thread,
        RegistryContract.test_r4_a_watch_that_is_told_to_stop_before_it_begins_ends,
    ],
)
def test_a_watch_of_a_registry_that_takes_longer_each_time_is_found(check, tmp_path):
    agents = Agents(SlowRegistry(), tmp_path)
    with pytest.raises(Late, match="the watch goes on 1 s after it was stopped"):
        check(RegistryContract(), agents)
    agents.stop_all()


@pytest.mark.parametrize("when", ["while it waits", "before it begins"])
def test_a_watch_of_a_gateway_that_takes_longer_each_time_is_found(when, tmp_path):
    suite = GatewayContract()
    agents = GatewayAgents(MemoryGatewayBackend(SlowGateway()), tmp_path, suite.names)
    with pytest.raises(Late, match="the watch goes on 1 s after it was stopped"):
        suite.test_g3_a_watch_ends_when_told_to(agents, when)
    agents.stop_all()


@pytest.mark.parametrize("when", ["while it leads", "while it stands by", "before it begins", "cut off"])
def test_a_coordinator_that_takes_longer_each_time_is_found(when, tmp_path):
    suite, backend = CoordinatorContract(), SlowCoordinator(ttl=1.0)
    candidates = Candidates(backend, tmp_path, suite.names)
    with pytest.raises(Late, match="it goes on 1 s after it was stopped"):
        suite.test_c4_it_ends_when_told_to(backend, candidates, when)
    candidates.end_all()


@pytest.mark.parametrize(
    ("suite", "spec", "number"),
    [
        (RegistryContract, RegistrySpec, "R4"),
        (GatewayContract, GatewaySpec, "G3"),
        (CoordinatorContract, CoordinatorSpec, "C4"),
    ],
)
def test_the_second_is_that_of_the_rule(suite, spec, number):
    assert rules_of(spec)[number].text.startswith("It MUST end within a second of `stop`,")
    assert suite.stop_deadline == 1


def test_who_is_late_has_another_try_and_who_is_in_time_none():
    tries = []

    def attempt():
        tries.append(len(tries))
        if len(tries) < TRIES:
            raise Late

    in_time(attempt)
    assert tries == [0, 1, 2]


def test_who_is_late_each_time_is_found():
    def attempt():
        raise Late("again")

    with pytest.raises(Late, match="again"):
        in_time(attempt)


def test_what_is_wrong_otherwise_is_found_at_once():
    errors = [AssertionError("wrong"), Late("late")]

    def attempt():
        raise errors.pop(0)

    with pytest.raises(AssertionError, match="wrong"):
        in_time(attempt)
    assert len(errors) == 1


def test_what_is_left_behind_once_is_not_left_behind_each_time():
    over, lives = threading.Event(), []

    def live():
        lives.append(len(lives))
        if len(lives) == 1:
            for _ in range(10):  # some that an earlier test has left may end meanwhile
                threading.Thread(target=over.wait, daemon=True).start()

    require_nothing_left(live, 5, 0.01, "five threads")
    assert len(lives) == 2
    over.set()

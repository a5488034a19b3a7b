"""The contract of a coordinator as tests. C1 to C6 are the rules of `CoordinatorSpec`, in its words.

Every test acts through the hooks and through `CoordinatorBackend`. Nothing asserts how fast anything is but by
the backend's own time-to-live, and by the second that C4 gives an end. The name of a test begins with its rule:
`test_c2_...` is about C2.
"""

# ruff: noqa: D102 - the name of a test is its documentation

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pluggy
import pytest

from hamlet_core.api import CoordinatorSpec, CoordinatorUnavailable, Severity, Stop
from hamlet_core.api.testing.candidates import Candidate, Candidates, hooks_of
from hamlet_core.api.testing.coordinator_backend import CoordinatorBackend
from hamlet_core.api.testing.in_time import Late, in_time, unless_it_stood_still
from hamlet_core.api.testing.leaks import require_nothing_left
from hamlet_core.api.testing.names import Names
from hamlet_core.api.testing.rules import named, rules_of

AT_ONCE = 0.6
"""The share of the time-to-live by which what is done at once is done; a lead that ran out would take more."""
STILL = 0.1
"""The share of the time-to-live for which this process may stand still, and a check be believed that has failed."""
ROUNDS = 5
"""Leads that are taken, to see what each leaves behind."""


class CoordinatorStage:
    """The fixtures and settings of the checks; a subclass overrides `backend`, and a setting where it must."""

    deadline = 90.0
    """Seconds after which what must come true is taken not to."""
    stop_deadline = 1.0
    """Seconds a lead has to end, and what it leaves behind to be gone: those of C4. A check fails that found it late
    three times in a row, as a busy machine may be once."""
    names = Names()
    """Who the agents are."""

    @pytest.fixture
    def backend(self) -> CoordinatorBackend:
        """Return a backend in which nobody leads; the subclass knows which."""
        message = f"{type(self).__name__} must override the fixture `backend`"
        raise NotImplementedError(message)

    @pytest.fixture
    def candidates(self, backend: CoordinatorBackend, tmp_path: Path) -> Iterator[Candidates]:
        """Open adapters on the backend."""
        candidates = Candidates(backend, tmp_path, self.names)
        yield candidates
        candidates.end_all()

    @pytest.fixture(autouse=True)
    def _rule(self, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
        """Put the rule into the report (junit XML) of a check of ours; a plugin's own tests need none."""
        rules = rules_of(CoordinatorSpec)
        number, _ = named(request.node.name) if request.node.name.startswith("test_c") else ("", "")
        if number in rules:
            record_property("rule", f"{number}. {rules[number].text}")

    def until(self, check: Callable[[], object], what: str, seconds: float = 0.0) -> None:
        """Wait until `check()` is true."""
        assert self.comes(check, seconds), f"not within {seconds or self.deadline:g} s: {what}"

    def comes(self, check: Callable[[], object], seconds: float = 0.0) -> bool:
        """Wait until `check()` is true; whether it came to that."""
        end = time.monotonic() + (seconds or self.deadline)
        while not check():
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def _while_awake(
        self, backend: CoordinatorBackend, candidates: Candidates, attempt: Callable[[], object]
    ) -> None:
        """Call `attempt`; again, with candidates of its own, where it fails and this process stood still meanwhile.

        Who stands still for long does not renew its lead in time, nor give one up: that is no fault of an adapter.
        """

        def once() -> None:
            candidates.end_all()
            with unless_it_stood_still(backend.ttl * STILL):
                attempt()

        in_time(once)

    def leader_and_standby(self, candidates: Candidates) -> tuple[Candidate, Candidate]:
        """Two agents of one mesh, and the first leads."""
        leader = candidates.start()
        self.until(lambda: leader.leads or leader.ended, "the only agent leads")
        leader.require_no_error()
        standby = candidates.start()
        self.until(lambda: standby.words, "the other one says that it does not lead")
        standby.require_no_error()
        return leader, standby


class CoordinatorContract(CoordinatorStage):
    """Subclass it in a plugin's tests and override `backend` with a `CoordinatorBackend`."""

    def test_c1_of_several_agents_one_leads_and_after_it_another(
        self, backend: CoordinatorBackend, candidates: Candidates
    ) -> None:
        def attempt() -> None:
            waiting = [candidates.start() for _ in range(3)]
            agents = list(waiting)
            while waiting:
                self.until(lambda: any(each.leads for each in waiting), "one of them leads")
                self.until(lambda: all(each.words for each in waiting), "each says whether it leads")
                leader = next(each for each in waiting if each.leads)
                waiting.remove(leader)
                leader.stop()
            never_two(*agents)

        self._while_awake(backend, candidates, attempt)

    def test_c1_a_leader_that_renews_leads_on_and_nobody_else(
        self, backend: CoordinatorBackend, candidates: Candidates
    ) -> None:
        def attempt() -> None:
            leader, standby = self.leader_and_standby(candidates)
            over = time.monotonic() + 2 * backend.ttl
            self.until(lambda: time.monotonic() > over or not leader.leads or standby.leads, "it leads for two ttl")
            never_two(leader, standby)
            assert not standby.terms(), "the other one took the lead from a leader that renews"
            assert [end for _, end in leader.terms()] == [float("inf")], f"it led on and off: {leader.words}"

        self._while_awake(backend, candidates, attempt)

    def test_c1_who_has_lost_the_lead_comes_back_as_a_standby(
        self, backend: CoordinatorBackend, candidates: Candidates
    ) -> None:
        def attempt() -> None:
            leader, standby = self.leader_and_standby(candidates)
            with backend.cut(leader.adapter):
                if not self.comes(lambda: standby.leads) or leader.leads:
                    return  # that nobody follows is for C3, and that it goes on for C2
            leader.ask_again(self.deadline)
            over = time.monotonic() + backend.ttl
            self.until(lambda: time.monotonic() > over or leader.leads, "it had the time to lead again")
            assert not leader.leads or not standby.leads, "it leads again, and the other one leads on"

        self._while_awake(backend, candidates, attempt)

    def test_c1_the_agents_of_another_mesh_lead_for_themselves(self, candidates: Candidates) -> None:
        agents = [
            candidates.start(),
            candidates.start(mesh=self.names.other_peer),
            candidates.start(trust_domain=self.names.other_trust_domain),
        ]
        self.until(lambda: all(each.leads for each in agents), "an agent of each mesh leads")

    def test_c2_a_leader_that_cannot_renew_stops_before_another_leads(
        self, backend: CoordinatorBackend, candidates: Candidates
    ) -> None:
        def attempt() -> None:
            leader, standby = self.leader_and_standby(candidates)
            with backend.cut(leader.adapter):
                self.until(lambda: standby.leads or not leader.leads, "the leader stops")
                never_two(leader, standby)  # by when each said so: both may have, since the last look
                assert leader.error is None or isinstance(leader.error, CoordinatorUnavailable)

        self._while_awake(backend, candidates, attempt)

    def test_c2_who_cannot_reach_the_backend_does_not_lead(
        self, backend: CoordinatorBackend, candidates: Candidates
    ) -> None:
        context = candidates.context()
        adapter = backend.open(context)
        with backend.cut(adapter):
            candidates.all.append(agent := Candidate(adapter, context))
            self.until(lambda: agent.leads or agent.ended, "it says that it cannot know")
            assert not agent.terms(), "it led, or the backend's `cut` has cut nothing"
            assert isinstance(agent.error, CoordinatorUnavailable), f"it ended with {agent.error!r}"

    def test_c3_a_leader_that_is_stopped_is_followed_at_once(
        self, backend: CoordinatorBackend, candidates: Candidates
    ) -> None:
        def attempt() -> None:
            leader, standby = self.leader_and_standby(candidates)
            leader.stop()
            self.until(lambda: standby.leads, "the other one leads", backend.ttl * AT_ONCE)

        self._while_awake(backend, candidates, attempt)

    def test_c3_a_leader_that_is_killed_is_followed(
        self, backend: CoordinatorBackend, candidates: Candidates
    ) -> None:
        leader, standby = self.leader_and_standby(candidates)
        with backend.cut(leader.adapter):
            self.until(lambda: standby.leads, "the other one leads")

    @pytest.mark.parametrize("when", ["while it leads", "while it stands by", "before it begins", "cut off"])
    def test_c4_it_ends_when_told_to(self, backend: CoordinatorBackend, candidates: Candidates, when: str) -> None:
        def attempt() -> None:
            with ExitStack() as cuts:
                if when == "before it begins":
                    (stop := Stop()).set()
                    agent = candidates.start(stop=stop)
                else:
                    leader, standby = self.leader_and_standby(candidates)
                    agent = standby if when == "while it stands by" else leader
                if when == "cut off":
                    cuts.enter_context(backend.cut(agent.adapter))
                    asked = time.monotonic() + backend.ttl / 4
                    self.until(lambda: time.monotonic() > asked, "it has asked what nobody answers")
                if not agent.end(self.stop_deadline):
                    message = f"it goes on {self.stop_deadline:g} s after it was stopped"
                    raise Late(message)
                if when != "cut off":
                    agent.require_no_error()

        self._while_awake(backend, candidates, attempt)

    def test_c4_it_leaves_nothing_behind(self, candidates: Candidates) -> None:
        def live() -> None:
            agent = candidates.start()
            self.until(lambda: agent.words, "it says whether it leads")
            agent.end(self.stop_deadline)

        def lives() -> None:
            for _ in range(ROUNDS):
                live()

        live()  # what a library keeps for good is there now
        require_nothing_left(lives, ROUNDS, self.stop_deadline, f"{ROUNDS} agents that came and went")

    def test_c4_a_lead_that_is_lost_leaves_nothing_behind(
        self, backend: CoordinatorBackend, candidates: Candidates
    ) -> None:
        def started(number: int) -> Candidate:
            agent = candidates.start(mesh=f"{self.names.mesh}-{number}")
            self.until(lambda: agent.words, "it says whether it leads")
            return agent

        def live() -> None:
            with ExitStack() as cuts:  # at once, each in a mesh of its own: one time-to-live is long enough
                agents = []
                for number in range(ROUNDS):
                    agents.append(started(number + 1))
                    cuts.enter_context(backend.cut(agents[-1].adapter))
                lost = time.monotonic() + backend.ttl
                self.until(lambda: time.monotonic() > lost or not any(each.leads for each in agents), "they are lost")
            for each in agents:
                each.end(self.stop_deadline)

        started(0).end(self.deadline)  # what a library keeps for good is there now
        require_nothing_left(live, ROUNDS, self.stop_deadline, f"{ROUNDS} leads that were lost")

    def test_c5_what_others_have_is_named_and_left_alone(
        self, backend: CoordinatorBackend, candidates: Candidates
    ) -> None:
        empty = backend.entries()
        name = backend.add_foreign(candidates.context())
        before = backend.entries()
        assert before != empty, f"the backend says that it put {name!r} there, and entries() does not show it"
        agent = candidates.start()
        self.until(lambda: agent.leads or agent.ended, f"it says that {name} is in the way")
        assert not agent.terms(), f"it led although {name} was in the way"
        assert isinstance(agent.error, CoordinatorUnavailable), f"it ended with {agent.error!r}"
        assert name in str(agent.error), f"it does not name {name}: {agent.error}"
        agent.end(self.deadline)
        assert backend.entries() == before

    def test_c6_a_backend_that_cannot_be_reached_is_a_finding(
        self, backend: CoordinatorBackend, candidates: Candidates
    ) -> None:
        with asked(backend.open(candidates.context())) as (adapter, hooks):

            def wrong() -> bool:
                return Severity.ERROR in {finding.severity for finding in hooks.coordinator_check()}

            assert not wrong()
            with backend.cut(adapter):
                assert wrong(), "it finds nothing wrong, or the backend's `cut` has cut nothing"
            self.until(lambda: not wrong(), "nothing is wrong with a backend that can be reached")

    def test_c6_a_check_takes_no_lead_and_changes_nothing(
        self, backend: CoordinatorBackend, candidates: Candidates
    ) -> None:
        with asked(backend.open(context := candidates.context())) as (_, hooks):

            def look() -> None:
                before = backend.entries()
                hooks.coordinator_check()
                assert backend.entries() == before, "the check has left something, or taken it away"

            look()
            backend.add_foreign(context)
            look()


@contextmanager
def asked(adapter: object) -> Iterator[tuple[object, pluggy.HookRelay]]:
    """An adapter that never leads, as `hamlet check` opens it where no agent runs, and its hooks."""
    hooks = hooks_of(adapter)
    try:
        yield adapter, hooks
    finally:
        hooks.coordinator_close()


def never_two(*agents: Candidate) -> None:
    """Require that no two of these agents, which are of one mesh, have led at the same time."""
    for one, other in itertools.combinations(agents, 2):
        for (begin, end), (start, finish) in itertools.product(one.terms(), other.terms()):
            assert end <= start or finish <= begin, "two agents of one mesh led at the same time"

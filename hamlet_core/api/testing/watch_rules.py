"""R1 to R4: what a watch yields, what it never yields, and how it ends."""

# ruff: noqa: D102 - the name of a test is its documentation

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

import pytest

from hamlet_core.api import (
    Batch,
    Endpoint,
    LocalService,
    Protocol,
    RegistryUnavailable,
    Remove,
    ServicePort,
    Snapshot,
    Status,
    Stop,
    WriteImport,
)
from hamlet_core.api.testing.agents import Agents, apply, digests_of, write
from hamlet_core.api.testing.backend import RegistryBackend
from hamlet_core.api.testing.in_time import Late, in_time
from hamlet_core.api.testing.leaks import require_nothing_left
from hamlet_core.api.testing.left_out import does_not_apply
from hamlet_core.api.testing.stage import RegistryStage
from hamlet_core.api.testing.watching import Watching

LIVES = 5
"""Agents that come and go, to see what each leaves behind."""


class WatchRules(RegistryStage):
    """The checks of `registry_watch`, and of what an outage does to the other hooks."""

    # R1: a Snapshot first, then changes

    def test_r1_first_comes_a_snapshot_of_all_local_services(self, backend: RegistryBackend, agents: Agents) -> None:
        names = {backend.add_local(self.local(name)) for name in ("orders", "billing")}
        watching = agents.watch(agents.start())
        watching.until(lambda _: True, self.deadline)
        first = watching.batches[0]
        assert isinstance(first, Snapshot)
        assert sorted(service.name for service in first.services) == sorted(names)
        assert {(e.address, e.port) for service in first.services for e in service.endpoints} == {("10.0.0.5", 8080)}

    def test_r1_an_empty_registry_yields_an_empty_snapshot(self, agents: Agents) -> None:
        watching = agents.watch(agents.start())
        watching.until(lambda _: True, self.deadline)
        if watching.others:
            does_not_apply("it has services of others")
        assert watching.batches[0] == Snapshot(())

    def test_r1_services_that_come_change_and_go_are_seen(self, backend: RegistryBackend, agents: Agents) -> None:
        backend.add_local(self.local("billing"))
        watching = agents.watch(agents.start())
        watching.until(len, self.deadline)
        name = backend.add_local(self.local("orders"))
        watching.until(lambda state: name in state, self.deadline)
        backend.add_local(self.local("orders", address="10.0.0.6"))
        watching.until(lambda state: {e.address for e in state[name].endpoints} == {"10.0.0.6"}, self.deadline)
        backend.remove_local(self.names.local("orders"))
        state = watching.until(lambda state: name not in state, self.deadline)
        assert len(state) == 1

    def test_r1_a_service_is_reported_as_it_was_registered(self, backend: RegistryBackend, agents: Agents) -> None:
        service = self.local("orders")
        changed = replace(
            service,
            ports=(ServicePort(name="grpc", port=9090, protocol=Protocol.GRPC),),
            endpoints=(Endpoint(address="10.0.0.5", port=9090),),
            description="Who ordered what",
            tags=("canary", "v2"),
            labels={"team": "shop", "tier": "gold"},
        )
        name = backend.add_local(service)
        watching = agents.watch(agents.start())
        seen = watching.until(len, self.deadline)[name]
        assert is_reported(backend.reported(service), seen), f"{service} was registered, and {seen} reported"
        backend.add_local(changed)
        watching.until(lambda state: is_reported(backend.reported(changed), state.get(name)), self.deadline)
        last = replace(changed, description="Who paid for what")
        backend.add_local(last)
        watching.until(lambda state: is_reported(backend.reported(last), state.get(name)), self.deadline)

    def test_r1_each_watch_begins_with_a_snapshot(self, backend: RegistryBackend, agents: Agents) -> None:
        agent = agents.start()
        first = agents.watch(agent)
        first.until(lambda _: True, self.deadline)
        first.end(self.deadline)
        name = backend.add_local(self.local("orders"))
        second = agents.watch(agent)
        second.until(lambda _: True, self.deadline)
        assert isinstance(second.batches[0], Snapshot)
        assert [service.name for service in second.batches[0].services] == [name]

    def test_r1_what_changes_while_a_watch_begins_is_not_lost(self, backend: RegistryBackend, agents: Agents) -> None:
        begun = threading.Event()

        def add() -> set[str]:
            names: set[str] = set()
            after = 0
            for number in range(30):
                names.add(backend.add_local(self.local(f"orders-{number}")))
                after += begun.wait(0.005)
                if after > 3:  # some come before the first batch, some right after it
                    break
            return names

        with ThreadPoolExecutor(1) as somebody:
            adding = somebody.submit(add)
            watching = agents.watch(agents.start())
            watching.until(lambda _: True, self.deadline)
            begun.set()
            names = adding.result()
        watching.until(lambda state: set(state) == names, self.deadline)

    # R2: what carries a mark is no local service

    def test_r2_imports_are_never_reported_as_local(self, backend: RegistryBackend, agents: Agents) -> None:
        agent = agents.start()
        name = backend.add_local(self.local("orders"))
        write(agent, self.imported("stock"))
        watching = agents.watch(agent)
        assert set(watching.until(len, self.deadline)) == {name}
        write(agent, self.imported("mail"))
        last = backend.add_local(self.local("billing"))
        assert set(watching.until(lambda state: last in state, self.deadline)) == {name, last}

    def test_r2_a_restarted_agent_knows_its_imports_from_local_services(self, agents: Agents) -> None:
        agent = agents.start()
        write(agent, self.imported("stock"), self.imported("stock", self.names.other_peer))
        watching = agents.watch(agents.restart(agent))
        watching.until(lambda _: True, self.deadline)
        assert watching.state == {}

    @pytest.mark.parametrize(
        "another",
        ["trust_domain", "registry"],
        ids=["of another trust domain", "of another registry"],
    )
    def test_r2_what_another_agent_imported_is_no_local_service_either(
        self, backend: RegistryBackend, agents: Agents, another: str
    ) -> None:
        others = agents.start(**{another: getattr(self.names, f"other_{another}")})
        name = backend.add_local(self.local("orders"))
        write(others, self.imported("stock"))
        watching = agents.watch(agents.start())
        assert set(watching.until(len, self.deadline)) == {name}
        write(others, self.imported("mail"))
        last = backend.add_local(self.local("billing"))
        assert set(watching.until(lambda state: last in state, self.deadline)) == {name, last}

    # R3: an outage is never an empty snapshot

    def test_r3_a_watch_that_begins_in_an_outage_yields_nothing_and_says_so(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        backend.add_local(self.local("orders"))
        agent = agents.start()
        with backend.outage():
            watching = agents.watch(agent)
            assert isinstance(watching.failed(self.deadline), RegistryUnavailable)
        assert watching.batches == []

    def test_r3_an_outage_ends_a_watch_and_withdraws_nothing(self, backend: RegistryBackend, agents: Agents) -> None:
        name = backend.add_local(self.local("orders"))
        watching = agents.watch(agents.start())
        watching.until(len, self.deadline)
        with backend.outage():
            assert isinstance(watching.failed(self.deadline), RegistryUnavailable)
        assert set(watching.state) == {name}

    def test_r3_after_an_outage_everything_is_there_again(self, backend: RegistryBackend, agents: Agents) -> None:
        name = backend.add_local(self.local("orders"))
        agent = agents.start()
        service = self.imported("stock")
        write(agent, service)
        with backend.outage(), pytest.raises(RegistryUnavailable):
            agent.registry_imports()
        assert set(agents.watch(agent).until(len, self.deadline)) == {name}
        assert digests_of(agent) == {service.key: service.digest}

    def test_r3_nothing_is_said_to_be_written_in_an_outage(self, backend: RegistryBackend, agents: Agents) -> None:
        agent = agents.start()
        service = self.imported("stock")
        statuses = {Status.RETRY}
        with backend.outage(), contextlib.suppress(RegistryUnavailable):  # raised when nothing could be tried
            statuses = {outcome.status for outcome in apply(agent, WriteImport(service))}
        assert statuses == {Status.RETRY}
        write(agent, service)
        assert digests_of(agent) == {service.key: service.digest}

    # R3: nor is a silence

    def test_r3_a_watch_that_begins_while_the_server_is_silent_yields_nothing_and_says_so(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        name = backend.add_local(self.local("orders"))
        with backend.silence() or backend.outage():
            agent = agents.start()
            watching = agents.watch(agent)
            assert isinstance(watching.failed(self.deadline), RegistryUnavailable)
        assert watching.batches == []
        assert set(agents.watch(agent).until(len, self.deadline)) == {name}

    def test_r3_who_writes_while_the_server_is_silent_is_told_in_time(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        service = self.imported("stock")
        with ThreadPoolExecutor(1) as somebody:  # who waits is let go when the silence is over
            with backend.silence() or backend.outage():
                agent = agents.start()
                writing = somebody.submit(apply, agent, WriteImport(service))
                wait([writing], self.deadline)
                assert writing.done(), f"it waits for an answer after {self.deadline:g} s"
            statuses = {Status.RETRY}
            with contextlib.suppress(RegistryUnavailable):  # raised when nothing could be tried
                statuses = {outcome.status for outcome in writing.result()}
        assert statuses == {Status.RETRY}
        write(agent, service)
        assert digests_of(agent) == {service.key: service.digest}

    # R3: nor is what is hidden from a caller without rights

    def test_r3_a_watch_without_rights_yields_nothing_and_says_so(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        name = backend.add_local(self.local("orders"))
        with backend.deny() or backend.outage():
            agent = agents.start()
            watching = agents.watch(agent)
            assert isinstance(watching.failed(self.deadline), RegistryUnavailable)
        assert watching.batches == []
        assert set(agents.watch(agent).until(len, self.deadline)) == {name}

    def test_r3_rights_that_are_taken_away_withdraw_nothing(self, backend: RegistryBackend, agents: Agents) -> None:
        names = {backend.add_local(self.local(name)) for name in ("orders", "billing")}
        agent = agents.start()
        watching = agents.watch(agent)
        watching.until(lambda state: set(state) == names, self.deadline)
        told, late = len(watching.batches), set[str]()
        rights = backend.deny()
        with rights or backend.outage():
            if rights is not None:
                late.add(backend.add_local(self.local("mail")))  # a reason to look again
            # A watch that stands may go on, as some backends ask for rights only when it begins.
            watching.settled(lambda state: late and late <= set(state), self.deadline)
        if watching.settled(lambda state: names | late <= set(state), self.deadline):
            assert set(watching.state) == names | late
        else:
            assert isinstance(watching.error, RegistryUnavailable)
            assert set(agents.watch(agent).until(len, self.deadline)) == names | late
        assert withdrawn(watching.batches[told:], names) == set()

    def test_r3_without_rights_nothing_is_listed_and_nothing_said_to_be_written(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        agent = agents.start()
        standing, fresh = self.imported("stock"), self.imported("mail")
        write(agent, standing)
        with backend.deny() or backend.outage():
            for _ in range(2):  # the one that was there before, and one that begins without rights
                with pytest.raises(RegistryUnavailable):
                    agent.registry_imports()
                statuses = {Status.RETRY}
                with contextlib.suppress(RegistryUnavailable):  # raised when nothing could be tried
                    statuses = {outcome.status for outcome in apply(agent, WriteImport(fresh))}
                assert statuses == {Status.RETRY}
                agent = agents.restart(agent)
        assert digests_of(agent) == {standing.key: standing.digest}
        write(agent, fresh)
        assert digests_of(agent) == {each.key: each.digest for each in (standing, fresh)}

    # R4: it ends when told to

    def test_r4_a_watch_ends_when_told_to_and_leaves_no_thread(self, agents: Agents) -> None:
        agent = agents.start()
        first = agents.watch(agent)
        first.until(lambda _: True, self.deadline)
        first.end(self.deadline)  # whatever a first watch sets up for good is there now

        def watch() -> None:
            before = set(threading.enumerate())
            watching = agents.watch(agent)
            watching.until(lambda _: True, self.deadline)
            watching.end(self.stop_deadline)
            for thread in set(threading.enumerate()) - before:
                thread.join(self.stop_deadline)
                if thread.is_alive():
                    message = f"the watch left {thread.name} behind"
                    raise Late(message)

        in_time(watch)

    def test_r4_a_watch_that_is_told_to_stop_before_it_begins_ends(self, agents: Agents) -> None:
        def watch() -> None:
            stop = Stop()
            stop.set()
            Watching(agents.start(), stop=stop).end(self.stop_deadline)

        in_time(watch)

    def test_r4_a_watch_that_an_outage_ends_leaves_no_thread_and_no_socket(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        several = [agents.start() for _ in range(5)]

        def live() -> None:
            watches = [agents.watch(agent) for agent in several]
            for watching in watches:
                watching.until(lambda _: True, self.deadline)
            with backend.outage():
                for watching in watches:
                    if watching.settled(lambda _: False, self.deadline):
                        watching.end(self.deadline)  # that it goes on is for R3

        live()  # what an agent or a library keeps for good is there now
        require_nothing_left(live, len(several), self.stop_deadline, f"{len(several)} watches")

    def test_r4_an_agent_that_is_closed_leaves_no_thread_and_no_socket(self, agents: Agents) -> None:
        def live() -> None:
            agent = agents.start()
            watching = agents.watch(agent)
            watching.until(lambda _: True, self.deadline)
            write(agent, self.imported("stock"))
            digests_of(agent)
            watching.end(self.deadline)
            agents.stop(agent)

        def lives() -> None:
            for _ in range(LIVES):
                live()

        live()  # what a library keeps for good is there now
        require_nothing_left(lives, LIVES, self.stop_deadline, f"{LIVES} agents that came and went")


def is_reported(wanted: LocalService, seen: LocalService | None) -> bool:
    """Whether all that is wanted of a service is seen.

    Its name, the order of its tags, labels of the registry's own, and how the endpoints of a single port are
    labelled, are for the adapter to say.
    """
    return seen is not None and _plain(seen) == _plain(wanted) and wanted.labels.items() <= seen.labels.items()


def _plain(service: LocalService) -> LocalService:
    endpoints = service.endpoints
    if len(service.ports) == 1:
        endpoints = tuple(replace(each, labels=()) for each in endpoints)
    return replace(service, name="", tags=tuple(sorted(service.tags)), endpoints=endpoints, labels={})


def withdrawn(batches: Iterable[Batch], names: Collection[str]) -> set[str]:
    """Those of `names` that a batch takes out, be it for a moment."""
    gone: set[str] = set()
    for batch in batches:
        if isinstance(batch, Snapshot):
            gone |= set(names) - {service.name for service in batch.services}
        else:
            gone |= {change.name for change in batch if isinstance(change, Remove)}.intersection(names)
    return gone

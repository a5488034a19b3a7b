"""The contract of a registry adapter as tests. R1 to R9 are the rules of `RegistrySpec`, in its words.

Every test acts through the hooks and through `RegistryBackend`, so it holds for any backend. Nothing
asserts how fast anything is; the deadlines are only where waiting ends.
"""

# ruff: noqa: D102 - the name of a test is its documentation

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hamlet_core.api import RegistryUnavailable, RemoveImport, Severity, Snapshot, Status, WriteImport
from hamlet_core.api.testing.agents import Agents, apply, digests_of, imports_of, names_and_digests_of, remove, write
from hamlet_core.api.testing.backend import RegistryBackend
from hamlet_core.api.testing.samples import imported_service, local_service

LOST = datetime(2024, 5, 17, 8, 30, 15, tzinfo=UTC)


class RegistryContract:
    """Subclass it in a plugin's tests and override `backend`; see `hamlet_core.api.testing`."""

    deadline = 20.0
    """Seconds after which a change that has not been seen is taken for lost."""
    stop_deadline = 5.0
    """Seconds a watch has to end. The rule says one; a busy machine gets more."""

    @pytest.fixture
    def backend(self) -> RegistryBackend:
        """Return an empty backend; the subclass knows which."""
        message = f"{type(self).__name__} must override the fixture `backend`"
        raise NotImplementedError(message)

    @pytest.fixture
    def agents(self, backend: RegistryBackend, tmp_path: Path) -> Iterator[Agents]:
        """Open adapters on the backend."""
        agents = Agents(backend, tmp_path)
        yield agents
        agents.stop_all()

    # R1: a Snapshot first, then changes

    def test_r1_first_comes_a_snapshot_of_all_local_services(self, backend: RegistryBackend, agents: Agents) -> None:
        names = {backend.add_local(local_service(name)) for name in ("orders", "billing")}
        watching = agents.watch(agents.start())
        watching.until(lambda _: True, self.deadline)
        first = watching.batches[0]
        assert isinstance(first, Snapshot)
        assert sorted(service.name for service in first.services) == sorted(names)
        assert {(e.address, e.port) for service in first.services for e in service.endpoints} == {("10.0.0.5", 8080)}

    def test_r1_an_empty_registry_yields_an_empty_snapshot(self, agents: Agents) -> None:
        watching = agents.watch(agents.start())
        watching.until(lambda _: True, self.deadline)
        assert watching.batches[0] == Snapshot(())

    def test_r1_services_that_come_change_and_go_are_seen(self, backend: RegistryBackend, agents: Agents) -> None:
        backend.add_local(local_service("billing"))
        watching = agents.watch(agents.start())
        watching.until(len, self.deadline)
        name = backend.add_local(local_service("orders"))
        watching.until(lambda state: name in state, self.deadline)
        backend.add_local(local_service("orders", address="10.0.0.6"))
        watching.until(lambda state: {e.address for e in state[name].endpoints} == {"10.0.0.6"}, self.deadline)
        backend.remove_local("orders")
        state = watching.until(lambda state: name not in state, self.deadline)
        assert len(state) == 1

    def test_r1_each_watch_begins_with_a_snapshot(self, backend: RegistryBackend, agents: Agents) -> None:
        agent = agents.start()
        first = agents.watch(agent)
        first.until(lambda _: True, self.deadline)
        first.end(self.stop_deadline)
        name = backend.add_local(local_service("orders"))
        second = agents.watch(agent)
        second.until(lambda _: True, self.deadline)
        assert isinstance(second.batches[0], Snapshot)
        assert [service.name for service in second.batches[0].services] == [name]

    # R2: what carries our mark is no local service

    def test_r2_imports_are_never_reported_as_local(self, backend: RegistryBackend, agents: Agents) -> None:
        agent = agents.start()
        name = backend.add_local(local_service("orders"))
        write(agent, imported_service("stock"))
        watching = agents.watch(agent)
        assert set(watching.until(len, self.deadline)) == {name}
        write(agent, imported_service("mail"))
        last = backend.add_local(local_service("billing"))
        assert set(watching.until(lambda state: last in state, self.deadline)) == {name, last}

    # R3: an outage is never an empty snapshot

    def test_r3_a_watch_that_begins_in_an_outage_yields_nothing_and_says_so(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        backend.add_local(local_service("orders"))
        agent = agents.start()
        with backend.outage():
            watching = agents.watch(agent)
            assert isinstance(watching.failed(self.deadline), RegistryUnavailable)
        assert watching.batches == []

    def test_r3_an_outage_ends_a_watch_and_withdraws_nothing(self, backend: RegistryBackend, agents: Agents) -> None:
        name = backend.add_local(local_service("orders"))
        watching = agents.watch(agents.start())
        watching.until(len, self.deadline)
        with backend.outage():
            assert isinstance(watching.failed(self.deadline), RegistryUnavailable)
        assert set(watching.state) == {name}

    def test_r3_after_an_outage_everything_is_there_again(self, backend: RegistryBackend, agents: Agents) -> None:
        name = backend.add_local(local_service("orders"))
        agent = agents.start()
        service = imported_service("stock")
        write(agent, service)
        with backend.outage(), pytest.raises(RegistryUnavailable):
            agent.registry_imports()
        assert set(agents.watch(agent).until(len, self.deadline)) == {name}
        assert digests_of(agent) == {service.key: service.digest}

    def test_r3_nothing_is_said_to_be_written_in_an_outage(self, backend: RegistryBackend, agents: Agents) -> None:
        agent = agents.start()
        service = imported_service("stock")
        statuses = {Status.RETRY}
        with backend.outage(), contextlib.suppress(RegistryUnavailable):  # raised when nothing could be tried
            statuses = {outcome.status for outcome in apply(agent, WriteImport(service))}
        assert statuses == {Status.RETRY}
        write(agent, service)
        assert digests_of(agent) == {service.key: service.digest}

    def test_r3_a_check_reports_an_outage_and_does_not_raise(self, backend: RegistryBackend, agents: Agents) -> None:
        agent = agents.start()
        assert Severity.ERROR not in {finding.severity for finding in agent.registry_check()}
        with backend.outage():
            assert Severity.ERROR in {finding.severity for finding in agent.registry_check()}

    # R4: it ends when told to

    def test_r4_a_watch_ends_when_told_to_and_leaves_no_thread(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        backend.add_local(local_service("orders"))
        agent = agents.start()
        agents.watch(agent).end(self.stop_deadline)  # whatever a first watch sets up for good is there now
        before = set(threading.enumerate())
        watching = agents.watch(agent)
        watching.until(len, self.deadline)
        watching.end(self.stop_deadline)
        for thread in set(threading.enumerate()) - before:
            thread.join(self.stop_deadline)
            assert not thread.is_alive(), f"the watch left {thread.name} behind"

    # R5: the backend is the store of what was imported

    def test_r5_a_restarted_agent_finds_every_import_with_its_digest(self, agents: Agents) -> None:
        services = [imported_service("stock"), imported_service("mail"), imported_service("stock", "north")]
        agent = agents.start()
        write(agent, *services)
        agent = agents.restart(agent)
        assert names_and_digests_of(agent) == {each.key: (each.local_name, each.digest) for each in services}
        assert {each.lost_since for each in imports_of(agent).values()} == {None}

    def test_r5_an_edited_entry_has_no_digest_and_is_written_again(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        agent = agents.start()
        service, other = imported_service("stock"), imported_service("mail")
        write(agent, service, other)
        backend.edit_import(service)
        assert digests_of(agent) == {service.key: "", other.key: other.digest}
        write(agent, service)
        assert digests_of(agent) == {service.key: service.digest, other.key: other.digest}

    def test_r5_every_legal_character_survives(self, agents: Agents) -> None:
        service = imported_service(
            "stock",
            description='Größe "XL" \\ 株価\n: - #\t🚚 \u2028 end\x7f',
            tags=("naïve", "a b", "{x: y}", "株", "no"),
            labels={"empty": "", "colon:": "- [x]", "emoji": "🛒", "quote": "'\""},
        )
        agent = agents.start()
        write(agent, service)
        assert digests_of(agents.restart(agent)) == {service.key: service.digest}

    # R6: writes are idempotent and complete

    def test_r6_a_second_apply_changes_nothing(self, backend: RegistryBackend, agents: Agents) -> None:
        services = [imported_service("stock"), imported_service("mail")]
        agent = agents.start()
        write(agent, *services)
        once, digests = dict(backend.entries()), digests_of(agent)
        write(agent, *services)
        assert dict(backend.entries()) == once
        assert digests_of(agent) == digests == {service.key: service.digest for service in services}

    def test_r6_a_change_replaces_what_stood(self, backend: RegistryBackend, agents: Agents) -> None:
        agent = agents.start()
        write(agent, imported_service("stock"))
        once = dict(backend.entries())
        changed = imported_service("stock", address="203.0.113.8")
        write(agent, changed)
        assert dict(backend.entries()) != once
        assert digests_of(agent) == {changed.key: changed.digest}

    def test_r6_an_import_that_moves_leaves_nothing_under_its_old_name(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        agent = agents.start()
        empty = dict(backend.entries())
        old, new = imported_service("stock"), imported_service("stock", local_name="stock.alias.example")
        write(agent, old)
        apply(agent, RemoveImport(old.key, old.local_name), WriteImport(new))
        assert names_and_digests_of(agent) == {new.key: (new.local_name, new.digest)}
        remove(agent, new)
        assert dict(backend.entries()) == empty

    def test_r6_two_imports_can_swap_their_names(self, agents: Agents) -> None:
        agent = agents.start()
        before = [imported_service("a", local_name="x.example"), imported_service("b", local_name="y.example")]
        after = [imported_service("a", local_name="y.example"), imported_service("b", local_name="x.example")]
        write(agent, *before)
        apply(agent, *(RemoveImport(each.key, each.local_name) for each in before), *map(WriteImport, after))
        assert names_and_digests_of(agent) == {each.key: (each.local_name, each.digest) for each in after}

    def test_r6_there_is_one_outcome_for_each_change_in_order(self, agents: Agents) -> None:
        agent = agents.start()
        stays, goes, unknown, comes = (imported_service(name) for name in ("stays", "goes", "unknown", "comes"))
        write(agent, stays, goes)
        outcomes = apply(
            agent,
            WriteImport(comes),
            RemoveImport(goes.key, goes.local_name),
            RemoveImport(unknown.key, unknown.local_name),
            WriteImport(stays),
        )
        assert {outcome.status for outcome in outcomes} == {Status.APPLIED}
        assert set(imports_of(agent)) == {stays.key, comes.key}

    def test_r6_what_is_removed_leaves_nothing_behind(self, backend: RegistryBackend, agents: Agents) -> None:
        agent = agents.start()
        empty = dict(backend.entries())
        services = [imported_service("stock"), imported_service("mail"), imported_service("stock", "north")]
        write(agent, *services)
        remove(agent, *services)
        assert imports_of(agent) == {}
        assert dict(backend.entries()) == empty

    def test_r6_a_thousand_imports_in_one_batch(self, backend: RegistryBackend, agents: Agents) -> None:
        services = [imported_service(f"service-{number}", address="203.0.113.7") for number in range(1000)]
        agent = agents.start()
        empty = dict(backend.entries())
        write(agent, *services)
        agent = agents.restart(agent)
        assert digests_of(agent) == {service.key: service.digest for service in services}
        remove(agent, *services)
        assert dict(backend.entries()) == empty

    # R7: nothing of others is touched

    def test_r7_an_entry_of_someone_else_is_left_alone_and_named(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        agent = agents.start()
        service = imported_service("stock")
        entry = backend.add_foreign(service)
        before = dict(backend.entries())
        (outcome,) = apply(agent, WriteImport(service))
        assert outcome.status is Status.REJECTED
        assert entry in outcome.reason
        apply(agent, RemoveImport(service.key, service.local_name))
        assert dict(backend.entries()) == before
        assert imports_of(agent) == {}

    @pytest.mark.parametrize(
        "another",
        [{"trust_domain": "north.example"}, {"registry": "second"}],
        ids=["of another trust domain", "of another registry"],
    )
    def test_r7_what_an_agent_wrote_is_not_anothers(
        self, backend: RegistryBackend, agents: Agents, another: Mapping[str, str]
    ) -> None:
        service = imported_service("stock")
        agent = agents.start(**another)
        write(agent, service)
        agents.stop(agent)
        before = dict(backend.entries())
        agent = agents.start()
        assert imports_of(agent) == {}
        (outcome,) = apply(agent, WriteImport(service))
        assert outcome.status is Status.REJECTED
        apply(agent, RemoveImport(service.key, service.local_name))
        assert dict(backend.entries()) == before

    # R8: a change that fails is alone in it

    def test_r8_one_change_that_fails_does_not_fail_the_others(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        services = [imported_service(name) for name in ("first", "second", "third")]
        backend.add_foreign(services[1])
        agent = agents.start()
        outcomes = apply(agent, *map(WriteImport, services))
        assert [outcome.status for outcome in outcomes] == [Status.APPLIED, Status.REJECTED, Status.APPLIED]
        assert set(imports_of(agent)) == {services[0].key, services[2].key}

    # R9: one mark for a lost peer

    def test_r9_a_lost_peer_is_known_after_a_restart_and_its_imports_stay(self, agents: Agents) -> None:
        lost, there = imported_service("stock"), imported_service("stock", "north")
        agent = agents.start()
        write(agent, lost, there)
        assert agent.registry_mark_peer(peer="east", lost_since=LOST) is True
        standing = imports_of(agents.restart(agent))
        assert {key: each.lost_since for key, each in standing.items()} == {lost.key: LOST, there.key: None}
        assert {key: each.digest for key, each in standing.items()} == {
            each.key: each.digest for each in (lost, there)
        }

    def test_r9_a_peer_that_is_back_has_no_mark(self, backend: RegistryBackend, agents: Agents) -> None:
        service = imported_service("stock")
        agent = agents.start()
        write(agent, service)
        before = dict(backend.entries())
        agent.registry_mark_peer(peer="east", lost_since=LOST)
        assert dict(backend.entries()) != before, "the mark is not visible in the backend"
        agent.registry_mark_peer(peer="east", lost_since=None)
        assert dict(backend.entries()) == before
        assert imports_of(agents.restart(agent))[service.key].lost_since is None

    def test_r9_a_write_leaves_the_mark_of_a_lost_peer(self, agents: Agents) -> None:
        agent = agents.start()
        write(agent, imported_service("stock"))
        agent.registry_mark_peer(peer="east", lost_since=LOST)
        write(agent, imported_service("stock", address="203.0.113.8"), imported_service("mail"))
        assert [each.lost_since for each in imports_of(agent).values()] == [LOST, LOST]

    def test_r9_a_peer_without_entries_is_marked_or_not_but_never_fails(self, agents: Agents) -> None:
        agent = agents.start()
        assert agent.registry_mark_peer(peer="east", lost_since=LOST) is True
        assert agent.registry_mark_peer(peer="east", lost_since=None) is True
        assert imports_of(agent) == {}

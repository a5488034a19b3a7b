"""R5 to R8: what stands in the backend of the imports, and what is left alone there."""

# ruff: noqa: D102 - the name of a test is its documentation

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pluggy
import pytest

from hamlet_core.api import Endpoint, ImportedService, RemoveImport, Route, Status, WriteImport
from hamlet_core.api.testing.agents import (
    Agents,
    apply,
    digests_of,
    imports_of,
    names_and_digests_of,
    remove,
    require_applied,
    write,
)
from hamlet_core.api.testing.backend import RegistryBackend
from hamlet_core.api.testing.stage import RegistryStage


class ImportRules(RegistryStage):
    """The checks of `registry_imports` and `registry_apply`."""

    # R5: the backend is the store of what was imported

    def test_r5_a_restarted_agent_finds_every_import_with_its_digest(self, agents: Agents) -> None:
        services = [self.imported("stock"), self.imported("mail"), self.imported("stock", self.names.other_peer)]
        agent = agents.start()
        write(agent, *services)
        agent = agents.restart(agent)
        assert names_and_digests_of(agent) == {each.key: (each.local_name, each.digest) for each in services}

    def test_r5_an_edited_entry_has_no_digest_and_is_written_again(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        agent = agents.start()
        service, other = self.imported("stock"), self.imported("mail")
        write(agent, service, other)
        backend.edit_import(service)
        assert digests_of(agent) == {service.key: "", other.key: other.digest}
        write(agent, service)
        assert digests_of(agent) == {service.key: service.digest, other.key: other.digest}

    def test_r5_every_legal_character_survives(self, agents: Agents) -> None:
        service = self.imported(
            "stock",
            description='Größe "XL" \\ 株価\n: - #\t🚚 \u2028 end\x7f',
            tags=("naïve", "a b", "{x: y}", "株", "no"),
            labels={"empty": "", "colon:": "- [x]", "emoji": "🛒", "quote": "'\""},
        )
        agent = agents.start()
        write(agent, service)
        assert digests_of(agents.restart(agent)) == {service.key: service.digest}

    def test_r5_an_import_with_a_route_has_its_digest_as_well(self, agents: Agents) -> None:
        # Where the mesh has a gateway each import has one; and it changes when the gateway moves.
        service, other = self.imported("stock"), self.imported("mail")
        agent = agents.start()
        write(agent, by_gateway(service, "10.0.0.8"), by_gateway(other, "10.0.0.8", originates_tls=False))
        for standing in (by_gateway(service, "10.0.0.8"), by_gateway(service, "10.0.0.9"), service):
            write(agent, standing)
            agent = agents.restart(agent)
            assert digests_of(agent) == {
                standing.key: standing.digest,
                other.key: by_gateway(other, "10.0.0.8", originates_tls=False).digest,
            }

    def test_r5_a_restarted_agent_goes_on_with_what_it_wrote(self, backend: RegistryBackend, agents: Agents) -> None:
        agent = agents.start()
        empty = dict(backend.entries())
        services = [self.imported("stock"), self.imported("stock", self.names.other_peer)]
        write(agent, *services)
        once = dict(backend.entries())
        agent = agents.restart(agent)
        write(agent, *services)
        assert dict(backend.entries()) == once
        remove(agent, *services)
        assert dict(backend.entries()) == empty

    def _standing_among_quiet(self, agent: pluggy.HookRelay) -> tuple[ImportedService, list[ImportedService]]:
        """Write one import that will be edited, and others that nobody touches."""
        quiet = [self.imported(f"quiet-{number}") for number in range(5)]
        standing = self.imported("stock", description="version 0")
        write(agent, standing, *quiet)
        return standing, quiet

    def test_r5_an_edit_while_a_batch_is_written_is_seen_or_written_over(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        agent = agents.start()
        standing, quiet = self._standing_among_quiet(agent)
        for number in range(1, 6):
            service = self.imported("stock", description=f"version {number}")
            with ThreadPoolExecutor(1) as somebody:
                edit = somebody.submit(backend.edit_import, standing)
                outcomes = apply(agent, WriteImport(service), *map(WriteImport, quiet))
                edit.result()
            # Whoever came last: the entry is the agent's own, or it is known to have been edited.
            digests = digests_of(agent)
            allowed = {service.digest, ""} if outcomes[0].status is Status.APPLIED else {standing.digest, ""}
            assert digests.pop(service.key) in allowed
            assert digests == {each.key: each.digest for each in quiet}
            write(agent, service)
            assert digests_of(agent)[service.key] == service.digest
            standing = service

    def test_r5_an_edit_of_what_a_batch_has_just_written_is_seen(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        # The call that wrote it may still be under way: what an adapter notes after its write is not always its own.
        agent = agents.start()
        standing, quiet = self._standing_among_quiet(agent)
        places = edited(backend, standing).keys()
        for number in range(1, 7):
            write(agent, standing)
            service = self.imported("stock", description=f"version {number}")
            returned = threading.Event()
            before = at(backend, places)
            with ThreadPoolExecutor(1) as somebody:
                editing = somebody.submit(edit_once_written, backend, service, before, returned)
                try:
                    apply(agent, WriteImport(service), *map(WriteImport, quiet))
                finally:
                    returned.set()
                edit = editing.result()
            if at(backend, places) == edit:  # nobody has written over it
                assert digests_of(agent)[service.key] == "", "an edit is taken for our own"
            standing = service

    # R6: writes are idempotent and complete

    def test_r6_a_second_apply_changes_nothing(self, backend: RegistryBackend, agents: Agents) -> None:
        services = [self.imported("stock"), self.imported("mail")]
        agent = agents.start()
        write(agent, *services)
        once, digests = dict(backend.entries()), digests_of(agent)
        write(agent, *services)
        assert dict(backend.entries()) == once
        assert digests_of(agent) == digests == {service.key: service.digest for service in services}

    def test_r6_a_change_replaces_what_stood(self, backend: RegistryBackend, agents: Agents) -> None:
        agent = agents.start()
        write(agent, self.imported("stock"))
        once = dict(backend.entries())
        changed = self.imported("stock", address="203.0.113.8")
        write(agent, changed)
        assert dict(backend.entries()) != once
        assert digests_of(agent) == {changed.key: changed.digest}

    def test_r6_an_import_that_moves_leaves_nothing_under_its_old_name(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        agent = agents.start()
        empty = dict(backend.entries())
        old, new = self.imported("stock"), self.imported("stock", local_name="alias")
        write(agent, old)
        apply(agent, RemoveImport(old.key, old.local_name), WriteImport(new))
        assert names_and_digests_of(agent) == {new.key: (new.local_name, new.digest)}
        remove(agent, new)
        assert dict(backend.entries()) == empty

    def test_r6_two_imports_can_swap_their_names(self, agents: Agents) -> None:
        agent = agents.start()
        before = [self.imported("a", local_name="x"), self.imported("b", local_name="y")]
        after = [self.imported("a", local_name="y"), self.imported("b", local_name="x")]
        write(agent, *before)
        apply(agent, *(RemoveImport(each.key, each.local_name) for each in before), *map(WriteImport, after))
        assert names_and_digests_of(agent) == {each.key: (each.local_name, each.digest) for each in after}

    def test_r6_there_is_one_outcome_for_each_change_in_order(self, agents: Agents) -> None:
        agent = agents.start()
        stays, goes, unknown, comes = (self.imported(name) for name in ("stays", "goes", "unknown", "comes"))
        write(agent, stays, goes)
        outcomes = apply(
            agent,
            WriteImport(comes),
            RemoveImport(goes.key, goes.local_name),
            RemoveImport(unknown.key, unknown.local_name),
            WriteImport(stays),
        )
        require_applied(outcomes)
        assert set(imports_of(agent)) == {stays.key, comes.key}

    def test_r6_what_is_removed_leaves_nothing_behind(self, backend: RegistryBackend, agents: Agents) -> None:
        agent = agents.start()
        empty = dict(backend.entries())
        services = [self.imported("stock"), self.imported("mail"), self.imported("stock", self.names.other_peer)]
        write(agent, *services)
        remove(agent, *services)
        assert imports_of(agent) == {}
        assert dict(backend.entries()) == empty

    def test_r6_a_removal_takes_out_its_own_import_alone(self, agents: Agents) -> None:
        agent = agents.start()
        one, other, unknown = self.imported("stock"), self.imported("mail"), self.imported("unknown")
        write(agent, one, other)
        apply(agent, RemoveImport(unknown.key, other.local_name))
        assert digests_of(agent) == {each.key: each.digest for each in (one, other)}

    def test_r6_a_thousand_imports_in_one_batch(self, agents: Agents) -> None:
        services = [self.imported(f"service-{number}", address="203.0.113.7") for number in range(1000)]
        agent = agents.start()
        write(agent, *services)
        agent = agents.restart(agent)
        assert digests_of(agent) == {service.key: service.digest for service in services}
        remove(agent, *services)
        assert imports_of(agents.restart(agent)) == {}

    # R7: nothing of others is touched

    def test_r7_an_entry_of_someone_else_is_left_alone_and_named(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        agent = agents.start()
        service = self.imported("stock")
        entry = backend.add_foreign(service)
        before = dict(backend.entries())
        (outcome,) = apply(agent, WriteImport(service))
        assert outcome.status is Status.REJECTED
        assert entry in outcome.reason
        remove(agent, service)  # which is done: ours is gone
        assert dict(backend.entries()) == before
        assert imports_of(agent) == {}

    def test_r7_an_entry_that_somebody_makes_while_a_batch_is_written_stays_theirs(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        # Whoever is first, what others wrote stands as they wrote it, also when ours is removed. What becomes of
        # ours is for the backend to say: theirs replaces it, stands beside it, or cannot be made.
        agent = agents.start()
        quiet = [self.imported(f"quiet-{number}") for number in range(5)]
        write(agent, *quiet)
        for number in range(6):
            service = self.imported(f"stock-{number}")
            before = dict(backend.entries())
            at_once = threading.Barrier(2, timeout=self.deadline)
            with ThreadPoolExecutor(1) as somebody:
                adding = somebody.submit(add_foreign, backend, service, at_once)
                if number:
                    at_once.wait()
                outcome, *others = apply(agent, WriteImport(service), *map(WriteImport, quiet))
                if not number:  # ours is there first, for once for certain
                    at_once.wait()
                theirs = adding.result()
            require_applied(others)
            both, digests = dict(backend.entries()), digests_of(agent)
            whole = digests.pop(service.key, "") == service.digest
            assert digests == {each.key: each.digest for each in quiet}
            remove(agent, service)
            left = dict(backend.entries())
            changed = {name: entry for name, entry in left.items() if before.get(name) != entry}
            assert before.keys() <= left.keys()
            assert changed == {name: theirs.entries.get(name) for name in changed}, "theirs was changed"
            assert bool(changed) == bool(theirs.name), "theirs is gone"
            assert not whole or left != both, "it is listed as whole, and nothing of it stands"
            if outcome.status is Status.APPLIED:
                assert whole or theirs.name, "it is said to stand, and does not"
            else:
                assert theirs.name, f"nothing was in the way: {outcome.reason}"
                assert not whole
                assert outcome.status is Status.RETRY or theirs.name in outcome.reason

    @pytest.mark.parametrize(
        "another",
        ["trust_domain", "registry"],
        ids=["of another trust domain", "of another registry"],
    )
    def test_r7_what_an_agent_wrote_is_not_anothers(self, agents: Agents, another: str) -> None:
        service = self.imported("stock")
        identity = {another: getattr(self.names, f"other_{another}")}
        agent = agents.start(**identity)
        write(agent, service)
        before = imports_of(agent)
        agents.stop(agent)
        agent = agents.start()
        assert imports_of(agent) == {}
        (outcome,) = apply(agent, WriteImport(service))
        assert outcome.status is Status.REJECTED
        remove(agent, service)  # which is done: ours is gone
        agents.stop(agent)
        assert imports_of(agents.start(**identity)) == before

    # R8: a change that fails is alone in it

    def test_r8_one_change_that_fails_does_not_fail_the_others(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        services = [self.imported(name) for name in ("first", "second", "third")]
        backend.add_foreign(services[1])
        agent = agents.start()
        outcomes = apply(agent, *map(WriteImport, services))
        assert [outcome.status for outcome in outcomes] == [Status.APPLIED, Status.REJECTED, Status.APPLIED]
        assert set(imports_of(agent)) == {services[0].key, services[2].key}

    def test_r8_whatever_its_size_a_change_is_applied_or_refused_alone(self, agents: Agents) -> None:
        plain = [self.imported(f"plain-{number}") for number in range(2)]
        # A message of a peer may have 256 KiB by default, and a name 253 characters in labels of 63.
        longest = ".".join(letter * 60 for letter in "abc")
        extremes = [
            self.imported("described", description="long " * 40_000),
            self.imported("labelled", labels={f"label-{number}": f"value {number}" * 8 for number in range(500)}),
            self.imported("tagged", tags=tuple(f"tag-{number}" for number in range(2_000))),
            self.imported(longest),
        ]
        services = [plain[0], *extremes, plain[1]]
        agent = agents.start()
        outcomes = apply(agent, *map(WriteImport, services))
        require_applied([outcomes[0], outcomes[-1]])
        for outcome in outcomes[1:-1]:
            assert outcome.status is not Status.RETRY, f"it will never succeed: {outcome.reason}"
            assert outcome.status is Status.APPLIED or outcome.reason, f"{outcome.key} was refused without a reason"
        applied = {outcome.key for outcome in outcomes if outcome.status is Status.APPLIED}
        standing = digests_of(agents.restart(agent))
        assert standing == {each.key: each.digest for each in services if each.key in applied}


def by_gateway(service: ImportedService, address: str, *, originates_tls: bool = True) -> ImportedService:
    """The same import, reached by a gateway of this mesh that has this address."""
    places = {each.id: (Endpoint(address=address, port=20_000),) for each in service.service.instances}
    return replace(service, route=Route(endpoints=places, originates_tls=originates_tls))


def at(backend: RegistryBackend, places: Iterable[str]) -> dict[str, object]:
    """What stands in some places."""
    entries = backend.entries()
    return {place: entries.get(place) for place in places}


def edited(backend: RegistryBackend, service: ImportedService) -> dict[str, object]:
    """Edit an import that nobody writes meanwhile; what has changed with it, where."""
    before = dict(backend.entries())
    backend.edit_import(service)
    return {place: entry for place, entry in backend.entries().items() if before.get(place) != entry}


def edit_once_written(
    backend: RegistryBackend, service: ImportedService, before: Mapping[str, object], returned: threading.Event
) -> dict[str, object]:
    """Edit an import as soon as it does not stand as it did `before`, or the call has returned; what stands then."""
    while at(backend, before) == before and not returned.is_set():
        pass
    backend.edit_import(service)
    return at(backend, before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """What somebody made: its name, empty where it could not be made, and all that stood right after it."""

    name: str = ""
    entries: Mapping[str, object] = field(default_factory=dict)


def add_foreign(backend: RegistryBackend, service: ImportedService, at_once: threading.Barrier) -> Foreign:
    """Make an entry of someone else as soon as the other party is there too."""
    at_once.wait()
    try:
        name = backend.add_foreign(service)
    except FileExistsError:
        return Foreign()
    return Foreign(name=name, entries=dict(backend.entries()))

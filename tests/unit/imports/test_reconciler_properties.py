"""Whatever happens in whatever order, the registry ends up with exactly what is accepted, and loses nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import zip_longest

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hamlet_core.api import (
    Endpoint,
    FederatedService,
    ImportedService,
    ImportKey,
    Instance,
    Outcome,
    RemoveImport,
    StandingImport,
    Status,
)
from hamlet_core.config.model import Config
from hamlet_core.imports import Reconciler, State
from hamlet_core.imports.names import alias

RETAIN = timedelta(hours=1)
WINDOW = timedelta(minutes=1)
PEERS = ("east", "west")
NAMES = tuple(f"n{number:02}" for number in range(14))
CLAIMED = ("n00.example", "n01.example", "n00-east.example", "n00-west.example")
CONFIG = Config(
    mesh={"name": "home", "domain": "home.example", "trust_domain": "home.example"},
    identity={"certificate": "home.pem", "key": "home.key"},
    registries={"main": {"kind": "file"}},
    peers={
        name: {
            "bundle": f"{name}.pem",
            "trust_domain": f"{name}.example",
            "retain": RETAIN,
            "brake": {"window": WINDOW},
        }
        for name in PEERS
    },
)

peers = st.sampled_from(PEERS)
names = st.sampled_from(NAMES[:3])
"""Few, so that what happens happens to the same ones; the others come and go all together."""


def build(name: str, fqdn: str, version: int) -> FederatedService:
    return FederatedService(
        name=name,
        fqdn=fqdn,
        description=str(version),
        endpoints=(Endpoint(address="192.0.2.1", port=443),),
        instances=(Instance(id="http", protocol="HTTP"),),
    )


class Importing(RuleBasedStateMachine):
    """Two owners with a catalog each, streams that break, a registry that fails, an agent that is killed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2026, 3, 1, tzinfo=UTC)
        self.entries: dict[ImportKey, StandingImport] = {}
        self.marks: dict[str, datetime] = {}
        self.truth: dict[str, dict[str, FederatedService]] = {peer: {} for peer in PEERS}
        self.live: set[str] = set()
        self.sent: dict[str, set[str]] = {peer: set() for peer in PEERS}
        self.complete: set[str] = set()
        self.local: frozenset[str] = frozenset()
        self.offered: dict[ImportKey, FederatedService] = {}
        """What the owner said last that was well-formed; over all restarts."""
        self.gone: set[ImportKey] = set()
        """What the owner said is gone, or a complete catalog lacked: it may be removed."""
        self.malformed: set[ImportKey] = set()
        self.deleted: dict[str, dict[str, datetime]] = {peer: {} for peer in PEERS}
        self.lost_since: dict[str, datetime] = {}
        self._start()

    @initialize(synced=st.sets(peers), everything=st.booleans())
    def some_peers_are_there_already(self, synced: set[str], everything: bool) -> None:
        for peer in sorted(synced):
            for name in NAMES if everything else NAMES[:3]:
                self.truth[peer][name] = build(name, f"{name}.example", 0)
            self._walk(peer)
        for change in self._plan():
            self._apply(change)
            self.reconciler.record([Outcome(key=change.key, status=Status.APPLIED)], self.now)

    def _start(self) -> None:
        self.reconciler = Reconciler("main", CONFIG)
        self.reconciler.set_local_names(self.local)
        self._adopt()

    def _adopt(self) -> None:
        listing = [
            StandingImport(
                key=entry.key,
                local_name=entry.local_name,
                digest=entry.digest,
                lost_since=self.marks.get(entry.key.peer),
            )
            for entry in self.entries.values()
        ]
        self.reconciler.adopt(listing, self.now)

    # Owners

    @rule(peer=peers, name=names, fqdn=st.none() | st.sampled_from(CLAIMED), version=st.integers(0, 3))
    def an_owner_changes_a_service(self, peer: str, name: str, fqdn: str | None, version: int) -> None:
        self.truth[peer][name] = build(name, fqdn or f"{name}.example", version)
        if peer in self.live and (name in self.sent[peer] or peer in self.complete):
            self._offer(peer, name)

    @rule(peer=peers, doomed=st.sets(names, max_size=3))
    def an_owner_deletes_services(self, peer: str, doomed: set[str]) -> None:
        self._delete(peer, doomed)

    @rule(peer=peers)
    def an_owner_deletes_everything(self, peer: str) -> None:
        self._delete(peer, set(self.truth[peer]))

    @rule(peer=peers)
    def an_owner_has_everything(self, peer: str) -> None:
        for name in NAMES:
            self.an_owner_changes_a_service(peer, name, None, 0)

    def _delete(self, peer: str, doomed: set[str]) -> None:
        for name in sorted(doomed):
            self.truth[peer].pop(name, None)
            if peer not in self.live:
                continue
            key = ImportKey(peer, name)
            recent = {each for each, when in self.deleted[peer].items() if when > self.now - WINDOW}
            self.reconciler.withdraw(peer, name, self.now)
            self.gone.add(key)
            self.malformed.discard(key)
            self.sent[peer].discard(name)
            held = name in self.reconciler.status(peer).held
            if len(recent | {name}) <= 10:
                assert not held, "a handful of deletions is never held"
            if held:
                assert self.reconciler.settled(key).state in {State.HELD, State.REJECTED}
            else:
                self.deleted[peer][name] = self.now
                assert self.reconciler.settled(key).state is not State.HELD

    # Streams

    def _offer(self, peer: str, name: str) -> None:
        key = ImportKey(peer, name)
        self.reconciler.offer(peer, self.truth[peer][name], 300, self.now)
        self.offered[key] = self.truth[peer][name]
        self.sent[peer].add(name)
        self.gone.discard(key)
        self.malformed.discard(key)
        self.deleted[peer].pop(name, None)

    @rule(peer=peers)
    def a_stream_begins(self, peer: str) -> None:
        self._begin(peer)

    @rule(peer=peers)
    def a_stream_begins_and_brings_its_whole_catalog(self, peer: str) -> None:
        self._walk(peer)

    def _walk(self, peer: str) -> None:
        self._begin(peer)
        for name in self.truth[peer]:
            self._offer(peer, name)
        self._complete(peer)

    def _begin(self, peer: str) -> None:
        self.reconciler.begin(peer, self.now)
        self.live.add(peer)
        self.complete.discard(peer)
        self.sent[peer] = set()

    @precondition(lambda self: self.live - self.complete)
    @rule(data=st.data(), backwards=st.booleans())
    def an_owner_sends_some_of_its_catalog(self, data: st.DataObject, backwards: bool) -> None:
        peer = data.draw(st.sampled_from(sorted(self.live - self.complete)))
        left = sorted(self.truth[peer].keys() - self.sent[peer], reverse=backwards)
        for name in left[: data.draw(st.integers(0, len(left)))]:
            self._offer(peer, name)

    @precondition(lambda self: self.live - self.complete)
    @rule(data=st.data(), backwards=st.booleans())
    def an_owner_ends_its_catalog(self, data: st.DataObject, backwards: bool) -> None:
        peer = data.draw(st.sampled_from(sorted(self.live - self.complete)))
        for name in sorted(self.truth[peer].keys() - self.sent[peer], reverse=backwards):
            self._offer(peer, name)
        self._complete(peer)

    def _complete(self, peer: str) -> None:
        self.reconciler.complete(peer, self.now)
        self.complete.add(peer)
        self.lost_since.pop(peer, None)
        for key in {*self.entries, *self.offered}:
            if key.peer == peer and key.name not in self.truth[peer]:
                self.gone.add(key)

    @rule(peer=peers)
    def a_link_is_lost(self, peer: str) -> None:
        if peer in self.live:
            self.reconciler.lost(peer, self.now)
            self.live.discard(peer)
            self.complete.discard(peer)
            self.lost_since.setdefault(peer, self.now)

    @rule(peer=peers, name=names)
    def a_message_cannot_be_decoded(self, peer: str, name: str) -> None:
        if peer in self.live and name in self.truth[peer]:
            self.reconciler.refuse(peer, name, "cannot be decoded", self.now)
            self.malformed.add(ImportKey(peer, name))

    # The registry and the agent

    @rule()
    def the_agent_works(self) -> None:
        self._work([])

    @rule(results=st.lists(st.sampled_from(["applied", "lost answer", "busy"]), max_size=4))
    def the_agent_works_and_the_registry_fails(self, results: list[str]) -> None:
        self._work(results)

    @rule(data=st.data())
    def the_agent_is_killed_at_work(self, data: st.DataObject) -> None:
        changes = self._plan()
        for change in changes[: data.draw(st.integers(0, len(changes)))]:
            self._apply(change)
        self.the_agent_is_killed()

    @rule(data=st.data())
    def something_happens_while_a_write_is_in_flight(self, data: st.DataObject) -> None:
        changes = self._plan()
        event = data.draw(st.sampled_from(["delete", "change", "lose", "local", "walk", "list"]))
        peer, name = data.draw(peers), data.draw(names)
        if event == "delete":
            self._delete(peer, {name})
        elif event == "change":
            self.an_owner_changes_a_service(peer, name, data.draw(st.sampled_from(CLAIMED)), 9)
        elif event == "lose":
            self.a_link_is_lost(peer)
        elif event == "local":
            self.local_services_change(frozenset({f"{name}.example"}))
        elif event == "walk":
            self._walk(peer)
        else:
            self._adopt()
        self._settle(changes, [])

    def _work(self, results: list[str]) -> None:
        self._settle(self._plan(), results)

    def _settle(self, changes, results: list[str]) -> None:
        outcomes = []
        for change, result in zip_longest(changes, results[: len(changes)], fillvalue="applied"):
            if result != "busy":
                self._apply(change)
            status = Status.APPLIED if result == "applied" else Status.RETRY
            outcomes.append(Outcome(key=change.key, status=status, reason=result))
        self.reconciler.record(outcomes, self.now)

    @rule()
    def the_agent_is_killed(self) -> None:
        self.live.clear()
        self.complete.clear()
        self.deleted = {peer: {} for peer in PEERS}
        for peer in PEERS:
            self.lost_since[peer] = self.marks.get(peer, self.now)
        self._start()

    @rule(local=st.frozensets(st.sampled_from(CLAIMED), max_size=2))
    def local_services_change(self, local: frozenset[str]) -> None:
        self.local = local
        self.reconciler.set_local_names(local)

    @rule(minutes=st.sampled_from([0.2, 1, 10, 50]))
    def time_passes(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)
        self._mark()

    @precondition(lambda self: self.entries)
    @rule(data=st.data(), edited=st.booleans())
    def someone_meddles_with_an_entry(self, data: st.DataObject, edited: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.entries)))
        entry = self.entries.pop(key)
        if edited:
            self.entries[key] = StandingImport(key=key, local_name=entry.local_name, digest="")
        self._adopt()

    @rule(peer=peers)
    def the_operator_confirms(self, peer: str) -> None:
        held = self.reconciler.status(peer).held
        assert self.reconciler.confirm(peer, self.now) == len(held)

    def _mark(self) -> None:
        for peer, lost_since in self.reconciler.marks(self.now):
            if lost_since is None:
                self.marks.pop(peer, None)
            else:
                assert peer not in self.live
                self.marks[peer] = lost_since
            self.reconciler.marked(peer, lost_since)

    def _plan(self):
        changes = self.reconciler.plan(self.now)
        assert len({change.key for change in changes}) == len(changes)
        for change in changes:
            if isinstance(change, RemoveImport):
                assert self._may_go(change), change
            else:
                assert change.service.local_name not in self.local, change
        assert self.reconciler.plan(self.now) == ()
        return changes

    def _may_go(self, change: RemoveImport) -> bool:
        """Whether there is a reason to remove the entry. Silence, an outage and a restart are none."""
        key, peer = change.key, change.key.peer
        offered = self.offered.get(key)
        if offered is not None and change.local_name not in (offered.fqdn, alias(offered.fqdn, peer)):
            return True  # it changes its name, and is written again
        if key.name in self.reconciler.status(peer).held:
            return False
        if key in self.gone or change.local_name in self.local:
            return True
        lost_since = self.lost_since.get(peer)
        if peer not in self.live and lost_since is not None and self.now >= lost_since + RETAIN:
            self.gone.add(key)  # also when the removal has to be tried again later
            return True
        # Not from the status: a later message that could not be decoded hides the reason there.
        refusal = self.reconciler._table.peers[peer].declined.get(key.name, "")
        return "is the name of a local service" in refusal or "taken by" in refusal

    def _apply(self, change) -> None:
        if isinstance(change, RemoveImport):
            self.entries.pop(change.key, None)
            return
        wanted = change.service
        for other in self.entries.values():
            assert other.local_name != wanted.local_name or other.key == wanted.key, (other, wanted)
        self.entries[change.key] = StandingImport(key=change.key, local_name=wanted.local_name, digest=wanted.digest)

    @invariant()
    def the_reconciler_is_consistent(self) -> None:
        for peer in PEERS:
            status = self.reconciler.status(peer)
            assert status.applied <= status.accepted
            assert status.complete == (peer in self.complete)
            assert (status.lost_since is None) or not status.complete
        due = self.reconciler.next_due(self.now)
        assert due is None or due > self.now - timedelta(hours=10)

    def teardown(self) -> None:
        for peer in PEERS:
            self._walk(peer)
            self.reconciler.confirm(peer, self.now)
        for _ in range(100):
            self._mark()
            changes = self._plan()
            for change in changes:
                self._apply(change)
            self.reconciler.record([Outcome(key=change.key, status=Status.APPLIED) for change in changes], self.now)
            due = self.reconciler.next_due(self.now)
            if not changes and due is None:
                break
            self.now = self.now if changes or due is None else max(due, self.now)
        else:
            raise AssertionError("it never comes to rest")
        self._nothing_is_lost_and_nothing_left_over()

    def _nothing_is_lost_and_nothing_left_over(self) -> None:
        assert self.marks.keys().isdisjoint(key.peer for key in self.entries)
        where = {entry.local_name: key for key, entry in self.entries.items()}
        for peer in PEERS:
            status = self.reconciler.status(peer)
            assert (status.pending, status.held, status.lost_since) == (0, {}, None)
            accepted = self.truth[peer].keys() - status.rejected.keys()
            assert {key.name for key in self.entries if key.peer == peer} == accepted
            for name in accepted:
                service, entry = self.truth[peer][name], self.entries[ImportKey(peer, name)]
                assert entry.local_name in (service.fqdn, alias(service.fqdn, peer))
                assert entry.local_name not in self.local
                expected = ImportedService(peer=peer, local_name=entry.local_name, service=service)
                assert entry.digest == expected.digest
                assert self.reconciler.settled(entry.key).state is State.APPLIED
            for name, reason in status.rejected.items():
                plain = self.truth[peer][name].fqdn
                other = alias(plain, peer)
                if plain in self.local:
                    assert "is the name of a local service" in reason
                else:
                    holders = [where[name].peer for name in (plain, other) if name in where]
                    both = len(holders) + (other in self.local) == 2
                    assert peer in holders or both, reason


Importing.TestCase.settings = settings(max_examples=400, stateful_step_count=30, deadline=None)
TestImporting = Importing.TestCase

"""The reconciler of one registry: from offers, withdrawals, lost links and listings to the next changes.

A synchronous state machine, level-triggered: every event only changes tables, and `plan` gives out what
brings the registry from what it holds to what it should. It does no I/O and reads no clock.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from hamlet_core.api import (
    FederatedService,
    ImportAnswer,
    ImportChange,
    ImportKey,
    ImportRoute,
    Outcome,
    StandingImport,
)
from hamlet_core.config.model import Config
from hamlet_core.imports import report
from hamlet_core.imports.brake import Held, floods
from hamlet_core.imports.inference import follow_time, infer, let_go
from hamlet_core.imports.marks import Marks
from hamlet_core.imports.offers import Offers
from hamlet_core.imports.rules import shorten, validate
from hamlet_core.imports.status import Glance, ImportRow, PeerImports, Settled, State
from hamlet_core.imports.table import ImportTable


class Reconciler:
    """What one registry should hold of all peers, what it holds, and what to change next.

    The caller feeds it events, calls `plan` after each (also after `record`, and at `next_due`), applies
    what it gets, and reports every outcome with `record`; when the registry could not be called that is a
    RETRY for each change. Nothing is planned before `adopt` and `set_local_names` have each been called
    once: until then it cannot know what it would overwrite. `now` is aware and never goes back.
    """

    def __init__(self, registry: str, config: Config) -> None:
        self._table = ImportTable(registry, config)
        self._peers = self._table.peers
        self._config = config
        self._marks = Marks()
        self._adopted = False
        self._local_known = False

    # What the operator does

    def configure(self, config: Config, now: datetime) -> frozenset[str]:
        """Take a new configuration; return the peers whose catalog should be walked anew.

        The imports of a peer that is gone from it, or no longer imported into this registry, are withdrawn
        at once. All offers of a peer whose settings changed are judged again. What was refused without
        being kept (over the quota, too large) can only be had by a new stream: those are the peers
        returned. What the registry rejected is tried once more.
        """
        before = {peer: offers.settings for peer, offers in self._peers.items()}
        moved = config.mesh.domain != self._config.mesh.domain
        self._config = config
        self._table.take_settings(config)
        walk = set()
        for peer, offers in list(self._peers.items()):
            old = before.get(peer)
            if offers.settings is None:
                if old is not None:
                    offers.dismissed = True
                    self._table.drop_all(offers)
                continue
            offers.dismissed = False
            if old is None:
                self._lost_since_adoption(offers, now)
            elif moved or old != offers.settings:
                for name in list(reversed(offers.services)):  # where room shrinks, the latest goes first
                    self._table.assess(offers, name)
                if offers.turned_away:
                    walk.add(peer)
        self._table.try_rejected()
        self._table.try_waiting()
        return frozenset(walk)

    def confirm(self, peer: str, now: datetime) -> int:  # noqa: ARG002 - every event has its time
        """Let the held removals of `peer` pass; return how many there were."""
        offers = self._peers.get(peer)
        if offers is None:
            return 0
        offers.deletions.clear()
        return let_go(self._table, offers, list(offers.held))

    def leave(self, peer: str, now: datetime) -> int:  # noqa: ARG002 - every event has its time
        """Withdraw everything that came from `peer`, orphans too, and forget it; return how many entries go.

        The caller closes its stream first: what it offers afterwards is taken again.
        """
        offers = self._peers.get(peer)
        if offers is None:
            return 0
        offers.dismissed = offers.settings is None
        return self._table.drop_all(offers)

    # What the registry says

    def set_local_names(self, names: Iterable[str]) -> None:
        """Take the names of all local services and our own FQDNs; an import that has one is withdrawn."""
        self._local_known = True
        for key in self._table.names.set_local(frozenset(name.lower() for name in names)):
            offers = self._peers[key.peer]
            if key.name in offers.services:
                self._table.assess(offers, key.name)
            elif key.name in offers.standing:
                self._table.yield_to_local(offers, key.name)
        self._start()
        self._table.try_waiting()

    def adopt(self, standing: Sequence[StandingImport], now: datetime) -> None:
        """Take the whole listing of what stands in the registry with our mark.

        At start, when writes are in doubt, and now and then: an entry that vanished or was edited is
        written again. The listing is not older than the last recorded outcome; a key with a change in
        flight is left to its outcome. Of two entries with one key the misnamed one counts, so that it is
        removed first.
        """
        self._adopted = True
        listed: dict[ImportKey, StandingImport] = {}
        for entry in sorted(standing, key=lambda entry: (entry.key, entry.local_name)):
            offers = self._peers.setdefault(entry.key.peer, Offers(peer=entry.key.peer))
            wanted = offers.wanted.get(entry.key.name)
            if entry.key not in listed or (
                wanted is not None and listed[entry.key].local_name == wanted.imported.local_name
            ):
                listed[entry.key] = entry
        self._marks.listed(standing)
        in_flight = self._table.writes.in_flight
        for offers in self._peers.values():
            for name in list(offers.standing):
                key = ImportKey(offers.peer, name)
                if key not in listed and not in_flight(key):
                    self._table.vanish(offers, name)
        for key, entry in listed.items():
            if not in_flight(key):
                self._table.stand(entry)
        for offers in self._peers.values():
            if offers.inferred:  # the catalog was judged: what it brought counts among what stood
                offers.new.clear()
            offers.inferred = False
            self._lost_since_adoption(offers, now)
        self._start()
        self._table.rename_evicted()
        self._table.try_waiting()
        infer(self._table, now)

    def marked(self, peer: str, lost_since: datetime | None) -> None:
        """The registry now says that `peer` is lost since `lost_since`, or that it is there (None)."""
        self._marks.told(peer, lost_since)

    def record(self, outcomes: Iterable[Outcome], now: datetime) -> None:
        """Settle changes that `plan` gave out. An outcome of a change not in flight is ignored."""
        for outcome in outcomes:
            self._table.settle(outcome, self._marks.stands(outcome.key.peer), now)
        self._table.try_waiting()

    # What the streams say

    def takes(self, peer: str) -> bool:
        """Whether this registry takes anything from `peer`."""
        return self._table.taken(peer) is not None

    def begin(self, peer: str, now: datetime) -> None:  # noqa: ARG002 - every event has its time
        """A stream of `peer` is up and its catalog starts, from the beginning."""
        offers = self._table.taken(peer)
        if offers is not None:
            offers.live, offers.complete = True, False
            offers.start_stream()

    def offer(self, peer: str, service: FederatedService, size_bytes: int, now: datetime) -> str | None:
        """`peer` offers `service` in a message of `size_bytes`; return why it is refused, or None.

        A message that is not well-formed says nothing about the service: what stands of it stays. A
        well-formed service that our policy refuses is withdrawn.
        """
        offers = self._table.taken(peer)
        if offers is None or offers.settings is None:
            return f"the registry {self._table.registry} takes nothing from {peer}: see peers.{peer}.import_into"
        name, limit = service.name, offers.settings.max_message_bytes
        if size_bytes > limit:
            offers.turned_away = True
            reason = (
                f"the message about {shorten(name)} has {size_bytes} bytes and {limit} are allowed:"
                f" raise peers.{peer}.max_message_bytes"
            )
            return self.refuse(peer, name, reason, now)
        known = offers.services.get(name) == service
        faults = () if known else validate(service)
        if faults:
            return self.refuse(peer, name, "; ".join(faults), now)
        if name not in offers.present:
            offers.new.add(name)
        offers.services[name] = service
        offers.refused.pop(name, None)
        offers.mention(name)
        offers.deletions.returned(name)
        if known and name in offers.wanted:
            return None
        refusal = self._table.assess(offers, name)
        self._table.try_waiting()
        return refusal

    def refuse(self, peer: str, name: str, reason: str, now: datetime) -> str:  # noqa: ARG002 - as above
        """A message about `name` held no service (undecodable, too large): what stands of it stays.

        Returns the reason, for the answer.
        """
        offers = self._table.taken(peer)
        if offers is not None:
            offers.refuse(name, reason)
            offers.mention(name)
        return reason

    def withdraw(self, peer: str, name: str, now: datetime) -> None:
        """The owner deleted `name`: it goes at once, unless such deletions have become a flood."""
        offers = self._table.taken(peer)
        if offers is None or offers.settings is None:
            return
        offers.refused.pop(name, None)
        if name in offers.present:
            brake = offers.settings.brake
            gone = offers.deletions.count(now, brake.window)
            stood = len(offers.present) + gone
            if floods(gone + 1, stood, brake.share):
                reason = (
                    f"the owner deleted more than {brake.share:.0%} of {stood} services within"
                    f" {brake.window.total_seconds():g} s: run `hamlet confirm {peer}` to let it pass"
                )
                offers.hold(name, Held(since=now, reason=reason))
                return
            offers.deletions.note(name, now)
        self._table.drop(offers, name)
        self._table.try_waiting()

    def complete(self, peer: str, now: datetime) -> None:
        """The whole catalog of `peer` was delivered: what was not mentioned is gone, as far as one can tell."""
        offers = self._table.taken(peer)
        if offers is not None and offers.live:
            offers.complete = True
            offers.lost_since = None
            infer(self._table, now)

    def lost(self, peer: str, now: datetime) -> None:
        """The stream of `peer` ended: everything it had stays as it is."""
        offers = self._table.taken(peer)
        if offers is not None:
            offers.live = offers.complete = False
            offers.lost_since = offers.lost_since or now

    # What the gateway says

    def to_route(self) -> tuple[dict[ImportKey, ImportRoute], frozenset[ImportKey]] | None:
        """What to ask the gateway for: the routes by key, and the entries of unknown content that it should keep.

        None while not all is known that stands. Ask when `routes_due`, and report with `routed`.
        """
        if not self._table.ready:
            return None
        self._table.routes.due = False
        return self._table.to_route()

    @property
    def routes_due(self) -> bool:
        """Whether the gateway must hear of something before all that is wanted can be written."""
        return self._table.ready and self._table.routes.due

    def routed(self, asked: Mapping[ImportKey, ImportRoute], answers: Mapping[ImportKey, ImportAnswer]) -> None:
        """Take what the gateway answered about the routes it was asked for."""
        self._table.route(asked, answers)
        self._table.try_waiting()

    def not_routed(self) -> None:
        """The gateway did not answer: ask again."""
        self._table.routes.change()

    # What is to be done

    def plan(
        self, now: datetime, peers_or_keys: Collection[str | ImportKey] | None = None
    ) -> tuple[ImportChange, ...]:
        """What to write now, removals that free a name first; each is in flight until it is recorded.

        Given peers or keys, only changes of those. It looks only at what may have changed since the last
        call. An import whose local name still stands for another entry (or for an earlier form of its
        own) waits until that is recorded as removed.
        """
        table = self._table
        if not table.ready:
            return ()
        follow_time(table, now)
        keys = []
        for key in list(table.dirty):
            if peers_or_keys is not None and key not in peers_or_keys and key.peer not in peers_or_keys:
                continue
            if table.writes.in_flight(key):
                table.dirty.discard(key)
            elif table.agrees(key):
                table.dirty.discard(key)
                table.writes.done(key)
            else:
                keys.append(key)
        return tuple(change for change in table.changes(keys) if table.take(change, now))

    def marks(self, now: datetime) -> list[tuple[str, datetime | None]]:
        """What `registry_mark_peer` should be told; report with `marked`, or be asked again after a while.

        A peer with the first entries since a listing without any is told as there (None) once, since an
        old mark of it may be left.
        """
        return self._marks.due(self._peers.values(), now) if self._table.ready else []

    def next_due(self, now: datetime) -> datetime | None:
        """When `plan` and `marks` should be called next although nothing happens; None for not at all."""
        if not self._table.ready:
            return None
        times = [self._table.writes.next_due()]
        for offers in self._peers.values():
            times += [offers.next_release(), offers.retained_until(), self._marks.next_due(offers, now)]
        return min((time for time in times if time is not None), default=None)

    # What is known

    def settled(self, key: ImportKey) -> Settled:
        """What became of what the owner said last about `key`, which may be that it is gone."""
        return report.settled(self._table, key) if self._table.ready else Settled(state=State.PENDING)

    def status(self, peer: str) -> PeerImports:
        """How the imports of `peer` are; all zero for one that is not known."""
        return report.peer_imports(self._table, peer)

    def glance(self, peer: str) -> Glance:
        """The little of `status` that costs nothing."""
        offers = self._peers.get(peer)
        if offers is None:
            return Glance()
        return Glance(standing=len(offers.standing), held=len(offers.held), complete=offers.complete)

    def rows(self) -> tuple[ImportRow, ...]:
        """Every service that is offered or stands, for `hamlet services`."""
        return tuple(report.rows(self._table))

    def rehearse(self, config: Config, now: datetime) -> tuple[ImportChange, ...]:
        """What taking `config` would make `plan` return, beyond what it would return anyway; nothing changes.

        A write counts although the gateway has yet to say how the service is reached.
        """
        as_it_is, changed = (copy.deepcopy(self, self._table.shared()) for _ in range(2))
        for each in (as_it_is, changed):
            each._table.routes.required = False  # noqa: SLF001 - its own class
        already = {change.key: change for change in as_it_is.plan(now)}
        changed.configure(config, now)
        return tuple(change for change in changed.plan(now) if already.get(change.key) != change)

    def orphans(self) -> tuple[StandingImport, ...]:
        """Entries of peers that this registry takes nothing from: only `leave` removes them."""
        return report.orphans(self._table)

    # Steps

    def _start(self) -> None:
        """Once all is known that must be, judge what was offered before that."""
        if self._adopted and self._local_known and not self._table.ready:
            self._table.ready = True
            self._table.assess_all()

    def _lost_since_adoption(self, offers: Offers, now: datetime) -> None:
        """A peer with entries and no complete catalog is lost since its mark says so, or else since now."""
        if (
            self._adopted
            and offers.settings is not None
            and not offers.complete
            and offers.standing
            and offers.lost_since is None
        ):
            offers.lost_since = self._marks.stands(offers.peer) or (None if offers.live else now)

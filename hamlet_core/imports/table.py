"""The tables of one registry's imports and the steps between them: judge an offer, drop it, settle a write.

Which event leads to which step is the reconciler's; each step here leaves all tables consistent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from hamlet_core.api import (
    ImportAnswer,
    ImportChange,
    ImportedService,
    ImportKey,
    ImportRoute,
    Outcome,
    Refused,
    StandingImport,
    Status,
    WriteImport,
)
from hamlet_core.config.model import Config
from hamlet_core.imports.names import NameTable, alias
from hamlet_core.imports.offers import Offers, Wanted
from hamlet_core.imports.plan import plan
from hamlet_core.imports.routes import Routes
from hamlet_core.imports.rules import accept
from hamlet_core.imports.writes import Writes

BY_GATEWAY = "the gateway of this mesh refuses it"


class ImportTable:
    """Everything known about the imports of one registry.

    `dirty` are the keys whose entry may differ from what is wanted. `ready` says that the standing entries
    and the local names are known: until then offers are kept, and judged by our policy alone.
    """

    def __init__(self, registry: str, config: Config) -> None:
        self.registry = registry
        self.peers: dict[str, Offers] = {}
        self.writes = Writes()
        self.names = NameTable(self._stays, self._rank)
        self.routes = Routes(required=config.way_out is not None)
        self.dirty: set[ImportKey] = set()
        self.ready = False
        self._ranks: dict[str, int] = {}
        self._roomy: dict[str, None] = {}
        self.take_settings(config)

    def take_settings(self, config: Config) -> None:
        """Note what the configuration says of each peer; None for those this registry takes nothing from."""
        self._domain = config.mesh.domain
        self._ranks = {peer: rank for rank, peer in enumerate(config.peers)}
        for offers in self.peers.values():
            offers.settings = None
        for peer, settings in config.peers.items():
            if settings.import_into == "all" or self.registry in settings.import_into:
                self.peers.setdefault(peer, Offers(peer=peer)).settings = settings

    def taken(self, peer: str) -> Offers | None:
        """What is known of `peer`, when this registry takes something from it."""
        offers = self.peers.get(peer)
        return offers if offers is not None and offers.settings is not None else None

    def shared(self) -> dict[int, object]:
        """What a copy of this table need not copy, since it never changes, as `copy.deepcopy` takes it."""
        kept: list[object] = [*self.routes.shared()]
        for offers in self.peers.values():
            kept += [*offers.services.values(), *offers.wanted.values(), *offers.standing.values()]
        return {id(each): each for each in kept}

    def _stays(self, key: ImportKey) -> bool:
        return key.name not in self.peers[key.peer].leaving

    def _rank(self, peer: str) -> int:
        return self._ranks.get(peer, len(self._ranks))

    # Offers

    def assess(self, offers: Offers, name: str) -> str | None:
        """Judge the offer kept of `name` anew; return why it is declined, or None: also for a reason of our own."""
        service, settings, key = offers.services[name], offers.settings, ImportKey(offers.peer, name)
        if settings is None:
            return None
        offers.declined.pop(name, None)
        offers.over_quota.pop(name, None)
        offers.unrouted.discard(name)
        reason = accept(
            service,
            settings,
            local_names=self.names.local,
            own_domain=self._domain,
            peer_name=offers.peer,
        )
        if reason is not None:
            taken = service.fqdn.lower() in self.names.local
            return self._decline(offers, name, reason, waits=taken)
        limit = settings.max_services
        if not (offers.has_room(name, limit) if self.ready else len(offers.services) <= 2 * limit):
            offers.over_quota[name] = None
            reason = (
                f"{offers.peer} already has the {limit} services here that it may have:"
                f" raise peers.{offers.peer}.max_services"
            )
            return self._decline(offers, name, reason, waits=False)
        if not self.ready:
            return None
        route = self.routes.of(key, service)
        if isinstance(route, Refused):
            offers.unrouted.add(name)
            self._decline(offers, name, f"{BY_GATEWAY}: {route.reason}", waits=False)
            return None  # the reason is ours; `settled` says that it is rejected
        given = self.names.assign(key, service.fqdn)
        if given.refusal:
            return self._decline(offers, name, given.refusal, waits=True)
        self._want(
            offers,
            key,
            ImportedService(peer=key.peer, local_name=given.local_name, service=service, route=route),
        )
        if given.displaced is not None:
            self.assess(self.peers[given.displaced.peer], given.displaced.name)
        return None

    def assess_all(self) -> None:
        """Judge every offer anew, peers in the order of the configuration."""
        for offers in sorted(self.peers.values(), key=lambda offers: self._rank(offers.peer)):
            for name in list(offers.services):
                self.assess(offers, name)

    def _want(self, offers: Offers, key: ImportKey, imported: ImportedService) -> None:
        wanted, before = Wanted(imported=imported, digest=imported.digest), offers.wanted.get(key.name)
        if before is None or before.digest != wanted.digest:
            self.writes.forget(key)
        offers.wanted[key.name] = wanted
        if self.awaits(wanted):
            self.routes.change()
        offers.leaving.discard(key.name)
        offers.yielding.discard(key.name)
        self._touch(offers, key.name)

    def _decline(self, offers: Offers, name: str, reason: str, *, waits: bool) -> str:
        """Take out what is declined; `waits` for a name that may get free."""
        key, fqdn = ImportKey(offers.peer, name), offers.services[name].fqdn
        offers.declined[name] = reason
        self.unwant(offers, name)
        limit = offers.settings.max_services if offers.settings is not None else 0
        if len(offers.declined) > limit:  # what a peer can make us keep has a bound
            told = BY_GATEWAY if name in offers.unrouted else reason  # to the owner, too, from now on
            offers.forget(name)
            offers.refuse(name, told)
            offers.turned_away = True
        elif waits:
            self.names.wait(key, fqdn.lower(), alias(fqdn, offers.peer))
        return reason

    def unwant(self, offers: Offers, name: str) -> None:
        """The entry of `name` is to go, if there is one (or is being written)."""
        key = ImportKey(offers.peer, name)
        offers.held.pop(name, None)
        changed = offers.wanted.pop(name, None) is not None
        if name not in offers.leaving and (name in offers.standing or self.writes.in_flight(key)):
            offers.leaving.add(name)
            self.names.leave(key)
            changed = True
        if changed:
            self.writes.forget(key)
            self.routes.change()
        self.names.release(key)
        self._touch(offers, name)

    def drop(self, offers: Offers, name: str) -> None:
        """`name` is gone: forget its offer and take its entry out."""
        offers.forget(name)
        self.unwant(offers, name)

    def drop_all(self, offers: Offers) -> int:
        """Withdraw everything of a peer and forget it; return how many entries go."""
        count = len(offers.standing)
        for name in sorted(offers.services.keys() | offers.standing.keys()):
            self.drop(offers, name)
        offers.live = offers.complete = False
        offers.lost_since = None
        offers.start_stream()
        offers.deletions.clear()
        return count

    def _touch(self, offers: Offers, name: str) -> None:
        if offers.count(name):
            self._roomy[offers.peer] = None
        self.dirty.add(ImportKey(offers.peer, name))

    def try_rejected(self) -> None:
        """Let what the registry rejected be tried once more: the operator may have mended the cause."""
        for key in self.writes.rejected_keys():
            self.writes.forget(key)
            self.dirty.add(key)

    def try_waiting(self) -> None:
        """Judge those anew that waited for a name or for room which is free by now."""
        while True:
            keys = [*self.names.freed(), *self._with_room()]
            if not keys:
                return
            for key in keys:
                offers = self.peers[key.peer]
                if key.name in offers.declined:
                    self.assess(offers, key.name)

    def _with_room(self) -> list[ImportKey]:
        peers, self._roomy = self._roomy, {}
        keys = []
        for peer in peers:
            offers = self.taken(peer)
            if offers is not None and offers.settings is not None:
                room = offers.settings.max_services - max(len(offers.present), len(offers.wanted))
                keys += [ImportKey(peer, name) for name in list(offers.over_quota)[: max(room, 0)]]
        return keys

    # Entries

    def stand(self, entry: StandingImport) -> None:
        """The registry holds `entry`."""
        offers, name = self.peers[entry.key.peer], entry.key.name
        if name not in offers.standing:
            self.routes.change()
        offers.standing[name] = entry
        offers.unsure.discard(name)
        self.names.occupy(entry.local_name, entry.key)
        if not self.ready:
            offers.new.discard(name)
        if offers.dismissed:
            offers.leaving.add(name)
        elif name not in offers.services:
            self.yield_to_local(offers, name)
        self._touch(offers, name)

    def vanish(self, offers: Offers, name: str) -> None:
        """The registry holds no entry of `name` any more."""
        key = ImportKey(offers.peer, name)
        self.routes.change()
        offers.standing.pop(name, None)
        offers.unsure.discard(name)
        offers.leaving.discard(name)
        offers.yielding.discard(name)
        self.names.vacate(key)
        if name not in offers.wanted:
            offers.held.pop(name, None)
            self.writes.done(key)
        self._touch(offers, name)

    def yield_to_local(self, offers: Offers, name: str) -> None:
        """Take out `name`, kept from before without its content, when a local service has its name; or keep it."""
        local = offers.standing[name].local_name
        if local in self.names.local:
            if offers.settings is not None and name not in offers.leaving:  # an orphan is the operator's to remove
                offers.refuse(name, f"the name {local} is now that of a local service, which goes first")
                offers.yielding.add(name)
                self.unwant(offers, name)
        elif name in offers.yielding:
            offers.yielding.discard(name)
            offers.leaving.discard(name)
            offers.refused.pop(name, None)
            self._touch(offers, name)

    def rename_evicted(self) -> None:
        """Give another name to each import whose own stands for an entry that nobody takes out."""
        for offers in self.peers.values():
            for name, wanted in list(offers.wanted.items()):
                key = ImportKey(offers.peer, name)
                occupant = self.names.occupant(wanted.imported.local_name)
                if occupant is not None and occupant != key and self._stays(occupant):
                    self.names.release(key)
                    self.assess(offers, name)

    # Routes

    def awaits(self, wanted: Wanted) -> bool:
        """Whether the gateway has not said yet how `wanted` is reached, so that it cannot be written."""
        return self.routes.required and wanted.imported.route is None

    def to_route(self) -> tuple[dict[ImportKey, ImportRoute], frozenset[ImportKey]]:
        """Everything that the gateway should lead to, and the entries of unknown content that it should keep."""
        routes: dict[ImportKey, ImportRoute] = {}
        standing: set[ImportKey] = set()
        for peer, offers in self.peers.items():
            for name in {**offers.wanted, **dict.fromkeys(offers.unrouted)}:
                routes[ImportKey(peer, name)] = ImportRoute(peer=peer, service=offers.services[name])
            standing.update(ImportKey(peer, name) for name in offers.standing)
        return routes, frozenset(standing - routes.keys())

    def route(self, asked: Mapping[ImportKey, ImportRoute], answers: Mapping[ImportKey, ImportAnswer]) -> None:
        """Take what the gateway said about `asked`."""
        for key in self.routes.take(asked, answers):
            offers = self.peers[key.peer]
            if key.name in offers.wanted or key.name in offers.unrouted:
                self.assess(offers, key.name)

    # Writes

    def agrees(self, key: ImportKey) -> bool:
        """Whether nothing is to be done about `key`."""
        return self.peers[key.peer].agrees(key.name)

    def blocker(self, key: ImportKey) -> ImportKey | None:
        """The import whose entry still stands under the local name that `key` is to have."""
        wanted = self.peers[key.peer].wanted.get(key.name)
        occupant = self.names.occupant(wanted.imported.local_name) if wanted is not None else None
        return occupant if occupant != key else None

    def changes(self, keys: list[ImportKey]) -> tuple[ImportChange, ...]:
        """The first change that each of `keys` needs, in the order of `plan`."""
        desired, standing = {}, {}
        for key in keys:
            offers = self.peers[key.peer]
            wanted, stands = offers.wanted.get(key.name), offers.standing.get(key.name)
            if wanted is not None and self.awaits(wanted):
                continue  # what stands of it stays meanwhile
            if wanted is not None:
                desired[key] = wanted.imported
            if stands is not None and (wanted is not None or key.name in offers.leaving):
                standing[key] = stands
        first: dict[ImportKey, ImportChange] = {}
        for change in plan(desired, standing):
            first.setdefault(change.key, change)
        return tuple(first.values())

    def take(self, change: ImportChange, now: datetime) -> bool:
        """Give out `change`, unless it must wait; whether it was given out."""
        if isinstance(change, WriteImport) and self.blocker(change.key) is not None:
            return False  # it stays dirty
        self.dirty.discard(change.key)
        if not self.writes.may_try(change, now):
            return False
        self.writes.take(change)
        if isinstance(change, WriteImport):
            self.names.occupy(change.service.local_name, change.key)
        return True

    def settle(self, outcome: Outcome, lost_since: datetime | None, now: datetime) -> None:
        """Take the outcome of a change in flight. After a RETRY nobody knows what stands."""
        change, key = self.writes.settle(outcome, now), outcome.key
        if change is None:
            return
        offers, name = self.peers[key.peer], key.name
        if outcome.status is Status.REJECTED:
            if isinstance(change, WriteImport) and name not in offers.standing:
                self.names.vacate(key)
                offers.leaving.discard(name)
        elif outcome.status is Status.APPLIED and not isinstance(change, WriteImport):
            self.vanish(offers, name)
            return
        elif isinstance(change, WriteImport):
            applied = outcome.status is Status.APPLIED
            digest = change.service.digest if applied else ""
            if applied:
                offers.unsure.discard(name)
            elif name not in offers.standing:
                offers.unsure.add(name)
            offers.standing[name] = StandingImport(
                key=key, local_name=change.service.local_name, digest=digest, lost_since=lost_since
            )
        else:
            offers.standing[name] = StandingImport(
                key=key, local_name=change.local_name, digest="", lost_since=lost_since
            )
        if name not in offers.wanted and name not in offers.standing:
            self.writes.done(key)
        self._touch(offers, name)
        needed = self.changes([key])
        if not (needed and self.writes.may_try(needed[0], now)):
            self.dirty.discard(key)

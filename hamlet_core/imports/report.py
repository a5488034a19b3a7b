"""What became of one service, and how a peer's imports are, read from the tables. It changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType

from hamlet_core.api import ImportKey, StandingImport
from hamlet_core.imports.offers import Offers
from hamlet_core.imports.status import ImportRow, PeerImports, Retried, Settled, State
from hamlet_core.imports.table import ImportTable


def settled(table: ImportTable, key: ImportKey) -> Settled:
    """What became of what the owner said last about `key`."""
    offers, name = table.peers.get(key.peer), key.name
    if offers is None:
        return Settled(state=State.APPLIED)
    refusal = offers.refused.get(name) or offers.declined.get(name)
    if refusal:
        return Settled(state=State.REJECTED, reason=refusal, by_registry=name in offers.unrouted)
    if name in offers.held:
        return Settled(state=State.HELD, reason=offers.held[name].reason)
    if table.writes.in_flight(key):
        return Settled(state=State.PENDING)
    if offers.agrees(name):
        return Settled(state=State.APPLIED)
    return _unwritten(table, key)


def _unwritten(table: ImportTable, key: ImportKey) -> Settled:
    blocker = table.blocker(key)
    if blocker is not None:
        failed = table.writes.rejection(blocker) or table.writes.retry(blocker)
        if failed is not None:
            reason = f"its local name still stands for {blocker.name!r} of {blocker.peer}, not removed yet: {failed}"
            return Settled(state=State.RETRY, reason=reason, by_registry=True)
    wanted = offers.wanted.get(key.name) if (offers := table.peers.get(key.peer)) else None
    if wanted is not None and table.awaits(wanted):
        return Settled(state=State.PENDING, reason="it waits for the gateway to lead to it")
    if key in table.dirty:
        return Settled(state=State.PENDING)
    rejection, retry = table.writes.rejection(key), table.writes.retry(key)
    if rejection is not None:
        return Settled(state=State.REJECTED, reason=_by_registry(table, rejection), by_registry=True)
    if retry is not None:
        return Settled(state=State.RETRY, reason=_not_yet(table, retry), by_registry=True)
    return Settled(state=State.PENDING)


def _by_registry(table: ImportTable, reason: str) -> str:
    return f"the registry {table.registry} rejected it: {reason}"


def _not_yet(table: ImportTable, reason: str) -> str:
    return f"the registry {table.registry} could not take it yet: {reason}"


def peer_imports(table: ImportTable, peer: str) -> PeerImports:
    """How the imports of `peer` are."""
    offers = table.peers.get(peer)
    if offers is None:
        return PeerImports(peer=peer)
    rejected, retried, pending = _outstanding(table, offers)
    aliases = {
        wanted.imported.service.fqdn: wanted.imported.local_name
        for _, wanted in sorted(offers.wanted.items())
        if wanted.imported.local_name != wanted.imported.service.fqdn.lower()
    }
    return PeerImports(
        peer=peer,
        offered=len(offers.services.keys() | offers.refused.keys()) + offers.unlisted,
        accepted=len(offers.wanted),
        applied=sum(offers.agrees(name) for name in offers.wanted),
        standing=len(offers.standing.keys() - offers.unsure),
        pending=pending,
        unlisted=offers.unlisted,
        rejected=MappingProxyType({**rejected, **offers.declined, **offers.refused}),
        retried=MappingProxyType(retried),
        held=MappingProxyType(dict(offers.held)),
        aliases=MappingProxyType(aliases),
        live=offers.live,
        complete=offers.complete,
        lost_since=offers.lost_since,
        kept_until=offers.retained_until(),
    )


def _outstanding(table: ImportTable, offers: Offers) -> tuple[dict[str, str], dict[str, Retried], int]:
    """What the registry rejected and what is tried again, by name, and how many changes are still to be made."""
    rejected, retried, pending = {}, {}, 0
    for name in sorted(offers.wanted.keys() | offers.leaving):
        key = ImportKey(offers.peer, name)
        reason = table.writes.rejection(key)
        if table.writes.in_flight(key) or (reason is None and not offers.agrees(name)):
            pending += 1
            if (late := table.writes.retried(key)) is not None:
                retried[name] = replace(late, reason=_not_yet(table, late.reason))
        elif reason is not None:
            rejected[name] = _by_registry(table, reason)
    return rejected, retried, pending


def _reached_at(offers: Offers, name: str) -> tuple[str, ...]:
    wanted = offers.wanted.get(name)
    if wanted is None:
        return ()
    imported = wanted.imported
    places = (place for instance in imported.service.instances for place in imported.endpoints_of(instance))
    return tuple(dict.fromkeys(f"{place.address}:{place.port}" for place in places))


def orphans(table: ImportTable) -> tuple[StandingImport, ...]:
    """Entries of peers that this registry takes nothing from, and that no operator has dismissed."""
    return tuple(
        offers.standing[name]
        for peer, offers in sorted(table.peers.items())
        if offers.settings is None and not offers.dismissed
        for name in sorted(offers.standing)
    )


def _why_kept(offers: Offers) -> str:
    if offers.settings is None:
        return "its peer is not in the configuration"
    if offers.live:
        return "its peer has not mentioned it yet since the link came up"
    return "its peer is not linked" if offers.lost_since is None else "its peer is lost"


def rows(table: ImportTable) -> Iterator[ImportRow]:
    """Every service of every peer that is offered or stands, by peer and name."""
    for peer, offers in sorted(table.peers.items()):
        for name in sorted({*offers.services, *offers.refused, *offers.standing}):
            key = ImportKey(peer, name)
            stands = offers.standing.get(name) if name not in offers.unsure else None
            found = settled(table, key)
            here = offers.live and name in offers.fresh
            kept = stands is not None and not here and name not in offers.held
            retained = kept and found.state is State.APPLIED
            yield ImportRow(
                key=key,
                local_name=stands.local_name if stands is not None else "",
                reached_at=_reached_at(offers, name) if stands is not None else (),
                state="retained" if retained else found.state,
                reason=found.reason or (_why_kept(offers) if retained else ""),
                kept_until=offers.retained_until() if retained else None,
            )

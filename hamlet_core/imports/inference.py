"""What is gone although nobody said so: missing from a catalog, held for long enough, or of a peer lost too long.

Steps on the tables, which decide nothing by a clock of their own.
"""

from __future__ import annotations

from datetime import datetime

from hamlet_core.imports.brake import Held, exceeds
from hamlet_core.imports.offers import Offers
from hamlet_core.imports.table import ImportTable


def infer(table: ImportTable, now: datetime) -> None:
    """Take out, or hold, what complete catalogs lack; once for each catalog and each listing."""
    for offers in table.peers.values():
        if not table.ready or offers.settings is None or not offers.complete or offers.inferred:
            continue
        offers.inferred = True
        for name in sorted(offers.services.keys() - offers.present - offers.fresh):
            table.drop(offers, name)
        missing, stood = offers.missing(), offers.stood()
        removals, share = len(missing) + len(offers.held), offers.settings.brake.share
        if exceeds(removals, stood, share):
            reason = (
                f"missing from the new catalog, with {removals} of {stood} services, more than {share:.0%}:"
                f" run `hamlet confirm {offers.peer}` to let them go"
            )
            for name in missing:
                offers.hold(name, Held(since=now, reason=reason))
        else:
            for name in missing:
                table.drop(offers, name)
    table.try_waiting()


def let_go(table: ImportTable, offers: Offers, names: list[str]) -> int:
    """Let held removals pass; returns how many."""
    for name in names:
        table.drop(offers, name)
    table.try_waiting()
    return len(names)


def follow_time(table: ImportTable, now: datetime) -> None:
    """Do what became due by the mere passing of time."""
    infer(table, now)
    table.dirty.update(table.writes.due(now))
    for offers in table.peers.values():
        release, end = offers.next_release(), offers.retained_until()
        if release is not None and release <= now and offers.settings is not None:
            after = offers.settings.brake.release_after
            let_go(table, offers, [name for name, held in offers.held.items() if held.since + after <= now])
        if end is not None and end <= now:
            lost_since = offers.lost_since
            table.drop_all(offers)
            offers.lost_since = lost_since
            table.try_waiting()

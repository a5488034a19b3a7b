"""What is known of one peer in one registry: what it offers, what stands of it, what is held. A table.

It keeps its own counts true; what should happen is the reconciler's decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hamlet_core.api import FederatedService, ImportedService, StandingImport
from hamlet_core.config.model import Peer
from hamlet_core.imports.brake import Deletions, Held
from hamlet_core.imports.rules import MAX_NAME, shorten

MAX_LISTED = 1000
"""So many refusals without a service that could be kept are listed by name; further ones are counted."""

MARK_GRACE = timedelta(seconds=30)
"""A peer that comes back within this time is not marked as lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the registry should hold for one service, and its digest."""

    imported: ImportedService
    digest: str


@dataclass(slots=True, kw_only=True)
class Offers:
    """One peer's part of a reconciler's state; every table is by the name that the peer gave the service.

    `settings` is None for a peer that this registry takes nothing from (its entries are orphans, unless
    `dismissed`: then they go). `services` are the last well-formed offers, `wanted` those that are
    accepted, `declined` the reasons for the others, of which `over_quota` lack nothing but room and
    `unrouted` are those that the gateway refuses. `refused`
    are reasons for messages that held no well-formed service. `leaving` are entries whose removal is
    decided; of those in `unsure` nobody knows whether they stand, since nothing but a write without an
    acknowledgement speaks of them. `present` is what counts as the peer's: wanted, or standing and not leaving.
    `fresh` was mentioned on the present stream; `new` is what was not present before that.
    """

    peer: str
    settings: Peer | None = None
    dismissed: bool = False
    live: bool = False
    complete: bool = False
    inferred: bool = False
    """Whether what a complete catalog lacks has been looked for."""
    lost_since: datetime | None = None
    services: dict[str, FederatedService] = field(default_factory=dict)
    wanted: dict[str, Wanted] = field(default_factory=dict)
    declined: dict[str, str] = field(default_factory=dict)
    over_quota: dict[str, None] = field(default_factory=dict)
    unrouted: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    unlisted: int = 0
    turned_away: bool = False
    """Whether something was refused, and not kept, that other settings might let pass."""
    held: dict[str, Held] = field(default_factory=dict)
    standing: dict[str, StandingImport] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    yielding: set[str] = field(default_factory=set)
    """Entries without a known content that leave for no reason but a local service of their name."""
    present: set[str] = field(default_factory=set)
    fresh: set[str] = field(default_factory=set)
    new: set[str] = field(default_factory=set)
    deletions: Deletions = field(default_factory=Deletions)

    def start_stream(self) -> None:
        """Forget what the stream before said, but for its offers: a catalog starts anew."""
        self.refused.clear()
        self.unlisted, self.turned_away, self.inferred = 0, False, False
        self.fresh.clear()
        self.new.clear()

    def agrees(self, name: str) -> bool:
        """Whether the registry holds of `name` what it should."""
        wanted, stands = self.wanted.get(name), self.standing.get(name)
        if wanted is None:
            return stands is None or name not in self.leaving
        return (
            stands is not None and stands.local_name == wanted.imported.local_name and stands.digest == wanted.digest
        )

    def count(self, name: str) -> bool:
        """Set right whether `name` is present; True when it just ceased to be."""
        if name in self.wanted or (name in self.standing and name not in self.leaving):
            self.present.add(name)
            return False
        if name not in self.present:
            return False
        self.present.discard(name)
        return True

    def has_room(self, name: str, limit: int) -> bool:
        """Whether `name` may be wanted when the peer has `limit` services at most.

        What stands has a place before what is new, so that a restart does not exchange the one for the other.
        """
        others = len(self.wanted) - (name in self.wanted)
        return others < limit and (name in self.present or len(self.present) < limit)

    def refuse(self, name: str, reason: str) -> None:
        """List the refusal of a message about `name`; an offer of it that was good before stays."""
        shown = name if len(name) <= MAX_NAME and name.isprintable() else shorten(name)
        if shown in self.refused or len(self.refused) < MAX_LISTED:
            self.refused[shown] = reason
        else:
            self.unlisted += 1

    def mention(self, name: str) -> None:
        """The present stream speaks of `name`: it is not missing from the catalog."""
        self.held.pop(name, None)
        if name in self.services or name in self.standing:
            self.fresh.add(name)

    def hold(self, name: str, held: Held) -> None:
        """Hold the removal of `name` back; one that is held already stays held as it is."""
        self.fresh.discard(name)
        self.new.discard(name)
        self.held.setdefault(name, held)

    def forget(self, name: str) -> None:
        """The peer no longer offers `name`; what stands of it is another matter."""
        for table in (self.services, self.declined, self.over_quota, self.held):
            table.pop(name, None)
        self.fresh.discard(name)
        self.new.discard(name)
        self.yielding.discard(name)
        self.unrouted.discard(name)

    def missing(self) -> list[str]:
        """What is present and was not mentioned on the stream; what is held already is not counted."""
        return sorted(self.present - self.fresh - self.held.keys())

    def stood(self) -> int:
        """How many services the peer had here when its present stream began."""
        return len(self.present) - len(self.new & self.present)

    def retained_until(self) -> datetime | None:
        """When the retention of a lost peer ends; None when it does not, or nothing is left to withdraw."""
        if self.settings is None or self.live or self.lost_since is None or not self.settings.retain:
            return None
        return self.lost_since + self.settings.retain if self.present or self.services else None

    def next_release(self) -> datetime | None:
        """When the earliest held removal passes. Not while the catalog is incomplete: it may be offered yet."""
        if self.settings is None or not self.complete or not self.settings.brake.release_after or not self.held:
            return None
        first = next(iter(self.held.values()))  # they are held in the order of time
        return first.since + self.settings.brake.release_after

    def wanted_mark(self, now: datetime, stands: datetime | None) -> datetime | None:
        """Since when the registry should say that the peer is lost, when it says `stands` at present."""
        if self.settings is None:
            return None if self.dismissed else stands
        if self.lost_since is None or not self.standing:
            return None
        return self.lost_since if not self.live and now >= self.lost_since + MARK_GRACE else stands

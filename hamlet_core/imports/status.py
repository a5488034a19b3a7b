"""What the reconciler tells others: what became of one service, and how a peer's imports are. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from hamlet_core.api import ImportKey
from hamlet_core.imports.brake import Held


class State(StrEnum):
    """What became of what the owner said last about one service. It decides the acknowledgement."""

    APPLIED = "applied"
    """The registry agrees with it: acknowledge."""
    HELD = "held"
    """Its removal is held back: acknowledge all the same, so that no stream waits for it."""
    REJECTED = "rejected"
    """It can never be taken as it is: INVALID_ARGUMENT."""
    RETRY = "retry"
    """It failed and is tried again: UNAVAILABLE."""
    PENDING = "pending"
    """Not written yet: wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The state of one service; `reason` says why when it was rejected, held, or is tried again.

    `by_registry` says that the reason is the registry's or the gateway's: it may name what is none of the
    owner's business (addresses, services of ours), and stays here.
    """

    state: State
    reason: str = ""
    by_registry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """A change that the registry has not taken since `since`, though it was tried; `reason` is what it said last."""

    since: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerImports:
    """How the imports of one peer in one registry are; all counts are of services.

    `offered`: what it offers as far as we know, the refused ones among them. `accepted`: what the registry
    should hold of it, with its content known. `applied`: of those, what the registry holds exactly.
    `standing`: entries in the registry, also those kept from before and those whose removal is not acknowledged;
    not those whose writing is not acknowledged. `pending`: writes and removals not yet done. `retried`: of those,
    by name, what was tried and is tried again. `rejected`: reason by name, by our rules or by the
    registry. `unlisted`: refusals beyond those, too many to be listed. `held`: removals held back, by name.
    `aliases`: local name by FQDN, where they differ. `live`: its stream is up. `complete`: and has delivered
    its whole catalog. `lost_since`: since when its entries are kept without a complete catalog. `kept_until`: when
    they are withdrawn if it stays lost; None where that is never.
    """

    peer: str
    offered: int = 0
    accepted: int = 0
    applied: int = 0
    standing: int = 0
    pending: int = 0
    unlisted: int = 0
    rejected: Mapping[str, str] = field(default_factory=dict)
    retried: Mapping[str, Retried] = field(default_factory=dict)
    held: Mapping[str, Held] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    live: bool = False
    complete: bool = False
    lost_since: datetime | None = None
    kept_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What of `PeerImports` can be had at once, however many services there are; counts as there.

    Among `standing` are entries whose writing is not acknowledged: they may stand.
    """

    standing: int = 0
    held: int = 0
    complete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRow:
    """One service of a peer as `hamlet services` lists it.

    `local_name` is empty for what does not stand in the registry; `reached_at` has the places (`host:port`) to
    which workloads of this mesh connect, as far as they are known. `state` is a `State`, or `retained` for an
    entry that is kept although its peer is not there, or not done with its catalog; `kept_until` as in `PeerImports`.
    """

    key: ImportKey
    local_name: str
    reached_at: tuple[str, ...]
    state: str
    reason: str = ""
    kept_until: datetime | None = None

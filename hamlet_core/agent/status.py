"""What the agent tells of itself: one document for the command line, for programs and for metrics.

It reads the parts and changes nothing but its own memory of since when a state holds.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from hamlet_core import __version__
from hamlet_core.agent.agent import Agent
from hamlet_core.agent.checks import Checks
from hamlet_core.agent.importer import Lane
from hamlet_core.agent.leadership import Leadership
from hamlet_core.api import Finding
from hamlet_core.identity.source import IdentitySource
from hamlet_core.rpc.link import VERSIONS
from hamlet_core.rpc.peering import Peering
from hamlet_core.wire.messages import Codec

RETRIED_FOR = timedelta(seconds=10)
"""A change that the registry did not take is told after so long: one that meets another in it is soon tried again."""
Document: TypeAlias = dict[str, Any]


def stamp(moment: datetime | None) -> str | None:
    """A time as programs read it: ISO 8601 in UTC, to the millisecond."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds")


class Since:
    """Remembers since when each thing is in the state in which it was last seen."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, tuple[str, datetime]] = {}

    def __call__(self, thing: Hashable, state: str) -> datetime:
        """Note that `thing` is in `state` now; returns since when."""
        known = self._seen.get(thing)
        if known is None or known[0] != state:
            known = self._seen[thing] = (state, datetime.now(UTC))
        return known[1]


def coordination(leadership: Leadership | None) -> Document | None:
    """What the coordinator says, or None where there is none."""
    if leadership is None:
        return None
    return {"kind": leadership.port.kind, "leading": leadership.leads.is_set(), "error": leadership.error}


def unusable(identity: IdentitySource) -> list[Document]:
    """The certificate files that are not usable now; `peer` is None for our own."""
    return [
        {
            "peer": file.peer,
            "what": file.what,
            "file": str(file.path),
            "problem": file.problem,
            "in_force": file.in_force,
        }
        for file in identity.unusable()
    ]


def _said(finding: Finding) -> str:
    """What it is about, once, and what it is."""
    subject, message = finding.subject, finding.message
    return message if message.startswith(subject) else f"{subject}: {message}"


class Reporter:
    """Makes the documents of one agent, which `leadership` lets lead where there is a coordinator."""

    def __init__(self, agent: Agent, leadership: Leadership | None = None) -> None:
        self._agent = agent
        self._leadership = leadership
        self._since = Since()
        self._checks = Checks(agent.ports)

    async def refresh(self) -> None:
        """Ask the registries what is wrong with them, where what they said last is old; `status` tells it."""
        await self._checks.refresh()

    def status(self) -> Document:
        """Everything `hamlet status --json` prints."""
        agent = self._agent
        config = agent.config
        orphans = sorted({each.key for lane in agent.importer.lanes for each in lane.reconciler.orphans()})
        return {
            "version": __version__,
            "mesh": config.mesh.name,
            "domain": config.mesh.domain,
            "trust_domain": config.mesh.trust_domain,
            "listen": config.listen,
            "started": stamp(agent.started),
            "ready": not agent.not_ready,
            "not_ready": agent.not_ready,
            "identity_expires": stamp(agent.identity.credentials.not_after),
            "unusable": unusable(agent.identity),
            "coordinator": coordination(self._leadership),
            "registries": [self._registry(lane) for lane in agent.importer.lanes],
            "gateway": self._gateway(),
            "egress": self._egress(),
            "peers": [self._peer(peering) for peering in agent.peerings.values()],
            "left": sorted(agent.left),
            "unpublished": [problem._asdict() for problem in agent.publication.problems()],
            "orphans": [{"peer": key.peer, "service": key.name} for key in orphans],
            "refused_callers": agent.refused,
            "last_refusal": agent.last_refusal,
            "last_refusal_at": stamp(agent.last_refusal_at),
            "rotated": self.rotated,
            "crashes": dict(agent.supervisor.crashes),
        }

    @property
    def rotated(self) -> list[str]:
        """The keys whose value is another now than the one in use, until a restart."""
        keys = [key for key in self._agent.rotated if not key.startswith("coordinator")]  # opened before the agent
        return keys + (self._leadership.rotated(self._agent.loaded.config) if self._leadership is not None else [])

    def tick(self) -> None:
        """Note the states, so that since when they hold does not depend on who asks when. Cheap."""
        for peering in self._agent.peerings.values():
            self._import_state(peering)
            self._export_state(peering)
        for lane in self._agent.importer.lanes:
            self._importing_state(lane)
        self._gateway()
        self._egress()

    def _importing_state(self, lane: Lane) -> str:
        state = "waiting" if lane.error else "live"
        self._since((lane.port.name, "importing"), state)
        return state

    def _registry(self, lane: Lane) -> Document:
        publisher = self._agent.publishers[lane.port.name]
        state = (
            "live" if publisher.reported and not publisher.error else "silent" if publisher.error else "connecting"
        )
        importing = self._importing_state(lane)
        return {
            "name": lane.port.name,
            "kind": lane.port.kind,
            "publishing": {
                "state": state,
                "since": stamp(publisher.since),
                "error": publisher.error,
                "mend": publisher.mend,
            },
            "importing": {
                "state": importing,
                "since": stamp(self._since((lane.port.name, "importing"), importing)),
                "error": lane.error,
                "mend": lane.mend,
            },
            "check": self._checked(lane.port.name),
        }

    def _checked(self, name: str) -> Document:
        found = self._checks.found(name)
        errors = found.errors if found is not None else ()
        first = next((_said(error) for error in errors), "")
        return {"at": stamp(found.at) if found is not None else None, "errors": len(errors), "first": first}

    def _peer(self, peering: Peering) -> Document:
        name = peering.name
        link = self._agent.links[name]
        return {
            "name": name,
            "address": peering.settings.address,
            "imports": self._imports(peering),
            "exports": self._exports(peering),
            "streams": [
                {
                    "api": stream.codec.api,
                    "dialled_by": "us" if stream.dialled else "peer",
                    "since": stamp(stream.since),
                    "consuming": stream.consuming,
                    "publishing": stream.owner is not None,
                    "window": stream.extensions.window,
                    "snapshot": stream.extensions.snapshot,
                }
                for stream in peering.streams
            ],
            "identity": link.identity,
            "last_error": peering.last_error,
            "last_error_at": stamp(peering.last_error_at),
            "not_linked": self.not_linked(name),
            "attempts": link.attempts,
        }

    def not_linked(self, name: str) -> str:
        """Why no stream of a peer is up; an empty string when one is."""
        peering = self._agent.peerings[name]
        if peering.streams:
            return ""
        if self._agent.not_ready:
            return f"not dialled yet: {self._agent.not_ready}"
        if peering.last_error:
            return peering.last_error
        return "waiting to be dialled" if self._agent.links[name].waits else "being dialled"

    def _imports(self, peering: Peering) -> Document:
        parts = [lane.reconciler.status(peering.name) for lane in self._agent.importer.lanes]
        state = self._import_state(peering)
        told = datetime.now(UTC) - RETRIED_FOR
        return {
            "state": state,
            "since": stamp(self._since((peering.name, "imports"), state)),
            "offered": max(part.offered for part in parts),
            "accepted": max(part.accepted for part in parts),
            "standing": max(part.standing for part in parts),
            "pending": max(part.pending for part in parts),
            "retried": {
                name: {"since": stamp(late.since), "reason": late.reason}
                for part in parts
                for name, late in part.retried.items()
                if late.since <= told
            },
            "lost_since": stamp(next((part.lost_since for part in parts if part.lost_since), None)),
            "kept_until": stamp(max((part.kept_until for part in parts if part.kept_until), default=None)),
            "rejected": {name: reason for part in parts for name, reason in part.rejected.items()},
            "aliases": {fqdn: alias for part in parts for fqdn, alias in part.aliases.items()},
            "held": {
                name: {"since": stamp(held.since), "reason": held.reason}
                for part in parts
                for name, held in part.held.items()
            },
        }

    def _import_state(self, peering: Peering) -> str:
        parts = [lane.reconciler.glance(peering.name) for lane in self._agent.importer.lanes]
        if self._agent.links[peering.name].rejected and peering.consumer_stream is None:
            state = "rejected"
        elif peering.consumer_stream is None:
            state = "stale" if any(part.standing for part in parts) else "connecting"
        elif any(part.held for part in parts):
            state = "held"
        else:
            state = "live" if all(part.complete for part in parts) else "syncing"
        self._since((peering.name, "imports"), state)
        return state

    def _export_state(self, peering: Peering) -> str:
        owner = peering.owner_stream.owner if peering.owner_stream is not None else None
        if owner is None:
            state = "rejected" if self._agent.links[peering.name].rejected else "connecting"
        else:
            state = "live" if owner.synced else "syncing"
        self._since((peering.name, "exports"), state)
        return state

    def _exports(self, peering: Peering) -> Document:
        state = self._export_state(peering)
        owner = peering.owner_stream.owner if peering.owner_stream is not None else None
        status = owner.status() if owner else None
        return {
            "state": state,
            "since": stamp(self._since((peering.name, "exports"), state)),
            "offered": status.services if status else 0,
            "lag": status.lag if status else 0,
            "rejected": status.rejected if status else {},
            "retrying": status.retrying if status else 0,
        }

    def _rejected_by(self, peer: str) -> Mapping[str, str]:
        """What of ours the peer refuses now: its reasons by name."""
        peering = self._agent.peerings.get(peer)
        stream = peering.owner_stream if peering is not None else None
        return stream.owner.status().rejected if stream is not None and stream.owner is not None else {}

    def _spoken(self, peer: str) -> tuple[Codec, ...]:
        """The protocol version that is spoken with a peer, or may be when it comes up."""
        peering = self._agent.peerings.get(peer)
        if peering is None:
            return ()
        stream = peering.owner_stream
        return (stream.codec,) if stream is not None else VERSIONS[peering.settings.api]

    def _gateway(self) -> Document | None:
        """The gateway that lets calls in, and leads them out where no other does; None where no plugin drives it."""
        gateway = self._agent.gateway
        if gateway is None or gateway.port is None:
            return None
        error = gateway.error_of(gateway.port)
        state = "waiting" if error else "live" if gateway.heard else "connecting"
        ingress = gateway.ingress
        return {
            "kind": gateway.port.kind,
            "state": state,
            "since": stamp(self._since("gateway", state)),
            "error": error,
            "endpoints": [f"{each.address}:{each.port}" for each in ingress.endpoints] if ingress else [],
            "sans": list(ingress.sans) if ingress else [],
            "published": gateway.published,
            "imported": gateway.imported if gateway.egress is gateway.port else 0,
            "refused": dict(gateway.refused),
        }

    def _egress(self) -> Document | None:
        """A gateway of its own that leads calls out; or None."""
        gateway = self._agent.gateway
        if gateway is None or gateway.egress is None or gateway.egress is gateway.port:
            return None
        error = gateway.error_of(gateway.egress)
        state = "waiting" if error else "live"
        return {
            "kind": gateway.egress.kind,
            "state": state,
            "since": stamp(self._since("egress", state)),
            "error": error,
            "imported": gateway.imported,
        }

    # --- services --------------------------------------------------------------------------------

    def services(self, peer: str | None) -> Document:
        """What `hamlet services --json` prints: what is published to each peer and imported from each."""
        agent = self._agent
        views = agent.publication.views
        rejected = {to: self._rejected_by(to) for to in views}
        published = [
            {
                "peer": to,
                "service": name,
                "endpoints": len(service.endpoints),
                "protocols": sorted({instance.protocol for instance in service.instances}),
                "sans": list(service.sans),
                "waits": agent.publication.waits(to, name),
                "rejected": rejected[to].get(name, ""),
                "losses": [f"{codec.api}: {loss}" for codec in self._spoken(to) for loss in codec.losses(service)],
            }
            for to, view in sorted(views.items())
            for name, service in sorted(view.items())
            if peer in (None, to)
        ]
        imported = [
            {"registry": lane.port.name, "peer": row.key.peer, "service": row.key.name, "local_name": row.local_name,
             "reached_at": list(row.reached_at),
             "state": row.state, "reason": row.reason, "kept_until": stamp(row.kept_until)}
            for lane in agent.importer.lanes
            for row in lane.reconciler.rows()
            if peer in (None, row.key.peer)
        ]  # fmt: skip
        return {"published": published, "imported": imported}

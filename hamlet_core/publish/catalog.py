"""What each audience is offered: one compacted log per audience, the serialised services shared by all.

Memory is O(services): a stream holds a cursor, and a service is serialised once however many audiences
and streams there are. It does not decide who sees what, and sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hamlet_core.api import FederatedService
from hamlet_core.publish.log import Entry, Log, Payload
from hamlet_core.publish.subscription import Subscription, SubscriptionEnded

__all__ = ["AudienceStats", "Catalog", "CatalogStats", "Entry", "Payload", "Subscription", "SubscriptionEnded"]


@dataclass(slots=True)
class _Shared:
    """A serialised service, and how many audiences hold it."""

    service: FederatedService
    payload: Payload
    holders: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AudienceStats:
    """One audience: its services, the removals not yet read by all, slots of its log, its streams."""

    audience: str
    services: int
    tombstones: int
    log_length: int
    subscriptions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogStats:
    """The whole catalog; `payload_bytes` counts each shared payload once, in both versions."""

    version: int
    audiences: tuple[AudienceStats, ...]
    payloads: int
    payload_bytes: int


class Catalog:
    """The logs of all audiences, under one counter of versions.

    `pack` serialises a service; equal services of one name share its result. `least_tombstones` removals are
    kept per audience for streams that do not read on, whatever its size.
    """

    def __init__(self, pack: Callable[[FederatedService], Payload], *, least_tombstones: int = 1000) -> None:
        self._pack = pack
        self._least_tombstones = least_tombstones
        self._logs: dict[str, Log] = {}
        self._shared: dict[str, list[_Shared]] = {}
        self._payload_bytes = 0
        self._version = 0

    @property
    def version(self) -> int:
        """The version of the latest change in any audience."""
        return self._version

    def put(self, audience: str, service: FederatedService) -> None:
        """Offer `service` to an audience under its name; nothing happens if it is offered just so."""
        log = self.log(audience)
        log.retired = False
        shared = self._share(service)
        standing = log.entries.get(service.name)
        if standing is None or standing.payload is not shared.payload:
            shared.holders += 1
            self._append(log, service.name, shared.payload)

    def remove(self, audience: str, name: str) -> None:
        """Withdraw `name` from an audience; nothing happens if it is not offered."""
        log = self._logs.get(audience)
        standing = log.entries.get(name) if log is not None else None
        if log is not None and standing is not None and standing.payload is not None:
            self._append(log, name, None)

    def replace(self, audience: str, services: Iterable[FederatedService]) -> None:
        """Make `services` all that an audience is offered; what stays the same is not touched."""
        log = self.log(audience)
        log.retired = False
        offered = set()
        for service in services:
            self.put(audience, service)
            offered.add(service.name)
        for name in [name for name in log.entries if name not in offered]:
            self.remove(audience, name)

    def retire(self, audience: str) -> None:
        """Forget an audience that no peer belongs to any more, as soon as the last stream has moved away.

        Until then its log stands still: a stream needs it to know the difference of the two views.
        """
        if audience in self._logs:
            self._logs[audience].retired = True
            self.left(audience)

    def subscribe(self, audience: str) -> Subscription:
        """Begin at the beginning of what an audience is offered; nothing for one that does not exist yet."""
        return Subscription(self, audience, self.log(audience), self._version)

    def stats(self) -> CatalogStats:
        """The numbers for status and metrics."""
        return CatalogStats(
            version=self._version,
            audiences=tuple(
                AudienceStats(
                    audience=audience,
                    services=log.live,
                    tombstones=len(log.tombstones),
                    log_length=len(log),
                    subscriptions=len(log.readers),
                )
                for audience, log in sorted(self._logs.items())
            ),
            payloads=sum(len(forms) for forms in self._shared.values()),
            payload_bytes=self._payload_bytes,
        )

    def log(self, audience: str) -> Log:
        """The log of an audience, made on first use. For subscriptions."""
        return self._logs.setdefault(audience, Log(self._least_tombstones))

    def left(self, audience: str) -> None:
        """Drop the log of an audience that nobody reads, if it is retired or empty. For subscriptions."""
        log = self._logs.get(audience)
        if log is not None and not log.readers and (log.retired or not log.entries):
            del self._logs[audience]
            for entry in log.entries.values():
                self._release(entry)

    def _append(self, log: Log, name: str, payload: Payload | None) -> None:
        standing = log.entries.get(name)
        self._version += 1
        created = standing.created if standing is not None and standing.payload is not None else self._version
        if standing is not None:
            self._release(standing)
        log.append(Entry(self._version, name, payload, created))

    def _share(self, service: FederatedService) -> _Shared:
        forms = self._shared.get(service.name, [])
        for shared in forms:
            if shared.service == service:
                return shared
        payload = self._pack(service)
        for shared in forms:
            if shared.payload == payload:  # they differ in what neither version of the protocol can say
                return shared
        shared = _Shared(service, payload)
        self._shared[service.name] = [*forms, shared]
        self._payload_bytes += len(shared.payload.v1alpha1) + len(shared.payload.v1alpha2)
        return shared

    def _release(self, entry: Entry) -> None:
        """An audience holds this state no more: free its payload if it was the last one."""
        if entry.payload is None:
            return
        forms = self._shared[entry.name]
        shared = next(form for form in forms if form.payload is entry.payload)
        shared.holders -= 1
        if not shared.holders:
            forms.remove(shared)
            self._payload_bytes -= len(entry.payload.v1alpha1) + len(entry.payload.v1alpha2)
        if not forms:
            del self._shared[entry.name]

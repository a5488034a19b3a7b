"""The adapter: every hook of a registry, with its contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from hamlet_core.api import (
    AdapterContext,
    Batch,
    Finding,
    ImportChange,
    ImportedService,
    ImportKey,
    LocalService,
    Outcome,
    RegistryUnavailable,
    Remove,
    RemoveImport,
    Severity,
    Snapshot,
    StandingImport,
    Status,
    Stop,
    Upsert,
    WriteImport,
    hookimpl,
)

from hamlet_etcd.calls import Compacted, Refused, Unreachable
from hamlet_etcd.entries import Import, Keys, Local, read, write
from hamlet_etcd.options import EtcdOptions
from hamlet_etcd.store import Event, Item, Store


class EtcdRegistry:
    """The hooks of the core, told in the calls of the registry."""

    def __init__(self, options: EtcdOptions, context: AdapterContext) -> None:
        self._address = options.address
        self._context = context
        self._keys = Keys(options.prefix)
        self._store = Store(options)

    @hookimpl
    def registry_watch(self, stop: Stop) -> Iterator[Batch]:
        """Yield the local services: a `Snapshot` first, then changes, or a `Snapshot` again.

        R1. The first batch MUST be a `Snapshot` of all local services that could be published, each with all
            that the registry has of it; an empty registry yields an empty one. What comes, changes and goes
            then MUST follow within seconds: the checks allow 20.
        R2. It MUST NOT contain what carries a mark, be it of another agent that shares the backend: what is
            imported is never published on.
        R3. It MUST raise `RegistryUnavailable`, within as many seconds, when the backend cannot be reached or does
            not answer, at all or as the caller of record (a token without rights): an outage is never an empty
            snapshot. The core keeps what it knows and calls again with backoff.
        R4. It MUST end within a second of `stop`, and leave no thread or socket behind.
        After a gap it cannot bridge it SHOULD yield a new `Snapshot`; it MAY repeat what did not change. A backend
        that falls silent while a watch waits for news MAY be noticed later.
        """
        with self._reached():
            while not stop.is_set():
                services, revision = self._local()
                yield Snapshot(tuple(services.values()))
                try:
                    for events in self._store.watch(self._keys.services, revision, stop):
                        if changes := self._changes(services, events):
                            yield changes
                except Compacted:
                    continue  # a gap that cannot be bridged: everything anew

    @hookimpl
    def registry_imports(self) -> Sequence[StandingImport]:
        """List what carries our mark, exactly our trust domain's and this registry's.

        R5. After a restart it MUST list every import written before, with its digest: the backend is the
            store of what was imported. An entry changed by someone else since has an empty digest.
        The core calls it before it writes anything, then every five minutes (what someone else has removed or
        changed since is written again), at each `Snapshot` of the watch, and after a call that raised, before it
        tries again. Nothing is written meanwhile; the call has a minute, as each has.
        It raises `RegistryUnavailable` rather than leave anything out.
        """
        with self._reached():
            items, _ = self._store.list(self._keys.services)
            lost = self._lost()
        entries = [entry for item in items.values() if (entry := self._ours(item)) is not None]
        return [
            StandingImport(
                key=ImportKey(entry.mark.peer, entry.mark.service),
                local_name=entry.local_name,
                digest=entry.digest,
                lost_since=lost.get(entry.mark.peer),
            )
            for entry in entries
        ]

    @hookimpl
    def registry_apply(self, changes: Sequence[ImportChange]) -> Sequence[Outcome]:
        """Write imports into the registry, and take them out; one outcome per change, in their order.

        R6. It MUST be idempotent, and mark in the backend itself what it writes. An import that moves to
            another local name comes as a removal and, after it, a write of the same key.
        R7. It MUST NOT change or remove an entry without our mark, and MUST reject a write that would:
            the outcome is `REJECTED`, its reason names the entry in the way. A removal that meets such an
            entry leaves it and is `APPLIED`: ours is gone.
        R8. One change that fails MUST NOT fail the others.
        A write that timed out may still be under way: the next call waits for it. It raises
        `RegistryUnavailable` when nothing could be tried.
        """
        with self._reached():
            standing = dict(self._store.list(self._keys.services)[0])
        return [self._apply(change, standing) for change in changes]

    @hookimpl
    def registry_mark_peer(self, peer: str, lost_since: datetime | None) -> bool:
        """Record in the backend, visibly, since when `peer` is lost (UTC), or None: it is back.

        R9. It is one mark per peer, not one per entry, and MUST be listed by `registry_imports` after a
            restart. Entries of a lost peer stay: they are retained. A peer without entries needs
            no mark. A mark that could not be made MUST NOT be said to stand: it raises `RegistryUnavailable`.
            Return True (pluggy takes None for no answer).
        """
        key = self._peers() + peer
        with self._reached():
            if lost_since is None:
                self._store.delete(key)
            else:
                self._store.put(key, lost_since.isoformat())
        return True

    @hookimpl
    def registry_check(self) -> Sequence[Finding]:
        """Say whether the backend can be reached, its version is supported and each needed right is held.

        R10. It MUST NOT raise for what it was asked to find out: a backend that cannot be reached or does not answer,
            and a right that is missing, are errors among the findings. It MUST say what is well, too: there is
            always a finding.
        """
        try:
            version = self._store.version()
            items, _ = self._store.list(self._keys.services)
        except Unreachable as error:
            mend = "start it, or correct `address`, `user` and `password`"
            return [Finding(subject=self._address, severity=Severity.ERROR, message=str(error), mend=mend)]
        unread = [key for key, item in items.items() if self._service(key, item) is None and not _marked(item)]
        found = f"etcd {version}: {len(items) - len(unread)} services and imports"
        return [
            Finding(subject=self._address, severity=Severity.OK, message=found),
            self._right_to_write(),
            *(
                Finding(subject=key, severity=Severity.WARNING, message="it is no service, and is left alone")
                for key in unread
            ),
        ]

    @hookimpl
    def registry_close(self) -> None:
        """Release everything. Called once, after the watch has ended and the last write has returned."""
        self._store.close()

    def _local(self) -> tuple[dict[str, LocalService], int]:
        """The services of this mesh, by their keys, and the revision at which they were so."""
        items, revision = self._store.list(self._keys.services)
        found = {key: self._service(key, item) for key, item in items.items()}
        return {key: service for key, service in found.items() if service is not None}, revision

    def _service(self, key: str, item: Item) -> LocalService | None:
        """The service in an item, if it is one of this mesh, under the key that is its name's."""
        entry = read(item.value)
        return entry.service if isinstance(entry, Local) and key == self._keys.service(entry.service.name) else None

    def _changes(self, services: dict[str, LocalService], events: Sequence[Event]) -> tuple[Upsert | Remove, ...]:
        """Take events over into `services`; what that changes."""
        changes: list[Upsert | Remove] = []
        for event in events:
            before = services.pop(event.key, None)
            now = self._service(event.key, event.item) if event.item is not None else None
            if now is not None:
                services[event.key] = now
                changes += [Upsert(now)] if now != before else []
            elif before is not None:
                changes.append(Remove(before.name))
        return tuple(changes)

    def _right_to_write(self) -> Finding:
        subject = f"{self._keys.services} (write)"
        try:
            self._store.ask_to_write(self._keys.services)
        except Unreachable as error:
            mend = "grant the user readwrite below the prefix; an agent that only publishes needs none"
            return Finding(subject=subject, severity=Severity.WARNING, message=str(error), mend=mend)
        return Finding(subject=subject, severity=Severity.OK, message="held")

    def _ours(self, item: Item) -> Import | None:
        """The import in an item, if it carries the mark of this very agent."""
        entry = read(item.value)
        if not isinstance(entry, Import):
            return None
        ours = (self._context.trust_domain, self._context.name)
        return entry if (entry.mark.trust_domain, entry.mark.registry) == ours else None

    def _apply(self, change: ImportChange, standing: dict[str, Item]) -> Outcome:
        """Make one change, and keep `standing`, what is known to stand, up to date for the next."""
        try:
            if isinstance(change, WriteImport):
                return self._write(change.service, standing)
            return self._remove(change, standing)
        except Unreachable as error:
            return Outcome(key=change.key, status=Status.RETRY, reason=f"{self._address}: {error}")
        except Refused as error:
            return Outcome(key=change.key, status=Status.REJECTED, reason=f"{self._address}: {error}")

    def _write(self, service: ImportedService, standing: dict[str, Item]) -> Outcome:
        key = self._keys.service(service.local_name)
        there = standing.get(key)
        if there is not None and self._ours(there) is None:
            return Outcome(key=service.key, status=Status.REJECTED, reason=f"{key} belongs to someone else")
        mark = self._context.mark(service.peer, service.service.name, service.digest)
        value = write(Import.of(service, mark))
        if there is not None and there.value == value:
            return Outcome(key=service.key, status=Status.APPLIED)
        revision = self._store.put(key, value, expected=there.revision if there else 0)
        if revision is None:
            return _meanwhile(service.key, key)
        standing[key] = Item(value=value, revision=revision)
        return Outcome(key=service.key, status=Status.APPLIED)

    def _remove(self, change: RemoveImport, standing: dict[str, Item]) -> Outcome:
        key = self._keys.service(change.local_name)
        there = standing.get(key)
        entry = self._ours(there) if there is not None else None
        if there is None or entry is None or entry.imported.key != change.key:
            return Outcome(key=change.key, status=Status.APPLIED)
        if self._store.delete(key, expected=there.revision) is None:
            return _meanwhile(change.key, key)
        del standing[key]
        return Outcome(key=change.key, status=Status.APPLIED)

    def _peers(self) -> str:
        return self._keys.peers(self._context.trust_domain, self._context.name)

    def _lost(self) -> Mapping[str, datetime]:
        """Since when which peer is lost."""
        items, _ = self._store.list(self._peers())
        return {key.removeprefix(self._peers()): datetime.fromisoformat(item.value) for key, item in items.items()}

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except Unreachable as error:
            raise RegistryUnavailable(f"{self._address} cannot be reached: {error}") from error


def _marked(item: Item) -> bool:
    return isinstance(read(item.value), Import)


def _meanwhile(key: ImportKey, where: str) -> Outcome:
    return Outcome(key=key, status=Status.RETRY, reason=f"{where} was changed meanwhile")

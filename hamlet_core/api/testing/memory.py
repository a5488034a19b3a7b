"""A registry in memory: a backend and its adapter, for tests of whatever stands above the hooks."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from hamlet_core.api import (
    AdapterContext,
    AdapterOptions,
    AdapterType,
    Batch,
    Finding,
    ImportChange,
    ImportedService,
    ImportKey,
    LocalService,
    Mark,
    Outcome,
    RegistryUnavailable,
    Remove,
    Severity,
    Snapshot,
    StandingImport,
    Status,
    Stop,
    Upsert,
    WriteImport,
    hookimpl,
)
from hamlet_core.api.testing.backend import RegistryBackend


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands under one name: an import with our mark, or, without a mark, something of others'."""

    service: ImportedService
    mark: Mark | None
    edited: bool = False


class MemoryRegistry(RegistryBackend):
    """The backend. It outlives its adapters, as a real one does; every method may be called from any thread.

    `outage` makes it unreachable, `silence` leaves adapters without an answer, `deny` takes every adapter's rights,
    `held` makes calls wait, `refuse` makes writes of a name fail for good.
    `writes` counts the entries that were really changed.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.local: dict[str, LocalService] = {}
        self.by_name: dict[str, Entry] = {}
        self.names: dict[tuple[tuple[str, str, str], ImportKey], str] = {}
        self.lost: dict[tuple[str, str, str], datetime] = {}
        self.refuse: dict[str, str] = {}
        self.writes = 0
        self.down = False
        self.denied = False
        self.silent = False
        self._watchers: list[queue.SimpleQueue[Batch | None]] = []
        self._free = threading.Event()
        self._free.set()

    def open(self, context: AdapterContext) -> MemoryAdapter:
        """Open an adapter on this backend."""
        return MemoryAdapter(self, context)

    def adapter_type(self) -> AdapterType:
        """The adapter type of kind `memory` that opens this very backend."""
        return AdapterType(
            kind="memory",
            role="registry",
            options=AdapterOptions,
            open=lambda options, context: self.open(context),  # noqa: ARG005 - there are no options
            api_version=1,
            summary="a registry in memory, for tests",
        )

    def add_local(self, service: LocalService) -> str:
        """Register or replace a local service."""
        with self.lock:
            self.local[service.name] = service
            self._tell((Upsert(service),))
        return service.name

    def remove_local(self, name: str) -> None:
        """Deregister a local service."""
        with self.lock:
            if self.local.pop(name, None):
                self._tell((Remove(name),))

    def add_foreign(self, service: ImportedService) -> str:
        """Put something of others' under the local name of `service`."""
        with self.lock:
            self.by_name[service.local_name] = Entry(service, None)
        return service.local_name

    def remove_foreign(self, service: ImportedService) -> None:
        """Take it out again."""
        with self.lock:
            self.by_name.pop(service.local_name, None)

    def edit_import(self, service: ImportedService) -> None:
        """Note that a person changed the entry."""
        with self.lock:
            self.by_name[service.local_name] = replace(self.by_name[service.local_name], edited=True)

    def entries(self) -> Mapping[str, object]:
        """All services, entries and marks."""
        with self.lock:
            local = {f"local {name}": service for name, service in self.local.items()}
            return {**local, **self.by_name, **{f"lost {key}": since for key, since in self.lost.items()}}

    def imported(self) -> dict[ImportKey, ImportedService]:
        """Every import that stands with a mark, whoever's."""
        with self.lock:
            return {entry.service.key: entry.service for entry in self.by_name.values() if entry.mark}

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Be unreachable; watches under way are cut."""
        with self.lock:
            self.down = True
            self._tell(None)
        try:
            yield
        finally:
            self.down = False

    @contextmanager
    def deny(self) -> Iterator[None]:
        """Refuse what adapters ask for; watches under way go on."""
        self.denied = True
        try:
            yield
        finally:
            self.denied = False

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Answer nothing, which adapters find out at once; watches under way go on."""
        self.silent = True
        try:
            yield
        finally:
            self.silent = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let every call (but not the watch) wait until the context is left."""
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()

    def reach(self) -> None:
        """Wait while the backend is held; raise `RegistryUnavailable` while it is down, silent or denies us."""
        self._free.wait()
        self._require()

    def subscribe(self) -> tuple[Snapshot, queue.SimpleQueue[Batch | None]]:
        """Everything as it is, and a queue of what follows; None on it is the sign of an outage or a stop."""
        with self.lock:
            self._require()
            news: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
            self._watchers.append(news)
            return Snapshot(tuple(self.local.values())), news

    def unsubscribe(self, news: queue.SimpleQueue[Batch | None]) -> None:
        """Forget a queue."""
        with self.lock:
            self._watchers.remove(news)

    def _require(self) -> None:
        reasons = {
            "the memory is out of reach": self.down,
            "the memory does not answer": self.silent,
            "the memory answers no adapter without rights": self.denied,
        }
        for reason, holds in reasons.items():
            if holds:
                raise RegistryUnavailable(reason)

    def _tell(self, batch: Batch | None) -> None:
        for news in self._watchers:
            news.put(batch)


class MemoryAdapter:
    """The adapter: every hook of `RegistrySpec`, as short as the contract allows."""

    def __init__(self, backend: MemoryRegistry, context: AdapterContext) -> None:
        self.backend = backend
        self.context = context
        self.closed = False

    @hookimpl
    def registry_watch(self, stop: Stop) -> Iterator[Batch]:
        """See `RegistrySpec`."""
        snapshot, news = self.backend.subscribe()
        stop.on_stop(lambda: news.put(None))
        try:
            yield snapshot
            while (batch := news.get()) is not None:
                yield batch
            if not stop.is_set():
                message = "the memory went out of reach"
                raise RegistryUnavailable(message)
        finally:
            self.backend.unsubscribe(news)

    @hookimpl
    def registry_imports(self) -> Sequence[StandingImport]:
        """See `RegistrySpec`."""
        self.backend.reach()
        with self.backend.lock:
            return [
                StandingImport(
                    key=ImportKey(entry.mark.peer, entry.mark.service),
                    local_name=name,
                    digest="" if entry.edited else entry.mark.digest,
                    lost_since=self.backend.lost.get(self._peer(entry.mark.peer)),
                )
                for name, entry in self.backend.by_name.items()
                if entry.mark is not None and self._ours(entry)
            ]

    @hookimpl
    def registry_apply(self, changes: Sequence[ImportChange]) -> Sequence[Outcome]:
        """See `RegistrySpec`."""
        self.backend.reach()
        return [self._apply(change) for change in changes]

    @hookimpl
    def registry_mark_peer(self, peer: str, lost_since: datetime | None) -> bool:
        """See `RegistrySpec`."""
        self.backend.reach()
        with self.backend.lock:
            if lost_since is None:
                self.backend.lost.pop(self._peer(peer), None)
            else:
                self.backend.lost[self._peer(peer)] = lost_since
        return True

    @hookimpl
    def registry_check(self) -> Sequence[Finding]:
        """See `RegistrySpec`."""
        if self.backend.down:
            return [Finding(subject="memory", severity=Severity.ERROR, message="it is out of reach")]
        if self.backend.silent:
            return [Finding(subject="memory", severity=Severity.ERROR, message="it does not answer")]
        if self.backend.denied:
            return [Finding(subject="memory", severity=Severity.ERROR, message="no rights are held")]
        return [Finding(subject="memory", severity=Severity.OK, message="it can be reached")]

    @hookimpl
    def registry_close(self) -> None:
        """See `RegistrySpec`."""
        self.closed = True

    def _peer(self, peer: str) -> tuple[str, str, str]:
        return (self.context.trust_domain, self.context.name, peer)

    def _ours(self, entry: Entry) -> bool:
        mark = entry.mark
        return mark is not None and (mark.trust_domain, mark.registry) == self._peer("")[:2]

    def _apply(self, change: ImportChange) -> Outcome:
        write = isinstance(change, WriteImport)
        name = change.service.local_name if isinstance(change, WriteImport) else change.local_name
        with self.backend.lock:
            standing = self.backend.by_name.get(name)
            if reason := self.backend.refuse.get(name):
                return Outcome(key=change.key, status=Status.REJECTED, reason=reason)
            if write and standing is not None and not self._ours(standing):
                reason = f"{name} belongs to someone else"
                return Outcome(key=change.key, status=Status.REJECTED, reason=reason)
            if isinstance(change, WriteImport):
                self._write(change.service, standing)
            else:
                self._drop(change.key)
        return Outcome(key=change.key, status=Status.APPLIED)

    def _write(self, service: ImportedService, standing: Entry | None) -> None:
        entry = Entry(service, self.context.mark(service.peer, service.service.name, service.digest))
        if entry != standing:
            self._drop(service.key)  # one that moves to another name leaves none behind under its old one
            self.backend.by_name[service.local_name] = entry
            self.backend.names[self._peer(service.peer), service.key] = service.local_name
            self.backend.writes += 1

    def _drop(self, key: ImportKey) -> None:
        name = self.backend.names.pop((self._peer(key.peer), key), None)
        entry = self.backend.by_name.get(name) if name is not None else None
        if name is not None and entry is not None and self._ours(entry) and entry.service.key == key:
            del self.backend.by_name[name]
            self.backend.writes += 1

"""Writes imports into the cluster and takes them out: server-side apply, several imports at a time.

Every object is looked at before it is written: what is not ours is left alone. A write names the version it was
decided on, so that one that comes late, or an edit in between, makes it fail instead of undoing the newer one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hamlet_core.api import (
    ImportChange,
    ImportedService,
    ImportKey,
    InvalidService,
    Outcome,
    RegistryUnavailable,
    RemoveImport,
    Status,
    WriteImport,
)
from hamlet_istio import istio, plain
from hamlet_istio.addresses import allocate, lies_in
from hamlet_istio.batch import Batch, at_of
from hamlet_istio.connection import Connection, Refusal
from hamlet_istio.consumers import Consumers
from hamlet_istio.events import Events
from hamlet_istio.marks import LOCAL_NAME, Marker, annotations_of, key_of, whose
from hamlet_istio.naming import object_name
from hamlet_istio.options import IstioOptions
from hamlet_istio.refused import outcome_of
from hamlet_istio.resources import Apis, Discovery, Resource
from hamlet_istio.sight import Sight, Taken, taken_by
from hamlet_istio.standing import At, Standing
from hamlet_istio.writing import Refused, put, says

Object = dict[str, Any]
LIST_FROM = 24
"""From this many changes on, the import namespace is listed instead of asking for each object."""
_ATTEMPTS = 3


class Writer:
    """Applies changes for one agent; one call at a time."""

    def __init__(
        self,
        connection: Connection,
        discovery: Discovery,
        options: IstioOptions,
        marker: Marker,
        standing: Standing,
        consumers: Consumers,
        sight: Sight,
        events: Events,
    ) -> None:
        self._connection, self._discovery, self._options = connection, discovery, options
        self._marker, self._standing, self._sight, self._events = marker, standing, sight, events
        self._namespace, self._consumers = options.import_namespace, consumers
        self._pool = ThreadPoolExecutor(options.concurrency, thread_name_prefix="istio-write")
        self._names: dict[ImportKey, set[str]] = {}
        self._own: dict[str, Object] | None = None

    def close(self) -> None:
        """Wait for what is under way."""
        self._pool.shutdown(cancel_futures=True)

    def learn(self, objects: dict[At, Object]) -> None:
        """Take note of what stands: under which names each import has objects, and who has which address."""
        self._names = {}
        self._own = {}
        for at, each in objects.items():
            if at.kind == "ServiceEntry":
                self._own[at.name] = each
            key = key_of(each) if self._marker.is_ours(each) else None
            if key is not None:
                self._names.setdefault(key, set()).add(annotations_of(each).get(LOCAL_NAME, ""))

    def apply(self, changes: Sequence[ImportChange]) -> list[Outcome]:
        """Make the changes; one outcome each, in order. `RegistryUnavailable` when none could be tried."""
        apis = self._discovery.apis()
        if self._own is None:
            self._consumers.learn()
            self.learn(self._standing.everything(apis, ours=True))
        if any(isinstance(change, WriteImport) for change in changes):
            self._consumers.expect(self._led_to(changes))
        known = self._standing.everything(apis, ours=False) if len(changes) >= LIST_FROM else None
        batch = Batch(apis, self._standing, self._marker, known, self._taken(apis, known, changes))
        outcomes: list[Outcome | None] = [None] * len(changes)
        for run in _runs(changes):
            for position, outcome in zip(
                run, self._pool.map(self._one, [(changes[i], batch) for i in run]), strict=True
            ):
                outcomes[position] = outcome
        made = [outcome for outcome in outcomes if outcome is not None]
        if batch.down is not None:
            self._own = None
            self._discovery.forget()
            if not any(outcome.status is Status.APPLIED for outcome in made):
                raise batch.down
        elif apis.networking and self._consumers.former:
            self._consumers.tidy(batch.resources["DestinationRule"])
        return made

    def _led_to(self, changes: Sequence[ImportChange]) -> frozenset[str]:
        """The namespaces, beside the one of the imports, that a gateway asks rules for."""
        found = set[str]()
        for change in changes:
            # What makes no sense is refused when it is written.
            with contextlib.suppress(InvalidService):
                if isinstance(change, WriteImport) and change.service.route and self._options.istio:
                    found |= istio.consumers_of(change.service, self._options)
        return frozenset(found - {self._namespace})

    def _taken(self, apis: Apis, known: dict[At, Object] | None, changes: Sequence[ImportChange]) -> Taken:
        """Who has which host and address, as far as the changes need to know."""
        if not apis.networking or not any(isinstance(change, WriteImport) for change in changes):
            return Taken()
        seen = self._sight.entries()
        if seen is None:
            seen = []
            for namespace in self._options.namespaces or (None,):
                seen += self._connection.listing(apis.entries.path(namespace))[0]
        taken = taken_by(seen)
        for each in (self._own or {}).values():
            taken.put(each)
        for at, each in (known or {}).items():
            if at.kind == "ServiceEntry":
                taken.put(each)
        return taken

    def _one(self, job: tuple[ImportChange, Batch]) -> Outcome:
        change, batch = job
        if batch.down is not None:
            return Outcome(key=change.key, status=Status.RETRY, reason=str(batch.down))
        for attempt in range(_ATTEMPTS):
            try:
                if isinstance(change, RemoveImport):
                    self._remove(change, batch)
                else:
                    self._write(change.service, batch)
                return Outcome(key=change.key, status=Status.APPLIED)
            except (Refused, InvalidService) as error:
                return self._refused(change, str(error), batch)
            except RegistryUnavailable as error:
                batch.down = error
                return Outcome(key=change.key, status=Status.RETRY, reason=str(error))
            except Refusal as refusal:
                status, reason = outcome_of(refusal)
                if refusal.status == 404:
                    self._discovery.forget()
                if status is Status.REJECTED:
                    return self._refused(change, reason, batch)
                if not (refusal.status == 409 and attempt + 1 < _ATTEMPTS):
                    return Outcome(key=change.key, status=status, reason=reason)
                batch.distrust()
        raise AssertionError

    def _refused(self, change: ImportChange, reason: str, batch: Batch) -> Outcome:
        if isinstance(change, WriteImport) and self._events.enabled:
            about = _about(change.service.local_name, batch)
            with contextlib.suppress(Refusal, RegistryUnavailable):
                # `kubectl describe` shows the Events of the object's UID.
                standing = batch.find(At(about["kind"], self._namespace, about["metadata"]["name"]))
                about["metadata"] |= {"uid": standing["metadata"]["uid"]} if standing is not None else {}
            message = f"{change.key.name} of {change.key.peer}: {reason}"
            self._events.tell(about, "ImportRefused", message, warning=True)
        return Outcome(key=change.key, status=Status.REJECTED, reason=reason)

    # One import

    def _write(self, service: ImportedService, batch: Batch) -> None:
        name = object_name(service.local_name)
        standing = batch.objects_at(name)
        for thing in standing.values():
            self._require_ours(thing, service.key)
        bodies = self._bodies(service, batch, standing)
        for body in bodies:  # further slices have names of their own
            at = at_of(body)
            if at not in standing and at.name != name:
                found = batch.find(at)
                if found is not None:
                    self._require_ours(found, service.key)
                    standing[at] = found
        wanted = {at_of(body): body for body in bodies}
        changed = [at for at, body in wanted.items() if at not in standing or not says(standing[at], body)]
        self._drop_names(service.key, service.local_name, batch)
        made = dict(standing)
        for at in changed:
            made[at] = self._put(batch.resources[at.kind], wanted[at], standing.get(at))
            batch.note(at, made[at])
            if at.kind == "ServiceEntry" and self._own is not None:
                self._own[at.name] = made[at]
        for at, thing in standing.items():
            if at not in wanted:
                self._delete(thing, batch)
        self._names[service.key] = {service.local_name}
        if changed:
            reason = "Imported" if not standing else "ImportChanged"
            message = f"{service.service.fqdn} of peer {service.peer}"
            main = made[At(batch.apis.main.kind, self._namespace, name)]
            self._events.tell(main, reason, f"{message} is {'imported' if not standing else 'changed'}")

    def _bodies(self, service: ImportedService, batch: Batch, standing: dict[At, Object]) -> list[Object]:
        apis, options = batch.apis, self._options
        if not apis.networking:
            return plain.objects_for(service, options, self._marker, apis.write_endpoints)
        own = (self._namespace, object_name(service.local_name))
        entry = standing.get(At("ServiceEntry", *own))
        with batch.lock:
            other = batch.taken.holder(service.local_name, own)
            if other is not None:
                place = f"{other['metadata']['namespace']}/{other['metadata']['name']}"
                ours = self._marker.is_ours(other)
                said = "it is ours, of an `import_namespace` before this one: delete it" if ours else whose(other)
                message = f"ServiceEntry {place} has the host {service.local_name} already: {said}"
                raise Refused(message)
            address = self._address(service, batch.taken, entry)
            bodies = istio.objects_for(service, options, self._marker, apis.networking, address)
            batch.taken.put(bodies[-1])
        return bodies

    def _address(self, service: ImportedService, taken: Taken, entry: Object | None) -> str | None:
        network = self._options.virtual_addresses
        if network is None or not istio.needs_address(service):
            return None
        others = taken.taken_from((self._namespace, object_name(service.local_name)))
        for address in ((entry or {}).get("spec") or {}).get("addresses") or ():
            if lies_in(address, network) and address not in others:
                return str(address)
        return allocate(service.local_name, network, others)

    def _put(self, resource: Resource, body: Object, before: Object | None) -> Object:
        return put(self._connection, resource, body, before, self._options)

    def _remove(self, change: RemoveImport, batch: Batch) -> None:
        names = self._names.pop(change.key, set()) | {change.local_name}
        gone = False
        try:
            for local_name in sorted(names):
                gone |= self._remove_at(change.key, object_name(local_name), batch)
        except BaseException:
            self._names[change.key] = names
            raise
        if gone:
            message = f"{change.key.name} of peer {change.key.peer} is withdrawn"
            self._events.tell(_about(change.local_name, batch), "ImportWithdrawn", message)

    def _drop_names(self, key: ImportKey, keep: str, batch: Batch) -> None:
        """Take out what an import has under other names than the one it gets."""
        for local_name in sorted(self._names.get(key, set()) - {keep}):
            self._remove_at(key, object_name(local_name), batch)

    def _remove_at(self, key: ImportKey, name: str, batch: Batch) -> bool:
        order = list(batch.resources)
        found = batch.objects_at(name)
        mine = [thing for thing in found.values() if self._marker.is_ours(thing) and key_of(thing) == key]
        # The entry before its rule: what is callable is never without its TLS settings.
        for thing in sorted(mine, key=lambda each: -order.index(each["kind"])):
            self._delete(thing, batch)
        return bool(mine)

    def _delete(self, thing: Object, batch: Batch) -> None:
        at, metadata = at_of(thing), thing["metadata"]
        preconditions = {"preconditions": {"uid": metadata["uid"]}} if "uid" in metadata else None
        try:
            path = batch.resources[at.kind].path(at.namespace, at.name)
            self._connection.call("DELETE", path, None, preconditions, patiently=True)
        except Refusal as refusal:
            if not (refusal.status == 404 and refusal.details.get("name")):
                raise
        batch.note(at, None)
        if at.kind == "ServiceEntry" and self._own is not None:
            self._own.pop(at.name, None)

    def _require_ours(self, thing: Object, key: ImportKey) -> None:
        place = f"{thing['kind']} {thing['metadata']['namespace']}/{thing['metadata']['name']}"
        if not self._marker.is_ours(thing):
            message = f"{place} is in the way: {whose(thing)}; rename it, or take another `import_namespace`"
            raise Refused(message)
        other = key_of(thing)
        if other != key:
            message = f"{place} is in the way: it is the import {other.name if other else '?'!r}"
            raise Refused(message)


def _runs(changes: Sequence[ImportChange]) -> list[list[int]]:
    """The changes in groups whose members concern different imports and different names, in order."""
    runs: list[list[int]] = [[]]
    keys, names = set[ImportKey](), set[str]()
    for position, change in enumerate(changes):
        name = change.service.local_name if isinstance(change, WriteImport) else change.local_name
        if change.key in keys or name in names:
            runs.append([])
            keys, names = set(), set()
        keys.add(change.key)
        names.add(name)
        runs[-1].append(position)
    return runs


def _about(local_name: str, batch: Batch) -> Object:
    """The object that stands for an import, which need not exist."""
    return {
        "apiVersion": batch.apis.main.version,
        "kind": batch.apis.main.kind,
        "metadata": {"name": object_name(local_name)},
    }

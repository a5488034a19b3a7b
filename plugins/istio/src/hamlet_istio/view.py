"""The objects that the watch has seen, and the services they make together. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from hamlet_core.api import LocalService
from hamlet_istio.local import (
    Identity,
    Place,
    Rules,
    from_entry,
    from_service,
    is_candidate,
    is_workload_entry,
    places_of_endpoints,
    places_of_slice,
    selector_of,
    workload_of,
)

Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name: of an object, and of the service it belongs to."""
Pod = tuple[str, str, str]
"""Namespace, name and UID of a pod; the UID may be unknown."""
_SERVICE_OF_SLICE = "kubernetes.io/service-name"


class View:
    """What stands of each kind. Every change returns the services that it may concern."""

    def __init__(self, excluded: Iterable[str]) -> None:
        self._excluded = frozenset(excluded)
        self._objects: dict[str, dict[Key, Object]] = {}
        self._slices: dict[Key, set[Key]] = {}

    def of(self, kind: str) -> dict[Key, Object]:
        """The objects of a kind."""
        return self._objects.setdefault(kind, {})

    def replace(self, kind: str, namespace: str | None, objects: Iterable[Object]) -> None:
        """These are all objects of the kind in a namespace (None: in all)."""
        standing = self.of(kind)
        for key in [key for key in standing if namespace in (None, key[0])]:
            self._drop(kind, key)
        for each in objects:
            self._put(kind, each)

    def change(self, kind: str, thing: Object, *, gone: bool) -> set[Key]:
        """One object changed, or is gone."""
        key = _key(thing)
        known = self.of(kind).get(key)
        concerned = self._concerned(kind, known) if known else set()
        if gone:
            self._drop(kind, key)
        else:
            self._put(kind, thing)
        return concerned | self._concerned(kind, thing)

    def keys(self) -> set[Key]:
        """Every service there may be."""
        return {*self.of("Service"), *self.of("ServiceEntry")}

    def pods(self, keys: Iterable[Key]) -> set[Pod]:
        """The pods that serve these services."""
        return {(key[0], place.pod, place.uid) for key in keys for place in self._places(key) if place.pod}

    def service(self, key: Key, rules: Rules, identity: Identity) -> LocalService | None:
        """The service under this key; a Service goes before a ServiceEntry of the same name."""
        if key[0] in self._excluded:
            return None
        service, entry = self.of("Service").get(key), self.of("ServiceEntry").get(key)
        if service is not None and is_candidate(service):
            return from_service(service, self._places(key), rules, identity)
        if entry is not None and is_workload_entry(entry):
            return from_entry(entry, self._workloads(key[0], rules), rules)
        return None

    def selecting(self) -> set[str]:
        """The namespaces with a ServiceEntry that selects workloads: pods are to be followed there."""
        entries = self.of("ServiceEntry").items()
        found = {key[0] for key, entry in entries if is_workload_entry(entry) and selector_of(entry)}
        return found - self._excluded

    def _workloads(self, namespace: str, rules: Rules) -> Iterator[Object]:
        for at, each in self.of("WorkloadEntry").items():
            if at[0] == namespace:
                yield each
        for at, each in self.of("Pod").items():
            workload = workload_of(each, unready=rules.unready) if at[0] == namespace else None
            if workload is not None:
                yield workload

    def _places(self, key: Key) -> Iterator[Place]:
        endpoints = self.of("Endpoints").get(key)
        if endpoints is not None:
            yield from places_of_endpoints(endpoints)
        for each in sorted(self._slices.get(key, ())):
            yield from places_of_slice(self.of("EndpointSlice")[each])

    def _put(self, kind: str, thing: Object) -> None:
        key = _key(thing)
        self._drop(kind, key)
        thing["metadata"].pop("managedFields", None)  # long, and read by nobody here
        self.of(kind)[key] = _of_pod(thing) if kind == "Pod" else thing
        if kind == "EndpointSlice":
            self._slices.setdefault(_service_of(thing), set()).add(key)

    def _drop(self, kind: str, key: Key) -> None:
        known = self.of(kind).pop(key, None)
        if known is not None and kind == "EndpointSlice":
            pieces = self._slices[_service_of(known)]
            pieces.discard(key)
            if not pieces:
                del self._slices[_service_of(known)]

    def _concerned(self, kind: str, thing: Object) -> set[Key]:
        if kind == "EndpointSlice":
            return {_service_of(thing)}
        if kind in ("WorkloadEntry", "Pod"):
            namespace = thing["metadata"]["namespace"]
            entries = self.of("ServiceEntry").items()
            return {key for key, entry in entries if key[0] == namespace and selector_of(entry)}
        return {_key(thing)}


def _key(thing: Object) -> Key:
    return thing["metadata"]["namespace"], thing["metadata"]["name"]


def _of_pod(pod: Object) -> Object:
    """What is read of a pod: the whole is long, and there are many."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    return {
        "metadata": {
            key: metadata[key] for key in ("namespace", "name", "labels", "deletionTimestamp") if key in metadata
        },
        "spec": {"serviceAccountName": (pod.get("spec") or {}).get("serviceAccountName")},
        "status": {key: status[key] for key in ("podIP", "phase", "conditions") if key in status},
    }


def _service_of(piece: Object) -> Key:
    metadata = piece["metadata"]
    return metadata["namespace"], (metadata.get("labels") or {}).get(_SERVICE_OF_SLICE, "")

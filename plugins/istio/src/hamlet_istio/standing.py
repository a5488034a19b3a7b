"""What stands where imports are written: of ours, grouped by import, and of others. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog

from hamlet_core.api import ImportKey, RegistryUnavailable, StandingImport
from hamlet_istio.connection import Connection, Refusal
from hamlet_istio.consumers import Consumers
from hamlet_istio.marks import LOCAL_NAME, LOST_SINCE, OBJECTS, PEER, SELECTOR, Marker, annotations_of, key_of
from hamlet_istio.resources import CONFIG_MAPS, Apis, Resource

Object = dict[str, Any]
_log = structlog.get_logger(__name__)


class At(NamedTuple):
    """Where an object stands."""

    kind: str
    namespace: str
    name: str


class Standing:
    """Reads the import namespace, and those with rules of ours, for one agent."""

    def __init__(self, connection: Connection, namespace: str, marker: Marker, consumers: Consumers) -> None:
        self._connection, self._namespace, self._marker = connection, namespace, marker
        self._consumers = consumers

    def places(self, resource: Resource) -> tuple[str, ...]:
        """The namespaces where objects of a kind may be ours."""
        if resource.kind != "DestinationRule":
            return (self._namespace,)
        return (self._namespace, *sorted((self._consumers.named | self._consumers.recorded) - {self._namespace}))

    def everything(self, apis: Apis, *, ours: bool) -> dict[At, Object]:
        """Every object of the kinds we write; `ours`: only what some agent of Hamlet marked."""
        query = {"labelSelector": SELECTOR} if ours else None
        found: dict[At, Object] = {}
        for resource in apis.written:
            for namespace in self.places(resource):
                for each in self._list(resource, query, namespace):
                    each.setdefault("kind", resource.kind)  # lists of built-in kinds leave it out
                    found[At(resource.kind, namespace, each["metadata"]["name"])] = each
        return found

    def look(self, resource: Resource, name: str, namespace: str | None = None) -> Object | None:
        """One object, or None; in the import namespace unless another is named."""
        try:
            path = resource.path(namespace or self._namespace, name)
            found = self._connection.call("GET", path, patiently=True)
        except Refusal as refusal:
            if _is_absent(refusal) or (namespace and self._is_closed(refusal, namespace)):
                return None
            raise
        found.setdefault("kind", resource.kind)
        return found

    def selected(self, resource: Resource, selector: str) -> list[Object]:
        """The objects with these labels."""
        found = self._list(resource, {"labelSelector": selector}, self._namespace)
        for each in found:
            each.setdefault("kind", resource.kind)
        return found

    def lost(self) -> dict[str, datetime]:
        """Since when which peer is lost, as `registry_mark_peer` wrote it down."""
        found = {}
        for each in self._list(CONFIG_MAPS, {"labelSelector": SELECTOR}, self._namespace):
            if self._marker.is_ours(each):
                since = lost_since(each)
                if since is not None:
                    found[annotations_of(each).get(PEER, "")] = since
        return found

    def _is_closed(self, refusal: Refusal, namespace: str) -> bool:
        """Whether the right was taken away with the option: that must not stop everything; a check names it."""
        return refusal.status == 403 and namespace in self._consumers.former

    def _list(self, resource: Resource, query: dict[str, str] | None, namespace: str) -> list[Object]:
        path = resource.path(namespace)
        try:
            return self._connection.listing(path, query)[0]
        except Refusal as refusal:
            if self._is_closed(refusal, namespace):
                _log.warning("rules of an earlier configuration cannot be looked for", namespace=namespace)
                return []
            # Absent is not empty: it is a definition that was removed, or that is not served yet after a start.
            mend = f"allow list of {resource.plural} (group {resource.group!r}) in {namespace!r}"
            if refusal.status == 404:
                mend = f"install what serves {resource.plural} of {resource.version}"
            raise RegistryUnavailable(f"imports cannot be listed: {refusal}", mend=mend) from refusal


def imports_in(
    objects: Collection[Object], marker: Marker, lost: dict[str, datetime], clashing: Callable[[Object], bool]
) -> list[StandingImport]:
    """The imports that objects of ours make up; incomplete, edited and `clashing` ones have no digest. Pure."""
    groups: dict[ImportKey, list[Object]] = {}
    for each in objects:
        key = key_of(each) if marker.is_ours(each) else None
        if key is not None:
            groups.setdefault(key, []).append(each)
    found = []
    for key, group in sorted(groups.items()):
        names = {annotations_of(each).get(LOCAL_NAME, "") for each in group}
        digest = _digest(group, marker) if len(names) == 1 and not any(map(clashing, group)) else ""
        found.append(
            StandingImport(key=key, local_name=max(names) or key.name, digest=digest, lost_since=lost.get(key.peer))
        )
    return found


def _digest(group: Sequence[Object], marker: Marker) -> str:
    digests = {marker.digest(each) for each in group}
    counts = {annotations_of(each).get(OBJECTS) for each in group}
    return digests.pop() if len(digests) == 1 and counts == {str(len(group))} else ""


def lost_since(config_map: Object) -> datetime | None:
    """The time in the mark of a lost peer; None where somebody edited it into none."""
    try:
        since = datetime.fromisoformat(annotations_of(config_map).get(LOST_SINCE, ""))
    except ValueError:
        return None
    return since.replace(tzinfo=since.tzinfo or UTC)


def _is_absent(refusal: Refusal) -> bool:
    """Whether a 404 is about the object itself; one about its kind or namespace says another thing."""
    return refusal.status == 404 and bool(refusal.details.get("name"))

"""The mark of a lost peer: one ConfigMap for all of its imports, in the import namespace."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hamlet_core.api import AdapterError, RegistryUnavailable
from hamlet_istio.connection import Connection, Refusal
from hamlet_istio.events import WAITING, Events
from hamlet_istio.marks import LOST_SINCE, PEER, SELECTOR, Marker, whose
from hamlet_istio.naming import hashed_name, label_value
from hamlet_istio.resources import CONFIG_MAPS, Apis, Resource
from hamlet_istio.standing import Standing

Object = dict[str, Any]


class Peers:
    """Writes and removes the marks of one agent."""

    def __init__(
        self, connection: Connection, namespace: str, manager: str, marker: Marker, standing: Standing, events: Events
    ) -> None:
        self._connection, self._namespace, self._manager = connection, namespace, manager
        self._marker, self._standing, self._events = marker, standing, events

    def name(self, peer: str) -> str:
        """The name of its ConfigMap."""
        context = self._marker.context
        return hashed_name(f"hamlet-peer-{peer}", f"{context.trust_domain}/{context.name}/{peer}")

    def mark(self, apis: Apis, peer: str, lost_since: datetime | None) -> None:
        """Write down since when `peer` is lost, or that it is back. A peer without imports gets no mark."""
        try:
            if lost_since is None:
                if self._remove(peer):
                    message = f"peer {peer} is back: the import is kept up to date again"
                    self._tell_imports(apis, peer, "ImportCurrent", message)
            elif self._has_imports(apis, peer):
                said = self._write(peer, lost_since)
                message = f"peer {peer} is lost since {said}: the import is kept and may be out of date"
                self._tell_imports(apis, peer, "ImportStale", message, warning=True)
        except Refusal as refusal:
            mend = f"allow get, list, create, patch and delete of configmaps in namespace {self._namespace!r}"
            raise RegistryUnavailable(f"peer {peer} cannot be marked: {refusal}", mend=mend) from refusal

    def tidy(self, apis: Apis, peer: str) -> None:
        """Remove the mark of a lost peer whose last import has gone."""
        standing = self._standing.look(CONFIG_MAPS, self.name(peer))
        if standing is not None and not self._has_imports(apis, peer):
            self._remove(peer)

    def _has_imports(self, apis: Apis, peer: str) -> bool:
        return any(self._imports(resource, peer) for resource in apis.written)

    def _imports(self, resource: Resource, peer: str) -> list[Object]:
        selector = f"{SELECTOR},{PEER}={label_value(peer)}"
        return [each for each in self._standing.selected(resource, selector) if self._marker.is_ours(each)]

    def _tell_imports(self, apis: Apis, peer: str, reason: str, message: str, *, warning: bool = False) -> None:
        """Tell it of each import too, of as many as leave room for other Events."""
        for each in self._imports(apis.main, peer)[: WAITING // 2] if self._events.enabled else ():
            self._events.tell({**each, "apiVersion": apis.main.version}, reason, message, warning=warning)

    def _write(self, peer: str, lost_since: datetime) -> str:
        name, said = self.name(peer), lost_since.astimezone(UTC).isoformat()
        standing = self._standing.look(CONFIG_MAPS, name)
        if standing is not None and not self._marker.is_ours(standing):
            message = f"ConfigMap {self._namespace}/{name} is in the way: {whose(standing)}"
            raise AdapterError(message, mend="remove it, or take another `import_namespace`")
        body: Object = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "namespace": self._namespace,
                "labels": self._marker.labels(peer),
                "annotations": {**self._marker.owner(peer), LOST_SINCE: said},
            },
            "data": {"peer": peer, "lostSince": said, "note": "Its imports are kept and may be out of date."},
        }
        path = CONFIG_MAPS.path(self._namespace, name)
        # Nothing but us writes this object of ours, so its fields are taken without asking.
        made = self._connection.apply(path, body, self._manager, force=True)
        self._events.tell(made, "PeerLost", f"peer {peer} is lost since {said}; its imports are kept", warning=True)
        return said

    def _remove(self, peer: str) -> bool:
        standing = self._standing.look(CONFIG_MAPS, self.name(peer))
        if standing is None or not self._marker.is_ours(standing):
            return False
        try:
            self._connection.call("DELETE", CONFIG_MAPS.path(self._namespace, self.name(peer)), patiently=True)
        except Refusal as refusal:
            if refusal.status != 404:
                raise
        self._events.tell({**standing, "kind": "ConfigMap"}, "PeerBack", f"peer {peer} is no longer marked as lost")
        return True

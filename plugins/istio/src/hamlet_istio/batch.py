"""What is known while one batch of changes is applied: the APIs, what stands, who has what. It writes nothing."""

from __future__ import annotations

import threading
from typing import Any

from hamlet_core.api import RegistryUnavailable
from hamlet_istio.marks import Marker
from hamlet_istio.resources import Apis, Resource
from hamlet_istio.sight import Taken
from hamlet_istio.standing import At, Standing

Object = dict[str, Any]


class Batch:
    """`known` holds every object, or is None: each is asked for. Used by several threads at a time."""

    def __init__(
        self, apis: Apis, standing: Standing, marker: Marker, known: dict[At, Object] | None, taken: Taken
    ) -> None:
        self.apis, self.taken = apis, taken
        self.resources = {resource.kind: resource for resource in apis.written}
        self._standing, self._marker, self._known = standing, marker, known
        self.lock = threading.Lock()
        self.down: RegistryUnavailable | None = None

    def note(self, at: At, thing: Object | None) -> None:
        """An object was written, or is gone."""
        with self.lock:
            if self._known is not None:
                if thing is None:
                    self._known.pop(at, None)
                else:
                    self._known[at] = thing
            if thing is None and at.kind == "ServiceEntry":
                self.taken.drop((at.namespace, at.name))

    def distrust(self) -> None:
        """What was listed is no longer so: look again."""
        with self.lock:
            self._known = None

    def objects_at(self, name: str) -> dict[At, Object]:
        """The objects called `name`, and the further slices of the Service of that name that are marked."""
        found = {}
        for resource in self.apis.written:
            for namespace in self._standing.places(resource):
                at = At(resource.kind, namespace, name)
                thing = self.find(at)
                if thing is not None:
                    found[at] = thing
                if resource.kind == "EndpointSlice":
                    for each in self._slices_of(resource, name):
                        found[At(resource.kind, namespace, each["metadata"]["name"])] = each
        return found

    def find(self, at: At) -> Object | None:
        """One object."""
        with self.lock:
            known = self._known
            if known is not None:
                return known.get(at)
        return self._standing.look(self.resources[at.kind], at.name, at.namespace)

    def _slices_of(self, resource: Resource, name: str) -> list[Object]:
        with self.lock:
            known = self._known
            if known is not None:
                return [
                    each
                    for at, each in known.items()
                    if at.kind == resource.kind and _service_label(each) == name and self._marker.is_ours(each)
                ]
        found = self._standing.selected(resource, f"kubernetes.io/service-name={name}")
        return [each for each in found if self._marker.is_ours(each)]


def _service_label(thing: Object) -> str:
    return str((thing["metadata"].get("labels") or {}).get("kubernetes.io/service-name", ""))


def at_of(thing: Object) -> At:
    """Where an object stands, or is to stand."""
    return At(thing["kind"], thing["metadata"]["namespace"], thing["metadata"]["name"])

"""The objects of one half of a gateway: listed, written where they differ, and taken out. It decides nothing.

What stands is remembered between calls and listed anew after a minute, or after anything went wrong, so that a change
of one service costs a few requests, and what somebody else edited or removed is mended soon all the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hamlet_core.api import GatewayUnavailable, RegistryUnavailable, Status
from hamlet_istio.access import ClusterOptions
from hamlet_istio.batch import at_of
from hamlet_istio.connection import Connection, Refusal
from hamlet_istio.gateway_objects import HALF
from hamlet_istio.marks import MANAGED_BY, WRITTEN, Marker, annotations_of, whose
from hamlet_istio.refused import conflicting, outcome_of
from hamlet_istio.resources import Resource
from hamlet_istio.standing import At
from hamlet_istio.writing import Refused, put, says

Object = dict[str, Any]
T = TypeVar("T")
LOOK = 60.0
"""Seconds after which what stands is listed anew, at the next call."""
_ATTEMPTS = 3


class Kept:
    """What one agent keeps for `half`. One call changes it at a time, on several threads."""

    def __init__(self, connection: Connection, options: ClusterOptions, marker: Marker, half: str) -> None:
        self._connection, self._options, self._marker, self._half = connection, options, marker, half
        self._lock = threading.Lock()
        self._ours: dict[At, Object] = {}
        self._stands: dict[At, str] = {}
        """The fingerprint of what stands as it was written."""
        self._listed = 0.0
        self.others: list[Object] = []
        """What others have of the kinds that are listed whole."""

    def distrust(self) -> None:
        """List anew next time."""
        self._listed = 0.0

    def learn(self, places: Sequence[tuple[Resource, str]], whole: Resource | None = None) -> None:
        """Know what stands of ours in these places; of the kind `whole` also what others have there."""
        if self._listed and time.monotonic() - self._listed < LOOK:
            return
        found: dict[At, Object] = {}
        others = []
        for resource, namespace in places:
            query = None if resource == whole else {"labelSelector": f"{MANAGED_BY},{HALF}={self._half}"}
            try:
                objects = self._connection.listing(resource.path(namespace), query)[0]
            except Refusal as refusal:
                mend = f"allow list of {resource.plural} (group {resource.group!r}) in {namespace!r}"
                raise GatewayUnavailable(f"what stands cannot be listed: {refusal}", mend=mend) from refusal
            for each in objects:
                each.setdefault("kind", resource.kind)
                if self._is_ours(each):
                    found[At(resource.kind, namespace, each["metadata"]["name"])] = each
                else:
                    others.append(each)
        self._ours, self._stands, self.others, self._listed = found, {}, others, time.monotonic()

    def ours(self, kind: str) -> dict[At, Object]:
        """What stands of ours of a kind."""
        with self._lock:
            return {at: each for at, each in self._ours.items() if at.kind == kind}

    def stands(self, body: Object) -> bool:
        """Whether it is known to stand as it would be written."""
        return self._stands.get(at_of(body)) == annotations_of(body)[WRITTEN]

    def put(self, resource: Resource, body: Object) -> None:
        """Have `body` stand. `Refused` where something of somebody else is in the way, or it can never be."""
        if self.stands(body):
            return
        at = at_of(body)
        for attempt in range(_ATTEMPTS):
            with self._lock:
                live = self._ours.get(at)
            if live is None or attempt:
                live = self._look(resource, at)
            if live is not None and not self._is_ours(live):
                message = (
                    f"{at.kind} {at.namespace}/{at.name} is in the way: {whose(live)}; rename it, or take it out"
                )
                raise Refused(message)
            if live is not None and says(live, body):
                self._note(at, live)
                return
            try:
                self._note(at, put(self._connection, resource, body, live, self._options))
            except Refusal as refusal:
                if refusal.status != 409 or conflicting(refusal) or attempt + 1 == _ATTEMPTS:
                    raise
            else:
                return

    def drop(self, resource: Resource, at: At) -> None:
        """Have nothing of ours stand there."""
        with self._lock:
            live = self._ours.get(at)
        if live is None:
            return
        try:
            preconditions = {"preconditions": {"uid": live["metadata"]["uid"]}}
            self._connection.call("DELETE", resource.path(at.namespace, at.name), None, preconditions, patiently=True)
        except Refusal as refusal:
            if refusal.status not in (404, 409):  # gone, or another object of that name
                raise
        self._note(at, None)

    def _look(self, resource: Resource, at: At) -> Object | None:
        try:
            found = self._connection.call("GET", resource.path(at.namespace, at.name), patiently=True)
        except Refusal as refusal:
            if refusal.status == 404 and refusal.details.get("name"):
                return None
            raise
        found.setdefault("kind", resource.kind)
        return found

    def _is_ours(self, thing: Object) -> bool:
        return self._marker.is_ours(thing) and thing["metadata"]["labels"].get(HALF) == self._half

    def _note(self, at: At, thing: Object | None) -> None:
        with self._lock:
            if thing is None:
                self._ours.pop(at, None)
                self._stands.pop(at, None)
            else:
                self._ours[at] = thing
                self._stands[at] = annotations_of(thing)[WRITTEN]


def tried(act: Callable[[], T]) -> T | Refused | GatewayUnavailable:
    """What came of it: its result, why it can never be, or why not now."""
    try:
        return act()
    except Refused as refused:
        return refused
    except RegistryUnavailable as error:
        return _unavailable(str(error), error.mend, error)
    except GatewayUnavailable as error:
        return error
    except Refusal as refusal:
        status, reason = outcome_of(refusal)
        if status is Status.REJECTED:
            return Refused(reason)
        return _unavailable(reason, "`hamlet check` names missing rights", refusal)


def demanded(found: T | Refused | GatewayUnavailable) -> T:
    """The result; `GatewayUnavailable` where there is none."""
    if isinstance(found, Refused):
        raise _unavailable(str(found), "", found)
    if isinstance(found, GatewayUnavailable):
        raise found
    return found


def _unavailable(message: str, mend: str, cause: Exception) -> GatewayUnavailable:
    error = GatewayUnavailable(message, mend=mend)
    error.__cause__ = cause
    return error

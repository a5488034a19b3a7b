"""Kubernetes Events on what we write, for `kubectl describe`. A courtesy: late, bounded, and never in the way.

At most 25 at once and 5 a second after that, like the client-side limit of Kubernetes' own components; of what
does not fit in the queue nothing is told, since the objects themselves say everything.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import uuid
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

import structlog

from hamlet_core.api import RegistryUnavailable
from hamlet_istio.connection import Connection, Refusal
from hamlet_istio.resources import EVENTS

Object = dict[str, Any]
BURST, PER_SECOND, WAITING = 25, 5.0, 200
_REMEMBERED, _REPEAT_AFTER = 2048, 3600.0
_log = structlog.get_logger(__name__)


class Events:
    """Tells what happened to objects in the import namespace."""

    def __init__(self, connection: Connection, namespace: str, *, enabled: bool) -> None:
        self._connection, self._namespace, self.enabled = connection, namespace, enabled
        self._waiting: queue.Queue[Object | None] = queue.Queue(WAITING)
        self._told: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self.dropped = 0
        """Events that found no room."""

    def tell(self, thing: Object, reason: str, message: str, *, warning: bool = False) -> None:
        """Tell something about an object (apiVersion, kind, metadata); it need not exist. Does not wait."""
        if not self.enabled or self._closed.is_set():
            return
        metadata = thing["metadata"]
        with self._lock:
            key = (thing["kind"], metadata["name"], reason, message)
            now = time.monotonic()
            if warning and now - self._told.get(key, -_REPEAT_AFTER) < _REPEAT_AFTER:
                return
            self._told[key] = now
            self._told.move_to_end(key)
            while len(self._told) > _REMEMBERED:
                self._told.popitem(last=False)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="istio-events", daemon=True)
                self._thread.start()
        try:
            self._waiting.put_nowait(self._event(thing, reason, message, warning))
        except queue.Full:
            self.dropped += 1

    def close(self, seconds: float = 2.0) -> None:
        """Tell what is waiting, for so long, and end."""
        self._closed.set()
        if self._thread is not None:
            with contextlib.suppress(queue.Full):
                self._waiting.put_nowait(None)
            self._thread.join(seconds)

    def _event(self, thing: Object, reason: str, message: str, warning: bool) -> Object:
        metadata, now = thing["metadata"], datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        about = {"apiVersion": thing.get("apiVersion", "v1"), "kind": thing["kind"], "name": metadata["name"]}
        about["namespace"] = self._namespace
        about |= {key: metadata[key] for key in ("uid", "resourceVersion") if key in metadata}
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}", "namespace": self._namespace},
            "involvedObject": about,
            "reason": reason,
            "message": message[:1000],
            "type": "Warning" if warning else "Normal",
            "source": {"component": "hamlet"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }

    def _run(self) -> None:
        room, since = float(BURST), time.monotonic()
        while True:
            event = self._waiting.get()
            if event is None:
                return
            now = time.monotonic()
            room, since = min(BURST, room + (now - since) * PER_SECOND), now
            if room < 1:
                if self._closed.wait((1 - room) / PER_SECOND):
                    return
                room += 1 - room
            room -= 1
            try:
                self._connection.call("POST", EVENTS.path(self._namespace), None, event)
            except (Refusal, RegistryUnavailable) as error:
                _log.debug("event not written", reason=event["reason"], error=str(error))

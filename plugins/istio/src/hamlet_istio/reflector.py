"""Follows one collection: lists it, then watches it, on a thread of its own. Knows nothing of what is in it.

A watch stands for `watch` seconds and is opened anew where it ended, which costs the server nothing. A server
that says nothing for longer than that, not even the end, is taken for dead. When the server has forgotten what
we last saw (410), the collection is listed again.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError

from hamlet_core.api import RegistryUnavailable, Stop
from hamlet_istio.connection import Connection, Refusal
from hamlet_istio.resources import Resource

Object = dict[str, Any]
_DELAYS = (0.1, 0.4, 1.0)
"""Seconds before a watch that was cut is opened again; after the last one it is an outage."""
CALM = 5.0
"""Seconds that a watch stands in which nothing happens before its end is one by itself: of whoever is on the way and
bears no silence."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Everything there is in one place (`namespace`, None: in all); `again`: after a gap."""

    resource: Resource
    namespace: str | None
    objects: list[Object]
    again: bool


@dataclass(frozen=True, slots=True)
class Changed:
    """An object appeared, changed, or is gone."""

    resource: Resource
    object: Object
    gone: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """Following ended."""

    error: BaseException


News = Listed | Changed | Failed | None


class Reflector:
    """Follows `resource` in one namespace, or in all. `news` gets what happens."""

    def __init__(
        self,
        connection: Connection,
        resource: Resource,
        namespace: str | None,
        seconds: float,
        news: queue.SimpleQueue[News],
    ) -> None:
        self._connection, self._resource, self._namespace = connection, resource, namespace
        self._seconds, self._news = seconds, news
        self._path = resource.path(namespace)
        self._lock = threading.Lock()
        self._response: urllib3.BaseHTTPResponse | None = None
        self._stopped = False

    def start(self, stop: Stop, name: str) -> threading.Thread:
        """Begin; end with `stop`."""
        thread = threading.Thread(target=self._run, args=(stop,), name=name, daemon=True)
        thread.start()
        stop.on_stop(self.close)
        return thread

    def close(self) -> None:
        """End a read that is under way; later ones do not begin."""
        with self._lock:
            self._stopped = True
            response = self._response
        if response is not None:
            with contextlib.suppress(Exception):  # it is ending by itself
                response.shutdown()

    def _run(self, stop: Stop) -> None:
        try:
            version = self._list(again=False)
            failures = 0
            while not stop.is_set():
                try:
                    for seen in self._watch(version):
                        version, failures = seen, 0
                    failures = 0
                except _Expired:
                    version = self._list(again=True)
                except (_Cut, RegistryUnavailable) as error:
                    if isinstance(error, _Cut) and error.stood >= CALM:
                        failures = 0
                    if failures == len(_DELAYS):
                        raise
                    if stop.wait(_DELAYS[failures]):
                        return
                    failures += 1
        except Exception as error:  # noqa: BLE001 - handed to the one who waits for news
            if not stop.is_set():
                self._news.put(Failed(self._explained(error)))

    def _list(self, *, again: bool) -> str:
        objects, version = self._connection.listing(self._path)
        self._news.put(Listed(self._resource, self._namespace, objects, again))
        return version

    def _watch(self, version: str) -> Iterator[str]:
        """Pass on what happens after `version`; yields the version that has been passed on."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": max(1, round(self._seconds)),
        }
        try:
            response = self._connection.stream(self._path, query, silence=self._seconds * 7 / 6 + 1)
        except Refusal as refusal:
            if refusal.status == 410:
                raise _Expired from refusal
            if refusal.status in (429, 500, 502, 503, 504):
                raise _Cut(str(refusal)) from refusal
            raise
        with self._lock:
            self._response = response
            stopped = self._stopped
        opened = time.monotonic()
        try:
            if not stopped:
                for line in _lines(response):
                    event = json.loads(line)
                    what, thing = event["type"], event["object"]
                    if what == "ERROR":
                        if thing.get("code") == 410:
                            raise _Expired
                        message = f"the watch of {self._path} failed: {thing.get('message')}"
                        raise _Cut(message)
                    if what != "BOOKMARK":
                        self._news.put(Changed(self._resource, thing, what == "DELETED"))
                    yield thing["metadata"]["resourceVersion"]
        except (HTTPError, OSError, ValueError, AttributeError) as error:  # the latter: closed under the reader
            message = f"the watch of {self._path} broke off: {type(error).__name__}: {error}"
            # One that falls silent stands only as far as we know.
            stood = 0.0 if isinstance(error, ReadTimeoutError) else time.monotonic() - opened
            raise _Cut(message, stood) from error
        finally:
            with self._lock:
                self._response = None
            response.close()

    def _explained(self, error: Exception) -> Exception:
        where = f"namespace {self._namespace!r}" if self._namespace else "all namespaces"
        if isinstance(error, Refusal) and error.status in (403, 404):
            mend = (
                f"allow list and watch of {self._resource.plural} (group {self._resource.group!r}) in {where}"
                if error.status == 403
                else f"{self._resource.plural} of {self._resource.version} must be served"
            )
            unavailable = RegistryUnavailable(f"{self._resource.plural} in {where}: {error}", mend=mend)
        elif isinstance(error, RegistryUnavailable):
            return error
        else:
            unavailable = RegistryUnavailable(f"{self._resource.plural} in {where}: {error}")
        unavailable.__cause__ = error
        return unavailable


class _Expired(Exception):
    """The server no longer knows the version we watched from."""


class _Cut(Exception):
    """The watch ended in the middle, after it had stood for so many seconds."""

    def __init__(self, message: str, stood: float = 0.0) -> None:
        super().__init__(message)
        self.stood = stood


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The lines of a response as they come."""
    rest: list[bytes] = []
    for chunk in response.stream(65536):
        *whole, last = chunk.split(b"\n")
        for line in whole:
            rest.append(line)
            text = b"".join(rest)
            rest = []
            if text:
                yield text
        if last:
            rest.append(last)

"""Two meshes of different vendors end to end: from a registration in Consul to a call out of a mesh on Kubernetes.

The federation of docs/tutorial-consul-istio.md: two agents, two Envoys, network namespaces between which no packet
passes but from gateway to gateway. The reference, in the same run, is what the two registries take for themselves: a
blocking query of Consul and a watch of Kubernetes, each from the write until it wakes. Where namespaces or the
real registries cannot be had, nothing is run, and that is said.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.measure import Row, alone, compared, percentile
from bench.setting import Setting
from tests.backends.install import CannotInstall
from tests.backends.kubernetes import ADMIN
from tests.mixed.federation import ENTRIES, East, West, mixed_federation
from tests.mixed.resolving import by_service_entry
from tests.mixed.sites import Served, http_service
from tests.support.netns import CannotIsolate

CHANGES = 200
"""The most changes of each kind; the sizes may say fewer."""
MAPS = "/api/v1/namespaces/shop/configmaps"
GAP = (0.03, 0.06)
"""Seconds between two changes, so that none meets what is left of the one before."""
POLL = 0.001
PATIENCE = 60.0
MILLI = 1000.0


def run(setting: Setting) -> list[Row]:
    """Measure coming and going."""
    try:
        with mixed_federation(brake=False) as (west, east), http_service(west.site, "west") as served:
            return _changes(setting, west, east, served)
    except (CannotInstall, CannotIsolate) as error:
        setting.step(f"NOT RUN: {error}")
        return []


def _changes(setting: Setting, west: West, east: East, served: Served) -> list[Row]:
    count = min(CHANGES, setting.sizes.changes)
    ours: list[_Times] = []
    bare_came: list[float] = []
    bare_went: list[float] = []
    with _watching(east, ENTRIES) as entries, _watching(east, MAPS) as maps:
        for number in range(count):
            if number % 20 == 0:
                setting.step(f"{count:,} services come and go: {number:,}")
            bare = _Bare(west, east, maps, served, f"bare-{number}")
            bare_came.append(MILLI * bare.come())
            bare_went.append(MILLI * bare.go())
            ours.append(_one(west, east, entries, served, f"job{number}"))
    note = "reference: a blocking query of Consul and a watch of Kubernetes wake, one after the other"
    came, went = [each.called for each in ours], [each.refused for each in ours]
    rows = [
        compared(
            "mixed", f"{case}, {name} of {count}", "ms", [percentile(mine, share)], [percentile(bare, share)], note
        )
        for case, mine, bare in (
            ("registered in Consul until called from Kubernetes", came, bare_came),
            ("deregistered in Consul until refused to Kubernetes", went, bare_went),
        )
        for name, share in (("p50", 0.5), ("p99", 0.99))
    ]
    entered, gone = [each.entered for each in ours], [each.gone for each in ours]
    for case, times in (
        ("registered until the ServiceEntry is seen", entered),
        ("deregistered until it has gone", gone),
    ):
        rows.append(alone("mixed", f"{case}, p50", "ms", [percentile(times, 0.5)]))
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Times:
    """Milliseconds of one service: from its registration, and from its end."""

    entered: float
    called: float
    refused: float
    gone: float


def _one(west: West, east: East, entries: _Watch, served: Served, name: str) -> _Times:
    """How long until the ServiceEntry is seen and a call is answered; and until no call is and the entry has gone."""
    host = f"{name}.west.example"
    _pause()
    began = time.monotonic()
    west.register(name, served, "http")
    at, entry = entries.wait("ADDED", f"{name}-west-example")
    place = by_service_entry(entry, host)
    called = _until(lambda: east.site.get(*place, host), f"{name} is called")
    _pause()
    ended = time.monotonic()
    west.deregister(name)
    refused = _until(lambda: not east.site.get(*place, host), f"{name} is refused")
    gone, _ = entries.wait("DELETED", f"{name}-west-example")
    return _Times(
        entered=MILLI * (at - began),
        called=MILLI * (called - began),
        refused=MILLI * (refused - ended),
        gone=MILLI * (gone - ended),
    )


def _pause() -> None:
    time.sleep(random.uniform(*GAP))


def _until(done: Callable[[], object], what: str) -> float:
    """When it was done."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > deadline:
            message = f"not within {PATIENCE:g} s: {what}"
            raise TimeoutError(message)
        time.sleep(POLL)
    return time.monotonic()


class _Bare:
    """A service that only Consul is to hear of, and an object that only Kubernetes is."""

    def __init__(self, west: West, east: East, maps: _Watch, served: Served, name: str) -> None:
        self._west, self._east, self._maps, self._served, self._name = west, east, maps, served, name

    def come(self) -> float:
        """Seconds until who waits has seen them, one after the other."""
        served, register = self._served, self._west.consul.register
        act = partial(register, self._name, node="bare", Address=served.address, Port=served.port)
        return self._woken(act, there=True) + self._watched("POST", MAPS, {"metadata": {"name": self._name}}, "ADDED")

    def go(self) -> float:
        """The same for their end."""
        act = partial(self._west.consul.deregister, self._name, node="bare")
        return self._woken(act, there=False) + self._watched("DELETE", f"{MAPS}/{self._name}", None, "DELETED")

    def _woken(self, act: Callable[[], None], *, there: bool) -> float:
        consul, path = self._west.consul, f"/v1/health/service/{self._name}?passing"
        woken: list[float] = []
        with self._west.site.host.entered():
            reply = consul.call("GET", path)

            def wait() -> None:
                now = reply
                while bool(now.body) != there:
                    now = consul.call("GET", f"{path}&index={now.headers['x-consul-index']}&wait=5s")
                woken.append(time.monotonic())

            waiting = threading.Thread(target=wait)  # in the namespace that this thread has entered
            waiting.start()
            _pause()  # the query is to be open by then
            began = time.monotonic()
            act()
            waiting.join(PATIENCE)
        return woken[0] - began

    def _watched(self, method: str, path: str, body: object, kind: str) -> float:
        with self._east.site.host.entered():
            began = time.monotonic()
            self._east.kubernetes.do(method, path, body)
        return self._maps.wait(kind, self._name)[0] - began


class _Watch:
    """A bare watch of a collection: what came by, and when."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self._answer = answer
        self._seen: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}
        self._changed = threading.Condition()

    def follow(self) -> None:
        """Read to its end."""
        with suppress(OSError, ValueError, http.client.HTTPException):  # it is closed in the middle
            for line in self._answer:
                now = time.monotonic()
                event = json.loads(line)
                with self._changed:
                    key = event["type"], event["object"]["metadata"]["name"]
                    self._seen[key] = now, event["object"]
                    self._changed.notify_all()

    def wait(self, kind: str, name: str) -> tuple[float, dict[str, Any]]:
        """When an event of this kind came by, and its object."""
        with self._changed:
            if not self._changed.wait_for(lambda: (kind, name) in self._seen, PATIENCE):
                message = f"no {kind} of {name} within {PATIENCE:g} s"
                raise TimeoutError(message)
            return self._seen[kind, name]


@contextmanager
def _watching(east: East, path: str) -> Iterator[_Watch]:
    server = east.kubernetes
    context = ssl.create_default_context(cafile=str(server.ca))
    with east.site.host.entered():
        version = server.do("GET", f"{path}?limit=1")["metadata"]["resourceVersion"]
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context)
        query = f"watch=true&timeoutSeconds=3000&resourceVersion={version}"
        connection.request("GET", f"{path}?{query}", headers={"Authorization": f"Bearer {ADMIN}"})
    assert connection.sock is not None
    watch = _Watch(connection.getresponse())
    thread = threading.Thread(target=watch.follow)
    plain = connection.sock
    thread.start()
    try:
        yield watch
    finally:
        plain.shutdown(socket.SHUT_RDWR)
        thread.join()
        connection.close()

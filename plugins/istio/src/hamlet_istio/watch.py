"""The local services of a cluster as they come and go: collections followed, put together, told in batches.

Everything that may wait happens on threads of its own; the generator waits for their batches alone, so that it
ends at once when it is told to.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

from hamlet_core.api import Batch, LocalService, RegistryUnavailable, Remove, Snapshot, Stop, Upsert
from hamlet_istio.connection import Connection
from hamlet_istio.identities import Identities
from hamlet_istio.local import Rules
from hamlet_istio.marks import is_marked
from hamlet_istio.options import IstioOptions
from hamlet_istio.reflector import Changed, Failed, Listed, News, Reflector
from hamlet_istio.resources import NETWORKING, PODS, SERVICES, Apis, Discovery, Resource, slices
from hamlet_istio.sight import Sight
from hamlet_istio.view import Key, View

BELIEVE = 0.4
"""Seconds after which the removal of a custom resource is believed, if its definition still stands then."""


class Watch:
    """One run of `registry_watch`."""

    def __init__(
        self, connection: Connection, discovery: Discovery, options: IstioOptions, rules: Rules, sight: Sight
    ) -> None:
        self._connection, self._discovery = connection, discovery
        self._options, self._rules, self._sight = options, rules, sight
        self._view = View(options.exclude_namespaces)
        self._identities = Identities(connection)
        self._told: dict[Key, LocalService] = {}
        self._waited: set[tuple[str, str | None]] = set()
        """Collections that are followed and not listed yet: nothing is told meanwhile."""
        self._selecting: set[str] = set()
        """Namespaces whose pods are followed."""
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._batches: queue.SimpleQueue[Batch | BaseException | None] = queue.SimpleQueue()

    def run(self, stop: Stop) -> Iterator[Batch]:
        """Yield a snapshot, then what changes; `RegistryUnavailable` when the cluster cannot be followed."""
        own = Stop()  # ends what we started, however this ends
        threading.Thread(target=self._work, args=(own,), name="istio-watch", daemon=True).start()
        stop.on_stop(lambda: self._batches.put(None))
        try:
            while (batch := self._batches.get()) is not None:
                if isinstance(batch, BaseException):
                    raise batch
                yield batch
        finally:
            own.set()
            self._news.put(None)
            self._sight.show(None)

    def _work(self, stop: Stop) -> None:
        try:
            self._start(self._discovery.apis(anew=True), stop)
            while not stop.is_set():
                news = self._gather(self._news.get())
                if stop.is_set():
                    return
                keys = self._take(news, stop)
                if self._waited:
                    continue
                batch = self._snapshot() if keys is None else self._changes(keys)
                if batch is not None:
                    self._batches.put(batch)
        except Exception as error:  # noqa: BLE001 - raised where the batches are waited for
            if isinstance(error, RegistryUnavailable):
                self._batches.put(error)
            else:
                unavailable = RegistryUnavailable(f"{type(error).__name__}: {error}")
                unavailable.__cause__ = error
                self._batches.put(unavailable)

    def _start(self, apis: Apis, stop: Stop) -> None:
        """Follow every collection."""
        followed: list[Resource] = [SERVICES, slices(apis.read_endpoints)]
        if apis.networking:
            followed.append(apis.entries)
        if apis.workload_entries:
            followed.append(apis.workloads)
        places: tuple[str | None, ...] = self._options.namespaces or (None,)
        for resource in followed:
            for namespace in places:
                self._follow(resource, namespace, stop)

    def _follow(self, resource: Resource, namespace: str | None, stop: Stop) -> None:
        self._waited.add((resource.kind, namespace))
        seconds = self._options.watch.total_seconds()
        reflector = Reflector(self._connection, resource, namespace, seconds, self._news)
        reflector.start(stop, f"istio-{resource.plural}-{namespace or 'all'}")

    def _gather(self, first: News) -> list[Listed | Changed]:
        """What there is to be told now, together."""
        gathered: list[Listed | Changed] = []
        piece = first
        while True:
            if isinstance(piece, Failed):
                raise piece.error
            if piece is not None:
                gathered.append(piece)
            try:
                piece = self._news.get_nowait()
            except queue.Empty:
                return gathered

    def _take(self, news: list[Listed | Changed], stop: Stop) -> set[Key] | None:
        """Put what happened into the view; the services it may concern, or None: everything is to be told anew."""
        if any(_may_be_a_definition(each) for each in news):
            # A definition that is removed takes all its objects with it: nobody withdrew those.
            stop.wait(BELIEVE)
            self._discovery.apis(anew=True)
        keys: set[Key] = set()
        for each in news:
            if isinstance(each, Listed):
                self._view.replace(each.resource.kind, each.namespace, each.objects)
                self._waited.discard((each.resource.kind, each.namespace))
            else:
                keys |= self._view.change(each.resource.kind, each.object, gone=each.gone)
                if each.resource.kind == "ServiceEntry":
                    place = (each.object["metadata"]["namespace"], each.object["metadata"]["name"])
                    self._sight.change(place, self._view.of("ServiceEntry").get(place))
        for namespace in sorted(self._view.selecting() - self._selecting):
            # Until its pods are known such an entry looks as if nobody served it.
            self._selecting.add(namespace)
            self._follow(PODS, namespace, stop)
        if not any(isinstance(each, Listed) for each in news):
            return keys
        if not self._waited:
            self._sight.show(self._view.of("ServiceEntry"))
        return None

    def _snapshot(self) -> Snapshot:
        keys = self._view.keys()
        self._told = {key: service for key, service in self._found(keys) if service is not None}
        self._identities.keep(self._view.pods(keys))
        return Snapshot(tuple(self._told[key] for key in sorted(self._told)))

    def _changes(self, keys: set[Key]) -> Batch | None:
        changes: list[Upsert | Remove] = []
        for key, service in self._found(keys):
            known = self._told.get(key)
            if service is None and known is not None:
                del self._told[key]
                changes.append(Remove(known.name))
            elif service is not None and service != known:
                self._told[key] = service
                changes.append(Upsert(service))
        return tuple(changes) or None

    def _found(self, keys: set[Key]) -> list[tuple[Key, LocalService | None]]:
        if self._rules.san:
            self._identities.learn(self._view.pods(keys))
        return [(key, self._view.service(key, self._rules, self._identities)) for key in sorted(keys)]


def _may_be_a_definition(news: Listed | Changed) -> bool:
    """Whether something of this mesh is gone that the removal of its definition would take along."""
    return (
        isinstance(news, Changed) and news.gone and news.resource.group == NETWORKING and not is_marked(news.object)
    )

"""Follows the local services of a Consul datacenter, at a cost that depends on what changes.

Three queries stay open: all checks, all names with tags, all service-defaults. A wake-up is compared with the
tables; only the services that differ are read, and none for a health status alone. A change that shows in
none of them (the address or meta of an instance) still wakes the query of names: then the nodes are read, not the
services, at most one every tenth of a second.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

from hamlet_consul.catalog import Catalog
from hamlet_consul.client import Client
from hamlet_consul.entries import is_import
from hamlet_consul.follow import Alarm, Box, Follower, News
from hamlet_consul.local import Rules, Shared, local_service, shared_of
from hamlet_consul.sight import confirm_gone, require_full_sight, require_sight
from hamlet_consul.table import ImportTable
from hamlet_core.api import Batch, LocalService, RegistryUnavailable, Remove, Snapshot, Stop, Upsert

SWEEP_SPACING = 1.0
SWEEP_PER_NODE = 0.1
"""Seconds between two looks through all nodes for a change that is not explained: at least, and per node."""
IDLE_SWEEPS = 12
"""Without any change the nodes are still read anew, that many times more rarely."""
CHECKS, NAMES, DEFAULTS = "checks", "names", "defaults"


@dataclass(slots=True)
class Known:
    """A service as it was last reported, and the nodes it was on."""

    service: LocalService
    nodes: frozenset[str]


@dataclass(slots=True)
class Memory:
    """What outlives a watch: what was reported, and at which state of which Consul."""

    known: dict[str, Known] = field(default_factory=dict)
    checks_index: int = 0
    names_index: int = 0
    servers: frozenset[str] = frozenset()
    unsettled_until: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long queries wait, how often nodes are read anew, how long a Consul without its data is not believed."""

    wait: timedelta
    sweep: timedelta
    settle: timedelta


class Watch:
    """One run of `registry_watch`. `follow` makes the blocking queries, `read` all others; both are ended by it."""

    def __init__(
        self,
        follow: Client,
        read: Client,
        table: ImportTable,
        memory: Memory,
        rules: Rules,
        pace: Pace,
        alarm: Alarm,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._follow, self._read, self._table = follow, read, table
        self._memory, self._rules, self._pace, self._clock = memory, rules, pace, clock
        self._alarm = alarm
        self._catalog = Catalog()
        self._shared = Shared()
        self._explained: deque[int] = deque(maxlen=1024)
        self._acl = True
        self._nodes = 0
        self._swept = 0.0
        self._dirty = False
        self._unexplained: set[int] = set()

    def run(self, stop: Stop) -> Iterator[Batch]:
        """Yield batches until `stop`; `RegistryUnavailable` when Consul is gone or hides what it showed."""
        box = Box()
        followers: list[Follower] = []

        def end() -> None:
            for follower in followers:
                follower.stop()
            box.stop()
            self._follow.close()
            self._read.close()

        stop.on_stop(end)
        try:
            with self._alarm.reaching(box):
                yield from self._run(box, followers, stop)
        except RegistryUnavailable:
            if not stop.is_set():
                raise
        finally:
            end()
            for follower in followers:
                follower.join()

    def _run(self, box: Box, followers: list[Follower], stop: Stop) -> Iterator[Batch]:
        names, checks, defaults = self._follow.services(), self._follow.checks(), self._follow.service_defaults()
        self._meet(require_sight(self._read), names.index, checks.index)
        self._sweep(every=True)
        self._catalog.take_protocols(defaults.data or ())
        _, unread = self._catalog.take_checks(checks.data or (), checks.index)
        self._read_services(unread)
        self._shared = shared_of(self._catalog, self._rules)
        self._changes({*self._catalog.instances, *self._memory.known})
        if not self._memory.known:  # what is left out of a first answer is not missed
            require_full_sight(self._read, "to be published")
        yield Snapshot(tuple(known.service for known in self._memory.known.values()))
        for source, read, first in (
            (CHECKS, self._follow.checks, checks),
            (NAMES, self._follow.services, names),
            (DEFAULTS, self._follow.service_defaults, defaults),
        ):
            followers.append(Follower(source, read, first, self._pace.wait, box))
        while not stop.is_set():
            news = box.take(self._due() - self._clock())
            touched = self._take(news)
            changes = self._changes(touched)
            if changes:
                yield tuple(changes)

    def _meet(self, servers: frozenset[str], names_index: int, checks_index: int) -> None:
        """Look whether this Consul still has the state that was watched before."""
        memory = self._memory
        replaced = memory.servers and not memory.servers & servers
        if replaced or names_index < memory.names_index or checks_index < memory.checks_index:
            self._unsettle()
        memory.servers, memory.names_index, memory.checks_index = servers, names_index, checks_index
        self._rules = replace(self._rules, trust_domain=self._read.ca_trust_domain())

    def _unsettle(self) -> None:
        """Consul lost its data, or was restored: agents will register their services anew."""
        self._memory.unsettled_until = self._clock() + self._pace.settle.total_seconds()

    def _take(self, news: dict[str, News]) -> set[str]:
        """Bring the tables up to date; return the services that may differ."""
        touched: set[str] = set()
        read: set[str] = set()
        if any(one.reset for one in news.values()):
            self._unsettle()
        if CHECKS in news:
            answer = news[CHECKS].answer
            self._memory.checks_index = answer.index
            touched, read = self._catalog.take_checks(answer.data or (), answer.index)
        if NAMES in news:
            answer = news[NAMES].answer
            self._memory.names_index = answer.index
            if not answer.data:
                require_sight(self._read)
            gone, differ = self._catalog.take_names(answer.data or {}, answer.index, self._table.tags)
            for name in gone:
                touched |= {one.destination for one in self._catalog.instances[name].values()} | {name}
                self._catalog.put(name, ())
            read |= differ
            self._dirty = True
        if DEFAULTS in news:
            touched |= self._catalog.take_protocols(news[DEFAULTS].answer.data or ())
        self._read_services(read)
        touched |= read
        if NAMES in news:
            index = news[NAMES].answer.index
            self._unexplained |= set() if gone else {index}
        # The answer to a write of ours may come after the wake-up that it caused: look every time.
        self._unexplained = {
            index for index in self._unexplained if index not in self._explained and not self._table.wrote_at(index)
        }
        if self._clock() >= self._due():
            touched |= self._overdue()
        shared = shared_of(self._catalog, self._rules) if touched else self._shared
        if shared.outside != self._shared.outside:
            touched |= set(self._catalog.instances)
        touched |= shared.connected ^ self._shared.connected
        self._shared = shared
        return touched

    def _read_services(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            answer = self._read.service(name)
            self._explained.extend(self._catalog.take_service(name, answer.data or ()))
            self._explained.append(answer.index)

    def _overdue(self) -> set[str]:
        """Do what is due by now: read the nodes, believe what is missing."""
        touched = set()
        if 0 < self._memory.unsettled_until <= self._clock():
            self._memory.unsettled_until = 0
            touched |= set(self._memory.known)
        if self._clock() >= self._sweep_due():
            touched |= self._sweep()
        return touched

    def _sweep(self, *, every: bool = False) -> set[str]:
        """Read the services of all nodes, those of imports only when `every` is asked for."""
        nodes = self._read.nodes().data or ()
        own = [node["Node"] for node in nodes if every or not is_import(node.get("Meta"))]
        answers = [self._read.node_services(name).data for name in own]
        self._nodes, self._swept = len(own), self._clock()
        self._dirty, self._unexplained = False, set()
        return self._catalog.take_nodes(answer for answer in answers if answer and answer["Node"])

    def _due(self) -> float:
        settle = self._memory.unsettled_until
        return min(self._sweep_due(), settle) if settle else self._sweep_due()

    def _sweep_due(self) -> float:
        prompt = max(SWEEP_SPACING, SWEEP_PER_NODE * self._nodes)
        slow = self._pace.sweep.total_seconds()
        if self._unexplained:
            return self._swept + min(prompt, slow)
        return self._swept + slow * (1 if self._dirty else IDLE_SWEEPS)

    def _changes(self, touched: Iterable[str]) -> list[Upsert | Remove]:
        """What differs from what was reported, of these services; nothing that is only hidden or not yet back."""
        known = self._memory.known
        made = {name: local_service(name, self._catalog, self._rules, self._shared) for name in sorted(touched)}
        nodes = {name: frozenset(one.node for one in self._catalog.instances.get(name, {}).values()) for name in made}
        missing = {name for name in made if name in known and known[name].nodes - nodes[name]}
        if missing and self._acl:
            gone = {node for name in missing for node in known[name].nodes - nodes[name]}
            self._acl = confirm_gone(self._read, missing, gone)
        changes: list[Upsert | Remove] = []
        for name, service in made.items():
            if service is not None:
                if name not in known or known[name].service != service:
                    changes.append(Upsert(service))
                known[name] = Known(service, nodes[name])
            elif name in known and not self._memory.unsettled_until:
                del known[name]
                changes.append(Remove(name))
        return changes

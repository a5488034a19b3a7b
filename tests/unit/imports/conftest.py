"""Builders and a registry of a dict, for the tests of importing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hamlet_core.api import (
    Endpoint,
    FederatedService,
    ImportKey,
    Instance,
    Outcome,
    RemoveImport,
    StandingImport,
    Status,
    WriteImport,
)
from hamlet_core.config.model import Config, Peer
from hamlet_core.imports import Reconciler

START = datetime(2026, 3, 1, tzinfo=UTC)


def build_service(name: str, state: object = "", *, fqdn: str | None = None, **changes) -> FederatedService:
    fields = {
        "name": name,
        "fqdn": name if fqdn is None else fqdn,
        "description": str(state),
        "endpoints": (Endpoint(address="192.0.2.1", port=443),),
        "instances": (Instance(id="http", protocol="HTTP"),),
    }
    return FederatedService(**(fields | changes))


def build_peer(name: str = "east", **settings) -> Peer:
    return Peer(bundle=f"{name}.pem", trust_domain=f"{name}.example", **settings)


def build_config(*, domain: str = "home.example", **peers: dict) -> Config:
    return Config(
        mesh={"name": "home", "domain": domain, "trust_domain": "home.example"},
        identity={"certificate": "home.pem", "key": "home.key"},
        registries={"main": {"kind": "file"}, "other": {"kind": "file"}},
        peers={name: build_peer(name, **settings) for name, settings in peers.items()},
    )


class Bench:
    """A reconciler beside the registry that it writes to; `answer` decides what becomes of each change."""

    def __init__(self, config: Config, *, ready: bool = True) -> None:
        self.config = config
        self.now = START
        self.entries: dict[ImportKey, StandingImport] = {}
        self.holders: dict[str, ImportKey] = {}
        self.marks: dict[str, datetime] = {}
        self.log: list[str] = []
        self.reconciler = Reconciler("main", config)
        if ready:
            self.start()

    def start(self, *local: str) -> None:
        self.reconciler.set_local_names(frozenset(local))
        self.adopt()

    def restart(self, *local: str) -> None:
        """As after kill -9: all that is left is in the registry."""
        self.reconciler = Reconciler("main", self.config)
        self.start(*local)

    def listing(self) -> list[StandingImport]:
        return [
            StandingImport(
                key=entry.key,
                local_name=entry.local_name,
                digest=entry.digest,
                lost_since=self.marks.get(entry.key.peer),
            )
            for entry in self.entries.values()
        ]

    def adopt(self) -> None:
        self.reconciler.adopt(self.listing(), self.now)

    def configure(self, **peers: dict) -> frozenset[str]:
        self.config = build_config(**peers)
        return self.reconciler.configure(self.config, self.now)

    def later(self, **delta: float) -> None:
        self.now += timedelta(**delta)

    def apply(self, change: WriteImport | RemoveImport) -> None:
        if isinstance(change, WriteImport):
            wanted = change.service
            holder = self.holders.get(wanted.local_name, change.key)
            assert holder == change.key or holder not in self.entries, (holder, change)
            self.holders[wanted.local_name] = change.key
            self.entries[change.key] = StandingImport(
                key=change.key, local_name=wanted.local_name, digest=wanted.digest
            )
        else:
            self.entries.pop(change.key, None)
            self.holders.pop(change.local_name, None)

    def plan(self) -> list[str]:
        """What is planned, in words; it is applied and recorded."""
        changes = self.reconciler.plan(self.now)
        for change in changes:
            self.apply(change)
        self.reconciler.record([Outcome(key=change.key, status=Status.APPLIED) for change in changes], self.now)
        said = [said_of(change) for change in changes]
        self.log += said
        return said

    def answer(self, status: Status, reason: str = "because") -> list[str]:
        """What is planned, in words; every change is answered so, and nothing is applied."""
        changes = self.reconciler.plan(self.now)
        outcomes = [Outcome(key=change.key, status=status, reason=reason) for change in changes]
        self.reconciler.record(outcomes, self.now)
        return [said_of(change) for change in changes]

    def work(self) -> list[str]:
        """Plan, apply and record until nothing is left to do; all that was done, in words."""
        done = []
        while said := self.plan():
            done += said
        return done

    def mark(self) -> list[tuple[str, datetime | None]]:
        """Tell the registry the marks that are due."""
        due = self.reconciler.marks(self.now)
        for peer, lost_since in due:
            if lost_since is None:
                self.marks.pop(peer, None)
            else:
                self.marks[peer] = lost_since
            self.reconciler.marked(peer, lost_since)
        return due

    def begin(self, peer: str = "east") -> None:
        self.reconciler.begin(peer, self.now)

    def offer(self, name: str, state: object = "", *, peer: str = "east", size: int = 300, **changes) -> str | None:
        return self.reconciler.offer(peer, build_service(name, state, **changes), size, self.now)

    def withdraw(self, *names: str, peer: str = "east") -> None:
        for name in names:
            self.reconciler.withdraw(peer, name, self.now)

    def complete(self, peer: str = "east") -> None:
        self.reconciler.complete(peer, self.now)

    def lost(self, peer: str = "east") -> None:
        self.reconciler.lost(peer, self.now)

    def catalog(self, *names: str, peer: str = "east") -> None:
        """A whole stream's beginning: the catalog has these names."""
        self.begin(peer)
        for name in names:
            assert self.offer(name, peer=peer) is None
        self.complete(peer)

    def sync(self, *names: str, peer: str = "east") -> None:
        """The catalog has these names, and the registry has taken them."""
        self.catalog(*names, peer=peer)
        self.work()
        self.mark()

    def standing(self, peer: str = "east") -> list[str]:
        """Local names of the peer's entries."""
        return sorted(entry.local_name for entry in self.entries.values() if entry.key.peer == peer)

    def settled(self, name: str, peer: str = "east"):
        return self.reconciler.settled(ImportKey(peer, name))

    def status(self, peer: str = "east"):
        return self.reconciler.status(peer)


def said_of(change: WriteImport | RemoveImport) -> str:
    """`+local name` for a write, `-local name` for a removal."""
    return f"+{change.service.local_name}" if isinstance(change, WriteImport) else f"-{change.local_name}"


@pytest.fixture
def service():
    return build_service


@pytest.fixture
def peer():
    return build_peer


@pytest.fixture
def config():
    return build_config


@pytest.fixture
def bench():
    """`bench(east={...}, west={...})`: a bench with these peers, ready to write."""

    def make(*, ready: bool = True, **peers: dict) -> Bench:
        return Bench(build_config(**(peers or {"east": {}})), ready=ready)

    return make

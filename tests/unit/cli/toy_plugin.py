"""A plugin of all roles over backends in memory, whose options and environment say what is wrong with it."""

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

from hamlet_core.api import AdapterOptions, AdapterType, ConfigError, Refused, WriteImport, hookimpl
from hamlet_core.api.testing import (
    MemoryCoordinator,
    MemoryGateway,
    MemoryGatewayBackend,
    MemoryRegistry,
    live_coordinator,
    not_run,
)
from hamlet_core.api.testing.memory import MemoryAdapter
from hamlet_core.api.testing.memory_gateway import MemoryGatewayAdapter

memory = MemoryRegistry()
leads = MemoryCoordinator(ttl=1.0)
live_coordinator.USUAL_TTL = leads.ttl  # where nobody says another one
doors = {}


class Options(AdapterOptions):
    fault: str = ""
    where: Path = Path("here")
    ways: str = "in out"


class Toy(MemoryAdapter):
    fault = ""

    @hookimpl
    def registry_imports(self):
        assert "asserts" not in self.fault
        while "tries for ever" in self.fault:
            with suppress(Exception):
                threading.Event().wait()
        return super().registry_imports()

    @hookimpl
    def registry_apply(self, changes):
        if "takes out others" in self.fault:
            for name in [getattr(change, "local_name", "") for change in changes]:
                if name in self.backend.by_name and not self._ours(self.backend.by_name[name]):
                    del self.backend.by_name[name]
        outcomes = super().registry_apply(changes)
        writes = any(isinstance(change, WriteImport) for change in changes)
        if "is interrupted" in self.fault and (writes or "again" in self.fault):
            if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # what a shell begins in the background is begun so
                signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.raise_signal(signal.Signals[os.environ["SIGNAL"]])
        return outcomes

    @hookimpl
    def registry_mark_peer(self, peer, lost_since):
        if "marks no peer" in self.fault:
            return True
        if "hangs" in self.fault and lost_since is not None:
            threading.Event().wait()
        return super().registry_mark_peer(peer, lost_since)

    def _drop(self, key):
        if "takes nothing out" not in self.fault:
            super()._drop(key)


class Door(MemoryGatewayAdapter):
    fault = ""

    @hookimpl
    def gateway_publish(self, routes):
        if self.fault == "keeps its routes" and not routes:
            raise RuntimeError("it cannot be emptied")
        return super().gateway_publish(routes)

    @hookimpl
    def gateway_import(self, routes, keep):
        answers = super().gateway_import(routes, keep)
        if self.fault == "checks DNS names":
            spiffe = {each.key for each in routes if any("://" in san for san in each.service.sans)}
            return answers | {key: Refused("no DNS name") for key in spiffe}
        return {key: Refused("no") for key in answers} if self.fault == "refuses imports" else answers


def open_registry(options, context):
    assert options.where.is_absolute()
    if options.fault == "does not open":
        raise ConfigError("it does not open")
    memory.down = memory.down or options.fault == "is down"
    adapter = Toy(memory, context)
    adapter.fault = options.fault
    return adapter


def door(options):
    ways = options.ways.split()
    return doors.setdefault(options.ways, MemoryGateway(ingress="in" in ways, egress="out" in ways))


def open_gateway(options, context):
    with Path(os.environ.get("TOLD", os.devnull)).open("a") as told:
        print(context.name, context.directory.name, file=told)
    adapter = Door(door(options))
    adapter.fault = options.fault
    return adapter


class Unmarked:
    def __init__(self, adapter):
        self.adapter = adapter

    @hookimpl
    def coordinator_check(self):
        return self.adapter.coordinator_check()

    def coordinator_lead(self, stop):
        return self.adapter.coordinator_lead(stop)


def open_coordinator(options, context):
    adapter = leads.open(context)
    return Unmarked(adapter) if options.fault == "unmarked" else adapter


class Clerk(MemoryRegistry):
    def __init__(self, options):
        self.__dict__ = memory.__dict__
        self.options = options

    def open(self, context):
        return open_registry(self.options, context)


class Doorman(MemoryGatewayBackend):
    def __init__(self, options):
        super().__init__(door(options))
        self.options = options

    def open(self, context):
        return open_gateway(self.options, context)

    def sans(self, peer, workload="ingress"):
        return (f"{workload}.{peer}.example",) if "DNS" in self.options.fault else super().sans(peer, workload)

    def close(self):
        left = [*self.gateway.published, *self.gateway.imported]
        assert not left, left


class Chair(MemoryCoordinator):
    def __init__(self):
        self.__dict__ = leads.__dict__

    def close(self):
        assert not [claim for claim in self.claims.values() if claim.holder is None]
        if os.environ.get("STUCK"):
            raise OSError("it does not close")


SHIPS = os.environ.get("SHIPS", "")


@hookimpl
def hamlet_adapters():
    def ships(name):
        return {"": "", "all": f"toy_module:{name}"}.get(SHIPS, SHIPS)

    return [
        AdapterType(
            kind="toy", role="registry", options=Options, api_version=1, open=open_registry, backend=ships("make")
        ),
        AdapterType(
            kind="toy", role="gateway", options=Options, api_version=1, open=open_gateway, backend=ships("doorman")
        ),
        AdapterType(
            kind="toy",
            role="coordinator",
            options=Options,
            open=open_coordinator,
            api_version=1,
            backend=ships("chair"),
        ),
    ]


def make(options):
    return Clerk(options)


def doorman(options):
    return Doorman(options)


def chair(options):
    return Chair()


def careless(options):
    class Careless(Clerk):
        def remove_foreign(self, service):
            raise OSError("it stays")

    return Careless(options)


def reluctant(options):
    hands = Clerk(options)
    for name in os.environ["NOT_RUN"].split():
        setattr(hands, name, lambda *_: not_run(needs="more rights"))
    return hands


def nobody(options):
    return None


def refuses(options):
    not_run(needs="a rack of servers")

"""What others do to a Consul in use, for `hamlet verify-adapter`: entries, leads and outages of the checks alone.

Everything is done as the options' own token, at their address, on nodes and keys that are named after the mesh of the
checks. An outage is that of a relay between the adapter and Consul, which goes on for everybody else. An agent never
imports this module.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from consul import base

from hamlet_consul.client import Client, Operation
from hamlet_consul.coordinator import ConsulCoordinator, ConsulCoordinatorOptions
from hamlet_consul.entries import entries_for
from hamlet_consul.naming import node_name, service_name
from hamlet_consul.options import Connection, ConsulOptions
from hamlet_consul.registry import ConsulRegistry
from hamlet_consul.transport import Transport, parse_address
from hamlet_core.api import AdapterContext, AdapterError, ImportedService, LocalService
from hamlet_core.api.testing import LIVE_NAMES, CoordinatorBackend, Names, RegistryBackend, Relay

CABLES = 6
"""Ways of a coordinator's agents into Consul, given out in turn: more than there are agents at one time."""
WAIT = timedelta(seconds=2)
"""Longest time for a blocking query: Consul answers one in the end that nobody waits for any more, and as long as it
does not, the relay holds the connection, and a check that looks for what is left open finds it."""
EDITED_PORT = 9
"""The port of what a person has edited."""

Options = TypeVar("Options", bound=Connection)


class Cable:
    """A way to the agent of Consul that can be cut. There is none to a Unix socket, which is reached as it is."""

    def __init__(self, options: Connection) -> None:
        self._address = options.address
        self._scheme, host, port, path = parse_address(options.address)
        self._host = host.strip("[]")
        self._relay = None if path else Relay(self._host, port)

    def through(self, options: Options) -> Options:
        """The same options, by this way; the certificate must be that of the address that they had."""
        if self._relay is None:
            return options
        changed = {"address": f"{self._scheme}://{self._relay.address}"}
        if self._scheme == "https":
            changed["tls_server_name"] = options.tls_server_name or self._host
        return options.model_copy(update=changed)

    def cut(self) -> AbstractContextManager[None]:
        """Break it meanwhile; the check is left out where it cannot be."""
        if self._relay is None:
            pytest.skip(f"needs an address of http or https: nothing can be put before {self._address}")
        return self._relay.cut()

    def close(self) -> None:
        """Be no more."""
        if self._relay is not None:
            self._relay.close()


class Hand:
    """The other hand on Consul: what it is told to do succeeds, or raises."""

    def __init__(self, options: Connection, names: Names) -> None:
        context = AdapterContext(
            name=names.registry,
            mesh=names.mesh,
            domain=names.domain,
            trust_domain=names.trust_domain,
            directory=Path(),
        )
        self.client = Client(Transport(options.settings(context, consistency="consistent")))

    def get(self, path: str, **params: object) -> Any:
        """What is there; None for nothing."""
        return self.client.http.get(_found, path=path, params=list(params.items()))

    def put(self, path: str, body: object = "") -> Any:
        """Write."""
        data = body if isinstance(body, str) else json.dumps(body)
        return self.client.http.put(base.CB.json(), path=path, data=data)

    def transact(self, operation: Operation) -> None:
        """Make one operation of a transaction."""
        result = self.client.transact([operation])
        if result.errors:
            message = f"Consul does not do {json.dumps(operation)}: {result.errors[0][1]}"
            raise AdapterError(message, mend="give the token the rights of the README, under `Verifying`")

    def register(self, node: str, service: Mapping[str, object], *checks: Mapping[str, object]) -> None:
        """Register an instance on a node, with its checks, in one step."""
        whole = {"Node": node, "Address": "192.0.2.1", "Service": service, "Checks": checks}
        self.put("/v1/catalog/register", whole)

    def deregister(self, node: str, service_id: str) -> None:
        """Take an instance out, and its node when it was the last on it."""
        self.put("/v1/catalog/deregister", {"Node": node, "ServiceID": service_id})
        self.drop_empty(node)

    def drop_empty(self, node: str) -> None:
        """Take a node out on which nothing is."""
        found = self.client.node_services(node).data
        if found and found["Node"] and not found["Services"]:
            self.drop(node)

    def drop(self, node: str) -> None:
        """Take a node out, whatever is on it."""
        self.put("/v1/catalog/deregister", {"Node": node})

    def nodes(self) -> dict[str, Mapping[str, str]]:
        """The meta of every node that is seen."""
        return {node["Node"]: node["Meta"] or {} for node in self.client.nodes().data or ()}


class ConsulBackend(RegistryBackend):
    """A Consul datacenter, which may be in use. `names` are those of the checks.

    Services of the mesh are put on one node, entries of others on another; both have the prefix of the nodes that the
    adapter writes for the mesh of the checks, so that one right covers all of them.
    """

    def __init__(self, options: ConsulOptions, *, names: Names = LIVE_NAMES, hand: Connection | None = None) -> None:
        self.options = options
        self._prefix, self._mesh = node_name(names.mesh, ""), names.mesh
        self.workloads, self.others = f"{self._prefix}workloads", f"{self._prefix}others"
        self._hand = Hand(hand or options, names)
        self._cable = Cable(options)
        self._swept = False

    def open(self, context: AdapterContext) -> object:
        """See `RegistryBackend`; what checks that were killed have left goes before the first is opened."""
        if not self._swept:
            self.sweep()
            self._swept = True
        waits = min(self.options.wait, WAIT)
        return ConsulRegistry(self._cable.through(self.options).model_copy(update={"wait": waits}), context)

    def sweep(self) -> None:
        """Take out what stands of the hands' own, and nodes of imports that are empty."""
        for node in self._hand.nodes():
            if node in (self.workloads, self.others):
                self._hand.drop(node)
            elif node.startswith(self._prefix):
                self._hand.drop_empty(node)

    def add_local(self, service: LocalService) -> str:
        """See `RegistryBackend`."""
        (port,) = service.ports
        (endpoint,) = service.endpoints
        instance = {
            "ID": service.name,
            "Service": service.name,
            "Address": endpoint.address,
            "Port": endpoint.port,
            "Tags": list(service.tags),
            "Meta": {**service.labels, self.options.protocol_key: port.protocol.lower()},
        }
        check = {
            "CheckID": f"alive-{service.name}",
            "Name": "alive",
            "ServiceID": service.name,
            "Status": "passing",
        }
        self._hand.register(self.workloads, instance, check)
        return service.name

    def remove_local(self, name: str) -> None:
        """See `RegistryBackend`."""
        self._hand.deregister(self.workloads, name)

    def add_foreign(self, service: ImportedService) -> str:
        """See `RegistryBackend`: a service of the name that the import would have, on a node of others."""
        name = service_name(service.local_name)
        self._hand.register(self.others, {"ID": name, "Service": name, "Port": 1})
        return name

    def remove_foreign(self, service: ImportedService) -> None:
        """See `RegistryBackend`."""
        self._hand.deregister(self.others, service_name(service.local_name))

    def edit_import(self, service: ImportedService) -> None:
        """See `RegistryBackend`."""
        node = node_name(self._mesh, service.peer)
        entry, *_ = entries_for(service, service_name(service.local_name))
        changed = {**entry.service(), "Port": EDITED_PORT, "ModifyIndex": 0}
        self._hand.transact({"Service": {"Verb": "set", "Node": node, "Service": changed}})

    def entries(self) -> Mapping[str, object]:
        """See `RegistryBackend`: the nodes of the checks in full, the meta of all others, tags of services."""
        client = self._hand.client
        seen: dict[str, object] = {}
        of_the_checks = set()
        for node, meta in self._hand.nodes().items():
            seen[node] = meta
            if node.startswith(self._prefix):
                services = client.node_services(node).data["Services"] or ()
                checks = self._hand.get(f"/v1/health/node/{node}") or ()
                of_the_checks |= {each["Service"] for each in services}
                seen[node] = (
                    meta,
                    {each["ID"]: each for each in services},
                    {each["CheckID"]: (each["Status"], each["Output"]) for each in checks},
                )
        for name, tags in (client.services().data or {}).items():
            if name not in of_the_checks:
                seen[f"service {name}"] = sorted(tags)
        return seen

    def outage(self) -> AbstractContextManager[None]:
        """See `RegistryBackend`: for the adapters opened here alone."""
        return self._cable.cut()

    def close(self) -> None:
        """See `RegistryBackend`."""
        try:
            if self._swept:
                self.sweep()
        finally:
            self._cable.close()
            self._hand.client.close()


class LeadBackend(CoordinatorBackend):
    """The store of a Consul, which may be in use. A `lock` of the options is left out: it is the real agents'."""

    def __init__(self, options: ConsulCoordinatorOptions, *, names: Names = LIVE_NAMES) -> None:
        self.ttl = options.ttl.total_seconds()
        self._options = options.model_copy(update={"lock": ""})
        self._hand = Hand(options, names)
        self._cables = [Cable(options) for _ in range(CABLES)]  # made before a check counts what is open
        self._given: dict[object, Cable] = {}
        self._opened: set[tuple[str, str]] = set()

    def open(self, context: AdapterContext) -> object:
        """See `CoordinatorBackend`; what killed checks have left goes before the first of a mesh is opened."""
        if (context.trust_domain, context.mesh) not in self._opened:
            self._opened.add((context.trust_domain, context.mesh))
            self._delete(_key(context.trust_domain, context.mesh))
        cable = self._cables.pop(0)
        self._cables.append(cable)
        adapter = ConsulCoordinator(cable.through(self._options), context)
        self._given = {known: way for known, way in self._given.items() if way is not cable} | {adapter: cable}
        return adapter

    def cut(self, adapter: object) -> AbstractContextManager[None]:
        """See `CoordinatorBackend`."""
        return self._given[adapter].cut()

    def add_foreign(self, context: AdapterContext) -> str:
        """See `CoordinatorBackend`; a lock of the checks that has not run out yet goes first."""
        key = _key(context.trust_domain, context.mesh)
        self._delete(key)
        value = base64.b64encode(b"somebody's").decode()
        self._hand.transact({"KV": {"Verb": "set", "Key": key, "Value": value}})
        self._opened.add((context.trust_domain, context.mesh))
        return key

    def remove_foreign(self, context: AdapterContext) -> None:
        """See `CoordinatorBackend`."""
        self._delete(_key(context.trust_domain, context.mesh))

    def entries(self) -> Mapping[str, object]:
        """See `CoordinatorBackend`: the keys of the checks in full."""
        keys = [_key(*each) for each in sorted(self._opened)]
        return {key: found for key in keys if (found := self._hand.get(f"/v1/kv/{key}")) is not None}

    def close(self) -> None:
        """See `CoordinatorBackend`: an agent leaves its key, and one that was cut off its session."""
        try:
            for trust_domain, mesh in sorted(self._opened):
                self._delete(_key(trust_domain, mesh))
            if self._opened:
                self._end_sessions(tuple(f"hamlet, who leads mesh {mesh}, on " for _, mesh in self._opened))
        finally:
            for cable in self._cables:
                cable.close()
            self._hand.client.close()

    def _end_sessions(self, named: tuple[str, ...]) -> None:
        for session in self._hand.get("/v1/session/list") or ():
            if session["Name"].startswith(named):
                self._hand.put(f"/v1/session/destroy/{session['ID']}")

    def _delete(self, key: str) -> None:
        self._hand.transact({"KV": {"Verb": "delete", "Key": key}})


def registry(options: ConsulOptions) -> ConsulBackend:
    """What acts on the Consul of a registry."""
    return ConsulBackend(options)


def coordinator(options: ConsulCoordinatorOptions) -> LeadBackend:
    """What acts on the Consul of a coordinator."""
    return LeadBackend(options)


def _key(trust_domain: str, mesh: str) -> str:
    return f"hamlet/{trust_domain}/{mesh}/leader"


def _found(response: Any) -> Any:
    return json.loads(response.body) if response.code == 200 else None

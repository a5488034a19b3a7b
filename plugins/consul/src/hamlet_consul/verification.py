"""What others do to a Consul in use, for `hamlet verify-adapter`: entries and outages of the checks alone.

Everything is done as the options' own token, at their address, on nodes and keys that are named after the mesh of the
checks. An outage is that of a relay between the adapter and Consul, which goes on for everybody else. An agent never
imports this module.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta

from hamlet_consul.coordinator import ConsulCoordinatorOptions
from hamlet_consul.entries import entries_for
from hamlet_consul.naming import node_name, service_name
from hamlet_consul.options import Connection, ConsulOptions
from hamlet_consul.registry import ConsulRegistry
from hamlet_consul.verification_leads import LeadBackend
from hamlet_consul.verification_way import Cable, Hand
from hamlet_core.api import AdapterContext, ImportedService, LocalService
from hamlet_core.api.testing import LIVE_NAMES, Names, RegistryBackend

PATIENCE = timedelta(seconds=2)
"""How long an adapter waits for an answer that is opened in a silence."""
EDITED_PORT = 9
"""The port of what a person has edited."""


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
        self.silent = False

    def open(self, context: AdapterContext) -> object:
        """See `RegistryBackend`."""
        options = self._cable.through(self.options)
        if self.silent:
            options = options.model_copy(update={"timeout": min(options.timeout, PATIENCE)})
        return ConsulRegistry(options, context)

    def sweep(self) -> None:
        """See `RegistryBackend`; nodes of imports that are empty go, too."""
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
            "Meta": {
                **service.labels,
                "description": service.description,
                self.options.protocol_key: port.protocol.lower(),
            },
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

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """See `RegistryBackend`: for the adapters opened here alone."""
        with self._cable.silence():
            self.silent = True
            try:
                yield
            finally:
                self.silent = False

    def close(self) -> None:
        """See `RegistryBackend`."""
        self._cable.close()
        self._hand.client.close()


def registry(options: ConsulOptions) -> ConsulBackend:
    """What acts on the Consul of a registry."""
    return ConsulBackend(options)


def coordinator(options: ConsulCoordinatorOptions) -> LeadBackend:
    """What acts on the Consul of a coordinator."""
    return LeadBackend(options)

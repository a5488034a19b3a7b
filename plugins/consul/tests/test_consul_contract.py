"""The contract of an adapter, on a real Consul that keeps its data over a kill, and denies who shows no rights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hamlet_consul.check import policy
from hamlet_consul.entries import entries_for
from hamlet_consul.naming import node_name, service_name
from hamlet_consul.options import ConsulOptions
from hamlet_consul.registry import ConsulRegistry
from pydantic import SecretStr

from hamlet_core.api import AdapterContext, ImportedService, LocalService
from hamlet_core.api.testing import Names, RegistryBackend, RegistryContract
from tests.backends.consul import ONLY_CONSUL, Consul, Token

MESH = "west"
NAMES = Names()
RULES = policy(
    AdapterContext(
        name=NAMES.registry,
        mesh=NAMES.mesh,
        domain=NAMES.domain,
        trust_domain=NAMES.trust_domain,
        directory=Path("/"),
    )
)


class ConsulBackend(RegistryBackend):
    """Everybody but the adapter, with the other hand on Consul."""

    def __init__(self, consul: Consul, agent: Token) -> None:
        self.consul, self.agent = consul, agent

    def open(self, context: AdapterContext) -> object:
        return ConsulRegistry(ConsulOptions(address=self.consul.address, token=SecretStr(self.agent.secret)), context)

    def add_local(self, service: LocalService) -> str:
        (port,) = service.ports
        for endpoint in service.endpoints:
            self.consul.do(
                "PUT",
                "/v1/catalog/register",
                {
                    "Node": "workloads",
                    "Address": "10.0.0.1",
                    "Service": {
                        "ID": service.name,
                        "Service": service.name,
                        "Address": endpoint.address,
                        "Port": endpoint.port,
                        "Tags": list(service.tags),
                        "Meta": {**service.labels, "protocol": port.protocol.lower()},
                    },
                    "Check": {
                        "CheckID": f"alive-{service.name}",
                        "Name": "alive",
                        "ServiceID": service.name,
                        "Status": "passing",
                    },
                },
            )
        return service.name

    def remove_local(self, name: str) -> None:
        self.consul.do("PUT", "/v1/catalog/deregister", {"Node": "workloads", "ServiceID": name})

    def add_foreign(self, service: ImportedService) -> str:
        name = service_name(service.local_name)
        self.consul.do(
            "PUT",
            "/v1/catalog/register",
            {"Node": "foreign", "Address": "10.0.0.2", "Service": {"Service": name, "Port": 1}},
        )
        return name

    def edit_import(self, service: ImportedService) -> None:
        node = node_name(MESH, service.peer)
        (entry,) = entries_for(service, service_name(service.local_name))
        changed = {**entry.service(), "Port": 9, "ModifyIndex": 0}
        self.consul.do("PUT", "/v1/txn", [{"Service": {"Verb": "set", "Node": node, "Service": changed}}])

    def entries(self) -> Mapping[str, object]:
        seen: dict[str, object] = {}
        for node in self.consul.do("GET", "/v1/catalog/nodes"):
            name = node["Node"]
            services: list[dict[str, Any]] = self.consul.do("GET", f"/v1/catalog/node-services/{name}")["Services"]
            checks: list[dict[str, Any]] = self.consul.do("GET", f"/v1/health/node/{name}")
            seen[name] = (
                node["Meta"],
                {one["ID"]: one for one in services},
                {one["CheckID"]: (one["Status"], one["Output"]) for one in checks if one["CheckID"] != "serfHealth"},
            )
        return seen

    @contextlib.contextmanager
    def deny(self) -> Iterator[None]:
        # Consul's own service is still seen: what is left out of an answer is all that shows.
        self.agent.set_rules(ONLY_CONSUL)
        try:
            yield
        finally:
            self.agent.set_rules(RULES)

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        self.consul.kill()
        try:
            yield
        finally:
            self.consul.start()


@pytest.fixture(scope="module")
def kept_consul(consul_binary: Path, worker_id: str) -> Iterator[Consul]:
    """One Consul for all contract tests: killing it loses nothing."""
    consul = Consul(consul_binary, datacenter=f"kept-{worker_id}", durable=True, acl=True)
    try:
        consul.start()
        yield consul
    finally:
        consul.close()


@pytest.fixture(scope="module")
def agent_token(kept_consul: Consul) -> Token:
    """What the adapter shows: exactly the documented rights, until they are taken away."""
    return kept_consul.make_token(RULES)


class TestConsulContract(RegistryContract):
    """R1 to R9."""

    @pytest.fixture
    def backend(self, kept_consul: Consul, agent_token: Token) -> Iterator[RegistryBackend]:
        yield ConsulBackend(kept_consul, agent_token)
        kept_consul.wipe()

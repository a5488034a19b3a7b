"""The contract of an adapter, on a real Consul that keeps its data over a kill, and denies who shows no rights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hamlet_consul.check import policy
from hamlet_consul.options import ConsulOptions
from hamlet_consul.registry import ConsulRegistry
from hamlet_consul.verification import ConsulBackend
from pydantic import SecretStr

from hamlet_core.api import AdapterContext
from hamlet_core.api.testing import Names, RegistryBackend, RegistryContract
from tests.backends.consul import ONLY_CONSUL, Consul, Token

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


class KeptConsul(ConsulBackend):
    """What the plugin ships, with the harsher outage, and somebody who takes rights away."""

    def __init__(self, consul: Consul, agent: Token) -> None:
        reached = ConsulOptions(address=consul.address, token=SecretStr(agent.secret))
        super().__init__(
            reached, names=NAMES, hand=ConsulOptions(address=consul.address, token=SecretStr(consul.token))
        )
        self.consul, self.agent = consul, agent

    def open(self, context: AdapterContext) -> object:
        return super().open(context) if self.silent else ConsulRegistry(self.options, context)

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
    """R1 to R10."""

    @pytest.fixture
    def backend(self, kept_consul: Consul, agent_token: Token) -> Iterator[RegistryBackend]:
        backend = KeptConsul(kept_consul, agent_token)
        yield backend
        backend.close()
        kept_consul.wipe()

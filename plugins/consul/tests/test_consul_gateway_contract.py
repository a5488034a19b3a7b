"""A terminating gateway keeps the contract of a gateway that leads calls out: real Consul, real Envoy, real calls.

The Consul is Debian's 1.8.7, built from its sources with one rule of later releases: the proxy checks the name that
a link gives as SNI. Without it, as the packaged 1.8.7 is, any certificate of the authority passes; that is shown too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hamlet_core.api.testing import EgressContract, GatewayBackend
from hamlet_core.api.testing.gateway_stage import GatewayAgents, GatewayStage, word
from tests.backends.consul import Consul
from tests.backends.consul_world import WORKLOAD, ConsulWorld, TerminatingGateway
from tests.backends.not_run import needed


def running(binary: Path, datacenter: str) -> Iterator[TerminatingGateway]:
    """A Consul that keeps its data, and the proxy of its terminating gateway."""
    consul = Consul(binary, datacenter=datacenter, durable=True, hcl="connect { enabled = true }")
    try:
        consul.start()
        with tempfile.TemporaryDirectory(prefix="tg-") as folder:
            gateway = TerminatingGateway(consul, Path(folder))
            try:
                gateway.start()
                yield gateway
            finally:
                gateway.close()
    finally:
        consul.close()


@pytest.fixture(scope="module")
def checking_gateway(worker_id: str) -> Iterator[TerminatingGateway]:
    """One whose proxy checks names."""
    (binary,) = needed("a Consul that checks names", "consul-checking-names")
    yield from running(binary, f"checking-{worker_id}")


@pytest.fixture
def packaged_gateway(consul_binary: Path, worker_id: str) -> Iterator[TerminatingGateway]:
    """One of the Consul that Debian packages."""
    yield from running(consul_binary, f"packaged-{worker_id}")


class WithDnsNames(GatewayStage):
    """Owners present DNS names: Consul can have no others checked."""

    def san(self, peer: str) -> tuple[str, ...]:
        return (f"*.{peer}.example",)

    def other_san(self, peer: str) -> tuple[str, ...]:
        return (f"another.{peer}.example",)


class TestConsulGatewayContract(WithDnsNames, EgressContract):
    """G3, and G6 to G10."""

    @pytest.fixture
    def backend(self, checking_gateway: TerminatingGateway, tmp_path: Path) -> Iterator[GatewayBackend]:
        world = ConsulWorld(checking_gateway, tmp_path, names="checked")
        yield world
        world.close()

    def test_an_intention_decides_who_calls(
        self, backend: GatewayBackend, agents: GatewayAgents, checking_gateway: TerminatingGateway
    ) -> None:
        agent, peer, consul = agents.start(self.names.peer), self.names.peer, checking_gateway.consul
        route = self.way_out("stock", backend.owner(peer, "stock", self.san(peer)))
        (way,) = self.lead(agent, route)
        assert word(backend.leave(route, way)) == "stock"
        denied = {"SourceName": WORKLOAD, "DestinationName": "stock-east-example", "SourceType": "consul"}
        made = consul.do("POST", "/v1/connect/intentions", {**denied, "Action": "deny"})
        self.until(lambda: word(backend.leave(route, way)) is None, "the workload is denied")
        consul.do("DELETE", f"/v1/connect/intentions/{made['ID']}")
        self.until(lambda: word(backend.leave(route, way)) == "stock", "it is allowed again")


class TestPackagedConsul(WithDnsNames):
    """Why an import is refused on a Consul of such a version, unless the operator says `names: checked`."""

    @pytest.fixture
    def backend(self, packaged_gateway: TerminatingGateway, tmp_path: Path) -> Iterator[GatewayBackend]:
        world = ConsulWorld(packaged_gateway, tmp_path, names="checked")
        yield world
        world.close()

    def test_it_lets_any_certificate_of_the_authority_pass(
        self, backend: GatewayBackend, agents: GatewayAgents
    ) -> None:
        agent, peer = agents.start(self.names.peer), self.names.peer
        route = self.way_out("stock", backend.owner(peer, "somebody else", self.other_san(peer)), sans=self.san(peer))
        (way,) = self.lead(agent, route)
        assert word(backend.leave(route, way)) == "somebody else"

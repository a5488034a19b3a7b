"""The gateway in memory keeps the contract that it stands in for elsewhere, whichever way it leads calls."""

import pytest

from hamlet_core.api.testing import EgressContract, GatewayContract, IngressContract, MemoryGatewayBackend
from hamlet_core.api.testing.memory_gateway import MemoryGateway
from tests.contract.broken_ways_out import BySidecars, SidecarWorld


class TestMemoryGatewayContract(GatewayContract):
    @pytest.fixture
    def backend(self):
        return MemoryGatewayBackend()


class TestMemoryIngressContract(IngressContract):
    @pytest.fixture
    def backend(self):
        return MemoryGatewayBackend(MemoryGateway(egress=False))


class TestMemoryEgressContract(EgressContract):
    @pytest.fixture
    def backend(self):
        return MemoryGatewayBackend(MemoryGateway(ingress=False))


class TestMemorySidecarsContract(GatewayContract):
    @pytest.fixture
    def backend(self):
        return SidecarWorld(BySidecars())

"""The gateway in memory keeps the contract that it stands in for elsewhere."""

import pytest

from hamlet_core.api.testing import GatewayContract, MemoryGatewayBackend


class TestMemoryGatewayContract(GatewayContract):
    @pytest.fixture
    def backend(self):
        return MemoryGatewayBackend()

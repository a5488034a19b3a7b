"""The registry in memory keeps the contract that it stands in for elsewhere."""

import pytest

from hamlet_core.api.testing import MemoryRegistry, RegistryContract


class TestMemoryContract(RegistryContract):
    @pytest.fixture
    def backend(self):
        return MemoryRegistry()

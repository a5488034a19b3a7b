"""The coordinator in memory keeps the contract that it stands in for elsewhere."""

import pytest

from hamlet_core.api.testing import CoordinatorContract, MemoryCoordinator


class TestMemoryCoordinatorContract(CoordinatorContract):
    @pytest.fixture
    def backend(self):
        return MemoryCoordinator()

"""The folder keeps the contract of a registry."""

import pytest

from hamlet_core.api.testing import RegistryContract


class TestFileContract(RegistryContract):
    @pytest.fixture
    def backend(self, folder):
        return folder

"""The folder keeps the contract of a registry."""

import pytest

from hamlet_core.api.testing import RegistryContract


class TestFileContract(RegistryContract):
    @pytest.fixture
    def backend(self, bound_by_modes, folder):
        return folder

    def test_an_adapter_can_lose_its_rights_here(self, backend):
        assert backend.deny() is not None

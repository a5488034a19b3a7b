"""The contract of an adapter, on a real Kubernetes API that is killed for its outages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest

from hamlet_core.api.testing import RegistryBackend, RegistryContract
from tests.backends.kubernetes import OwnKubernetes

pytestmark = pytest.mark.xdist_group("kubernetes")


class _Contract(RegistryContract):
    options: Mapping[str, object] = MappingProxyType({})

    @pytest.fixture
    def backend(self, own_kubernetes: OwnKubernetes, make_cluster: Callable[..., Any]) -> RegistryBackend:
        cluster = make_cluster(**self.options)
        cluster.open_as("agent")
        backend: RegistryBackend = cluster
        return backend

    def test_an_adapter_can_lose_its_rights_here(self, backend: RegistryBackend) -> None:
        assert backend.deny() is not None


class TestIstioContract(_Contract):
    """ServiceEntry and DestinationRule."""


class TestPlainContract(_Contract):
    """Service and Endpoints, as on a cluster without discovery/v1."""

    options = MappingProxyType({"mode": "kubernetes"})


class TestSlicesContract(_Contract):
    """Service and EndpointSlice, in the newest version that this API server has."""

    options = MappingProxyType({"mode": "kubernetes", "endpoints_api": "discovery.k8s.io/v1beta1"})

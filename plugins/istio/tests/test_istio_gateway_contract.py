"""The gateway keeps the contract: calls cross a real Envoy that is led by what stands in a real Kubernetes API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hamlet_core.api.testing import EgressContract, GatewayBackend, GatewayContract, IngressContract
from tests.backends.istio_world import IstioMesh, IstioWorld
from tests.backends.kubernetes import OwnKubernetes

pytestmark = pytest.mark.xdist_group("kubernetes")


@pytest.fixture(scope="module")
def mesh(own_kubernetes: OwnKubernetes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IstioMesh]:
    """One Envoy for the checks: each leaves the mesh empty."""
    one = IstioMesh.make(own_kubernetes, tmp_path_factory.mktemp("envoy"))
    yield one
    one.close()


class TestIstioGatewayContract(GatewayContract):
    @pytest.fixture
    def backend(self, mesh: IstioMesh, tmp_path: Path) -> Iterator[GatewayBackend]:
        world = IstioWorld(mesh, tmp_path)
        yield world
        world.close()


class TestIstioIngressContract(IngressContract):
    @pytest.fixture
    def backend(self, mesh: IstioMesh, tmp_path: Path) -> Iterator[GatewayBackend]:
        world = IstioWorld(mesh, tmp_path, without="egress")
        yield world
        world.close()


class TestIstioEgressContract(EgressContract):
    @pytest.fixture
    def backend(self, mesh: IstioMesh, tmp_path: Path) -> Iterator[GatewayBackend]:
        world = IstioWorld(mesh, tmp_path, without="ingress")
        yield world
        world.close()

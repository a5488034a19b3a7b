"""The contract of an adapter, on a real Kubernetes API that is killed for its outages."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any

import pytest
from hamlet_istio.naming import object_name
from hamlet_istio.options import IstioOptions
from hamlet_istio.registry import IstioRegistry
from hamlet_istio.verification import ClusterBackend

from hamlet_core.api import AdapterContext, ImportedService
from hamlet_core.api.testing import RegistryBackend, RegistryContract
from tests.backends.kubernetes import OwnKubernetes

pytestmark = pytest.mark.xdist_group("kubernetes-contracts")


class KilledCluster(ClusterBackend):
    """What the plugin ships, with the harsher outage, and somebody who replaces entries and takes rights away.

    The adapter is a service account of the namespace, and everybody else the administrator.
    """

    def __init__(self, kubernetes: OwnKubernetes, cluster: Any, *, killed: bool = True) -> None:
        account = {"kubeconfig": None, "server": kubernetes.server, "ca": kubernetes.ca}
        self.reached = IstioOptions(**(cluster.options | account | {"token": cluster.administrator("agent")}))
        super().__init__(self.reached, hand=IstioOptions(**cluster.options))
        self.kubernetes, self.cluster, self.killed = kubernetes, cluster, killed

    def open(self, context: AdapterContext) -> IstioRegistry:
        by_relay = self.silent or not self.killed
        return super().open(context) if by_relay else IstioRegistry(self.reached, context)

    def add_foreign(self, service: ImportedService) -> str:
        try:
            return super().add_foreign(service)
        except FileExistsError:  # a person may as well make it theirs
            name = object_name(service.local_name)
            without_marks = [
                {"op": "replace", "path": f"/metadata/{each}", "value": {}} for each in ("labels", "annotations")
            ]
            self.cluster.patch(self.cluster.main, name, without_marks)
            return name

    def entries(self) -> Mapping[str, object]:
        """Everything but Events, and but what the API server itself makes of them."""
        everything: Mapping[str, object] = self.cluster.everything()
        return everything

    def outage(self) -> AbstractContextManager[None]:
        return self._death() if self.killed else super().outage()

    @contextlib.contextmanager
    def _death(self) -> Iterator[None]:
        self.kubernetes.kill_apiserver()
        try:
            yield
        finally:
            self.kubernetes.start()

    @contextlib.contextmanager
    def deny(self) -> Iterator[None]:
        account = (self.cluster.namespace, "agent")
        self.kubernetes.let(account, may=False)
        try:
            yield
        finally:
            self.kubernetes.let(account, may=True)


class _Contract(RegistryContract):
    options: Mapping[str, object] = MappingProxyType({})
    killed = True

    @pytest.fixture
    def backend(self, own_kubernetes: OwnKubernetes, make_cluster: Callable[..., Any]) -> Iterator[RegistryBackend]:
        backend = KilledCluster(own_kubernetes, make_cluster(**self.options), killed=self.killed)
        yield backend
        backend.close()


class TestIstioContract(_Contract):
    """ServiceEntry and DestinationRule."""


class TestPlainContract(_Contract):
    """Service and Endpoints, as on a cluster without discovery/v1."""

    options = MappingProxyType({"mode": "kubernetes"})


class TestSlicesContract(_Contract):
    """Service and EndpointSlice, in the newest version that this API server has.

    It differs from `TestPlainContract` in where endpoints are written; so the server, whose start takes seconds,
    lives on, and the adapter alone is cut off.
    """

    killed = False
    options = MappingProxyType({"mode": "kubernetes", "endpoints_api": "discovery.k8s.io/v1beta1"})

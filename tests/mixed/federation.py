"""The federation of docs/tutorial-consul-istio.md: a real Consul in west, in east Kubernetes with Istio's resources.

Two agents as processes with the tutorial's own configurations, each with an Envoy, on two sites. Everything here
is the two operators' hands; nothing of it is the code under test.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hamlet_istio
import yaml

from tests.backends.consul import Consul
from tests.backends.install import ensure
from tests.backends.kubernetes import OwnKubernetes
from tests.mixed import tutorial
from tests.mixed.resolving import DNS_PORT
from tests.mixed.sites import Served, Site, two_sites
from tests.support.meshes import Mesh
from tests.support.processes import AgentProcess, wait_until

PATIENCE = 60.0
ANONYMOUS = "00000000-0000-0000-0000-000000000002"
"""Consul's token of those who show none: DNS is one of them (Consul, "ACL System")."""
SERVICES = "/api/v1/namespaces/shop/services"
SLICES = "/apis/discovery.k8s.io/v1beta1/namespaces/shop/endpointslices"
ENTRIES = "/apis/networking.istio.io/v1/namespaces/hamlet-imports/serviceentries"
RULES = "/apis/networking.istio.io/v1/namespaces/hamlet-imports/destinationrules"
_COLLECTIONS = {
    "ServiceAccount": "/api/v1",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1",
    "Role": "/apis/rbac.authorization.k8s.io/v1",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1",
}


@dataclass(kw_only=True)
class West:
    """The mesh with Consul, and its operator."""

    site: Site
    consul: Consul
    agent: AgentProcess
    binary: Path
    registered: set[str] = field(default_factory=set)

    def register(self, name: str, served: Served, protocol: str, status: str = "passing") -> None:
        """Register a service of the workload, asking for it to be published to east."""
        self.registered.add(name)
        with self.site.host.entered():
            self.consul.register(
                name,
                status=status,
                Address=served.address,
                Port=served.port,
                Tags=["hamlet-publish=east"],
                Meta={"protocol": protocol},
            )

    def type(self, section: int) -> None:
        """Type what the tutorial has in a section, as Consul's administrator."""
        with self.site.host.entered():
            tutorial.typed(section, self.agent.mesh.root, self.binary, **_access(self.consul))

    def deregister(self, name: str) -> None:
        """Take it out."""
        self.registered.discard(name)
        with self.site.host.entered():
            self.consul.deregister(name)

    def catalog(self) -> dict[str, Any]:
        """`consul catalog services`: names with their tags."""
        with self.site.host.entered():
            found: dict[str, Any] = self.consul.do("GET", "/v1/catalog/services")
        return found


@dataclass(kw_only=True)
class East:
    """The mesh with Kubernetes, and its operator."""

    site: Site
    kubernetes: OwnKubernetes
    agent: AgentProcess
    exposed: set[str] = field(default_factory=set)

    def expose(
        self, name: str, served: Served, protocol: str, port: int, manifest: dict[str, Any] | None = None
    ) -> None:
        """Have a Service with the EndpointSlice that a controller would make, asking to be published to west."""
        self.exposed.add(name)
        labels = {"kubernetes.io/service-name": name}
        with self.site.host.entered():
            self.kubernetes.put(
                SERVICES,
                name,
                manifest
                or {
                    "metadata": {"annotations": {"hamlet.federation/publish-to": "west"}},
                    "spec": {"ports": [{"name": protocol, "port": port, "targetPort": served.port}]},
                },
            )
            self.kubernetes.put(
                SLICES,
                name,
                {
                    "metadata": {"labels": labels},
                    "addressType": "IPv4",
                    "endpoints": [{"addresses": [served.address], "conditions": {"ready": True}}],
                    "ports": [{"name": protocol, "port": served.port, "protocol": "TCP"}],
                },
            )

    def withdraw(self, name: str) -> None:
        """Delete both."""
        self.exposed.discard(name)
        with self.site.host.entered():
            for collection in (SERVICES, SLICES):
                self.kubernetes.do("DELETE", f"{collection}/{name}")

    def objects(self, collection: str) -> dict[str, dict[str, Any]]:
        """The objects of a collection by name."""
        with self.site.host.entered():
            found = self.kubernetes.do("GET", collection)["items"]
        return {each["metadata"]["name"]: each for each in found}

    def entry(self, name: str) -> dict[str, Any]:
        """Wait for a ServiceEntry."""
        found: dict[str, Any] = wait_until(
            lambda: self.objects(ENTRIES).get(name),
            what=f"ServiceEntry {name}; the agent: {self.agent.log.read_text()[-3000:]}",
            within=PATIENCE,
        )
        return found


@contextmanager
def mixed_federation(*, brake: bool = True) -> Iterator[tuple[West, East]]:
    """Both meshes, linked. Raises `CannotIsolate` or `CannotInstall` where they are not to be had.

    Without its `brake` east lets any number of services go at once: all come and go in a measurement.
    """
    with ExitStack() as stack:
        consul_binary, etcd, apiserver = (ensure(name) for name in ("consul", "etcd", "kube-apiserver"))
        folder = Path(tempfile.mkdtemp(prefix="mixed-"))  # short: Unix sockets are in it
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        here, there = stack.enter_context(two_sites())
        meshes = [Mesh(root=folder, name=site.name, port=8008) for site in (here, there)]
        for mesh in meshes:
            shutil.rmtree(mesh.folder / "pki")  # the tutorial makes its own
        tutorial.typed(1, folder)
        for mesh, other in zip(meshes, reversed(meshes), strict=True):
            shutil.copy(other.bundle, mesh.folder / f"{other.name}.pem")
        for path, text in tutorial.files().items():
            (folder / path).write_text(text)
        consul = Consul(
            consul_binary,
            datacenter="west",
            acl=True,
            hcl=f'ports {{ dns = {DNS_PORT} }} addresses {{ dns = "{here.gateway}" }}',
        )
        stack.callback(consul.close)
        kubernetes = OwnKubernetes(etcd, apiserver)
        stack.callback(kubernetes.close)
        with here.host.entered():
            consul.start()
            tutorial.typed(2, folder, consul_binary, **_access(consul))
            _configure(meshes[0], {"http://127.0.0.1:8500": consul.address})
        with there.host.entered():
            kubernetes.start()
            _prepare(kubernetes, meshes[1])
            accepted = 'accept: ["*.west.example"]'
            braked = accepted if brake else f"brake: {{share: 1}}\n    {accepted}"
            _configure(meshes[1], {"https://10.2.0.2:6443": kubernetes.server, accepted: braked})
        agents = []
        for mesh, site in zip(meshes, (here, there), strict=True):
            agents.append(AgentProcess(mesh))
            stack.callback(agents[-1].kill)  # should it not end by itself
            stack.callback(agents[-1].end)
            with site.host.entered():
                agents[-1].start()
        for agent, peer in zip(agents, ("east", "west"), strict=True):
            agent.state(peer, "imports", "live", within=PATIENCE)
            agent.state(peer, "exports", "live", within=PATIENCE)
        yield (
            West(site=here, consul=consul, agent=agents[0], binary=consul_binary),
            East(site=there, kubernetes=kubernetes, agent=agents[1]),
        )


def _access(consul: Consul) -> dict[str, str]:
    """How Consul's own command reaches it, as its administrator."""
    return {"CONSUL_HTTP_ADDR": consul.address, "CONSUL_HTTP_TOKEN": consul.token}


def _configure(mesh: Mesh, places: Mapping[str, str]) -> None:
    """Change the tutorial's configuration where the registry is elsewhere."""
    mesh.config_path.write_text(tutorial.replaced(mesh.config_path.read_text(), places))


def _prepare(kubernetes: OwnKubernetes, mesh: Mesh) -> None:
    """What east's operator does to the cluster and in the agent's folder, by the tutorial."""
    kubernetes.install_crds()
    for namespace in ("hamlet", "hamlet-imports", "shop"):
        kubernetes.make_namespace(namespace)
    manifest = Path(hamlet_istio.__file__).parent / "manifests" / "rbac-istio.yaml"
    for each in yaml.safe_load_all(manifest.read_text()):
        namespace, plural = each["metadata"].get("namespace"), f"{each['kind'].lower()}s"
        scope = f"namespaces/{namespace}/{plural}" if namespace else plural
        kubernetes.put(f"{_COLLECTIONS[each['kind']]}/{scope}", each["metadata"]["name"], each)
    (mesh.folder / "k8s.token").write_text(kubernetes.token_for("hamlet", "hamlet"))
    shutil.copy(kubernetes.ca, mesh.folder / "k8s-ca.pem")

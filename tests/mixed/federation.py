"""The federation of docs/tutorial-consul-istio.md: a real Consul in west, in east Kubernetes with Istio's resources.

Two agents as processes with the tutorial's own configurations, each with an Envoy, on two sites. Everything here
is the two operators' hands; nothing of it is the code under test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


class TutorialAgent(AgentProcess):
    """The agent of a mesh, started by what the tutorial has its operator type: the last command becomes the agent."""

    def start(self) -> AgentProcess:
        """Type the block; does not wait until the agent is ready."""
        (step,) = tutorial.steps("4. Start", self.mesh.name)
        tutorial.TYPED.add(step)
        *before, last = step.commands.text.splitlines()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", "\n".join([*before, f"exec {last}"])],
                cwd=self.mesh.root, env=tutorial.surroundings({}), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        return self


@dataclass(kw_only=True)
class West:
    """The mesh with Consul, and its operator."""

    site: Site
    consul: Consul
    agent: AgentProcess
    environ: dict[str, str]
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
    environ: dict[str, str]
    exposed: set[str] = field(default_factory=set)

    def expose(
        self, name: str, served: Served, protocol: str, port: int, manifest: dict[str, Any] | None = None
    ) -> None:
        """Have a Service with the EndpointSlice that a controller would make, asking to be published to west."""
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
        self.serve(name, served, protocol)

    def serve(self, name: str, served: Served, protocol: str) -> None:
        """Be the controller of a real cluster that makes the EndpointSlice of a Service."""
        self.exposed.add(name)
        labels = {"kubernetes.io/service-name": name}
        with self.site.host.entered():
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
        kubectl = ensure("kubectl")
        folder = Path(tempfile.mkdtemp(prefix="mixed-"))  # short: Unix sockets are in it
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        here, there = stack.enter_context(two_sites())
        meshes = [Mesh(root=folder, name=site.name, port=8008) for site in (here, there)]
        for mesh in meshes:
            shutil.rmtree(mesh.folder / "pki")  # the tutorial makes its own
        for mesh in meshes:
            _type("1. Certificates", mesh, {})
        for mesh, other in zip(meshes, reversed(meshes), strict=True):
            shutil.copy(other.bundle, mesh.folder / f"{other.name}.pem")
        for path, text in tutorial.files().items():
            (folder / path).write_text(text)
        consul = Consul(
            consul_binary,
            datacenter="west",
            acl=True,
            hcl=f'bind_addr = "{here.gateway}" ports {{ server = 8300 dns = {DNS_PORT} }} '
            f'addresses {{ dns = "{here.gateway}" }}',
        )
        stack.callback(consul.close)
        kubernetes = OwnKubernetes(etcd, apiserver)
        stack.callback(kubernetes.close)
        with here.host.entered():
            consul.start()
            west = {
                "PATH": f"{os.environ['PATH']}:{consul_binary.parent}",
                "CONSUL_HTTP_ADDR": consul.address,
                "CONSUL_HTTP_TOKEN": consul.token,
            }
            _type("2. Rights", meshes[0], west)
            _configure(meshes[0], {"http://127.0.0.1:8500": consul.address})
        with there.host.entered():
            kubernetes.start()
            kubernetes.install_crds()
            kubernetes.make_namespace("shop")
            east = {
                "PATH": f"{os.environ['PATH']}:{kubectl.parent}",
                "KUBECONFIG": str(kubernetes.kubeconfig),
                "KUBECACHEDIR": str(folder / "kubectl"),
            }
            _type("2. Rights", meshes[1], east)
            accepted = 'accept: ["*.west.example"]'
            braked = accepted if brake else f"brake: {{share: 1}}\n    {accepted}"
            _configure(meshes[1], {"https://10.2.0.2:6443": kubernetes.server, accepted: braked})
        agents = []
        for mesh, site in zip(meshes, (here, there), strict=True):
            agents.append(TutorialAgent(mesh))
            stack.callback(agents[-1].kill)  # should it not end by itself
            stack.callback(agents[-1].end)
            with site.host.entered():
                agents[-1].start()
        for agent, peer in zip(agents, ("east", "west"), strict=True):
            agent.state(peer, "imports", "live", within=PATIENCE)
            agent.state(peer, "exports", "live", within=PATIENCE)
        yield (
            West(site=here, consul=consul, agent=agents[0], environ=west),
            East(site=there, kubernetes=kubernetes, agent=agents[1], environ=east),
        )


def _type(heading: str, mesh: Mesh, environ: Mapping[str, str]) -> None:
    """Type what the tutorial has for the operator of a mesh below a heading."""
    for step in tutorial.steps(heading, mesh.name):
        tutorial.typed(step, mesh.root, environ)


def _configure(mesh: Mesh, places: Mapping[str, str]) -> None:
    """Change the tutorial's configuration where the registry is elsewhere."""
    mesh.config_path.write_text(tutorial.replaced(mesh.config_path.read_text(), places))

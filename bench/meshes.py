"""Meshes on disk for the measurements: an authority and a certificate each, and a configuration for agents."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
from ruamel.yaml import YAML

from hamlet_core.api import Endpoint, LocalService, Protocol, ServicePort
from hamlet_core.identity import authority
from tests.support.ports import free_port

NEVER = "1h"
"""For deadlines that must not end what is being measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """A mesh in a folder of its own; picklable, so that every process can be handed one."""

    folder: Path
    name: str
    port: int

    @property
    def trust_domain(self) -> str:
        """Its SPIFFE trust domain."""
        return f"{self.name}.example"

    @property
    def address(self) -> str:
        """Where it is dialled."""
        return f"127.0.0.1:{self.port}"

    @property
    def bundle(self) -> bytes:
        """Its authority, in PEM."""
        return (self.folder / "pki" / "bundle.pem").read_bytes()

    @property
    def pair(self) -> tuple[bytes, bytes]:
        """Its private key and certificate, in PEM."""
        return (self.folder / "pki" / "agent.key").read_bytes(), (self.folder / "pki" / "agent.crt").read_bytes()

    @property
    def services(self) -> Path:
        """Where a registry of kind `file` has its services."""
        return self.folder / "mesh" / "services"

    def elsewhere(self) -> Mesh:
        """The same mesh at another port."""
        return replace(self, port=free_port())

    @property
    def target_options(self) -> list[tuple[str, str]]:
        """Channel options for dialling it: its certificate names no address."""
        return [("grpc.ssl_target_name_override", f"agent.{self.trust_domain}")]

    def client_credentials(self, target: Mesh) -> grpc.ChannelCredentials:
        """Mutual TLS of a bare client of this mesh that dials `target`."""
        return grpc.ssl_channel_credentials(target.bundle, *self.pair)

    def server_credentials(self, clients: Iterable[Mesh]) -> grpc.ServerCredentials:
        """Mutual TLS of a bare server of this mesh that `clients` dial."""
        bundles = b"".join(client.bundle for client in clients)
        return grpc.ssl_server_credentials([self.pair], bundles, require_client_auth=True)

    def configure(self, *, kind: str, peers: Iterable[Mesh], dial: Mesh | None = None, api: str = "v1alpha2") -> Path:
        """Write a configuration that publishes everything to all peers and dials only `dial`; returns its path.

        Each call writes a file of its own, so that an agent can go from one to another.
        """
        known = {
            peer.name: {
                "trust_domain": peer.trust_domain,
                "bundle": str(peer.folder / "pki" / "bundle.pem"),
                "ack_timeout": NEVER,
                "max_services": 1_000_000,
                **({"address": peer.address, "api": api} if peer == dial else {}),
            }
            for peer in peers
        }
        options: dict[str, Any] = {"path": "mesh"} if kind == "file" else {}
        document = {
            "mesh": {"name": self.name, "domain": self.trust_domain, "trust_domain": self.trust_domain},
            "identity": {"certificate": "pki/agent.crt", "key": "pki/agent.key", "bundle": "pki/bundle.pem"},
            "listen": self.address,
            "admin": {"http": None},
            "plugins": ["bench"],
            "registries": {"main": {"kind": kind, **options}},
            "publish": [{"to": "all", "direct": True}],
            "peers": known,
        }
        dialling = f"-{dial.port}-{api}" if dial is not None else ""
        path = self.folder / f"{kind}{dialling}-{len(known)}.yaml"
        with path.open("w") as file:
            YAML(typ="safe").dump(document, file)
        return path


def make(root: Path, name: str) -> Mesh:
    """A new mesh below `root`, with an authority, a certificate and a port nobody listens on."""
    mesh = Mesh(folder=root / name, name=name, port=free_port())
    mesh.services.mkdir(parents=True)
    authority.init(mesh.folder / "pki", mesh.trust_domain)
    authority.issue(mesh.folder / "pki")
    return mesh


def local_service(number: int, tag: str = "v1") -> LocalService:
    """An ordinary service: two endpoints, a SAN, two labels; as a frame 380 bytes in v1alpha1, 490 in v1alpha2."""
    return LocalService(
        name=f"service-{number:05}",
        description="Takes orders and says what became of them",
        ports=(ServicePort(name="http", port=8080, protocol=Protocol.HTTP),),
        endpoints=(Endpoint(address="10.1.0.7", port=8080), Endpoint(address="10.1.0.8", port=8080)),
        tags=(tag,),
        labels={"team": "shop", "tier": "backend"},
        sans=("spiffe://west.example/ns/shop/sa/orders",),
    )


def write_service(mesh: Mesh, number: int, tag: str = "v1") -> float:
    """The same service as a file of a registry of kind `file`; the monotonic time before it is renamed into place."""
    fresh = mesh.services / f".{number}.tmp"
    fresh.write_text(
        f"name: service-{number:05}\ndescription: Takes orders and says what became of them\n"
        f"protocol: HTTP\nport: 8080\ntags: [{tag}]\nlabels: {{team: shop, tier: backend}}\n"
        "sans: ['spiffe://west.example/ns/shop/sa/orders']\n"
        "endpoints: [{address: 10.1.0.7, port: 8080}, {address: 10.1.0.8, port: 8080}]\n"
    )
    began = time.monotonic()
    fresh.replace(mesh.services / f"service-{number:05}.yaml")
    return began

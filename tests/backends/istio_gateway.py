"""What is around an ingress gateway of Istio: its namespace, callers, authorities, and what stands there.

Nothing here uses the code under test.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hamlet_core.api import Endpoint, ImportRoute, PeerTrust, PublishRoute, ServicePort, Trust
from hamlet_core.api.testing import imported_service
from hamlet_core.api.testing.minting import Mint
from tests.backends.kubernetes import Kubernetes

NETWORKING = "/apis/networking.istio.io/v1/namespaces/{namespace}/"
GATEWAYS, WAYS, ENTRIES, RULES = (
    f"{NETWORKING}{each}" for each in ("gateways", "virtualservices", "serviceentries", "destinationrules")
)
POLICIES = "/apis/security.istio.io/v1/namespaces/{namespace}/authorizationpolicies"
SECRETS, SERVICES = (f"/api/v1/namespaces/{{namespace}}/{each}" for each in ("secrets", "services"))
OF_A_ROUTE = (POLICIES, WAYS, GATEWAYS)
"""The collections of what stands for a published server name."""
INGRESS = "istio-ingress"
"""The Service of an ingress gateway, as Istio's charts call it."""


class IngressNamespace:
    """The namespace of an ingress gateway, one of callers, and the hands of everybody else on them."""

    def __init__(self, kubernetes: Kubernetes, namespace: str, mint: Callable[[str], Mint]) -> None:
        self.kubernetes, self.namespace, self.mint = kubernetes, namespace, mint
        self.callers = kubernetes.make_namespace(f"{namespace}-callers"[-63:])

    def options(self, **changes: Any) -> dict[str, Any]:
        """Those of a gateway with both halves."""
        found: dict[str, Any] = {
            "kubeconfig": self.kubernetes.kubeconfig,
            "retry": "60s",  # a busy machine is no outage
            "timeout": "30s",
            "connect_timeout": "30s",
            "ingress": {"namespace": self.namespace},
            "egress": {"consumers": {self.callers: {"mesh": "out"}}},
        }
        return found | changes

    def trust(self, *peers: str, domains: Mapping[str, str | None] | None = None) -> Trust:
        """Our certificate, and the bundles of peers; the trust domain of `east` is `east.example`."""
        leaf = self.mint("west").leaf("spiffe://west.example/ingress", dns=("*.west.example",))
        given = {peer: f"{peer}.example" for peer in peers} | dict(domains or {})
        return Trust(
            certificate=leaf.pem.decode(),
            key=leaf.key_pem.decode(),
            peers=tuple(
                PeerTrust(peer=peer, trust_domain=domain, bundle=self.mint(peer).pem.decode())
                for peer, domain in given.items()
            ),
        )

    def add_service(self, name: str, port: int = 8080) -> str:
        """A Service of the mesh, here; its name as the registry has it."""
        spec = {"ports": [{"name": "http", "port": port, "protocol": "TCP"}]}
        self.kubernetes.put(SERVICES.format(namespace=self.namespace), name, {"spec": spec})
        return f"{name}.{self.namespace}"

    def add_ingress(self, kind: str = "LoadBalancer") -> None:
        """The Service of the ingress gateway, of this type."""
        ports = [{"name": "https", "port": 443, "protocol": "TCP"}]
        spec = {"type": kind, "selector": {"istio": "ingress"}, "ports": ports}
        self.kubernetes.put(SERVICES.format(namespace=self.namespace), INGRESS, {"spec": spec})

    def assign(self, *places: Mapping[str, str]) -> None:
        """Say where the ingress gateway is reached, as the cluster's load balancer does."""
        self.patch(SERVICES, INGRESS, load_balanced(*places), status=True)

    def all(self, collection: str, namespace: str = "") -> dict[str, Any]:
        """The objects of a collection by name."""
        path = collection.format(namespace=namespace or self.namespace)
        return {each["metadata"]["name"]: each for each in self.kubernetes.do("GET", path)["items"]}

    def patch(self, collection: str, name: str, body: Any, *, status: bool = False) -> None:
        """Merge into an object, or into its status."""
        path = f"{collection.format(namespace=self.namespace)}/{name}" + ("/status" if status else "")
        self.kubernetes.do("PATCH", path, body, kind="application/merge-patch+json")

    def close(self) -> None:
        for namespace in (self.namespace, self.callers):
            self.kubernetes.wipe(namespace, *OF_A_ROUTE, SECRETS, SERVICES, ENTRIES)


def load_balanced(*places: Mapping[str, str]) -> dict[str, Any]:
    """What a load balancer's controller says of a Service that is reached at these places, to be merged into it."""
    return {"status": {"loadBalancer": {"ingress": list(places) or None}}}


def published(service: str, *peers: str, sni: str = "", port: int = 8080) -> PublishRoute:
    name = sni or f"{service.partition('.')[0]}.west.example"
    return PublishRoute(
        sni=name,
        fqdn=name,
        registry="west",
        service=service,
        port=ServicePort(name="web", port=port),
        endpoints=(Endpoint(address="10.0.0.1", port=port),),
        peers=peers or ("east",),
    )


def imported(name: str, peer: str = "east") -> ImportRoute:
    return ImportRoute(peer=peer, service=imported_service(name, peer).service)


def authorities(secret: Any) -> set[bytes]:
    """The certificates that a secret has the other side verified by."""
    return {each.public_bytes(Encoding.PEM) for each in x509.load_pem_x509_certificates(text_of(secret, "ca.crt"))}


def text_of(secret: Any, key: str) -> bytes:
    """What a secret has under a key."""
    return base64.b64decode(secret["data"][key])


def secret_of(world: Any, name: str) -> Any:
    """The secret of a published server name's door."""
    door = world.all(GATEWAYS)[name]
    return world.all(SECRETS)[door["spec"]["servers"][0]["tls"]["credentialName"]]


def pems(world: Any, *peers: str) -> set[bytes]:
    return {world.mint(peer).pem for peer in peers}


def names(world: Any) -> list[set[str]]:
    return [set(world.all(each)) for each in OF_A_ROUTE]


def everything(world: Any) -> dict[str, str]:
    """The version of every object of ours."""
    return {
        f"{each} {name}": thing["metadata"]["resourceVersion"]
        for each in (*OF_A_ROUTE, SECRETS)
        for name, thing in world.all(each).items()
    }

"""The options of a gateway of kind `istio`: every key, its default and its rule. It opens nothing."""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from hamlet_istio.access import ClusterOptions, Namespace
from hamlet_istio.offer import is_address
from hamlet_istio.options import TlsOrigination

_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9])?)*", re.IGNORECASE)
_SECRET = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


class Place(NamedTuple):
    """A host (an IP address without brackets, or a name) and a port."""

    host: str
    port: int


def place_of(text: str) -> Place:
    """Read `host:port` or `[IPv6]:port`. Raises `ValueError` with a sentence."""
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    good = port.isascii() and port.isdigit() and 1 <= int(port) <= 65535
    if not good or (":" in bare) != (bare != host) or not (is_address(bare) or _HOST.fullmatch(bare)):
        message = f"{text!r} is no address: write host:port or [IPv6]:port, with a port from 1 to 65535"
        raise ValueError(message)
    return Place(bare, int(port))


def _place(value: str) -> str:
    place_of(value)
    return value


def _prefix(value: str) -> str:
    if not _SECRET.fullmatch(value):
        message = (
            f"{value!r} must be lower-case letters, digits and hyphens, 40 at most: names of secrets begin with it"
        )
        raise ValueError(message)
    return value


SecretPrefix = Annotated[str, AfterValidator(_prefix)]
Port = Annotated[int, Field(ge=1, le=65535)]


class IngressOptions(BaseModel):
    """How calls of other meshes come in: an ingress gateway of Istio that runs already."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: Namespace = Field(
        default="istio-ingress",
        description="Namespace of the ingress gateway's pods and Service, and of what we write.",
    )
    service: str = Field(default="istio-ingress", min_length=1, description="Name of its Service.")
    selector: dict[str, str] = Field(
        default_factory=lambda: {"istio": "ingress"},
        min_length=1,
        description="Labels of its pods.",
    )
    port: Port = Field(default=443, description="Port of its Service that other meshes call.")
    address: Literal["load_balancer", "node_port"] = Field(
        default="load_balancer",
        description="load_balancer: the status of the Service; node_port: the ready nodes, with its node port.",
    )
    advertise: tuple[Annotated[str, AfterValidator(_place)], ...] = Field(
        default=(), description="Instead of `address`: `host:port` under which other meshes reach it."
    )
    sans: tuple[str, ...] = Field(
        default=(),
        description="Names published as the ingress's; default: URI and DNS names of the mesh's certificate.",
    )
    credential: SecretPrefix = Field(
        default="hamlet-ingress", description="Beginning of the names of the secrets it presents and verifies with."
    )
    http: bool = Field(
        default=False,
        description="Route HTTP, HTTP2 and GRPC by request (callers must ask for the FQDN); default: by connection.",
    )


class EgressOptions(BaseModel):
    """How calls to other meshes go out: the workloads' own sidecars originate TLS."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["MUTUAL", "ISTIO_MUTUAL"] = Field(
        default="MUTUAL",
        description="MUTUAL: as this mesh, a secret for each peer; ISTIO_MUTUAL: as the workload, with shared trust.",
    )
    credential: SecretPrefix = Field(
        default="hamlet-egress", description="MUTUAL: beginning of the names of the secrets, one for each peer."
    )
    consumers: dict[Namespace, dict[str, str]] = Field(
        default_factory=dict,
        description="MUTUAL: namespaces that call other meshes, each with the labels of the workloads there.",
    )
    write_secrets: bool = Field(
        default=True, description="MUTUAL: write the secrets; false: somebody else does, under the same names."
    )

    @model_validator(mode="after")
    def _fit(self) -> EgressOptions:
        if self.mode == "MUTUAL" and not self.consumers:
            message = "MUTUAL needs `consumers`: sidecars take a secret of their own namespace, by labels, alone"
            raise ValueError(message)
        if self.mode == "ISTIO_MUTUAL" and self.consumers:
            message = "`consumers` belongs to MUTUAL: ISTIO_MUTUAL takes the workload's own certificate everywhere"
            raise ValueError(message)
        if empty := sorted(name for name, labels in self.consumers.items() if not labels):
            message = f"`consumers` gives no labels for {', '.join(empty)}: sidecars take a secret only with some"
            raise ValueError(message)
        return self

    def tls(self, credential_name: str) -> TlsOrigination:
        """What the rules of an import with this secret say."""
        if self.mode == "ISTIO_MUTUAL":
            return TlsOrigination(mode="ISTIO_MUTUAL")
        return TlsOrigination(mode="MUTUAL", credential_name=credential_name, consumers=self.consumers)


class IstioGatewayOptions(ClusterOptions):
    """The keys of a gateway of kind `istio`."""

    ingress: IngressOptions | None = Field(default=None, description="Calls in; without it nothing is published.")
    egress: EgressOptions | None = Field(default=None, description="Calls out; without it nothing can be called.")
    cluster_domain: str = Field(default="cluster.local", description="DNS domain of the cluster's Services.")

    @model_validator(mode="after")
    def _sides(self) -> IstioGatewayOptions:
        if self.ingress is None and self.egress is None:
            message = "neither `ingress` nor `egress` is there: a gateway has at least one"
            raise ValueError(message)
        return self

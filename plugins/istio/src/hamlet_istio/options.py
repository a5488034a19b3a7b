"""The options of a registry of kind `istio`: every key, its default and its rule. It opens nothing."""

from __future__ import annotations

import ipaddress
import string
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from hamlet_istio.access import ClusterOptions, Namespace

_SAN_FIELDS = {"trust_domain", "namespace", "service_account", "name"}
ISTIO_SAN = "spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"
"""The identity that Istio gives a workload (Istio, "Security", secure naming)."""


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError as error:
        message = f"{value!r} is no network in CIDR form, for example 240.128.0.0/16 ({error})"
        raise ValueError(message) from error
    return value


def _template(value: str) -> str:
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(value) if name is not None}
    except ValueError as error:
        raise ValueError(str(error)) from error
    if unknown := sorted(fields - _SAN_FIELDS):
        known = ", ".join(f"{{{name}}}" for name in sorted(_SAN_FIELDS))
        message = f"{value!r} has {', '.join(unknown)}; filled in are {known}"
        raise ValueError(message)
    return value


Cidr = Annotated[str, AfterValidator(_network)]
SanTemplate = Annotated[str, AfterValidator(_template)]


class TlsOrigination(BaseModel):
    """How sidecars speak TLS to the ingress of another mesh: the `tls` of the DestinationRules."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["ISTIO_MUTUAL", "MUTUAL", "SIMPLE"] = Field(
        default="ISTIO_MUTUAL",
        description="ISTIO_MUTUAL: with the workload's own certificate (the mesh must trust the peers' roots).",
    )
    client_certificate: str | None = Field(
        default=None, description="MUTUAL: path of the certificate, in the sidecar."
    )
    private_key: str | None = Field(default=None, description="MUTUAL: path of its key, in the sidecar.")
    ca_certificates: str | None = Field(
        default=None, description="MUTUAL, SIMPLE: path of the authorities to trust, in the sidecar."
    )
    credential_name: str | None = Field(
        default=None,
        description="MUTUAL, SIMPLE: a secret in each namespace of `consumers`; needs `workload_selector`.",
    )
    workload_selector: dict[str, str] = Field(
        default_factory=dict, description="Labels of the workloads that use the secret."
    )
    consumers: dict[Namespace, dict[str, str]] = Field(
        default_factory=dict,
        description="Namespaces of those workloads, each with labels of its own or `{}` for `workload_selector`;"
        " default the import namespace.",
    )

    @model_validator(mode="after")
    def _fit(self) -> TlsOrigination:
        files = (self.client_certificate, self.private_key, self.ca_certificates)
        if self.mode == "ISTIO_MUTUAL" and (any(files) or self.credential_name):
            message = "ISTIO_MUTUAL takes the workload's own certificate: no files and no `credential_name`"
            raise ValueError(message)
        if self.mode == "MUTUAL" and not self.credential_name and not all(files):
            message = "MUTUAL needs `credential_name`, or client_certificate, private_key and ca_certificates"
            raise ValueError(message)
        if self.mode == "SIMPLE" and (self.client_certificate or self.private_key):
            message = "SIMPLE presents no client certificate: take MUTUAL"
            raise ValueError(message)
        if self.credential_name and any(files):
            message = "either `credential_name` or files"
            raise ValueError(message)
        if self.consumers and not self.credential_name:
            message = "`consumers` belongs to `credential_name`: any other rule reaches all of `export_to`"
            raise ValueError(message)
        if self.credential_name and not self.workload_selector and not all((self.consumers or {"": {}}).values()):
            message = "sidecars take `credential_name` only with a `workload_selector`"
            raise ValueError(message)
        return self

    def selectors(self, import_namespace: str) -> dict[str, dict[str, str]]:
        """The namespaces that get a rule of their own, each with the labels of its workloads; none without a secret.

        A rule with labels counts in its own namespace only (Istio, DestinationRule, `workloadSelector`).
        """
        if not self.credential_name:
            return {}
        consumers = self.consumers or {import_namespace: {}}
        return {name: labels or self.workload_selector for name, labels in sorted(consumers.items())}


class IstioOptions(ClusterOptions):
    """The keys of a registry of kind `istio`."""

    mode: Literal["istio", "kubernetes"] = Field(
        default="istio",
        description="istio: ServiceEntry and DestinationRule; kubernetes: plain Services without Istio.",
    )
    namespaces: tuple[Namespace, ...] | None = Field(
        default=None, description="Namespaces whose services are read; default all."
    )
    exclude_namespaces: tuple[Namespace, ...] = Field(
        default=("kube-system", "kube-public", "kube-node-lease", "istio-system"),
        description="Namespaces never read.",
    )
    import_namespace: Namespace = Field(
        default="hamlet-imports", description="Namespace of everything imported; it must exist."
    )
    export_to: tuple[str, ...] = Field(
        default=("*",), min_length=1, description="Namespaces that see imports (`exportTo`); `.`: only their own."
    )
    tls: TlsOrigination = Field(default_factory=TlsOrigination, description="How sidecars speak TLS to other meshes.")
    plaintext: bool = Field(
        default=False, description="Import services without SANs too, to be called without TLS; default: refuse."
    )
    virtual_addresses: Cidr | None = Field(
        default="240.128.0.0/16",
        description="Network of the addresses given to TCP services; null: the cluster allocates them.",
    )
    trust_domain: str | None = Field(
        default=None, description="Trust domain of the workloads; default the one of `mesh`."
    )
    san: SanTemplate | None = Field(
        default=None,
        description=f"SAN of workloads that are pods; default {ISTIO_SAN} (mode kubernetes: none).",
    )
    external_san: SanTemplate | None = Field(
        default=None, description="SAN of services whose endpoints are no pods and say none themselves."
    )
    unready: bool = Field(default=False, description="Take endpoints that are not ready too.")
    publish_annotation: str | None = Field(
        default="hamlet.federation/publish-to",
        description="Annotation by which a service asks to be published; null: none counts.",
    )
    cluster_domain: str = Field(
        default="cluster.local", description="DNS domain of the cluster: no import gets a name in it."
    )
    endpoints_api: Literal["auto", "discovery.k8s.io/v1", "discovery.k8s.io/v1beta1", "v1"] = Field(
        default="auto",
        description="EndpointSlices or (v1) Endpoints; auto: read the newest, write slices where v1 is served.",
    )
    events: bool = Field(default=True, description="Write Kubernetes Events on imported objects.")

    @model_validator(mode="after")
    def _seen_by_consumers(self) -> IstioOptions:
        seen = {self.import_namespace if each == "." else each for each in self.export_to}
        if "*" not in seen and (blind := sorted(self.tls.consumers.keys() - seen)):
            message = f"`tls.consumers` names {', '.join(blind)}, which `export_to` does not let see the imports"
            raise ValueError(message)
        return self

    @property
    def istio(self) -> bool:
        """Whether Istio's resources are read and written."""
        return self.mode == "istio"

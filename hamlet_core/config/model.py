"""The model of hamlet.yaml: every key, its default and its rule. It reads no file and resolves nothing.

Everything here is frozen; the rest of the core takes these objects as they are.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: object) -> object:
    """Read `90s`, `1h30m`, `250ms` or a bare number of seconds; anything else is left for pydantic to refuse."""
    if not isinstance(value, str):
        return value
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[smhd])", value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        if re.fullmatch(r"\d+(\.\d+)?", value):
            return timedelta(seconds=float(value))
        message = f"{value!r} is no duration: write for example 30s, 10m, 24h or 1h30m"
        raise ValueError(message)
    return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))


def parse_share(value: object) -> object:
    """Read `30%` or a number between 0 and 1."""
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?%", value):
        return float(value[:-1]) / 100
    return value


def dns_label(value: str) -> str:
    """Require one label of RFC 1123: it becomes part of names in registries."""
    if not _LABEL.fullmatch(value):
        message = f"{value!r} must be lower-case letters, digits and hyphens, at most 63 characters"
        raise ValueError(message)
    return value


def dns_name(value: str) -> str:
    """Require a domain name of RFC 1123, lower-case, without a trailing dot."""
    if len(value) > 253 or not all(_LABEL.fullmatch(label) for label in value.split(".")):
        message = (
            f"{value!r} is no domain name: lower-case labels of letters, digits and hyphens, joined by dots"
        )
        raise ValueError(message)
    return value


def host_port(value: str) -> str:
    """Require `host:port`, the host a name, an IPv4 address or an IPv6 address in brackets."""
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        message = f"{value!r} must be host:port, for example gateway.east.example:8008"
        raise ValueError(message)
    if host.startswith("[") and host.endswith("]"):
        ipaddress.IPv6Address(host[1:-1])
    elif ":" in host:
        message = f"{value!r}: write an IPv6 address in brackets, for example [::1]:8008"
        raise ValueError(message)
    return value


def split_host_port(value: str) -> tuple[str, int]:
    """Divide a checked `host:port`; brackets of an IPv6 address are taken off."""
    host, _, port = value.rpartition(":")
    return host.strip("[]"), int(port)


def loopback_host_port(value: str) -> str:
    """Require a `host:port` that only this machine reaches."""
    host, _ = split_host_port(host_port(value))
    if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        message = f"{value!r} must be on loopback (127.0.0.1, ::1, localhost): it is not authenticated"
        raise ValueError(message)
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration), Field(ge=timedelta(0))]
Share = Annotated[float, BeforeValidator(parse_share), Field(ge=0, le=1)]
DnsLabel = Annotated[str, AfterValidator(dns_label)]
DnsName = Annotated[str, AfterValidator(dns_name)]
HostPort = Annotated[str, AfterValidator(host_port)]
LoopbackHostPort = Annotated[str, AfterValidator(loopback_host_port)]
Cidr = Annotated[str, AfterValidator(lambda value: str(ipaddress.ip_network(value)))]


class _Section(BaseModel):
    """Unknown keys are errors; what was read does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Mesh(_Section):
    """Who we are to others."""

    name: DnsLabel = Field(
        description="Short name of this mesh; it appears in marks, logs and names of nodes."
    )
    domain: DnsName = Field(description="Published services get their names under this domain.")
    trust_domain: DnsName = Field(description="SPIFFE trust domain that our authority signs for.")


class Identity(_Section):
    """Our certificate. The files are read again when they change."""

    certificate: Path = Field(description="PEM file: our X.509-SVID, leaf first, then intermediates.")
    key: Path = Field(description="PEM file: its private key.")
    bundle: Path | None = Field(
        default=None, description="PEM file: our own trust bundle, which our certificate is checked against."
    )


class Admin(_Section):
    """How the operator reaches the running agent."""

    socket: Path = Field(
        default=Path("hamlet.sock"), description="Unix socket (mode 0600) that the commands talk to."
    )
    http: LoopbackHostPort | None = Field(
        default="127.0.0.1:8009",
        description="Loopback host:port of /metrics, /healthz and /readyz; null for none.",
    )


class Log(_Section):
    """What the agent writes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = Field(
        default="auto", description="auto: text on a terminal, JSON lines elsewhere."
    )


class Registry(BaseModel):
    """A local registry: `kind` names its adapter, all other keys are the adapter's own options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str = Field(
        description="Adapter kind, for example file, consul or istio; `hamlet plugins` lists them."
    )

    @property
    def options(self) -> dict[str, Any]:
        """The keys that belong to the adapter."""
        return dict(self.model_extra or {})


class Gateway(_Section):
    """How other meshes reach our services, where no plugin says it: an ingress that someone else runs."""

    endpoints: tuple[HostPort, ...] = Field(
        min_length=1, description="host:port of the ingress, one or several."
    )
    sans: tuple[str, ...] = Field(
        min_length=1,
        description="Subject alternative names that the ingress presents, SPIFFE IDs or DNS names.",
    )


class Select(_Section):
    """Which services a rule is about: all conditions given must hold."""

    name: tuple[str, ...] = Field(
        default=("*",), description="Shell patterns; one must match the service's name."
    )
    registry: str | None = Field(default=None, description="Only services of this registry.")
    tags: tuple[str, ...] = Field(default=(), description="The service must have every one of these tags.")
    labels: dict[str, str] = Field(
        default_factory=dict, description="The service must have these labels; the values are shell patterns."
    )
    marked: bool = Field(
        default=False,
        description="Only services whose own registry entry asks to be published, and only to the peers it names.",
    )

    @field_validator("name", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class PublishRule(_Section):
    """Which services are published to whom, and as what. The first rule that fits a service and a peer decides."""

    select: Select = Field(default_factory=Select)
    to: tuple[str, ...] | Literal["all"] = Field(description="Names of peers, or all.")
    name: str = Field(
        default="{name}.{domain}",
        description="The published FQDN; {name}, {registry}, {mesh} and {domain} are filled in.",
    )
    direct: bool = Field(
        default=False,
        description="Publish the service's own addresses, reachable from outside, instead of the gateway's.",
    )
    from_: AwareDatetime | None = Field(
        default=None, alias="from", description="Not before this time (with zone)."
    )
    until: AwareDatetime | None = Field(default=None, description="Not from this time on (with zone).")

    @field_validator("name")
    @classmethod
    def _template(cls, value: str) -> str:
        try:
            value.format(name="n", registry="r", mesh="m", domain="d")
        except (KeyError, IndexError, ValueError) as error:
            message = f"{value!r}: only {{name}}, {{registry}}, {{mesh}} and {{domain}} are filled in"
            raise ValueError(message) from error
        return value

    @model_validator(mode="after")
    def _order(self) -> PublishRule:
        if self.from_ and self.until and self.from_ >= self.until:
            message = "`from` must be before `until`"
            raise ValueError(message)
        return self

    def active(self, now: datetime) -> bool:
        """Whether the rule holds at `now`."""
        return (self.from_ is None or self.from_ <= now) and (self.until is None or now < self.until)


class Brake(_Section):
    """Protection against losing everything at once by inference or by a flood of deletions."""

    share: Share = Field(
        default=0.3,
        description="Removals of more than this share of the peer's services are held; 1 holds none.",
    )
    release_after: Duration = Field(
        default=timedelta(hours=1),
        description="What is held passes after this time; 0: only by `hamlet confirm`.",
    )
    window: Duration = Field(
        default=timedelta(minutes=1), description="Deletions sent by the owner are counted over this time."
    )


class Peer(_Section):
    """Another mesh: how to reach it, how to know it, what to take from it.

    It is known by its SPIFFE trust domain (and, if given, one exact SPIFFE ID), or, for a vendor without
    SPIFFE, by a DNS name or a certificate fingerprint; always against its own bundle alone.
    """

    address: HostPort | None = Field(
        default=None, description="host:port of its agent; without it we wait for it to dial us."
    )
    bundle: Path = Field(description="PEM file: the authorities of this peer, exchanged by hand.")
    trust_domain: DnsName | None = Field(default=None, description="Its SPIFFE trust domain.")
    spiffe_id: str | None = Field(
        default=None, description="Its exact SPIFFE ID; default any of its trust domain."
    )
    dns_name: DnsName | None = Field(
        default=None, description="For a peer without SPIFFE: a DNS SAN to require."
    )
    fingerprint: str | None = Field(
        default=None, description="For a peer without SPIFFE: SHA-256 of its certificate in hex."
    )
    api: Literal["v1alpha1", "v1alpha2", "auto"] = Field(
        default="v1alpha2", description="Protocol version to dial with; auto tries v1alpha2 first."
    )
    context: str = Field(
        default="", description="The federation agreed on with its operator (v1alpha2 only)."
    )
    accept: tuple[str, ...] = Field(
        default=("*",), description="Shell patterns of the FQDNs we take from it."
    )
    allow_endpoints: tuple[Cidr, ...] = Field(
        default=(),
        description="Networks allowed as endpoints although loopback, link-local or cloud metadata.",
    )
    import_into: tuple[str, ...] | Literal["all"] = Field(
        default="all", description="Names of registries, or all."
    )
    retain: Duration = Field(
        default=timedelta(hours=24),
        description="How long its services are kept when it is lost; 0: for ever.",
    )
    quiet: Duration = Field(
        default=timedelta(seconds=10),
        description="Without the snapshot extension: silence that ends its catalog.",
    )
    max_services: int = Field(default=10_000, ge=0, description="More services than this are refused.")
    max_message_bytes: int = Field(
        default=256 * 1024, ge=1024, le=4 * 1024 * 1024, description="A larger message is refused."
    )
    ack_timeout: Duration = Field(
        default=timedelta(seconds=60),
        description="As a consumer it must answer within this time, or its stream is closed.",
    )
    backoff_cap: Duration = Field(
        default=timedelta(seconds=60), ge=timedelta(seconds=1), description="Longest delay between two dials."
    )
    brake: Brake = Field(default_factory=Brake)

    @field_validator("fingerprint")
    @classmethod
    def _fingerprint(cls, value: str | None) -> str | None:
        if value is None:
            return None
        plain = value.replace(":", "").lower()
        if not re.fullmatch(r"[0-9a-f]{64}", plain):
            message = f"{value!r} must be a SHA-256 fingerprint: 64 hexadecimal digits, colons allowed"
            raise ValueError(message)
        return plain

    @model_validator(mode="after")
    def _known_by_one(self) -> Peer:
        known = [key for key in ("trust_domain", "dns_name", "fingerprint") if getattr(self, key)]
        if len(known) != 1:
            message = (
                "a peer is known by exactly one of trust_domain, dns_name and fingerprint"
                f" (given: {', '.join(known) or 'none'})"
            )
            raise ValueError(message)
        if self.spiffe_id is not None and (
            self.trust_domain is None or not self.spiffe_id.startswith(f"spiffe://{self.trust_domain}/")
        ):
            message = f"spiffe_id {self.spiffe_id!r} must lie in the peer's trust_domain"
            raise ValueError(message)
        return self


class Config(_Section):
    """The whole of hamlet.yaml."""

    mesh: Mesh
    identity: Identity
    listen: HostPort = Field(default="0.0.0.0:8008", description="host:port where peers dial us.")  # noqa: S104
    admin: Admin = Field(default_factory=Admin)
    log: Log = Field(default_factory=Log)
    plugins: tuple[str, ...] = Field(
        default=(),
        description="Further plugins to load, for example wrappers; adapters are loaded by their kind.",
    )
    registries: dict[DnsLabel, Registry] = Field(min_length=1)
    gateway: Gateway | None = None
    publish: tuple[PublishRule, ...] = ()
    peers: dict[DnsLabel, Peer] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_exist(self) -> Config:
        for number, rule in enumerate(self.publish):
            unknown = set() if rule.to == "all" else set(rule.to) - set(self.peers)
            if unknown:
                message = f"publish[{number}].to names {', '.join(sorted(unknown))}, not among the peers"
                raise ValueError(message)
            if rule.select.registry is not None and rule.select.registry not in self.registries:
                message = f"publish[{number}].select.registry names {rule.select.registry}, not among the registries"
                raise ValueError(message)
        for name, peer in self.peers.items():
            unknown = set() if peer.import_into == "all" else set(peer.import_into) - set(self.registries)
            if unknown:
                message = (
                    f"peers.{name}.import_into names {', '.join(sorted(unknown))}, not among the registries"
                )
                raise ValueError(message)
        domains = [peer.trust_domain for peer in self.peers.values() if peer.trust_domain]
        twice = sorted({domain for domain in domains if domains.count(domain) > 1})
        if twice or self.mesh.trust_domain in domains:
            message = f"two meshes share the trust domain {(twice or [self.mesh.trust_domain])[0]}; each has its own"
            raise ValueError(message)
        return self

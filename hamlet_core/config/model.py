"""The model of hamlet.yaml: every key, its default and its rule. It reads no file and resolves nothing.

Everything here is frozen; the rest of the core takes these objects as they are.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hamlet_core.api import Duration
from hamlet_core.config.driven import Coordinator, Egress, Gateway, Registry
from hamlet_core.config.values import (
    Cidr,
    DnsLabel,
    DnsName,
    HostPort,
    Inconsistent,
    Loc,
    LoopbackHostPort,
    Names,
    ReachableHostPort,
    Share,
    SpiffeId,
    Time,
    TrustDomain,
    dns_name,
    split_host_port,
)

__all__ = [
    "Admin",
    "Brake",
    "Config",
    "Identity",
    "Log",
    "Mesh",
    "Peer",
    "PublishRule",
    "Select",
    "split_host_port",
]


class _Section(BaseModel):
    """Unknown keys are errors; what was read does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True)


class Mesh(_Section):
    """Who we are to others."""

    name: DnsLabel = Field(description="Short name of this mesh; it appears in marks, logs and names of nodes.")
    domain: DnsName = Field(description="Published services get their names under this domain.")
    trust_domain: TrustDomain = Field(description="SPIFFE trust domain that our authority signs for.")


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

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severity that is written."
    )
    format: Literal["auto", "text", "json"] = Field(
        default="auto", description="auto: text on a terminal, JSON lines elsewhere."
    )


class Select(_Section):
    """Which services a rule is about: all conditions given must hold."""

    name: tuple[str, ...] = Field(
        default=("*",), min_length=1, description="Shell patterns; one must match the service's name."
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

    @field_validator("name", mode="before", json_schema_input_type=str | tuple[str, ...])
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class PublishRule(_Section):
    """Which services are published to whom, and as what. The first rule that fits a service and a peer decides."""

    select: Select = Field(default_factory=Select, description="Which services the rule is about.")
    to: Names = Field(description="Names of peers, or all; an empty list keeps what the rule selects from everybody.")
    name: str = Field(
        default="{name}.{domain}",
        description="The published FQDN; {name}, {registry}, {mesh} and {domain} are filled in.",
    )
    direct: bool = Field(
        default=False,
        description="Publish the service's own addresses, reachable from outside, instead of the gateway's.",
    )
    from_: Time | None = Field(default=None, alias="from", description="Not before this time (with zone).")
    until: Time | None = Field(default=None, description="Not from this time on (with zone).")

    @field_validator("name")
    @classmethod
    def _template(cls, value: str) -> str:
        message = f"{value!r}: only {{name}}, {{registry}}, {{mesh}} and {{domain}} are filled in"
        try:
            parts = list(string.Formatter().parse(value))
        except ValueError as error:
            raise ValueError(message) from error
        for _, field, spec, conversion in parts:
            if field is not None and (field not in {"name", "registry", "mesh", "domain"} or spec or conversion):
                raise ValueError(message)
        dns_name(value.format(name="name", registry="registry", mesh="mesh", domain="domain"))
        return value

    @model_validator(mode="after")
    def _order(self) -> PublishRule:
        if self.from_ and self.until and self.from_ >= self.until:
            raise Inconsistent(((("until",), "must be later than `from`"),))
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

    address: ReachableHostPort | None = Field(
        default=None, description="host:port of its agent; without it we wait for it to dial us."
    )
    bundle: Path = Field(description="PEM file: the authorities of this peer, exchanged by hand.")
    trust_domain: TrustDomain | None = Field(default=None, description="Its SPIFFE trust domain.")
    spiffe_id: SpiffeId | None = Field(
        default=None, description="Its exact SPIFFE ID; default any of its trust domain."
    )
    dns_name: DnsName | None = Field(default=None, description="For a peer without SPIFFE: a DNS SAN to require.")
    fingerprint: str | None = Field(
        default=None, description="For a peer without SPIFFE: SHA-256 of its certificate in hex."
    )
    api: Literal["v1alpha1", "v1alpha2", "auto"] = Field(
        default="v1alpha2", description="Protocol version to dial with; auto tries v1alpha2 first."
    )
    context: str = Field(default="", description="The federation agreed on with its operator (v1alpha2 only).")
    accept: tuple[str, ...] = Field(default=("*",), description="Shell patterns of the FQDNs we take from it.")
    allow_endpoints: tuple[Cidr, ...] = Field(
        default=(),
        description="Networks allowed as endpoints although loopback, link-local or cloud metadata.",
    )
    import_into: Names = Field(default="all", description="Names of registries, or all.")
    retain: Duration = Field(
        default=timedelta(hours=24),
        description="How long its services are kept when it is lost; 0: for ever.",
    )
    quiet: Duration = Field(
        default=timedelta(seconds=10),
        gt=timedelta(0),
        description="Without the snapshot extension: silence that ends its catalog.",
    )
    max_services: int = Field(default=10_000, ge=0, description="More services than this are refused.")
    max_message_bytes: int = Field(
        default=256 * 1024, ge=1024, le=4 * 1024 * 1024, description="A larger message is refused."
    )
    ack_timeout: Duration = Field(
        default=timedelta(seconds=60),
        gt=timedelta(0),
        description="As a consumer it must answer within this time, or its stream is closed.",
    )
    backoff_cap: Duration = Field(
        default=timedelta(seconds=60), ge=timedelta(seconds=1), description="Longest delay between two dials."
    )
    brake: Brake = Field(default_factory=Brake, description="Protection against losing its services all at once.")

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
        if self.spiffe_id and not self.spiffe_id.startswith(f"spiffe://{self.trust_domain}/"):
            message = f"{self.spiffe_id!r} must lie in the peer's trust_domain ({self.trust_domain or 'not given'})"
            raise Inconsistent(((("spiffe_id",), message),))
        return self


class Config(_Section):
    """The whole of hamlet.yaml."""

    mesh: Mesh = Field(description="Who we are to others.")
    identity: Identity = Field(description="Our certificate; `hamlet pki` makes one for development.")
    listen: HostPort = Field(
        default="0.0.0.0:8008",
        description="host:port where peers dial us.",
    )
    admin: Admin = Field(default_factory=Admin, description="How the operator reaches the running agent.")
    log: Log = Field(default_factory=Log, description="What the agent writes to standard error.")
    plugins: tuple[str, ...] = Field(
        default=(),
        description="Further plugins to load, for example wrappers; adapters are loaded by their kind.",
    )
    registries: dict[DnsLabel, Registry] = Field(
        min_length=1, description="Local registries by name: published from all, imported into those a peer names."
    )
    gateway: Gateway | None = Field(
        default=None,
        description="How calls enter and leave this mesh; without it only rules with `direct: true` publish.",
    )
    egress: Egress | None = Field(
        default=None, description="What leads calls out of this mesh, where that is another than `gateway`."
    )
    coordinator: Coordinator | None = Field(
        default=None, description="Which one of several agents of this mesh leads; without it this one does."
    )
    publish: tuple[PublishRule, ...] = Field(
        default=(), description="Rules in order; nothing is published without one."
    )
    peers: dict[DnsLabel, Peer] = Field(default_factory=dict, description="Other meshes by a name of our own.")

    @property
    def way_in(self) -> Gateway | None:
        """The plugin's gateway that leads calls into this mesh, if there is one."""
        return self.gateway if self.gateway is not None and not self.gateway.static else None

    @property
    def way_out(self) -> Gateway | Egress | None:
        """The plugin's gateway that leads calls out of this mesh, if there is one."""
        return self.egress or self.way_in

    @model_validator(mode="after")
    def _names_exist(self) -> Config:
        if problems := tuple(_contradictions(self)):
            raise Inconsistent(problems)
        return self


def _contradictions(config: Config) -> Iterator[tuple[Loc, str]]:
    """What one section says about another that is not there, or not so."""
    for number, rule in enumerate(config.publish):
        if rule.to != "all":
            for index, name in enumerate(rule.to):
                if name not in config.peers:
                    yield ("publish", number, "to", index), _not_among(name, "peers", config.peers)
        wanted = rule.select.registry
        if wanted is not None and wanted not in config.registries:
            yield (
                ("publish", number, "select", "registry"),
                _not_among(wanted, "registries", config.registries),
            )
    owners: dict[str, str] = {config.mesh.trust_domain: "this mesh"}
    for name, peer in config.peers.items():
        if peer.import_into != "all":
            for index, registry in enumerate(peer.import_into):
                if registry not in config.registries:
                    yield (
                        ("peers", name, "import_into", index),
                        _not_among(registry, "registries", config.registries),
                    )
        if peer.trust_domain:
            other = owners.setdefault(peer.trust_domain, f"peer {name}")
            if other != f"peer {name}":
                yield (
                    ("peers", name, "trust_domain"),
                    f"{peer.trust_domain!r} is the trust domain of {other} already; each mesh has its own",
                )


def _not_among(name: str, section: str, known: dict[str, Any]) -> str:
    return f"{name!r} is not among the {section} ({', '.join(known) or 'there are none'})"

"""The options of a gateway of kind `envoy`: every key, its default and its rule. It opens nothing."""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from hamlet_core.api import AdapterOptions, Duration

_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9])?)*\.?", re.IGNORECASE)


class Address(NamedTuple):
    """A host (an IP address without brackets, or a name) and a port."""

    host: str
    port: int


def parse_address(value: str) -> Address:
    """Read `host:port` or `[IPv6]:port`. Raises `ValueError` with a sentence."""
    host, colon, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= 65535:
        message = f"{value!r} is no address: write host:port or [IPv6]:port, with a port from 1 to 65535"
        raise ValueError(message)
    parse_host(host)
    return Address(host, int(port))


def parse_host(value: str) -> str:
    """Take an IP address or a domain name. Raises `ValueError` with a sentence."""
    if not is_ip(value) and (len(value) > 253 or not _HOST.fullmatch(value) or value.replace(".", "").isdigit()):
        message = f"{value!r} is neither an IP address nor a domain name"
        raise ValueError(message)
    return value


def is_ip(value: str) -> bool:
    """Whether `value` is an IP address, and no name."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _reachable(value: str) -> str:
    host = parse_address(value).host if ":" in value and not is_ip(value) else parse_host(value)
    if is_ip(host) and ipaddress.ip_address(host).is_unspecified:
        message = f"nobody can connect to {host}: name the address under which others reach this host"
        raise ValueError(message)
    return value


def _address(value: str) -> str:
    parse_address(value)
    return value


def _bound(value: str) -> str:
    host = parse_address(value).host if ":" in value and not is_ip(value) else value
    if not is_ip(host):
        message = f"{host!r} is no IP address: a socket is bound to an address of this host (0.0.0.0 and :: are all)"
        raise ValueError(message)
    return value


def _ports(value: str) -> str:
    first, dash, last = value.partition("-")
    numbers = [part for part in (first, last) if part.isascii() and part.isdigit()]
    if not dash or len(numbers) != 2 or not 1 <= int(first) <= int(last) <= 65535:
        message = f"{value!r} is no range of ports: write for example 20000-29999"
        raise ValueError(message)
    return value


class IngressOptions(BaseModel):
    """Where calls of other meshes come in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: Annotated[str, AfterValidator(_address), AfterValidator(_bound)] = Field(
        description="Address and port that Envoy listens on, for example `0.0.0.0:15443`."
    )
    advertise: tuple[Annotated[str, AfterValidator(_address), AfterValidator(_reachable)], ...] = Field(
        min_length=1,
        description="`host:port` under which other meshes reach `listen`; several where there are several ways.",
    )
    certificate: Path | None = Field(
        default=None, description="PEM file: another certificate than the mesh's own, with its chain; needs `key`."
    )
    key: Path | None = Field(default=None, description="PEM file: its private key.")
    sans: tuple[str, ...] = Field(
        default=(),
        description="Names that are published as the ingress's; default: URI and DNS names of its certificate.",
    )
    caller_header: bool = Field(
        default=False,
        description="Tell HTTP, HTTP2 and GRPC services who calls: `x-forwarded-client-cert` with the SPIFFE ID.",
    )

    @model_validator(mode="after")
    def _pair(self) -> IngressOptions:
        if (self.certificate is None) != (self.key is None):
            message = "`certificate` and `key` go together"
            raise ValueError(message)
        return self


class EgressOptions(BaseModel):
    """Where workloads of this mesh reach services of others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bind: Annotated[str, AfterValidator(_bound)] = Field(
        description="IP address that Envoy listens on; one that this mesh's workloads alone can reach."
    )
    advertise: Annotated[str, AfterValidator(parse_host), AfterValidator(_reachable)] | None = Field(
        default=None,
        description="IP address or name in registry entries; default `bind`, unless that is loopback or a wildcard.",
    )
    ports: Annotated[str, AfterValidator(_ports)] = Field(
        default="20000-29999", description="Range of ports; every port of an imported service gets one and keeps it."
    )

    @model_validator(mode="after")
    def _advertised(self) -> EgressOptions:
        bound = ipaddress.ip_address(self.bind)
        if self.advertise is None and (bound.is_unspecified or bound.is_loopback):
            message = (
                f"`advertise` is needed, as others cannot reach {self.bind}: the address under which the workloads"
                " of this mesh reach this host"
            )
            raise ValueError(message)
        return self

    @property
    def range(self) -> range:
        """The ports."""
        first, _, last = self.ports.partition("-")
        return range(int(first), int(last) + 1)

    @property
    def address(self) -> str:
        """What registry entries say."""
        return self.advertise or self.bind


class EnvoyOptions(AdapterOptions):
    """The keys of a gateway of kind `envoy`."""

    directory: Path = Field(description="Folder of the files that Envoy watches; private keys are among them (0700).")
    manage: bool = Field(default=True, description="Whether Hamlet starts and supervises Envoy, or it runs already.")
    binary: Path | None = Field(
        default=None, description="The program; default: the one of `hamlet-envoy[bundled]`, else `envoy` in PATH."
    )
    admin: str | None = Field(
        default=None,
        description="Envoy's admin interface, `127.0.0.1:port`; default: a Unix socket in `directory`.",
    )
    threads: Annotated[int, Field(ge=1, le=256)] | None = Field(
        default=None, description="Worker threads of a managed Envoy; default: one per processor."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="warning", description="Of a managed Envoy, whose log is `envoy.log` in `directory`."
    )
    drain: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(minutes=1))] = Field(
        default=timedelta(seconds=3),
        description="How long connections of a withdrawn service or a removed peer may still last; whole seconds.",
    )
    timeout: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(minutes=5))] = Field(
        default=timedelta(seconds=20), description="How long Envoy may take to come up, or to take a change."
    )
    ingress: IngressOptions | None = Field(default=None, description="Calls in; without it nothing is published.")
    egress: EgressOptions | None = Field(default=None, description="Calls out; without it nothing can be called.")

    @model_validator(mode="after")
    def _sides(self) -> EnvoyOptions:
        if self.ingress is None and self.egress is None:
            message = "neither `ingress` nor `egress` is there: a gateway has at least one"
            raise ValueError(message)
        if self.admin is not None:
            host = parse_address(self.admin).host
            if not is_ip(host) or not ipaddress.ip_address(host).is_loopback:
                message = (
                    f"`admin` {self.admin!r} is not on loopback: who reaches it can stop Envoy and read its state"
                )
                raise ValueError(message)
        return self

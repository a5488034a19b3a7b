"""The kinds of values in hamlet.yaml: shares, times, names, addresses. Each says how to write it right."""

from __future__ import annotations

import ipaddress
import re
from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, WithJsonSchema

Loc: TypeAlias = tuple[str | int, ...]
"""Where a key stands: names of keys and indexes of lists, from the top of the file."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252}[A-Za-z0-9_.])?")
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SPIFFE_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)+")
_NUMBER = re.compile(r"\d+(\.\d+)?")
_SHARE_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": r"^\d+(\.\d+)?%$|^0?\.\d+$|^[01](\.0+)?$"},
        {"type": "number", "minimum": 0, "maximum": 1},
    ]
}


class Inconsistent(ValueError):
    """Keys that are right by themselves and contradict each other: each place with what is wrong there."""

    def __init__(self, problems: tuple[tuple[Loc, str], ...]) -> None:
        super().__init__("; ".join(message for _, message in problems))
        self.problems = problems


def parse_share(value: object) -> object:
    """Read `30%` or a number between 0 and 1."""
    if isinstance(value, bool):
        message = f"{value!r} is no share: write a number between 0 and 1, or for example 30%"
        raise ValueError(message)
    if isinstance(value, str) and value.endswith("%") and _NUMBER.fullmatch(value[:-1]):
        return float(value[:-1]) / 100
    return value


def parse_time(value: object) -> object:
    """Refuse a bare number: a time is written out, and pydantic would take a number as seconds since 1970."""
    if isinstance(value, (str, datetime)) and not (isinstance(value, str) and _NUMBER.fullmatch(value)):
        return value
    message = f"{value!r} is no time: write for example 2026-03-01T08:00:00Z"
    raise ValueError(message)


def names_or_all(value: object) -> object:
    """Require `all` or a list of names; a single name outside a list is more often a slip than a wish."""
    if value == "all" or (isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)):
        return value
    message = "must be all or a list of names, for example [east, north]"
    raise ValueError(message)


def dns_label(value: str) -> str:
    """Require one label of RFC 1123: it becomes part of names in registries."""
    if not _LABEL.fullmatch(value):
        message = f"{value!r} must be lower-case letters, digits and hyphens, at most 63 characters"
        raise ValueError(message)
    return value


def dns_name(value: str) -> str:
    """Require a domain name of RFC 1123, lower-case, without a trailing dot."""
    if len(value) > 253 or not all(_LABEL.fullmatch(label) for label in value.split(".")):
        message = f"{value!r} is no domain name: lower-case labels of letters, digits and hyphens, joined by dots"
        raise ValueError(message)
    return value


def trust_domain(value: str) -> str:
    """Require the name of a SPIFFE trust domain (SPIFFE-ID, section 2.1), without the scheme."""
    if not _TRUST_DOMAIN.fullmatch(value):
        message = (
            f"{value!r} is no trust domain: lower-case letters, digits, dots, hyphens and underscores,"
            " without spiffe://"
        )
        raise ValueError(message)
    return value


def spiffe_id(value: str) -> str:
    """Require a SPIFFE ID with a path, at most 2,048 bytes (SPIFFE-ID, sections 2.1 to 2.3)."""
    domain, slash, path = value.removeprefix("spiffe://").partition("/")
    if (
        not value.startswith("spiffe://")
        or not _TRUST_DOMAIN.fullmatch(domain)
        or not _SPIFFE_PATH.fullmatch(slash + path)
        or len(value) > 2048
    ):
        message = f"{value!r} is no SPIFFE ID: write for example spiffe://east.example/agent"
        raise ValueError(message)
    return value


def host_port(value: str) -> str:
    """Require `host:port`, the host a name, an IPv4 address or an IPv6 address in brackets."""
    host, colon, port = value.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        message = f"{value!r} must be host:port, for example gateway.east.example:8008"
        raise ValueError(message)
    if host.startswith("[") and host.endswith("]"):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError as error:
            message = f"{value!r}: in the brackets stands no IPv6 address"
            raise ValueError(message) from error
    elif not _HOST.fullmatch(host):
        mend = "write an IPv6 address in brackets, for example [::1]:8008" if ":" in host else "without a scheme"
        message = f"{value!r} must be host:port, for example gateway.east.example:8008; {mend}"
        raise ValueError(message)
    return value


def reachable_host_port(value: str) -> str:
    """Require a `host:port` that someone can dial: port 0 is for listening alone."""
    if split_host_port(host_port(value))[1] == 0:
        message = f"{value!r} must name a port from 1 to 65535"
        raise ValueError(message)
    return value


def split_host_port(value: str) -> tuple[str, int]:
    """Divide a checked `host:port`; brackets of an IPv6 address are taken off."""
    host, _, port = value.rpartition(":")
    return host.strip("[]"), int(port)


def loopback_host_port(value: str) -> str:
    """Require a `host:port` that only this machine reaches."""
    host, _ = split_host_port(host_port(value))
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        message = f"{value!r} must be on loopback (127.0.0.1, [::1], localhost): it is not authenticated"
        raise ValueError(message)
    return value


def cidr(value: str) -> str:
    """Require a network such as `10.1.0.0/16`, or one address."""
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        message = f"{value!r} is no network: write for example 10.1.0.0/16, without host bits"
        raise ValueError(message) from error


Share = Annotated[float, BeforeValidator(parse_share), Field(ge=0, le=1), WithJsonSchema(_SHARE_SCHEMA)]
Time = Annotated[AwareDatetime, BeforeValidator(parse_time)]
Names = Annotated[tuple[str, ...] | Literal["all"], BeforeValidator(names_or_all)]
DnsLabel = Annotated[str, AfterValidator(dns_label)]
DnsName = Annotated[str, AfterValidator(dns_name)]
TrustDomain = Annotated[str, AfterValidator(trust_domain)]
SpiffeId = Annotated[str, AfterValidator(spiffe_id)]
HostPort = Annotated[str, AfterValidator(host_port)]
ReachableHostPort = Annotated[str, AfterValidator(reachable_host_port)]
LoopbackHostPort = Annotated[str, AfterValidator(loopback_host_port)]
Cidr = Annotated[str, AfterValidator(cidr)]

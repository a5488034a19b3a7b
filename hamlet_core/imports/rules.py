"""The rules a foreign service must keep: those of form (`validate`) and those of our policy (`accept`).

Each is an entry of a table. Nothing here knows what a registry holds or what other peers offer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

from hamlet_core.api import FederatedService, Protocol
from hamlet_core.config.model import Peer
from hamlet_core.identity.spiffe import IdentityError, SpiffeId
from hamlet_core.imports.addresses import address_fault, endpoint_fault, parse_ip
from hamlet_core.imports.names import host_name_fault

MAX_NAME = 1024
MAX_TEXT = 1024
MAX_DESCRIPTION = 4096
MAX_SAN = 2048
MAX_ENDPOINTS = 1000
MAX_INSTANCES = 100
MAX_ITEMS = 256

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SHOWN = 60
_PROTOCOLS = frozenset(Protocol)


def shorten(value: str) -> str:
    """`value` as a literal that is safe to print, cut to 60 characters."""
    shown = repr(value[: _SHOWN + 1])
    return shown if len(value) <= _SHOWN else f"{repr(value[:_SHOWN])[:-1]}...{shown[-1]} ({len(value)} characters)"


def _required(service: FederatedService) -> Iterator[str]:
    for field in ("name", "fqdn", "instances", "endpoints"):
        if not getattr(service, field):
            yield f"{field} is empty: the protocol requires it"


def _name(service: FederatedService) -> Iterator[str]:
    if len(service.name) > MAX_NAME:
        yield f"name {shorten(service.name)} is longer than {MAX_NAME} characters"
    if not service.name.isprintable():
        yield f"name {shorten(service.name)} has characters that cannot be printed"


def _fqdn(service: FederatedService) -> Iterator[str]:
    fault = host_name_fault(service.fqdn) if service.fqdn else None
    if fault:
        yield f"fqdn {shorten(service.fqdn)} is no host name of RFC 1123: {fault}"


def _counts(service: FederatedService) -> Iterator[str]:
    counts = [
        ("endpoints", len(service.endpoints), MAX_ENDPOINTS),
        ("instances", len(service.instances), MAX_INSTANCES),
        ("tags", len(service.tags), MAX_ITEMS),
        ("labels", len(service.labels), MAX_ITEMS),
        ("sans", len(service.sans), MAX_ITEMS),
    ]
    counts += [
        (f"endpoints[{number}].labels", len(endpoint.labels), MAX_ITEMS)
        for number, endpoint in enumerate(service.endpoints)
    ]
    for number, instance in enumerate(service.instances):
        counts.append((f"instances[{number}].metadata", len(instance.metadata), MAX_ITEMS))
        counts.append((f"instances[{number}].endpoint_selector", len(instance.endpoint_selector), MAX_ITEMS))
    for field, count, limit in counts:
        if count > limit:
            yield f"{field} has {count} entries, {limit} are allowed"


class _Text(NamedTuple):
    field: str
    value: str
    limit: int


def _texts(service: FederatedService) -> Iterator[_Text]:
    """Every string of a service but its name and FQDN (which have rules of their own), with its limit."""
    yield _Text("description", service.description, MAX_DESCRIPTION)
    for number, tag in enumerate(service.tags):
        yield _Text(f"tags[{number}]", tag, MAX_TEXT)
    for key, value in service.labels.items():
        yield _Text("labels (a key)", key, MAX_TEXT)
        yield _Text(f"labels[{shorten(key)}]", value, MAX_TEXT)
    for number, san in enumerate(service.sans):
        yield _Text(f"sans[{number}]", san, MAX_SAN)
    for number, endpoint in enumerate(service.endpoints):
        at = f"endpoints[{number}]"
        yield _Text(f"{at}.address", endpoint.address, MAX_TEXT)
        yield _Text(f"{at}.description", endpoint.description, MAX_DESCRIPTION)
        for label in endpoint.labels:
            yield _Text(f"{at}.labels", label, MAX_TEXT)
    for number, instance in enumerate(service.instances):
        at = f"instances[{number}]"
        yield _Text(f"{at}.id", instance.id, MAX_TEXT)
        yield _Text(f"{at}.protocol", instance.protocol, MAX_TEXT)
        yield _Text(f"{at}.description", instance.description, MAX_DESCRIPTION)
        for key, value in instance.metadata.items():
            yield _Text(f"{at}.metadata (a key)", key, MAX_TEXT)
            yield _Text(f"{at}.metadata[{shorten(key)}]", value, MAX_TEXT)
        for label in instance.endpoint_selector:
            yield _Text(f"{at}.endpoint_selector", label, MAX_TEXT)


def _sizes(service: FederatedService) -> Iterator[str]:
    for field, value, limit in _texts(service):
        if len(value) > limit:
            yield f"{field} {shorten(value)} is longer than {limit} characters"


def _control_characters(service: FederatedService) -> Iterator[str]:
    for field, value, _ in (_Text("fqdn", service.fqdn, 0), *_texts(service)):
        found = _CONTROL.search(value)
        if found:
            yield f"{field} {shorten(value)} has the control character U+{ord(found.group()):04X}"


def _ports(service: FederatedService) -> Iterator[str]:
    for number, endpoint in enumerate(service.endpoints):
        if not 1 <= endpoint.port <= 65535:
            yield f"endpoints[{number}].port {endpoint.port} is outside 1 to 65535"
    for number, instance in enumerate(service.instances):
        for key, value in instance.metadata.items():
            if key.upper() == "PORT" and value.isascii() and value.isdigit() and not _is_port(value):
                yield f"instances[{number}].metadata[{shorten(key)}] {shorten(value)} is outside 1 to 65535"


def _is_port(digits: str) -> bool:
    plain = digits.lstrip("0")
    return 0 < len(plain) <= 5 and int(plain) <= 65535


def _addresses(service: FederatedService) -> Iterator[str]:
    for number, endpoint in enumerate(service.endpoints):
        fault = address_fault(endpoint.address)
        if fault:
            yield f"endpoints[{number}].address {shorten(endpoint.address)} {fault}"


def _protocols(service: FederatedService) -> Iterator[str]:
    for number, instance in enumerate(service.instances):
        if instance.protocol not in _PROTOCOLS:
            names = ", ".join(Protocol)
            yield f"instances[{number}].protocol {shorten(instance.protocol)} is none of {names}"


def _sans(service: FederatedService) -> Iterator[str]:
    for number, san in enumerate(service.sans):
        if len(san) > MAX_SAN or _CONTROL.search(san):
            continue  # the rules on sizes and on control characters speak of it
        if "://" in san:
            try:
                SpiffeId.parse(san)
            except IdentityError as error:
                yield f"sans[{number}] {shorten(san)} is no SPIFFE ID: {error}"
        elif parse_ip(san) is None:
            fault = host_name_fault(san)
            if fault:
                yield f"sans[{number}] {shorten(san)} is no SPIFFE ID, DNS name or IP address: {fault}"


class Rule(NamedTuple):
    """A rule of form: what it is about, the check (which yields what it finds), and where it comes from."""

    name: str
    check: Callable[[FederatedService], Iterator[str]]
    source: str


_SPEC = "Hamlet, federation.types.v1alpha2.FederatedService"
_OURS = "our limit: it bounds what one message can cost a registry"

RULES: tuple[Rule, ...] = (
    Rule("required fields", _required, _SPEC),
    Rule("printable name", _name, f"{_SPEC}, name (the key); {_OURS}"),
    Rule("FQDN", _fqdn, f"{_SPEC}, fqdn; RFC 1123, section 2.1; RFC 1035, section 2.3.4"),
    Rule("counts", _counts, _OURS),
    Rule("sizes", _sizes, _OURS),
    Rule("control characters", _control_characters, "terminals and logs show these strings to operators"),
    Rule("ports", _ports, f"{_SPEC}.Endpoint, port; RFC 9293, section 3.1"),
    Rule("addresses", _addresses, f"{_SPEC}.Endpoint, address; zones (RFC 4007) mean something on one machine only"),
    Rule("protocols", _protocols, f"{_SPEC}.Instance, protocol"),
    Rule("subject alternative names", _sans, "SPIFFE-ID, section 2; RFC 5280, section 4.2.1.6"),
)


def validate(service: FederatedService) -> tuple[str, ...]:
    """Why `service` is not well-formed: the first finding of each rule of `RULES`, empty when it is.

    Who sent it, and whether we want it, does not matter here.
    """
    findings = (next(rule.check(service), None) for rule in RULES)
    return tuple(finding for finding in findings if finding is not None)


def accept(
    service: FederatedService, peer: Peer, *, local_names: frozenset[str], own_domain: str, peer_name: str = "PEER"
) -> str | None:
    """Why our policy refuses the well-formed `service` of `peer`, or None when it is welcome.

    `local_names` are lower-case: names of services in the local registry and FQDNs of ours. `own_domain`
    is the domain under which we publish. `peer_name` is the peer's key in the configuration.
    """
    fqdn = service.fqdn.lower()
    if not any(fnmatchcase(fqdn, pattern.lower()) for pattern in peer.accept):
        return f"fqdn {shorten(fqdn)} fits no pattern we take from this peer: add it to peers.{peer_name}.accept"
    if fqdn in local_names:
        return (
            f"fqdn {shorten(fqdn)} is the name of a local service, which goes first: one of the two needs"
            " another name"
        )
    domain = own_domain.lower()
    if fqdn == domain or fqdn.endswith(f".{domain}"):
        return (
            f"fqdn {shorten(fqdn)} lies under our own domain {domain} (mesh.domain), where only we name services:"
            " the owner has to publish it under another name"
        )
    for number, endpoint in enumerate(service.endpoints):
        fault = endpoint_fault(endpoint.address, peer.allow_endpoints)
        if fault:
            return (
                f"endpoints[{number}].address {shorten(endpoint.address)} {fault.what}: if you trust this peer"
                f" with that, add {fault.network} to peers.{peer_name}.allow_endpoints"
            )
    return None

"""An imported service as ports and the places that serve them: what both variants are written from. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from itertools import chain

from hamlet_core.api import FederatedService, ImportedService, Instance, InvalidService
from hamlet_istio.naming import port_name

ISTIO_PROTOCOLS = {
    "HTTP": "HTTP",
    "HTTPS": "HTTPS",
    "GRPC": "GRPC",
    "HTTP2": "HTTP2",
    "MONGO": "MONGO",
    "TCP": "TCP",
    "TLS": "TLS",
    "MTLS": "TLS",
}
"""Hamlet's protocols as Istio calls them (Istio, "Protocol Selection")."""
_USUAL = {"HTTP": 80, "HTTP2": 80, "GRPC": 80, "HTTPS": 443, "TLS": 443, "MTLS": 443, "MONGO": 27017, "TCP": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port as callers use it. `places` are the (address, port) to connect to for it, in the order they came in."""

    name: str
    number: int
    protocol: str
    sni: str
    places: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The ports of a service, and what of it could not be said, for people."""

    ports: tuple[Port, ...]
    left_out: str = ""


def offer_of(imported: ImportedService) -> Offer:
    """Make one port of each instance.

    Its number is the instance's PORT; without one the port of the owner's first endpoint, then the usual one of its
    protocol, then the next higher that is free: callers use the same port whether or not a gateway leads them there.
    Of two instances that name the same number the first has it. An instance that the route gives no address is left
    out.
    """
    service = imported.service
    if not service.endpoints:
        message = f"{service.name} has no endpoint"
        raise InvalidService(message)
    places = {each.id: _places(imported, each) for each in service.instances}
    served = [each for each in service.instances if places[each.id]]
    if not served:
        message = f"the gateway gives no address for any instance of {service.name}"
        raise InvalidService(message)
    left_out = [
        f"{each.id}: the gateway gives no address for it" for each in service.instances if not places[each.id]
    ]
    numbers: dict[int, Instance] = {}
    for instance in served:
        if instance.port is not None:
            first = numbers.setdefault(instance.port, instance)
            if first is not instance:
                left_out.append(f"{instance.id}: port {instance.port} is {first.id}'s")
    for instance in served:
        if instance.port is None:
            numbers[_free(instance, service, numbers)] = instance
    ports, names = [], set[str]()
    for instance in served:
        number = next((each for each, holder in numbers.items() if holder is instance), None)
        if number is None:
            continue
        name = port_name(ISTIO_PROTOCOLS[instance.protocol].lower(), instance.id, names)
        names.add(name)
        ports.append(
            Port(
                name=name,
                number=number,
                protocol=instance.protocol,
                sni=instance.sni,
                places=places[instance.id],
            )
        )
    return Offer(ports=tuple(ports), left_out="; ".join(left_out))


def _places(imported: ImportedService, instance: Instance) -> tuple[tuple[str, int], ...]:
    return tuple(dict.fromkeys((each.address, each.port) for each in imported.endpoints_of(instance)))


def is_address(text: str) -> bool:
    """Whether it is an IP address and not a name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _free(instance: Instance, service: FederatedService, taken: dict[int, Instance]) -> int:
    wishes: tuple[int, ...] = (service.endpoints_of(instance)[0].port, _USUAL[instance.protocol])
    for number in chain(wishes, range(wishes[0] + 1, 65536), range(1, wishes[0])):
        if number and number not in taken:
            return number
    message = f"{service.name} has no port left for {instance.id}"
    raise InvalidService(message)

"""An import as plain Kubernetes has it: a Service without a selector, and where it is served. Pure."""

from __future__ import annotations

import ipaddress
from typing import Any

from hamlet_core.api import ImportedService, InvalidService
from hamlet_istio.marks import Marker
from hamlet_istio.naming import hashed_name, object_name
from hamlet_istio.offer import Port, is_address, offer_of
from hamlet_istio.options import IstioOptions

Object = dict[str, Any]
APP_PROTOCOLS = {"HTTP": "http", "HTTPS": "https", "GRPC": "grpc", "HTTP2": "kubernetes.io/h2c", "MONGO": "mongo"}
"""`appProtocol` of a port, where there is a word for it (Kubernetes, "Application protocol"; IANA)."""


def objects_for(service: ImportedService, options: IstioOptions, marker: Marker, version: str) -> list[Object]:
    """The Service, then its EndpointSlices or Endpoints; `InvalidService` when it cannot be said.

    `version` is the API of the latter: `v1` means Endpoints.
    """
    offer = offer_of(service)
    names = sorted({place for port in offer.ports for place, _ in port.places if not is_address(place)})
    ports = [(port, [(place, number) for place, number in port.places if is_address(place)]) for port in offer.ports]
    if not all(places for _, places in ports):
        message = (
            f"{service.service.name} is served at {', '.join(names)}; a Service needs IP addresses:"
            " the owner has to publish those, or take `mode: istio` here"
        )
        raise InvalidService(message)
    left_out = "; ".join(
        filter(None, (offer.left_out, ", ".join(f"endpoint {name} is no address" for name in names)))
    )
    metadata = {"name": object_name(service.local_name), "namespace": options.import_namespace}
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"ports": [_service_port(port) for port, _ in ports]},
    }
    served = _endpoints(metadata, ports) if version == "v1" else _slices(metadata, ports, version)
    return marker.marked(service, [body, *served], left_out)


def _service_port(port: Port) -> Object:
    said = APP_PROTOCOLS.get(port.protocol)
    # `protocol` must be said: server-side apply knows a port by its number and protocol.
    found: Object = {"name": port.name, "port": port.number, "protocol": "TCP", "targetPort": port.number}
    return {**found, "appProtocol": said} if said else found


def _endpoints(metadata: Object, ports: list[tuple[Port, list[tuple[str, int]]]]) -> list[Object]:
    subsets = [
        {
            "addresses": [{"ip": address} for address in addresses],
            "ports": [{"name": name, "port": number, "protocol": "TCP"} for name, number in numbers],
        }
        for numbers, addresses in _groups(ports)
    ]
    return [{"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets}]


def _slices(metadata: Object, ports: list[tuple[Port, list[tuple[str, int]]]], version: str) -> list[Object]:
    made: list[Object] = []
    for numbers, addresses in _groups(ports):
        for family in (4, 6):
            of_family = [each for each in addresses if ipaddress.ip_address(each).version == family]
            if of_family:
                name = metadata["name"]
                own = name if not made else hashed_name(name, f"{name}/{len(made)}")
                labels = {"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "hamlet"}
                made.append(
                    {
                        "apiVersion": version,
                        "kind": "EndpointSlice",
                        "metadata": {**metadata, "name": own, "labels": labels},
                        "addressType": f"IPv{family}",
                        "endpoints": [{"addresses": [each], "conditions": {"ready": True}} for each in of_family],
                        "ports": [{"name": port, "port": number, "protocol": "TCP"} for port, number in numbers],
                    }
                )
    return made


def _groups(
    ports: list[tuple[Port, list[tuple[str, int]]]],
) -> list[tuple[list[tuple[str, int]], list[str]]]:
    """Which (port name, number) go together at which addresses."""
    at: dict[str, dict[str, list[int]]] = {}
    for port, places in ports:
        for address, number in places:
            at.setdefault(address, {}).setdefault(port.name, []).append(number)
    groups: dict[tuple[tuple[str, int], ...], list[str]] = {}
    for address, numbers in at.items():
        for row in range(max(map(len, numbers.values()))):
            chosen = tuple((name, each[row]) for name, each in numbers.items() if row < len(each))
            groups.setdefault(chosen, []).append(address)
    return [(list(numbers), addresses) for numbers, addresses in groups.items()]

"""An import as Istio has it: a ServiceEntry, and of the same name a DestinationRule in each namespace that needs one.

Pure.

A rule never has an `sni` without `subjectAltNames`: sidecars would then take any certificate. Where the gateway
originates TLS, sidecars speak the plain protocol to it and verify nothing: the gateway does.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from hamlet_core.api import ImportedService, InvalidService
from hamlet_istio.marks import Marker
from hamlet_istio.naming import object_name
from hamlet_istio.offer import ISTIO_PROTOCOLS, Offer, Port, is_address, offer_of
from hamlet_istio.options import IstioOptions, TlsOrigination
from hamlet_istio.settings import tls_said

Object = dict[str, Any]
_TOLD_APART_BY_ADDRESS = frozenset({"TCP", "MONGO"})
"""Protocols of which a sidecar sees no host: two services on one port need different addresses."""


def objects_for(
    service: ImportedService, options: IstioOptions, marker: Marker, version: str, address: str | None
) -> list[Object]:
    """The rules, then the entry, in the order in which they are written; `InvalidService` when it cannot be said.

    `version` is `networking.istio.io/...`, `address` the virtual address, or None.
    """
    offer = offer_of(service)
    tls = _tls_of(service, options)
    host = service.local_name
    if host == options.cluster_domain or host.endswith((f".{options.cluster_domain}", ".svc")):
        message = f"{host!r} is a name of the cluster itself: the owner has to publish it under another one"
        raise InvalidService(message)
    metadata = {"name": object_name(host), "namespace": options.import_namespace}
    rules = [
        {
            "apiVersion": version,
            "kind": "DestinationRule",
            "metadata": {**metadata, "namespace": namespace},
            "spec": spec,
        }
        for namespace, spec in _rules(service, offer, options, tls)
    ]
    addresses = sorted({place for port in offer.ports for place, _ in port.places})
    entry = {
        "apiVersion": version,
        "kind": "ServiceEntry",
        "metadata": metadata,
        "spec": {
            "hosts": [host],
            **({"addresses": [address]} if address else {}),
            "location": "MESH_EXTERNAL",
            # DNS takes addresses too, so it serves where there are both.
            "resolution": "STATIC" if all(map(is_address, addresses)) else "DNS",
            "ports": [
                {"number": port.number, "name": port.name, "protocol": ISTIO_PROTOCOLS[port.protocol]}
                for port in offer.ports
            ],
            "endpoints": _endpoints(service, offer.ports),
            "exportTo": list(options.export_to),
            **({"subjectAltNames": list(service.service.sans)} if service.service.sans and tls else {}),
        },
    }
    return marker.marked(service, [*rules, entry], offer.left_out)


def needs_address(service: ImportedService) -> bool:
    """Whether the sidecars tell it from others only by its address."""
    return any(instance.protocol in _TOLD_APART_BY_ADDRESS for instance in service.service.instances)


def consumers_of(service: ImportedService, options: IstioOptions) -> frozenset[str]:
    """The namespaces with a rule of their own for this import; `InvalidService` for a route that cannot be read."""
    tls = _tls_of(service, options)
    return frozenset(tls.selectors(options.import_namespace)) if tls and service.service.sans else frozenset()


def _tls_of(service: ImportedService, options: IstioOptions) -> TlsOrigination | None:
    """How sidecars originate TLS: as the gateway says, else as the options do; None where the gateway does it."""
    if service.route is None:
        return options.tls
    return None if service.route.originates_tls else tls_said(service.route.settings) or options.tls


def _rules(
    service: ImportedService, offer: Offer, options: IstioOptions, tls: TlsOrigination | None
) -> Iterator[tuple[str, Object]]:
    """The content of each rule, by namespace."""
    spec = _rule(service, offer, options, tls)
    selectors = tls.selectors(options.import_namespace) if tls and service.service.sans else {}
    for namespace, labels in selectors.items():
        yield namespace, {**spec, "exportTo": ["."], "workloadSelector": {"matchLabels": dict(labels)}}
    if not selectors:
        yield options.import_namespace, spec


def _rule(service: ImportedService, offer: Offer, options: IstioOptions, tls: TlsOrigination | None) -> Object:
    spec: Object = {"host": service.local_name, "exportTo": list(options.export_to)}
    # Said, not left out: a rule of the mesh for all hosts may ask for TLS.
    without_tls = {**spec, "trafficPolicy": {"tls": {"mode": "DISABLE"}}}
    if tls is None:
        return without_tls
    if not service.service.sans:
        if not options.plaintext:
            message = (
                f"{service.service.name} names no SANs, so nothing would tell its ingress from an impostor:"
                " the owner has to publish them; `plaintext: true` imports it to be called without TLS"
            )
            raise InvalidService(message)
        return without_tls
    settings = {
        "mode": tls.mode,
        **({"clientCertificate": tls.client_certificate} if tls.client_certificate else {}),
        **({"privateKey": tls.private_key} if tls.private_key else {}),
        **({"caCertificates": tls.ca_certificates} if tls.ca_certificates else {}),
        **({"credentialName": tls.credential_name} if tls.credential_name else {}),
        "subjectAltNames": list(service.service.sans),
    }
    each = [{**settings, "sni": port.sni or service.service.fqdn} for port in offer.ports]
    policy: Object = {"tls": each[0]}
    if len({one["sni"] for one in each}) > 1:
        policy["portLevelSettings"] = [
            {"port": {"number": port.number}, "tls": one} for port, one in zip(offer.ports, each, strict=True)
        ]
    return {**spec, "trafficPolicy": policy}


def _endpoints(service: ImportedService, ports: tuple[Port, ...]) -> list[Object]:
    """One row per address with the port of each of our ports there; more rows where an address has several.

    Every endpoint of a ServiceEntry serves every port of it, so all ports must be served at the same addresses.
    """
    served = [
        {address: [number for at, number in port.places if at == address] for address, _ in port.places}
        for port in ports
    ]
    for port, places in zip(ports[1:], served[1:], strict=True):
        if places.keys() != served[0].keys():
            message = (
                f"{service.service.name} serves {ports[0].name} and {port.name} at different addresses, which one"
                " ServiceEntry cannot say: the owner has to publish them through a gateway, or as two services"
            )
            raise InvalidService(message)
    rows = []
    for address in served[0]:
        for numbers in zip_longest(*(places[address] for places in served)):
            chosen = [
                number if number is not None else places[address][0]
                for number, places in zip(numbers, served, strict=True)
            ]
            rows.append({"address": address, "ports": dict(zip((port.name for port in ports), chosen, strict=True))})
    return rows

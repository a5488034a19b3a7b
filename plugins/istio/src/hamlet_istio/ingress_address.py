"""How other meshes reach the ingress gateway: by its Service's status, by nodes, or as configured; as it changes."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hamlet_core.api import Endpoint, GatewayUnavailable, HamletError, Ingress, Stop
from hamlet_istio.connection import Connection
from hamlet_istio.gateway_options import IngressOptions, place_of
from hamlet_istio.reflector import Changed, Failed, Listed, News, Reflector
from hamlet_istio.resources import NODES, SERVICES

Object = dict[str, Any]
NODES_TOLD = 16
"""Nodes that are published, at most, the first by name: a caller needs a few ways, not a thousand."""
_LOOK = 0.5
"""Seconds between two looks whether the mesh's certificate is another."""
UNKNOWN_FOR = 5.0
"""Seconds after which an ingress that is not known is reported as that."""


def endpoints_of(
    service: Object | None, nodes: Mapping[str, Object], options: IngressOptions
) -> tuple[Endpoint, ...] | str:
    """The addresses with their ports, or why there are none. Pure."""
    if options.advertise:
        places = map(place_of, options.advertise)
        return tuple(Endpoint(address=place.host, port=place.port) for place in places)
    name = f"Service {options.namespace}/{options.service}"
    if service is None:
        return f"{name} is not there: name the one of the ingress gateway in `service` and `namespace`"
    ports = (service.get("spec") or {}).get("ports") or ()
    port = next((each for each in ports if each["port"] == options.port), None)
    if port is None:
        numbers = ", ".join(str(each["port"]) for each in ports) or "none"
        return f"{name} has no port {options.port} ({numbers}): add it, or set `port`"
    if options.address == "node_port":
        number = port.get("nodePort")
        if not number:
            return f"{name} has no node port for {options.port}: make its type NodePort or LoadBalancer"
        found = _addresses_of_nodes(nodes)
        return tuple(Endpoint(address=each, port=number) for each in found) or "no node is ready and has an address"
    status = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    found = [each.get("ip") or each.get("hostname") for each in status]
    known = sorted({each for each in found if each})
    if not known:
        return f"{name} has no address yet: its load balancer has not assigned one"
    return tuple(Endpoint(address=each, port=options.port) for each in known)


def _addresses_of_nodes(nodes: Mapping[str, Object]) -> Sequence[str]:
    found = []
    for _, node in sorted(nodes.items()):
        status = node.get("status") or {}
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ())
        by_type = {each["type"]: each["address"] for each in reversed(status.get("addresses") or ())}
        address = by_type.get("ExternalIP") or by_type.get("InternalIP")
        if ready and address and address not in found:
            found.append(address)
    return found[:NODES_TOLD]


def follow(
    connection: Connection, options: IngressOptions, seconds: float, names: Callable[[], tuple[str, ...]], stop: Stop
) -> Iterator[Ingress]:
    """Yield the ingress whenever it is another; `GatewayUnavailable` when it stays unknown, or cannot be followed.

    `names` are those of the certificate that is presented, `seconds` how long a watch stands.
    """
    own = Stop()  # ends what we started, however this ends
    news: queue.SimpleQueue[News] = queue.SimpleQueue()
    stop.on_stop(lambda: news.put(None))
    try:
        yield from _states(_followed(connection, options, seconds, news, own), options, names, news, stop)
    finally:
        own.set()


def _followed(
    connection: Connection, options: IngressOptions, seconds: float, news: queue.SimpleQueue[News], own: Stop
) -> set[str]:
    """Begin to follow what the address depends on; its kinds."""
    if options.advertise:
        return set()
    wanted = [(SERVICES, options.namespace), *([(NODES, None)] if options.address == "node_port" else [])]
    for resource, namespace in wanted:
        Reflector(connection, resource, namespace, seconds, news).start(own, f"istio-ingress-{resource.plural}")
    return {resource.kind for resource, _ in wanted}


def _states(
    waited: set[str],
    options: IngressOptions,
    names: Callable[[], tuple[str, ...]],
    news: queue.SimpleQueue[News],
    stop: Stop,
) -> Iterator[Ingress]:
    seen: dict[str, dict[str, Object]] = {SERVICES.kind: {}, NODES.kind: {}}
    told: Ingress | None = None
    unknown_since = time.monotonic()
    while not stop.is_set():
        if not waited:
            sans = options.sans or names()
            endpoints = endpoints_of(seen[SERVICES.kind].get(options.service), seen[NODES.kind], options)
            reason = (
                endpoints if isinstance(endpoints, str) else "" if sans else "the mesh's certificate has no names"
            )
            if not reason and not isinstance(endpoints, str):
                unknown_since = time.monotonic()
                ingress = Ingress(endpoints=endpoints, sans=sans)
                if ingress != told:
                    yield ingress
                    told = ingress
            elif time.monotonic() - unknown_since > UNKNOWN_FOR:
                raise GatewayUnavailable(reason)
        _take(news, seen, waited)


def _take(news: queue.SimpleQueue[News], seen: dict[str, dict[str, Object]], waited: set[str]) -> None:
    try:
        piece = news.get(timeout=_LOOK)
    except queue.Empty:
        return
    match piece:
        case Listed():
            seen[piece.resource.kind] = {each["metadata"]["name"]: each for each in piece.objects}
            waited.discard(piece.resource.kind)
        case Changed(gone=True):
            seen[piece.resource.kind].pop(piece.object["metadata"]["name"], None)
        case Changed():
            seen[piece.resource.kind][piece.object["metadata"]["name"]] = piece.object
        case Failed():
            mend = piece.error.mend if isinstance(piece.error, HamletError) else ""
            raise GatewayUnavailable(str(piece.error), mend=mend) from piece.error

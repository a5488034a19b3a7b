"""What a Service or a ServiceEntry of the cluster is as a service of the mesh. Pure; the rules are the README's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hamlet_core.api import Endpoint, LocalService, Protocol, ServicePort
from hamlet_istio.marks import PREFIX, annotations_of, is_marked
from hamlet_istio.options import ISTIO_SAN, IstioOptions

Object = dict[str, Any]
Identity = Callable[[str, str], str | None]
"""The service account of a pod, by namespace and name; None when the pod is gone."""

DESCRIPTION, TAGS = f"{PREFIX}description", f"{PREFIX}tags"
PROTOCOLS = {
    "http": Protocol.HTTP,
    "http2": Protocol.HTTP2,
    "https": Protocol.HTTPS,
    "grpc": Protocol.GRPC,
    "grpc-web": Protocol.GRPC,
    "mongo": Protocol.MONGO,
    "tcp": Protocol.TCP,
    "tls": Protocol.TLS,
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.HTTPS,
}
"""Words for protocols (Istio, "Protocol Selection"; Kubernetes, "Application protocol"); any other is TCP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one port of a service is served, and by which pod, if it is one."""

    address: str
    port_name: str
    port: int
    ready: bool
    pod: str | None = None
    uid: str = ""
    """Of the pod: another one may come under the same name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the options say about reading."""

    trust_domain: str
    san: str
    external_san: str
    unready: bool
    publish_annotation: str

    @classmethod
    def of(cls, options: IstioOptions, trust_domain: str) -> Rules:
        """Fill in the defaults that depend on others."""
        return cls(
            trust_domain=options.trust_domain or trust_domain,
            san=options.san if options.san is not None else (ISTIO_SAN if options.istio else ""),
            external_san=options.external_san or "",
            unready=options.unready,
            publish_annotation=options.publish_annotation or "",
        )


def is_candidate(service: Object) -> bool:
    """Whether a Service can be published: no alias of DNS, nothing imported, not the API server itself."""
    metadata = service["metadata"]
    return (
        (service.get("spec") or {}).get("type") != "ExternalName"
        and not is_marked(service)
        and (metadata["namespace"], metadata["name"]) != ("default", "kubernetes")
    )


def is_workload_entry(entry: Object) -> bool:
    """Whether a ServiceEntry is of this mesh's own (virtual machines), not a note about somebody else's service."""
    return (entry.get("spec") or {}).get("location") == "MESH_INTERNAL" and not is_marked(entry)


def selector_of(entry: Object) -> dict[str, str]:
    """The labels by which a ServiceEntry selects its workloads, WorkloadEntries and pods; empty: by none."""
    return ((entry.get("spec") or {}).get("workloadSelector") or {}).get("labels") or {}


def workload_of(pod: Object, *, unready: bool) -> Object | None:
    """A pod as the WorkloadEntry it stands for where it is selected; None while it does not serve.

    As in Istio, it serves once it has an address and is ready, until it is told to end.
    """
    status, spec = pod.get("status") or {}, pod.get("spec") or {}
    ready = any(
        each.get("type") == "Ready" and each.get("status") == "True" for each in status.get("conditions") or ()
    )
    ended = "deletionTimestamp" in pod["metadata"] or status.get("phase") in ("Succeeded", "Failed")
    if not status.get("podIP") or ended or not (ready or unready):
        return None
    account = spec.get("serviceAccountName") or "default"
    return {"metadata": pod["metadata"], "spec": {"address": status["podIP"], "serviceAccount": account}}


def protocol_of(name: str, app_protocol: str | None) -> Protocol:
    """`appProtocol` first, then the port's name (`<protocol>` or `<protocol>-<anything>`)."""
    if app_protocol:
        return PROTOCOLS.get(app_protocol.lower(), Protocol.TCP)
    plain = name.lower()
    if plain.startswith("grpc-web"):
        return Protocol.GRPC
    return PROTOCOLS.get(plain.partition("-")[0], Protocol.TCP)


def places_of_slice(piece: Object) -> Iterator[Place]:
    """The TCP places of an EndpointSlice (v1 or v1beta1); an endpoint that says nothing about it is ready."""
    for endpoint in piece.get("endpoints") or ():
        ready = (endpoint.get("conditions") or {}).get("ready") is not False
        for address in endpoint.get("addresses") or ():
            yield from _places(address, piece.get("ports") or (), ready, endpoint.get("targetRef"))


def places_of_endpoints(endpoints: Object) -> Iterator[Place]:
    """The TCP places of Endpoints."""
    for subset in endpoints.get("subsets") or ():
        for key, ready in (("addresses", True), ("notReadyAddresses", False)):
            for each in subset.get(key) or ():
                yield from _places(each["ip"], subset.get("ports") or (), ready, each.get("targetRef"))


def _places(address: str, ports: Iterable[Object], ready: bool, target: Object | None) -> Iterator[Place]:
    is_pod = target is not None and target.get("kind") == "Pod"
    pod, uid = (target["name"], target.get("uid", "")) if target and is_pod else (None, "")
    for port in ports:
        if port.get("protocol", "TCP") == "TCP" and port.get("port"):
            yield Place(
                address=address, port_name=port.get("name") or "", port=port["port"], ready=ready, pod=pod, uid=uid
            )


def from_service(service: Object, places: Iterable[Place], rules: Rules, identity: Identity) -> LocalService:
    """A Service, headless or not, as it is served at `places`."""
    metadata, spec = service["metadata"], service.get("spec") or {}
    namespace, name = metadata["namespace"], metadata["name"]
    ports, known = [], set[str]()
    for port in spec.get("ports") or ():
        if port.get("protocol", "TCP") == "TCP":
            said = port.get("name") or ""
            known.add(said)
            protocol = protocol_of(said, port.get("appProtocol"))
            ports.append(ServicePort(name=said or protocol.value.lower(), port=port["port"], protocol=protocol))
    unnamed = ports[0].name if "" in known else ""
    used = [place for place in places if place.port_name in known and (place.ready or rules.unready)]
    endpoints = {Endpoint(address=each.address, port=each.port, labels=(each.port_name or unnamed,)) for each in used}
    return _service(service, ports, endpoints, _sans(namespace, name, used, rules, identity), rules)


def _sans(namespace: str, name: str, used: Sequence[Place], rules: Rules, identity: Identity) -> tuple[str, ...]:
    sans = set()
    for pod in {each.pod for each in used}:
        account = identity(namespace, pod) if pod is not None else None
        if account is not None and rules.san:
            sans.add(_filled(rules.san, rules, namespace, name, account))
        elif pod is None and rules.external_san:
            sans.add(_filled(rules.external_san, rules, namespace, name, "default"))
    return tuple(sorted(sans))


def _filled(template: str, rules: Rules, namespace: str, name: str, account: str) -> str:
    return template.format(trust_domain=rules.trust_domain, namespace=namespace, name=name, service_account=account)


def from_entry(entry: Object, workloads: Iterable[Object], rules: Rules) -> LocalService:
    """A ServiceEntry: its own endpoints, and those of `workloads` (WorkloadEntries, pods as such) that it selects."""
    metadata, spec = entry["metadata"], entry.get("spec") or {}
    namespace, name = metadata["namespace"], metadata["name"]
    ports = [
        ServicePort(name=port["name"], port=port["number"], protocol=protocol_of(str(port.get("protocol", "")), None))
        for port in spec.get("ports") or ()
        if str(port.get("protocol", "")).upper() != "UDP"
    ]
    targets = {port["name"]: port.get("targetPort") or port["number"] for port in spec.get("ports") or ()}
    served = list(spec.get("endpoints") or ())
    if selected := selector_of(entry):
        served += [
            each["spec"]
            for each in workloads
            if selected.items()
            <= ((each["spec"].get("labels") or {}) | (each["metadata"].get("labels") or {})).items()
        ]
    endpoints = {
        Endpoint(
            address=each["address"],
            port=(each.get("ports") or {}).get(port.name) or targets[port.name],
            labels=(port.name,),
        )
        for each in served
        if each.get("address") and not each["address"].startswith("unix:")
        for port in ports
    }
    sans = set(spec.get("subjectAltNames") or ())
    if not sans:
        accounts = {each["serviceAccount"] for each in served if each.get("serviceAccount")}
        template = rules.san if accounts else rules.external_san
        if template:
            sans = {_filled(template, rules, namespace, name, account) for account in accounts or {"default"}}
    return _service(entry, ports, endpoints, tuple(sorted(sans)), rules)


def _service(
    thing: Object, ports: Sequence[ServicePort], endpoints: Iterable[Endpoint], sans: tuple[str, ...], rules: Rules
) -> LocalService:
    metadata, notes = thing["metadata"], annotations_of(thing)
    asked = notes.get(rules.publish_annotation, "") if rules.publish_annotation else ""
    return LocalService(
        name=f"{metadata['name']}.{metadata['namespace']}",
        ports=tuple(ports),
        endpoints=tuple(sorted(endpoints, key=lambda each: (each.address, each.port, each.labels))),
        description=notes.get(DESCRIPTION, ""),
        tags=tuple(sorted(_words(notes.get(TAGS, "")))),
        labels=dict(sorted((metadata.get("labels") or {}).items())),
        sans=sans,
        publish_to=tuple(sorted(_words(asked))),
    )


def _words(text: str) -> set[str]:
    return {word.strip() for word in text.split(",")} - {""}

"""How Istio's resources read as Envoy's configuration, for the kinds that a gateway of Hamlet writes. Pure.

This reads them as the reference of Istio (Gateway, Virtual Service, Destination Rule, Service Entry, Workload Entry,
Authorization Policy, and "Secure Gateways") describes them and as nothing else. What it does not know is an error,
so that no field is passed over without a word. Nothing here uses the code under test.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.backends.file_envoy import Said, secret_source
from tests.backends.istio_envoy import by_request, cluster, denying, listener, tcp_proxy, transport
from tests.backends.not_understood import NotUnderstoodError

Object = dict[str, Any]
_OF_A_SECRET = ("tls.crt", "tls.key", "ca.crt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the API holds: the objects of a kind."""

    gateways: Sequence[Object] = ()
    virtualservices: Sequence[Object] = ()
    authorizationpolicies: Sequence[Object] = ()
    serviceentries: Sequence[Object] = ()
    workloadentries: Sequence[Object] = ()
    destinationrules: Sequence[Object] = ()
    services: Sequence[Object] = ()
    secrets: Sequence[Object] = ()

    def secret(self, namespace: str, name: str) -> Object | None:
        """A secret that a proxy of this namespace can present and verify with; it must exist, with all it needs."""
        for each in self.secrets:
            if _place(each) == (namespace, name) and all(each["data"].get(key) for key in _OF_A_SECRET):
                return each
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """Whose Envoy it is: the namespace of its pod, and the pod's labels."""

    namespace: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Destination:
    """Where calls go: addresses with ports, by the words of a host and a port of it."""

    host: str
    port: int
    places: tuple[tuple[str, int], ...]

    @property
    def cluster(self) -> str:
        return f"outbound|{self.port}||{self.host}"


class Translation:
    """One reading of what the API holds. `folder` is where Envoy finds the secrets."""

    def __init__(self, seen: Seen, folder: Path, domain: str = "cluster.local") -> None:
        self._seen, self._folder, self._domain = seen, folder, domain
        self._listeners: dict[str, Object] = {}
        self._clusters: dict[str, Object] = {}
        self._secrets: dict[str, Object] = {}

    def translated(self) -> Said:
        """All that was asked for, in the order of the names."""
        listeners, clusters, secrets = (
            tuple(named[name] for name in sorted(named)) for named in (self._listeners, self._clusters, self._secrets)
        )
        return Said(listeners=listeners, clusters=clusters, secrets=secrets)

    def ingress(self, gateway: Proxy, port: int) -> None:
        """Add the listener of an ingress gateway: a chain for each server name, of which the oldest Gateway's counts.

        It is absent where no server could be answered for.
        """
        chains: dict[str, Object] = {}
        for each in sorted(self._seen.gateways, key=_age):
            spec = each["spec"]
            if not _selects(spec["selector"], gateway.labels):
                continue
            for server in spec["servers"]:
                if server["port"]["number"] == port:
                    for host in server["hosts"]:
                        name = host.rpartition("/")[2]
                        if chain := self._chain(each, server, host, gateway):
                            chains.setdefault(name, chain)
        if chains:
            self._listeners["ingress"] = listener("ingress", port, list(chains.values()), by_name=True)

    def sidecar(self, workload: Proxy, ports: Mapping[tuple[str, int], int]) -> None:
        """Add a listener for each service outside the mesh that this workload can call, on a port of loopback.

        `ports` has them by host and number: they stand for the virtual addresses that traffic is caught at.
        """
        for host, number in ports:
            found = next((entry for entry in self._entries(host, number) if _exported(entry, workload)), None)
            if found is None:
                continue
            destination = _of_entry(found, host, number)
            rule = next(filter(None, (_rule_for(host, each, workload) for each in self._seen.destinationrules)), None)
            name = f"{destination.cluster}/{workload.namespace}"
            settings = _tls_of(rule, number) if rule else {"mode": "DISABLE"}
            self._originate(name, destination, settings, workload)
            filters = [tcp_proxy(name)]
            self._listeners[name] = listener(name, ports[host, number], [{"filters": filters}], by_name=False)

    def callable(self, workload: Proxy) -> Iterator[tuple[str, int]]:
        """The hosts and ports outside the mesh that this workload can call."""
        for entry in self._seen.serviceentries:
            if entry["spec"].get("location") != "MESH_INTERNAL" and _exported(entry, workload):
                for host in entry["spec"]["hosts"]:
                    for port in entry["spec"]["ports"]:
                        yield host, port["number"]

    def _chain(self, door: Object, server: Object, host: str, gateway: Proxy) -> Object | None:
        """The chain of one server name; None where its secret or its way is not there."""
        tls, name = server["tls"], host.rpartition("/")[2]
        _known(tls, "mode", "credentialName", "minProtocolVersion")
        _demand(tls["mode"] == "MUTUAL", f"a server of mode {tls['mode']}")
        secret = self._seen.secret(gateway.namespace, tls["credentialName"])
        way = next((each for each in self._seen.virtualservices if _leads(each, door, host, name)), None)
        if secret is None or way is None:
            return None
        protocol = server["port"]["protocol"]
        _demand(protocol in ("TLS", "HTTPS"), f"a server of protocol {protocol}")
        (route,) = way["spec"]["tcp" if protocol == "TLS" else "http"]
        _known(route, "route")
        (only,) = route["route"]
        inside, denials = self._inside(only["destination"]), self._denials(gateway)
        if protocol == "TLS":
            filters = [*([denying("network", denials)] if denials else []), tcp_proxy(inside)]
        else:
            filters = [by_request(name, inside, [denying("http", denials)] if denials else [])]
        return {
            "name": name,
            "filter_chain_match": {"server_names": [name]},
            "transport_socket": transport(
                "Downstream",
                require_client_certificate=True,
                common_tls_context=self._context(
                    secret, {}, tls_minimum_protocol_version=tls["minProtocolVersion"].replace("TLSV", "TLSv")
                ),
            ),
            "filters": filters,
        }

    def _denials(self, proxy: Proxy) -> dict[str, Object]:
        """The policies that deny, by name and number of the rule; those that allow are not known here."""
        policies = {}
        for each in self._seen.authorizationpolicies:
            spec, place = each["spec"], _place(each)
            chosen = spec.get("selector", {}).get("matchLabels", {})
            if place[0] == proxy.namespace and _selects(chosen, proxy.labels):
                _demand(spec.get("action") == "DENY", f"a policy with action {spec.get('action')}")
                for number, rule in enumerate(spec["rules"]):
                    policies[f"{'/'.join(place)}/{number}"] = _denied(rule)
        return policies

    def _inside(self, destination: Object) -> str:
        """Add the cluster of a host of the mesh; its name."""
        host, number = destination["host"], destination["port"]["number"]
        found = next(iter(self._entries(host, number)), None)
        place = _of_entry(found, host, number) if found else self._of_service(host, number)
        self._clusters[place.cluster] = cluster(place.cluster, place.places)
        return place.cluster

    def _of_service(self, host: str, number: int) -> _Destination:
        """A Service with the workload entries that it selects; without addresses where there is none.

        Istiod lets Services select these beside pods. Endpoints would not do: none may be an address of loopback.
        """
        places: list[tuple[str, int]] = []
        for service in self._seen.services:
            namespace, name = _place(service)
            if host == f"{name}.{namespace}.svc.{self._domain}":
                port = next(each for each in service["spec"]["ports"] if each["port"] == number)
                for entry in self._seen.workloadentries:
                    spec = entry["spec"]
                    if _place(entry)[0] == namespace and _selects(service["spec"]["selector"], spec["labels"]):
                        places.append((spec["address"], spec.get("ports", {}).get(port["name"], port["targetPort"])))
        return _Destination(host, number, tuple(sorted(places)))

    def _entries(self, host: str, number: int) -> Iterator[Object]:
        for each in self._seen.serviceentries:
            if host in each["spec"]["hosts"] and any(port["number"] == number for port in each["spec"]["ports"]):
                yield each

    def _originate(self, name: str, destination: _Destination, settings: Object, workload: Proxy) -> None:
        """Add the cluster of a service elsewhere; none while the secret that its rule names is not there."""
        if settings["mode"] == "DISABLE":
            self._clusters[name] = cluster(name, destination.places)
            return
        _known(settings, "mode", "credentialName", "subjectAltNames", "sni")
        _demand(settings["mode"] == "MUTUAL", f"a rule of mode {settings['mode']}")
        secret = self._seen.secret(workload.namespace, settings["credentialName"])
        if secret is not None:
            names = [
                {"san_type": kind, "matcher": {"exact": each}}
                for each in settings.get("subjectAltNames", ())
                for kind in ("URI", "DNS")
            ]
            context = self._context(
                secret, {"match_typed_subject_alt_names": names}, tls_minimum_protocol_version="TLSv1_2"
            )
            secured = transport("Upstream", sni=settings["sni"], common_tls_context=context)
            self._clusters[name] = cluster(name, destination.places, transport_socket=secured)

    def _context(self, secret: Object, verified: Object, **parameters: str) -> Object:
        """What a side presents and verifies with: what is in the secret, of which Envoy hears when it changes."""
        own = "_".join(_place(secret))
        own_authorities = f"{own}-cacert"
        certificate, key, authorities = (base64.b64decode(secret["data"][each]).decode() for each in _OF_A_SECRET)
        self._secrets[own] = {
            "name": own,
            "tls_certificate": {
                "certificate_chain": {"inline_string": certificate},
                "private_key": {"inline_string": key},
            },
        }
        self._secrets[own_authorities] = {
            "name": own_authorities,
            "validation_context": {"trusted_ca": {"inline_string": authorities}},
        }
        return {
            "tls_params": {"tls_maximum_protocol_version": "TLSv1_3", **parameters},
            "tls_certificate_sds_secret_configs": [secret_source(self._folder, own)],
            "combined_validation_context": {
                "default_validation_context": verified,
                "validation_context_sds_secret_config": secret_source(self._folder, own_authorities),
            },
        }


def _of_entry(entry: Object, host: str, number: int) -> _Destination:
    spec = entry["spec"]
    _demand(spec.get("resolution") == "STATIC", f"a ServiceEntry of resolution {spec.get('resolution')}")
    port = next(each for each in spec["ports"] if each["number"] == number)
    places = ((each["address"], each.get("ports", {}).get(port["name"], number)) for each in spec["endpoints"])
    return _Destination(host, number, tuple(sorted(places)))


def _leads(way: Object, door: Object, host: str, name: str) -> bool:
    """Whether a VirtualService is for this name of this Gateway, by both sides' words."""
    namespace, spec = _place(way)[0], way["spec"]
    within = host.rpartition("/")[0]
    taken = within in ("", "*", namespace) or (within == "." and namespace == _place(door)[0])
    bound = {_place(door)[1] if namespace == _place(door)[0] else "", "/".join(_place(door))}
    return taken and name in spec["hosts"] and bool(bound & set(spec["gateways"]))


def _rule_for(host: str, rule: Object, workload: Proxy) -> Object | None:
    """The rule, where it is for this host and this workload; one with labels counts in its own namespace alone."""
    spec = rule["spec"]
    _known(spec, "host", "exportTo", "workloadSelector", "trafficPolicy")
    chosen = spec.get("workloadSelector", {}).get("matchLabels", {})
    at_home = _place(rule)[0] == workload.namespace
    seen = at_home if chosen else _exported(rule, workload)
    return rule if spec["host"] == host and seen and _selects(chosen, workload.labels) else None


def _tls_of(rule: Object, number: int) -> Object:
    policy = rule["spec"]["trafficPolicy"]
    _known(policy, "tls", "portLevelSettings")
    own = (each for each in policy.get("portLevelSettings", ()) if each["port"]["number"] == number)
    found: Object = next(own, policy)["tls"]
    return found


def _exported(thing: Object, proxy: Proxy) -> bool:
    to = thing["spec"].get("exportTo") or ["*"]
    return "*" in to or proxy.namespace in to or ("." in to and _place(thing)[0] == proxy.namespace)


def _denied(rule: Object) -> Object:
    """A rule of whom to deny (everybody but these) and what for (the server name)."""
    _known(rule, "from", "when")
    (origin,), (condition,) = rule["from"], rule["when"]
    _known(origin["source"], "notPrincipals")
    _demand(condition["key"] == "connection.sni", f"a condition on {condition['key']}")
    spared = [{"authenticated": {"principal_name": _principal(each)}} for each in origin["source"]["notPrincipals"]]
    names = [{"requested_server_name": {"exact": each}} for each in condition["values"]]
    return {
        "permissions": [{"or_rules": {"rules": names}}],
        "principals": [{"not_id": {"or_ids": {"ids": spared}}}],
    }


def _principal(text: str) -> Object:
    """A principal, `spiffe://` before it, with a star at its end or without."""
    _demand("*" not in text[:-1], f"a principal {text!r}")
    return {"prefix": f"spiffe://{text[:-1]}"} if text.endswith("*") else {"exact": f"spiffe://{text}"}


def _selects(chosen: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return chosen.items() <= labels.items()


def _place(thing: Object) -> tuple[str, str]:
    return thing["metadata"]["namespace"], thing["metadata"]["name"]


def _age(thing: Object) -> tuple[str, tuple[str, str]]:
    return thing["metadata"]["creationTimestamp"], _place(thing)


def _known(words: Mapping[str, Any], *known: str) -> None:
    unknown = sorted(words.keys() - set(known))
    _demand(not unknown, f"the fields {', '.join(unknown)}")


def _demand(condition: object, what: str) -> None:
    if not condition:
        message = f"the stand-in for istiod does not know {what}"
        raise NotUnderstoodError(message)

"""What a gateway writes and answers, as pure tables; every form against the definitions and their rules."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from hamlet_istio.gateway_egress import answer
from hamlet_istio.gateway_objects import GatewayApis, audience, credential_of, hosts_of, route_objects, secret
from hamlet_istio.gateway_options import EgressOptions, IngressOptions, IstioGatewayOptions, place_of
from hamlet_istio.istio import objects_for
from hamlet_istio.marks import Marker
from hamlet_istio.options import IstioOptions
from hamlet_istio.settings import tls_said
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hamlet_core.api import (
    AdapterContext,
    Endpoint,
    FederatedService,
    ImportedService,
    ImportRoute,
    Instance,
    PeerTrust,
    Protocol,
    PublishRoute,
    Refused,
    Route,
    ServicePort,
    Trust,
)
from tests.backends.crd_rules import complaints, rules

CONTEXT = AdapterContext(
    name="gateway", mesh="west", domain="west.example", trust_domain="west.example", directory=Path("/")
)
MARKER = Marker(CONTEXT, "")
APIS = GatewayApis("v1", "v1")
EAST = PeerTrust(peer="east", trust_domain="east.example", bundle="EAST\n")
NORTH = PeerTrust(peer="north", trust_domain="north.example", bundle="NORTH\n")
NAMELESS = PeerTrust(peer="nameless", trust_domain=None, bundle="NAMELESS\n")
TRUST = Trust(certificate="CERTIFICATE", key="KEY", peers=(EAST, NORTH, NAMELESS))
TRUSTED = {peer.peer: peer for peer in TRUST.peers}
CALLERS = {"shop": {"mesh": "out"}}


def published(
    sni: str = "orders.west.example",
    protocol: Protocol = Protocol.HTTP,
    *,
    fqdn: str = "orders.west.example",
    peers: tuple[str, ...] = ("east",),
) -> PublishRoute:
    return PublishRoute(
        sni=sni,
        fqdn=fqdn,
        registry="west",
        service="orders.shop",
        port=ServicePort(name="web", port=8080, protocol=protocol),
        endpoints=(Endpoint(address="10.0.0.1", port=8080),),
        peers=peers,
    )


def written(route: PublishRoute, *peers: PeerTrust, **options: Any) -> list[Any]:
    found = IngressOptions(namespace="edge", **options)
    return route_objects(route, peers or (EAST,), "orders.shop.svc.cluster.local", found, MARKER, APIS)


def imported(sni: str = "stock.east.example", sans: tuple[str, ...] = ("spiffe://east.example/in",)) -> ImportRoute:
    service = FederatedService(
        name="stock.east.example",
        fqdn="stock.east.example",
        endpoints=(Endpoint(address="203.0.113.7", port=443),),
        instances=(Instance(id="web", protocol="HTTP", metadata={"SNI": sni, "PORT": "80"}),),
        sans=sans,
    )
    return ImportRoute(peer="east", service=service)


def test_a_route_is_a_policy_a_way_and_a_door_and_the_door_is_last() -> None:
    policy, way, door = written(published(), EAST, NORTH)
    assert [each["kind"] for each in (policy, way, door)] == ["AuthorizationPolicy", "VirtualService", "Gateway"]
    assert {(each["metadata"]["name"], each["metadata"]["namespace"]) for each in (policy, way, door)} == {
        ("orders-west-example", "edge")
    }
    assert policy["spec"] == {
        "selector": {"matchLabels": {"istio": "ingress"}},
        "action": "DENY",
        "rules": [
            {
                "from": [{"source": {"notPrincipals": ["east.example/*", "north.example/*"]}}],
                "when": [{"key": "connection.sni", "values": ["orders.west.example"]}],
            }
        ],
    }
    assert way["spec"] == {
        "hosts": ["orders.west.example"],
        "gateways": ["orders-west-example"],
        "exportTo": ["."],
        "tcp": [
            {"route": [{"destination": {"host": "orders.shop.svc.cluster.local", "port": {"number": 8080}}}]},
        ],
    }
    assert door["spec"] == {
        "selector": {"istio": "ingress"},
        "servers": [
            {
                "port": {"number": 443, "name": "tls-hamlet", "protocol": "TLS"},
                "hosts": ["./orders.west.example"],
                "tls": {
                    "mode": "MUTUAL",
                    "credentialName": credential_of(["north", "east"], IngressOptions(), MARKER),
                    "minProtocolVersion": "TLSV1_2",
                },
            }
        ],
    }


@pytest.mark.parametrize(
    ("protocol", "sni", "http", "kind", "named"),
    [
        (Protocol.HTTP, "orders.west.example", True, "http", "HTTPS"),
        (Protocol.GRPC, "orders.west.example", True, "http", "HTTPS"),
        (Protocol.HTTP2, "orders.west.example", True, "http", "HTTPS"),
        (Protocol.HTTP, "orders.west.example", False, "tcp", "TLS"),
        (Protocol.TCP, "orders.west.example", True, "tcp", "TLS"),
        (Protocol.TLS, "orders.west.example", True, "tcp", "TLS"),
        (Protocol.HTTPS, "orders.west.example", True, "tcp", "TLS"),
        (Protocol.HTTP, "admin.orders.west.example", True, "tcp", "TLS"),
    ],
)
def test_requests_are_routed_by_host_only_where_that_is_wanted_and_the_host_is_the_server_name(
    protocol: Protocol, sni: str, http: bool, kind: str, named: str
) -> None:
    _, way, door = written(published(sni, protocol), http=http)
    assert {"http", "tcp"} & way["spec"].keys() == {kind}
    assert door["spec"]["servers"][0]["port"]["protocol"] == named


@pytest.mark.parametrize(
    ("peers", "found"),
    [
        (("north", "east"), ["east", "north"]),
        (("east", "nameless", "stranger"), ["east"]),
        (("nameless",), []),
        ((), []),
    ],
)
def test_an_audience_is_who_can_be_told_by_a_trust_domain_and_a_bundle(
    peers: tuple[str, ...], found: list[str]
) -> None:
    assert [each.peer for each in audience(published(peers=peers), TRUSTED)] == found


def test_each_audience_has_a_secret_of_its_own_with_the_bundles_of_its_peers_alone() -> None:
    names = {
        credential_of(each, IngressOptions(), MARKER)
        for each in (["east"], ["north"], ["east", "north"], ["east-north"])
    }
    assert len(names) == 4
    assert credential_of(["north", "east"], IngressOptions(), MARKER) == credential_of(
        ["east", "north"], IngressOptions(), MARKER
    )
    body = secret("s", "edge", TRUST, [EAST.bundle, NORTH.bundle], MARKER, "ingress", peers="east,north")
    said = {key: base64.b64decode(value).decode() for key, value in body["data"].items()}
    assert said == {"tls.crt": "CERTIFICATE", "tls.key": "KEY", "ca.crt": "EAST\nNORTH\n"}
    assert "KEY" not in str(body["metadata"])


@pytest.mark.parametrize("http", [True, False])
@pytest.mark.parametrize("protocol", Protocol)
def test_every_form_of_a_route_keeps_the_rules_of_the_definitions(protocol: Protocol, http: bool) -> None:
    for each in written(published(protocol=protocol), EAST, NORTH, http=http, selector={"app": "a", "istio": "b"}):
        assert complaints(each) == []


LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)


@given(st.lists(LABEL, min_size=2, max_size=9).map(".".join), st.lists(LABEL, min_size=1, max_size=4, unique=True))
def test_whatever_the_names_the_door_is_for_exactly_whom_the_policy_lets_through(sni: str, peers: list[str]) -> None:
    trusted = {each: PeerTrust(peer=each, trust_domain=f"{each}.example", bundle=each) for each in peers}
    route = published(sni, fqdn=sni, peers=tuple(peers))
    policy, way, door = written(route, *audience(route, trusted))
    (rule,) = policy["spec"]["rules"]
    assert set(rule["from"][0]["source"]["notPrincipals"]) == {f"{each}.example/*" for each in peers}
    assert rule["when"][0]["values"] == way["spec"]["hosts"] == [sni]
    assert hosts_of(door, 443) == {sni}
    assert way["spec"]["gateways"] == [door["metadata"]["name"]]
    for each in (policy, way, door):
        assert complaints(each) == []
        assert len(each["metadata"]["name"]) <= 63


@pytest.mark.parametrize(
    ("route", "options", "reason"),
    [
        (imported(sans=()), {"consumers": CALLERS}, "no SANs"),
        (imported(sans=()), {"mode": "ISTIO_MUTUAL"}, "no SANs"),
        (imported("outbound_.80_._.stock.shop.svc.cluster.local"), {"consumers": CALLERS}, "AUTO_PASSTHROUGH"),
    ],
    ids=["no names", "no names, shared trust", "an ingress that takes Istio's TLS alone"],
)
def test_what_could_not_be_verified_or_never_be_called_is_refused(
    route: ImportRoute, options: dict[str, Any], reason: str
) -> None:
    found = answer(route, EgressOptions(**options), TRUSTED)
    assert isinstance(found, Refused)
    assert reason in found.reason


def test_a_peer_without_a_bundle_cannot_be_called_with_a_secret() -> None:
    found = answer(imported(), EgressOptions(consumers=CALLERS), {})
    assert isinstance(found, Refused)
    assert "no bundle of east" in found.reason


@pytest.mark.parametrize(
    ("options", "sni", "tls"),
    [
        (
            {"consumers": {"shop": {"mesh": "out"}, "bank": {"app": "teller"}}},
            "stock.east.example",
            {"mode": "MUTUAL", "credentialName": "hamlet-egress-east"},
        ),
        ({"mode": "ISTIO_MUTUAL"}, "stock.east.example", {"mode": "ISTIO_MUTUAL"}),
        ({"mode": "ISTIO_MUTUAL"}, "outbound_.80_.v1_.stock.shop.svc.cluster.local", {"mode": "ISTIO_MUTUAL"}),
    ],
    ids=["a secret", "shared trust", "AUTO_PASSTHROUGH"],
)
def test_the_registry_writes_what_the_gateway_answers(options: dict[str, Any], sni: str, tls: dict[str, str]) -> None:
    egress = EgressOptions(**options)
    route = imported(sni)
    found = answer(route, egress, TRUSTED)
    assert isinstance(found, Route)
    assert found.endpoints == {"web": route.service.endpoints}
    assert not found.originates_tls
    service = ImportedService(peer="east", local_name="stock.east.example", service=route.service, route=found)
    *made, entry = objects_for(service, IstioOptions(), MARKER, "networking.istio.io/v1", None)
    said = tls_said(found.settings)
    assert said is not None
    assert {each["metadata"]["namespace"] for each in made} == set(egress.consumers or {"hamlet-imports"})
    for rule in made:
        assert rule["spec"]["trafficPolicy"]["tls"] == {
            **tls,
            "sni": sni,
            "subjectAltNames": list(route.service.sans),
        }
        assert complaints(rule) == []
    assert complaints(entry) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "neither `ingress` nor `egress`"),
        ({"egress": {}}, "needs `consumers`"),
        ({"egress": {"consumers": {"shop": {}}}}, "no labels for shop"),
        ({"egress": {"mode": "ISTIO_MUTUAL", "consumers": CALLERS}}, "belongs to MUTUAL"),
        ({"egress": {"mode": "SIMPLE"}}, "ISTIO_MUTUAL"),
        ({"ingress": {"advertise": ["203.0.113.7"]}}, "no address"),
        ({"ingress": {"advertise": ["2001:db8::1:443"]}}, "no address"),
        ({"ingress": {"advertise": ["a b:443"]}}, "no address"),
        ({"ingress": {"advertise": ["in.example:0"]}}, "no address"),
        ({"ingress": {"namespace": "Edge"}}, "RFC 1123"),
        ({"ingress": {"selector": {}}}, "at least 1"),
        ({"ingress": {"credential": "No"}}, "lower-case"),
        ({"ingress": {"port": 70000}}, "65535"),
        ({"ingress": {}, "unknown": 1}, "Extra inputs"),
        ({"ingress": {}, "token": "t"}, "belong to `server`"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        IstioGatewayOptions(**options)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("203.0.113.7:443", "203.0.113.7", 443),
        ("[2001:db8::1]:1", "2001:db8::1", 1),
        ("in.example:15443", "in.example", 15443),
    ],
)
def test_places_are_hosts_with_ports(text: str, host: str, port: int) -> None:
    assert place_of(text) == (host, port)


SPOILED = [
    ("an unknown field", 2, lambda spec: spec["servers"][0].update(sni="x"), "unknown field"),
    ("a field of another type", 2, lambda spec: spec["servers"][0]["port"].update(number="443"), "443"),
    ("two credentials", 2, lambda spec: spec["servers"][0]["tls"].update(credentialNames=["a"]), "$.spec"),
    ("a wildcard in a label", 0, lambda spec: spec["selector"]["matchLabels"].update({"a*": "b"}), "matchLabels"),
    ("an unknown action", 0, lambda spec: spec.update(action="REFUSE"), "REFUSE"),
]


@pytest.mark.parametrize(
    ("which", "spoil", "says"), [each[1:] for each in SPOILED], ids=[each[0] for each in SPOILED]
)
def test_the_rules_of_the_definitions_do_refuse_what_breaks_them(which: int, spoil: Any, says: str) -> None:
    thing = written(published())[which]
    spoil(thing["spec"])
    assert any(says in complaint for complaint in complaints(thing)), complaints(thing)


def test_the_definitions_have_rules_to_break() -> None:
    assert all(rules(kind) for kind in ("Gateway", "AuthorizationPolicy", "ServiceEntry", "DestinationRule"))

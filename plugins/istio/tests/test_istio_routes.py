"""Imports that a gateway leads: through an egress that originates TLS, or by settings for the sidecars."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hamlet_istio import istio, plain
from hamlet_istio.marks import Marker
from hamlet_istio.options import IstioOptions, TlsOrigination
from hamlet_istio.settings import settings_of, tls_said

from hamlet_core.api import (
    AdapterContext,
    Endpoint,
    ImportedService,
    Instance,
    InvalidService,
    RemoveImport,
    Route,
    Status,
    WriteImport,
)
from hamlet_core.api.testing import imported_service

pytestmark = pytest.mark.xdist_group("kubernetes")
MARKER = Marker(
    AdapterContext(name="main", mesh="west", domain="west.example", trust_domain="west.example", directory=Path("/")),
    "form",
)
INGRESS = "spiffe://east.example/ingress"
RULES = "/apis/networking.istio.io/v1/namespaces/{namespace}/destinationrules"
DISABLED = {"tls": {"mode": "DISABLE"}}
FILES = {
    "mode": "MUTUAL",
    "client_certificate": "/c.pem",
    "private_key": "/k.pem",
    "ca_certificates": "/ca.pem",
}


def led(
    *places: tuple[str, int], originates_tls: bool, settings: Mapping[str, str] | None = None, name: str = "stock"
) -> ImportedService:
    endpoints = tuple(Endpoint(address=address, port=port) for address, port in places)
    route = Route(endpoints={"http": endpoints}, originates_tls=originates_tls, settings=settings or {})
    return replace(imported_service(name), route=route)


def forms(service: ImportedService, **options: Any) -> tuple[list[Any], Any]:
    *rules, entry = istio.objects_for(
        service, IstioOptions(import_namespace="imports", **options), MARKER, "networking.istio.io/v1", None
    )
    return rules, entry["spec"]


@pytest.mark.parametrize(
    ("place", "resolution"),
    [(("192.0.2.9", 20000), "STATIC"), (("egress.mesh.svc", 20000), "DNS")],
    ids=["an address", "a name"],
)
@pytest.mark.parametrize("tls", [{}, FILES], ids=["by default", "whatever the options say"])
def test_an_egress_that_originates_tls_is_called_in_plain_and_nothing_is_demanded_of_it(
    place: tuple[str, int], resolution: str, tls: dict[str, Any]
) -> None:
    (rule,), entry = forms(led(place, originates_tls=True), tls=tls)
    assert entry["endpoints"] == [{"address": place[0], "ports": {"http": place[1]}}]
    assert entry["resolution"] == resolution
    assert entry["ports"] == [{"number": 8080, "name": "http", "protocol": "HTTP"}]
    assert "subjectAltNames" not in entry
    assert rule["metadata"]["namespace"] == "imports"
    assert rule["spec"]["trafficPolicy"] == DISABLED


def test_a_service_without_sans_is_called_through_an_egress_without_plaintext_being_allowed() -> None:
    service = led(("192.0.2.9", 20000), originates_tls=True)
    (rule,), _ = forms(replace(service, service=replace(service.service, sans=())))
    assert rule["spec"]["trafficPolicy"] == DISABLED


def test_a_route_that_leaves_tls_to_the_sidecars_gives_the_addresses_and_the_options_the_mode() -> None:
    (rule,), entry = forms(led(("192.0.2.9", 443), originates_tls=False), tls=FILES)
    assert entry["endpoints"] == [{"address": "192.0.2.9", "ports": {"http": 443}}]
    assert entry["subjectAltNames"] == [INGRESS]
    tls = rule["spec"]["trafficPolicy"]["tls"]
    assert (tls["mode"], tls["clientCertificate"]) == ("MUTUAL", "/c.pem")
    assert (tls["sni"], tls["subjectAltNames"]) == ("stock.east.example", [INGRESS])


def test_settings_of_a_route_count_instead_of_the_options() -> None:
    said = TlsOrigination(
        mode="MUTUAL", credential_name="hamlet-east", consumers={"shop": {"a": "b"}, "bank": {"c": "d"}}
    )
    rules, _ = forms(led(("192.0.2.9", 443), originates_tls=False, settings=settings_of(said)), tls=FILES)
    assert [each["metadata"]["namespace"] for each in rules] == ["bank", "shop"]
    assert [each["spec"]["workloadSelector"]["matchLabels"] for each in rules] == [{"c": "d"}, {"a": "b"}]
    for rule in rules:
        assert rule["spec"]["exportTo"] == ["."]
        assert rule["spec"]["trafficPolicy"]["tls"] == {
            "mode": "MUTUAL",
            "credentialName": "hamlet-east",
            "sni": "stock.east.example",
            "subjectAltNames": [INGRESS],
        }


@pytest.mark.parametrize(
    "tls",
    [
        {"mode": "ISTIO_MUTUAL"},
        {"mode": "MUTUAL", "credential_name": "c", "consumers": {"shop": {"a": "b"}}},
        {"mode": "SIMPLE", "credential_name": "c", "consumers": {"shop": {"a": "b"}, "bank": {"x": "y"}}},
    ],
    ids=lambda tls: f"{tls['mode']} {len(tls)}",
)
def test_settings_say_what_they_were_made_of(tls: dict[str, Any]) -> None:
    wanted = TlsOrigination.model_validate(tls)
    said = tls_said(settings_of(wanted))
    assert said == wanted


@pytest.mark.parametrize(
    "settings",
    [
        {"tls-mode": "NONE"},
        {"tls-mode": "MUTUAL"},
        {"tls-mode": "MUTUAL", "credential-name": "c"},
        {"tls-mode": "MUTUAL", "credential-name": "c", "consumers": "{"},
        {"tls-mode": "MUTUAL", "credential-name": "c", "consumers": '{"Shop": {"a": "b"}}'},
    ],
    ids=["no mode", "no secret", "nobody", "no JSON", "no namespace"],
)
def test_settings_that_make_no_sense_are_refused_by_name(settings: dict[str, str]) -> None:
    with pytest.raises(InvalidService, match=r"the gateway says .*tls-mode"):
        forms(led(("192.0.2.9", 443), originates_tls=False, settings=settings))


def test_words_of_another_vendor_leave_it_to_the_options() -> None:
    assert tls_said({"cluster": "east"}) is None


def test_an_instance_that_the_route_does_not_lead_to_is_left_out_and_named() -> None:
    service = led(("192.0.2.9", 20000), originates_tls=True)
    more = (*service.service.instances, Instance(id="rpc", protocol="GRPC", metadata={"PORT": "8080"}))
    service = replace(service, service=replace(service.service, instances=more))
    _, entry = istio.objects_for(service, IstioOptions(), MARKER, "networking.istio.io/v1", None)
    assert [port["name"] for port in entry["spec"]["ports"]] == ["http"]
    assert (
        entry["metadata"]["annotations"]["hamlet.federation/left-out"] == "rpc: the gateway gives no address for it"
    )


def test_a_route_to_nowhere_is_refused() -> None:
    with pytest.raises(InvalidService, match="no address for any instance of stock"):
        forms(led(originates_tls=True))


def test_a_plain_cluster_calls_through_the_egress_too() -> None:
    service = led(("192.0.2.9", 20000), originates_tls=True)
    body, piece = plain.objects_for(service, IstioOptions(mode="kubernetes"), MARKER, "discovery.k8s.io/v1")
    assert body["spec"]["ports"][0]["port"] == 8080
    assert piece["endpoints"] == [{"addresses": ["192.0.2.9"], "conditions": {"ready": True}}]
    assert piece["ports"] == [{"name": "http", "port": 20000, "protocol": "TCP"}]


@pytest.fixture
def shop(cluster: Any) -> Iterator[str]:
    name: str = cluster.kubernetes.make_namespace(f"{cluster.namespace}-led"[-63:])
    yield name
    cluster.kubernetes.wipe(name, RULES)


def test_rules_follow_their_route_from_the_import_namespace_to_those_of_a_secret_and_back(
    cluster: Any, shop: str, open_registry: Callable[..., Any]
) -> None:
    secret = TlsOrigination(mode="MUTUAL", credential_name="hamlet-east", consumers={shop: {"mesh": "out"}})
    at = ("192.0.2.9", 20000)
    steps = [
        (imported_service("stock"), {cluster.namespace}),
        (led(at, originates_tls=False, settings=settings_of(secret)), {shop}),
        (led(at, originates_tls=True), {cluster.namespace}),
        (led(at, originates_tls=False, settings=settings_of(secret)), {shop}),
    ]
    opened = open_registry(cluster)
    for service, places in steps:
        (outcome,) = opened.hooks.registry_apply(changes=[WriteImport(service)])
        assert (outcome.status, outcome.reason) == (Status.APPLIED, "")
        found = {
            each
            for each in (cluster.namespace, shop)
            if cluster.kubernetes.do("GET", RULES.format(namespace=each))["items"]
        }
        assert found == places
        again = open_registry(cluster)
        assert [each.digest for each in again.hooks.registry_imports()] == [service.digest]
    last = steps[-1][0]
    restarted = open_registry(cluster)
    restarted.hooks.registry_apply(changes=[RemoveImport(last.key, last.local_name)])
    assert cluster.kubernetes.do("GET", RULES.format(namespace=shop))["items"] == []
    assert restarted.hooks.registry_imports() == []

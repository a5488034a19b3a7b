"""What an import is written as: pure tables, and every form taken by the definitions of the real API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hamlet_istio import istio, plain
from hamlet_istio.marks import Marker
from hamlet_istio.options import IstioOptions
from hamlet_istio.resources import endpoints_apis
from hypothesis import given
from hypothesis import strategies as st

from hamlet_core.api import (
    AdapterContext,
    Endpoint,
    FederatedService,
    ImportedService,
    Instance,
    InvalidService,
    Protocol,
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


def offered(
    instances: list[tuple[str, str, dict[str, str], tuple[str, ...]]],
    endpoints: list[tuple[str, int, tuple[str, ...]]],
    sans: tuple[str, ...] = (INGRESS,),
    name: str = "stock.east.example",
) -> ImportedService:
    service = FederatedService(
        name=name,
        fqdn=name,
        endpoints=tuple(Endpoint(address=a, port=p, labels=labels) for a, p, labels in endpoints),
        instances=tuple(
            Instance(id=i, protocol=p, metadata=m, endpoint_selector=selector) for i, p, m, selector in instances
        ),
        sans=sans,
    )
    return ImportedService(peer="east", local_name=name, service=service)


def forms(service: ImportedService, address: str | None = None, **options: Any) -> tuple[Any, Any]:
    rule, entry = istio.objects_for(service, IstioOptions(**options), MARKER, "networking.istio.io/v1", address)
    return rule["spec"], entry["spec"]


def test_the_entry_and_the_rule_of_a_service_behind_an_ingress() -> None:
    rule, entry = forms(imported_service("stock"))
    assert entry == {
        "hosts": ["stock.east.example"],
        "location": "MESH_EXTERNAL",
        "resolution": "STATIC",
        "ports": [{"number": 8080, "name": "http", "protocol": "HTTP"}],
        "endpoints": [{"address": "203.0.113.7", "ports": {"http": 8443}}],
        "exportTo": ["*"],
        "subjectAltNames": [INGRESS],
    }
    assert rule == {
        "host": "stock.east.example",
        "exportTo": ["*"],
        "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL", "sni": "stock.east.example", "subjectAltNames": [INGRESS]}},
    }


def test_each_port_has_its_own_name_protocol_and_sni() -> None:
    service = offered(
        [("web", "HTTP", {"sni": "a.example", "PORT": "80"}, ()), ("rpc", "GRPC", {"SNI": "b.example"}, ())],
        [("203.0.113.7", 8443, ())],
    )
    rule, entry = forms(service)
    assert entry["ports"] == [
        {"number": 80, "name": "http-web", "protocol": "HTTP"},
        {"number": 8443, "name": "grpc-rpc", "protocol": "GRPC"},
    ]
    assert entry["endpoints"] == [{"address": "203.0.113.7", "ports": {"http-web": 8443, "grpc-rpc": 8443}}]
    per_port = {each["port"]["number"]: each["tls"]["sni"] for each in rule["trafficPolicy"]["portLevelSettings"]}
    assert per_port == {80: "a.example", 8443: "b.example"}
    assert all(each["tls"]["subjectAltNames"] for each in rule["trafficPolicy"]["portLevelSettings"])


@pytest.mark.parametrize(
    ("addresses", "resolution"),
    [
        (["203.0.113.7", "2001:db8::7"], "STATIC"),
        (["in.east.example"], "DNS"),
        (["in.east.example", "203.0.113.7"], "DNS"),
    ],
    ids=["addresses", "a name", "both"],
)
def test_names_are_resolved_by_dns_and_addresses_stand(addresses: list[str], resolution: str) -> None:
    service = offered([("web", "HTTP", {}, ())], [(each, 8443, ()) for each in addresses])
    _, entry = forms(service)
    assert entry["resolution"] == resolution
    assert [each["address"] for each in entry["endpoints"]] == addresses


def test_several_places_at_one_address_are_rows_of_their_own() -> None:
    service = offered([("web", "HTTP", {"PORT": "80"}, ())], [("203.0.113.7", 1, ()), ("203.0.113.7", 2, ())])
    assert [each["ports"] for each in forms(service)[1]["endpoints"]] == [{"http-web": 1}, {"http-web": 2}]


def test_ports_served_at_different_addresses_are_refused_by_istio_and_taken_by_slices() -> None:
    service = offered(
        [("web", "HTTP", {"PORT": "80"}, ("w",)), ("rpc", "GRPC", {"PORT": "90"}, ("r",))],
        [("203.0.113.7", 1, ("w",)), ("203.0.113.8", 2, ("r",))],
    )
    with pytest.raises(InvalidService, match="at different addresses"):
        forms(service)
    _, first, second = plain.objects_for(service, IstioOptions(mode="kubernetes"), MARKER, "discovery.k8s.io/v1")
    assert first["ports"] == [{"name": "http-web", "port": 1, "protocol": "TCP"}]
    assert second["ports"] == [{"name": "grpc-rpc", "port": 2, "protocol": "TCP"}]
    assert first["metadata"]["name"] != second["metadata"]["name"]


def test_of_two_instances_on_one_port_the_first_has_it_and_the_other_is_named() -> None:
    service = offered(
        [("web", "HTTP", {"PORT": "80"}, ()), ("rpc", "GRPC", {"PORT": "80"}, ())], [("203.0.113.7", 1, ())]
    )
    _, entry = istio.objects_for(service, IstioOptions(), MARKER, "networking.istio.io/v1", None)
    assert [port["name"] for port in entry["spec"]["ports"]] == ["http-web"]
    assert entry["metadata"]["annotations"]["hamlet.federation/left-out"] == "rpc: port 80 is web's"


def test_instances_that_name_no_port_get_different_ones() -> None:
    service = offered([(str(each), each, {}, ()) for each in Protocol], [("203.0.113.7", 443, ())])
    numbers = [port["number"] for port in forms(service)[1]["ports"]]
    assert len(set(numbers)) == len(numbers) == len(Protocol)
    assert numbers[0] == 443


def test_a_service_without_sans_is_refused_unless_plaintext_is_allowed_and_then_has_no_tls() -> None:
    service = offered([("web", "HTTP", {"SNI": "x.example"}, ())], [("203.0.113.7", 80, ())], sans=())
    with pytest.raises(InvalidService, match="names no SANs"):
        forms(service)
    rule, _ = forms(service, plaintext=True)
    assert rule["trafficPolicy"] == {"tls": {"mode": "DISABLE"}}


@pytest.mark.parametrize("host", ["cluster.local", "api.default.svc.cluster.local", "api.default.svc"])
def test_no_import_gets_a_name_of_the_cluster(host: str) -> None:
    with pytest.raises(InvalidService, match="name of the cluster"):
        forms(imported_service("stock", local_name=host))


def test_a_secret_has_a_rule_in_each_namespace_of_its_workloads_and_one_entry_for_all() -> None:
    consumers = {"shop": {}, "bank": {"app": "teller"}}
    tls = {"mode": "MUTUAL", "credential_name": "c", "workload_selector": {"mesh": "out"}, "consumers": consumers}
    options = IstioOptions(tls=tls, import_namespace="imports")
    *rules, entry = istio.objects_for(imported_service("stock"), options, MARKER, "networking.istio.io/v1", None)
    assert [(each["kind"], each["metadata"]["namespace"]) for each in (*rules, entry)] == [
        ("DestinationRule", "bank"),
        ("DestinationRule", "shop"),
        ("ServiceEntry", "imports"),
    ]
    selected = [each["spec"]["workloadSelector"]["matchLabels"] for each in rules]
    assert selected == [{"app": "teller"}, {"mesh": "out"}]
    for rule in rules:
        assert rule["spec"]["exportTo"] == ["."]
        assert rule["spec"]["trafficPolicy"]["tls"]["credentialName"] == "c"
        assert rule["spec"]["trafficPolicy"]["tls"]["subjectAltNames"] == [INGRESS]
        assert rule["metadata"]["annotations"]["hamlet.federation/objects"] == "3"
    assert entry["spec"]["exportTo"] == ["*"]


def test_what_is_called_without_tls_needs_no_secret_and_has_one_rule_for_everybody() -> None:
    tls = {"mode": "MUTUAL", "credential_name": "c", "consumers": {"shop": {"a": "b"}, "bank": {"a": "b"}}}
    service = offered([("web", "HTTP", {}, ())], [("203.0.113.7", 80, ())], sans=())
    rule, _ = forms(service, plaintext=True, tls=tls)
    assert (rule["exportTo"], rule["trafficPolicy"]) == (["*"], {"tls": {"mode": "DISABLE"}})


@pytest.mark.parametrize(
    ("wanted", "served", "read", "written"),
    [
        ("auto", ("v1", "v1beta1"), "discovery.k8s.io/v1", "discovery.k8s.io/v1"),
        ("auto", ("v1",), "discovery.k8s.io/v1", "discovery.k8s.io/v1"),
        ("auto", ("v1beta1",), "discovery.k8s.io/v1beta1", "v1"),
        ("auto", (), "v1", "v1"),
        ("v1", ("v1",), "v1", "v1"),
        ("discovery.k8s.io/v1beta1", ("v1beta1",), "discovery.k8s.io/v1beta1", "discovery.k8s.io/v1beta1"),
        ("discovery.k8s.io/v1beta1", ("v1", "v1beta1"), "discovery.k8s.io/v1beta1", "discovery.k8s.io/v1beta1"),
    ],
)
def test_what_the_cluster_serves_decides_where_endpoints_are_read_and_written(
    wanted: str, served: tuple[str, ...], read: str, written: str
) -> None:
    assert endpoints_apis(wanted, served) == (read, written)


@pytest.mark.parametrize("version", ["discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"])
def test_slices_are_the_same_in_both_versions_but_for_its_name(version: str) -> None:
    """So what a server with the older one takes below is what one with the newer one gets."""
    _, piece = plain.objects_for(imported_service("one"), IstioOptions(mode="kubernetes"), MARKER, version)
    assert piece.pop("apiVersion") == version
    assert piece.keys() == {"kind", "metadata", "addressType", "endpoints", "ports"}
    assert piece["endpoints"] == [{"addresses": ["203.0.113.7"], "conditions": {"ready": True}}]
    assert piece["ports"] == [{"name": "http", "port": 8443, "protocol": "TCP"}]


def test_a_secret_keeps_the_rule_in_its_namespace() -> None:
    tls = {"mode": "MUTUAL", "credential_name": "client", "workload_selector": {"app": "shop"}}
    rule, entry = forms(imported_service("stock"), tls=tls)
    assert (rule["exportTo"], entry["exportTo"]) == (["."], ["*"])
    assert rule["workloadSelector"] == {"matchLabels": {"app": "shop"}}
    assert rule["trafficPolicy"]["tls"]["credentialName"] == "client"


INSTANCES = st.lists(
    st.tuples(
        st.text(st.characters(categories=("L", "N", "Pd")), min_size=1, max_size=20),
        st.sampled_from(list(map(str, Protocol))),
        st.fixed_dictionaries({}, optional={"SNI": st.just("s.example"), "PORT": st.integers(1, 65535).map(str)}),
        st.just(()),
    ),
    min_size=1,
    max_size=6,
)
PLACES = st.lists(
    st.tuples(st.sampled_from(["203.0.113.7", "203.0.113.8", "in.example"]), st.integers(1, 65535), st.just(())),
    min_size=1,
    max_size=4,
    unique=True,
)


@given(INSTANCES, PLACES, st.booleans())
def test_no_rule_ever_has_an_sni_without_sans_and_ports_are_unique(
    instances: Any, places: Any, with_sans: bool
) -> None:
    service = offered(instances, places, sans=(INGRESS,) if with_sans else ())
    rule, entry = forms(service, plaintext=True)
    policy = rule["trafficPolicy"]
    for tls in (policy["tls"], *(each["tls"] for each in policy.get("portLevelSettings", ()))):
        assert ("sni" in tls) == with_sans
        assert bool(tls.get("subjectAltNames")) == with_sans
    names, numbers = ([port[key] for port in entry["ports"]] for key in ("name", "number"))
    assert len(set(names)) == len(names)
    assert len(set(numbers)) == len(numbers)
    for row in entry["endpoints"]:
        assert set(row["ports"]) == set(names)
    assert {(row["address"], port) for row in entry["endpoints"] for port in row["ports"].values()} == {
        (address, port) for address, port, _ in places
    }


def test_plain_kubernetes_leaves_names_out_and_refuses_a_service_of_names_alone() -> None:
    both = offered(
        [("web", "HTTP", {}, ())], [("in.example", 80, ()), ("203.0.113.7", 80, ()), ("2001:db8::7", 80, ())]
    )
    options = IstioOptions(mode="kubernetes")
    service, *slices = plain.objects_for(both, options, MARKER, "discovery.k8s.io/v1")
    assert "in.example" in service["metadata"]["annotations"]["hamlet.federation/left-out"]
    assert [each["addressType"] for each in slices] == ["IPv4", "IPv6"]
    (endpoints,) = plain.objects_for(both, options, MARKER, "v1")[1:]
    assert [each["ip"] for each in endpoints["subsets"][0]["addresses"]] == ["203.0.113.7", "2001:db8::7"]
    names = offered([("web", "HTTP", {}, ())], [("in.example", 80, ())])
    with pytest.raises(InvalidService, match="needs IP addresses"):
        plain.objects_for(names, options, MARKER, "v1")


ALL_PROTOCOLS = [(each.value, each.value, {"PORT": str(1000 + n)}, ()) for n, each in enumerate(Protocol)]
WEB: Any = [("web", "HTTP", {}, ())]
DATABASE: Any = [("db", "TCP", {"PORT": "5432"}, ())]
PLACE: Any = ("203.0.113.7", 8443, ())
EVERY_FORM = [
    imported_service("one"),
    offered(ALL_PROTOCOLS, [PLACE], name="all.east.example"),
    offered(WEB, [("in.example", 80, ()), PLACE], name="mixed.east.example"),
    offered(DATABASE, [PLACE, ("2001:db8::7", 81, ())], name="tcp.east.example"),
    imported_service("long", local_name=f"{'a' * 60}.{'b' * 60}.example"),
    imported_service("digit", local_name="1.example"),
]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tls": {"mode": "MUTUAL", "credential_name": "c", "workload_selector": {"a": "b"}}},
        {"tls": {"mode": "SIMPLE", "ca_certificates": "/etc/ca.pem"}, "export_to": (".", "shop")},
        {"mode": "kubernetes"},
        {"mode": "kubernetes", "endpoints_api": "discovery.k8s.io/v1beta1"},
    ],
    ids=["istio", "mutual", "simple", "endpoints", "slices"],
)
def test_every_form_is_taken_by_the_real_api_and_read_back_whole(
    make_cluster: Callable[..., Any], open_registry: Callable[..., Any], options: dict[str, Any]
) -> None:
    cluster = make_cluster(**options)
    opened = open_registry(cluster)
    outcomes = opened.hooks.registry_apply(changes=[WriteImport(each) for each in EVERY_FORM])
    assert {(each.status, each.reason) for each in outcomes} == {(Status.APPLIED, "")}
    standing = {each.key: each.digest for each in opened.hooks.registry_imports()}
    assert standing == {each.key: each.digest for each in EVERY_FORM}

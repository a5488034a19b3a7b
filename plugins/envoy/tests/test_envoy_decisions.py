"""The parts of the gateway that only decide: options, ports, trust, resources, and what Envoy's words mean."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hamlet_envoy import egress, ingress, state, trust, xds
from hamlet_envoy.bootstrap import admin_place, arguments, bootstrap, find_binary
from hamlet_envoy.certificates import covers
from hamlet_envoy.delivery import culprits, reason_in
from hamlet_envoy.kept import Kept
from hamlet_envoy.options import EnvoyOptions
from hamlet_envoy.plugin import hamlet_adapters
from hamlet_envoy.ports import allocate
from hamlet_envoy.rendering import WATCHES_LEFT, Memory, Rendered, render
from hamlet_envoy.trust import Believed, believe
from hamlet_envoy.upstream import cluster
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hamlet_core.api import (
    AdapterContext,
    ConfigError,
    Endpoint,
    FederatedService,
    ImportKey,
    ImportRoute,
    Instance,
    PeerTrust,
    Protocol,
    PublishRoute,
    ServicePort,
    Trust,
)
from hamlet_core.api.testing.minting import NOW, Mint

INGRESS: dict[str, Any] = {"listen": "0.0.0.0:15443", "advertise": ["203.0.113.7:15443"]}
EGRESS: dict[str, Any] = {"bind": "10.0.0.5"}
ROOT, NEXT = Mint("root"), Mint("next")
HERE = Path("/run/gateway")


def options(**more: Any) -> EnvoyOptions:
    return EnvoyOptions.model_validate({"directory": "d", "ingress": INGRESS, "egress": EGRESS, **more})


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"ingress": None, "egress": None}, "at least one"),
        ({"ingress": {**INGRESS, "listen": "15443"}}, "host:port"),
        ({"ingress": {**INGRESS, "listen": "0.0.0.0:0"}}, "from 1 to 65535"),
        ({"ingress": {**INGRESS, "listen": "::1:15443"}}, r"\[IPv6\]:port"),
        ({"ingress": {**INGRESS, "listen": "a.example:15443"}}, "no IP address"),
        ({"ingress": {**INGRESS, "advertise": []}}, "at least 1"),
        ({"ingress": {**INGRESS, "advertise": ["0.0.0.0:15443"]}}, "nobody can connect"),
        ({"ingress": {**INGRESS, "advertise": ["a b:1"]}}, "neither an IP address nor a domain name"),
        ({"ingress": {**INGRESS, "advertise": ["1.2.3:1"]}}, "neither an IP address nor a domain name"),
        ({"ingress": {**INGRESS, "certificate": "a.pem"}}, "go together"),
        ({"egress": {"bind": "127.0.0.1"}}, "`advertise` is needed"),
        ({"egress": {"bind": "::"}}, "`advertise` is needed"),
        ({"egress": {"bind": "here"}}, "no IP address"),
        ({"egress": {**EGRESS, "advertise": "::"}}, "nobody can connect"),
        ({"egress": {**EGRESS, "ports": "9-1"}}, "no range"),
        ({"egress": {**EGRESS, "ports": "80"}}, "no range"),
        ({"admin": "10.0.0.1:15000"}, "not on loopback"),
        ({"drain": "0s"}, "greater than or equal"),
        ({"directroy": "x"}, "Extra inputs"),
    ],
)
def test_a_wrong_option_is_named_with_the_rule(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        options(**wrong)


def test_loopback_is_advertised_only_when_it_is_said() -> None:
    said = options(egress={"bind": "127.0.0.1", "advertise": "127.0.0.1"}).egress
    assert said is not None
    assert said.address == "127.0.0.1"
    implied = options().egress
    assert implied is not None
    assert implied.address == "10.0.0.5"


def test_the_admin_socket_has_a_path_that_the_kernel_takes() -> None:
    assert admin_place(options(), HERE) == HERE / "admin.sock"
    with pytest.raises(ConfigError, match="too long") as raised:
        admin_place(options(), Path("/" + "x" * 120))
    assert "admin" in raised.value.mend
    assert admin_place(options(admin="[::1]:15000"), Path("/" + "x" * 120)) == ("::1", 15000)


def test_envoy_is_started_strictly_and_drains_soon() -> None:
    said = " ".join(arguments(options(drain="7s", threads=2), HERE))
    for part in (
        "--reject-unknown-dynamic-fields",
        "--drain-time-s 7",
        "--drain-strategy immediate",
        "--concurrency 2",
    ):
        assert part in said
    first = bootstrap("west", HERE / "admin.sock", HERE)
    assert first["admin"]["address"]["pipe"] == {"path": "/run/gateway/admin.sock", "mode": 0o600}


def test_a_configured_binary_that_is_missing_is_not_replaced_by_another(tmp_path: Path) -> None:
    assert find_binary(options(), tmp_path) is not None, "the bundled one"
    assert find_binary(options(binary="nothing"), tmp_path) is None
    (tmp_path / "own").touch()
    assert find_binary(options(binary="own"), tmp_path) == tmp_path / "own"


def test_the_plugin_provides_a_gateway() -> None:
    (found,) = hamlet_adapters()
    assert (found.kind, found.role) == ("envoy", "gateway")
    context = AdapterContext(name="gateway", mesh="w", domain="w.example", trust_domain="w.example", directory=HERE)
    found.open(options(), context)  # nothing is opened: the folder is not there


NAMES = st.sets(st.text("abc", min_size=1, max_size=2), max_size=12)


@given(rounds=st.lists(NAMES, max_size=6), size=st.integers(1, 8), blocked=st.sets(st.integers(100, 107)))
def test_ports_are_kept_unique_allowed_and_free(rounds: list[set[str]], size: int, blocked: set[int]) -> None:
    allowed, before, last = range(100, 100 + size), {}, 0
    for wanted in rounds:
        found = allocate(wanted, before, allowed, last, lambda port: port not in blocked)
        assert found.ports.keys() | found.without == wanted
        assert not found.ports.keys() & found.without
        assert len(set(found.ports.values())) == len(found.ports)
        assert set(found.ports.values()) <= set(allowed) - blocked
        assert all(found.ports[name] == before[name] for name in wanted & before.keys())
        if found.without:
            assert set(allowed) - blocked == set(found.ports.values()), "nobody goes without while one is left"
        before, last = dict(found.ports), found.last


def test_a_port_outside_a_changed_range_is_given_up() -> None:
    assert allocate(["a"], {"a": 5}, range(10, 12), 5, lambda _: True).ports == {"a": 10}


def peer(name: str, *mints: Mint, domain: str | None = "") -> PeerTrust:
    return PeerTrust(
        peer=name,
        trust_domain=f"{name}.example" if domain == "" else domain,
        bundle=b"".join(mint.pem for mint in mints).decode(),
    )


def believed(*peers: PeerTrust, before: Believed | None = None, now: datetime | None = None) -> Believed:
    given_trust = Trust(certificate="certificate", key="key", peers=peers)
    return believe(given_trust, before.epochs if before else {}, now or datetime.now(UTC))


def test_an_epoch_begins_when_a_bundle_loses_an_authority_and_not_when_it_gains_one() -> None:
    first = believed(peer("east", ROOT))
    more = believed(peer("east", ROOT, NEXT), before=first)
    less = believed(peer("east", NEXT), before=more)
    same = believed(peer("east", NEXT), before=less)
    assert [each.number("east") for each in (first, more, less, same)] == [0, 0, 1, 1]
    names = [trust.owner_name("east", each) for each in (first, more, less, same)]
    assert names[0] == names[1] != names[2] == names[3]
    audiences = [trust.audience_name(("east",), each) for each in (first, more, less, same)]
    assert audiences[0] == audiences[1] != audiences[2] == audiences[3]


def test_an_authority_that_expired_first_ends_no_connection() -> None:
    both = believed(peer("east", ROOT, NEXT))
    later = NOW + timedelta(days=2)
    assert believed(peer("east", NEXT), before=both, now=later).number("east") == 0


def test_a_bundle_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"."):
        believed(PeerTrust(peer="east", trust_domain="east.example", bundle="nothing"))


def test_each_trust_domain_has_its_own_bundle_and_a_shared_one_has_both() -> None:
    found = believed(peer("a", ROOT), peer("b", NEXT), peer("c", NEXT, domain="a.example"))
    secret = trust.audience_secret(("a", "b", "c"), found)
    domains = secret["validation_context"]["custom_validator_config"]["typed_config"]["trust_domains"]
    bundles = {each["name"]: each["trust_bundle"]["inline_string"] for each in domains}
    assert bundles == {
        "a.example": (ROOT.pem + NEXT.pem).decode(),
        "b.example": NEXT.pem.decode(),
    }


def published(name: str, *peers: str, protocol: Protocol = Protocol.TCP, host: str = "10.0.0.1") -> PublishRoute:
    fqdn = f"{name}.west.example"
    return PublishRoute(
        sni=fqdn,
        fqdn=fqdn,
        registry="r",
        service=name,
        port=ServicePort(name="main", port=80, protocol=protocol),
        endpoints=(Endpoint(address=host, port=8080),),
        peers=peers,
    )


def offered(name: str, owner: str = "east", *, protocol: str = "TCP", sni: str = "") -> ImportRoute:
    fqdn = f"{name}.{owner}.example"
    instance = Instance(id="i", protocol=protocol, metadata={"SNI": sni} if sni else {})
    service = FederatedService(
        name=fqdn,
        fqdn=fqdn,
        endpoints=(Endpoint(address="192.0.2.1", port=15443),),
        instances=(instance,),
        sans=("spiffe://east.example/g", "g.east.example"),
    )
    return ImportRoute(peer=owner, service=service)


def rendered(
    routes: tuple[PublishRoute, ...] = (),
    imports: tuple[ImportRoute, ...] = (),
    *,
    by: Believed | None = None,
    watches: int = 128,
    memory: Memory | None = None,
    **more: Any,
) -> Rendered:
    return render(
        options(**more),
        HERE,
        by or believed(peer("east", ROOT), peer("north", NEXT)),
        {route.sni: route for route in routes},
        {route.key: route for route in imports},
        ports={},
        last_port=0,
        rejected={},
        ingress_pair=None,
        watches=watches,
        is_free=lambda _: True,
        memory=memory or Memory(),
    )


def test_a_new_service_leaves_the_chains_of_others_as_they_are() -> None:
    one = json.loads(rendered((published("a", "east"),)).listeners[ingress.LISTENER])
    two = json.loads(rendered((published("a", "east"), published("b", "east"))).listeners[ingress.LISTENER])
    assert one["filter_chains"][0] == two["filter_chains"][0]
    assert len(two["filter_chains"]) == 2


def test_services_of_one_audience_share_a_bundle_file() -> None:
    found = rendered((*(published(name, "east", "north") for name in "abc"), published("d", "north", "east")))
    assert len([name for name in found.secrets if name.startswith("audience-")]) == 1


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        (Protocol.HTTP, ["http/1.1", "istio-http/1.1"]),
        (Protocol.HTTP2, ["h2", "istio-h2"]),
        (Protocol.GRPC, ["h2", "istio-h2"]),
        (Protocol.HTTPS, ["istio"]),
        (Protocol.TCP, ["istio"]),
        (Protocol.TLS, ["istio"]),
        (Protocol.MTLS, ["istio"]),
        (Protocol.MONGO, ["istio"]),
    ],
)
def test_the_ingress_takes_the_words_of_the_protocol(protocol: Protocol, words: list[str]) -> None:
    listener = json.loads(rendered((published("a", "east", protocol=protocol),)).listeners[ingress.LISTENER])
    context = listener["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"]
    assert context["alpn_protocols"] == words


@pytest.mark.parametrize(
    ("protocol", "sni", "words"),
    [
        ("HTTP", "", ["http/1.1"]),
        ("GRPC", "", ["h2"]),
        ("http2", "", ["h2"]),
        ("TCP", "", None),
        ("TCP", "outbound_.80_._.a.east.example", ["istio"]),
        ("GRPC", "outbound_.80_._.a.east.example", ["istio-h2"]),
    ],
)
def test_the_egress_offers_the_word_that_the_owner_matches(protocol: str, sni: str, words: list[str] | None) -> None:
    route = offered("a", protocol=protocol, sni=sni)
    found = json.loads(rendered((), (route,)).clusters[egress.way_name(route.key, "i")])
    tls = found["transport_socket"]["typed_config"]
    assert tls["common_tls_context"].get("alpn_protocols") == words
    assert tls["sni"] == (sni or "a.east.example")
    context = tls["common_tls_context"]["combined_validation_context"]["default_validation_context"]
    assert context["match_typed_subject_alt_names"] == [
        {"san_type": "DNS", "matcher": {"exact": "g.east.example"}},
        {"san_type": "URI", "matcher": {"exact": "spiffe://east.example/g"}},
    ]


@pytest.mark.parametrize("sni", ["", "a b", "ü.example", ".", "a..b", "x" * 254])
def test_a_server_name_that_is_none_is_refused_on_either_side(sni: str) -> None:
    trusted = believed(peer("east", ROOT))
    assert ingress.refusal(replace(published("a", "east"), sni=sni), trusted) is not None
    route = offered("a")
    service = replace(route.service, fqdn=sni, instances=(Instance(id="i", protocol="TCP"),))
    assert egress.refusal(replace(route, service=service), trusted) is not None


@pytest.mark.parametrize(
    "endpoint",
    [
        Endpoint(address="x, egress/east/b.east.example/i: no", port=1),
        Endpoint(address="", port=1),
        Endpoint(address="192.0.2.1", port=0),
        Endpoint(address="192.0.2.1", port=65536),
    ],
)
def test_an_endpoint_that_nobody_could_connect_to_is_refused_on_either_side(endpoint: Endpoint) -> None:
    trusted = believed(peer("east", ROOT))
    found = ingress.refusal(replace(published("a", "east"), endpoints=(endpoint,)), trusted)
    assert found is not None
    assert "mend the service" in found.reason
    route = offered("a")
    refused = egress.refusal(replace(route, service=replace(route.service, endpoints=(endpoint,))), trusted)
    assert refused is not None
    assert "endpoints" in refused.reason


@pytest.mark.parametrize("san", ["", "a b", "spiffe://east.example/x egress/east/b/i: ", "x\ny", "ü"])
def test_a_san_that_is_no_name_is_refused(san: str) -> None:
    route = offered("a")
    service = replace(route.service, sans=("g.east.example", san))
    assert egress.refusal(replace(route, service=service), believed(peer("east", ROOT))) is not None


def test_names_that_are_not_plain_stand_in_no_resource_as_they_are() -> None:
    plain = egress.way_name(ImportKey("east", "a.east.example"), "http")
    odd = [egress.way_name(ImportKey("east", name), "i") for name in (f" {plain}: ", "a/b", "ü", "")]
    assert plain == "egress/east/a.east.example/http"
    assert len(set(odd)) == 4
    assert all(name.startswith("egress/~") and len(name) == 24 for name in odd)


def test_an_ingress_on_all_addresses_takes_those_of_ipv4_too() -> None:
    both = json.loads(rendered(ingress={**INGRESS, "listen": "[::]:15443"}).listeners[ingress.LISTENER])
    assert both["address"]["socket_address"] == {"address": "::", "port_value": 15443, "ipv4_compat": True}


def test_more_bundles_than_envoy_may_watch_are_refused_instead_of_its_death() -> None:
    many = [f"p{number}" for number in range(10)]
    trusted = believed(*(peer(name, ROOT) for name in many))
    routes = tuple(published(name, name) for name in many)
    found = rendered(routes, tuple(offered("a", name) for name in many), by=trusted, watches=WATCHES_LEFT + 1 + 12)
    assert len(found.secrets) == 13
    assert not found.publish_refused
    assert len(found.import_refused) == 8
    assert all("inotify" in each.reason for each in found.import_refused.values())


@pytest.mark.parametrize(("missing", "refused"), [("ingress", {"a.west.example"}), ("egress", set())])
def test_a_gateway_with_one_side_refuses_the_other(missing: str, refused: set[str]) -> None:
    route = offered("a")
    found = rendered((published("a", "east"),), (route,), **{missing: None})
    assert set(found.publish_refused) == refused
    assert set(found.import_refused) == (set() if refused else {route.key})


def test_the_same_routes_in_another_order_are_the_same_resources() -> None:
    routes = (published("a", "east"), published("b", "north", "east"))
    imports = (offered("c"), offered("d"))
    one, other = rendered(routes, imports), rendered(routes[::-1], imports[::-1])
    for part in ("secrets", "clusters", "listeners"):
        assert json.dumps(getattr(one, part), sort_keys=True) == json.dumps(getattr(other, part), sort_keys=True)


BELIEFS = (
    believed(peer("east", ROOT), peer("north", NEXT)),
    believed(peer("east", NEXT), peer("north", NEXT)),
    believed(peer("east", ROOT)),
)
STEPS = st.tuples(
    st.sampled_from(BELIEFS),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from([("east",), ("north",), ("east", "north")])),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from(["TCP", "GRPC"])),
)


@given(st.lists(STEPS, min_size=1, max_size=6))
def test_what_is_kept_of_earlier_renderings_changes_nothing(steps: list[tuple[Believed, dict, dict]]) -> None:
    memory = Memory()
    for by, out, into in steps:
        routes = tuple(published(name, *peers) for name, peers in out.items())
        imports = tuple(offered(name, protocol=protocol) for name, protocol in into.items())
        assert rendered(routes, imports, by=by, memory=memory) == rendered(routes, imports, by=by)


def test_one_service_more_makes_nothing_anew_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(
        xds, "text", lambda content, text=xds.text, **parts: made.append(content) or text(content, **parts)
    )
    by, memory = BELIEFS[0], Memory()
    counts = []
    for names in ("ab", "abc", "abc", "abcd"):
        made.clear()
        routes = tuple(published(name, "east") for name in names)
        rendered(routes, tuple(offered(name) for name in names), by=by, memory=memory)
        counts.append(len(made))
    # of each service a cluster and a chain, and a cluster and a listener; of all together the ingress
    assert counts == [2 * 4 + 1, 4 + 1, 1, 4 + 1]


def test_things_are_made_again_when_their_source_changed_or_nobody_asked_for_a_while() -> None:
    kept: Kept[str] = Kept()
    made: list[str] = []

    def ask(source: str) -> str:
        kept.turn()
        return kept.of("key", source, lambda: made.append(source) or source)  # type: ignore[func-returns-value]

    assert [ask("one"), ask("one"), ask("two"), ask("one")] == ["one", "one", "two", "one"]
    assert made == ["one", "two", "one"]
    kept.turn()
    assert ask("one") == "one"
    assert made == ["one", "two", "one", "one"]


@pytest.mark.parametrize("parts", [{}, {"b": "[1,2]"}, {"b": '{"c":"d"}', "e": "null"}])
def test_a_text_with_parts_is_the_whole_message(parts: dict[str, str]) -> None:
    whole = {"a": 1} | {name: json.loads(part) for name, part in parts.items()}
    assert json.loads(xds.text({"a": 1}, **parts)) == whole


@pytest.mark.parametrize(
    ("addresses", "kind", "ejects"),
    [
        (["10.0.0.1"], None, False),
        (["10.0.0.1", "10.0.0.2"], None, True),
        (["a.example"], "STRICT_DNS", True),
        (["10.0.0.1", "a.example"], "STRICT_DNS", True),
        (["2001:db8::1"], None, False),
    ],
)
def test_names_are_looked_up_and_of_several_the_dead_are_left_out(
    addresses: list[str], kind: str | None, ejects: bool
) -> None:
    found = cluster("c", [Endpoint(address=address, port=1) for address in addresses])
    assert found.get("type") == kind
    assert ("outlier_detection" in found) is ejects


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*.west.example", "a.west.example", True),
        ("*.west.example", "a.b.west.example", False),
        ("*.west.example", "west.example", False),
        ("a.west.example", "a.west.example", True),
        ("a.west.example", "b.west.example", False),
    ],
)
def test_a_wildcard_stands_for_one_label(pattern: str, name: str, fits: bool) -> None:
    assert covers(pattern, name) is fits


LOG = """[2026-01-01 00:00:00.000][1][warning][config] [f.cc:81] Filesystem config update rejected: earlier
[2026-01-01 00:00:00.000][1][warning][config] [f.cc:81] Filesystem config update rejected: Error adding/updating \
cluster(s) egress/w/a/i: malformed IP address: x, egress/w/b/i: again
and on
[2026-01-01 00:00:01.000][1][info][main] [f.cc:1] something else
"""


def test_the_reason_of_a_rejection_is_found_in_the_log() -> None:
    reason = reason_in(LOG)
    assert reason.startswith("Error adding/updating")
    assert reason.endswith("again and on")
    assert culprits(reason, ["egress/w/a/i", "egress/w/b/i", "egress/w/c/i"]) == {
        "egress/w/a/i": "malformed IP address: x",
        "egress/w/b/i": "again and on",
    }
    assert reason_in("nothing of it") == ""


def test_a_resource_whose_form_is_wrong_is_found_by_its_name() -> None:
    reason = 'goo.gle/debugproto name: "egress/w/a/i" address {} Proto constraint validation failed (port: too large)'
    assert culprits(reason, ["egress/w/a/i", "egress/w/a"]) == {
        "egress/w/a/i": "Proto constraint validation failed (port: too large)"
    }
    assert culprits("of nobody", ["egress/w/a/i"]) == {}


def test_what_is_remembered_comes_back_as_it_was(tmp_path: Path) -> None:
    remembered = state.Remembered(
        published=(published("a", "east"),),
        imported=(offered("b"),),
        ports={"egress/east/b/i": 20000},
        last_port=20000,
        epochs=believed(peer("east", ROOT)).epochs,
    )
    assert state.load(tmp_path) == state.Remembered()
    state.save(tmp_path, remembered)
    assert state.load(tmp_path) == remembered

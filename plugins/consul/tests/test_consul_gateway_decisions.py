"""What of the gateway only decides: which imports Consul can check, under which names, whose link is whose."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path
from typing import Any

import pytest
from hamlet_consul import credentials
from hamlet_consul.credentials import Credentials, files_of, peer_of, sweep
from hamlet_consul.gateway_options import ConsulGatewayOptions
from hamlet_consul.links import Link, Place, Standing, covers, decide, names_of, protocol, refusal
from hamlet_consul.versions import unchecked
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hamlet_core.api import Endpoint, ImportKey, ImportRoute, Instance, PeerTrust, Refused, Trust
from hamlet_core.api.testing import imported_service
from hamlet_core.api.testing.minting import Mint

OWN = Credentials(
    certificate="own.pem", key="own.key", authorities={"east": f"hamlet_west.example_east_{'0' * 16}.ca.pem"}
)
PLACE = Place(trust_domain="west.example", folder="/gw", credentials=OWN)


def route(name: str = "stock", peer: str = "east", **changes: Any) -> ImportRoute:
    """An import whose ingress presents its SNI as a DNS name."""
    plain = imported_service(name, peer).service
    given = {"sans": (*plain.sans, plain.fqdn)} | changes
    return ImportRoute(peer=peer, service=dataclasses.replace(plain, **given))


def instance(identity: str, sni: str = "stock.east.example", protocol: str = "TCP", **given: Any) -> Instance:
    return Instance(id=identity, protocol=protocol, metadata={"sni": sni} if sni else {}, **given)


# What Consul can check


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sans": ("*.east.example",)},
        {"sans": ("spiffe://east.example/ingress", "STOCK.east.example")},
        {"instances": (instance("tcp", sni=""),)},
        {"instances": (instance("web", protocol="HTTP"), instance("rpc", protocol="GRPC"))},
    ],
)
def test_an_import_whose_sni_is_presented_as_a_dns_name_is_taken(changes: dict[str, Any]) -> None:
    assert refusal(route(**changes), OWN) is None


TWO = (Endpoint(address="203.0.113.1", port=1, labels=("a",)), Endpoint(address="203.0.113.2", port=1, labels=("b",)))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sans": ()}, "names no SANs"),
        (
            {"sans": ("spiffe://east.example/ingress",)},
            "'stock.east.example', and its owner's ingress does not present",
        ),
        ({"sans": ("spiffe://east.example/ingress",)}, "without SNI Consul would check no name at all"),
        ({"sans": ("spiffe://east.example/ingress",)}, "hamlet-envoy"),
        ({"sans": ("*.example",)}, "does not present"),
        ({"sans": ("east.example",)}, "does not present"),
        ({"sans": ("*.stock.east.example",)}, "does not present"),
        ({"instances": (instance("tcp", sni="203.0.113.7"),), "sans": ("203.0.113.7",)}, "does not present"),
        ({"instances": (instance("tcp", sni="outbound_.80_._.a.b"),)}, "does not present"),
        ({"instances": ()}, "instances and endpoints are needed"),
        ({"endpoints": ()}, "instances and endpoints are needed"),
        ({"instances": (instance("a"), instance("b", sni="b.east.example"))}, "different server names"),
        (
            {
                "endpoints": TWO,
                "instances": (instance("a", endpoint_selector=("a",)), instance("b", endpoint_selector=("b",))),
            },
            "different endpoints",
        ),
    ],
)
def test_an_import_that_consul_would_not_check_is_refused_with_reason_and_mend(
    changes: dict[str, Any], says: str
) -> None:
    refused = refusal(route(**changes), OWN)
    assert isinstance(refused, Refused)
    assert says in refused.reason


def test_an_import_of_a_peer_without_a_bundle_is_refused() -> None:
    refused = refusal(route(peer="north"), OWN)
    assert refused is not None
    assert "no bundle of north" in refused.reason


@pytest.mark.parametrize(
    ("san", "name", "passes"),
    [
        ("a.example", "a.example", True),
        ("A.example", "a.example", True),
        ("*.example", "a.example", True),
        ("*.example", "a.b.example", False),
        ("*.example", "example", False),
        ("*", "example", False),
        ("*.", "example", False),
        ("a*.example", "ab.example", False),
        ("spiffe://a.example/x", "a.example", False),
    ],
)
def test_a_wildcard_stands_for_the_whole_first_label(san: str, name: str, passes: bool) -> None:
    assert covers(san, name) is passes


@pytest.mark.parametrize(
    ("spoken", "said"),
    [
        (("HTTP",), "http"),
        (("HTTP2",), "http2"),
        (("GRPC",), "grpc"),
        (("TCP",), ""),
        (("HTTP", "GRPC"), ""),
        (("X",), ""),
    ],
)
def test_the_protocol_is_said_where_all_instances_agree(spoken: tuple[str, ...], said: str) -> None:
    service = route(instances=tuple(instance(str(n), protocol=each) for n, each in enumerate(spoken))).service
    assert protocol(service) == said


# Names


def test_an_entry_that_stands_says_its_name_and_a_new_one_has_the_plain_one() -> None:
    standing = {
        ImportKey("east", "stock.east.example"): Standing("stock-east-example-1a2b3c4d", "stock.east.example")
    }
    assert set(names_of([route("stock"), route("mail")], standing, ()).values()) == {
        "stock-east-example-1a2b3c4d",
        "mail-east-example",
    }


@pytest.mark.parametrize("listed", [{"stock-east-example"}, {"stock-east-example", "x"}])
def test_a_name_that_somebody_has_is_not_linked_for_an_entry_to_come(listed: set[str]) -> None:
    assert names_of([route("stock")], {}, listed) == {}


def test_of_two_that_claim_a_name_none_is_linked_before_its_entry_says_its_own() -> None:
    same = dataclasses.replace(route().service, name="other")
    assert names_of([route(), ImportRoute(peer="east", service=same)], {}, ()) == {}


# Links


def ours(name: str, **changes: Any) -> Link:
    return {**PLACE.link(name, route(name.partition("-")[0])), **changes}


FOREIGN: Link = {"Name": "payments", "CAFile": "/etc/ca.pem", "SNI": "payments.example"}


def test_a_link_says_what_is_needed_to_check_the_owner_and_to_be_known_there() -> None:
    (link,) = decide([], {"stock-east-example": route()}, (), PLACE, "gw").links
    assert link == {
        "Name": "stock-east-example",
        "CAFile": f"/gw/hamlet_west.example_east_{'0' * 16}.ca.pem",
        "CertFile": "/gw/own.pem",
        "KeyFile": "/gw/own.key",
        "SNI": "stock.east.example",
    }


def test_links_of_others_stay_as_and_where_they_are() -> None:
    gone, wild = ours("gone-east-example"), {"Name": "*"}
    decision = decide([FOREIGN, gone, wild], {"stock-east-example": route()}, (), PLACE, "gw")
    assert decision.links == [FOREIGN, wild, ours("stock-east-example")]


def test_a_link_of_another_trust_domain_is_anothers() -> None:
    other = ours("gone-east-example", CAFile=f"/gw/hamlet_north.example_east_{'0' * 16}.ca.pem")
    assert decide([other], {}, (), PLACE, "gw").links == [other]


@pytest.mark.parametrize(
    ("kept", "stay"),
    [(None, {"a-east-example", "b-east-example"}), ({"a-east-example"}, {"a-east-example"}), ((), set())],
)
def test_what_is_kept_stays(kept: set[str] | None, stay: set[str]) -> None:
    links = decide([ours("a-east-example"), ours("b-east-example")], {}, kept, PLACE, "gw").links
    assert {link["Name"] for link in links} == stay


def test_a_link_of_someone_else_to_our_import_is_left_and_the_import_refused() -> None:
    foreign = {**FOREIGN, "Name": "stock-east-example"}
    decision = decide([foreign], {"stock-east-example": route()}, (), PLACE, "gw")
    assert decision.links == [foreign]
    (refused,) = decision.refused.values()
    assert "not ours: remove that link" in refused.reason


def test_what_consul_adds_to_our_link_is_no_reason_to_write() -> None:
    seen = ours("stock-east-example", DisableAutoHostRewrite=False)
    assert decide([seen], {"stock-east-example": route()}, (), PLACE, "gw").links == [seen]


def test_in_another_namespace_the_name_is_another() -> None:
    foreign = {**FOREIGN, "Name": "stock-east-example"}
    place = dataclasses.replace(PLACE, namespace="shop")
    first, second = decide([foreign], {"stock-east-example": route()}, (), place, "gw").links
    assert (first, second["Namespace"]) == (foreign, "shop")


NAMES = st.sampled_from([f"{letter}-east-example" for letter in "abcde"])


@settings(deadline=None)  # the machine may be busy
@given(
    present=st.dictionaries(NAMES, st.booleans()),
    wanted=st.sets(NAMES),
    kept=st.none() | st.sets(NAMES),
)
def test_all_that_is_wanted_is_linked_once_and_nothing_of_others_is_touched(
    present: dict[str, bool], wanted: set[str], kept: set[str] | None
) -> None:
    links = [ours(name) if mine else {"Name": name} for name, mine in present.items()]
    routes = {name: route(name[0]) for name in wanted}
    decision = decide(links, routes, kept, PLACE, "gw")
    named = [link["Name"] for link in decision.links]
    foreign = {name for name, mine in present.items() if not mine}
    assert len(named) == len(set(named))
    assert {key.name[0] for key in decision.refused} == {name[0] for name in wanted & foreign}
    assert [link for link in decision.links if not PLACE.owner(link)] == [
        {"Name": n} for n in present if n in foreign
    ]
    left = (present.keys() - foreign) & (present.keys() if kept is None else kept)
    assert set(named) == foreign | wanted | left
    again = decide(decision.links, routes, kept, PLACE, "gw")
    assert again.links == decision.links


# Versions


@pytest.mark.parametrize(
    ("builds", "said"),
    [
        ({"a": "1.13.0:0e046bbb", "b": "1.22.3+ent:1a2b"}, ""),
        ({"a": "2.0.0:"}, ""),
        ({"a": "1.13.0:", "b": "1.8.7:"}, "b (1.8.7)"),
        ({"b": "1.12.9:", "a": "1.9.17:0e046bbb", "c": "1.13.0:"}, "a (1.9.17) and 1 more agents"),
        ({"a": ""}, "a (an unknown version)"),
        ({}, "(none is seen)"),
    ],
)
def test_agents_that_may_check_no_names_are_told_by_their_builds(builds: dict[str, str], said: str) -> None:
    assert unchecked(builds) == said


def test_where_names_may_be_unchecked_every_import_is_refused() -> None:
    refused = refusal(route(), OWN, "b (1.8.7)")
    assert refused is not None
    assert "b (1.8.7)" in refused.reason
    assert "names: checked" in refused.reason


# Files


def trust(*peers: str, mint: Mint | None = None) -> Trust:
    leaf = (mint or Mint()).leaf("spiffe://west.example/agent")
    return Trust(
        certificate=leaf.pem.decode(),
        key=leaf.key_pem.decode(),
        peers=tuple(
            PeerTrust(peer=each, trust_domain=f"{each}.example", bundle=Mint(each).pem.decode()) for each in peers
        ),
    )


def test_files_are_named_after_their_content_and_whose_they_are() -> None:
    given = trust("east", "north")
    known, content = files_of(given, "a_b.example")
    assert known.names == content.keys()
    assert content[known.key] == given.key
    for peer in ("east", "north"):
        assert peer_of(f"/anywhere/{known.authorities[peer]}", "a_b.example") == peer
        assert peer_of(known.authorities[peer], "b.example") == ""
    assert files_of(given, "a_b.example")[0] == known
    assert files_of(trust("east"), "a_b.example")[0].names.isdisjoint(known.names)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"certificate": "x"}, "cannot be read"),
        ({"key": "x"}, "cannot be read"),
        ({"key": trust().key}, "not that of our certificate"),
        ({"peers": (PeerTrust(peer="east", trust_domain=None, bundle="x"),)}, "the bundle of east"),
    ],
)
def test_what_is_no_certificate_is_refused_before_anything_is_written(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        files_of(dataclasses.replace(trust(), **changes), "west.example")


def test_files_are_for_our_user_alone_and_others_files_are_left(tmp_path: Path) -> None:
    known, content = files_of(trust("east"), "west.example")
    (tmp_path / "notes").write_text("mine")
    credentials.write(tmp_path / "gw", content)
    credentials.write(tmp_path, content)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in known.names} == {0o600}
    assert stat.S_IMODE((tmp_path / "gw").stat().st_mode) == 0o700
    sweep(tmp_path, "west.example", {known.key})
    assert {path.name for path in tmp_path.iterdir()} == {"notes", "gw", known.key}


# Options


def test_the_folder_that_the_proxy_sees_is_absolute() -> None:
    assert ConsulGatewayOptions(files="/run/egress/").files == "/run/egress"
    with pytest.raises(ValidationError, match="absolute"):
        ConsulGatewayOptions(files="run/egress")

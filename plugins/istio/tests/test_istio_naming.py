"""Names: stable, DNS-safe, short enough, and no two the same."""

from __future__ import annotations

import re

import pytest
from hamlet_istio.addresses import allocate, lies_in
from hamlet_istio.naming import label_value, object_name, port_name
from hypothesis import given
from hypothesis import strategies as st

from hamlet_core.api import InvalidService

RFC1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)
HOST = st.lists(LABEL, min_size=1, max_size=6).map(".".join)
NEAR = st.lists(st.sampled_from(["a", "b", "-", "--", ".", "a-b", "a.b", "1"]), min_size=1, max_size=8).map("".join)


@pytest.mark.parametrize(
    ("local_name", "name"),
    [
        ("orders.west.example", "orders-west-example"),
        ("a-b.example", "a--b-example"),
        ("a.b.example", "a-b-example"),
        ("xn--bcher-kva.example", "xn----bcher--kva-example"),
    ],
)
def test_a_host_name_is_read_back_from_its_object(local_name: str, name: str) -> None:
    assert object_name(local_name) == name


@pytest.mark.parametrize("odd", ["1.example", "a" * 63 + ".example", "Größe", "", "株", "a..b", "-a", "A.example"])
def test_what_is_no_plain_host_name_gets_a_hash(odd: str) -> None:
    assert re.fullmatch(r"[a-z].*---[a-z2-7]{13}", object_name(odd))


@given(st.one_of(HOST, NEAR, st.text(max_size=300)))
def test_every_name_is_a_label_of_rfc_1035(local_name: str) -> None:
    name = object_name(local_name)
    assert len(name) <= 63
    assert RFC1035.fullmatch(name)
    assert object_name(local_name) == name


@given(st.one_of(HOST, NEAR, st.text()), st.one_of(HOST, NEAR, st.text()))
def test_two_names_never_become_one(first: str, second: str) -> None:
    assert (object_name(first) == object_name(second)) == (first == second)


@given(st.text(max_size=200))
def test_every_text_becomes_a_legal_label_value(text: str) -> None:
    value = label_value(text)
    assert re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?", value)
    assert len(value) <= 63


@given(
    st.sampled_from(["http", "https", "grpc", "http2", "mongo", "tcp", "tls"]),
    st.lists(st.text(max_size=40), max_size=12),
)
def test_ports_have_names_of_their_own_that_begin_with_the_protocol(protocol: str, wishes: list[str]) -> None:
    taken: set[str] = set()
    for wish in wishes:
        name = port_name(protocol, wish, taken)
        assert name not in taken
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name)
        assert len(name) <= 15
        assert name.partition("-")[0] == protocol
        taken.add(name)


@given(st.lists(HOST, unique=True, min_size=1, max_size=60))
def test_no_two_hosts_share_an_address(hosts: list[str]) -> None:
    taken: set[str] = set()
    for host in hosts:
        address = allocate(host, "240.128.0.0/26", taken)
        assert address not in taken
        assert lies_in(address, "240.128.0.0/26")
        taken.add(address)
    assert not taken & {"240.128.0.0", "240.128.0.63"}


def test_the_same_host_gets_the_same_address_and_a_full_network_is_said() -> None:
    assert allocate("a.example", "240.128.0.0/16", ()) == allocate("a.example", "240.128.0.0/16", ())
    with pytest.raises(InvalidService, match="virtual_addresses"):
        allocate("a.example", "240.128.0.0/31", {"240.128.0.0", "240.128.0.1"})

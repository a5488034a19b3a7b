"""Our policy on a well-formed service: what is welcome from whom."""

from __future__ import annotations

import pytest

from hamlet_core.api import Endpoint
from hamlet_core.imports.rules import accept


def judge(service, peer, *, local=frozenset(), own="home.example"):
    return accept(service, peer, local_names=frozenset(local), own_domain=own, peer_name="east")


@pytest.mark.parametrize(
    ("patterns", "fqdn", "welcome"),
    [
        (("*",), "orders.east.example", True),
        (("*.east.example",), "orders.east.example", True),
        (("*.east.example",), "ORDERS.East.Example", True),
        (("*.EAST.example",), "orders.east.example", True),
        (("*.east.example",), "a.b.east.example", True),
        (("*.east.example",), "east.example", False),
        (("*.east.example",), "orders.east.example.evil", False),
        (("*.east.example",), "orders.eastXexample", False),
        (("orders.*", "pay.*"), "pay.east.example", True),
        (("orders.*", "pay.*"), "mail.east.example", False),
        (("orders?.east.example",), "orders1.east.example", True),
        (("[ab].east.example",), "c.east.example", False),
        ((), "orders.east.example", False),
    ],
)
def test_the_fqdn_must_fit_a_pattern_of_the_peer(service, peer, patterns, fqdn, welcome):
    reason = judge(service("orders", fqdn=fqdn), peer(accept=patterns))
    assert (reason is None) == welcome
    if reason is not None:
        assert reason == f"fqdn {fqdn.lower()!r} fits no pattern we take from this peer: add it to peers.east.accept"


@pytest.mark.parametrize(
    ("local", "fqdn", "welcome"),
    [
        ({"orders"}, "orders", False),
        ({"orders"}, "Orders", False),
        ({"orders.east.example"}, "ORDERS.east.example", False),
        ({"orders"}, "orders.east.example", True),
        ({"orders.shop"}, "orders.shop", False),
        ({"pay"}, "orders", True),
    ],
)
def test_a_local_service_goes_first(service, peer, local, fqdn, welcome):
    reason = judge(service("whatever", fqdn=fqdn), peer(), local=local)
    assert (reason is None) == welcome
    assert reason is None or "is the name of a local service" in reason


@pytest.mark.parametrize(
    ("own", "fqdn", "welcome"),
    [
        ("home.example", "orders.home.example", False),
        ("home.example", "a.b.HOME.example", False),
        ("home.example", "home.example", False),
        ("home.example", "orders.athome.example", True),
        ("home.example", "home.example.east.example", True),
        ("home.example", "example", True),
    ],
)
def test_nobody_else_names_services_under_our_domain(service, peer, own, fqdn, welcome):
    reason = judge(service("orders", fqdn=fqdn), peer(), own=own)
    assert (reason is None) == welcome
    assert reason is None or "under our own domain home.example" in reason


FORBIDDEN = [
    ("127.0.0.1", "is on loopback"),
    ("127.255.255.254", "is on loopback"),
    ("::1", "is on loopback"),
    ("0:0:0:0:0:0:0:1", "is on loopback"),
    ("::ffff:127.0.0.1", "is on loopback"),
    ("::ffff:7f00:1", "is on loopback"),
    ("64:ff9b::127.0.0.1", "is on loopback"),
    ("2002:7f00:1::", "is on loopback"),
    ("169.254.0.1", "is link-local"),
    ("::ffff:169.254.1.1", "is link-local"),
    ("fe80::1", "is link-local"),
    ("febf::1", "is link-local"),
    ("169.254.169.254", "is the address of cloud metadata"),
    ("::ffff:169.254.169.254", "is the address of cloud metadata"),
    ("64:ff9b::a9fe:a9fe", "is the address of cloud metadata"),
    ("fd00:ec2::254", "is the address of cloud metadata"),
    ("100.100.100.200", "is the address of cloud metadata"),
    ("0.0.0.0", "is unspecified"),
    ("0.1.2.3", "is unspecified"),
    ("::", "is unspecified"),
    ("::ffff:0.0.0.0", "is unspecified"),
    ("224.0.0.1", "is multicast"),
    ("239.1.2.3", "is multicast"),
    ("ff02::1", "is multicast"),
    ("255.255.255.255", "is broadcast"),
    ("localhost", "is a name of loopback"),
    ("LocalHost", "is a name of loopback"),
    ("a.b.localhost", "is a name of loopback"),
    ("localhost.localdomain", "is a name of loopback"),
    ("metadata.google.internal", "is a name of cloud metadata"),
    ("METADATA.google.internal", "is a name of cloud metadata"),
]


@pytest.mark.parametrize(("address", "what"), FORBIDDEN)
def test_an_endpoint_that_reaches_into_our_own_machine_is_refused(service, peer, address, what):
    endpoints = (Endpoint(address="192.0.2.1", port=443), Endpoint(address=address, port=80))
    reason = judge(service("orders", endpoints=endpoints), peer())
    assert reason is not None
    assert reason.startswith(f"endpoints[1].address {address!r} {what}: ")
    assert reason.endswith("to peers.east.allow_endpoints")


@pytest.mark.parametrize(("address", "what"), FORBIDDEN)
def test_the_network_that_the_reason_names_is_the_one_that_lets_it_pass(service, peer, address, what):
    offered = service("orders", endpoints=(Endpoint(address=address, port=80),))
    reason = judge(offered, peer())
    assert reason is not None
    assert what in reason
    network = reason.split(" add ")[1].split(" to ")[0]
    assert judge(offered, peer(allow_endpoints=(network,))) is None


@pytest.mark.parametrize(
    "address",
    [
        "192.0.2.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "100.100.100.201",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.1.1",
        "2001:db8::1",
        "fd00::1",
        "::ffff:10.0.0.1",
        "64:ff9b::192.0.2.1",
        "2002:c000:201::1",
        "gateway.east.example",
        "localhost.east.example",
        "notlocalhost",
        "google.internal",
    ],
)
def test_any_other_endpoint_is_welcome(service, peer, address):
    assert judge(service("orders", endpoints=(Endpoint(address=address, port=80),)), peer()) is None


@pytest.mark.parametrize(
    ("allowed", "address", "welcome"),
    [
        (("127.0.0.0/8",), "127.0.0.1", True),
        (("127.0.0.0/8",), "::ffff:127.0.0.1", True),
        (("127.0.0.0/8",), "64:ff9b::127.0.0.1", True),
        (("127.0.0.0/8",), "localhost", True),
        (("127.0.0.0/8",), "a.localhost", True),
        (("127.0.0.1/32",), "localhost", True),
        (("::1/128",), "localhost", True),
        (("127.0.0.5/32",), "localhost", False),
        (("10.0.0.0/8",), "localhost", False),
        (("127.0.0.0/8",), "::1", False),
        (("::1/128",), "127.0.0.1", False),
        (("127.0.0.1/32",), "127.0.0.2", False),
        (("127.0.0.0/8",), "169.254.169.254", False),
        (("127.0.0.0/8",), "metadata.google.internal", False),
        (("169.254.169.254/32",), "metadata.google.internal", True),
        (("169.254.0.0/16",), "169.254.169.254", True),
        (("10.0.0.0/8", "169.254.0.0/16"), "169.254.1.1", True),
        (("::ffff:127.0.0.0/104",), "::ffff:127.0.0.1", True),
        (("0.0.0.0/0", "::/0"), "fe80::1", True),
    ],
)
def test_an_allowed_network_lets_exactly_its_addresses_pass(service, peer, allowed, address, welcome):
    offered = service("orders", endpoints=(Endpoint(address=address, port=80),))
    assert (judge(offered, peer(allow_endpoints=allowed)) is None) == welcome

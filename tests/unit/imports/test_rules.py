"""The rules of form: one table of what is well-formed and one of what is not, for each rule."""

from __future__ import annotations

import pytest

from hamlet_core.api import Endpoint, Instance, Protocol
from hamlet_core.imports.rules import RULES, shorten, validate

LABEL = "a" * 63
LONG_NAME = ".".join([LABEL, LABEL, LABEL, "a" * 61])


def endpoint(address: str = "192.0.2.1", port: int = 443, **changes) -> Endpoint:
    return Endpoint(address=address, port=port, **changes)


def instance(protocol: str = "HTTP", **changes) -> Instance:
    return Instance(id="main", protocol=protocol, **changes)


def test_an_ordinary_service_is_well_formed(service):
    assert validate(service("orders.east.example")) == ()


@pytest.mark.parametrize(
    "fqdn",
    [
        "orders.east.example",
        "ORDERS.East.Example",
        "orders",
        "1password.example",
        "a.b",
        "xn--bcher-kva.example",
        "a--b.example",
        "3.example",
        "0x7f.example",
        "orders.east.e1",
        LONG_NAME,
        f"{LABEL}.example",
    ],
)
def test_a_host_name_of_rfc_1123_is_an_fqdn(service, fqdn):
    assert validate(service("orders", fqdn=fqdn)) == ()


@pytest.mark.parametrize(
    ("fqdn", "reason"),
    [
        ("", "fqdn is empty"),
        ("orders.", "empty label"),
        (".orders", "empty label"),
        ("orders..east", "empty label"),
        ("-orders.east", "hyphen"),
        ("orders-.east", "hyphen"),
        ("or_ders.east", "letters, digits and hyphens"),
        ("*.east.example", "letters, digits and hyphens"),
        ("orders east", "letters, digits and hyphens"),
        ("bücher.example", "letters, digits and hyphens"),
        ("orders.east/x", "letters, digits and hyphens"),
        ("\u0661.example", "letters, digits and hyphens"),
        ("\u212a.example", "letters, digits and hyphens"),  # KELVIN SIGN, a k in lower case
        ("orders.example\n", "letters, digits and hyphens"),
        ("192.0.2.1", "reads as an IP address"),
        ("127.1", "reads as an IP address"),
        ("2130706433", "reads as an IP address"),
        ("0x7f000001", "reads as an IP address"),
        ("orders.0x1", "reads as an IP address"),
        ("orders.0x", "reads as an IP address"),
        ("2001:db8::1", "letters, digits and hyphens"),
        ("a" * 64 + ".example", "a label has 64 characters, 63 are allowed"),
        (LONG_NAME + "a", "it has 254 characters, 253 are allowed"),
    ],
)
def test_what_is_no_host_name_is_refused_as_fqdn(service, fqdn, reason):
    findings = validate(service("orders", fqdn=fqdn))
    assert any(finding.startswith("fqdn") and reason in finding for finding in findings), findings


@pytest.mark.parametrize("field", ["name", "fqdn", "instances", "endpoints"])
def test_a_required_field_must_not_be_empty(service, field):
    empty = "" if field in {"name", "fqdn"} else ()
    changes = {"fqdn": "orders.east.example"} | {field: empty}
    name = changes.pop("name", "orders")
    assert validate(service(name, **changes)) == (f"{field} is empty: the protocol requires it",)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a" * 1024, None),
        ("a" * 1025, "longer than 1024 characters"),
        ("Orders of the shop (EU)", None),
        ("Bücher", None),
        ("a\x00b", "cannot be printed"),
        ("a\nb", "cannot be printed"),
        ("a\u202eb", "cannot be printed"),
        ("a\x1b[2Jb", "cannot be printed"),
        ("a\ud800b", "cannot be printed"),
    ],
)
def test_a_name_is_printable_and_at_most_1024_characters(service, name, reason):
    findings = validate(service(name, fqdn="orders.east.example"))
    if reason is None:
        assert findings == ()
    else:
        assert [reason in finding for finding in findings] == [True], findings


@pytest.mark.parametrize("port", [1, 80, 65535])
def test_a_port_from_1_to_65535_is_well_formed(service, port):
    assert validate(service("orders", endpoints=(endpoint(port=port),))) == ()


@pytest.mark.parametrize("port", [0, -1, 65536, 4294967295])
def test_a_port_outside_1_to_65535_is_refused(service, port):
    assert validate(service("orders", endpoints=(endpoint(), endpoint(port=port)))) == (
        f"endpoints[1].port {port} is outside 1 to 65535",
    )


@pytest.mark.parametrize(
    ("metadata", "fault"),
    [
        ({"PORT": "443"}, False),
        ({"port": "00443"}, False),
        ({"PORT": ""}, False),
        ({"PORT": "https"}, False),
        ({"PORT": "0"}, True),
        ({"port": "65536"}, True),
        ({"Port": "9" * 1000}, True),
        ({"other": "65536"}, False),
    ],
)
def test_a_port_in_the_metadata_of_an_instance_is_in_range_where_it_is_a_number(service, metadata, fault):
    findings = validate(service("orders", instances=(instance(metadata=metadata),)))
    assert [finding.endswith("is outside 1 to 65535") for finding in findings] == [True] * fault


@pytest.mark.parametrize(
    "address",
    [
        "192.0.2.1",
        "2001:db8::1",
        "::ffff:192.0.2.1",
        "gateway.east.example",
        "GATEWAY.east.example",
        "gateway",
        "127.0.0.1",
        "fe80::1",
    ],
)
def test_an_address_is_an_ip_or_a_host_name(service, address):
    assert validate(service("orders", endpoints=(endpoint(address),))) == ()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "it is empty"),
        ("fe80::1%eth0", "has a zone"),
        ("::1%", "has a zone"),
        ("192.0.2.256", "reads as an IP address"),
        ("192.0.2.1/32", "no host name"),
        ("192.0.2", "reads as an IP address"),
        ("0177.0.0.1", "reads as an IP address"),
        ("[2001:db8::1]", "no host name"),
        ("gateway.east.example:443", "no host name"),
        ("gateway.east.example.", "empty label"),
        ("gate_way.east.example", "no host name"),
        ("https://gateway", "no host name"),
        ("2001:db8:::1", "no host name"),
    ],
)
def test_what_is_neither_is_no_address(service, address, reason):
    findings = validate(service("orders", endpoints=(endpoint(address),)))
    assert len(findings) == 1
    assert findings[0].startswith("endpoints[0].address")
    assert reason in findings[0]


@pytest.mark.parametrize("protocol", list(Protocol))
def test_every_protocol_of_the_specification_is_well_formed(service, protocol):
    assert validate(service("orders", instances=(instance(str(protocol)),))) == ()


@pytest.mark.parametrize("protocol", ["", "http", "UDP", "HTTP3", " HTTP", "Http2"])
def test_another_protocol_is_refused_with_the_list_of_those_there_are(service, protocol):
    (finding,) = validate(service("orders", instances=(instance(protocol),)))
    assert finding.startswith(f"instances[0].protocol {protocol!r}")
    assert "HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP, TLS, MTLS" in finding


def many(count: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(count))


@pytest.mark.parametrize(
    ("field", "limit", "changes"),
    [
        ("endpoints", 1000, lambda count: {"endpoints": (endpoint(),) * count}),
        ("instances", 100, lambda count: {"instances": (instance(),) * count}),
        ("tags", 256, lambda count: {"tags": many(count)}),
        ("labels", 256, lambda count: {"labels": dict.fromkeys(many(count), "")}),
        ("sans", 256, lambda count: {"sans": ("orders.east.example",) * count}),
        ("endpoints[0].labels", 256, lambda count: {"endpoints": (endpoint(labels=many(count)),)}),
        (
            "instances[0].metadata",
            256,
            lambda count: {"instances": (instance(metadata=dict.fromkeys(many(count), "")),)},
        ),
        (
            "instances[0].endpoint_selector",
            256,
            lambda count: {"instances": (instance(endpoint_selector=many(count)),)},
        ),
    ],
)
def test_what_is_repeated_has_a_limit(service, field, limit, changes):
    assert validate(service("orders", **changes(limit))) == ()
    assert validate(service("orders", **changes(limit + 1))) == (
        f"{field} has {limit + 1} entries, {limit} are allowed",
    )


@pytest.mark.parametrize(
    ("field", "limit", "changes"),
    [
        ("description", 4096, lambda text: {"description": text}),
        ("tags[0]", 1024, lambda text: {"tags": (text,)}),
        ("labels (a key)", 1024, lambda text: {"labels": {text: ""}}),
        ("labels['team']", 1024, lambda text: {"labels": {"team": text}}),
        ("endpoints[0].description", 4096, lambda text: {"endpoints": (endpoint(description=text),)}),
        ("endpoints[0].labels", 1024, lambda text: {"endpoints": (endpoint(labels=(text,)),)}),
        ("instances[0].id", 1024, lambda text: {"instances": (Instance(id=text, protocol="TCP"),)}),
        ("instances[0].description", 4096, lambda text: {"instances": (instance(description=text),)}),
        ("instances[0].metadata (a key)", 1024, lambda text: {"instances": (instance(metadata={text: ""}),)}),
        ("instances[0].metadata['SNI']", 1024, lambda text: {"instances": (instance(metadata={"SNI": text}),)}),
        ("instances[0].endpoint_selector", 1024, lambda text: {"instances": (instance(endpoint_selector=(text,)),)}),
    ],
)
def test_every_string_has_a_limit_and_no_control_characters(service, field, limit, changes):
    assert validate(service("orders", **changes("x" * limit))) == ()
    assert validate(service("orders", **changes(""))) == ()
    (finding,) = validate(service("orders", **changes("x" * (limit + 1))))
    assert finding == f"{field} {shorten('x' * (limit + 1))} is longer than {limit} characters"
    for bad, code in [("a\nb", "U+000A"), ("a\x7fb", "U+007F"), ("\x1b[2J", "U+001B"), ("a\u202eb", "U+202E")]:
        findings = validate(service("orders", **changes(bad)))
        assert f"{field} {shorten(bad)} has the control character {code}" in findings


@pytest.mark.parametrize(
    "san",
    [
        "spiffe://east.example/ns/shop/sa/orders",
        "spiffe://east.example",
        "spiffe://east_1.example/a.b",
        "ingress.east.example",
        "INGRESS.east.example",
        "192.0.2.1",
        "2001:db8::1",
    ],
)
def test_a_san_is_a_spiffe_id_a_dns_name_or_an_ip_address(service, san):
    assert validate(service("orders", sans=(san,))) == ()


@pytest.mark.parametrize(
    ("san", "reason"),
    [
        ("", "no SPIFFE ID, DNS name or IP address"),
        ("URI:spiffe://east.example/a", "no SPIFFE ID"),
        ("spiffe://EAST.example/a", "no SPIFFE ID"),
        ("spiffe://east.example/", "no SPIFFE ID"),
        ("spiffe://east.example//a", "no SPIFFE ID"),
        ("spiffe://east.example/../a", "no SPIFFE ID"),
        ("spiffe://east.example/a%2Fb", "no SPIFFE ID"),
        ("spiffe://east.example:8443/a", "no SPIFFE ID"),
        ("https://east.example/a", "no SPIFFE ID"),
        ("*.east.example", "no SPIFFE ID, DNS name or IP address"),
        ("DNS:east.example", "no SPIFFE ID, DNS name or IP address"),
        ("a@east.example", "no SPIFFE ID, DNS name or IP address"),
        ("spiffe://east.example/" + "a" * 2048, "longer than 2048"),
        ("spiffe://east.example/\n", "control character"),
    ],
)
def test_another_san_is_refused(service, san, reason):
    findings = validate(service("orders", sans=("ingress.east.example", san)))
    assert len(findings) == 1
    assert findings[0].startswith("sans[1]")
    assert reason in findings[0]


def test_every_rule_speaks_once_and_only_of_what_it_is_about(service):
    broken = service(
        "orders\n" + "a" * 2000,
        fqdn="a b",
        endpoints=(endpoint("a b", 0), endpoint("c d", 0)),
        instances=(instance("UDP"), instance("UDP")),
        tags=("a" * 2000, "b" * 2000),
        labels={"a": "\x00", "b": "\x00"},
        sans=("a b", "c d"),
    )
    findings = validate(broken)
    assert [finding.split()[0] for finding in findings] == [
        "name",
        "fqdn",
        "tags[0]",
        "labels['a']",
        "endpoints[0].port",
        "endpoints[0].address",
        "instances[0].protocol",
        "sans[0]",
    ]


def test_every_rule_has_a_name_of_its_own_and_a_source():
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.source for rule in RULES)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a", "'a'"),
        ("a\x1bb", r"'a\x1bb'"),
        ("a" * 60, "'" + "a" * 60 + "'"),
        ("a" * 61, "'" + "a" * 60 + "...' (61 characters)"),
        ("it's" + "a" * 60, '"it' + "'s" + "a" * 56 + '..." (64 characters)'),
    ],
)
def test_a_value_in_a_reason_is_safe_to_print_and_short(value, shown):
    assert shorten(value) == shown


def test_a_reason_never_carries_a_large_value_whole(service):
    findings = validate(service("x" * 100_000, "y" * 100_000, fqdn="z" * 100_000, sans=("s" * 100_000,)))
    assert findings
    assert all(len(finding) < 300 for finding in findings)

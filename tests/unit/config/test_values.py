from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from hamlet_core.api import Duration, format_duration, parse_duration
from hamlet_core.config import values
from hamlet_core.config.values import split_host_port

ACCEPTED = [
    (Duration, "90s", timedelta(seconds=90)),
    (Duration, "1h30m", timedelta(minutes=90)),
    (Duration, "250ms", timedelta(milliseconds=250)),
    (Duration, "1.5m", timedelta(seconds=90)),
    (Duration, "7d", timedelta(days=7)),
    (Duration, 30, timedelta(seconds=30)),
    (Duration, "30", timedelta(seconds=30)),
    (Duration, 0, timedelta(0)),
    (values.Share, "30%", 0.3),
    (values.Share, 0.3, 0.3),
    (values.Share, "0.3", 0.3),
    (values.Share, 1, 1.0),
    (values.DnsLabel, "west-2", "west-2"),
    (values.DnsName, "orders.west.example", "orders.west.example"),
    (
        values.TrustDomain,
        "11111111-2222-3333-4444-555555555555.consul",
        "11111111-2222-3333-4444-555555555555.consul",
    ),
    (values.TrustDomain, "prod_west", "prod_west"),
    (values.SpiffeId, "spiffe://east.example/ns/hamlet/sa/agent", "spiffe://east.example/ns/hamlet/sa/agent"),
    (values.HostPort, "0.0.0.0:0", "0.0.0.0:0"),
    (values.HostPort, "[::1]:8008", "[::1]:8008"),
    (values.HostPort, "Gateway_1.east.example:8008", "Gateway_1.east.example:8008"),
    (values.ReachableHostPort, "east:65535", "east:65535"),
    (values.LoopbackHostPort, "127.0.0.1:8009", "127.0.0.1:8009"),
    (values.LoopbackHostPort, "[::1]:0", "[::1]:0"),
    (values.LoopbackHostPort, "localhost:8009", "localhost:8009"),
    (values.Cidr, "10.1.0.0/16", "10.1.0.0/16"),
    (values.Cidr, "127.0.0.1", "127.0.0.1/32"),
    (values.Names, "all", "all"),
    (values.Names, ["east", "north"], ("east", "north")),
    (values.Names, [], ()),
]

REFUSED = [
    (Duration, "soon", "30s, 10m, 24h or 1h30m"),
    (Duration, "1h 30m", "30s, 10m, 24h or 1h30m"),
    (Duration, "PT30S", "30s, 10m, 24h or 1h30m"),
    (Duration, "", "30s, 10m, 24h or 1h30m"),
    (Duration, True, "is no duration"),
    (Duration, -1, "greater than or equal"),
    (Duration, "-1s", "is no duration"),
    (Duration, "999999999999d", "too long"),
    (Duration, "9" * 400, "too long"),
    (values.Share, "130%", "less than or equal"),
    (values.Share, True, "no share"),
    (values.Share, -0.1, "greater than or equal"),
    (values.Share, float("nan"), "than or equal"),
    (values.Time, 5, "write for example 2026-03-01T08:00:00Z"),
    (values.Time, "5", "write for example 2026-03-01T08:00:00Z"),
    (values.Time, "2026-03-01T08:00:00", "timezone"),
    (values.DnsLabel, "West", "lower-case"),
    (values.DnsLabel, "a.b", "lower-case"),
    (values.DnsLabel, "-a", "lower-case"),
    (values.DnsLabel, "a" * 64, "at most 63"),
    (values.DnsName, "west.example.", "no domain name"),
    (values.DnsName, ".".join(["a" * 60] * 5), "no domain name"),
    (values.TrustDomain, "spiffe://west.example", "without spiffe://"),
    (values.SpiffeId, "spiffe://east.example", "no SPIFFE ID"),
    (values.SpiffeId, "spiffe://east.example/", "no SPIFFE ID"),
    (values.SpiffeId, "spiffe://east.example/a/../b", "no SPIFFE ID"),
    (values.SpiffeId, "spiffe://east.example/a//b", "no SPIFFE ID"),
    (values.SpiffeId, "spiffe://East.example/a", "no SPIFFE ID"),
    (values.SpiffeId, "https://east.example/a", "no SPIFFE ID"),
    (values.SpiffeId, "spiffe://east.example/" + "a" * 2048, "no SPIFFE ID"),
    (values.HostPort, "east", "must be host:port"),
    (values.HostPort, "east:", "must be host:port"),
    (values.HostPort, ":8008", "must be host:port"),
    (values.HostPort, "east:65536", "must be host:port"),
    (values.HostPort, "east:٣", "must be host:port"),
    (values.HostPort, "::1:8008", "in brackets"),
    (values.HostPort, "[east]:8008", "no IPv6 address"),
    (values.HostPort, "https://east:8008", "must be host:port"),
    (values.HostPort, "east east:8008", "must be host:port"),
    (values.ReachableHostPort, "east:0", "from 1 to 65535"),
    (values.LoopbackHostPort, "0.0.0.0:8009", "loopback"),
    (values.LoopbackHostPort, "east.example:8009", "loopback"),
    (values.Cidr, "10.1.0.1/16", "without host bits"),
    (values.Cidr, "east", "no network"),
    (values.Names, "east", "list of names"),
    (values.Names, ["east", 5], "list of names"),
]


def _read(kind: object, value: object) -> object:
    return TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize(("kind", "value", "expected"), ACCEPTED)
def test_a_value_that_is_written_right_is_read(kind: object, value: object, expected: object) -> None:
    assert _read(kind, value) == expected


@pytest.mark.parametrize(("kind", "value", "said"), REFUSED)
def test_a_value_that_is_written_wrong_is_refused_with_how_to_write_it(
    kind: object, value: object, said: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        _read(kind, value)
    assert said in str(refused.value)


@given(st.integers(min_value=0, max_value=10**12))
def test_a_duration_is_written_as_it_is_read(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


def test_a_duration_is_dumped_to_json_as_the_file_has_it() -> None:
    class Model(BaseModel):
        retain: Duration

    assert Model(retain=timedelta(hours=25)).model_dump(mode="json") == {"retain": "1d1h"}


@pytest.mark.parametrize(
    ("value", "expected"), [("east:80", ("east", 80)), ("[::1]:80", ("::1", 80)), ("1.2.3.4:0", ("1.2.3.4", 0))]
)
def test_host_and_port_are_divided_at_the_last_colon(value: str, expected: tuple[str, int]) -> None:
    assert split_host_port(value) == expected

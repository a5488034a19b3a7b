"""How long a stopped peer may go unnoticed: bounded by what is set, which is not a matter of the machine's speed."""

from __future__ import annotations

from hamlet_core.rpc import health
from hamlet_core.rpc.channel import client_options, server_options

WITHIN = 15.0


def test_the_dialling_side_notices_a_stopped_owner_by_its_health_within_the_limit() -> None:
    assert health.INTERVAL + health.DEADLINE <= WITHIN


def test_the_owner_notices_a_stopped_consumer_by_its_pings_within_the_limit() -> None:
    options = dict(server_options())
    milliseconds = int(options["grpc.keepalive_time_ms"]) + int(options["grpc.http2.ping_timeout_ms"])
    assert milliseconds / 1000 <= WITHIN
    assert options["grpc.http2.max_pings_without_data"] == 0, "an idle stream is watched as well"


def test_a_foreign_owner_is_never_pinged() -> None:
    assert not [key for key, _ in client_options(ping=False) if "keepalive" in key or "ping" in key]

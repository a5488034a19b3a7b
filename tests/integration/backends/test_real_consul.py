"""The Consul that tests get: it is real, it comes back after a restart, and variants do what they say."""

from __future__ import annotations

import http.client

import pytest

from tests.backends.consul import Consul, StartConsul


def test_a_durable_consul_keeps_its_data_over_a_kill_and_loses_it_when_told(start_consul: StartConsul) -> None:
    consul = start_consul(durable=True)
    consul.do("PUT", "/v1/kv/a", b"1")
    consul.restart()
    assert consul.call("GET", "/v1/kv/a").status == 200
    consul.restart(forget=True)
    assert consul.call("GET", "/v1/kv/a").status == 404


def test_a_stopped_consul_refuses_and_a_paused_one_hangs(start_consul: StartConsul) -> None:
    consul = start_consul()
    consul.pause()
    hung = http.client.HTTPConnection("127.0.0.1", consul.port, timeout=0.3)
    hung.request("GET", "/v1/status/leader")
    with pytest.raises(TimeoutError):
        hung.getresponse()
    hung.close()
    consul.resume()
    assert consul.do("GET", "/v1/status/leader")
    consul.stop()
    with pytest.raises(ConnectionError):
        consul.call("GET", "/v1/status/leader")


def test_the_acl_variant_hides_everything_from_who_has_no_token(consul_acl: Consul) -> None:
    assert consul_acl.call("GET", "/v1/catalog/services", token="").body == {}
    assert consul_acl.call("GET", "/v1/catalog/services").body == {"consul": []}
    assert consul_acl.call("PUT", "/v1/kv/a", b"1", token="").status == 403


def test_the_tls_variant_refuses_who_has_no_certificate(consul_tls: Consul) -> None:
    assert consul_tls.do("GET", "/v1/status/leader")
    plain = http.client.HTTPConnection("127.0.0.1", consul_tls.port, timeout=30)
    plain.request("GET", "/v1/status/leader")
    assert plain.getresponse().status == 400
    plain.close()


def test_what_a_test_leaves_is_wiped(session_consul: Consul) -> None:
    session_consul.do("PUT", "/v1/kv/left", b"1")
    session_consul.do(
        "PUT", "/v1/catalog/register", {"Node": "n", "Address": "10.0.0.1", "Service": {"Service": "s"}}
    )
    session_consul.do("PUT", "/v1/config", {"Kind": "service-defaults", "Name": "s", "Protocol": "http"})
    session_consul.wipe()
    assert session_consul.do("GET", "/v1/catalog/services") == {"consul": []}
    assert session_consul.call("GET", "/v1/kv/left").status == 404
    assert session_consul.do("GET", "/v1/config/service-defaults") == []

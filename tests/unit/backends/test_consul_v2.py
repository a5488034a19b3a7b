"""What the bridge between Consul and Envoy understands it says in full, and what it does not it never leaves out."""

from __future__ import annotations

import pytest

from tests.backends import consul_v2 as v2
from tests.backends.not_understood import NotUnderstoodError

TLS = {
    "common_tls_context": {
        "tls_certificates": [{"certificate_chain": {"filename": "/a.pem"}, "private_key": {"filename": "/a.key"}}],
        "validation_context": {
            "trusted_ca": {"filename": "/ca.pem"},
            "match_subject_alt_names": [{"exact": "stock.east.example"}],
        },
    },
    "sni": "stock.east.example",
}


def test_a_cluster_is_said_with_its_endpoints_and_the_names_that_it_checks() -> None:
    endpoint = {"address": {"socket_address": {"address": "192.0.2.7", "port_value": 8443}}}
    assignment = {"endpoints": [{"lb_endpoints": [{"endpoint": endpoint, "health_status": 2}]}]}
    said = v2.cluster(
        v2.message_type("Cluster")(
            name="stock",
            type=3,
            eds_cluster_config={"eds_config": {"ads": {}}},
            connect_timeout={"seconds": 5},
            tls_context=TLS,
        ),
        v2.message_type("ClusterLoadAssignment")(cluster_name="stock", **assignment),
    )
    assert said["connect_timeout"] == "5s"
    (locality,) = said["load_assignment"]["endpoints"]
    assert locality["lb_endpoints"] == [{"endpoint": endpoint, "health_status": "UNHEALTHY"}]
    context = said["transport_socket"]["typed_config"]
    assert context["sni"] == "stock.east.example"
    names = context["common_tls_context"]["validation_context"]["match_typed_subject_alt_names"]
    assert {each["san_type"] for each in names} == {"DNS", "URI", "EMAIL", "IP_ADDRESS"}
    assert {each["matcher"]["exact"] for each in names} == {"stock.east.example"}


@pytest.mark.parametrize("number", [2, 15])
def test_a_field_that_is_not_known_is_an_error_however_deep_it_is(number: int) -> None:
    strange = bytes([number << 3, 1])
    filters = bytes([3 << 3 | 2, len(strange)]) + strange
    assert v2.read("Listener", bytes([3 << 3 | 2, 0])).filter_chains
    with pytest.raises(NotUnderstoodError, match=rf"Listener.filter_chains.filters has the fields \[{number}\]"):
        v2.read("Listener", bytes([3 << 3 | 2, len(filters)]) + filters)


@pytest.mark.parametrize(
    "said",
    [
        {"name": "envoy.http_connection_manager"},
        {"name": "envoy.tcp_proxy", "config": {"cluster": "a", "max_connect_attempts": 3}},
    ],
)
def test_a_filter_that_is_not_known_is_an_error(said: v2.Json) -> None:
    listener = v2.message_type("Listener")(filter_chains=[{"filters": [said]}])
    with pytest.raises(NotUnderstoodError, match=r"http_connection_manager|max_connect_attempts"):
        v2.listener(listener, {"envoy.tcp_proxy": v2.tcp_proxy})


def test_a_cluster_that_finds_its_endpoints_in_another_way_is_an_error() -> None:
    with pytest.raises(NotUnderstoodError, match="type 1"):
        v2.cluster(v2.message_type("Cluster")(name="stock", type=1), None)

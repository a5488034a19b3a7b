"""The transport under python-consul2's API classes, and each defect of its own that it stays clear of."""

from __future__ import annotations

import socket
import threading
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import consul as python_consul2
import pytest
from consul import base
from hamlet_consul.address import parse_address
from hamlet_consul.client import Block, Client, TxnResult
from hamlet_consul.errors import ConsulDenied, ConsulRefused, UnknownToken
from hamlet_consul.transport import Settings, Transport, read_deadline

from hamlet_core.api import ConfigError, RegistryUnavailable
from tests.backends.consul import ONLY_CONSUL, Consul, StartConsul
from tests.backends.pki import make_pki

HELD = timedelta(seconds=60)


def effective(response: Any) -> str:
    return str(response.headers.get("X-Consul-Effective-Consistency"))


# Reaching it


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        ("http://127.0.0.1:8500", ("http", "127.0.0.1", 8500, "")),
        ("http://consul.west.example", ("http", "consul.west.example", 8500, "")),
        ("https://consul.west.example", ("https", "consul.west.example", 8501, "")),
        ("http://[::1]:9500", ("http", "[::1]", 9500, "")),
        ("unix:///run/consul/http.sock", ("http", "localhost", 80, "/run/consul/http.sock")),
        ("unix:/run/consul/http.sock", ("http", "localhost", 80, "/run/consul/http.sock")),
    ],
)
def test_an_address_is_understood(address: str, parsed: tuple[str, str, int, str]) -> None:
    assert parse_address(address) == parsed


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:8500", "ftp://x", "http://", "http://x:port", "http://x/v1", "unix:", "unix:a", "http://u@x"],
)
def test_an_address_that_is_none_is_refused_with_the_mend(address: str) -> None:
    with pytest.raises(ConfigError, match="address") as raised:
        parse_address(address)
    assert "unix://" in raised.value.mend


def test_it_is_reached_through_its_unix_socket(consul: Consul, make_client: Callable[..., Client]) -> None:
    assert "consul" in make_client(consul, address=f"unix://{consul.socket}").services().data


def test_it_is_reached_by_ipv6(start_consul: StartConsul, make_client: Callable[..., Client]) -> None:
    consul = start_consul(hcl='addresses { http = "127.0.0.1 ::1" }')
    assert "consul" in make_client(consul, address=f"http://[::1]:{consul.port}").services().data


def test_mutual_tls_needs_the_authority_and_the_client_certificate(
    consul_tls: Consul, make_client: Callable[..., Client]
) -> None:
    assert "consul" in make_client(consul_tls).services().data
    with pytest.raises(RegistryUnavailable, match="certificate verify failed"):
        make_client(consul_tls, ca=None).services()
    with pytest.raises(RegistryUnavailable, match=r"do not agree on TLS|did not answer"):
        make_client(consul_tls, certificate=None, key=None).services()


def test_tls_files_that_cannot_be_read_are_named(consul_tls: Consul, make_client: Callable[..., Client]) -> None:
    with pytest.raises(RegistryUnavailable, match=r"nowhere\.pem"):
        make_client(consul_tls, ca=Path("nowhere.pem")).services()


def test_renewed_tls_files_are_read_after_a_failure(
    consul_tls: Consul, make_client: Callable[..., Client], tmp_path: Path
) -> None:
    assert consul_tls.pki is not None
    ca = make_pki(tmp_path).ca
    client = make_client(consul_tls, ca=ca)
    with pytest.raises(RegistryUnavailable):
        client.services()
    ca.write_bytes(consul_tls.pki.ca.read_bytes())
    assert "consul" in client.services().data


def test_the_token_goes_in_the_header(consul_acl: Consul, make_client: Callable[..., Client]) -> None:
    assert make_client(consul_acl).services().data == {"consul": []}
    assert make_client(consul_acl, token="").services().data == {}


def test_an_unknown_token_is_denied_and_no_right_is_asked_for_it(
    consul_acl: Consul, make_client: Callable[..., Client]
) -> None:
    client = make_client(consul_acl, token="11111111-2222-3333-4444-555555555555")
    with pytest.raises(UnknownToken, match="ACL not found") as raised:
        client.services()
    assert raised.value.mend == "put a valid one in `token`, and restart the agent"


def test_a_refusal_names_the_right(consul_acl: Consul, make_client: Callable[..., Client]) -> None:
    client = make_client(consul_acl, token=consul_acl.make_token(ONLY_CONSUL).secret)
    with pytest.raises(ConsulDenied, match="Permission denied") as raised:
        client.http.get(lambda response: response, "/v1/agent/self")
    assert raised.value.mend == 'give the token the right agent_prefix "" (read)'
    with pytest.raises(ConsulDenied) as raised:
        client.http.put(lambda response: response, "/v1/event/fire/news")
    assert raised.value.mend == "give the token the right that /v1/event/fire/news needs"


def test_a_datacenter_and_a_namespace_are_passed_on(consul: Consul, make_client: Callable[..., Client]) -> None:
    with pytest.raises(RegistryUnavailable, match="No path to datacenter"):
        make_client(consul, datacenter="elsewhere").services()
    with pytest.raises(ConsulRefused, match="Namespaces are a Consul Enterprise feature"):
        make_client(consul, namespace="team").services()
    seen: list[str] = []
    transport = make_client(consul, partition="part").http
    params = transport._with_scope("PUT", "/v1/txn", None)
    seen += [key for key, _ in params]
    assert seen == ["partition"]


@pytest.mark.parametrize(
    ("consistency", "said"), [("default", "leader"), ("consistent", "consistent"), ("stale", "stale")]
)
def test_health_calls_keep_the_consistency_asked_for(
    consul: Consul, make_client: Callable[..., Client], consistency: str, said: str
) -> None:
    transport = make_client(consul, consistency=consistency).http
    assert transport.get(effective, "/v1/health/state/any") == said
    assert transport.get(effective, "/v1/catalog/services") == said


# The environment has no say


def test_the_environment_overrides_nothing(
    consul_acl: Consul, make_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "unix:///nowhere:at:all")
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "11111111-2222-3333-4444-555555555555")
    monkeypatch.setenv("CONSUL_HTTP_SSL", "true")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert make_client(consul_acl).services().data == {"consul": []}


def test_another_ca_bundle_in_the_environment_is_not_trusted(
    consul_tls: Consul, make_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert consul_tls.pki is not None
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(tmp_path / "none.pem"))
    assert "consul" in make_client(consul_tls).services().data
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(consul_tls.pki.ca))
    with pytest.raises(RegistryUnavailable, match="certificate verify failed"):
        make_client(consul_tls, ca=None).services()


# Deadlines


@pytest.mark.parametrize(
    ("params", "seconds"),
    [
        ([], 10.0),
        ([("wait", "60s")], 10.0),
        ([("index", 7), ("wait", "60s")], 60 + 3.75 + 10),
        ([("index", 7), ("wait", "1600ms")], 1.6 + 0.1 + 10),
        ([("index", 7), ("wait", "2m")], 120 + 7.5 + 10),
        ([("index", 7)], 300 + 18.75 + 10),
    ],
)
def test_a_blocking_query_is_given_its_wait_and_consuls_jitter(params: list[tuple[str, Any]], seconds: float) -> None:
    assert read_deadline(params, 10.0) == pytest.approx(seconds)


def test_a_hanging_agent_is_not_waited_for_beyond_the_deadline(
    start_consul: StartConsul, make_client: Callable[..., Client], hurried: Callable[..., Any]
) -> None:
    consul = start_consul()
    client = make_client(consul)
    client.services()
    consul.pause()
    with hurried(client):
        with pytest.raises(RegistryUnavailable, match="did not answer /v1/catalog/services in time"):
            client.services()
        with pytest.raises(RegistryUnavailable, match="did not answer"):
            client.transact([])
    consul.resume()
    assert "consul" in client.services().data


def test_a_blocking_query_outlives_the_deadline_of_other_calls(
    consul: Consul, make_client: Callable[..., Client], hurried: Callable[..., Any]
) -> None:
    client = make_client(consul)
    first = client.services()
    with hurried(client, seconds=4):  # what is left of it when the wait is over is what a busy Consul may take
        assert client.services(Block(index=first.index, wait=timedelta(seconds=4.5))).index >= first.index


def test_its_own_client_still_has_what_we_stay_clear_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """What we stay clear of is still so; when this fails, look at the transport's reasons again."""
    monkeypatch.delenv("CONSUL_HTTP_ADDR", raising=False)
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "from the environment")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        theirs = python_consul2.Consul(token="explicit")
    assert DeprecationWarning in {warning.category for warning in warned}
    assert theirs.http.timeout is None
    assert theirs.token == "from the environment"
    theirs.http.session.close()


# Ending, retrying


def test_a_blocked_query_ends_when_the_client_is_closed(consul: Consul, make_client: Callable[..., Client]) -> None:
    client = make_client(consul)
    index = client.services().index
    ended: list[Exception] = []

    def block() -> None:
        try:
            client.services(Block(index=index, wait=HELD))
        except RegistryUnavailable as error:
            ended.append(error)

    thread = threading.Thread(target=block)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    client.close()
    thread.join(HELD.total_seconds() / 2)
    assert not thread.is_alive()
    assert "closed on purpose" in str(ended[0])


def test_a_closed_client_makes_no_more_calls(consul: Consul, make_client: Callable[..., Client]) -> None:
    client = make_client(consul)
    client.close()
    with pytest.raises(RegistryUnavailable, match="closed on purpose"):
        client.services()


def test_a_tls_query_ends_too(consul_tls: Consul, make_client: Callable[..., Client]) -> None:
    client = make_client(consul_tls)
    index = client.services().index

    def block() -> None:
        with pytest.raises(RegistryUnavailable):
            client.services(Block(index=index, wait=HELD))

    thread = threading.Thread(target=block)
    thread.start()
    thread.join(0.3)
    client.close()
    thread.join(HELD.total_seconds() / 2)
    assert not thread.is_alive()


def test_a_read_whose_answer_was_lost_is_made_again(
    consul: Consul, make_client: Callable[..., Client], cut_answers: Callable[..., Any]
) -> None:
    proxy = cut_answers(consul, cuts=2)
    assert "consul" in make_client(consul, address=proxy.address).services().data
    assert proxy.requests == 3


def test_a_write_whose_answer_was_lost_is_not_made_again(
    consul: Consul, make_client: Callable[..., Client], cut_answers: Callable[..., Any]
) -> None:
    proxy = cut_answers(consul, cuts=1)
    client = make_client(consul, address=proxy.address)
    with pytest.raises(RegistryUnavailable, match="did not answer"):
        client.transact([{"KV": {"Verb": "set", "Key": "a", "Value": "MQ=="}}])
    assert proxy.requests == 1
    assert consul.do("GET", "/v1/kv/a")[0]["Value"] == "MQ=="


def test_an_agent_that_is_gone_is_unavailable_and_found_again(
    start_consul: StartConsul, make_client: Callable[..., Client]
) -> None:
    consul = start_consul(durable=True)
    client = make_client(consul)
    client.services()
    consul.kill()
    with pytest.raises(RegistryUnavailable, match=f"^Consul at {consul.address} refuses connections$") as refused:
        client.services()
    assert refused.value.mend == "is its agent running, and is `address` right?"
    consul.start()
    assert "consul" in client.services().data


def test_connections_are_kept_and_used_again(consul: Consul, make_client: Callable[..., Client]) -> None:
    client = make_client(consul)
    for _ in range(5):
        client.services()
    pool = client.http._pool
    assert pool is not None
    assert (pool.num_connections, pool.num_requests) == (1, 5)


# The other defects


def test_nothing_warns_when_a_client_is_made(recwarn: pytest.WarningsRecorder) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Client(Transport(Settings())).close()


def test_cas_of_zero_writes_only_where_nothing_is(consul: Consul, make_client: Callable[..., Client]) -> None:
    client = make_client(consul)
    entry = {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}
    assert client.config.put(entry, cas=0) is True
    assert client.config.put(entry | {"Protocol": "grpc"}, cas=0) is False
    assert client.config.get("service-defaults", "web")["Protocol"] == "http"


def test_its_own_config_put_writes_for_a_cas_of_zero(consul: Consul, make_client: Callable[..., Client]) -> None:
    """What we stay clear of is still so."""
    client = make_client(consul)
    theirs = base.Consul.Config(client)
    entry = {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}
    assert theirs.put(entry, cas=0)
    assert theirs.put(entry | {"Protocol": "grpc"}, cas=0) is True


def test_what_is_not_there_is_none(consul: Consul, make_client: Callable[..., Client]) -> None:
    client = make_client(consul)
    assert client.config.get("service-defaults", "none") is None
    assert isinstance(base.Consul.Config(client).get("service-defaults", "none"), tuple)  # its own
    assert client.node_services("none").data == {"Node": None, "Services": None}


def test_a_question_for_names_that_gets_no_answer_is_put_once_more(
    consul: Consul, make_client: Callable[..., Client]
) -> None:
    client = make_client(consul)
    asked = client.begin_names()
    connection = asked._pending._connection
    assert connection.sock is not None
    assert connection.sock.recv(1 << 16)  # the answer is lost on its way, or a part of it
    connection.sock.shutdown(socket.SHUT_RDWR)
    assert "consul" in asked.result()
    assert client.http.requests.snapshot()["catalog/services"] == 2


def test_a_conflict_names_the_operation(consul: Consul, make_client: Callable[..., Client]) -> None:
    client = make_client(consul)
    fresh = {"KV": {"Verb": "cas", "Key": "b", "Value": "MQ==", "Index": 0}}
    assert client.transact([fresh]).errors == ()
    result = client.transact([{"KV": {"Verb": "set", "Key": "c", "Value": "MQ=="}}, fresh])
    assert isinstance(result, TxnResult)
    assert [number for number, _ in result.errors] == [1]
    assert "index is stale" in result.errors[0][1]
    assert consul.call("GET", "/v1/kv/c").status == 404


def test_rights_are_told_one_by_one_and_not_at_all_without_acl(
    consul: Consul, consul_acl: Consul, make_client: Callable[..., Client]
) -> None:
    wanted = [("service", "orders", "read"), ("node", "n", "write")]
    assert make_client(consul).denied(wanted) is None
    assert make_client(consul_acl).denied(wanted) == ()
    assert make_client(consul_acl, token="").denied(wanted) == tuple(wanted)


def test_the_trust_domain_of_the_authority_is_read_and_missing_where_connect_is_off(
    consul: Consul, start_consul: StartConsul, make_client: Callable[..., Client]
) -> None:
    assert make_client(consul).ca_trust_domain().endswith(".consul")
    assert make_client(start_consul(durable=True)).ca_trust_domain() == ""

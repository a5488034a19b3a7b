import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Gauge

from hamlet_core.agent.web import WebServer
from hamlet_core.api import HamletError


class State:
    reason = ""


@pytest.fixture
def web():
    registry = CollectorRegistry()
    Gauge("some_number", "A number.", registry=registry).set(7)
    state = State()
    server = WebServer("127.0.0.1:0", registry, lambda: state.reason)
    server.state = state
    server.start()
    yield server
    server.stop()


def get(web, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{web.port}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_readiness_and_metrics_are_served(web):
    assert get(web, "/healthz") == (200, "ok\n")
    assert get(web, "/readyz") == (200, "ok\n")
    web.state.reason = "waiting for the registry"
    assert get(web, "/readyz") == (503, "waiting for the registry\n")
    assert get(web, "/healthz") == (200, "ok\n")
    assert "some_number 7.0" in get(web, "/metrics")[1]
    assert get(web, "/")[0] == 404


def test_a_client_that_says_nothing_keeps_nobody_waiting(web):
    with socket.create_connection(("127.0.0.1", web.port)):
        assert get(web, "/healthz") == (200, "ok\n")
        stopping = threading.Thread(target=web.stop, daemon=True)
        began = time.monotonic()
        stopping.start()
        stopping.join(20)
        assert not stopping.is_alive(), f"not stopped after {time.monotonic() - began:g} s"


def test_a_server_that_never_began_can_be_stopped():
    server = WebServer("127.0.0.1:0", CollectorRegistry(), str)
    stopping = threading.Thread(target=server.stop, daemon=True)
    stopping.start()
    stopping.join(10)
    assert not stopping.is_alive(), "an agent that cannot start would hang instead of saying why"


def test_a_port_that_is_taken_is_an_error_with_its_mend(web):
    with pytest.raises(HamletError, match=f"127.0.0.1:{web.port}") as error:
        WebServer(f"127.0.0.1:{web.port}", CollectorRegistry(), str)
    assert "admin.http" in error.value.mend

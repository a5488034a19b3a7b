"""A real Envoy of today as the terminating gateway of a Consul that speaks xDS v2, which that Envoy no longer does.

Consul's own server says everything. `Bridge` asks it as Envoy would, says the same in v3 by files that Envoy watches,
and passes Envoy's questions about intentions on to Consul, whose answers it passes back.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from tests.backends import consul_v2 as v2
from tests.backends.file_envoy import FileEnvoy, Said
from tests.backends.not_understood import NotUnderstoodError

STREAM = "/envoy.service.discovery.v2.AggregatedDiscoveryService/StreamAggregatedResources"
ASKED, PASSED_ON = "envoy.service.auth.v3.Authorization", "/envoy.service.auth.v2.Authorization/Check"
AGENT = "consul_agent"
PAUSE = 0.1
"""Seconds between two attempts to reach Consul."""


class Bridge:
    """The client of Consul's xDS at `consul` (host:port) for the proxy `proxy`; `failed` is what it gave up for."""

    def __init__(self, consul: str, proxy: str) -> None:
        self._consul, self._proxy = consul, proxy
        self.said = Said()
        self.failed: NotUnderstoodError | None = None
        self._closed = threading.Event()
        self._channel: grpc.Channel | None = None
        self._server = grpc.server(ThreadPoolExecutor(4))
        check = grpc.unary_unary_rpc_method_handler(self._check)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(ASKED, {"Check": check}),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._thread: threading.Thread | None = None

    def start(self, say: Callable[[Said], None]) -> None:
        """Begin to pass on by `say` what Consul says."""
        self._server.start()
        self._thread = threading.Thread(target=self._follow, args=(say,), name="consul-xds", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the stream and the thread, if it was started."""
        self._closed.set()
        channel = self._channel
        if channel is not None:
            channel.close()
        if self._thread is not None:
            self._thread.join(10)
        self._server.stop(None).wait(10)

    def _check(self, question: bytes, context: grpc.ServicerContext) -> bytes:
        """Put Envoy's question whether an intention allows a call to Consul, as whom Consul told it to ask."""
        token = tuple((key, value) for key, value in context.invocation_metadata() if key == "x-consul-token")
        with grpc.insecure_channel(self._consul) as channel:
            try:
                answer: bytes = channel.unary_unary(PASSED_ON, None, None)(question, metadata=token, timeout=10)
            except grpc.RpcError as error:
                context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        return answer

    def _follow(self, say: Callable[[Said], None]) -> None:
        while not self._closed.is_set():
            with grpc.insecure_channel(self._consul) as channel:
                self._channel = channel
                try:
                    self._read(channel, say)
                except (grpc.RpcError, ValueError):  # Consul is gone, or we close
                    pass
                except NotUnderstoodError as error:
                    self.failed = error
                    return
            self._closed.wait(PAUSE)

    def _read(self, channel: grpc.Channel, say: Callable[[Said], None]) -> None:
        requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        for kind in (v2.CLUSTER, v2.ENDPOINTS, v2.LISTENER):
            requests.put(self._request(kind))
        seen: dict[str, dict[str, Any]] = {}
        try:
            for data in channel.stream_stream(STREAM, None, None)(iter(requests.get, None)):
                response = v2.read("DiscoveryResponse", data)
                kind = response.type_url.removeprefix(v2.PREFIX)
                found = [v2.read(kind, each.value) for each in response.resources]
                seen[kind] = {getattr(each, "name", "") or each.cluster_name: each for each in found}
                if v2.CLUSTER in seen:
                    said = _in_v3(seen)
                    say(said)
                    self.said = said  # and not before: Envoy may have this since long, and read yet what came between
                requests.put(self._request(kind, response.version_info, response.nonce))
        finally:
            requests.put(None)

    def _request(self, kind: str, version: str = "", nonce: str = "") -> bytes:
        node = {"id": self._proxy, "cluster": self._proxy}
        request = v2.message_type("DiscoveryRequest")(
            version_info=version, node=node, type_url=v2.PREFIX + kind, response_nonce=nonce
        )
        data: bytes = request.SerializeToString()
        return data


def _in_v3(seen: Mapping[str, Mapping[str, Any]]) -> Said:
    """The resources of a stream, by type and name, for an Envoy of today."""
    endpoints = seen.get(v2.ENDPOINTS, {})
    filters: dict[str, Callable[[v2.Json], v2.Json]] = {
        "envoy.ext_authz": partial(v2.ext_authz, agent=AGENT),
        "envoy.filters.network.sni_cluster": v2.sni_cluster,
        "envoy.tcp_proxy": v2.tcp_proxy,
    }
    clusters = (v2.cluster(each, endpoints.get(name)) for name, each in sorted(seen[v2.CLUSTER].items()))
    listeners = (v2.listener(each, filters) for _, each in sorted(seen.get(v2.LISTENER, {}).items()))
    return Said(clusters=tuple(clusters), listeners=tuple(listeners))


class TerminatingEnvoy:
    """Envoy with a bridge to Consul: the program that `consul connect envoy` would start."""

    def __init__(self, consul: str, proxy: str, folder: Path) -> None:
        self.bridge = Bridge(consul, proxy)
        self._envoy = FileEnvoy(folder, "terminating", [_agent(self.bridge.port)])

    def start(self) -> None:
        """Start both."""
        self._envoy.start()
        self.bridge.start(self._envoy.say)

    def close(self) -> None:
        """End both."""
        self.bridge.close()
        self._envoy.close()

    def lacks(self, said: Said) -> str:
        """What Envoy has not yet of what Consul said; empty when it has all. `AssertionError` when it never will."""
        if self.bridge.failed is not None:
            raise AssertionError(str(self.bridge.failed)) from self.bridge.failed
        lacks = self._envoy.lacks(said)
        return f"{lacks}: {self._envoy.log()}" if lacks else ""


def _agent(port: int) -> v2.Json:
    """The cluster by which Envoy reaches the bridge."""
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = {"@type": f"type.googleapis.com/{options}", "explicit_http_config": {"http2_protocol_options": {}}}
    place = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {
        "name": AGENT,
        "type": "STATIC",
        "typed_extension_protocol_options": {options: http2},
        "load_assignment": {
            "cluster_name": AGENT,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": place}}]}],
        },
    }

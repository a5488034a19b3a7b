"""A real Envoy of today as the terminating gateway of a Consul that speaks xDS v2, which that Envoy no longer does.

Consul's own server says everything. `Bridge` asks it as Envoy would, says the same in v3 by files that Envoy watches,
and passes Envoy's questions about intentions on to Consul, whose answers it passes back.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from tests.backends import consul_v2 as v2
from tests.support.ports import free_port

STREAM = "/envoy.service.discovery.v2.AggregatedDiscoveryService/StreamAggregatedResources"
ASKED, PASSED_ON = "envoy.service.auth.v3.Authorization", "/envoy.service.auth.v2.Authorization/Check"
AGENT = "consul_agent"
PAUSE = 0.1
"""Seconds between two attempts to reach Consul."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What Consul said last, in v3; the versions count what was new."""

    clusters: tuple[v2.Json, ...] = ()
    listeners: tuple[v2.Json, ...] = ()
    cluster_version: int = 0
    listener_version: int = 0

    def then(self, clusters: tuple[v2.Json, ...], listeners: tuple[v2.Json, ...]) -> Said:
        """What was said after this. The same again is no new version: Envoy would not show it."""
        return Said(
            clusters=clusters,
            listeners=listeners,
            cluster_version=self.cluster_version + (clusters != self.clusters),
            listener_version=self.listener_version + (listeners != self.listeners),
        )


@dataclass(slots=True)
class _Stream:
    """The resources of one stream by type and name."""

    seen: dict[str, dict[str, Any]] = field(default_factory=dict)


class Bridge:
    """The client of Consul's xDS at `consul` (host:port) for the proxy `proxy`; `failed` is what it gave up for.

    `asked` counts the calls of which Consul said whether an intention allows them.
    """

    def __init__(self, consul: str, proxy: str, folder: Path) -> None:
        self._consul, self._proxy, self._folder = consul, proxy, folder
        self.said = Said()
        self.failed: v2.NotUnderstoodError | None = None
        self.asked = 0
        self._closed = threading.Event()
        self._channel: grpc.Channel | None = None
        self._server = grpc.server(ThreadPoolExecutor(4))
        check = grpc.unary_unary_rpc_method_handler(self._check)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(ASKED, {"Check": check}),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._thread = threading.Thread(target=self._follow, name="consul-xds", daemon=True)

    def start(self) -> None:
        """Have both files, with nothing in them, and begin."""
        self._write()
        self._server.start()
        self._thread.start()

    def close(self) -> None:
        """End the stream and the thread."""
        self._closed.set()
        channel = self._channel
        if channel is not None:
            channel.close()
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
        self.asked += 1
        return answer

    def _follow(self) -> None:
        while not self._closed.is_set():
            with grpc.insecure_channel(self._consul) as channel:
                self._channel = channel
                try:
                    self._read(channel)
                except (grpc.RpcError, ValueError):  # Consul is gone, or we close
                    pass
                except v2.NotUnderstoodError as error:
                    self.failed = error
                    return
            self._closed.wait(PAUSE)

    def _read(self, channel: grpc.Channel) -> None:
        requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        for kind in (v2.CLUSTER, v2.ENDPOINTS, v2.LISTENER):
            requests.put(self._request(kind))
        stream = _Stream()
        try:
            for data in channel.stream_stream(STREAM, None, None)(iter(requests.get, None)):
                response = v2.read("DiscoveryResponse", data)
                kind = response.type_url.removeprefix(v2.PREFIX)
                found = [v2.read(kind, each.value) for each in response.resources]
                stream.seen[kind] = {getattr(each, "name", "") or each.cluster_name: each for each in found}
                self._tell(stream)
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

    def _tell(self, stream: _Stream) -> None:
        if v2.CLUSTER not in stream.seen:
            return
        endpoints = stream.seen.get(v2.ENDPOINTS, {})
        filters: dict[str, Callable[[v2.Json], v2.Json]] = {
            "envoy.ext_authz": partial(v2.ext_authz, agent=AGENT),
            "envoy.filters.network.sni_cluster": v2.sni_cluster,
            "envoy.tcp_proxy": v2.tcp_proxy,
        }
        clusters = [v2.cluster(each, endpoints.get(name)) for name, each in sorted(stream.seen[v2.CLUSTER].items())]
        listeners = [v2.listener(each, filters) for _, each in sorted(stream.seen.get(v2.LISTENER, {}).items())]
        self.said = self.said.then(tuple(clusters), tuple(listeners))
        self._write()

    def _write(self) -> None:
        said = self.said
        for name, kind, resources, version in (
            ("cds.json", "envoy.config.cluster.v3.Cluster", said.clusters, said.cluster_version),
            ("lds.json", "envoy.config.listener.v3.Listener", said.listeners, said.listener_version),
        ):
            typed = [{"@type": f"type.googleapis.com/{kind}", **each} for each in resources]
            temporary = self._folder / f".{name}"
            temporary.write_text(json.dumps({"version_info": str(version), "resources": typed}))
            temporary.replace(self._folder / name)


class TerminatingEnvoy:
    """Envoy with a bridge to Consul: the program that `consul connect envoy` would start."""

    def __init__(self, consul: str, proxy: str, folder: Path) -> None:
        self.bridge = Bridge(consul, proxy, folder)
        self._folder = folder
        self._admin = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start both."""
        binary = shutil.which("envoy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        assert binary is not None, "Envoy is needed: install hamlet-envoy[bundled]"
        self.bridge.start()
        (self._folder / "envoy.json").write_text(json.dumps(self._bootstrap()))
        command = [binary, "-c", str(self._folder / "envoy.json"), "--concurrency", "1", "--use-dynamic-base-id"]
        command += ["--reject-unknown-dynamic-fields", "--drain-time-s", "1", "--drain-strategy", "immediate"]
        with (self._folder / "envoy.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "-l", "warning"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def close(self) -> None:
        """End both."""
        self.bridge.close()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)

    def lacks(self, said: Said) -> str:
        """What Envoy has not yet of what Consul said; empty when it has all. `AssertionError` when it never will."""
        if self.bridge.failed is not None:
            raise AssertionError(str(self.bridge.failed)) from self.bridge.failed
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._admin}/config_dump", timeout=10) as answer:
                dumps = json.load(answer)["configs"]
        except OSError as error:
            return f"Envoy does not answer: {error}"
        found = {dump["@type"].rpartition(".")[2]: dump for dump in dumps}
        clusters, listeners = found["ClustersConfigDump"], found["ListenersConfigDump"]
        states = {each["name"]: each.keys() - {"name"} for each in listeners.get("dynamic_listeners", ())}
        has = {
            "clusters": (clusters.get("version_info"), {each["cluster"]["name"] for each in _active(clusters)}),
            "listeners": (listeners.get("version_info"), states),
            "warming": clusters.get("dynamic_warming_clusters", []),
        }
        wanted = {
            "clusters": (str(said.cluster_version), {each["name"] for each in said.clusters}),
            "listeners": (str(said.listener_version), {each["name"]: {"active_state"} for each in said.listeners}),
            "warming": [],
        }
        return "" if has == wanted else f"Envoy has {has} instead of {wanted}: {self.log()}"

    def log(self) -> str:
        """The end of what Envoy printed."""
        return (self._folder / "envoy.log").read_text(errors="replace")[-3000:]

    def _bootstrap(self) -> dict[str, Any]:
        def watched(name: str) -> dict[str, Any]:
            return {"path_config_source": {"path": str(self._folder / name)}, "resource_api_version": "V3"}

        def place(port: int) -> dict[str, Any]:
            return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

        options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        http2 = {"@type": f"type.googleapis.com/{options}", "explicit_http_config": {"http2_protocol_options": {}}}
        agent = {
            "name": AGENT,
            "type": "STATIC",
            "typed_extension_protocol_options": {options: http2},
            "load_assignment": {
                "cluster_name": AGENT,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": place(self.bridge.port)}}]}],
            },
        }
        return {
            "node": {"id": "terminating", "cluster": "terminating"},
            "admin": {"address": place(self._admin)},
            "static_resources": {"clusters": [agent]},
            "dynamic_resources": {"cds_config": watched("cds.json"), "lds_config": watched("lds.json")},
        }


def _active(clusters: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = clusters.get("dynamic_active_clusters", [])
    return found

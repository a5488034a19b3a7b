"""A stand-in for istiod: it gives one real Envoy what Istio's resources in a real Kubernetes API say.

It is a fake of the translation alone (see `istio_translation`). The API server, Envoy, the certificates and the
connections are real. The one Envoy is the ingress gateway, and beside it the sidecar of a workload that may call
other meshes. What it is given is what a proxy that starts now would be: while a secret is not there, whatever needs
it is not either. (A proxy that runs already keeps a secret that was removed until what refers to it is gone.)

It acts when it is told to (`settle`), and not before: nothing happens at a moment that a test does not choose.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import subprocess
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kubernetes import config as kubeconfigs
from kubernetes.client import ApiClient, Configuration

from hamlet_core.api import Endpoint
from tests.backends.istio_envoy import file_of, secret_file, typed
from tests.backends.istio_translation import Proxy, Seen, Translated, Translation
from tests.backends.not_run import leave_out
from tests.support.ports import free_port

PATIENCE = 30.0
DRAIN = 1
"""Seconds after which Envoy ends the connections of what has gone: `drainDuration` of a real proxy's ProxyConfig."""
COLLECTIONS: Mapping[str, str] = {
    **{
        kind: f"/apis/networking.istio.io/v1/{kind}"
        for kind in ("gateways", "virtualservices", "serviceentries", "workloadentries", "destinationrules")
    },
    "authorizationpolicies": "/apis/security.istio.io/v1/authorizationpolicies",
    "services": "/api/v1/services",
    "secrets": "/api/v1/secrets",
}
"""What it reads, by the names in `Seen`."""
_WATCHED = {"cds.json": "cluster_manager.cds.version_text", "lds.json": "listener_manager.lds.version_text"}
_WARMING = r"cluster_manager\.warming_clusters|listener_manager\.total_listeners_warming"
_VERSIONS = r".*\.version_text"
_REFUSED = r".*\.update_(rejected|failure)"


class IstioControl:
    """The control plane of `namespaces`, whose gateway and workload are the proxies of one Envoy in `folder`."""

    def __init__(
        self, kubeconfig: Path, folder: Path, namespaces: Collection[str], gateway: Proxy, workload: Proxy
    ) -> None:
        settings = Configuration()
        settings.retries = False
        kubeconfigs.load_kube_config(str(kubeconfig), client_configuration=settings)  # type: ignore[no-untyped-call]
        self._client, self._folder, self._namespaces = ApiClient(settings), folder, frozenset(namespaces)
        self._gateway, self._workload = gateway, workload
        self.port = free_port()
        """Where the ingress listens, on loopback."""
        self._ports: dict[tuple[str, int], int] = {}
        self._given: Translated | None = None
        for name in _WATCHED:
            self._write(name, file_of([])[1])
        self._envoy = self._start()
        self._admin = self._wait_for_admin()

    def read(self) -> Seen:
        """What the API holds in the namespaces that it looks at."""
        return Seen(**{kind: self._list(path) for kind, path in COLLECTIONS.items()})

    def settle(self) -> None:
        """Bring Envoy to what the API holds now, and wait until it says that this is in force."""
        seen = self.read()
        translation = Translation(seen, str(self._folder))
        for each in translation.callable(self._workload):
            if each not in self._ports:
                self._ports[each] = free_port()
        translation.ingress(self._gateway, self.port)
        translation.sidecar(self._workload, self._ports)
        translated = translation.translated()
        if translated != self._given:
            self._put(translated)
            self._given = translated

    def outbound(self, host: str) -> Endpoint | None:
        """Where the workload's calls of a host come to its sidecar; None where nothing catches them."""
        assert self._given is not None, "`settle` comes first"
        listening = {each["address"]["socket_address"]["port_value"] for each in self._given.listeners.values()}
        ports = [port for (name, _), port in self._ports.items() if name == host and port in listening]
        return Endpoint(address="127.0.0.1", port=ports[0]) if ports else None

    def do(self, method: str, path: str, body: object = None, *, kind: str = "application/json") -> Any:
        """Make one call of the API, as its administrator and on a connection that is kept; what it returned."""
        headers = {"Accept": "application/json", "Authorization": self._token()}
        reply = self._client.rest_client.pool_manager.request(
            method,
            self._client.configuration.host + path,
            body=json.dumps(body) if body is not None else None,
            headers=headers | ({"Content-Type": kind} if body is not None else {}),
            timeout=30,
            retries=False,
        )
        assert reply.status < 300, f"{method} {path}: {reply.status} {reply.data!r}"
        return json.loads(reply.data)

    def close(self) -> None:
        """End Envoy."""
        self._envoy.kill()
        self._envoy.wait(PATIENCE)
        self._client.rest_client.pool_manager.clear()
        self._client.close()  # type: ignore[no-untyped-call]

    def _list(self, path: str) -> list[Any]:
        items = self.do("GET", path)["items"]
        return [each for each in items if each["metadata"]["namespace"] in self._namespaces]

    def _token(self) -> str:
        return str(self._client.configuration.get_api_key_with_prefix("BearerToken"))

    def _put(self, translated: Translated) -> None:
        """What is needed comes before what needs it."""
        expected = {}
        for name, content in sorted(translated.secrets.items()):
            message = typed("envoy.extensions.transport_sockets.tls.v3.Secret", name=name, **content)
            expected[f"sds.{name}.version_text"], text = file_of([message])
            self._write(secret_file(name), text)
        for file, resources in (("cds.json", translated.clusters), ("lds.json", translated.listeners)):
            version, text = file_of([resources[name] for name in sorted(resources)])
            self._write(file, text)
            expected[_WATCHED[file]] = version
            self._wait_for({_WATCHED[file]: version})
        self._wait_for(expected, thorough=True)

    def _write(self, name: str, text: str) -> None:
        """Move a file there that says something else: Envoy hears of moves."""
        path = self._folder / name
        if path.exists() and path.read_text() == text:
            return
        new = path.with_suffix(".new")
        new.write_text(text)
        new.replace(path)

    def _wait_for(self, expected: Mapping[str, str], *, thorough: bool = False) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            now = self._stats(_VERSIONS, "TextReadouts")
            late = {stat for stat, version in expected.items() if now.get(stat) != version}
            warming = self._stats(_WARMING, "Gauges") if thorough and not late else {}
            if not late and not any(map(int, warming.values())):
                return
            refused = {name for name, value in self._stats(_REFUSED, "Counters").items() if value != "0"}
            if refused or time.monotonic() > end or self._envoy.poll() is not None:
                log = (self._folder / "envoy.log").read_text(errors="replace")[-3000:]
                message = f"Envoy has not taken {late or warming} ({refused}):\n{log}"
                raise AssertionError(message)
            time.sleep(0.01)

    def _stats(self, pattern: str, kind: str) -> dict[str, str]:
        text = self._ask(f"/stats?type={kind}&filter={quote(f'^({pattern})$')}")
        lines = (line.partition(": ") for line in text.splitlines())
        return {name: value.strip('"') for name, _, value in lines}

    def _ask(self, path: str) -> str:
        host, _, port = self._admin.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def _start(self) -> subprocess.Popen[bytes]:
        def watched(name: str) -> dict[str, Any]:
            return {"path_config_source": {"path": str(self._folder / name)}, "resource_api_version": "V3"}

        bootstrap = {
            "node": {"id": "istio", "cluster": "istio"},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
            "dynamic_resources": {"cds_config": watched("cds.json"), "lds_config": watched("lds.json")},
        }
        file = self._folder / "bootstrap.json"
        file.write_text(json.dumps(bootstrap))
        with (self._folder / "envoy.log").open("wb") as log:
            return subprocess.Popen(
                [
                    str(_binary()), "--config-path", str(file), "--admin-address-path", str(self._folder / "admin"),
                    "--reject-unknown-dynamic-fields", "--disable-hot-restart", "--concurrency", "1",
                    # as istio-proxy starts it, but for the time
                    "--drain-strategy", "immediate", "--drain-time-s", str(DRAIN), "--log-level", "warning",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={"PATH": os.environ.get("PATH", "")},
            )  # fmt: skip

    def _wait_for_admin(self) -> str:
        end, file = time.monotonic() + PATIENCE, self._folder / "admin"
        while not (file.exists() and (place := file.read_text().strip())):
            assert self._envoy.poll() is None, (self._folder / "envoy.log").read_text(errors="replace")[-3000:]
            assert time.monotonic() < end, "Envoy does not say where its admin interface is"
            time.sleep(0.01)
        return place


def _binary() -> Path:
    """The Envoy of the `envoy` distribution."""
    bundled = importlib.util.find_spec("envoy")
    if bundled is None or bundled.origin is None:
        leave_out("a real Envoy is needed and the distribution `envoy` is not installed")
    return Path(bundled.origin).parent / "_bin" / "envoy"

"""A stand-in for istiod: it gives one real Envoy what Istio's resources in a real Kubernetes API say.

It is a fake of the translation alone (see `istio_translation`). The API server, Envoy, the certificates and the
connections are real. The one Envoy is the ingress gateway, and beside it the sidecar of a workload that may call
other meshes. What it is given is what a proxy that starts now would be: while a secret is not there, whatever needs
it is not either. (A proxy that runs already keeps a secret that was removed until what refers to it is gone.)

It acts when it is told to (`settle`), and not before: nothing happens at a moment that a test does not choose.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from kubernetes import config as kubeconfigs
from kubernetes.client import ApiClient, Configuration

from hamlet_core.api import Endpoint
from tests.backends.file_envoy import FileEnvoy, Said
from tests.backends.istio_translation import Proxy, Seen, Translation
from tests.support.ports import free_port

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
        self._given: Said | None = None
        self._envoy = FileEnvoy(folder, "istio")
        self._envoy.start()

    def read(self) -> Seen:
        """What the API holds in the namespaces that it looks at."""
        return Seen(**{kind: self._list(path) for kind, path in COLLECTIONS.items()})

    def settle(self) -> None:
        """Bring Envoy to what the API holds now, and wait until it says that this is in force."""
        seen = self.read()
        translation = Translation(seen, self._folder)
        for each in translation.callable(self._workload):
            if each not in self._ports:
                self._ports[each] = free_port()
        translation.ingress(self._gateway, self.port)
        translation.sidecar(self._workload, self._ports)
        translated = translation.translated()
        if translated != self._given:
            self._envoy.take(translated)
            self._given = translated

    def outbound(self, host: str) -> Endpoint | None:
        """Where the workload's calls of a host come to its sidecar; None where nothing catches them."""
        assert self._given is not None, "`settle` comes first"
        listening = {each["address"]["socket_address"]["port_value"] for each in self._given.listeners}
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
        self._envoy.close()
        self._client.rest_client.pool_manager.clear()
        self._client.close()  # type: ignore[no-untyped-call]

    def _list(self, path: str) -> list[Any]:
        items = self.do("GET", path)["items"]
        return [each for each in items if each["metadata"]["namespace"] in self._namespaces]

    def _token(self) -> str:
        return str(self._client.configuration.get_api_key_with_prefix("BearerToken"))

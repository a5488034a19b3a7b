"""A real Kubernetes API for tests: etcd and kube-apiserver on loopback, handled by their pids. And fixtures.

There is no controller manager: nobody makes endpoints, nobody finishes a namespace's deletion. Nothing here uses
the code under test: `Kubernetes.call` is the other hand, by which tests edit and look.

With `HAMLET_USE_KUBECONFIG=1` the tests that need no control over the server run against the cluster of
`$KUBECONFIG` instead (they make namespaces and Istio's CRDs in it).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from kubernetes import config as kubeconfigs
from kubernetes.client import ApiClient, Configuration
from urllib3.exceptions import HTTPError

from tests.backends.consul import Reply
from tests.backends.crds import USED, definitions
from tests.backends.not_run import needed
from tests.backends.pki import Pki, make_pki
from tests.support.ports import free_ports

READY_SECONDS = 90.0
CALL_SECONDS = 60.0
IDLE_SECONDS = 30.0
"""How long a connection may be idle and is used again; the API server closes it after 90."""
ADMIN = "admin-token"


class Kubernetes:
    """A Kubernetes API that tests look at and edit as its administrator. `kubeconfig` is how others reach it."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._client: ApiClient | None = None
        self._called = 0.0

    def _opened(self) -> ApiClient:
        """A client with its connections, which are not kept for as long as the server keeps idle ones."""
        if time.monotonic() - self._called > IDLE_SECONDS:
            self._hang_up()
        self._called = time.monotonic()
        if self._client is None:
            settings = Configuration()
            settings.retries = False
            kubeconfigs.load_kube_config(  # type: ignore[no-untyped-call]
                str(self.kubeconfig), client_configuration=settings
            )
            self._client = ApiClient(settings)
        return self._client

    def _hang_up(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.rest_client.pool_manager.clear()
            client.close()  # type: ignore[no-untyped-call]

    def call(self, method: str, path: str, body: object = None, *, kind: str = "application/json") -> Reply:
        """Make one call as the administrator and decode what comes back."""
        client = self._opened()
        headers = {"Accept": "application/json"}
        headers |= {"Content-Type": kind} if body is not None else {}
        token = client.configuration.get_api_key_with_prefix("BearerToken")
        headers |= {"Authorization": token} if token else {}
        response = client.rest_client.pool_manager.request(
            method,
            client.configuration.host + path,
            body=json.dumps(body) if body is not None else None,
            headers=headers,
            timeout=CALL_SECONDS,
            retries=False,
        )
        said = {key.lower(): value for key, value in response.headers.items()}
        text = response.data.decode()
        decoded = json.loads(text) if said.get("content-type", "").startswith("application/json") else text
        return Reply(status=response.status, headers=said, body=decoded)

    def do(self, method: str, path: str, body: object = None, *, kind: str = "application/json") -> Any:
        """Make one call that must succeed; what it returned."""
        reply = self.call(method, path, body, kind=kind)
        assert reply.status < 300, f"{method} {path}: {reply.status} {reply.body}"
        return reply.body

    def put(self, path: str, name: str, body: dict[str, Any]) -> Any:
        """Create the object `name` of the collection at `path`, or replace what it says."""
        body = {**body, "metadata": {**body.get("metadata", {}), "name": name}}
        reply = self.call("POST", path, body)
        while reply.status == 409:  # it stands, or has been written since it was read
            standing = self.do("GET", f"{path}/{name}")
            body["metadata"]["resourceVersion"] = standing["metadata"]["resourceVersion"]
            if "clusterIP" in standing.get("spec", {}) and "spec" in body:
                body["spec"].setdefault("clusterIP", standing["spec"]["clusterIP"])
            reply = self.call("PUT", f"{path}/{name}", body)
        assert reply.status < 300, f"{path}/{name}: {reply.status} {reply.body}"
        return reply.body

    def make_namespace(self, name: str) -> str:
        """Have a namespace of this name."""
        reply = self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        assert reply.status in (201, 409), reply
        return name

    def install_crds(self) -> None:
        """Have Istio's custom resources, and wait until they are served."""
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        for definition in definitions():
            assert self.call("POST", path, definition).status in (201, 409)
        deadline = time.monotonic() + READY_SECONDS
        for plural, group in USED.items():
            while plural not in self.resources(f"/apis/{group}/v1"):
                assert time.monotonic() < deadline, f"{plural} are not served"
                time.sleep(0.05)
            while self.call("GET", f"/apis/{group}/v1/{plural}?limit=1").status != 200:
                assert time.monotonic() < deadline, f"{plural} cannot be listed"
                time.sleep(0.05)

    def resources(self, path: str) -> set[str]:
        """The resources that discovery lists for a group and version."""
        reply = self.call("GET", path)
        return {each["name"] for each in reply.body["resources"]} if reply.status == 200 else set()

    def wipe(self, namespace: str, *paths: str) -> None:
        """Delete the objects of these collections (`/api/v1/.../services`) in a namespace."""
        for path in paths:
            for each in self.do("GET", path.format(namespace=namespace))["items"]:
                self.call("DELETE", f"{path.format(namespace=namespace)}/{each['metadata']['name']}")

    def let(self, account: tuple[str, str], *, may: bool) -> None:
        """Have a service account (namespace, name) be allowed everything, or nothing, from now on."""
        namespace, name = account
        bindings, binding = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", f"{namespace}-{name}"
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        if may:
            subjects = [{"kind": "ServiceAccount", "namespace": namespace, "name": name}]
            self.put(bindings, binding, {"subjects": subjects, "roleRef": role})
        else:
            self.do("DELETE", f"{bindings}/{binding}")
        self.wait_for_right(account, {"namespace": namespace, "verb": "list", "resource": "services"}, may=may)

    def wait_for_right(self, account: tuple[str, str], right: Mapping[str, str], *, may: bool) -> None:
        """Wait until the server has taken notice that a service account may do this, or may not any more.

        It answers who changed a role before it knows of the change itself. `right`: see `resourceAttributes`.
        """
        namespace, name = account
        review = {"user": f"system:serviceaccount:{namespace}:{name}", "resourceAttributes": dict(right)}
        deadline = time.monotonic() + READY_SECONDS
        reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        while self.do("POST", reviews, {"spec": review})["status"]["allowed"] is not may:
            assert time.monotonic() < deadline, f"the right of {name} does not change: {right}"
            time.sleep(0.02)

    def wait_for_roles(self, account: tuple[str, str], roles: Iterable[Mapping[str, Any]]) -> None:
        """Wait until the server has taken notice of Roles and ClusterRoles that are bound to a service account."""
        for role in roles:
            rule = role["rules"][0]
            where = {"namespace": place} if (place := role["metadata"].get("namespace")) else {}
            asked = {"group": rule["apiGroups"][0], "resource": rule["resources"][0], "verb": rule["verbs"][0]}
            self.wait_for_right(account, where | asked, may=True)

    def token_for(self, namespace: str, account: str) -> str:
        """A bearer token of a service account."""
        body: dict[str, Any] = {"spec": {"expirationSeconds": 3600}}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return str(self.do("POST", path, body)["status"]["token"])


class OwnKubernetes(Kubernetes):
    """An API server with an etcd of its own: to be killed, restarted, paused, compacted."""

    def __init__(self, etcd: Path, apiserver: Path, *arguments: str) -> None:
        self._binaries = {"etcd": etcd, "kube-apiserver": apiserver}
        self._arguments = arguments
        self.folder = Path(tempfile.mkdtemp(prefix="kubernetes-"))
        super().__init__(self.folder / "kubeconfig")
        self.tokens = {ADMIN: ("admin", "system:masters")}
        self._pki: Pki = make_pki(self.folder)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._signing = self.folder / "sa.key"
        self._signing.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.port = self._etcd = self._peer = 0

    @property
    def server(self) -> str:
        """Its URL."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        """The authority of its certificate."""
        return self._pki.ca

    def start(self) -> None:
        """Start both, on the ports they had or on free ones, and wait until the API is ready."""
        for _ in range(5):
            if not self.port:
                self.port, self._etcd, self._peer = free_ports(3)
            self._start_etcd()
            self._start_apiserver()
            if self._ready():
                return
            said = self._said("kube-apiserver") + self._said("etcd")
            self.kill()
            if "address already in use" not in said:
                message = f"the API server did not become ready:\n{said[-3000:]}"
                raise RuntimeError(message)
            self.port = 0  # somebody was quicker at one of the ports
        message = "no free ports for an API server"
        raise RuntimeError(message)

    def _start_etcd(self) -> None:
        if self._alive("etcd"):
            return
        client, peer = f"http://127.0.0.1:{self._etcd}", f"http://127.0.0.1:{self._peer}"
        arguments = ["--name=t", f"--data-dir={self.folder / 'etcd'}", "--unsafe-no-fsync"]
        arguments += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        arguments += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        arguments += [f"--initial-cluster=t={peer}"]
        self._run("etcd", arguments)

    def _start_apiserver(self) -> None:
        if self._alive("kube-apiserver"):
            return
        tokens = self.folder / "tokens.csv"
        lines = [f'{token},{user},{user},"{group}"' for token, (user, group) in self.tokens.items()]
        tokens.write_text("\n".join(lines) + "\n")
        certificate, key = self._pki.server
        arguments = [f"--etcd-servers=http://127.0.0.1:{self._etcd}", "--endpoint-reconciler-type=none"]
        arguments += ["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={self.port}"]
        arguments += [f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}"]
        arguments += [f"--client-ca-file={self._pki.ca}", f"--token-auth-file={tokens}"]
        arguments += [f"--service-account-key-file={self._signing}"]
        arguments += [f"--service-account-signing-key-file={self._signing}"]
        arguments += ["--service-account-issuer=https://kubernetes.default.svc", "--authorization-mode=RBAC"]
        arguments += ["--service-cluster-ip-range=10.96.0.0/16", "--disable-admission-plugins=ServiceAccount"]
        arguments += [f"--cert-dir={self.folder}", "--profiling=false", *self._arguments]
        self._run("kube-apiserver", arguments)
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "t", "cluster": {"server": self.server, "certificate-authority": str(self.ca)}}],
            "users": [{"name": "admin", "user": {"token": ADMIN}}],
            "contexts": [{"name": "t", "context": {"cluster": "t", "user": "admin"}}],
            "current-context": "t",
        }
        self.kubeconfig.write_text(yaml.safe_dump(document))
        self._hang_up()  # from one that was there before, or at another port

    def _run(self, name: str, arguments: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [str(self._binaries[name]), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder), "GOGC": "50"},
            )

    def _alive(self, name: str) -> bool:
        process = self._processes.get(name)
        return process is not None and process.poll() is None

    def _said(self, name: str) -> str:
        log = self.folder / f"{name}.log"
        return log.read_text(errors="replace")[-4000:] if log.exists() else ""

    def _ready(self) -> bool:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if not (self._alive("etcd") and self._alive("kube-apiserver")):
                return False
            with contextlib.suppress(OSError, http.client.HTTPException, HTTPError):
                if self.call("GET", "/readyz").body == "ok" and self._served():
                    return True
            time.sleep(0.1)
        return False

    def _served(self) -> bool:
        """Whether stored custom resources are served and listed already: it takes a moment after `/readyz`."""
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        named: dict[str, set[str]] = {}
        for each in self.do("GET", path)["items"]:
            root, plural = f"/apis/{each['spec']['group']}/v1", each["spec"]["names"]["plural"]
            if root not in named:
                named[root] = self.resources(root)
            if plural not in named[root] or self.call("GET", f"{root}/{plural}?limit=1").status != 200:
                return False
        return True

    def kill_apiserver(self) -> None:
        """End the API server without a chance to say goodbye; its data stay in etcd."""
        self._end("kube-apiserver")

    def restart_apiserver(self) -> None:
        """Kill it and start it again."""
        self.kill_apiserver()
        self.start()

    def pause(self) -> None:
        """Freeze the API server: connections stand and nothing is said."""
        os.kill(self._processes["kube-apiserver"].pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self._processes["kube-apiserver"].pid, signal.SIGCONT)

    def compact(self) -> None:
        """Have etcd forget all history before now."""
        revision = self._ask_etcd("range", {"key": "AA=="})["header"]["revision"]
        self._ask_etcd("compaction", {"revision": revision, "physical": True})

    def _ask_etcd(self, what: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._etcd}/v3/kv/{what}", data=json.dumps(body).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def _end(self, name: str) -> None:
        process = self._processes.get(name)
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        if process is not None:
            process.wait(timeout=30)

    def kill(self) -> None:
        """End both."""
        self._hang_up()
        self._end("kube-apiserver")
        self._end("etcd")

    def close(self) -> None:
        """End both and remove what they left on disk."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def kubernetes_binaries() -> tuple[Path, Path]:
    """The etcd and kube-apiserver of this machine; without them their tests are not run, and the summary says so."""
    etcd, apiserver = needed("a real Kubernetes API", "etcd", "kube-apiserver")
    return etcd, apiserver


@pytest.fixture(scope="session")
def own_kubernetes(kubernetes_binaries: tuple[Path, Path]) -> Iterator[OwnKubernetes]:
    """The one API server of this session (or worker), with Istio's resources. A test may kill and restart it."""
    one = OwnKubernetes(*kubernetes_binaries)
    try:
        one.start()
        one.install_crds()
        yield one
    finally:
        one.close()


@pytest.fixture(scope="session")
def kubernetes(request: pytest.FixtureRequest) -> Kubernetes:
    """A real Kubernetes API with Istio's custom resources: ours, or the cluster of $KUBECONFIG when told so."""
    if os.environ.get("HAMLET_USE_KUBECONFIG") and os.environ.get("KUBECONFIG"):
        cluster = Kubernetes(Path(os.environ["KUBECONFIG"]))
        cluster.install_crds()
        return cluster
    own: OwnKubernetes = request.getfixturevalue("own_kubernetes")
    return own


@pytest.fixture(scope="module")
def namespace(kubernetes: Kubernetes, request: pytest.FixtureRequest) -> str:
    """A namespace of this test module's own."""
    module = request.module.__name__.rpartition(".")[2].replace("_", "-").removeprefix("test-")
    return kubernetes.make_namespace(f"{module}-{secrets.token_hex(3)}"[-63:])

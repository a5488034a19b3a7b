"""The ways to an API server: from a pod, through a proxy, by one context of several."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from hamlet_istio import connection

from hamlet_core.api import RegistryUnavailable, Severity, Status, WriteImport
from hamlet_core.api.testing import imported_service
from tests.backends.kubernetes import OwnKubernetes
from tests.backends.pki import make_pki
from tests.backends.proxy import ConnectProxy

pytestmark = pytest.mark.xdist_group("kubernetes")
SECONDS = 30.0


@pytest.fixture
def in_pod(own_kubernetes: OwnKubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that every container of a pod has."""
    url = urlsplit(own_kubernetes.server)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(url.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(url.port))


@pytest.fixture
def mounted(
    own_kubernetes: OwnKubernetes, in_pod: None, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder of the pod's service account, `agent`, where a kubelet mounts it."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text(cluster.administrator("agent"))
    (folder / "ca.crt").write_bytes(own_kubernetes.ca.read_bytes())
    monkeypatch.setattr(connection, "SERVICE_ACCOUNT", folder)
    return folder


def renew(folder: Path, token: str) -> None:
    """As a kubelet does: the new one is moved into place."""
    (folder / ".new").write_text(f"{token}\n")
    (folder / ".new").replace(folder / "token")


@pytest.mark.parametrize("in_cluster", [True, None], ids=["told", "noticed"])
def test_an_agent_in_a_pod_uses_the_pods_service_account(
    mounted: Path, cluster: Any, open_registry: Callable[..., Any], in_cluster: bool | None
) -> None:
    name = cluster.add_service("orders")
    opened = open_registry(cluster, kubeconfig=None, in_cluster=in_cluster)
    assert set(opened.watch().state) == {name}
    (outcome,) = opened.hooks.registry_apply(changes=[WriteImport(imported_service("stock"))])
    assert outcome.status is Status.APPLIED
    assert {each.severity for each in opened.hooks.registry_check()} == {Severity.OK}


def test_a_pods_token_that_is_renewed_is_taken_without_a_restart(
    mounted: Path, cluster: Any, open_registry: Callable[..., Any]
) -> None:
    name = cluster.add_service("orders")
    opened = open_registry(cluster, kubeconfig=None, watch="2s")
    watching = opened.watch()
    renew(mounted, cluster.administrator("next"))
    cluster.revoke("agent")
    opened.hooks.registry_apply(changes=[WriteImport(imported_service("stock"))])
    late = cluster.add_service("late")
    watching.until(lambda state: {name, late} <= set(state), SECONDS)
    assert watching.error is None


def test_a_pod_may_have_its_token_and_authority_elsewhere(
    in_pod: None, own_kubernetes: OwnKubernetes, cluster: Any, open_registry: Callable[..., Any], tmp_path: Path
) -> None:
    token = tmp_path / "projected"
    token.write_text(cluster.administrator("projected"))
    options = {"kubeconfig": None, "in_cluster": True, "token_file": "projected", "ca": own_kubernetes.ca}
    opened = open_registry(cluster, **options)
    assert opened.hooks.registry_imports() == []
    token.write_text("worn-out")
    with pytest.raises(RegistryUnavailable, match="401"):
        opened.hooks.registry_imports()
    token.write_text(cluster.administrator("projected"))
    assert opened.hooks.registry_imports() == []


def test_in_cluster_outside_of_a_pod_is_said(
    cluster: Any, open_registry: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    (finding,) = open_registry(cluster, kubeconfig=None, in_cluster=True).hooks.registry_check()
    assert finding.severity is Severity.ERROR
    assert "Service host/port is not set" in finding.message
    assert "in_cluster" in finding.mend


@pytest.fixture(params=["http", "https"])
def proxy(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConnectProxy]:
    """A proxy that asks for a password; one with TLS is known to the machine, not by the API server's authority."""
    tls = None
    if request.param == "https":
        folder = tmp_path / "proxy"
        folder.mkdir()
        pki = make_pki(folder)
        monkeypatch.setenv("SSL_CERT_FILE", str(pki.ca))
        tls = pki.server
    with ConnectProxy(authorization="Basic YWdlbnQ6aHVzaA==", tls=tls) as one:
        yield one


def test_everything_goes_through_the_proxy_that_is_named(
    proxy: ConnectProxy, own_kubernetes: OwnKubernetes, cluster: Any, open_registry: Callable[..., Any]
) -> None:
    name = cluster.add_service("orders")
    opened = open_registry(cluster, proxy=proxy.address, proxy_credentials="agent:hush")
    watching = opened.watch()
    (outcome,) = opened.hooks.registry_apply(changes=[WriteImport(imported_service("stock"))])
    assert outcome.status is Status.APPLIED
    late = cluster.add_service("late")
    watching.until(lambda state: {name, late} <= set(state), SECONDS)
    assert set(proxy.tunnels) == {urlsplit(own_kubernetes.server).netloc}
    assert proxy.refused == 0
    watching.end(SECONDS)


def test_a_proxy_that_wants_other_credentials_or_is_gone_is_an_outage_that_names_it(
    proxy: ConnectProxy, cluster: Any, open_registry: Callable[..., Any]
) -> None:
    opened = open_registry(cluster, proxy=proxy.address, proxy_credentials="agent:wrong")
    with pytest.raises(RegistryUnavailable, match="407"):
        opened.hooks.registry_imports()
    assert proxy.refused
    proxy.close()
    with pytest.raises(RegistryUnavailable, match=r"does not answer.*[Pp]roxy"):
        opened.hooks.registry_imports()


def test_a_kubeconfig_with_several_contexts_and_a_rotated_token_file(
    own_kubernetes: OwnKubernetes, cluster: Any, open_registry: Callable[..., Any], tmp_path: Any
) -> None:
    document = yaml.safe_load(own_kubernetes.kubeconfig.read_text())
    (tmp_path / "token").write_text("worn-out")
    document["users"] += [{"name": "rotating", "user": {"tokenFile": str(tmp_path / "token")}}]
    document["contexts"] += [{"name": "other", "context": {"cluster": "t", "user": "rotating"}}]
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(document))
    assert open_registry(cluster, kubeconfig="kubeconfig").hooks.registry_imports() == []
    opened = open_registry(cluster, kubeconfig="kubeconfig", context="other")
    with pytest.raises(RegistryUnavailable, match="401"):
        opened.hooks.registry_imports()
    (tmp_path / "token").write_text("admin-token")
    assert opened.hooks.registry_imports() == []


def test_without_any_setting_the_kubeconfig_of_the_environment_is_used(
    own_kubernetes: OwnKubernetes, tmp_path: Path
) -> None:
    """In a process of its own: the client reads the variable when it is imported."""
    lines = (
        "from pathlib import Path",
        "from hamlet_istio.connection import Connection",
        "from hamlet_istio.options import IstioOptions",
        "print(Connection(IstioOptions(), Path('.')).host)",
    )
    environment = {**os.environ, "KUBECONFIG": str(own_kubernetes.kubeconfig)}
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == own_kubernetes.server, done.stderr


def test_a_way_that_does_not_exist_is_said(cluster: Any, open_registry: Callable[..., Any]) -> None:
    opened = open_registry(cluster, kubeconfig="nowhere")
    (finding,) = opened.hooks.registry_check()
    assert finding.severity is Severity.ERROR
    assert "kubeconfig" in finding.mend
    with pytest.raises(RegistryUnavailable):
        opened.hooks.registry_imports()

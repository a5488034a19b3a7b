"""The tutorials of the registries, typed as they stand, against real backends."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.backends.kubernetes import OwnKubernetes
from tests.backends.not_run import needed
from tests.docs.blocks import ROOT
from tests.support.meshes import PATIENCE
from tests.support.ports import free_port, free_ports
from tests.support.shell import Step, shell, steps

ABSENT = frozenset({"stock.west.example", "billing.west.example", "orders.west.example", "stock-east-example"})
"""What the output of a step has only where the page shows it."""


def page(name: str, *ports: str) -> list[Step]:
    """The steps of a tutorial, on free ports instead of those that it names."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    for number in ("8008", "9008", *ports):
        text = re.sub(rf"\b127\.0\.0\.1:{number}\b", f"127.0.0.1:{free_port()}", text)
    found = steps(text)
    assert len(found) > 5
    return found


@pytest.mark.timeout(600)
def test_the_tutorial_of_files_works_as_it_stands(tmp_path: Path) -> None:
    with shell(tmp_path) as typed:
        typed.follow(page("tutorial-file.md"), within=2 * PATIENCE, absent=ABSENT)


CONSUL = """\
#!/bin/sh
# The consul of the tutorial on free ports: its own would be those of another test, or of this machine.
test "$1" = agent && exec "{binary}" "$@" -http-port={http} {ports} -dns-port=-1 -grpc-port=-1 -bind=127.0.0.1
exec "{binary}" "$@"
"""


@pytest.mark.timeout(600)
def test_the_tutorial_of_consul_works_as_it_stands(consul_binary: Path, tmp_path: Path) -> None:
    found = page("tutorial-consul.md", "8500")
    (http,) = {number for step in found for number in re.findall(r"127\.0\.0\.1:(\d+)/v1/", step.commands)}
    names = ("server-port", "serf-lan-port", "serf-wan-port")
    ports = " ".join(f"-{name}={port}" for name, port in zip(names, free_ports(len(names)), strict=True))
    wrapper = tmp_path / "bin" / "consul"
    wrapper.parent.mkdir()
    wrapper.write_text(CONSUL.format(binary=consul_binary, http=http, ports=ports))
    wrapper.chmod(0o755)
    folder = tmp_path / "work"
    folder.mkdir()
    with shell(folder, path=[wrapper.parent]) as typed:
        typed.follow(found, within=2 * PATIENCE, absent=ABSENT)


SLICES = "/apis/discovery.k8s.io/v1beta1/namespaces/shop/endpointslices"


def mirrored(cluster: OwnKubernetes, ended: threading.Event) -> None:
    """Be the controller of a real cluster that makes slices of the Endpoints of a Service without a selector."""
    while not ended.wait(0.2):
        there = cluster.call("GET", "/api/v1/namespaces/shop/endpoints/orders")
        standing = cluster.call("GET", f"{SLICES}/orders").status == 200
        if there.status == 200 and not standing:
            (subset,) = there.body["subsets"]
            body = {
                "apiVersion": "discovery.k8s.io/v1beta1",
                "kind": "EndpointSlice",
                "metadata": {"name": "orders", "labels": {"kubernetes.io/service-name": "orders"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [each["ip"]]} for each in subset["addresses"]],
                "ports": subset["ports"],
            }
            cluster.call("POST", SLICES, body)
        elif standing and there.status == 404:
            cluster.call("DELETE", f"{SLICES}/orders")


@pytest.fixture
def cluster(kubernetes_binaries: tuple[Path, Path]) -> Iterator[OwnKubernetes]:
    """An API server of the tutorial's own: it makes and deletes namespaces whose names are not made up."""
    one = OwnKubernetes(*kubernetes_binaries)
    try:
        one.start()
        one.install_crds()
        yield one
    finally:
        one.close()


@pytest.mark.timeout(600)
def test_the_tutorial_of_istio_works_as_it_stands(cluster: OwnKubernetes, tmp_path: Path) -> None:
    (program,) = needed("kubectl", "kubectl")
    kubectl = program.parent
    ended = threading.Event()
    with (
        ThreadPoolExecutor(1) as pool,
        shell(tmp_path, path=[kubectl], environ={"KUBECONFIG": str(cluster.kubeconfig)}) as typed,
    ):
        mirror = pool.submit(mirrored, cluster, ended)
        try:
            typed.follow(page("tutorial-istio.md"), within=2 * PATIENCE, absent=ABSENT)
        finally:
            ended.set()
        mirror.result(60)

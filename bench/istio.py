"""The Istio adapter on a real Kubernetes API: imports written, standing imports read, one change followed.

Imports into an empty namespace are compared with server-side apply of the very same objects by the same client on
as many threads; a reconcile that has nothing to do, and writing the same again (both must only read), with listing
the same objects; a change, from before the annotation of a Service is written until another mesh's registry has it,
with a bare watch of the same Service in the same run. Nothing is run where no kube-apiserver can be had.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hamlet_istio import istio
from hamlet_istio.connection import Connection
from hamlet_istio.marks import Marker
from hamlet_istio.options import IstioOptions
from hamlet_istio.registry import IstioRegistry
from hamlet_istio.resources import SERVICES, Apis, Resource, slices
from ruamel.yaml import YAML
from urllib3.exceptions import HTTPError

from bench.agents import AgentWorker
from bench.measure import Row, compared, percentile
from bench.setting import Setting
from bench.workers import Worker
from hamlet_core.api import AdapterContext, ImportedService, Status, WriteImport
from hamlet_core.api.testing import imported_service
from tests.backends.install import CannotInstall, ensure
from tests.backends.kubernetes import OwnKubernetes

CONCURRENCY = 8
IMPORTS, LOCAL = "imports", "shop"
VERSION = "networking.istio.io/v1"
APIS = Apis(
    networking=VERSION, workload_entries=True, read_endpoints="discovery.k8s.io/v1beta1", write_endpoints="v1"
)
TAGS = "hamlet.federation/tags"
GAP = (0.03, 0.06)
"""Seconds between two changes, or until the one before has arrived."""
PATIENCE = 60.0
MILLI = 1000.0


def run(setting: Setting) -> list[Row]:
    """Measure writing, reading and following."""
    try:
        binaries = ensure("etcd"), ensure("kube-apiserver")
    except CannotInstall as error:
        setting.step(f"NOT RUN: {error}")
        return []
    setting.root.mkdir(parents=True, exist_ok=True)
    cluster = OwnKubernetes(*binaries)
    try:
        cluster.start()
        cluster.install_crds()
        for namespace in (IMPORTS, LOCAL):
            cluster.make_namespace(namespace)
        return [*_imports(setting, cluster), *_changes(setting, cluster)]
    finally:
        cluster.close()


def _options(cluster: OwnKubernetes) -> dict[str, Any]:
    return {
        "kubeconfig": str(cluster.kubeconfig),
        "import_namespace": IMPORTS,
        "namespaces": [LOCAL],
        "events": False,
        "concurrency": CONCURRENCY,
        "timeout": "10m",  # removing everything at the end of a round is one long call
    }


def _imports(setting: Setting, cluster: OwnKubernetes) -> list[Row]:
    half, rounds = setting.sizes.sync[0]
    count = 2 * half
    options = IstioOptions(**_options(cluster))
    context = AdapterContext(
        name="main", mesh="west", domain="west.example", trust_domain="west.example", directory=setting.root
    )
    services = [imported_service(f"service-{number:05}") for number in range(count)]
    writes: list[float] = []
    bare_writes: list[float] = []
    reads: list[float] = []
    bare_reads: list[float] = []
    repeats: list[float] = []
    calls: list[dict[str, int]] = []
    for number in range(rounds):
        setting.step(f"round {number + 1} of {rounds}: {count:,} imports, bare and ours")
        with _connected(options, context.directory) as connection:
            bare_writes.append(_bare_apply(connection, services, options, Marker(context, "bare")))
            bare_reads.append(_bare_list(connection))
            _wipe(connection)
        registry = IstioRegistry(options, context)
        began = time.perf_counter()
        outcomes = registry.registry_apply(tuple(map(WriteImport, services)))
        writes.append(time.perf_counter() - began)
        if {each.status for each in outcomes} != {Status.APPLIED}:
            message = f"not all were written: {outcomes[:3]}"
            raise ValueError(message)
        with _counted(registry.connection) as listing:
            began = time.perf_counter()
            standing = {each.key: each.digest for each in registry.registry_imports()}
            reads.append(time.perf_counter() - began)
        with _counted(registry.connection) as applying:
            began = time.perf_counter()
            registry.registry_apply(tuple(map(WriteImport, services)))
            repeats.append(time.perf_counter() - began)
        calls += [listing, applying]
        if standing != {each.key: each.digest for each in services} or {*listing, *applying} != {"GET"}:
            message = f"a reconcile without a change is not without a change, or did {listing} and {applying}"
            raise ValueError(message)
        _wipe(registry.connection)
        registry.registry_close()
    return [
        compared(
            "istio", f"{count:,} imports into an empty namespace", "s", writes, bare_writes, "beside bare apply"
        ),
        compared("istio", f"{count:,} imports found unchanged", "s", reads, bare_reads, _said(calls[-2])),
        compared("istio", f"{count:,} imports applied again", "s", repeats, bare_reads, _said(calls[-1])),
    ]


@contextlib.contextmanager
def _counted(connection: Connection) -> Iterator[dict[str, int]]:
    """How many requests of each method are made meanwhile."""
    before, made = dict(connection.requests), dict[str, int]()
    yield made
    made |= {
        method: calls - before.get(method, 0)
        for method, calls in connection.requests.items()
        if calls != before.get(method, 0)
    }


def _said(calls: dict[str, int]) -> str:
    return ", ".join(f"{number} {method}" for method, number in sorted(calls.items())) + ", no other; beside a list"


@contextlib.contextmanager
def _connected(options: IstioOptions, directory: Path) -> Iterator[Connection]:
    connection = Connection(options, directory)
    yield connection
    connection.close()


def _bare_apply(
    connection: Connection, services: list[ImportedService], options: IstioOptions, marker: Marker
) -> float:
    """Seconds for the same objects, made beforehand, each applied without a look."""
    jobs = [
        (resource.path(IMPORTS, body["metadata"]["name"]), body)
        for service in services
        for resource, body in zip(
            APIS.written, istio.objects_for(service, options, marker, VERSION, None), strict=True
        )
    ]
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        began = time.perf_counter()
        for _ in pool.map(lambda job: connection.apply(job[0], job[1], "bare"), jobs):
            pass
        return time.perf_counter() - began


def _bare_list(connection: Connection) -> float:
    began = time.perf_counter()
    for resource in APIS.written:
        connection.listing(resource.path(IMPORTS))
    return time.perf_counter() - began


def _wipe(connection: Connection) -> None:
    for resource in APIS.written:
        connection.call("DELETE", resource.path(IMPORTS))


def _changes(setting: Setting, cluster: OwnKubernetes) -> list[Row]:
    count = min(200, setting.sizes.changes)
    west, east = setting.mesh("istio-west"), setting.mesh("istio-east")
    config = west.configure(kind="istio", peers=[east])
    yaml = YAML(typ="safe")
    document = yaml.load(config.read_text())
    document["registries"]["main"] |= _options(cluster)
    with config.open("w") as file:
        yaml.dump(document, file)
    options = IstioOptions(**_options(cluster))
    with (
        _connected(options, setting.root) as connection,
        setting.worker(AgentWorker) as owner,
        setting.worker(AgentWorker) as consumer,
    ):
        setting.step(f"{count} changes of one Service")
        _make_service(connection)
        owner.ask("open", config)
        consumer.ask("register", 0)
        consumer.ask("open", east.configure(kind="bench", peers=[west], dial=west))
        consumer.ask("standing", west.name, 1)
        seen = _Seen(connection)
        changed, arrived = dict[str, float](), dict[str, float]()
        for number in range(count):
            tag = f"c{number}"
            body = {"metadata": {"annotations": {TAGS: tag}}}
            changed[tag] = time.monotonic()
            connection.call(
                "PATCH", SERVICES.path(LOCAL, "orders"), None, body, content_type="application/merge-patch+json"
            )
            # Two that come at once are told as one.
            arrived[tag] = _arrived(consumer, (f"orders.{LOCAL}.{west.trust_domain}", tag))
        bare = seen.close(changed)
    ours = [MILLI * (arrived[tag] - at) for tag, at in changed.items()]
    reference = [MILLI * (bare[tag] - at) for tag, at in changed.items()]
    case, note = "annotation of a Service to the other registry", "beside a bare watch"
    return [
        compared("istio", f"{case}, p50", "ms", [percentile(ours, 0.5)], [percentile(reference, 0.5)], note),
        compared(
            "istio", f"{case}, p99 of {count}", "ms", [percentile(ours, 0.99)], [percentile(reference, 0.99)], note
        ),
    ]


def _arrived(consumer: Worker, service: tuple[str, str]) -> float:
    """When the other registry had a service in this form. It is asked only when it should have it for long."""
    deadline = time.monotonic() + PATIENCE
    time.sleep(random.uniform(*GAP))
    while service not in (written := consumer.ask("written")):
        if time.monotonic() > deadline:
            message = f"{service} did not arrive within {PATIENCE:g} s"
            raise TimeoutError(message)
        time.sleep(random.uniform(*GAP))
    return float(written[service])


def _make_service(connection: Connection) -> None:
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    pieces: tuple[tuple[Resource, dict[str, Any]], ...] = (
        (SERVICES, {"spec": {"ports": ports}}),
        (
            slices(APIS.read_endpoints),
            {"addressType": "IPv4", "endpoints": [{"addresses": ["10.1.0.7"]}], "ports": ports},
        ),
    )
    for resource, body in pieces:
        labels = {"kubernetes.io/service-name": "orders"}
        whole = {"apiVersion": resource.version, "kind": resource.kind, **body}
        connection.call(
            "POST", resource.path(LOCAL), None, whole | {"metadata": {"name": "orders", "labels": labels}}
        )


class _Seen:
    """A bare watch of the Services: when which tag came by."""

    def __init__(self, connection: Connection) -> None:
        self._at: dict[str, float] = {}
        self._came = threading.Condition()
        _, version = connection.listing(SERVICES.path(LOCAL))
        query = {"watch": "true", "resourceVersion": version}
        self._response = connection.stream(SERVICES.path(LOCAL), query, silence=120)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        rest = b""
        # `close` ends it in the middle
        with contextlib.suppress(HTTPError, OSError, ValueError, AttributeError):
            for chunk in self._response.stream(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                now = time.monotonic()
                for line in lines:
                    notes = json.loads(line)["object"]["metadata"].get("annotations", {})
                    with self._came:
                        self._at.setdefault(notes.get(TAGS, ""), now)
                        self._came.notify_all()

    def close(self, tags: Collection[str]) -> dict[str, float]:
        """End it once it has seen all of `tags`; when it saw which."""
        with self._came:
            if not self._came.wait_for(lambda: self._at.keys() >= set(tags), PATIENCE):
                message = f"the bare watch saw {len(self._at)} of {len(tags)} changes within {PATIENCE:g} s"
                raise TimeoutError(message)
        self._response.shutdown()
        self._thread.join(PATIENCE)
        return self._at

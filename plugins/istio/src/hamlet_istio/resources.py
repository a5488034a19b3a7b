"""Which API versions a cluster serves, and the paths of what we read and write in them."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass

from hamlet_core.api import RegistryUnavailable
from hamlet_istio.connection import Connection, Refusal
from hamlet_istio.options import IstioOptions

NETWORKING = "networking.istio.io"
SECURITY = "security.istio.io"
DISCOVERY = "discovery.k8s.io"
OF_ISTIO = ("v1", "v1beta1", "v1alpha3")
"""Versions of its groups, the newest first."""
_OF_SLICES = ("v1", "v1beta1")
ISTIO_KINDS = ("serviceentries", "destinationrules")


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object in one API version (`v1`, or `group/version`)."""

    version: str
    kind: str
    plural: str

    @property
    def group(self) -> str:
        """Its API group; an empty string for the core one."""
        return self.version.rpartition("/")[0]

    def path(self, namespace: str | None, name: str = "") -> str:
        """The path of its objects in a namespace (None: in all), or of one of them."""
        root = f"/apis/{self.version}" if "/" in self.version else f"/api/{self.version}"
        place = f"/namespaces/{namespace}" if namespace else ""
        return f"{root}{place}/{self.plural}" + (f"/{name}" if name else "")


SERVICES = Resource("v1", "Service", "services")
ENDPOINTS = Resource("v1", "Endpoints", "endpoints")
PODS = Resource("v1", "Pod", "pods")
CONFIG_MAPS = Resource("v1", "ConfigMap", "configmaps")
EVENTS = Resource("v1", "Event", "events")
SECRETS = Resource("v1", "Secret", "secrets")
NODES = Resource("v1", "Node", "nodes")


def slices(version: str) -> Resource:
    """EndpointSlices of `discovery.k8s.io/...`, or Endpoints for `v1`."""
    return ENDPOINTS if version == "v1" else Resource(version, "EndpointSlice", "endpointslices")


@dataclass(frozen=True, slots=True, kw_only=True)
class Apis:
    """What the cluster serves of what we need. `networking` is empty in mode `kubernetes`."""

    networking: str
    workload_entries: bool
    read_endpoints: str
    write_endpoints: str

    @property
    def entries(self) -> Resource:
        """ServiceEntries."""
        return Resource(self.networking, "ServiceEntry", "serviceentries")

    @property
    def workloads(self) -> Resource:
        """WorkloadEntries."""
        return Resource(self.networking, "WorkloadEntry", "workloadentries")

    @property
    def written(self) -> tuple[Resource, ...]:
        """The kinds of an import, in the order in which they are written."""
        if self.networking:
            return Resource(self.networking, "DestinationRule", "destinationrules"), self.entries
        return SERVICES, slices(self.write_endpoints)

    @property
    def main(self) -> Resource:
        """The kind that stands for an import."""
        return self.written[-1] if self.networking else self.written[0]


def endpoints_apis(wanted: str, served: Collection[str]) -> tuple[str, str]:
    """In which API endpoints are read and written, by the option and the served versions of `discovery.k8s.io`. Pure.

    `v1` means Endpoints. They are written where slices are not final yet: there the cluster copies them into slices
    for whoever reads those (Kubernetes, "EndpointSlice mirroring"), while older readers know nothing else.
    """
    if wanted != "auto":
        return wanted, wanted
    newest = next((f"{DISCOVERY}/{each}" for each in _OF_SLICES if each in served), "v1")
    return newest, newest if newest == f"{DISCOVERY}/v1" else "v1"


def served_kinds(connection: Connection, version: str) -> dict[str, frozenset[str]]:
    """The resources of a group and version with their verbs; empty when it is not served."""
    try:
        found = connection.call("GET", f"/apis/{version}", patiently=True)
    except Refusal as refusal:
        if refusal.status == 404:
            return {}
        raise RegistryUnavailable(str(refusal)) from refusal
    return {each["name"]: frozenset(each["verbs"]) for each in found["resources"]}


def served_versions(connection: Connection, group: str) -> tuple[str, ...]:
    """The versions of a group that are served."""
    try:
        found = connection.call("GET", f"/apis/{group}", patiently=True)
    except Refusal as refusal:
        if refusal.status == 404:
            return ()
        raise RegistryUnavailable(str(refusal)) from refusal
    return tuple(each["version"] for each in found["versions"])


class Discovery:
    """Asks the API server what it serves, and remembers. From any thread."""

    def __init__(self, connection: Connection, options: IstioOptions) -> None:
        self._connection, self._options = connection, options
        self._lock = threading.Lock()
        self._known: Apis | None = None

    def apis(self, *, anew: bool = False) -> Apis:
        """What is served; `RegistryUnavailable` where Istio's resources are due and are not (or not yet)."""
        with self._lock:
            if self._known is None or anew:
                self._known = None
                self._known = self._ask()
            return self._known

    def forget(self) -> None:
        """Ask again next time."""
        with self._lock:
            self._known = None

    def served(self, version: str) -> dict[str, frozenset[str]]:
        """The resources of a group and version with their verbs; empty when it is not served."""
        return served_kinds(self._connection, version)

    def versions(self, group: str) -> tuple[str, ...]:
        """The versions of a group that are served."""
        return served_versions(self._connection, group)

    def _ask(self) -> Apis:
        networking, workload_entries = "", False
        if self._options.istio:
            served = self.versions(NETWORKING)
            version = next((each for each in OF_ISTIO if each in served), "")
            networking = f"{NETWORKING}/{version}"
            kinds = self.served(networking) if version else {}
            if missing := [kind for kind in ISTIO_KINDS if "create" not in kinds.get(kind, ())]:
                # Those of a definition that is being removed can be read for a moment, and no longer created.
                message = f"the cluster does not serve {', '.join(missing)} of {NETWORKING}"
                raise RegistryUnavailable(message, mend="install Istio's CRDs, or set `mode: kubernetes`")
            workload_entries = "workloadentries" in kinds
        read, write = endpoints_apis(self._options.endpoints_api, self.versions(DISCOVERY))
        return Apis(
            networking=networking,
            workload_entries=workload_entries,
            read_endpoints=read,
            write_endpoints=write,
        )

"""What others do to a cluster, for the contract: services that come and go, edits, outages for one adapter alone.

Everything is done with the address and the credentials of the options, and in the import namespace where services
are read there: with Istio the agent's own rights are enough for it. An adapter is opened by a relay that can be cut.
`hamlet verify-adapter` imports this module, and the tests do; an agent never does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

from hamlet_core.api import AdapterContext, ImportedService, LocalService
from hamlet_core.api.testing import RegistryBackend, not_run
from hamlet_core.api.testing.names import OWN
from hamlet_istio.connection import JSON_PATCH, Connection, Refusal
from hamlet_istio.coordinator import IstioCoordinatorOptions
from hamlet_istio.marks import PREFIX, TRUST_DOMAIN, annotations_of, is_marked
from hamlet_istio.naming import object_name
from hamlet_istio.options import IstioOptions
from hamlet_istio.registry import IstioRegistry
from hamlet_istio.resources import CONFIG_MAPS, ENDPOINTS, SERVICES, Apis, Discovery, Resource, slices
from hamlet_istio.verification_leases import LeaseBackend
from hamlet_istio.verification_way import connect_by, relay_to

Object = dict[str, Any]
PATIENCE = timedelta(seconds=5)
"""How long an adapter waits for an answer that is opened in a silence: to notice that is what the check is about."""
CONNECTING = timedelta(seconds=3)
"""How long it waits for a connection."""
OF_A_CHECK = f"{PREFIX}of-a-check"
"""The annotation of all that is made here, so that what a run leaves that was killed is found by the next."""
_MADE_BY_THE_CLUSTER = "endpointslice.kubernetes.io/managed-by"
_ATTEMPTS = 20


class ClusterBackend(RegistryBackend):
    """A cluster that is in use. `hand` says how everybody but the adapter reaches it: unless told, as the adapter."""

    def __init__(self, options: IstioOptions, *, hand: IstioOptions | None = None) -> None:
        # Nobody may take Events out again, so none are written; they are a courtesy.
        self._options = options.model_copy(update={"events": False})
        self._connection = Connection(hand or self._options, Path())
        self._discovery = Discovery(self._connection, self._options)
        self._relay = relay_to(self._options)
        self.silent = False
        imports = options.import_namespace
        self.home = imports if not options.namespaces or imports in options.namespaces else options.namespaces[0]

    def open(self, context: AdapterContext) -> IstioRegistry:
        """See `RegistryBackend`."""
        options = self._options
        if self.silent:
            limits = {
                "timeout": min(options.timeout, PATIENCE),
                "connect_timeout": min(options.connect_timeout, CONNECTING),
            }
            options = options.model_copy(update=limits)
        return IstioRegistry(options, context, connect_by(self._relay))

    def add_local(self, service: LocalService) -> str:
        """See `RegistryBackend`: a ServiceEntry of this mesh's own, or a Service without a selector."""
        notes = {
            "hamlet.federation/description": service.description,
            "hamlet.federation/tags": ",".join(service.tags),
        }
        metadata = {"labels": dict(service.labels), "annotations": notes}
        for resource, content in self._local(service):
            self._apply(resource, self.home, service.name, metadata, content)
        return f"{service.name}.{self.home}"

    def remove_local(self, name: str) -> None:
        """See `RegistryBackend`."""
        for resource in self._kinds_of_locals():
            self._delete(resource, self.home, name)

    def add_foreign(self, service: ImportedService) -> str:
        """See `RegistryBackend`; an object that stands there already stays."""
        name = object_name(service.local_name)
        if self._options.istio:
            spec: Object = {"hosts": [f"somebody.{OWN}.example"], "location": "MESH_EXTERNAL", "exportTo": ["."]}
            spec |= {"ports": [{"number": 1, "name": "tcp", "protocol": "TCP"}], "resolution": "NONE"}
        else:
            spec = {"ports": [{"port": 1, "protocol": "TCP"}]}
        resource, namespace = self._apis.main, self._options.import_namespace
        body = _object(resource, name, {}, {"spec": spec})
        try:
            with _allowed("create", resource, namespace):
                self._connection.call("POST", resource.path(namespace), None, body, patiently=True)
        except Refusal as refusal:
            if refusal.status != 409:
                raise
            message = f"{resource.kind} {namespace}/{name} is there already"
            raise FileExistsError(message) from refusal
        return name

    def remove_foreign(self, service: ImportedService) -> None:
        """See `RegistryBackend`."""
        self._delete(self._apis.main, self._options.import_namespace, object_name(service.local_name))

    def edit_import(self, service: ImportedService) -> None:
        """See `RegistryBackend`: a field is taken out, unless somebody has done so already."""
        resource, key = self._apis.main, "location" if self._options.istio else "appProtocol"
        field = "/spec/location" if self._options.istio else "/spec/ports/0/appProtocol"
        path = resource.path(self._options.import_namespace, object_name(service.local_name))
        query = {"fieldManager": OWN}
        for attempt in range(_ATTEMPTS):
            spec = self._connection.call("GET", path)["spec"]
            if key not in (spec if self._options.istio else spec["ports"][0]):
                return
            operations = [{"op": "remove", "path": field}]
            try:
                with _allowed("patch", resource, self._options.import_namespace):
                    self._connection.call("PATCH", path, query, operations, content_type=JSON_PATCH, patiently=True)
                return
            except Refusal as refusal:  # somebody wrote it between the look and the edit
                if refusal.status not in (409, 422) or attempt + 1 == _ATTEMPTS:
                    raise

    def entries(self) -> Mapping[str, object]:
        """See `RegistryBackend`: what stands where imports do, without what agents and controllers keep there."""
        kinds = (*dict.fromkeys((*self._apis.written, *self._kinds_of_locals(), CONFIG_MAPS)),)
        places = {(kind, self._options.import_namespace) for kind in kinds}
        places |= {
            (self._apis.written[0], each) for each in self._options.tls.selectors(self._options.import_namespace)
        }
        found = {}
        for resource, namespace in sorted(places, key=str):
            for each in self._connection.listing(resource.path(namespace))[0]:
                if not (_of_a_real_agent(each) or _MADE_BY_THE_CLUSTER in (each["metadata"].get("labels") or {})):
                    found[f"{resource.path(namespace)}/{each['metadata']['name']}"] = each
        return found

    def outage(self) -> AbstractContextManager[None]:
        """See `RegistryBackend`: of the adapters alone."""
        return self._relay.cut()

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """See `RegistryBackend`: for the adapters alone."""
        with self._relay.silence():
            self.silent = True
            try:
                yield
            finally:
                self.silent = False

    def close(self) -> None:
        """See `RegistryBackend`."""
        self._relay.close()
        self._connection.close()

    @property
    def _apis(self) -> Apis:
        return self._discovery.apis()

    def _kinds_of_locals(self) -> tuple[Resource, ...]:
        return (self._apis.entries,) if self._options.istio else (SERVICES, slices(self._apis.read_endpoints))

    def _local(self, service: LocalService) -> Iterator[tuple[Resource, Object]]:
        """The objects of a local service, the last of which makes it known."""
        if self._options.istio:
            ports = [
                {"name": each.name, "number": each.port, "protocol": each.protocol.value} for each in service.ports
            ]
            spec = {"hosts": [f"{service.name}.{OWN}.example"], "exportTo": ["."], "ports": ports}
            spec |= {"location": "MESH_INTERNAL", "resolution": "STATIC"}
            yield self._apis.entries, {"spec": spec | {"endpoints": _addresses(service)}}
            return
        named = [{"name": each.name, "port": each.port, "protocol": "TCP"} for each in service.ports]
        yield SERVICES, {"spec": {"ports": named}}
        resource = slices(self._apis.read_endpoints)
        if resource is ENDPOINTS:
            yield (
                resource,
                {
                    "subsets": [
                        {"addresses": [{"ip": each["address"]} for each in _addresses(service)], "ports": named}
                    ]
                },
            )
            return
        ready = [{"addresses": [each["address"]], "conditions": {"ready": True}} for each in _addresses(service)]
        yield resource, {"addressType": "IPv4", "endpoints": ready, "ports": named}

    def _apply(self, resource: Resource, namespace: str, name: str, metadata: Object, content: Object) -> None:
        if resource.kind == "EndpointSlice":
            metadata = {**metadata, "labels": {"kubernetes.io/service-name": name}}
        body = _object(resource, name, metadata, content)
        with _allowed("create and patch", resource, namespace):
            self._connection.apply(resource.path(namespace, name), body, OWN, force=True)

    def _delete(self, resource: Resource, namespace: str, name: str) -> None:
        try:
            self._connection.call("DELETE", resource.path(namespace, name), patiently=True)
        except Refusal as refusal:
            if refusal.status != 404:
                raise

    def sweep(self) -> None:
        """See `RegistryBackend`."""
        for namespace in {self.home, self._options.import_namespace}:
            for resource in {*self._kinds_of_locals(), self._apis.main}:
                for each in self._connection.listing(resource.path(namespace))[0]:
                    if OF_A_CHECK in annotations_of(each):
                        self._delete(resource, namespace, each["metadata"]["name"])


def _object(resource: Resource, name: str, metadata: Object, content: Object) -> Object:
    notes = {**metadata.get("annotations", {}), OF_A_CHECK: OWN}
    made = {**metadata, "name": name, "annotations": notes}
    return {"apiVersion": resource.version, "kind": resource.kind, "metadata": made, **content}


def _addresses(service: LocalService) -> list[Object]:
    return [{"address": each.address} for each in service.endpoints]


def _of_a_real_agent(thing: Object) -> bool:
    return is_marked(thing) and OWN not in annotations_of(thing).get(TRUST_DOMAIN, OWN)


@contextlib.contextmanager
def _allowed(verb: str, resource: Resource, namespace: str) -> Iterator[None]:
    """Leave the check out where the account may not do this."""
    try:
        yield
    except Refusal as refusal:
        if refusal.status == 403:
            not_run(needs=f"the right to {verb} {resource.plural} in {namespace}")
        raise


def registry(options: IstioOptions) -> ClusterBackend:
    """What acts on the cluster of a registry."""
    return ClusterBackend(options)


def coordinator(options: IstioCoordinatorOptions) -> LeaseBackend:
    """What acts on the Leases of a coordinator."""
    return LeaseBackend(options)

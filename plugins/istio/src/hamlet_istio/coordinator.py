"""Who leads, by a Lease of Kubernetes, renewed and taken over as Kubernetes' own leader election does it.

No clock is compared with another one's: a Lease has run out when the one who looks at it has seen it unchanged for
as long as it says. Each write names the version that it was decided at, so that of two only one succeeds.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import Field

from hamlet_core.api import (
    AdapterContext,
    AdapterType,
    CoordinatorUnavailable,
    Duration,
    Finding,
    HamletError,
    Severity,
    Stop,
    hookimpl,
    lead_by_renewing,
)
from hamlet_istio.access import ClusterOptions, Namespace
from hamlet_istio.connection import Connect, Connection, Refusal
from hamlet_istio.marks import HAMLET, MANAGED_BY, PREFIX, TRUST_DOMAIN
from hamlet_istio.resources import Resource

LEASES = Resource("coordination.k8s.io/v1", "Lease", "leases")
OF_MESH = f"{PREFIX}mesh"
LAST_WORDS = timedelta(seconds=0.3)
"""To connect, and for each of the two calls that give the lead up: within the second that C4 gives an end."""
CALL = 1 / 6
"""The share of the time-to-live that a call may take to connect, and to be answered."""

LeaseTtl = Annotated[Duration, Field(ge=timedelta(seconds=3), le=timedelta(minutes=10))]
Object = dict[str, Any]


class IstioCoordinatorOptions(ClusterOptions):
    """The keys of a coordinator of kind `istio`."""

    namespace: Namespace = Field(default="hamlet", description="Namespace of the Lease; it must exist.")
    lease: str = Field(default="", description="Name of the Lease; empty: `hamlet-<mesh>`.")
    ttl: LeaseTtl = Field(
        default=timedelta(seconds=15), description="How long a Lease that is not renewed counts; whole seconds."
    )


class IstioCoordinator:
    """The Lease of one mesh. `_claim` runs on one thread, the rest after it."""

    def __init__(
        self, options: IstioCoordinatorOptions, context: AdapterContext, connect: Connect = Connection
    ) -> None:
        self._options, self._directory, self._connect = options, context.directory, connect
        self._seconds = int(options.ttl.total_seconds())
        self._name = options.lease or f"hamlet-{context.mesh}"
        self._labels = {MANAGED_BY: HAMLET}
        self._annotations = {TRUST_DOMAIN: context.trust_domain, OF_MESH: context.mesh}
        self._holder = f"{socket.gethostname()[:60]}_{secrets.token_hex(6)}"
        self._seen: tuple[str, float] = ("", 0.0)

    @hookimpl
    def coordinator_lead(self, stop: Stop) -> Iterator[bool]:
        """Hold the Lease, or wait for it."""
        connection = self._connection(timedelta(seconds=self._seconds * CALL))
        stop.on_stop(connection.close)
        return lead_by_renewing(
            stop, lambda: self._claim(connection), self._release, ttl=self._seconds, cut=connection.close
        )

    @hookimpl
    def coordinator_check(self) -> Sequence[Finding]:
        """Say who holds the Lease."""
        connection = self._connection(self._options.timeout)
        subject = f"lease {self._options.namespace}/{self._name}"
        try:
            lease = self._lease(connection)
            holder = (lease or {}).get("spec", {}).get("holderIdentity")
            message = f"{holder} holds it" if holder else "nobody holds it"
            return [Finding(subject=subject, severity=Severity.OK, message=message)]
        except HamletError as error:
            mend = error.mend or "apply the manifests of `rbac-coordinator.yaml`"
            return [Finding(subject=subject, severity=Severity.ERROR, message=str(error), mend=mend)]
        finally:
            connection.close()

    @hookimpl
    def coordinator_close(self) -> None:
        """Nothing is left: the lead was given up when it ended."""

    def _connection(self, within: timedelta) -> Connection:
        limits = {"timeout": within, "connect_timeout": min(within, self._options.connect_timeout)}
        return self._connect(self._options.model_copy(update=limits), self._directory)

    def _path(self, name: str = "") -> str:
        return LEASES.path(self._options.namespace, name)

    def _lease(self, connection: Connection) -> Object | None:
        """The Lease, or None; raises where it is not ours."""
        try:
            lease = connection.call("GET", self._path(self._name))
        except Refusal as refusal:
            if refusal.status == 404:
                return None
            raise
        metadata = lease["metadata"]
        marks = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
        if not (self._labels | self._annotations).items() <= marks.items():
            message = f"the Lease {self._options.namespace}/{self._name} is there and has not the mark of this mesh"
            raise CoordinatorUnavailable(message, mend="remove it, or set another `lease`")
        return lease

    def _claim(self, connection: Connection) -> bool:
        try:
            lease = self._lease(connection)
            if lease is None:
                return self._written(connection, "POST", {"metadata": self._metadata()}, 0)
            spec = lease.get("spec") or {}
            holder, version = spec.get("holderIdentity") or "", lease["metadata"]["resourceVersion"]
            if self._seen[0] != version:
                self._seen = (version, time.monotonic())
            if holder == self._holder:
                if not self._written(connection, "PUT", lease, 0):
                    message = f"the Lease {self._name} was changed by another while it was renewed"
                    raise CoordinatorUnavailable(message)
                return True
            over = time.monotonic() - self._seen[1] >= (spec.get("leaseDurationSeconds") or self._seconds)
            return (over or not holder) and self._written(connection, "PUT", lease, 1)
        except CoordinatorUnavailable:
            raise
        except HamletError as error:
            raise CoordinatorUnavailable(str(error), mend=error.mend) from error

    def _metadata(self) -> Object:
        return {"name": self._name, "labels": self._labels, "annotations": self._annotations}

    def _written(self, connection: Connection, method: str, lease: Object, transitions: int) -> bool:
        """Write the Lease as held by us from now on; False where somebody else was quicker."""
        spec = lease.get("spec") or {}
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        acquired = now if transitions or "acquireTime" not in spec else spec["acquireTime"]
        changed = {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": self._seconds,
            "acquireTime": acquired,
            "renewTime": now,
            "leaseTransitions": (spec.get("leaseTransitions") or 0) + transitions,
        }
        return self._put(connection, method, {**lease, "spec": {**spec, **changed}})

    def _put(self, connection: Connection, method: str, lease: Object) -> bool:
        body = {"apiVersion": LEASES.version, "kind": LEASES.kind, **lease}
        try:
            connection.call(method, self._path("" if method == "POST" else self._name), None, body)
        except Refusal as refusal:
            if refusal.status == 409:
                return False
            raise
        return True

    def _release(self) -> None:
        connection = self._connection(LAST_WORDS)
        try:
            lease = self._lease(connection)
            if lease is not None and (lease.get("spec") or {}).get("holderIdentity") == self._holder:
                self._put(connection, "PUT", {**lease, "spec": {**lease["spec"], "holderIdentity": ""}})
        except CoordinatorUnavailable:
            raise
        except HamletError as error:
            raise CoordinatorUnavailable(str(error), mend=error.mend) from error
        finally:
            connection.close()


ADAPTER = AdapterType(
    kind="istio",
    role="coordinator",
    options=IstioCoordinatorOptions,
    open=IstioCoordinator,
    api_version=1,
    summary="a Lease of Kubernetes",
    backend="hamlet_istio.verification:coordinator",
)

"""What others do to the Leases of a namespace, for the contract of a coordinator: `hamlet verify-adapter` imports it.

Each agent has a way of its own that can fall silent. Their Leases have names of their own, whatever `lease` says.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hamlet_core.api import AdapterContext
from hamlet_core.api.testing import CoordinatorBackend, Relay, not_run
from hamlet_istio.connection import Connection, Refusal
from hamlet_istio.coordinator import LEASES, IstioCoordinator, IstioCoordinatorOptions
from hamlet_istio.verification_way import connect_by, relay_to

WAYS = 8
"""More than there are agents of one check; they are made once, as a check counts what its agents leave behind."""
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class LeaseBackend(CoordinatorBackend):
    """The Leases of a namespace that may be in use."""

    def __init__(self, options: IstioCoordinatorOptions) -> None:
        self._options = options
        self._connection = Connection(options, Path())
        self._relays = [relay_to(options) for _ in range(WAYS)]
        self._next = itertools.cycle(self._relays)
        self._ways: dict[object, Relay] = {}
        self._names: set[str] = set()
        self.ttl = float(int(options.ttl.total_seconds()))

    def open(self, context: AdapterContext) -> IstioCoordinator:
        """See `CoordinatorBackend`. Without the right to take the Lease out again, the check is left out."""
        name = self.name(context)
        if name not in self._names:
            self._may_delete()
            self._delete(name)
            self._names.add(name)
        relay = next(self._next)
        options = self._options.model_copy(update={"lease": name})
        adapter = IstioCoordinator(options, context, connect_by(relay))
        self._ways[adapter] = relay
        return adapter

    @staticmethod
    def name(context: AdapterContext) -> str:
        """The Lease of a mesh. Two trust domains with meshes of one name share none: their operators name it."""
        return f"{context.mesh}.{context.trust_domain}"

    def cut(self, adapter: object) -> AbstractContextManager[None]:
        """See `CoordinatorBackend`."""
        return self._ways[adapter].silence()

    def add_foreign(self, context: AdapterContext) -> str:
        """See `CoordinatorBackend`."""
        name = self.name(context)
        self._delete(name)  # of an earlier check, whose leader has left it
        body = {"apiVersion": LEASES.version, "kind": LEASES.kind, "metadata": {"name": name}, "spec": {}}
        self._connection.call("POST", LEASES.path(self._options.namespace), None, body)
        self._names.add(name)
        return name

    def remove_foreign(self, context: AdapterContext) -> None:
        """See `CoordinatorBackend`."""
        self._delete(self.name(context))

    def entries(self) -> Mapping[str, object]:
        """See `CoordinatorBackend`; of Leases the agent may only read the one that it is told of."""
        return {name: lease for name in sorted(self._names) if (lease := self._lease(name)) is not None}

    def close(self) -> None:
        """See `CoordinatorBackend`: an adapter leaves its Lease; those of the checks are of no more use."""
        try:
            for name in sorted(self._names):
                self._delete(name)
        finally:
            for relay in self._relays:
                relay.close()
            self._connection.close()

    def _lease(self, name: str) -> dict[str, Any] | None:
        try:
            return self._connection.call("GET", LEASES.path(self._options.namespace, name))
        except Refusal as refusal:
            if refusal.status != 404:
                raise
        return None

    def _delete(self, name: str) -> None:
        try:
            self._connection.call("DELETE", LEASES.path(self._options.namespace, name), patiently=True)
        except Refusal as refusal:
            if refusal.status != 404:
                raise

    def _may_delete(self) -> None:
        attributes = {"group": LEASES.group, "resource": LEASES.plural, "verb": "delete"}
        spec = {"resourceAttributes": {**attributes, "namespace": self._options.namespace}}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}
        if not self._connection.call("POST", _REVIEWS, None, body)["status"].get("allowed"):
            where = f"{LEASES.plural} in {self._options.namespace}"
            not_run(needs=f"the right to delete {where}, or those of the checks would stay")

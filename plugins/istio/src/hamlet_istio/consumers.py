"""The namespaces with DestinationRules of ours beside the import namespace: those of now, and those of before.

A ConfigMap in the import namespace names every namespace that rules are written to, from before the first of them
until the options no longer do and the last is gone. So what an earlier configuration left is found, whatever came
in between.
"""

from __future__ import annotations

from typing import Any

from hamlet_core.api import AdapterError
from hamlet_istio.connection import Connection, Refusal
from hamlet_istio.marks import NAMESPACES, PEER, SELECTOR, Marker, annotations_of, whose
from hamlet_istio.naming import hashed_name
from hamlet_istio.options import IstioOptions
from hamlet_istio.resources import CONFIG_MAPS, Resource

Object = dict[str, Any]


class Consumers:
    """Reads and writes that record for one agent. `named` are the namespaces of the options and of the gateway."""

    def __init__(self, connection: Connection, options: IstioOptions, marker: Marker) -> None:
        self._connection, self._marker = connection, marker
        self._namespace, self._manager = options.import_namespace, options.field_manager
        self.named = (
            frozenset(options.tls.selectors(self._namespace)) - {self._namespace} if options.istio else frozenset()
        )
        self._recorded: frozenset[str] | None = None

    @property
    def _path(self) -> str:
        context = self._marker.context
        name = hashed_name("hamlet-consumers", f"{context.trust_domain}/{context.name}")
        return CONFIG_MAPS.path(self._namespace, name)

    def learn(self) -> None:
        """Read the record."""
        try:
            found = self._connection.call("GET", self._path, patiently=True)
        except Refusal as refusal:
            if refusal.status != 404:
                raise
            self._recorded = frozenset()
            return
        if not self._marker.is_ours(found):
            message = f"ConfigMap {self._namespace}/{found['metadata']['name']} is in the way: {whose(found)}"
            raise AdapterError(message, mend="remove it, or take another `import_namespace`")
        self._recorded = frozenset(annotations_of(found).get(NAMESPACES, "").split(",")) - {""}

    @property
    def recorded(self) -> frozenset[str]:
        """Where rules may stand."""
        if self._recorded is None:
            self.learn()
        assert self._recorded is not None
        return self._recorded

    @property
    def former(self) -> frozenset[str]:
        """Where rules may stand that the options no longer name."""
        return self.recorded - self.named

    def expect(self, also: frozenset[str] = frozenset()) -> None:
        """Rules are about to be written; `also` where a gateway asks for them, which counts until the next start."""
        self.named |= also
        if not self.named <= self.recorded:
            self._record(self.recorded | self.named)

    def tidy(self, rules: Resource) -> None:
        """Forget the former namespaces where no rule of ours is left."""
        empty = frozenset(namespace for namespace in self.former if not self._has_ours(rules, namespace))
        if empty:
            self._record(self.recorded - empty)

    def _has_ours(self, rules: Resource, namespace: str) -> bool:
        try:
            found = self._connection.listing(rules.path(namespace), {"labelSelector": SELECTOR})[0]
        except Refusal:  # what cannot be looked for may be there
            return True
        return any(map(self._marker.is_ours, found))

    def _record(self, namespaces: frozenset[str]) -> None:
        if not namespaces:
            try:
                self._connection.call("DELETE", self._path, patiently=True)
            except Refusal as refusal:
                if refusal.status != 404:
                    raise
        else:
            said = ",".join(sorted(namespaces))
            labels = {key: value for key, value in self._marker.labels("").items() if key != PEER}
            notes = {key: value for key, value in self._marker.owner("").items() if key != PEER}
            body: Object = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": self._path.rpartition("/")[2],
                    "namespace": self._namespace,
                    "labels": labels,
                    "annotations": {**notes, NAMESPACES: said},
                },
                "data": {"namespaces": said, "note": "DestinationRules of Hamlet stand there."},
            }
            # Nothing but us writes this object of ours, so its fields are taken without asking.
            self._connection.apply(self._path, body, self._manager, force=True)
        self._recorded = namespaces

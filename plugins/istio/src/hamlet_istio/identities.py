"""The service accounts of pods, asked for when an endpoint names a pod that is new; a pod never changes its own."""

from __future__ import annotations

from collections.abc import Iterable

from hamlet_core.api import RegistryUnavailable
from hamlet_istio.connection import Connection, Refusal
from hamlet_istio.resources import PODS
from hamlet_istio.view import Pod

_LIST_FROM = 8
"""From this many unknown pods of a namespace on, all of it is listed instead of asking for each."""


class Identities:
    """Remembers the service account of each pod that is somebody's endpoint. For one thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: dict[tuple[str, str], tuple[str, str]] = {}
        """Namespace and name to UID and service account."""

    def __call__(self, namespace: str, pod: str) -> str | None:
        """The service account, or None for a pod that was not there."""
        return self._known.get((namespace, pod), ("", None))[1]

    def learn(self, pods: Iterable[Pod]) -> None:
        """Have the accounts of these pods; `RegistryUnavailable` when that cannot be asked."""
        missing: dict[str, set[str]] = {}
        for namespace, name, uid in pods:
            known = self._known.get((namespace, name))
            if known is None or (uid and known[0] != uid):
                missing.setdefault(namespace, set()).add(name)
        for namespace, names in missing.items():
            try:
                if len(names) < _LIST_FROM:
                    for name in names:
                        self._ask(namespace, name)
                else:
                    for pod in self._connection.listing(PODS.path(namespace))[0]:
                        self._note(namespace, pod)
            except Refusal as refusal:
                mend = f"allow get and list of pods in namespace {namespace!r}: their service accounts become SANs"
                raise RegistryUnavailable(str(refusal), mend=mend) from refusal

    def keep(self, pods: Iterable[Pod]) -> None:
        """Forget all but these."""
        kept = {(namespace, name) for namespace, name, _ in pods}
        self._known = {key: found for key, found in self._known.items() if key in kept}

    def _ask(self, namespace: str, name: str) -> None:
        try:
            self._note(namespace, self._connection.call("GET", PODS.path(namespace, name), patiently=True))
        except Refusal as refusal:
            if refusal.status != 404:  # gone already: its endpoint will go too
                raise

    def _note(self, namespace: str, pod: dict[str, object]) -> None:
        metadata, spec = pod["metadata"], pod.get("spec")
        assert isinstance(metadata, dict)
        assert isinstance(spec, dict)
        account = spec.get("serviceAccountName") or "default"
        self._known[namespace, metadata["name"]] = (metadata.get("uid", ""), account)

"""What we write on an object to know it again: labels to select and to show, annotations for the rest. Pure.

An object is ours when it carries the label `app.kubernetes.io/managed-by: hamlet` and the annotations of our trust
domain and registry. Its annotation `hamlet.federation/written` is a fingerprint of what we wrote; an object that
no longer has it was edited.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hamlet_core.api import AdapterContext, ImportedService, ImportKey
from hamlet_istio.naming import label_value

Object = dict[str, Any]

PREFIX = "hamlet.federation/"
MANAGED_BY = "app.kubernetes.io/managed-by"
HAMLET = "hamlet"
PEER, MESH, REGISTRY = f"{PREFIX}peer", f"{PREFIX}mesh", f"{PREFIX}registry"
TRUST_DOMAIN, SERVICE, FQDN = f"{PREFIX}trust-domain", f"{PREFIX}service", f"{PREFIX}fqdn"
LOCAL_NAME, DIGEST, WRITTEN, FORM = (
    f"{PREFIX}local-name",
    f"{PREFIX}digest",
    f"{PREFIX}written",
    f"{PREFIX}form",
)
DESCRIPTION, LEFT_OUT, LOST_SINCE, OBJECTS = (
    f"{PREFIX}description",
    f"{PREFIX}left-out",
    f"{PREFIX}lost-since",
    f"{PREFIX}objects",
)
NAMESPACES = f"{PREFIX}namespaces"
SELECTOR = f"{MANAGED_BY}={HAMLET}"


@dataclass(frozen=True, slots=True)
class Marker:
    """Marks objects for one agent. `form` is a digest of the options that shape what is written."""

    context: AdapterContext
    form: str

    def labels(self, peer: str) -> dict[str, str]:
        """The labels of everything that is about `peer`."""
        return {
            MANAGED_BY: HAMLET,
            PEER: label_value(peer),
            MESH: label_value(self.context.mesh),
            REGISTRY: label_value(self.context.name),
        }

    def owner(self, peer: str) -> dict[str, str]:
        """The annotations by which an object is this agent's."""
        return {TRUST_DOMAIN: self.context.trust_domain, REGISTRY: self.context.name, PEER: peer}

    def marked(self, service: ImportedService, bodies: Sequence[Object], left_out: str = "") -> list[Object]:
        """`bodies` (apiVersion, kind, metadata with name and namespace, content) with the marks of one import."""
        made = []
        for body in bodies:
            annotations = {
                **self.owner(service.peer),
                SERVICE: service.service.name,
                FQDN: service.service.fqdn,
                LOCAL_NAME: service.local_name,
                DIGEST: service.digest,
                FORM: self.form,
                OBJECTS: str(len(bodies)),
            }
            if service.service.description:
                annotations[DESCRIPTION] = service.service.description
            if left_out:
                annotations[LEFT_OUT] = left_out
            metadata = body["metadata"]
            labels = {**metadata.get("labels", {}), **self.labels(service.peer)}
            one = {**body, "metadata": {**metadata, "labels": labels, "annotations": annotations}}
            annotations[WRITTEN] = fingerprint(one)
            made.append(one)
        return made

    def is_ours(self, live: Object) -> bool:
        """Whether this agent wrote it."""
        notes = annotations_of(live)
        return (
            is_marked(live)
            and notes.get(TRUST_DOMAIN) == self.context.trust_domain
            and notes.get(REGISTRY) == self.context.name
        )

    def digest(self, live: Object) -> str:
        """The digest of what it was written as; an empty string when it was edited, or is of other options."""
        notes = annotations_of(live)
        intact = notes.get(WRITTEN) == fingerprint(live) and notes.get(FORM) == self.form
        return notes.get(DIGEST, "") if intact else ""


def is_marked(live: Object) -> bool:
    """Whether some agent of Hamlet wrote it."""
    return (live["metadata"].get("labels") or {}).get(MANAGED_BY) == HAMLET


def annotations_of(live: Object) -> dict[str, str]:
    """Its annotations."""
    return live["metadata"].get("annotations") or {}


def key_of(live: Object) -> ImportKey | None:
    """Which import an object of ours is about; None for one that does not say."""
    notes = annotations_of(live)
    return ImportKey(notes[PEER], notes[SERVICE]) if PEER in notes and SERVICE in notes else None


def whose(live: Object) -> str:
    """Whose an object is that is not ours, for people."""
    if is_marked(live):
        notes = annotations_of(live)
        return f"it is of registry {notes.get(REGISTRY)!r} of trust domain {notes.get(TRUST_DOMAIN)!r}"
    managers = sorted({each["manager"] for each in live["metadata"].get("managedFields") or () if "manager" in each})
    return f"it does not carry our mark (made by {', '.join(managers)})" if managers else "it does not carry our mark"


def fingerprint(thing: Object) -> str:
    """A digest of the content that is ours to write, the same before and after the API server has completed it."""
    metadata = thing["metadata"]
    notes = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith(PREFIX) and key != WRITTEN
    }
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key.startswith(PREFIX)}
    text = json.dumps([notes, labels, content(thing)], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def content(thing: Object) -> object:
    """What an object says, without what the API server adds to its kind. Custom resources get nothing added."""
    kind = thing.get("kind")
    if kind == "Service":
        spec = thing.get("spec") or {}
        ports = [
            _only(port, "name", "port", "protocol", "targetPort", "appProtocol") for port in spec.get("ports") or ()
        ]
        return {"ports": ports, "selector": spec.get("selector") or {}, "externalName": spec.get("externalName", "")}
    if kind == "Secret":
        return {"type": thing.get("type"), "data": thing.get("data") or {}}
    if kind == "Endpoints":
        return [
            {
                "addresses": [_only(each, "ip") for each in subset.get("addresses") or ()],
                "unready": [_only(each, "ip") for each in subset.get("notReadyAddresses") or ()],
                "ports": [_only(port, "name", "port", "protocol") for port in subset.get("ports") or ()],
            }
            for subset in thing.get("subsets") or ()
        ]
    if kind == "EndpointSlice":
        return {
            "type": thing.get("addressType"),
            "endpoints": [
                {"addresses": each.get("addresses"), "ready": (each.get("conditions") or {}).get("ready")}
                for each in thing.get("endpoints") or ()
            ],
            "ports": [_only(port, "name", "port", "protocol") for port in thing.get("ports") or ()],
        }
    return thing.get("spec")


def _only(record: Object, *keys: str) -> Object:
    return {key: record[key] for key in keys if key in record}

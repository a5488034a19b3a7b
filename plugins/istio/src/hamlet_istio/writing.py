"""Writes one object by server-side apply, and sees that it stands as it was written."""

from __future__ import annotations

from typing import Any

from hamlet_istio.access import ClusterOptions
from hamlet_istio.connection import JSON_PATCH, Connection, Refusal
from hamlet_istio.marks import WRITTEN, annotations_of, fingerprint
from hamlet_istio.resources import Resource

Object = dict[str, Any]
_NEVER = "1"
"""A version that no object has: etcd begins with it, and the first object of a cluster comes later."""


class Refused(Exception):
    """A change that cannot be made as it is."""


def says(live: Object, body: Object) -> bool:
    """Whether an object of ours is as it would be written."""
    written = body["metadata"]["annotations"][WRITTEN]
    return bool(annotations_of(live).get(WRITTEN) == written == fingerprint(live))


def put(
    connection: Connection, resource: Resource, body: Object, before: Object | None, options: ClusterOptions
) -> Object:
    """Write a marked `body` over `before`, or anew, and return what stands then.

    `Refused` when something else stands than was written, `Refusal` as the server says, a conflict among them: with
    an edit since `before`, or with another field manager.
    """
    path = resource.path(body["metadata"]["namespace"], body["metadata"]["name"])
    if before is None:
        made = _create(connection, resource, body, options.field_manager)
    else:
        before = _applied(connection, path, before, options.field_manager)
        body = _at(body, before["metadata"]["resourceVersion"])
        made = connection.apply(path, body, options.field_manager, force=options.force_conflicts)
    made.setdefault("kind", resource.kind)
    if fingerprint(made) == body["metadata"]["annotations"][WRITTEN]:
        return made
    if options.force_conflicts and resource.kind != "Service":
        query = {"fieldManager": options.field_manager}
        whole = _at(body, made["metadata"]["resourceVersion"])
        made = connection.call("PUT", path, query, whole, patiently=True)
        made.setdefault("kind", resource.kind)
        if fingerprint(made) == body["metadata"]["annotations"][WRITTEN]:
            return made
    message = f"{resource.kind} {body['metadata']['name']} does not say what was written: {_why(made, options)}"
    raise Refused(message)


def _create(connection: Connection, resource: Resource, body: Object, manager: str) -> Object:
    """Make an object where none stands; a conflict where one does.

    Server-side apply would write into what somebody has made there since we looked. With a version it does not, and
    still makes what is not there; but for a Service, which API servers of old refuse then.
    """
    namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
    if resource.kind != "Service":
        try:
            return connection.apply(resource.path(namespace, name), _at(body, _NEVER), manager)
        except Refusal as refusal:
            if refusal.status != 409:
                raise
    # Whatever the conflict is about, this says whether something stands there.
    return connection.call("POST", resource.path(namespace), {"fieldManager": manager}, body, patiently=True)


def _applied(connection: Connection, path: str, before: Object, manager: str) -> Object:
    """The same object with what we made by `POST` as if we had applied it, or we would be in conflict with ourselves.

    https://kubernetes.io/docs/reference/using-api/server-side-apply/#upgrading-from-client-side-apply-to-server-side-apply
    """
    fields = before["metadata"].get("managedFields") or []
    mine = [each for each in fields if each.get("manager") == manager and not each.get("subresource")]
    if [each.get("operation") for each in mine] != ["Update"]:
        return before
    adopted = [{**each, "operation": "Apply"} if each in mine else each for each in fields]
    operations = [
        {"op": "replace", "path": "/metadata/managedFields", "value": adopted},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": before["metadata"]["resourceVersion"]},
    ]
    return connection.call("PATCH", path, None, operations, content_type=JSON_PATCH, patiently=True)


def _at(body: Object, version: str) -> Object:
    """The same, to be written only over this version."""
    return {**body, "metadata": {**body["metadata"], "resourceVersion": version}}


def _why(made: Object, options: ClusterOptions) -> str:
    """Who may have made an object say something else than what was applied."""
    others = sorted(
        {
            each.get("manager", "?")
            for each in made["metadata"].get("managedFields") or ()
            if each.get("manager") != options.field_manager
            and {"f:spec", "f:subsets", "f:data"} & set(each.get("fieldsV1") or ())
        }
    )
    if others:
        return (
            f"{', '.join(others)} added to it: take that out again, or set `force_conflicts: true` to have it"
            " taken out"
        )
    return "the API server left fields out: its definition (CRD) may be too old"

"""Writes one object by server-side apply, and sees that it stands as it was written."""

from __future__ import annotations

from typing import Any

from hamlet_istio.access import ClusterOptions
from hamlet_istio.connection import Connection
from hamlet_istio.marks import WRITTEN, annotations_of, fingerprint
from hamlet_istio.resources import Resource

Object = dict[str, Any]


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
    if before is not None:
        body = {**body, "metadata": {**body["metadata"], "resourceVersion": before["metadata"]["resourceVersion"]}}
    made = connection.apply(path, body, options.field_manager, force=options.force_conflicts)
    made.setdefault("kind", resource.kind)
    if fingerprint(made) == body["metadata"]["annotations"][WRITTEN]:
        return made
    if options.force_conflicts and resource.kind != "Service":
        query = {"fieldManager": options.field_manager}
        whole = {**body, "metadata": {**body["metadata"], "resourceVersion": made["metadata"]["resourceVersion"]}}
        made = connection.call("PUT", path, query, whole, patiently=True)
        made.setdefault("kind", resource.kind)
        if fingerprint(made) == body["metadata"]["annotations"][WRITTEN]:
            return made
    message = f"{resource.kind} {body['metadata']['name']} does not say what was written: {_why(made, options)}"
    raise Refused(message)


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

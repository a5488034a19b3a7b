"""What a refusal of the API server means for the change that met it. Pure."""

from __future__ import annotations

import re

from hamlet_core.api import Status
from hamlet_istio.connection import Refusal

_FOR_GOOD = frozenset({400, 413, 415, 422})


def outcome_of(refusal: Refusal) -> tuple[Status, str]:
    """Whether it is worth another try, and why it failed, with the mend where there is one."""
    said = str(refusal)
    managers = conflicting(refusal)
    if managers:
        fields = ", ".join(sorted({field for _, field in managers}))
        names = ", ".join(sorted({name for name, _ in managers}))
        reason = (
            f"{fields} of our object is managed by {names} now: leave it to us again (`kubectl apply` without it),"
            " or set `force_conflicts: true`"
        )
        return Status.REJECTED, reason
    if refusal.status in _FOR_GOOD:
        return Status.REJECTED, said
    if refusal.status == 404 and not refusal.details.get("name"):
        return Status.RETRY, f"{said}: the kind is not served; install its definition (CRD)"
    if refusal.status == 404 and refusal.details.get("kind") == "namespaces":
        return Status.RETRY, f"{said}: make the namespace (`kubectl create namespace {refusal.details['name']}`)"
    if refusal.status == 403 and "terminat" in said:
        return Status.RETRY, f"{said}: wait until the namespace is gone, and make it again"
    if refusal.status == 403:
        return Status.RETRY, f"{said}: `hamlet check` names the rule to add"
    return Status.RETRY, said


def conflicting(refusal: Refusal) -> list[tuple[str, str]]:
    """The other managers of a conflict of server-side apply, each with the field it holds."""
    causes = refusal.details.get("causes") or ()
    found = []
    for cause in causes:
        if cause.get("reason") == "FieldManagerConflict":
            name = re.search(r'conflict with "([^"]*)"', cause.get("message", ""))
            found.append((name[1] if name else cause.get("message", "another manager"), cause.get("field", "?")))
    return found

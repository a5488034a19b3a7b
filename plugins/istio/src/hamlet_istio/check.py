"""What `hamlet check` says of a cluster: reached, which APIs it serves, and each right that we need."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hamlet_core.api import Finding, HamletError, RegistryUnavailable, Severity
from hamlet_istio.connection import Connection, Refusal
from hamlet_istio.consumers import Consumers
from hamlet_istio.options import IstioOptions
from hamlet_istio.resources import CONFIG_MAPS, DISCOVERY, ISTIO_KINDS, NETWORKING, Apis, Discovery, Resource
from hamlet_istio.rights import Right, needed

Object = dict[str, Any]
_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
OLDEST = (1, 20)
"""The oldest Kubernetes that this was run on; server-side apply and bookmarks are as old."""


def findings(
    connection: Connection, discovery: Discovery, options: IstioOptions, consumers: Consumers, *, pods: bool
) -> Iterator[Finding]:
    """Look at one thing after the other; stop at the first that makes the rest pointless."""
    try:
        version = connection.call("GET", "/version")
        yield version_finding(connection.host, version)
        yield from _definitions(discovery, options)
        apis = _apis(discovery)
        places = {
            "read": options.namespaces or (None,),
            "imports": (options.import_namespace,),
            "consumers": sorted(consumers.named),
        }
        yield from _rights(connection, options, places, apis, pods=pods)
        yield from _namespace(connection, options.import_namespace, CONFIG_MAPS, {})
        if apis is not None and apis.networking:
            rules, spec = apis.written[0], {"spec": {"host": "check.hamlet.invalid"}}
            for name in sorted(consumers.named):
                yield from _namespace(connection, name, rules, spec)
            yield from _left_over(connection, consumers, rules)
    except HamletError as error:
        yield Finding(
            subject="API server", severity=Severity.ERROR, message=str(error), mend=getattr(error, "mend", "")
        )


def version_finding(host: str, version: dict[str, str]) -> Finding:
    """Whether a server is new enough, by what its `/version` says."""
    digits = tuple(int("".join(filter(str.isdigit, version.get(key, ""))) or 0) for key in ("major", "minor"))
    said = f"{host} answers: Kubernetes {version.get('gitVersion', '?')}"
    if digits < OLDEST:
        mend = f"{'.'.join(map(str, OLDEST))} or newer is needed"
        return Finding(subject="API server", severity=Severity.ERROR, message=f"{said} is too old", mend=mend)
    return Finding(subject="API server", severity=Severity.OK, message=said)


def _definitions(discovery: Discovery, options: IstioOptions) -> Iterator[Finding]:
    if not options.istio:
        return
    versions = discovery.versions(NETWORKING)
    kinds = discovery.served(f"{NETWORKING}/{versions[0]}") if versions else {}
    for kind in ISTIO_KINDS:
        subject = f"CRD {kind}.{NETWORKING}"
        if "create" in kinds.get(kind, ()):
            message = f"served in {', '.join(versions)}"
            yield Finding(subject=subject, severity=Severity.OK, message=message)
        else:
            mend = "install Istio's CRDs, or set `mode: kubernetes`"
            state = "it is being removed" if kind in kinds else "it is not served"
            yield Finding(subject=subject, severity=Severity.ERROR, message=state, mend=mend)


def _apis(discovery: Discovery) -> Apis | None:
    try:
        return discovery.apis(anew=True)
    except RegistryUnavailable:  # the findings on the definitions have said it
        return None


def _rights(
    connection: Connection,
    options: IstioOptions,
    places: Mapping[str, Sequence[str | None]],
    apis: Apis | None,
    *,
    pods: bool,
) -> Iterator[Finding]:
    rights = needed(
        istio=options.istio,
        pods=pods,
        events=options.events,
        force=options.force_conflicts,
        consumers=bool(places["consumers"]),
    )
    for right in rights:
        if right.optional and apis is not None and not _is_used(right, apis):
            continue
        for namespace in places[right.place]:
            for verb in right.verbs:
                yield right_finding(connection, right, verb, namespace)


def _is_used(right: Right, apis: Apis) -> bool:
    if right.resource == "workloadentries":
        return apis.workload_entries
    version = apis.write_endpoints if right.place == "imports" else apis.read_endpoints
    return (version == "v1") == (right.group == "") and right.group in ("", DISCOVERY)


def right_finding(
    connection: Connection, right: Right, verb: str, namespace: str | None, program: str = "hamlet_istio.rights"
) -> Finding:
    """Whether we hold a right, by asking the server; `program` prints the manifests that give it."""
    where = f"in {namespace}" if namespace else "in all namespaces"
    plural = f"{right.resource}.{right.group}" if right.group else right.resource
    subject = f"right {verb} {plural} {where}"
    attributes = {"group": right.group, "resource": right.resource, "verb": verb, "namespace": namespace or ""}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    try:
        status = connection.call("POST", _REVIEW, None, body)["status"]
    except Refusal as refusal:
        message = f"cannot be asked: {refusal}"
        return Finding(subject=subject, severity=Severity.WARNING, message=message, mend="allow it, or ignore this")
    if status.get("allowed"):
        return Finding(subject=subject, severity=Severity.OK, message=f"held: {right.why}")
    kind = f"Role in namespace {namespace}" if namespace else "ClusterRole"
    rule = json.dumps({**right.rule(), "verbs": [verb]})
    mend = f"add to the agent's {kind}: {rule} (`python -m {program}` prints all)"
    severity = Severity.WARNING if right.resource == "events" else Severity.ERROR
    return Finding(subject=subject, severity=severity, message=f"missing: {right.why}", mend=mend)


def _namespace(connection: Connection, name: str, resource: Resource, content: Object) -> Iterator[Finding]:
    """Whether a namespace takes new objects: asked of the server by a rehearsal, which writes nothing."""
    body = {"apiVersion": resource.version, "kind": resource.kind, "metadata": {"name": "hamlet-check"}, **content}
    try:
        connection.call("POST", resource.path(name), {"dryRun": "All"}, body)
    except Refusal as refusal:
        if refusal.status == 409:
            return
        mend = f"make it: `kubectl create namespace {name}`"
        if refusal.status == 403 and "terminat" not in str(refusal):
            return  # the findings on rights speak of it
        yield Finding(
            subject=f"namespace {name}", severity=Severity.ERROR, message=f"takes nothing new: {refusal}", mend=mend
        )
    else:
        yield Finding(subject=f"namespace {name}", severity=Severity.OK, message="it takes imports")


def _left_over(connection: Connection, consumers: Consumers, rules: Resource) -> Iterator[Finding]:
    """Whether what an earlier configuration left in other namespaces can still be taken out."""
    try:
        former = sorted(consumers.former)
    except Refusal as refusal:
        if refusal.status == 403:  # the findings on rights speak of it
            return
        raise
    right = Right(
        rules.group, rules.plural, ("get", "list", "delete"), "consumers", "rules of ours may stand there still"
    )
    for namespace in former:
        for verb in right.verbs:
            found = right_finding(connection, right, verb, namespace)
            if found.severity is not Severity.OK:
                yield replace(found, severity=Severity.WARNING)

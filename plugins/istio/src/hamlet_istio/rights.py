r"""The rights that the adapter needs, the one table from which the manifests and the check are made. Pure.

    python -m hamlet_istio.rights [--mode kubernetes] [--import-namespace NAME] [--namespaces A,B] \
        [--consumers A,B] [--service-account NAMESPACE:NAME]

prints the manifests of RBAC with the least rights for it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hamlet_istio.resources import DISCOVERY, NETWORKING

Object = dict[str, Any]
NAME = "hamlet"


@dataclass(frozen=True, slots=True)
class Right:
    """Verbs on one resource, in one of the places of a registry or of a gateway.

    Of a registry: where services are `read`, the import namespace, those of `tls.consumers`. Of a gateway: that of
    the ingress, where the published services are (`behind`), the cluster itself, those of `egress.consumers`.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    place: Literal["read", "imports", "consumers", "ingress", "behind", "cluster", "callers"]
    why: str
    optional: bool = False

    def rule(self) -> Object:
        """As a rule of a Role."""
        return {"apiGroups": [self.group], "resources": [self.resource], "verbs": list(self.verbs)}


FOLLOW = ("list", "watch")
KEEP = ("get", "list", "create", "patch", "delete")


def needed(
    *, istio: bool, pods: bool = True, events: bool = True, force: bool = False, consumers: bool = False
) -> tuple[Right, ...]:
    """Every right, by what is switched on."""
    found = [
        Right("", "services", FOLLOW, "read", "to read services"),
        Right("", "endpoints", FOLLOW, "read", "to read where they are served", optional=True),
        Right(DISCOVERY, "endpointslices", FOLLOW, "read", "to read where they are served", optional=True),
    ]
    if pods or istio:
        why = "to know the service accounts, which become SANs" + (
            ", and what ServiceEntries select" if istio else ""
        )
        verbs = (*(("get",) if pods else ()), "list", *(("watch",) if istio else ()))
        found.append(Right("", "pods", verbs, "read", why))
    if istio:
        found += [
            Right(
                NETWORKING, "serviceentries", FOLLOW, "read", "to read services of virtual machines, and taken hosts"
            ),
            Right(NETWORKING, "workloadentries", FOLLOW, "read", "to read virtual machines", optional=True),
        ]
        kept = [(NETWORKING, "serviceentries"), (NETWORKING, "destinationrules")]
    else:
        kept = [("", "services"), ("", "endpoints"), (DISCOVERY, "endpointslices")]
    verbs = (*KEEP, "update") if force else KEEP
    for group, resource in kept:
        either = resource in {"endpoints", "endpointslices"}
        found.append(Right(group, resource, verbs, "imports", "to keep what is imported", optional=either))
    if consumers:
        why = "to keep the rules of workloads with a secret"
        found.append(Right(NETWORKING, "destinationrules", verbs, "consumers", why))
    found.append(Right("", "configmaps", KEEP, "imports", "to note which peer is lost, and where rules are"))
    if events:
        found.append(Right("", "events", ("create",), "imports", "to write Events"))
    return tuple(found)


def manifests(
    *,
    istio: bool,
    import_namespace: str,
    namespaces: Sequence[str] | None,
    consumers: Sequence[str] = (),
    account: tuple[str, str],
) -> Iterator[Object]:
    """The objects that give a service account (namespace, name) exactly these rights."""
    rights = needed(istio=istio, pods=istio, consumers=True)
    subject = [{"kind": "ServiceAccount", "namespace": account[0], "name": account[1]}]
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": account[0], "name": account[1]}}
    reading = [right.rule() for right in rights if right.place == "read"]
    if namespaces is None:
        yield from bound("Cluster", f"{NAME}-read", None, reading, subject)
    for namespace in namespaces or ():
        yield from bound("", f"{NAME}-read", namespace, reading, subject)
    # What the role of the whole cluster grants needs no second grant in one namespace of it.
    everywhere = {
        (right.group, right.resource, verb)
        for right in rights
        for verb in right.verbs
        if namespaces is None and right.place == "read"
    }
    keeping = [
        {**right.rule(), "verbs": [v for v in right.verbs if (right.group, right.resource, v) not in everywhere]}
        for right in rights
        if right.place == "imports"
    ]
    yield from bound("", f"{NAME}-imports", import_namespace, keeping, subject)
    for namespace in consumers:
        rules = [right.rule() for right in rights if right.place == "consumers"]
        yield from bound("", f"{NAME}-consumers", namespace, rules, subject)


def bound(
    prefix: str, name: str, namespace: str | None, rules: list[Object], subject: list[Object]
) -> Iterator[Object]:
    """A role of `prefix` (`Cluster`, or none) with these rules, and its binding."""
    api = "rbac.authorization.k8s.io"
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    yield {"apiVersion": f"{api}/v1", "kind": f"{prefix}Role", "metadata": metadata, "rules": rules}
    yield {
        "apiVersion": f"{api}/v1",
        "kind": f"{prefix}RoleBinding",
        "metadata": metadata,
        "subjects": subject,
        "roleRef": {"apiGroup": api, "kind": f"{prefix}Role", "name": name},
    }


def to_yaml(objects: Sequence[Object]) -> str:
    """The objects as the documents of a YAML file: keys plain, values as JSON."""
    return "---\n".join("".join(_lines(each)) for each in objects)


def _lines(thing: Object) -> Iterator[str]:
    for key, value in thing.items():
        if isinstance(value, list):
            yield f"{key}:\n"
            yield from (f"  - {_flow(each)}\n" for each in value)
        else:
            yield f"{key}: {_flow(value)}\n"


def _flow(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def main(arguments: Sequence[str]) -> int:
    """Print the manifests."""
    parser = argparse.ArgumentParser(prog="python -m hamlet_istio.rights", description="Print manifests of RBAC.")
    parser.add_argument("--mode", choices=("istio", "kubernetes"), default="istio")
    parser.add_argument("--import-namespace", default="hamlet-imports")
    parser.add_argument("--namespaces", help="namespaces to read, with commas between them; default all")
    parser.add_argument("--consumers", help="namespaces of `tls.consumers`, with commas between them; default none")
    parser.add_argument("--service-account", default="hamlet:hamlet", help="NAMESPACE:NAME of the agent")
    given = parser.parse_args(arguments)
    namespace, _, name = given.service_account.partition(":")
    found = manifests(
        istio=given.mode == "istio",
        import_namespace=given.import_namespace,
        namespaces=given.namespaces.split(",") if given.namespaces else None,
        consumers=given.consumers.split(",") if given.consumers else (),
        account=(namespace, name or namespace),
    )
    sys.stdout.write(to_yaml(list(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

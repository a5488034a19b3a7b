r"""The rights that the gateway needs, the one table from which the manifest and the check are made. Pure.

    python -m hamlet_istio.gateway_rights [--namespace NAME] [--consumers A,B] [--node-port] [--no-ingress] \
        [--service-account NAMESPACE:NAME]

prints the manifests of RBAC with the least rights for it. They are beside those of the registry.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from hamlet_istio.gateway_options import IngressOptions, IstioGatewayOptions
from hamlet_istio.resources import NETWORKING, SECURITY
from hamlet_istio.rights import FOLLOW, KEEP, Right, bound, to_yaml

Object = dict[str, Any]
NAME = "hamlet-gateway"
_OF_A_ROUTE = ((NETWORKING, "gateways"), (NETWORKING, "virtualservices"), (SECURITY, "authorizationpolicies"))


def needed(
    *, ingress: bool, follow: bool = True, nodes: bool = False, secrets_out: bool = False, force: bool = False
) -> tuple[Right, ...]:
    """Every right, by what is switched on; `follow`: the Service is, as no address is configured."""
    found: list[Right] = []
    verbs = (*KEEP, "update") if force else KEEP
    if ingress:
        if follow:
            found.append(Right("", "services", FOLLOW, "ingress", "to know how other meshes reach the ingress"))
        why = "to lead what is published to its service"
        found += [Right(group, resource, verbs, "ingress", why) for group, resource in _OF_A_ROUTE]
        found.append(
            Right("", "secrets", verbs, "ingress", "to give the ingress our certificate and the peers' bundles")
        )
        found += [
            Right("", "services", ("get",), "behind", "to find the published services"),
            Right(NETWORKING, "serviceentries", ("get",), "behind", "to find published virtual machines"),
        ]
        if nodes:
            found.append(Right("", "nodes", FOLLOW, "cluster", "to know the addresses of the nodes"))
    if secrets_out:
        why = "to give sidecars our certificate and the peer's bundle"
        found.append(Right("", "secrets", verbs, "callers", why))
    return tuple(found)


def needed_by(options: IstioGatewayOptions) -> tuple[Right, ...]:
    """Every right that these options need."""
    ingress, egress = options.ingress, options.egress
    return needed(
        ingress=ingress is not None,
        follow=ingress is not None and not ingress.advertise,
        nodes=ingress is not None and not ingress.advertise and ingress.address == "node_port",
        secrets_out=egress is not None and egress.mode == "MUTUAL" and egress.write_secrets,
        force=options.force_conflicts,
    )


def manifests(
    *, ingress: bool, namespace: str, nodes: bool, consumers: Sequence[str], account: tuple[str, str]
) -> Iterator[Object]:
    """The objects that give a service account (namespace, name) exactly these rights."""
    rights = needed(ingress=ingress, nodes=nodes, secrets_out=bool(consumers))
    subject = [{"kind": "ServiceAccount", "namespace": account[0], "name": account[1]}]
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": account[0], "name": account[1]}}
    everywhere = [right.rule() for right in rights if right.place in ("behind", "cluster")]
    if everywhere:
        yield from bound("Cluster", NAME, None, everywhere, subject)
    within = [right.rule() for right in rights if right.place == "ingress"]
    if within:
        yield from bound("", NAME, namespace, within, subject)
    for each in consumers:
        rules = [right.rule() for right in rights if right.place == "callers"]
        yield from bound("", f"{NAME}-callers", each, rules, subject)


def main(arguments: Sequence[str]) -> int:
    """Print the manifests."""
    parser = argparse.ArgumentParser(
        prog="python -m hamlet_istio.gateway_rights", description="Print manifests of RBAC for the gateway."
    )
    usual = IngressOptions().namespace
    parser.add_argument("--namespace", default=usual, help="`ingress.namespace`")
    parser.add_argument(
        "--consumers", help="namespaces of `egress.consumers`, with commas between them; default none"
    )
    parser.add_argument("--node-port", action="store_true", help="for `ingress.address: node_port`")
    parser.add_argument("--no-ingress", action="store_true", help="for a gateway without `ingress`")
    parser.add_argument("--service-account", default="hamlet:hamlet", help="NAMESPACE:NAME of the agent")
    given = parser.parse_args(arguments)
    namespace, _, name = given.service_account.partition(":")
    found = manifests(
        ingress=not given.no_ingress,
        namespace=given.namespace,
        nodes=given.node_port,
        consumers=given.consumers.split(",") if given.consumers else (),
        account=(namespace, name or namespace),
    )
    sys.stdout.write(to_yaml(list(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Whether what is missing from an answer is gone, or only no longer shown to our token.

Consul leaves out what a token may not read and answers 200 all the same; without a valid token
`catalog/services` is `{}`. So the catalog is believed only while `consul` itself, which is always in it, is
seen; a service is believed gone only once Consul has said that we may read it, and that there is none at all only
once it has said that we may read them all.
"""

from __future__ import annotations

from collections.abc import Iterable

from hamlet_consul.client import Client
from hamlet_consul.errors import ConsulDenied

ASKED_AT_ONCE = 256
"""Rights asked about in one call."""
MEND = 'give the token node_prefix "" and service_prefix "" (read)'


def require_sight(client: Client) -> frozenset[str]:
    """Raise `ConsulDenied` unless Consul's own service and its nodes are seen; return the IDs of its servers.

    A server has its ID from its data folder: one that lost its data has another.
    """
    servers = client.service("consul").data
    if not servers:
        message = "Consul shows no `consul` service: the token does not see the catalog, or Consul is still starting"
        raise ConsulDenied(message, mend=MEND)
    return frozenset(server["Node"].get("ID") or "" for server in servers)


def require_full_sight(client: Client, what: str) -> None:
    """Raise `ConsulDenied` if the token may not read every node and every service, so that `what` cannot be told."""
    if client.denied([("node", "", "read"), ("service", "", "read")]):
        message = f"the token does not see all nodes and services, so it cannot be told what is {what}"
        raise ConsulDenied(message, mend=MEND)


def confirm_gone(client: Client, services: Iterable[str], nodes: Iterable[str]) -> bool:
    """Raise `ConsulDenied` if the token may no longer read one of these; False where ACL are off."""
    wanted = [("service", name, "read") for name in sorted(services)]
    wanted += [("node", name, "read") for name in sorted(nodes)]
    for start in range(0, len(wanted), ASKED_AT_ONCE):
        denied = client.denied(wanted[start : start + ASKED_AT_ONCE])
        if denied is None:
            return False
        if denied:
            kind, name, _ = denied[0]
            message = f"the token may no longer read the {kind} {name!r}: it is not taken for gone"
            raise ConsulDenied(message, mend=MEND)
    return True

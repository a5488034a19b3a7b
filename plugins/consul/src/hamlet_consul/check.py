"""What `hamlet check` says of a Consul: reached, led, of a version we know, and each right that we need."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from hamlet_consul.client import Client
from hamlet_consul.errors import ConsulDenied
from hamlet_consul.naming import node_name
from hamlet_consul.options import ConsulOptions
from hamlet_core.api import AdapterContext, Finding, HamletError, Severity

LEAST_VERSION = (1, 8)


def policy(context: AdapterContext) -> str:
    """The least ACL policy that everything works with."""
    return f"""\
# Read the catalog; find and keep what was imported.
node_prefix "" {{ policy = "read" }}
node_prefix "{node_name(context.mesh, "")}" {{ policy = "write" }}
# Read the services that are published; write imported ones, which may have any name.
service_prefix "" {{ policy = "write" intentions = "deny" }}
"""


def findings(client: Client, options: ConsulOptions, context: AdapterContext) -> Iterator[Finding]:
    """Look at one thing after the other; stop at the first that makes the rest pointless."""
    try:
        leader = client.status.leader()
        yield Finding(subject="agent", severity=Severity.OK, message=f"{options.address} answers")
        if not leader:
            yield Finding(
                subject="leader",
                severity=Severity.ERROR,
                message="the datacenter has no leader",
                mend="look at the servers: `consul operator raft list-peers`",
            )
            return
        yield Finding(subject="leader", severity=Severity.OK, message=f"{leader} leads")
        yield from _rights(client, context)
        yield version(client)
    except HamletError as error:
        yield failed(error)


def failed(error: HamletError) -> Finding:
    """What ended the check."""
    subject = "token" if isinstance(error, ConsulDenied) else "agent"
    return Finding(subject=subject, severity=Severity.ERROR, message=str(error), mend=error.mend)


def _rights(client: Client, context: AdapterContext) -> Iterator[Finding]:
    node = node_name(context.mesh, "")
    wanted = {
        ("node", "", "read"): "to read nodes and their checks",
        ("service", "", "read"): "to read services",
        ("node", f"{node}a-peer", "write"): f"to keep the nodes {node}<peer> of what is imported",
        ("service", "", "write"): "to write imported services",
    }
    yield from rights(
        client,
        {
            right: (f"right {right[0]}:{right[2]} {right[1].removesuffix('a-peer')!r}", what)
            for right, what in wanted.items()
        },
        policy(context),
    )


def rights(client: Client, wanted: Mapping[tuple[str, str, str], tuple[str, str]], rules: str) -> Iterator[Finding]:
    """Which rights (kind, name, access) the token has; each with how it is called and what it is for.

    `rules` is the policy that gives all of them.
    """
    denied = client.denied(list(wanted))
    if denied is None:
        message = "ACL are off: everybody who reaches the agent may do everything"
        yield Finding(subject="rights", severity=Severity.WARNING, message=message, mend="switch ACL on in Consul")
        return
    for right, (subject, what) in wanted.items():
        if right in denied:
            mend = f"give the token this policy (`consul acl policy create -rules -`):\n{rules}"
            yield Finding(subject=subject, severity=Severity.ERROR, message=f"missing: {what}", mend=mend)
        else:
            yield Finding(subject=subject, severity=Severity.OK, message=f"held: {what}")


def version(client: Client) -> Finding:
    """Whether the servers are of a version that we know."""
    servers = client.service("consul").data or ()
    versions = sorted({(server["Service"].get("Meta") or {}).get("version", "") for server in servers} - {""})
    if not versions:
        message = "the servers do not say their version"
        return Finding(subject="version", severity=Severity.WARNING, message=message, mend="1.8 or newer is needed")
    oldest = min(tuple(int(part) for part in re.findall(r"\d+", version)[:2]) for version in versions)
    if oldest < LEAST_VERSION:
        message = f"Consul {', '.join(versions)} is too old"
        return Finding(subject="version", severity=Severity.ERROR, message=message, mend="1.8 or newer is needed")
    return Finding(subject="version", severity=Severity.OK, message=f"Consul {', '.join(versions)}")

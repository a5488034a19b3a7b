"""What `hamlet check` says of the gateway: Consul, the rights of the token, the terminating gateway, the folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hamlet_consul.check import failed, rights, version
from hamlet_consul.client import Client
from hamlet_consul.gateway_options import ConsulGatewayOptions
from hamlet_consul.versions import unchecked
from hamlet_core.api import AdapterContext, Finding, HamletError, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the gateway knows of itself.

    `faults` are the services whose protocol Consul did not take, with the reason; `waiting` are the FQDNs of imports
    that are linked once their entries stand.
    """

    options: ConsulGatewayOptions
    context: AdapterContext
    directory: Path
    faults: Mapping[str, str]
    waiting: tuple[str, ...] = ()


def gateway_policy(*, protocols: bool) -> str:
    """The least ACL policy with which the gateway works."""
    services = 'policy = "write" intentions = "deny"' if protocols else 'policy = "read"'
    what = "; write their `service-defaults`" if protocols else ""
    return f"""\
# See under which names imports stand, and which names are taken{what}.
node_prefix "" {{ policy = "read" }}
service_prefix "" {{ {services} }}
# Write the terminating gateway's config entry: Consul has no narrower right for it.
operator = "write"
"""


def findings(client: Client, seen: Seen) -> Iterator[Finding]:
    """Look at one thing after the other; stop at the first that makes the rest pointless."""
    yield _folder(seen.directory)
    try:
        leader = client.status.leader()
        yield Finding(subject="agent", severity=Severity.OK, message=f"{seen.options.address} answers")
        if not leader:
            mend = "look at the servers: `consul operator raft list-peers`"
            yield Finding(
                subject="leader", severity=Severity.ERROR, message="the datacenter has no leader", mend=mend
            )
            return
        yield from _rights(client, protocols=seen.options.protocols)
        yield version(client)
        yield from _names(client, seen.options)
        yield from _gateway(client, seen.options.gateway)
    except HamletError as error:
        yield failed(error)
        return
    for name, fault in seen.faults.items():
        yield Finding(
            subject=f"service-defaults/{name}",
            severity=Severity.WARNING,
            message=f"Consul does not take its protocol, so it is called as plain bytes: {fault}",
            mend="look which other config entries name that service",
        )
    if seen.waiting:
        yield Finding(
            subject="links",
            severity=Severity.WARNING,
            message=f"not linked yet, since their entries do not stand: {', '.join(seen.waiting[:5])}",
            mend="see `hamlet status` for what keeps them from the registry",
        )


def _folder(directory: Path) -> Finding:
    nearest = next(each for each in (directory, *directory.parents) if each.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return Finding(subject="directory", severity=Severity.OK, message=f"{directory} can be written")
    return Finding(
        subject="directory",
        severity=Severity.ERROR,
        message=f"{nearest} cannot be written by this user",
        mend="change its owner, or set `directory` to another folder",
    )


def _rights(client: Client, *, protocols: bool) -> Iterator[Finding]:
    wanted = {
        ("node", "", "read"): "to find what was imported",
        ("service", "", "read"): "to find what was imported, and to leave the names of others alone",
        ("operator", "", "write"): "to write the terminating gateway's config entry",
        **({("service", "", "write"): "to write the protocols of imports"} if protocols else {}),
    }
    named = {right: (f"right {right[0]}:{right[2]}", what) for right, what in wanted.items()}
    yield from rights(client, named, gateway_policy(protocols=protocols))


def unchecked_by(client: Client, options: ConsulGatewayOptions) -> str:
    """Which agents of Consul may have no name checked, in words; empty when all do, or the operator says so."""
    return unchecked(client.builds()) if options.names == "by-version" else ""


def _names(client: Client, options: ConsulGatewayOptions) -> Iterator[Finding]:
    agents = unchecked_by(client, options)
    if agents:
        yield Finding(
            subject="names",
            severity=Severity.ERROR,
            message=f"{agents} may have no owner's name checked, so every import is refused",
            mend="update Consul to 1.13 or newer, set `names: checked` where it has that mended, or use hamlet-envoy",
        )


def _gateway(client: Client, name: str) -> Iterator[Finding]:
    if not client.ca_trust_domain():
        yield Finding(
            subject="connect",
            severity=Severity.ERROR,
            message="Connect is off, so there are no sidecars and no terminating gateway",
            mend="set `connect { enabled = true }` on the servers, or lead calls out by hamlet-envoy",
        )
        return
    proxies = [
        each
        for each in client.service(name).data or ()
        if each["Service"].get("Kind") == "terminating-gateway"
        and all(check["Status"] == "passing" for check in each["Checks"])
    ]
    if proxies:
        message = f"{len(proxies)} instances of the terminating gateway {name!r} are well"
        yield Finding(subject="gateway", severity=Severity.OK, message=message)
        return
    yield Finding(
        subject="gateway",
        severity=Severity.WARNING,
        message=f"no instance of the terminating gateway {name!r} is there and well, so no call gets out",
        mend=f"run one: consul connect envoy -gateway=terminating -register -service {name}",
    )

"""What `hamlet check` says of the agent's own state: the document of `hamlet status` in, findings out.

Whatever makes status look unwell is told here with what to do about it; no part is asked anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hamlet_core.api import Finding, Severity

BY_ITSELF = "mend what it says; it is asked again by itself"
SHOWN = 3
"""So many services are named in one finding; there may be thousands."""


def state_findings(status: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge registries, gateways, the services of peers and what is not published; what is well is not mentioned."""
    yield from rotated_findings(status["rotated"])
    for registry in status["registries"]:
        yield from _registry(registry)
    for role in ("gateway", "egress"):
        if status[role]:
            yield from _gateway(role, status[role])
    for peer in status["peers"]:
        yield from _peer(peer)
    for peer in status["left"]:
        yield Finding(
            subject=f"peer {peer}",
            severity=Severity.WARNING,
            message="it was left, and is still in the configuration: the next start or reload imports from it again",
            mend=f"remove peers.{peer} from the configuration, or reload it to have the peer back",
        )
    unpublished = {f"{each['service']} ({each['registry']})": each["reason"] for each in status["unpublished"]}
    if unpublished:
        yield Finding(
            subject="publish",
            severity=Severity.WARNING,
            message=f"not published: {_named(unpublished)}",
            mend="mend what the reason names; `hamlet status` lists them all",
        )


def rotated_findings(keys: Iterable[str]) -> Iterator[Finding]:
    """One for each key whose reference gives another value than the one in use."""
    for key in keys:
        yield Finding(
            subject="configuration",
            severity=Severity.WARNING,
            message=f"{key} is another now than the one in use",
            mend="restart the agent to take it: it loses and deletes nothing",
        )


def _registry(registry: Mapping[str, Any]) -> Iterator[Finding]:
    subject = f"registry {registry['name']!r} ({registry['kind']})"
    read, write = registry["publishing"], registry["importing"]
    for way, what in ((read, "its services cannot be read"), (write, "it takes no imports")):
        if way["error"]:
            yield Finding(
                subject=subject,
                severity=Severity.ERROR,
                message=f"{what}: {way['error'].removeprefix(f'{subject}: ')}",
                mend=way["mend"] or BY_ITSELF,
            )
    if read["state"] == "connecting":
        yield Finding(
            subject=subject,
            severity=Severity.WARNING,
            message="it has not reported its services yet: nothing is published before",
            mend="wait; if it stays so, see whether the registry answers",
        )


def _gateway(role: str, gateway: Mapping[str, Any]) -> Iterator[Finding]:
    subject = f"{role} ({gateway['kind']})"
    if gateway["state"] == "waiting":
        yield Finding(
            subject=subject,
            severity=Severity.ERROR,
            message=f"it takes nothing new: {gateway['error']}",
            mend=BY_ITSELF,
        )
    elif gateway["state"] == "connecting":
        yield Finding(
            subject=subject,
            severity=Severity.WARNING,
            message="it has not said yet how it is reached",
            mend="wait; if it stays so, look at the gateway's own log",
        )


def _peer(peer: Mapping[str, Any]) -> Iterator[Finding]:
    subject = f"peer {peer['name']}"
    held = {name: each["reason"] for name, each in peer["imports"]["held"].items()}
    if held:
        yield Finding(
            subject=subject,
            severity=Severity.WARNING,
            message=f"removals held: {_named(held)}",
            mend=f"if they are meant, `hamlet confirm {peer['name']}` lets them pass",
        )
    late = {name: each["reason"] for name, each in peer["imports"]["retried"].items()}
    if late:
        yield Finding(
            subject=subject,
            severity=Severity.ERROR,
            message=f"changes of it that are tried in vain: {_named(late)}",
            mend="mend what the reason names, a right to write for example; they are tried again by themselves",
        )
    if peer["imports"]["rejected"]:
        yield Finding(
            subject=subject,
            severity=Severity.WARNING,
            message=f"services of it that we refuse: {_named(peer['imports']['rejected'])}",
            mend=f"change peers.{peer['name']} if they are welcome; else its operator may publish them otherwise",
        )
    if peer["exports"]["rejected"]:
        yield Finding(
            subject=subject,
            severity=Severity.WARNING,
            message=f"services of ours that it refuses: {_named(peer['exports']['rejected'])}",
            mend="mend what the reason names, or ask the peer's operator",
        )


def _named(reasons: Mapping[str, str]) -> str:
    """How many there are, and the first of them, each with its reason."""
    names = sorted(reasons)
    shown = "; ".join(f"{name}: {reasons[name]}" for name in names[:SHOWN])
    return f"{len(names)}: {shown}" + (f"; and {len(names) - SHOWN} more" if len(names) > SHOWN else "")

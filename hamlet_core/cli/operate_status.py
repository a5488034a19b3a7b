"""What a person sees of `hamlet status`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from hamlet_core.cli.output import styled, table
from hamlet_core.cli.states import ago, kept, state
from hamlet_core.words import counted

SHOWN = 10
"""So many names of services are written out in one line."""


def stands_by(document: dict[str, Any]) -> bool:
    """Whether the coordinator does not let this agent lead."""
    return document["coordinator"] is not None and not document["coordinator"]["leading"]


def expired(document: dict[str, Any]) -> bool:
    """Whether our certificate has ended."""
    return datetime.fromisoformat(document["identity_expires"]) <= datetime.now(UTC)


def show_status(console: Console, document: dict[str, Any]) -> None:
    """Print it: the agent, then tables, then a line for each thing that is not as it should be."""
    title = Text.assemble(("mesh ", ""), (document["mesh"], "bold"), f"  {document['trust_domain']}")
    console.print(title, Text(f"listening on {document['listen']}, up {ago(document['started'])}"), sep="  ")
    for line in _of_agent(document):
        console.print(line)
    if stands_by(document):
        return
    console.print()
    _show_registries(console, document["registries"])
    if document["gateway"] or document["egress"]:
        _show_gateways(console, document["gateway"], document["egress"])
    console.print()
    if document["peers"]:
        _show_peers(console, document["peers"])
    elif not document["left"]:
        console.print("no peers yet: add them under `peers` in the configuration")
    for remark in _remarks(document):
        console.print(styled(remark, "yellow"))


def _of_agent(document: dict[str, Any]) -> Iterator[Text]:
    if document["reload_refused"]:
        refusal = f"the running agent has not taken over this configuration: {document['reload_refused']}"
        yield styled(refusal, "yellow")
    for key in document["rotated"]:
        yield styled(f"{key} is another now than the one in use: restart the agent to take it", "yellow")
    if expired(document):
        yield styled(f"our certificate expired {ago(document['identity_expires'])} ago: peers refuse us", "red")
    for file in document["unusable"]:
        whose = f"the {file['what']} of {file['peer']}" if file["peer"] else f"our {file['what']}"
        stays = ", the last good one is in force" if file["in_force"] else ""
        yield styled(f"{whose} is not usable{stays}: `hamlet check` says why", "yellow")
    if stands_by(document):
        yield styled(document["not_ready"], "yellow" if document["coordinator"]["error"] else "cyan")
    elif not document["ready"]:
        yield styled(f"not ready: {document['not_ready']}", "yellow")


def _show_registries(console: Console, registries: list[dict[str, Any]]) -> None:
    rows = [
        (r["name"], r["kind"], state(r["publishing"]["state"]), state(r["importing"]["state"]),
         r["publishing"]["error"] or r["importing"]["error"])
        for r in registries
    ]  # fmt: skip
    console.print(table("registry", "kind", "read", "write", "error", rows=rows))
    for each in registries:
        errors = each["check"]["errors"]
        # Of one that cannot be read or written the table has the reason.
        if errors and not each["publishing"]["error"] and not each["importing"]["error"]:
            found = f"{counted(errors, 'error')}, the first: {each['check']['first']}"
            console.print(styled(f"registry {each['name']} has {found}; see `hamlet check`", "yellow"))


def _remarks(document: dict[str, Any]) -> Iterator[str]:
    for peer in document["left"]:
        again = "or it is imported again after the next start or reload"
        yield f"{peer} was left; remove peers.{peer} from the configuration, {again}"
    for problem in document["unpublished"]:
        yield f"not published: {problem['service']} ({problem['registry']}): {problem['reason']}"
    for orphan in document["orphans"]:
        yield f"orphan: {orphan['service']} of {orphan['peer']}; `hamlet leave {orphan['peer']}` removes it"
    if document["refused_callers"]:
        refused = counted(document["refused_callers"], "caller")
        yield f"{refused} refused, the last {ago(document['last_refusal_at'])} ago: {document['last_refusal']}"


def _show_peers(console: Console, peers: list[dict[str, Any]]) -> None:
    rows = [row for peer in peers for row in _peer_rows(peer)]
    columns = ("peer", "direction", "state", "since", "offered", "in registry", "lag", "refused", "last error")
    console.print(table(*columns, rows=rows))
    for peer in peers:
        _show_details(console, peer)


def _peer_rows(peer: dict[str, Any]) -> Iterable[tuple[object, ...]]:
    imports, exports = peer["imports"], peer["exports"]
    down = imports["state"] in ("connecting", "stale", "rejected")
    error = (peer["last_error"] or peer["not_linked"]) if down else ""
    yield (peer["name"], "imports", state(imports["state"]), ago(imports["since"]), imports["offered"],
           imports["standing"], imports["pending"], len(imports["rejected"]) or "", error)  # fmt: skip
    yield ("", "exports", state(exports["state"]), ago(exports["since"]), exports["offered"], "", exports["lag"],
           len(exports["rejected"]) or "", "")  # fmt: skip


def _show_details(console: Console, peer: dict[str, Any]) -> None:
    imports = peer["imports"]
    if imports["lost_since"] and imports["standing"]:
        back = imports["state"] in ("syncing", "live", "held")
        long = "kept until it has told them all" if back else kept(imports["kept_until"])
        lost = f"{peer['name']}: lost {ago(imports['lost_since'])} ago; its services are {long}"
        console.print(styled(lost, "yellow"))
    for name, reason in imports["rejected"].items():
        console.print(styled(f"{peer['name']}: refused {name}: {reason}", "yellow"))
    _show_waiting(console, f"{peer['name']}: removals held", imports["held"])
    _show_waiting(console, f"{peer['name']}: changes not made", imports["retried"])
    for fqdn, alias in imports["aliases"].items():
        console.print(f"{peer['name']}: {fqdn} is known here as {alias}: another peer has that name")
    for name, reason in peer["exports"]["rejected"].items():
        console.print(styled(f"{peer['name']} refuses {name}: {reason}", "yellow"))


def _show_waiting(console: Console, what: str, waiting: dict[str, dict[str, str]]) -> None:
    """What waits for one reason is one line: there may be thousands."""
    for reason in dict.fromkeys(each["reason"] for each in waiting.values()):
        names = sorted(name for name, each in waiting.items() if each["reason"] == reason)
        shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        since = ago(min(each["since"] for each in waiting.values() if each["reason"] == reason))
        console.print(styled(f"{what} for {since}: {shown}: {reason}", "yellow"))


def _show_gateways(console: Console, gateway: dict[str, Any] | None, egress: dict[str, Any] | None) -> None:
    console.print()
    rows: list[tuple[object, ...]] = []
    if gateway:
        rows.append((
            gateway["kind"], state(gateway["state"]), ", ".join(gateway["endpoints"]) or "-",
            gateway["published"], "-" if egress else gateway["imported"], gateway["error"],
        ))  # fmt: skip
    if egress:
        rows.append((egress["kind"], state(egress["state"]), "-", "-", egress["imported"], egress["error"]))
    console.print(table("gateway", "state", "ingress", "routes in", "routes out", "error", rows=rows))
    for sni, reason in (gateway["refused"] if gateway else {}).items():
        console.print(styled(f"refused by the gateway: {sni}: {reason}", "yellow"))

"""The commands of daily life: run the agent, and ask the running one. They talk to it and decide nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.console import Console
from rich.text import Text

from hamlet_core.agent.admin import AgentUnreachable, call
from hamlet_core.api import ConfigError
from hamlet_core.cli.exits import Exit
from hamlet_core.cli.output import ask_first, emit, json_option, styled, table
from hamlet_core.cli.settings import Settings, pass_settings
from hamlet_core.config.model import Admin

if TYPE_CHECKING:
    from hamlet_core.config.load import Loaded

STYLES = {
    "live": "green", "ok": "green", "syncing": "cyan", "connecting": "yellow", "stale": "yellow", "held": "yellow",
    "silent": "red", "waiting": "yellow", "rejected": "red", "warning": "yellow", "error": "red", "publish": "green",
    "change": "cyan", "withdraw": "yellow", "write": "green", "delete": "yellow", "retained": "yellow",
}  # fmt: skip
"""The colour of each state."""

DEFAULT_SOCKET: Path = Admin.model_fields["socket"].default
SHOWN = 10
"""So many names of services are written out in one line."""

SECTIONS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def ask(settings: Settings, method: str, **request: Any) -> dict[str, Any]:
    """Ask the agent of this configuration."""
    return call(_socket(settings), method, request)


def _socket(settings: Settings) -> Path:
    """The agent's admin socket. One that stands at its default place is asked even if the file is wrong by now."""
    try:
        return settings.read().config.admin.socket
    except ConfigError as error:
        standing = settings.config_file().absolute().parent / DEFAULT_SOCKET
        if not standing.exists():
            raise
        click.secho(f"the running agent has not taken over this configuration: {error}", fg="yellow", err=True)
        return standing


def ago(moment: str | None) -> str:
    """How long ago a time was, in its two largest units: `3h 12m`."""
    if moment is None:
        return ""
    rest = max(0, int((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()))
    parts: list[str] = []
    for unit, seconds in SECTIONS:
        amount, rest = divmod(rest, seconds)
        if amount or (unit == "s" and not parts):
            parts.append(f"{amount}{unit}")
    return " ".join(parts[:2])


def state(word: str) -> Text:
    """A state in its colour."""
    return styled(word, STYLES.get(word, ""))


@click.command()
@click.option("--watch", is_flag=True, help="Take over the configuration whenever its file changes.")
@pass_settings
def run(settings: Settings, watch: bool) -> None:
    """Run the agent in the foreground.

    SIGTERM and Ctrl-C stop it: peers keep what they have of us, we keep what we have of them. SIGHUP makes it
    read its configuration again; streams that the change does not concern stay up.
    """
    from hamlet_core.agent.run import run as run_agent

    run_agent(settings.config_file(), watch=watch)


@click.command()
@json_option
@pass_settings
def status(settings: Settings, as_json: bool) -> None:
    """How the agent, its registries and its peers are.

    Per peer and direction: connecting, syncing, live, stale (lost; what it published is kept), held (removals
    wait for `hamlet confirm`), rejected (the peer does not know us). Exits with 1 unless all of them are live or
    syncing, every registry can be read and takes every change, the gateway takes routes, our certificate is valid,
    and there are no orphans. An agent that stands by because another one of its mesh leads is well too.
    """
    document = ask(settings, "status")
    emit(document, lambda console: _show_status(console, document), as_json=as_json)
    if _stands_by(document):
        if document["coordinator"]["error"] or _expired(document):
            click.get_current_context().exit(Exit.FINDINGS)
        return
    states = {peer[way]["state"] for peer in document["peers"] for way in ("imports", "exports")}
    ours = {each[way]["state"] for each in document["registries"] for way in ("publishing", "importing")}
    ours |= {document[each]["state"] for each in ("gateway", "egress") if document[each]}
    well = document["ready"] and not document["orphans"] and ours == {"live"} and not _expired(document)
    well = well and not any(peer["imports"]["retried"] for peer in document["peers"])
    if not well or states - {"live", "syncing"}:
        click.get_current_context().exit(Exit.FINDINGS)


def _stands_by(document: dict[str, Any]) -> bool:
    """Whether the coordinator does not let this agent lead."""
    return document["coordinator"] is not None and not document["coordinator"]["leading"]


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


def _expired(document: dict[str, Any]) -> bool:
    return datetime.fromisoformat(document["identity_expires"]) <= datetime.now(UTC)


def _show_status(console: Console, document: dict[str, Any]) -> None:
    title = Text.assemble(("mesh ", ""), (document["mesh"], "bold"), f"  {document['trust_domain']}")
    console.print(title, Text(f"listening on {document['listen']}, up {ago(document['started'])}"), sep="  ")
    if document["reload_refused"]:
        refusal = f"the running agent has not taken over this configuration: {document['reload_refused']}"
        console.print(styled(refusal, "yellow"))
    for key in document["rotated"]:
        console.print(styled(f"{key} is another now than the one in use: restart the agent to take it", "yellow"))
    if _expired(document):
        console.print(
            styled(f"our certificate expired {ago(document['identity_expires'])} ago: peers refuse us", "red")
        )
    if _stands_by(document):
        console.print(styled(document["not_ready"], "yellow" if document["coordinator"]["error"] else "cyan"))
        return
    if not document["ready"]:
        console.print(styled(f"not ready: {document['not_ready']}", "yellow"))
    console.print()
    registries = [
        (r["name"], r["kind"], state(r["publishing"]["state"]), state(r["importing"]["state"]),
         r["publishing"]["error"] or r["importing"]["error"])
        for r in document["registries"]
    ]  # fmt: skip
    console.print(table("registry", "kind", "read", "write", "error", rows=registries))
    if document["gateway"] or document["egress"]:
        _show_gateways(console, document["gateway"], document["egress"])
    console.print()
    if document["peers"]:
        _show_peers(console, document["peers"])
    else:
        console.print("no peers yet: add them under `peers` in the configuration")
    for problem in document["unpublished"]:
        console.print(
            styled(f"not published: {problem['service']} ({problem['registry']}): {problem['reason']}", "yellow")
        )
    for orphan in document["orphans"]:
        console.print(
            styled(
                f"orphan: {orphan['service']} of {orphan['peer']}; `hamlet leave {orphan['peer']}` removes it",
                "yellow",
            )
        )
    if document["refused_callers"]:
        console.print(
            styled(f"{document['refused_callers']} callers refused, the last: {document['last_refusal']}", "yellow")
        )


def _show_peers(console: Console, peers: list[dict[str, Any]]) -> None:
    rows = [row for peer in peers for row in _peer_rows(peer)]
    columns = ("peer", "direction", "state", "since", "offered", "in registry", "lag", "refused", "last error")
    console.print(table(*columns, rows=rows))
    for peer in peers:
        _show_details(console, peer)


def _peer_rows(peer: dict[str, Any]) -> Iterable[tuple[object, ...]]:
    imports, exports = peer["imports"], peer["exports"]
    error = peer["last_error"] if imports["state"] in ("connecting", "stale", "rejected") else ""
    yield (peer["name"], "imports", state(imports["state"]), ago(imports["since"]), imports["offered"],
           imports["standing"], imports["pending"], len(imports["rejected"]) or "", error)  # fmt: skip
    yield ("", "exports", state(exports["state"]), ago(exports["since"]), exports["offered"], "", exports["lag"],
           len(exports["rejected"]) or "", "")  # fmt: skip


def _show_details(console: Console, peer: dict[str, Any]) -> None:
    imports = peer["imports"]
    if imports["lost_since"] and imports["standing"]:
        console.print(
            styled(f"{peer['name']}: lost {ago(imports['lost_since'])} ago; its services are kept", "yellow")
        )
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


@click.command()
@click.option("--peer", metavar="PEER", help="Only this peer.")
@click.option("--imported", "which", flag_value="imported", help="Only what other meshes publish to us.")
@click.option("--published", "which", flag_value="published", help="Only what we publish.")
@json_option
@pass_settings
def services(settings: Settings, peer: str | None, which: str | None, as_json: bool) -> None:
    """What is published to each peer, and what is imported from each."""
    document = ask(settings, "services", peer=peer)
    if which:
        document = {which: document[which]}
    emit(document, lambda console: _show_services(console, document), as_json=as_json)


def _show_services(console: Console, document: dict[str, Any]) -> None:
    if "published" in document:
        rows = [
            (row["peer"], row["service"], ", ".join(row["protocols"]), row["endpoints"],
             "; ".join(filter(None, [row["rejected"] and f"refused by the peer: {row['rejected']}", row["waits"],
                                     *row["losses"]])))
            for row in document["published"]
        ]  # fmt: skip
        console.print(table("published to", "service", "protocols", "endpoints", "remarks", rows=rows))
    if len(document) > 1:
        console.print()
    if "imported" in document:
        found = [
            (row["peer"], row["service"], row["registry"], state(row["state"]), ", ".join(row["reached_at"]),
             _remarks(row))
            for row in document["imported"]
        ]  # fmt: skip
        console.print(table("imported from", "service", "registry", "state", "reached at", "remarks", rows=found))


def _remarks(row: dict[str, Any]) -> str:
    """What is to be said of an import: the name it has here, where that is not its own, and why it is as it is."""
    alias = row["local_name"] not in ("", row["service"])
    return "; ".join(filter(None, [f"known as {row['local_name']}" if alias else "", row["reason"]]))


@click.command()
@click.argument("changed", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@pass_settings
def plan(settings: Settings, changed: Path | None, as_json: bool) -> None:
    """What taking over a changed configuration would do; nothing is done.

    CHANGED is the configuration to look at; without it, the agent's own file as it is on disk now. Shown is
    what would be published and withdrawn per peer, and written and deleted per registry.
    """
    path = (changed or settings.config_file()).absolute()
    document = ask(settings, "plan", path=str(path))
    emit(document, lambda console: _show_plan(console, document), as_json=as_json)


def _show_plan(console: Console, document: dict[str, Any]) -> None:
    if document["restart"]:
        console.print(styled(f"needs a restart: {', '.join(document['restart'])} changed", "yellow"))
    for peer in document["links"]:
        console.print(
            styled(f"{peer}: its link would be made anew, and its catalog walked from the beginning", "yellow")
        )
    rows = [(state(row["action"]), row["service"], row["peer"], "") for row in document["publish"]]
    rows += [(state(row["action"]), row["service"], row["peer"], row["registry"]) for row in document["imports"]]
    if rows:
        console.print(table("action", "service", "peer", "registry", rows=rows))
    elif not document["links"]:
        console.print("nothing would change")


@click.command()
@json_option
@pass_settings
def check(settings: Settings, as_json: bool) -> None:
    """Look for faults: configuration, certificates, peers, gateway and every registry, each with its mend.

    Works on the running agent; where none answers, the configuration with the options of its adapters, the
    certificates and the gateway are checked alone.
    Exits with 1 when there is an error.
    """
    loaded = settings.read()
    try:
        findings = call(loaded.config.admin.socket, "check", {})["findings"]
    except AgentUnreachable as error:
        findings = [{"registry": "", **finding} for finding in _offline(loaded)]
        agent = {"subject": "agent", "severity": "warning", "message": str(error), "mend": error.mend}
        findings.append({"registry": "", **agent})
    document = {"findings": findings}
    emit(document, lambda console: _show_findings(console, findings), as_json=as_json)
    if any(finding["severity"] == "error" for finding in findings):
        click.get_current_context().exit(Exit.FINDINGS)


def _offline(loaded: Loaded) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from hamlet_core.agent.logs import logs_as
    from hamlet_core.agent.unattended import findings

    # What a part of the agent logs or prints is no part of the document.
    with redirect_stdout(sys.stderr), logs_as(loaded.config.log):
        return [asdict(finding) for finding in findings(loaded)]


def _show_findings(console: Console, findings: list[dict[str, Any]]) -> None:
    rows = [
        (
            state(f["severity"]),
            f"{f['registry']}: {f['subject']}" if f["registry"] else f["subject"],
            f["message"],
            f["mend"],
        )
        for f in findings
    ]
    console.print(table("", "what", "how it is", "what to do", rows=rows, notes=2))


@click.command()
@click.argument("peer")
@json_option
@pass_settings
def confirm(settings: Settings, peer: str, as_json: bool) -> None:
    """Let the removals of PEER pass that are held because they were so many."""
    document = ask(settings, "confirm", peer=peer)
    text = (
        f"{document['removed']} held removals of {peer} confirmed"
        if document["removed"]
        else f"nothing of {peer} was held"
    )
    emit(document, lambda console: console.print(text), as_json=as_json)


@click.command()
@click.argument("peer")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_settings
def leave(settings: Settings, peer: str, yes: bool, as_json: bool) -> None:
    """Withdraw everything that came from PEER and forget it.

    Also removes what a peer left behind that is no longer in the configuration.
    """
    if not yes:
        ask_first(f"Withdraw everything that came from {peer}?")
    document = ask(settings, "leave", peer=peer)
    lines = [
        f"left {peer}"
        if document["removed"]
        else f"leaving {peer}: the registry is not done yet, see `hamlet status`"
    ]
    if document["still_configured"]:
        lines.append(
            f"remove peers.{peer} from the configuration, or it is imported again after the next start or reload"
        )
    emit(document, lambda console: console.print("\n".join(lines)), as_json=as_json)
    if not document["removed"]:
        _fail()


def _fail() -> NoReturn:
    click.get_current_context().exit(Exit.FINDINGS)

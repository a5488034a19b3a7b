"""The commands of daily life: run the agent, and ask the running one. They talk to it and decide nothing."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.console import Console

from hamlet_core.agent.admin import AgentUnreachable, call
from hamlet_core.api import ConfigError
from hamlet_core.cli.exits import Exit
from hamlet_core.cli.operate_status import expired, show_status, stands_by
from hamlet_core.cli.output import ask_first, emit, json_option, styled, table
from hamlet_core.cli.settings import Settings, pass_settings
from hamlet_core.cli.states import kept, state
from hamlet_core.config.model import Admin
from hamlet_core.words import counted

if TYPE_CHECKING:
    from hamlet_core.config.load import Loaded

DEFAULT_SOCKET: Path = Admin.model_fields["socket"].default


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
    emit(document, lambda console: show_status(console, document), as_json=as_json)
    if stands_by(document):
        if document["coordinator"]["error"] or expired(document):
            click.get_current_context().exit(Exit.FINDINGS)
        return
    states = {peer[way]["state"] for peer in document["peers"] for way in ("imports", "exports")}
    ours = {each[way]["state"] for each in document["registries"] for way in ("publishing", "importing")}
    ours |= {document[each]["state"] for each in ("gateway", "egress") if document[each]}
    well = document["ready"] and not document["orphans"] and ours == {"live"} and not expired(document)
    well = well and not any(peer["imports"]["retried"] for peer in document["peers"])
    if not well or states - {"live", "syncing"}:
        click.get_current_context().exit(Exit.FINDINGS)


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
        columns = ("published to", "service", "protocols", "endpoints", "remarks")
        console.print(table(*columns, rows=rows) if rows else "nothing is published")
    if len(document) > 1 and any(document.values()):
        console.print()
    if "imported" in document:
        found = [
            (row["peer"], row["service"], row["registry"], state(row["state"]), ", ".join(row["reached_at"]),
             _remarks(row))
            for row in document["imported"]
        ]  # fmt: skip
        headings = ("imported from", "service", "registry", "state", "reached at", "remarks")
        console.print(table(*headings, rows=found) if found else "nothing is imported")


def _remarks(row: dict[str, Any]) -> str:
    """What is to be said of an import: the name it has here, where that is not its own, and why it is as it is."""
    alias = row["local_name"] not in ("", row["service"])
    until = kept(row["kept_until"]) if row["kept_until"] else ""
    return "; ".join(filter(None, [f"known as {row['local_name']}" if alias else "", row["reason"], until]))


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
    certificates and the gateway are checked alone, and no registry is asked.
    Exits with 1 when there is an error.
    """
    loaded = settings.read()
    try:
        findings = call(loaded.config.admin.socket, "check", {})["findings"]
    except AgentUnreachable as error:
        message = f"{error}: no registry and no peer was asked"
        agent = {"subject": "agent", "severity": "warning", "message": message, "mend": error.mend}
        findings = [{"registry": "", **finding} for finding in [agent, *_offline(loaded)]]
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
        f"{counted(document['removed'], 'held removal')} of {peer} confirmed"
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

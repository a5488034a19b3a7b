"""`hamlet plugins`: what is installed, and what cannot be used."""

from __future__ import annotations

from collections.abc import Collection

import click
from rich.console import Console

from hamlet_core.api.errors import AdapterError
from hamlet_core.cli.output import emit, json_option, styled, table
from hamlet_core.plugins.loader import PluginInfo, installed, load


@click.command()
@json_option
def plugins(*, as_json: bool) -> None:
    """List the installed plugins: what each provides, or why it cannot be used.

    A plugin that nothing in the configuration names is not loaded by the agent, whatever its state.
    """
    found = installed()
    emit([_document(each) for each in found], lambda console: _show(console, found), as_json=as_json)


def added_commands(taken: Collection[str]) -> dict[str, click.Command]:
    """The commands that installed plugins add, by name; a plugin that cannot be used adds none.

    Raises `AdapterError` for a name that is among the `taken` or that two plugins add.
    """
    found: dict[str, click.Command] = {}
    for plugin in installed():
        if plugin.problem or "commands" not in plugin.provides:
            continue
        for command in load((), [plugin.name]).commands():
            name = command.name or ""
            if name in taken or name in found:
                message = f"plugin {plugin.name!r} adds the command {name!r}, which is there already"
                raise AdapterError(message, mend=f"uninstall {plugin.distribution}, or ask its authors to rename it")
            found[name] = command
    return found


def _document(info: PluginInfo) -> dict[str, object]:
    return {
        "name": info.name,
        "distribution": info.distribution,
        "version": info.version,
        "provides": list(info.provides),
        "summary": info.summary,
        "problem": info.problem or None,
    }


def _show(console: Console, found: list[PluginInfo]) -> None:
    if not found:
        console.print("No plugin is installed; an adapter is one, for example: pip install hamlet-file")
        return
    rows = [
        (
            each.name,
            each.distribution,
            each.version,
            ", ".join(each.provides),
            styled(each.problem, "red") if each.problem else each.summary,
        )
        for each in found
    ]
    console.print(table("plugin", "distribution", "version", "provides", "about", rows=rows))

"""`hamlet plugins`: what is installed, and what cannot be used."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import click
from rich.console import Console

from hamlet_core.api.errors import AdapterError
from hamlet_core.cli import COMMANDS
from hamlet_core.cli.exits import Exit
from hamlet_core.cli.output import emit, json_option, styled, table
from hamlet_core.config.schema import undescribed
from hamlet_core.plugins.discovery import Found
from hamlet_core.plugins.loader import PluginInfo, installed
from hamlet_core.plugins.requirements import unmet

SLOW_SECONDS = 5.0
"""A plugin that takes longer to load is named meanwhile."""


@click.command()
@json_option
@click.pass_context
def plugins(ctx: click.Context, *, as_json: bool) -> None:
    """List the installed plugins: what each provides, or why it cannot be used.

    A plugin that nothing in the configuration names is not loaded by the agent, whatever its state. Exits with 1
    when there is something wrong with one, also with the versions of what it requires.
    """
    found = [_judged(each) for each in installed(_named_if_slow)]
    emit([_document(each) for each in found], lambda console: _show(console, found), as_json=as_json)
    if any(each.problem for each in found):
        ctx.exit(Exit.FINDINGS)


def added_command(name: str) -> click.Command | None:
    """The command of this name that an installed plugin adds; a plugin that cannot be used adds none.

    Raises `AdapterError` where two plugins add it.
    """
    found = [(plugin, command) for plugin in installed() for command in plugin.commands if command.name == name]
    if len(found) > 1:
        names = " and ".join(f"{plugin.name!r} of {plugin.distribution}" for plugin, _ in found)
        message = f"the command {name!r} is added twice: by the plugins {names}"
        raise AdapterError(message, mend="uninstall one of them, or ask its authors to rename it")
    return found[0][1] if found else None


@contextmanager
def _named_if_slow(plugin: Found) -> Iterator[None]:
    """Say on standard error which plugin it is that takes long: one that hangs lets nobody else say so."""
    message = f"{plugin} takes longer than {SLOW_SECONDS:g} s to load; if it goes on, it hangs"
    mend = f"interrupt with Ctrl-C, then pip uninstall {plugin.distribution}"
    telling = threading.Timer(SLOW_SECONDS, click.echo, [f"{message} ({mend})"], {"err": True})
    telling.daemon = True
    telling.start()
    try:
        yield
    finally:
        telling.cancel()


def _judged(info: PluginInfo) -> PluginInfo:
    """The plugin, and what is wrong with the names of its commands, its options and what it requires."""
    problems = [info.problem] if info.problem else []
    if taken := [repr(command.name) for command in info.commands if command.name in COMMANDS]:
        problems.append(f"it adds {', '.join(taken)}, which hamlet has itself; that one is used")
    problems += [
        f"`hamlet config schema` leaves it out: {fault}"
        for adapter in info.adapters
        if adapter.role == "registry" and (fault := undescribed(adapter.options))
    ]
    lacking = [each for each in unmet(info.distribution) if not (each.about_core and each.said in info.problem)]
    return replace(info, problem="; ".join([*problems, *(f"it {each.said} ({each.mend})" for each in lacking)]))


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

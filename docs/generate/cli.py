"""docs/cli.md, from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from docs.generate.notice import NOTICE
from hamlet_core.cli import COMMANDS, main

CLI = """\
# The command line

`hamlet [OPTIONS] COMMAND [ARGS]...`

The configuration is `--config`, before or after the command, else `$HAMLET_CONFIG`, else `./hamlet.yaml`, else
`/etc/hamlet/hamlet.yaml`. The commands that ask the agent (`status`, `services`, `plan`, `check`, `confirm`, `leave`)
read it to find the agent's admin socket, and so run on the agent's machine, as the agent's user. Plugins may add
commands; `hamlet plugins` says which do.

This page says what each command does. In which order they are typed, for an upgrade, a restore or the end of a
peer, is in [Running an agent](operations.md); what to do when something is wrong, in
[Troubleshooting](troubleshooting.md).

`--json` prints one JSON document with everything that the tables show and more. Tables go to standard output, errors
to standard error; colours only on a terminal, and never where `NO_COLOR` is set.

| exit code | meaning |
|---|---|
| 0 | it went well |
| 1 | it found errors, or was refused |
| 2 | the command line or the configuration is wrong |
| 3 | no agent answers, or no backend |
| 4 | a fault of Hamlet itself, or of a plugin; `hamlet --debug` shows the traceback |
| 130 | interrupted |

Before the command:
"""


def cli() -> str:
    """docs/cli.md."""
    pages = [NOTICE, CLI, *_options(main, "hamlet")]
    for name, lazy in COMMANDS.items():
        pages += _command(lazy.load(), f"hamlet {name}")
    return "\n".join(pages).rstrip("\n") + "\n"


def _command(command: click.Command, path: str) -> Iterator[str]:
    arguments = [_argument(each) for each in command.params if isinstance(each, click.Argument)]
    group = isinstance(command, click.Group)
    yield f"## {path}\n"
    yield f"`{' '.join([path, '[OPTIONS]', *arguments, *(['COMMAND [ARGS]...'] if group else [])])}`\n"
    yield from _prose(command.help or "")
    yield from _options(command, path)
    if isinstance(command, click.Group):
        for name, sub in command.commands.items():
            yield from _command(sub, f"{path} {name}")


def _prose(text: str) -> Iterator[str]:
    """The help as Markdown: what click must not wrap is a block of code."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if not paragraph.startswith("\b"):
            yield f"{paragraph}\n"
            continue
        lines = paragraph.removeprefix("\b").strip("\n").split("\n")
        if not lines[0].startswith(" "):
            yield f"{lines.pop(0)}\n"
        code = inspect.cleandoc("\n" + "\n".join(lines)).split("\n")
        yield "\n".join([f"```{_language(code[0])}", *code, "```\n"])


def _language(line: str) -> str:
    """What a block of a help is, by its first line: a part of hamlet.yaml, commands, or something else."""
    return "yaml" if line.endswith(":") else "sh" if line.startswith("hamlet ") else "text"


def _options(command: click.Command, path: str) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    rows = []
    for option in (each for each in command.params if isinstance(each, click.Option) and not each.hidden):
        value = "" if option.is_flag else f" {option.make_metavar(context)}"
        names = ", ".join(f"`{name}{value}`" for name in option.opts)
        notes = [option.help or ""]
        notes += ["Required."] if option.required else []
        notes += [f"Default: {option.default}."] if option.show_default else []
        notes += [f"Environment: `{option.envvar}`."] if option.envvar else []
        rows.append(f"| {names} | {' '.join(notes)} |")
    if rows:
        yield "\n".join(["| option | meaning |", "|---|---|", *rows]) + "\n"


def _argument(argument: click.Argument) -> str:
    name = argument.metavar or (argument.name or "").upper()
    return name if argument.required or name.startswith("[") else f"[{name}]"

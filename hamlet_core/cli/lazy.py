"""A group whose commands are imported when they are used, so that `hamlet --help` is quick.

It also is the one place where an error becomes a message and an exit code.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import CompletionItem

from hamlet_core.cli.exits import Exit, code_of
from hamlet_core.cli.printable import printable


@dataclass(frozen=True, slots=True)
class Lazy:
    """A command: where it is (`module:attribute`), and what the list of commands says about it."""

    where: str
    summary: str

    def load(self) -> click.Command:
        """Import the command."""
        module, _, attribute = self.where.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            message = f"{self.where} is no command"
            raise TypeError(message)
        return command


class LazyGroup(click.Group):
    """A group over a table of lazy commands; an installed plugin may add others."""

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names in the order of the table: as an operator meets them."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command of ours, or find a plugin's."""
        if cmd_name in self.lazy:
            return self.lazy[cmd_name].load()
        if ctx.resilient_parsing or cmd_name.startswith("-"):
            return None
        # Only a name that is not ours makes the plugins be loaded.
        from hamlet_core.cli.plugins import added_command

        return added_command(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant, or say which one is close."""
        name = args[0]
        command = self.get_command(ctx, name)
        if command is not None:
            return name, command, args[1:]
        if ctx.resilient_parsing or name.startswith("-"):
            return super().resolve_command(ctx, args)
        close = difflib.get_close_matches(name, self.lazy, n=1)
        message = f"No such command {name!r}." + (f" Did you mean {close[0]!r}?" if close else "")
        raise click.UsageError(message, ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands by the table's summaries, without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in self.lazy.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Keep the epilog's lines as they are."""
        if self.epilog:
            formatter.write_paragraph()
            formatter.write(self.epilog)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names of commands by the table, too."""
        found = [
            CompletionItem(name, help=lazy.summary) for name, lazy in self.lazy.items() if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what goes wrong becomes a message for a person and an exit code."""
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except KeyboardInterrupt:
            ctx.exit(130)
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of our output went away; click ends quietly
            code = code_of(error)
            _report(ctx, error, code, debug=bool(ctx.params.get("debug")))
            ctx.exit(code)


def _report(ctx: click.Context, error: Exception, code: Exit, *, debug: bool) -> None:
    if debug:
        click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
    text = str(error)
    if code is Exit.INTERNAL:
        text = f"internal error: {type(error).__name__}: {error}"
    click.secho(f"{ctx.info_name}: {printable(text)}", fg="red", err=True)
    mend = getattr(error, "mend", "")
    if code is Exit.INTERNAL and not debug:
        mend = "run it again with --debug before the command and report what it shows"
    if mend:
        click.echo(printable(mend), err=True)

"""`hamlet completion`: the script that teaches a shell our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    For example, in ~/.bashrc: eval "$(hamlet completion bash)"
    """
    kind = get_completion_class(shell)
    if kind is None:
        message = f"click has no completion for {shell}"
        raise click.UsageError(message)
    click.echo(kind(ctx.find_root().command, {}, "hamlet", "_HAMLET_COMPLETE").source())

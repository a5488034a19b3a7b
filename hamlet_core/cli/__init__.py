"""The command line: the group, its options, its commands and how they end.

Exit codes: 0 it went well; 1 it found errors, or was refused; 2 the command line or the configuration is
wrong; 3 no agent answers, or no backend; 4 a fault of Hamlet itself, or of a plugin. Interrupted: 130.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from hamlet_core import __version__
from hamlet_core.cli.lazy import Lazy, LazyGroup
from hamlet_core.cli.settings import Settings, config_option

# gRPC writes notes of its own to standard error, between our log lines; what matters of them we say ourselves.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# Pydantic looks for plugins of its own in every installed distribution, and fails where one of them is damaged.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

COMMANDS = {
    "init": Lazy("hamlet_core.cli.init:init", "Write a commented hamlet.yaml to start from."),
    "pki": Lazy("hamlet_core.cli.pki:pki", "Make certificates for development."),
    "config": Lazy("hamlet_core.cli.config:config", "Check, show and describe the configuration."),
    "run": Lazy("hamlet_core.cli.operate:run", "Run the agent."),
    "status": Lazy("hamlet_core.cli.operate:status", "How the agent and its peers are."),
    "services": Lazy("hamlet_core.cli.operate:services", "What is published and what is imported."),
    "plan": Lazy("hamlet_core.cli.operate:plan", "What a changed configuration would do; nothing is done."),
    "check": Lazy("hamlet_core.cli.operate:check", "Look for faults: configuration, certificates, registries."),
    "confirm": Lazy("hamlet_core.cli.operate:confirm", "Let removals pass that are held."),
    "leave": Lazy("hamlet_core.cli.operate:leave", "Withdraw what came from a peer, and forget it."),
    "plugins": Lazy("hamlet_core.cli.plugins:plugins", "List the installed plugins."),
    "new-adapter": Lazy("hamlet_core.cli.adapters:new_adapter", "Write the project of an adapter of your own."),
    "verify-adapter": Lazy(
        "hamlet_core.cli.adapters:verify_adapter", "Check an adapter against the contract, on the live backends."
    ),
    "demo": Lazy("hamlet_core.cli.demo:demo", "Watch two meshes exchange services on this machine."),
    "completion": Lazy("hamlet_core.cli.completion:completion", "Print the completion script of a shell."),
}

EPILOG = """\
The configuration is --config, before or after the command, else $HAMLET_CONFIG,
else ./hamlet.yaml, else /etc/hamlet/hamlet.yaml. Plugins may add commands:
`hamlet plugins` lists them.

Exit codes:
  0    it went well
  1    it found errors, or was refused
  2    the command line or the configuration is wrong
  3    no agent answers, or no backend
  4    a fault of Hamlet itself, or of a plugin: --debug shows the traceback
  130  interrupted
"""


@click.group(cls=LazyGroup, lazy=COMMANDS, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@config_option(envvar="HAMLET_CONFIG", show_envvar=True)
@click.option("--debug", is_flag=True, envvar="HAMLET_DEBUG", show_envvar=True, help="Show tracebacks of errors.")
@click.version_option(__version__, prog_name="hamlet", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context, config: Path | None, debug: bool) -> None:
    """Federation of service meshes between organisations that trust nobody but themselves."""
    ctx.obj = Settings(config=config, debug=debug)

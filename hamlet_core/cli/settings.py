"""What the options that all commands share say: which configuration, and how much to tell of an error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hamlet_core.config.load import Loaded

PLACES = (Path("hamlet.yaml"), Path("/etc/hamlet/hamlet.yaml"))
"""Where the configuration is looked for when no one names it, first to last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The global options; a command receives them through `pass_settings`."""

    config: Path | None = None
    debug: bool = False

    def config_file(self) -> Path:
        """The configuration's path: the one named, else the first of `PLACES` that is there.

        Raises `ConfigError` when none is named and none is there.
        """
        if self.config is not None:
            return self.config
        found = next((path for path in PLACES if path.exists()), None)
        if found is None:
            from hamlet_core.api.errors import ConfigError

            message = f"no configuration: neither {' nor '.join(map(str, PLACES))} is there"
            raise ConfigError(message, mend="name one with --config, or let `hamlet init` write one")
        return found

    def read(self) -> Loaded:
        """Read the configuration; raises `ConfigError` with everything that is wrong with it."""
        # The loader brings pydantic and the YAML parser; commands that need no configuration start without.
        from hamlet_core.config.load import read

        return read(self.config_file())


def config_option(**more: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option that names the configuration; `more` is click's."""
    file = click.Path(path_type=Path)
    return click.option("-c", "--config", type=file, metavar="FILE", help="The configuration file.", **more)


def pass_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """For commands that read the configuration: its first argument is the `Settings`, and it takes `-c` as well."""
    passing = click.make_pass_decorator(Settings, ensure=True)
    return config_option(expose_value=False, callback=_named_after)(passing(command))


def _named_after(ctx: click.Context, _parameter: click.Parameter, value: Path | None) -> None:
    """Let what is named after the command beat what was named before it."""
    if value is not None:
        ctx.obj = replace(ctx.ensure_object(Settings), config=value)

"""What the options before the command say: which configuration, and how much to tell of an error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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


pass_settings = click.make_pass_decorator(Settings)

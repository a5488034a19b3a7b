"""Writes the pages of the reference from the code itself, and the list of what is promised to stay.

`make docs` runs it; a test compares what it would write with what is checked in. The prose of the other pages
is written by hand.
"""

from collections.abc import Callable

from docs.generate.cli import cli
from docs.generate.configuration import configuration
from docs.generate.errors import errors
from docs.generate.hooks import hooks
from docs.generate.metrics import metrics
from docs.generate.surface import public_api

__all__ = ["PAGES"]

PAGES: dict[str, Callable[[], str]] = {
    "configuration.md": configuration,
    "cli.md": cli,
    "metrics.md": metrics,
    "hooks.md": hooks,
    "errors.md": errors,
    "public-api.txt": public_api,
}
"""Everything that is generated, by its file name."""

"""Writes the pages of the reference from the code itself: configuration.md, cli.md and metrics.md.

`make docs` runs it; a test compares what it would write with what is checked in. The prose of the other pages
is written by hand.
"""

from collections.abc import Callable

from docs.generate.cli import cli
from docs.generate.configuration import configuration
from docs.generate.metrics import metrics

__all__ = ["PAGES"]

PAGES: dict[str, Callable[[], str]] = {"configuration.md": configuration, "cli.md": cli, "metrics.md": metrics}
"""Every generated page, by its file name."""

"""Plugin of a pytest run in another environment: it shows the installed code, with no backend of a vendor."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import hamlet_core

BACKENDS = {"consul_binary", "kubernetes", "kubernetes_binaries"}
"""Fixtures that start, or find, a real backend; they work the same under every Python, and take minutes."""


def pytest_sessionstart() -> None:
    """Refuse to show the checkout's code in place of the wheel's."""
    if not Path(hamlet_core.__file__).is_relative_to(sys.prefix):
        message = (
            f"hamlet_core is imported from {hamlet_core.__file__}, not from {sys.prefix}: start pytest elsewhere"
        )
        raise pytest.UsageError(message)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out what needs a backend."""
    sorted_out: dict[bool, list[pytest.Item]] = {True: [], False: []}
    for item in items:
        sorted_out[BACKENDS.isdisjoint(getattr(item, "fixturenames", ()))].append(item)
    config.hook.pytest_deselected(items=sorted_out[False])
    items[:] = sorted_out[True]

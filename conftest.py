"""Plugins of every test in this tree: real backends, found or fetched, and what was not run for want of one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest

pytest_plugins = ["tests.backends.not_run", "tests.backends.consul", "tests.backends.kubernetes"]


@pytest.fixture(scope="session", autouse=True)
def _sessions_within(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the sessions of pytest that tests begin a folder of their own.

    Each session clears away the folders of earlier ones when it ends, and can trip over another that does so too.
    """
    tmp_path_factory.getbasetemp()  # ours is where it always is
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory(prefix="h-") as folder:
        patched.setenv("PYTEST_DEBUG_TEMPROOT", folder)
        yield

"""How a check is left out: what it needs cannot be done here, or it is about a backend that nobody uses."""

from __future__ import annotations

from typing import NoReturn

import pytest

IN_USE = "the registry is in use"
"""How the reason of a check begins that does not apply."""


def not_run(*, needs: str) -> NoReturn:
    """Leave out the check under way: a backend calls it in place of what it cannot do where it is.

    `needs` ends the sentence "it needs …", for who could provide it: "the right to delete leases in hamlet". The
    report of `hamlet verify-adapter` says `not run` with this reason, pytest that the check was skipped. It is for
    what the place does not let a backend do; a backend that a plugin's own tests start can do everything.

    `open` and whatever a check asks of the backend may call it, before anything is changed. What takes something
    out again (`remove_...`, `close`) has left it behind when it calls it, and is reported so. Where a backend is made
    there is no check yet: what is wrong there is a `ConfigError`.
    """
    pytest.skip(f"needs {needs}")


def does_not_apply(why: str) -> NoReturn:
    """Leave out a check of what an unused registry is like, since this one is in use; `why` says by whom."""
    pytest.skip(f"{IN_USE}: {why}")

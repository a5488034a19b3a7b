"""Which modules of the kit pytest explains the assertions of, and how it is told. It checks nothing."""

from __future__ import annotations

import sys

import pytest

MODULES = tuple(
    f"{__package__}.{name}"
    for name in (
        "agents",
        "candidates",
        "check_rules",
        "contract",
        "coordinator_contract",
        "gateway_contract",
        "gateway_stage",
        "import_rules",
        "mark_rules",
        "stage",
        "watch_rules",
        "watching",
    )
)
"""Those with the assertions of a check, and those that import one of them to be checks."""


def explain_assertions() -> None:
    """Have pytest rewrite the assertions of `MODULES`, so that a failure says what there was.

    It can only do so while a module is imported. Whoever imported them before pytest began, as a command does,
    gets them anew.
    """
    for name in MODULES:
        sys.modules.pop(name, None)
    pytest.register_assert_rewrite(*MODULES)

"""What the agent writes to standard error."""

from __future__ import annotations

import pytest
import structlog

from hamlet_core.agent.logs import logs_as
from hamlet_core.config.model import Log

SECRET = "a-secret"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_shows_the_places_and_no_value_on_the_way(capsys, form):
    def fails(password):
        raise KeyError("orders")

    before = structlog.get_config()
    with logs_as(Log(format=form)):
        try:
            fails(SECRET)
        except KeyError as error:
            structlog.get_logger().error("adapter failed", exc_info=error)
    assert structlog.get_config() == before
    said = capsys.readouterr().err
    assert "KeyError: 'orders'" in said
    assert "in fails" in said
    assert SECRET not in said

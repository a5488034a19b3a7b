"""How what is logged is written to standard error. What is logged is everybody's own."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from hamlet_core.config.model import Log


def configure_logs(settings: Log, *, lasting: bool = True) -> None:
    """Send logs to standard error: text for people, JSON lines for programs; not `lasting` if they change again.

    Tracebacks are plain: what structlog has by default shows the values of variables, and secrets among them.
    """
    as_text = settings.format == "text" or (settings.format == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if as_text
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if as_text else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=lasting,
    )


@contextmanager
def logs_as(settings: Log) -> Iterator[None]:
    """Logs as `configure_logs` has them for as long as the block takes: for a command, which is no agent.

    Faults alone (a traceback, for example) are logged: the rest is what the command itself says.
    """
    before = structlog.get_config()
    configure_logs(settings.model_copy(update={"level": "error"}), lasting=False)
    try:
        yield
    finally:
        structlog.configure(**before)

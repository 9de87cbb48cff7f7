"""structlog as this project uses it: for people on a terminal, JSON lines otherwise. Never a sample's text."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

import structlog


def configure(log_format: str, level: str, **bound: str) -> None:
    """Sends logs to standard error, those of libraries that use `logging` too.

    Loggers don't survive the start of a process, so each process calls this for itself.

    Args:
        log_format: `console`, `json`, or `auto`: console if standard error is a terminal.
        level: Least severe level that is written.
        bound: Keys and values on every line, for example process="trainer".
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())

    def bind(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {**event, **bound}

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
        bind,
    ]
    if not console:
        shared.append(structlog.processors.format_exc_info)
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        # A line in one write: the trainer writes to the same place.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # Alembic tells at every start that it looked.
    logging.getLogger("alembic").setLevel(logging.WARNING)


def without_text(error: BaseException) -> dict[str, str]:
    """An unexpected error as fields of a log line: its type and where it arose.

    Its own text is left out, and so are those of its causes: they may hold a user's, as a database error's parameters
    do.
    """
    return {"error": type(error).__name__, "stack": "".join(traceback.format_tb(error.__traceback__))}

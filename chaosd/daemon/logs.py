"""The daemon's log, on stderr: lines for people, or JSON for machines, each with the experiment, target, run and round that
it is about."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

Processor = structlog.typing.Processor
Logger = structlog.typing.FilteringBoundLogger


def opened(style: Literal["text", "json"]) -> Logger:
    """The log; what libraries log goes there, too, from warnings on."""
    stamped = structlog.processors.TimeStamper(fmt="iso" if style == "json" else "%H:%M:%S", utc=True)
    rendered: Processor = structlog.processors.JSONRenderer() if style == "json" else _as_text
    traced = structlog.processors.format_exc_info
    common: list[Processor] = [structlog.processors.add_log_level, stamped]
    handler = logging.StreamHandler(sys.stderr)
    of_libraries: list[Processor] = [_plain, traced, rendered]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=common, processors=of_libraries))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    structlog.configure(
        processors=[*common, traced, rendered],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    log: Logger = structlog.get_logger()
    return log


def _plain(logger: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return structlog.stdlib.ProcessorFormatter.remove_processors_meta(logger, name, event)


def _as_text(_: object, __: str, event: structlog.typing.EventDict) -> str:
    """`12:00:00 experiment: what happened`; the rest is in what happened already."""
    about = f"{event['experiment']}: " if "experiment" in event else ""
    level = event["level"] if event["level"] in ("warning", "error", "critical") else ""
    return " ".join(filter(None, (event["timestamp"], level, f"{about}{event['event']}", event.get("exception", ""))))

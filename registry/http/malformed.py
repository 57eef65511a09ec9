"""Keeps what is not HTTP out of the error log.

aiohttp answers it with 400 before any application sees it, and logs each with a traceback at error
level: every scanner of ports would fill the log. Here it becomes one line at debug level.
"""

from __future__ import annotations

import logging
from typing import Final

from aiohttp.http_exceptions import HttpProcessingError

NAME: Final = "registry.http.server"


class Demote(logging.Filter):
    """Turns complaints about malformed requests into debug lines without a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if record.exc_info else None
        if kind is None or not issubclass(kind, HttpProcessingError):
            return True
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        args = record.args if isinstance(record.args, tuple) else ()
        record.msg, record.args = "malformed request from %s", args[:1] or ("?",)
        record.exc_info = None
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


def server_logger() -> logging.Logger:
    """The logger to give to aiohttp's runner."""
    logger = logging.getLogger(NAME)
    if not any(isinstance(each, Demote) for each in logger.filters):
        logger.addFilter(Demote())
    return logger

"""What reaches the user's script besides errors: warnings at its own line, and the log records of our processes."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Tuple, Type

__all__ = ['relog', 'warn_script']


def warn_script(text: str, category: Type[Warning]) -> None:
    """Warn at the line of the user's script that called us, however deep we are."""
    level, frame = 1, sys._getframe()
    package = os.path.dirname(__file__) + os.sep
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


def relog(payload: Tuple[str, int, str]) -> None:
    """A child's log record, into this process's logging."""
    name, level, text = payload
    logger = logging.getLogger(name)
    try:
        if logger.isEnabledFor(level):
            logger.handle(logger.makeRecord(name, level, '(child process)', 0, text, (), None))
    except Exception:                      # the script's own handlers and filters; they must not cost the recording
        logging.lastResort and logging.lastResort.handle(logging.makeLogRecord({'levelno': level, 'msg': text}))

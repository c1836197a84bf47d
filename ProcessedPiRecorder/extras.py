"""Optional packages: imported when they are needed, with an error that says how to get them."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import MissingExtraError

__all__ = ['require']


def require(module: str, extra: str, purpose: str) -> Any:
    """Import a module of an optional package, such as 'matplotlib.pyplot'.

    extra: the name in setup.py's ``extras_require`` that brings it; purpose: what needs it, for people.
    Raises MissingExtraError when the package is not installed. One that is there and broken raises its own error.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition('.')[0]
        if (error.name or '').partition('.')[0] != package:
            raise                              # the package is there, and misses something itself
        raise MissingExtraError(purpose, package, extra) from error

"""What counts as a box among the things that callbacks put."""

from __future__ import annotations

from typing import Any

__all__ = ['BOX_KEYS', 'is_box']

BOX_KEYS = ('x', 'y', 'w', 'h')

_NUMBERS = (int, float)


def is_box(value: Any) -> bool:
    """Whether this is a dict with numbers x, y, w and h: upper left corner, width and height; it may hold more."""
    if not isinstance(value, dict):
        return False
    for key in BOX_KEYS:
        if type(value.get(key)) not in _NUMBERS:
            return False
    return True

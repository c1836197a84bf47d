"""Which frames and which part of each ``recording[...]`` asks for."""

from __future__ import annotations

import operator
from typing import Any, List, Sequence, Tuple

import numpy as np

__all__ = ['WHOLE_NUMBER', 'page_number', 'page_numbers', 'split']

WHOLE_NUMBER = (int, np.integer)


def split(key: Any, ndim: int) -> Tuple[Any, Tuple[Any, ...]]:
    """The selection of frames, and what is selected of each, () for all of it. Raises IndexError."""
    parts: List[Any] = list(key) if isinstance(key, tuple) else [key]
    if any(part is None or isinstance(part, (bool, np.bool_)) for part in parts):
        raise IndexError('a recording takes no new axes (None, True, False); add them to the array that it gives')
    ellipses = [place for place, part in enumerate(parts) if part is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError("only one '...' can stand in a selection")
    if ellipses:
        at = ellipses[0]
        parts[at:at + 1] = [slice(None)] * (ndim - len(parts) + 1)
    if len(parts) > ndim:
        raise IndexError(f'{len(parts)} selections for a recording of {ndim} dimensions: frames, rows, columns'
                         f'{", channels" if ndim == 4 else ""}')
    inside = tuple(parts[1:])
    if any(not isinstance(part, (slice, *WHOLE_NUMBER)) for part in inside):
        raise IndexError('rows, columns and channels are selected by slices and whole numbers; select otherwise from '
                         'the array that they give')
    whole = all(isinstance(part, slice) and part == slice(None) for part in inside)
    return (parts[0] if parts else slice(None)), (() if whole else inside)


def page_number(number: Any, pages: int) -> int:
    """A page from 0; negative ones count from the end. Raises IndexError."""
    page = operator.index(number)
    if not -pages <= page < pages:
        raise IndexError(f'frame {page} of a recording of {pages}')
    return page % pages


def page_numbers(key: Any, pages: int) -> Sequence[int]:
    """The pages that a slice, a list or array of numbers, or a mask selects. Raises IndexError."""
    if isinstance(key, slice):
        return range(pages)[key]
    chosen = np.asarray(key)
    if chosen.ndim != 1 or chosen.dtype.kind not in 'iub' and chosen.size:
        raise IndexError(f'frames are selected by a whole number, a slice, a list of whole numbers, or a mask; got '
                         f'{type(key).__name__}')
    if chosen.dtype.kind == 'b':
        if len(chosen) != pages:
            raise IndexError(f'a mask of {len(chosen)} for a recording of {pages} frames')
        return [int(page) for page in np.flatnonzero(chosen)]
    return [page_number(number, pages) for number in chosen.tolist()]

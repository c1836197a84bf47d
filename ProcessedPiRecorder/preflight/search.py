"""Finding the highest rate that holds, in few trials: each that fails also tells how much came through."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Callable, List, NamedTuple, Optional

__all__ = ['Attempt', 'Search', 'highest_rate']

#: Closer than this two rates are one: seconds of recording tell no more.
RESOLUTION = 1.12
STEP_UP = 2.0
#: Of what came through when too much was asked, so much can be expected to hold.
EXPECTED_SHARE = 0.93


class Attempt(NamedTuple):
    """A trial's outcome. served_hz: what came through, where it did not hold and that is known."""

    rate_hz: float
    held: bool
    served_hz: Optional[float] = None


@dataclass(frozen=True)
class Search:
    """held_hz: the highest rate that held; failed_hz: the lowest one above it that did not. None: there is none."""

    held_hz: Optional[float] = None
    failed_hz: Optional[float] = None
    attempts: List[Attempt] = field(default_factory=list)


def highest_rate(attempt: Callable[[float], Attempt], *, first: float, ceiling: float, asked: float,
                 go_on: Callable[[int], bool], known: Optional[float] = None) -> Search:
    """Try rates, none above ``ceiling``, as long as ``go_on(number of attempts so far)``.

    first: what is expected to hold. asked: the rate that the question is about: it is tried itself rather than left
    open. known: a rate that is known to hold.
    """
    low, high = known or 0.0, math.inf
    attempts: List[Attempt] = []
    rate = min(first, ceiling)
    while low < ceiling and go_on(len(attempts)) and high > low * RESOLUTION:
        attempts.append(attempt(rate))
        if attempts[-1].held:
            low = max(low, rate)
        else:
            high = min(high, rate)
        rate = _next_rate(low, high, ceiling, asked, attempts[-1])
    return Search(low or None, high if high < math.inf else None, attempts)


def _next_rate(low: float, high: float, ceiling: float, asked: float, last: Attempt) -> float:
    if high == math.inf:
        return asked if low < asked else min(low * STEP_UP, ceiling)
    if low < asked < high:
        served = last.served_hz if not last.held else None
        # Hopeless at what is asked: then what does hold is the better thing to know.
        return asked if served is None or served > asked * 0.9 else served * EXPECTED_SHARE
    if not last.held and last.served_hz is not None:
        expected = last.served_hz * EXPECTED_SHARE
        return min(max(expected, low * 1.04, high / 4), high / 1.06)
    return math.sqrt(low * high) if low else high / 2

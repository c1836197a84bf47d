"""Quantiles of millions of durations in a fixed, small space."""

from __future__ import annotations

import math
from typing import Dict

__all__ = ['DurationHistogram']

_PER_OCTAVE = 16         # buckets for each doubling: a quantile is right to about 4 %
_OCTAVES = 40            # from 1 microsecond to 12 days


class DurationHistogram:
    """Logarithmic buckets; add takes nanoseconds, the summary is in milliseconds."""

    def __init__(self) -> None:
        self._counts = [0] * (_PER_OCTAVE * _OCTAVES)
        self.count = 0
        self.max_ns = 0

    def add(self, duration_ns: int) -> None:
        """Count one duration."""
        self.count += 1
        if duration_ns > self.max_ns:
            self.max_ns = duration_ns
        place = int(math.log2(duration_ns / 1000) * _PER_OCTAVE) if duration_ns > 1000 else 0
        self._counts[min(place, len(self._counts) - 1)] += 1

    def quantile_ms(self, share: float) -> float:
        """The duration below which ``share`` (0 to 1) of all lie: the upper edge of its bucket, at most the maximum."""
        wanted, seen = share * self.count, 0
        for place, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                edge_ns = 1000 * 2 ** ((place + 1) / _PER_OCTAVE)
                return min(edge_ns, self.max_ns) / 1e6
        return self.max_ns / 1e6

    def summary(self) -> Dict[str, float]:
        """{p50, p99, max} in milliseconds; empty when nothing was counted."""
        if not self.count:
            return {}
        return {'p50': round(self.quantile_ms(0.5), 3), 'p99': round(self.quantile_ms(0.99), 3),
                'max': round(self.max_ns / 1e6, 3)}

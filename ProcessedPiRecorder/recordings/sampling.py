"""Trying out efforts on a sample of a page, one at a time."""

from __future__ import annotations

import threading
import time
from typing import List, NamedTuple, Optional, Tuple

import numpy as np

from .encoder import PageEncoder

__all__ = ['Sampler', 'Trial']

SAMPLE_BYTES = 96 * 1024
SHORT_S = 0.002              # a single shorter run tells more of cold caches than of the effort


class Trial(NamedTuple):
    """One effort's result on the sample: compressed bytes / raw bytes, CPU seconds for a whole page."""

    effort: str
    size: float
    seconds: float


class Sampler:
    """Encodes bands of rows from all over a page with each candidate. Any thread may call any method.

    Attributes:
        scale: pixels of a page / pixels of its sample.
    """

    def __init__(self, height: int, width: int, channels: int, candidates: Tuple[str, ...]) -> None:
        rows = max(min(SAMPLE_BYTES // (width * channels), height), min(height, 4))
        # Whole bands, not single rows: Deflate also finds matches in the rows above.
        self._bands = min(8, max(rows // 4, 1))
        self._rows = rows // self._bands
        self._height = height
        self._candidates = candidates
        self._encoder = PageEncoder(self._rows * self._bands, width, channels)
        self._busy = threading.Lock()
        self._sample: Optional[np.ndarray] = None
        self._next = 0
        self.scale = height / (self._rows * self._bands)
        self._trials: List[Trial] = []

    def begin(self, image: np.ndarray) -> bool:
        """Take a sample (a copy) for a new round; False: the last one is not over yet."""
        with self._busy:
            if self._sample is not None:
                return False
            self._sample = self._rows_of(image)
            self._next, self._trials = 0, []
            return True

    @property
    def busy(self) -> bool:
        """Whether a round is under way."""
        return self._sample is not None

    def step(self, limit_s: float) -> Optional[List[Trial]]:
        """Try the next candidate. None: there is none, or another thread is at it. The last one brings all trials.

        limit_s: seconds for a whole page. One that takes longer is given up; the match-finding ones that look even
        further are not tried then.
        """
        if not self._busy.acquire(blocking=False):
            return None
        try:
            if self._sample is None:
                return None
            effort = self._candidates[self._next]
            trial = self._try(self._sample, effort, limit_s)
            if trial is not None:
                self._trials.append(trial)
            self._next += 1
            if self._next < len(self._candidates) and (trial is not None or not effort.startswith('deflate')):
                return []
            self._sample = None
            return self._trials
        finally:
            self._busy.release()

    def _try(self, sample: np.ndarray, effort: str, limit_s: float) -> Optional[Trial]:
        found = self._timed(sample, effort, limit_s / self.scale)
        if found is not None and found[1] < SHORT_S:
            found = min(found, self._timed(sample, effort, limit_s) or found)
        return None if found is None else Trial(effort, found[0] / sample.nbytes, found[1] * self.scale)

    def _timed(self, sample: np.ndarray, effort: str, limit_s: float) -> Optional[Tuple[int, float]]:
        """Bytes and CPU seconds; None when it takes longer than ``limit_s``."""
        began = time.thread_time()
        strip = self._encoder.encode(sample, effort, lambda done: time.thread_time() - began > limit_s)
        return (sum(len(part) for part in strip), time.thread_time() - began) if strip else None

    def _rows_of(self, image: np.ndarray) -> np.ndarray:
        # In the middle of equal shares of the page: edges are often unlike the rest (black borders, burnt-in text).
        share = self._height / self._bands
        starts = [int(share * (band + 0.5) - self._rows / 2) for band in range(self._bands)]
        return np.concatenate([image[start:start + self._rows] for start in starts])

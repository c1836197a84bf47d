"""Which compression effort a page gets: the best for the content that the machine can afford.

* *Content*: every SAMPLE_EVERY pages, or when the achieved ratio shifts, a sample of rows is encoded with each
  candidate. Camera noise holds no matches, so Huffman coding alone is smaller *and* faster there than Deflate's
  levels; flat scenes are the opposite. No effort is best everywhere, so it is measured.
* *Affordability*: for a source that does not wait, a page's estimated seconds, shared by the threads, must fit
  the measured interval between frames with a margin.
* *Gain*: a dearer effort must save at least MIN_GAIN of the bytes, and MIN_SAVED of the raw ones.
* *Pressure*: when the ring fills because encoding falls behind, the effort falls before a frame does. When
  encoding keeps up and the disk is slow, it does not: larger pages would make the disk slower still.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Callable, Deque, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from .encoder import PageEncoder, ladder

__all__ = ['Choice', 'EffortChooser', 'Trial']

SAMPLE_EVERY = 64            # pages
SAMPLE_BYTES = 96 * 1024
RATIO_SHIFT = 0.25           # relative change of the achieved ratio that calls for a new sample
MIN_GAIN = 0.025             # of the compressed bytes ...
MIN_SAVED = 0.001            # ... and of the raw ones: below that, even a third less is not worth a core
CPU_SHARE = 0.6              # of the interval; the rest is for the callback, the camera and surprises
INTERVAL_PAGES = 64          # the interval is the mean over so many
FIRST_INTERVAL_S = 1 / 60    # assumed until it is measured

#: Fill at which pressure rises to 1 and 2, and at which it falls from 1 and 2 again.
RISE, FALL = (0.5, 0.75), (0.35, 0.6)


class Trial(NamedTuple):
    """One effort's result on the sample: compressed bytes / raw bytes, CPU seconds for a whole page."""

    effort: str
    size: float
    seconds: float


class Choice(NamedTuple):
    """The effort for one page, and the pressure (1 or 2) that lowered it; 0: pressure changed nothing for this page."""

    effort: str
    pressure: int


class EffortChooser:
    """Chooses an effort for each page. Any thread may call any method.

    level: what the user allows, 0 to 9. fill: the ring's fill, 0 to 1. waits: the source can be slowed down, so
    neither time nor pressure counts.
    """

    def __init__(self, level: int, height: int, width: int, channels: int, threads: int,
                 fill: Callable[[], float], waits: bool = False) -> None:
        self._candidates = _candidates(level)
        self._threads = threads
        self._fill = fill
        self._waits = waits
        self._shape = (height, width, channels)
        self._sampler: Optional[_Sampler] = None
        self._lock = threading.Lock()
        self._sampling = False
        self._trials: List[Trial] = []
        self._until_sample = 0
        self._expected: Dict[str, float] = {}     # size by effort, as achieved since the last sample
        self._slowdown = 1.0                      # wall seconds / CPU seconds of real pages
        self._arrivals: Deque[float] = deque(maxlen=INTERVAL_PAGES)
        self._pressure = 0

    def arrived(self) -> None:
        """A page has come in; call in the order of capture."""
        self._arrivals.append(time.monotonic())

    def choose(self, image: np.ndarray, backlog: float) -> Choice:
        """The effort for this page, and the pressure behind it; now and then this takes the milliseconds of a sample.

        backlog: of the pages not yet written, the share that waits to be encoded, 0 to 1.
        """
        if len(self._candidates) == 1:
            return Choice(self._candidates[0], 0)
        if self._sample_is_due():
            self._sample(image)
        with self._lock:
            return self._decide(backlog)

    def spent(self, effort: str, size: float, cpu_s: float, wall_s: float) -> None:
        """A page has been encoded: compressed bytes / raw bytes, and the seconds it took."""
        with self._lock:
            before = self._expected.setdefault(effort, size)
            if abs(size - before) > RATIO_SHIFT * before:
                self._until_sample = 0
                self._expected[effort] = size
            if cpu_s > 0:
                self._slowdown += (max(wall_s / cpu_s, 1.0) - self._slowdown) / 16

    def _sample_is_due(self) -> bool:
        with self._lock:
            self._until_sample -= 1
            if self._sampling or self._until_sample >= 0:
                return False
            self._sampling = True
            self._until_sample = SAMPLE_EVERY - 1
            return True

    def _sample(self, image: np.ndarray) -> None:
        try:
            if self._sampler is None:
                self._sampler = _Sampler(*self._shape)
            limit_s = float('inf') if self._waits else 2 * self._affordable_s()
            trials = self._sampler.try_all(image, self._candidates, limit_s)
            with self._lock:
                self._trials = trials
                self._expected.clear()
        finally:
            with self._lock:
                self._sampling = False

    def _affordable_s(self) -> float:
        """CPU seconds that one page may take."""
        arrivals = list(self._arrivals)
        interval_s = FIRST_INTERVAL_S
        if len(arrivals) >= 8:
            interval_s = (arrivals[-1] - arrivals[0]) / (len(arrivals) - 1)
        return CPU_SHARE * interval_s * self._threads / self._slowdown

    def _decide(self, backlog: float) -> Choice:
        if not self._trials:
            return Choice('huffman', 0)     # another thread is just taking the first sample
        if self._waits:
            return Choice(best_trial(self._trials, float('inf')).effort, 0)
        fill = self._fill() if backlog >= 0.5 else 0.0
        self._pressure = next_pressure(self._pressure, fill)
        unhurried = best_trial(self._trials, self._affordable_s()).effort
        hurried = self._under_pressure(unhurried)
        return Choice(hurried, self._pressure if hurried != unhurried else 0)

    def _under_pressure(self, unhurried: str) -> str:
        if self._pressure == 2:
            return 'stored'
        if self._pressure == 1:
            # On flat scenes a match-finding level can be the fastest of all: it writes next to nothing.
            return min(self._trials[1:] or self._trials, key=lambda trial: trial.seconds).effort
        return unhurried


def best_trial(trials: List[Trial], affordable_s: float) -> Trial:
    """The cheapest among those about as small as the smallest affordable one; the first is always affordable."""
    affordable = [trials[0], *(trial for trial in trials[1:] if trial.seconds <= affordable_s)]
    smallest = min(trial.size for trial in affordable)
    good_enough = max(smallest / (1 - MIN_GAIN), smallest + MIN_SAVED)
    return min((trial for trial in affordable if trial.size <= good_enough), key=lambda trial: trial.seconds)


def next_pressure(pressure: int, fill: float) -> int:
    """0, 1 or 2: rises at once, falls one step at a time and later than it rose."""
    risen = sum(fill > threshold for threshold in RISE)
    if risen >= pressure:
        return risen
    return pressure - 1 if fill < FALL[pressure - 1] else pressure


def _candidates(level: int) -> Tuple[str, ...]:
    """The efforts worth trying: between neighbouring Deflate levels there is little to gain."""
    allowed = ladder(level)
    skipped = {'deflate-3', 'deflate-5', 'deflate-7', 'deflate-8'}
    return tuple(effort for effort in allowed if effort not in skipped or effort == allowed[-1])


class _Sampler:
    """Encodes bands of rows from all over the page. One thread at a time."""

    def __init__(self, height: int, width: int, channels: int) -> None:
        rows = max(min(SAMPLE_BYTES // (width * channels), height), min(height, 4))
        # Whole bands, not single rows: Deflate also finds matches in the rows above.
        self._bands = min(4, max(rows // 4, 1))
        self._rows = rows // self._bands
        self._scale = height / (self._rows * self._bands)
        self._height = height
        self._encoder = PageEncoder(self._rows * self._bands, width, channels)

    def try_all(self, image: np.ndarray, candidates: Tuple[str, ...], limit_s: float) -> List[Trial]:
        """A trial for each candidate in turn, up to the first match-finding one that exceeds ``limit_s``."""
        sample = self._rows_of(image)
        trials: List[Trial] = []
        for effort in candidates:
            nbytes, seconds = self._timed(sample, effort)
            if seconds < 0.002:
                # A single short run tells more of cold caches than of the effort.
                seconds = min(seconds, self._timed(sample, effort)[1])
            trials.append(Trial(effort, nbytes / sample.nbytes, seconds * self._scale))
            if trials[-1].seconds > limit_s and effort.startswith('deflate'):
                break
        return trials

    def _timed(self, sample: np.ndarray, effort: str) -> Tuple[int, float]:
        started = time.thread_time()
        nbytes = sum(len(part) for part in self._encoder.encode(sample, effort))
        return nbytes, time.thread_time() - started

    def _rows_of(self, image: np.ndarray) -> np.ndarray:
        last = self._height - self._rows
        starts = [last * band // max(self._bands - 1, 1) for band in range(self._bands)]
        return np.concatenate([image[start:start + self._rows] for start in starts])

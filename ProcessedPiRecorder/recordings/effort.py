"""Which compression effort a page gets: the best for the content that the machine can afford.

* *Content*: every SAMPLE_EVERY pages (less often where nothing changes), or when the achieved ratio shifts, a sample of
  rows is encoded with each candidate. Camera noise holds no matches, so Huffman coding alone is smaller *and* faster
  there than Deflate's levels; flat scenes are the opposite. No effort is best everywhere, so it is measured.
* *Affordability*: for a source that does not wait, a page's estimated seconds, shared by the threads, must fit
  the camera's interval with a margin.
* *Gain*: a dearer effort must save at least MIN_GAIN of the bytes, and MIN_SAVED of the raw ones.
* *Pressure*: when the ring fills because encoding falls behind, the effort falls before a frame does. When
  encoding keeps up and the disk is slow, it does not: larger pages would make the disk slower still.
* *Hurry*: the file is in order, so a page that takes long holds all slots behind it. No page gets an effort that would
  outlast the free slots, and one that turns out to is given up half way and stored.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Callable, Deque, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from .encoder import ladder
from .sampling import Sampler, Trial

__all__ = ['Choice', 'EffortChooser', 'Load', 'Room']

SAMPLE_EVERY = 64            # pages, at first; each sample that changes nothing doubles it ...
SAMPLE_AT_LEAST_EVERY = 1024     # ... up to this
RATIO_SHIFT = 0.25           # relative change of the achieved ratio that calls for a new sample
MIN_GAIN = 0.025             # of the compressed bytes ...
MIN_SAVED = 0.001            # ... and of the raw ones: below that, even a third less is not worth a core
SAME_TIME = 1.5              # what is slower by less is as fast; a sample's time is no better known
CPU_SHARE = 0.6              # of the interval; the rest is for the callback, the camera and surprises
HURRY_SHARE = 0.5            # of the time until the ring is full, at most, for one page
WALLS = 3                    # an effort's seconds are the median of its last pages; before, the sample's count
FORGOTTEN_AFTER = 16         # pages of other efforts; then the sample's count again
INTERVAL_PAGES = 64          # the interval is the mean over so many
FIRST_PAGES = 8              # with fewer the camera's word counts
DEFAULT_INTERVAL_S = 1 / 60  # for a camera that does not know its rate
MOST_SLOWDOWN = 8.0          # a single moment without the processor must not outweigh minutes

#: Fill at which pressure rises to 1 and 2, and at which it falls from 1 and 2 again.
RISE, FALL = (0.5, 0.75), (0.35, 0.6)


class Choice(NamedTuple):
    """The effort for one page, and the pressure (1 or 2) that lowered it; 0: pressure changed nothing for this page."""

    effort: str
    pressure: int


class Room(NamedTuple):
    """Slots of the ring: those that the file holds, and those that are free for frames to come."""

    taken: int
    free: int


class Load(NamedTuple):
    """What the file holds of the ring.

    Attributes:
        fill: of the slots that the file may use, the share that its unwritten pages take, 0 to 1.
        free: slots for frames to come.
        backlog: of the unwritten pages, the share that is not yet encoded, 0 to 1.
    """

    fill: float = 0.0
    free: float = float('inf')
    backlog: float = 0.0


class EffortChooser:
    """Chooses an effort for each page. Any thread may call any method.

    level: what the user allows, 0 to 9. load: what the ring holds; must be quick. waits: the source can be slowed
    down, so neither time nor pressure counts. framerate: the camera's, Hz, as long as none is measured.
    """

    def __init__(self, level: int, height: int, width: int, channels: int, threads: int,
                 load: Callable[[], Load] = Load, waits: bool = False, framerate: Optional[float] = None) -> None:
        self._candidates = _candidates(level)
        self._threads = threads
        self._load = load
        self._waits = waits
        self._first_interval_s = 1 / framerate if framerate else DEFAULT_INTERVAL_S
        self._lock = threading.Lock()
        self._sampler = Sampler(height, width, channels, self._candidates)
        self._trials: List[Trial] = []
        self._until_sample, self._sample_every = 0, SAMPLE_EVERY
        self._sampled_effort = ''
        self._sizes: Dict[str, float] = {}             # by effort, as achieved since the last sample
        self._walls: Dict[str, Deque[float]] = {}      # the same for the last pages' seconds ...
        self._medians: Dict[str, float] = {}           # ... and their median, once there are enough
        self._last_effort = ''                         # that a real page got ...
        self._pages = 0                                # ... of so many ...
        self._used_at: Dict[str, int] = {}             # ... and at which of them each was used last
        self._slowdown = 1.0                           # wall seconds / CPU seconds of real pages
        self._arrivals: Deque[Tuple[int, int]] = deque(maxlen=INTERVAL_PAGES)
        self._pressure = 0

    def arrived(self, index: int, time_ns: int) -> None:
        """A page has come in; call in the order of capture.

        index: the frame's number among those that the camera made; time_ns: on the camera's own clock, so that frames
        which were held up, and then come all at once, are not taken for a fast camera.
        """
        self._arrivals.append((index, time_ns))

    def choose(self, image: np.ndarray) -> Choice:
        """The effort for this page, and the pressure behind it.

        For a source that waits this takes, now and then, the milliseconds of a sample. For any other, ``sample`` does.
        """
        if len(self._candidates) == 1:
            return Choice(self._candidates[0], 0)
        with self._lock:
            self._until_sample -= 1
            if self._until_sample < 0 and self._pressure == 0 and self._sampler.begin(image):
                self._until_sample = self._sample_every - 1
        if self._waits:
            while self.sample():
                pass
        with self._lock:
            return self._decide()

    def hurry(self, effort: str) -> Optional[Callable[[float], bool]]:
        """Whether to give up the page whose encoding begins now: a function that is asked with the share that is done.

        It says yes when the rest would take longer than the ring has room. Then the page is to be stored.
        None: the source waits, so nobody need ask (each question means waiting for the interpreter).
        """
        if self._waits:
            return None
        began = time.perf_counter()

        def give_up(done: float) -> bool:
            load = self._load()
            if load.backlog < 0.5:
                return False
            taken_s = time.perf_counter() - began
            if taken_s / done - taken_s <= self._bridged_s(load):
                return False
            with self._lock:
                self._note_wall(effort, taken_s / done)
            return True
        return give_up

    def spent(self, effort: str, size: float, cpu_s: float, wall_s: float) -> None:
        """A page has been encoded: compressed bytes / raw bytes, and the seconds it took."""
        with self._lock:
            before = self._sizes.setdefault(effort, size)
            if abs(size - before) > RATIO_SHIFT * before:
                self._until_sample, self._sample_every = 0, SAMPLE_EVERY
                self._sizes[effort] = size
            self._note_wall(effort, wall_s)
            if cpu_s > 0:
                slowdown = min(max(wall_s / cpu_s, 1.0), MOST_SLOWDOWN)
                self._slowdown += (slowdown - self._slowdown) / 16

    def sample(self) -> bool:
        """Try the next candidate on a sample that ``choose`` has taken, if there is one; False: nothing was left to do.

        One at a time, between pages: a dozen efforts in a row could fill a small ring.
        """
        if not self._sampler.busy:
            return False
        load = self._load()
        limit_s = float('inf')
        if not self._waits:
            if load.fill > FALL[0] and load.backlog >= 0.5:
                return False
            limit_s = min(2 * self._affordable_s(), self._bridged_s(load) * self._sampler.scale)
        found = self._sampler.step(limit_s)
        if found:
            with self._lock:
                self._trials = found
                self._sizes.clear()
                self._walls.clear()
                self._medians.clear()
                self._sample_less_often_where_nothing_changes()
        return found is not None

    # -- with the lock held, from here on

    def _sample_less_often_where_nothing_changes(self) -> None:
        effort = best_trial(self._trials, float('inf')).effort
        if effort != self._sampled_effort:
            self._sampled_effort, self._sample_every = effort, SAMPLE_EVERY
        elif self._sample_every < SAMPLE_AT_LEAST_EVERY:
            self._sample_every *= 2

    def _note_wall(self, effort: str, seconds: float) -> None:
        walls = self._walls.get(effort)
        if walls is None:
            walls = self._walls[effort] = deque(maxlen=WALLS)
        walls.append(seconds)
        self._last_effort = effort
        self._pages += 1
        self._used_at[effort] = self._pages
        if len(walls) == WALLS:
            self._medians[effort] = sorted(walls)[WALLS // 2]

    def _decide(self) -> Choice:
        trials = self._trials_here_and_now()
        if self._waits:
            return Choice(best_trial(trials, float('inf')).effort if trials else 'huffman', 0)
        load = self._load()
        encoding_is_behind = load.backlog >= 0.5
        self._pressure = next_pressure(self._pressure, load.fill if encoding_is_behind else 0.0)
        affordable_s = self._affordable_s()
        unhurried = best_trial(trials, affordable_s).effort if trials else 'huffman'
        if trials and unhurried != self._sampled_effort:
            # What is too dear now is not tried by any page, so only samples can tell when it is not so any more.
            self._sample_every = SAMPLE_EVERY
            self._until_sample = min(self._until_sample, SAMPLE_EVERY - 1)
        if not encoding_is_behind and not self._pressure:
            return Choice(unhurried, 0)
        if encoding_is_behind:
            affordable_s = min(affordable_s, self._bridged_s(load))
        hurried = self._under_pressure(trials, affordable_s)
        if hurried == unhurried:
            return Choice(unhurried, 0)
        return Choice(hurried, self._pressure or (2 if hurried == 'stored' else 1))

    def _trials_here_and_now(self) -> List[Trial]:
        """With the seconds that real pages took; where there are none, the sample's, as much longer as with the others.

        (What an effort in use takes beside everything else must not be compared with what another took alone.)
        """
        slowdown = self._slowdown
        # What was too slow for a moment, and has not been used since, may not be so any more.
        medians = {effort: median for effort, median in self._medians.items()
                   if self._pages - self._used_at[effort] <= FORGOTTEN_AFTER}
        for effort, _, seconds in self._trials:
            # (Storing tells nothing of this: it waits for the memory only.)
            if effort == self._last_effort and effort in medians and effort != 'stored' and seconds > 0:
                slowdown = max(1.0, medians[effort] / seconds)
        return [Trial(effort, size, medians[effort] if effort in medians else seconds * slowdown)
                for effort, size, seconds in self._trials]

    def _under_pressure(self, trials: List[Trial], affordable_s: float) -> str:
        if self._pressure == 2:
            return 'stored'
        if not trials:
            return 'huffman'
        if self._pressure == 1:
            # On flat scenes a match-finding level can be the fastest of all: it writes next to nothing.
            trials = [trials[0], *sorted(trials[1:], key=lambda trial: trial.seconds)[:1]]
        return best_trial(trials, affordable_s).effort

    def _affordable_s(self) -> float:
        """Seconds that one page may take, all threads at work, so that the pages behind it do not pile up."""
        return CPU_SHARE * self._interval_s() * self._threads

    def _bridged_s(self, load: Load) -> float:
        """Seconds that one page may take so that those behind it find room."""
        return HURRY_SHARE * (load.free + 1) * self._interval_s()

    def _interval_s(self) -> float:
        arrivals = self._arrivals
        if len(arrivals) < FIRST_PAGES:
            return self._first_interval_s
        # Another thread may add to them in between; any first and last of them will do.
        (first, first_ns), (last, last_ns) = arrivals[0], arrivals[-1]
        # Over the camera's frames, not the recorded ones: losses must not look like a slower camera.
        return (last_ns - first_ns) / 1e9 / max(last - first, 1)


def best_trial(trials: List[Trial], affordable_s: float) -> Trial:
    """The cheapest among those about as small as the smallest affordable one; the first is always affordable.

    Among equally fast ones the least: which is the fastest of these by a little changes with every measurement.
    """
    affordable = [trials[0], *(trial for trial in trials[1:] if trial.seconds <= affordable_s)]
    smallest = min(trial.size for trial in affordable)
    good_enough = [trial for trial in affordable if trial.size <= max(smallest / (1 - MIN_GAIN), smallest + MIN_SAVED)]
    fastest_s = min(trial.seconds for trial in good_enough)
    return next(trial for trial in good_enough if trial.seconds <= SAME_TIME * fastest_s)


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

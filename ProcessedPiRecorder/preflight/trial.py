"""One short recording by the real pipeline, watched from outside, and whether it held its rate."""

from __future__ import annotations

import csv
import logging
import queue
import statistics
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from ..cameras.base import Granted
from ..errors import CallbackBypassedWarning, CallbackError, RecorderError, RecorderWarning
from ..recorder import ProcessedPiRecorder
from ..report import Report
from ..status import Status

__all__ = ['Sample', 'Trial', 'callback_times', 'make_trial', 'ring_grows']

log = logging.getLogger(__name__)

LOOK_S = 0.05
#: Of a trial, its first part is settling in: caches, the first calls, the first sample of the compressor.
SETTLING = 0.25
#: Slots by which the ring may be fuller at the end than before: pages are written in batches.
GROWTH_FRAMES, GROWTH_SHARE = 3, 0.02
FEWEST_SAMPLES = 6

Watch = Callable[[Status], None]


class Sample(NamedTuple):
    """The counters of a running recording at one moment (``seconds``: CLOCK_MONOTONIC)."""

    seconds: float
    captured: int
    processed: int
    in_use: int


@dataclass(frozen=True)
class Trial:
    """What became of a recording that was to keep this rate.

    Attributes:
        rate_hz: asked of the camera. granted: what the camera granted. report: the recorder's own.
        samples: taken while frames came, LOOK_S apart; those of its settling in are left out.
        settled_at: the number of the first frame after that. settled_bypassed: frames that had by-passed the callback
            by then.
        cut_short: it was ended early, because it had filled as much of the disk as it may.
        callback_error: the first failure of the callback, '' without one. warnings: by-passed frames excepted.
        frames: what lay in the ring at the end, as the callback would have seen it, where that was wanted.
    """

    rate_hz: float
    granted: Granted
    report: Report
    samples: List[Sample]
    settled_at: int
    settled_bypassed: int
    cut_short: bool = False
    callback_error: str = ''
    warnings: List[str] = field(default_factory=list)
    frames: List[np.ndarray] = field(default_factory=list)

    @property
    def grows(self) -> bool:
        """Whether the ring was filling, so that a longer recording would have overflowed."""
        return ring_grows(self.samples)

    @property
    def bypassed(self) -> int:
        """Frames that by-passed the callback after it had settled in."""
        return self.report.bypassed - self.settled_bypassed

    @property
    def spares_effort(self) -> bool:
        """Whether a filling ring lowered the compression effort after all had settled in."""
        before = 0
        for change in self.report.pressure_changes:
            if change['index'] >= self.settled_at and change['pressure'] > before:
                return True
            before = change['pressure']
        return False

    @property
    def camera_hz(self) -> float:
        """The camera's own rate by its frames' times, lost frames included; 0 where it cannot be told."""
        report = self.report
        return (report.rate_hz or 0.0) * (report.sensor - 1) / max(report.captured - 1, 1)

    @property
    def bytes_a_frame(self) -> Optional[float]:
        """On disk; None when no file was written."""
        return self.report.file_bytes / self.report.written if self.report.written else None

    def shortfalls(self, every: bool, strict: bool = True) -> List[str]:
        """In which ways it did not hold, of 'lost', 'by-passed', 'effort', 'growing' and 'too short' to tell.

        every: the callback is to see every frame. strict: by-passed frames and an effort that fell count, too.
        """
        found = [('lost', self.report.lost > 0),
                 ('by-passed', strict and every and self.bypassed > 0),
                 ('effort', strict and self.spares_effort),
                 ('growing', self.grows),
                 ('too short', self.cut_short and len(self.samples) < FEWEST_SAMPLES)]
        return [name for name, is_so in found if is_so]

    def served_hz(self, callback: bool) -> Optional[float]:
        """Frames a second that came out of the callback (else: out of the ring) once it had settled in."""
        if len(self.samples) < 2:
            return None
        first, last = self.samples[0], self.samples[-1]
        done = last.processed - first.processed if callback else \
            (last.captured - last.in_use) - (first.captured - first.in_use)
        seconds = last.seconds - first.seconds
        return done / seconds if seconds > 0 and done > 0 else None


def ring_grows(samples: List[Sample]) -> bool:
    """Whether ever more slots of the ring were in use: the least of the last third against the middle of the first.

    A slow moment fills the ring for a while, too, but then it empties again.
    """
    if len(samples) < FEWEST_SAMPLES:
        return False
    third = len(samples) // 3
    before = statistics.median(sample.in_use for sample in samples[:third])
    after = min(sample.in_use for sample in samples[-third:])
    frames = samples[-1].captured - samples[0].captured
    return after - before > max(GROWTH_FRAMES, GROWTH_SHARE * frames)


def make_trial(settings: Mapping[str, Any], rate_hz: float, *, room: int, settling_s: float = 0.0,
               keep_bytes: int = 0, watch: Watch = lambda status: None) -> Trial:
    """Record with these arguments of the recorder's; blocks until the file is finished.

    Args:
        room: bytes that it may fill of the disk.
        settling_s: seconds of ``rec_length`` until the callback works as it will (its first call).
        keep_bytes: how much of the ring's content to return.
        watch: gets a Status some times a second.

    Raises what the recorder raises, CallbackError excepted: the recording is whole then. Whatever is raised,
    KeyboardInterrupt too, nothing runs any more afterwards.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always', RecorderWarning)
        recorder = ProcessedPiRecorder(**{**settings, 'blocking': False})
        try:
            observed = _observe(recorder, room, settling_s, keep_bytes, watch)
        finally:
            _end(recorder)
    texts = [str(item.message) for item in told
             if issubclass(item.category, RecorderWarning) and not issubclass(item.category, CallbackBypassedWarning)]
    return Trial(rate_hz=rate_hz, warnings=list(dict.fromkeys(texts)), **observed)


def _observe(recorder: ProcessedPiRecorder, room: int, settling_s: float, keep_bytes: int,
             watch: Watch) -> Dict[str, Any]:
    recorder.recordVid()
    # The ring and what was granted are nobody's business but the recorder's and ours.
    run = recorder._run
    ring, granted = (run.ring, run.granted) if run is not None else (None, None)
    samples: List[Sample] = []
    settled_s = settling_s + SETTLING * (recorder.settings.rec_length - settling_s)
    settled_at, settled_bypassed, cut_short, problem = 0, 0, False, ''
    try:
        while recorder.wait(LOOK_S) is None:
            status = recorder.status()
            watch(status)
            if status.elapsed_s < settled_s:
                settled_at, settled_bypassed = status.captured + status.lost, status.bypassed
            elif not samples or status.captured > samples[-1].captured:      # afterwards the ring only empties
                samples.append(_sample(status))
            if not cut_short and status.bytes_written > room:
                cut_short = True
                recorder.stopVid(timeout=0)
            _drop_results(recorder)
    except CallbackError as error:
        problem = str(error)
    report = recorder.report
    if report is None or granted is None or not report.captured:
        raise RecorderError('the camera gave not a single frame; record longer (--run-seconds), or check the camera '
                            '(ppr cameras lists what there is)')
    frames = []
    if ring is not None and keep_bytes:
        count = max(2, keep_bytes // ring.layout.stride)
        frames = [image.copy() for image in ring.slots[:min(report.captured, ring.layout.slots, count)]]
    return {'granted': granted, 'report': report, 'samples': samples, 'settled_at': settled_at,
            'settled_bypassed': settled_bypassed, 'cut_short': cut_short, 'callback_error': problem, 'frames': frames}


def _sample(status: Status) -> Sample:
    return Sample(time.monotonic(), status.captured, status.processed, status.ring_in_use)


def _drop_results(recorder: ProcessedPiRecorder) -> None:
    try:
        while True:
            recorder.cb_queue.get_nowait()
    except queue.Empty:
        pass


def _end(recorder: ProcessedPiRecorder) -> None:
    try:
        recorder.close()
    except RecorderError:
        # Another exception is on its way already, and says more.
        log.debug('a trial that was broken off ended with an error', exc_info=True)


def callback_times(log: Path, report: Report) -> Tuple[Optional[float], Optional[float]]:
    """(first call, mean of the others) in ms, as the frame log tells; None for what is not known."""
    with open(log, encoding='ascii', newline='') as lines:
        rows = [row['callback_ms'] for row in csv.DictReader(lines)]
    times = [float(text) for text in rows if text]
    if not times:
        return report.callback_ms.get('max'), None
    if not rows[0]:
        # It was given up, and its frame written before it returned; no later call waits for so long.
        return report.callback_ms.get('max'), statistics.fmean(times)
    return times[0], statistics.fmean(times[1:] or times)

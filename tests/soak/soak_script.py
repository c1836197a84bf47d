"""The recording of a soak, as a user's script would be: a callback with results, every one of them read.

Runs as a program of its own, so that what the soak keeps for its judgement is not in the memory that is judged.
It takes its settings as JSON from its argument, and tells on standard output, two lines of JSON a second, what it has
read; the last line holds the report.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any, Deque, Dict, List, Optional

import numpy as np

from ProcessedPiRecorder import Frame, ProcessedPiRecorder, Status

STEP = 8               # pixels: the tracker looks at every eighth column and row
BRIGHT = 150           # gray levels: brighter than the background and its noise; parts of the shapes are
MARK = 5               # pixels, half the side of the mark
STRIP = 8              # pixels at the upper and lower edge, where the camera paints the frame's number


class Tracker:
    """The centroid of the bright pixels, as a result and as a mark on the frame. Lives in the callback's process."""

    def __init__(self, period_ns: int, leak_bytes: int = 0) -> None:
        self._period_ns, self._leak_bytes = period_ns, leak_bytes
        self._leak: List[bytes] = []
        self._offset_ns = 0

    def __enter__(self) -> 'Tracker':
        # Taken once, as the recorder takes its own: a step of the system's clock is not a latency.
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._leak.clear()

    def __call__(self, buffer: Deque[Frame], cb_queue: Any) -> np.ndarray:
        frame = buffer[-1]
        centre = self._find(frame)
        if centre is not None:
            x, y = centre
            frame[max(STRIP, y - MARK):min(y + MARK, frame.shape[0] - STRIP), max(0, x - MARK):x + MARK] = 255
        if self._leak_bytes:
            self._leak.append(b'x' * self._leak_bytes)      # bytes(n) would only be promised by the kernel
        assert frame.time_ns is not None
        # A frame's time is its start; it is there one period later.
        late_ns = time.monotonic_ns() + self._offset_ns - frame.time_ns - self._period_ns
        cb_queue.put({'index': frame.index, 'centre': centre, 'late_ns': late_ns})
        return frame

    @staticmethod
    def _find(frame: np.ndarray) -> Optional[List[int]]:
        # The green channel of a colour picture.
        small = np.asarray(frame[STRIP:-STRIP:STEP, ::STEP] if frame.ndim == 2 else frame[STRIP:-STRIP:STEP, ::STEP, 1])
        rows, columns = np.nonzero(small > BRIGHT)
        if not len(rows):
            return None
        return [int(columns.mean() * STEP), int(rows.mean() * STEP) + STRIP]


class News:
    """What was read since it was last told of. ``read`` in the main thread, ``tell`` in the progress function's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._late_ns: List[int] = []
        self.results = 0
        self.out_of_order = 0
        self._next = 0

    def read(self, result: Dict[str, Any]) -> None:
        with self._lock:
            self._late_ns.append(result['late_ns'])
        self.results += 1
        self.out_of_order += result['index'] != self._next
        self._next = result['index'] + 1

    def take(self) -> List[int]:
        """The latencies that were not told yet."""
        with self._lock:
            late_ns, self._late_ns = self._late_ns, []
        return late_ns

    def tell(self, status: Status) -> None:
        say({'late_ns': self.take(), 'results': self.results, 'ring_in_use': status.ring_in_use,
             'ring_frames': status.ring_frames, 'captured': status.captured, 'written': status.written})


def say(news: Dict[str, Any]) -> None:
    print(json.dumps(news), flush=True)


def record(settings: Dict[str, Any], leak_bytes: int) -> None:
    """Record, read every result, tell the report; raises what the recording raises."""
    news = News()
    tracker = Tracker(round(1e9 / settings['framerate']), leak_bytes)
    with ProcessedPiRecorder(**settings, callback=tracker, blocking=False, progress=news.tell) as rec:
        rec.recordVid()
        for result in rec.cb_queue:
            news.read(result)
        report = rec.wait()
    say({'report': report.as_dict() if report is not None else None, 'late_ns': news.take(), 'results': news.results,
         'out_of_order': news.out_of_order})


if __name__ == '__main__':
    asked = json.loads(sys.argv[1])
    record(asked['settings'], asked['leak_bytes'])

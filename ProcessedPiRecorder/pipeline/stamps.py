"""Time, frame rate and queue lengths, burnt into the frames at acquisition. Runs in the reader process."""

from __future__ import annotations

import datetime
import math
from collections import deque
from typing import Deque, List, Mapping, Optional, Tuple

import numpy as np

__all__ = ['Stamper', 'utc_text']

REFERENCE = '2024-10-30T12:34:56.789Z'     # the longest line that always has to fit
SMALLEST_SCALE = 0.3                       # of the Hershey font: below it letters run together
CAP_HEIGHT = 21                            # pixels of a capital letter at scale 1


def utc_text(time_ns: int) -> str:
    """UTC in ISO 8601 with milliseconds, rounded down: '2024-10-30T12:34:56.789Z'.

    UTC rather than local time: it has no summer time, so no hour comes twice, and it is what the file stores.
    """
    seconds, rest = divmod(time_ns, 10**9)
    # Not time.gmtime(): on 32 bits it knows no time after January 2038, and a Pi without a clock may believe anything.
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    return f'{moment:%Y-%m-%dT%H:%M:%S}.{rest // 10**6:03d}Z'


class Stamper:
    """Writes the lines that were asked for into the top left corner of each frame, white with a black outline.

    Args:
        timestamp: write the originating time, UTC (see ``utc_text``).
        report_Hz: write the mean frame rate over the last ``Hz_buffer`` intervals.
        monitor_qs: write every queue's length.
        Hz_buffer: intervals to average over.
        height, width: of the frames, in pixels; the letters are scaled to them.
    """

    def __init__(self, timestamp: bool, report_Hz: bool, monitor_qs: bool, Hz_buffer: int,
                 height: int, width: int) -> None:
        self._timestamp = timestamp
        self._report_hz = report_Hz
        self._monitor_qs = monitor_qs
        self._arrivals: Deque[int] = deque(maxlen=Hz_buffer + 1)
        self._width = width
        self._scale, self._thickness = _font_for(height, width)
        self._outline = max(2, self._thickness)
        self._margin = max(3, round(12 * self._scale))
        self._line_height = round(CAP_HEIGHT * self._scale * 1.75) + 1

    @property
    def active(self) -> bool:
        """True when there is anything to write."""
        return self._timestamp or self._report_hz or self._monitor_qs

    @property
    def rate(self) -> Optional[float]:
        """The mean frame rate in Hz over the last intervals; None before the second frame."""
        if len(self._arrivals) < 2:
            return None
        elapsed = self._arrivals[-1] - self._arrivals[0]
        return (len(self._arrivals) - 1) * 1e9 / elapsed if elapsed > 0 else None

    def stamp(self, image: np.ndarray, time_ns: int, host_ns: int, queues: Mapping[str, int]) -> None:
        """Write onto ``image``, in place: uint8, (height, width, 3) BGR or (height, width) gray.

        time_ns: the frame's originating time, ns since 1970 UTC. host_ns: its arrival on a monotonic clock, in
        ns, which the rate is reckoned from. queues: lengths by name, written in this order.
        """
        self._arrivals.append(host_ns)
        if not self.active:
            return
        import cv2
        font, white, black = cv2.FONT_HERSHEY_SIMPLEX, (255, 255, 255), (0, 0, 0)
        y = self._margin + round(CAP_HEIGHT * self._scale)
        for line in self._lines(time_ns, queues):
            for color, thickness in ((black, self._thickness + self._outline), (white, self._thickness)):
                cv2.putText(image, line, (self._margin, y), font, self._scale, color, thickness, cv2.LINE_AA)
            y += self._line_height

    def _lines(self, time_ns: int, queues: Mapping[str, int]) -> List[str]:
        lines = [utc_text(time_ns)] if self._timestamp else []
        if self._report_hz:
            lines.append('-- Hz' if self.rate is None else f'{self.rate:.1f} Hz')
        if self._monitor_qs:
            lines += self._wrapped([f'{name} {length}' for name, length in queues.items()])
        return lines

    def _wrapped(self, words: List[str]) -> List[str]:
        """The words in as many lines as the width asks for, none of them broken."""
        lines: List[str] = []
        for word in words:
            longer = f'{lines[-1]}   {word}' if lines else word
            if lines and _text_width(longer, self._scale, self._thickness) + 2 * self._margin <= self._width:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines


def _font_for(height: int, width: int) -> Tuple[float, int]:
    """Scale and thickness: letters grow with the root of the height, from 8 pixels, while the time still fits."""
    capital = max(8.0, 0.73 * math.sqrt(height))
    fitting = 0.94 * width / max(1, _text_width(REFERENCE, 1.0, 1))
    scale = max(SMALLEST_SCALE, min(capital / CAP_HEIGHT, fitting))
    return scale, max(1, round(CAP_HEIGHT * scale / 9))


def _text_width(text: str, scale: float, thickness: int) -> int:
    import cv2
    return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)[0][0])

"""When each frame of an export is shown, and the table of times that goes beside what cannot hold them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Iterable, List, Optional

import numpy as np

from ..errors import ExportError
from ..reading import Recording

__all__ = ['intervals_vary', 'median_interval_ns', 'missing_frames', 'shown_ns', 'write_times']

MOST_HZ = 1e6
MOST_SHOWN_NS = 10**18        # 31 years: their ticks fit into 64 bits


def shown_ns(recording: Recording, pages: range, rate_hz: Optional[float] = None, speed: float = 1.0) -> np.ndarray:
    """Of each page, when it is shown: int64 ns from the first one, increasing.

    rate_hz: needed for a TIFF without times of its own, and refused elsewhere. speed: 0.1 = ten times slower.
    Raises ExportError.
    """
    if isinstance(speed, bool) or not isinstance(speed, (int, float)) or not 1e-4 <= speed <= 1e4:
        raise ExportError(f'speed={speed!r} cannot be; pass 1 for the true times, 0.1 for ten times slower (0.0001 to '
                          '10000)')
    if recording.times_ns is not None:
        if rate_hz is not None:
            raise ExportError(f'{recording.path.name} has times of its own, and rate_hz={rate_hz!r} would be another '
                              'one; leave rate_hz out (speed=0.1 plays ten times slower)')
        times = recording.times_ns[pages.start:pages.stop:pages.step] - recording.times_ns[pages.start]
        _refuse_too_slow(speed, float(times[-1]))
        return times if speed == 1 else np.rint(times / speed).astype(np.int64)
    if rate_hz is None:
        raise ExportError(f'{recording.path.name} has no times: it was not made by ProcessedPiRecorder; pass rate_hz, '
                          'the frames a second that it was recorded at')
    if isinstance(rate_hz, bool) or not isinstance(rate_hz, (int, float)) or not 1 / 86_400 <= rate_hz <= MOST_HZ:
        raise ExportError(f'rate_hz={rate_hz!r} is no rate; pass frames a second, at most {MOST_HZ:,.0f}')
    frame_ns = pages.step * 1e9 / rate_hz
    _refuse_too_slow(speed, (len(pages) - 1) * frame_ns)
    return np.rint(np.arange(len(pages)) * (frame_ns / speed)).astype(np.int64)


def _refuse_too_slow(speed: float, last_ns: float) -> None:
    least = last_ns / MOST_SHOWN_NS
    if speed < least:
        raise ExportError(f'speed={speed!r} is too slow for these {last_ns / 1e9:,.0f} s: it would be shown for more '
                          f'than 31 years; pass {least * 1.01:.3g} to 10000, or fewer frames (start, stop)')


def median_interval_ns(times_ns: np.ndarray, otherwise: int = 40_000_000) -> int:
    """The usual time from one frame to the next; ``otherwise`` where there is one frame only."""
    return max(int(np.median(np.diff(times_ns))), 1) if len(times_ns) > 1 else otherwise


def intervals_vary(times_ns: np.ndarray) -> bool:
    """Whether any interval is more than 1 % off the usual one."""
    usual = median_interval_ns(times_ns)
    return bool(len(times_ns) > 1 and np.abs(np.diff(times_ns) - usual).max() > usual / 100)


def missing_frames(recording: Recording, pages: range) -> int:
    """How many frames the sensor made between the first and the last of these pages that are not in the recording."""
    if recording.indices is None:
        return 0
    return int(recording.indices[pages[-1]] - recording.indices[pages[0]]) - (pages[-1] - pages[0])


def write_times(path: Path, recording: Recording, pages: range, times_ns: Optional[np.ndarray],
                names: Optional[Iterable[str]] = None) -> None:
    """A CSV with a row for each exported frame; ``times_ns`` as from :func:`shown_ns`, at speed 1, if known.

    frame: its place in the export, from 0; page and index: in the recording (index: among those that the sensor made);
    time_ns: UTC, since 1970; time_s: from the first exported frame; file: its name, where ``names`` are given.
    """
    indices, utc = recording.indices, recording.times_ns
    with open(path, 'w', newline='', encoding='utf-8') as file:
        rows = csv.writer(file, lineterminator='\n')
        files = None if names is None else iter(names)
        rows.writerow(['frame', 'page', 'index', 'time_ns', 'time_s', *([] if files is None else ['file'])])
        for number, page in enumerate(pages):
            row: List[object] = [number, page, '' if indices is None else int(indices[page]),
                                 '' if utc is None else int(utc[page]),
                                 '' if times_ns is None else _seconds(int(times_ns[number]))]
            rows.writerow(row if files is None else [*row, next(files)])


def _seconds(time_ns: int) -> str:
    """Of an int, to the last digit."""
    return f'{time_ns // 10**9}.{time_ns % 10**9:09d}'

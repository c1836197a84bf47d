"""The results file beside a recording: every line readable, and bound to a frame that exists."""

from __future__ import annotations

import bisect
import os
from array import array
from pathlib import Path
from typing import Iterator, Optional, Tuple

import numpy as np

from ...report import MOST_PLACES, Report
from ..results import read_results, results_path
from .findings import Findings

__all__ = ['check_results']

#: The reason of losses that a repair tells: pages were there, and could not be recovered.
DESTROYED = 'damaged'


class _Frames:
    """Looks up the times of frames by their numbers.

    report: tells of frames that were recorded, and destroyed since; unknown_too: others may have been in the recording.
    """

    def __init__(self, indices: 'array[int]', times_ns: 'array[int]', report: Optional[Report],
                 unknown_too: bool) -> None:
        losses = [] if report is None else report.losses
        destroyed = sorted((loss.index, loss.index + loss.count) for loss in losses if loss.reason == DESTROYED)
        self._begins, self._ends = [begin for begin, _ in destroyed], [end for _, end in destroyed]
        # A report that sums up its last losses no longer tells which of them were destroyed.
        self._unknown_too = unknown_too or len(losses) >= MOST_PLACES
        numbers = np.frombuffer(indices, np.int64) if len(indices) else np.zeros(0, np.int64)
        self._order = np.argsort(numbers, kind='stable')
        self._numbers = numbers[self._order]
        self._times_ns = times_ns

    def time_ns(self, index: int) -> Optional[int]:
        """None when there is no such frame."""
        place = int(np.searchsorted(self._numbers, index)) if -2**63 <= index < 2**63 else len(self._numbers)
        if place == len(self._numbers) or int(self._numbers[place]) != index:
            return None
        return self._times_ns[int(self._order[place])]

    def may_have_been(self, index: int) -> bool:
        """Whether a frame that is not there may have been recorded."""
        place = bisect.bisect_right(self._begins, index) - 1
        return self._unknown_too or (place >= 0 and index < self._ends[place])


def check_results(first_file: Path, report: Optional[Report], indices: 'array[int]', times_ns: 'array[int]',
                  whole: bool, findings: Findings) -> Optional[int]:
    """Check the results file of the recording that begins with ``first_file``; returns its lines, None without one.

    whole: all pages of the recording could be read, so that a frame that is not among ``indices`` is not in it.
    """
    path = results_path(first_file)
    told = report.results if report is not None else None
    if not os.path.exists(path):
        if told and not _writing_failed(report):
            findings.add('results', path, f'the report says that the callback put {told} results; they should be in '
                                          'this file, which does not exist')
        return None
    lines, torn = 0, False
    more = report is None or not whole or report.captured > report.written or report.stopped == 'cut off'
    frames = _Frames(indices, times_ns, report, more)
    try:
        for lines, problem in _lines(path, frames):
            if problem:
                findings.add('results', path, f'line {lines}: {problem}')
        torn = _is_torn(path)
    except OSError as error:            # RecordingFileError is one, too
        findings.add('results', path, str(error))
        return lines
    if torn and not _callback_failed(report):
        findings.add('results', path, 'its last line is cut off')
    if told is not None:
        _check_count(path, lines, told, report, findings)
    return lines


def _lines(path: Path, frames: _Frames) -> Iterator[Tuple[int, str]]:
    for number, (index, time_ns, _) in enumerate(read_results(path), 1):
        yield number, _problem(index, time_ns, frames)


def _problem(index: object, time_ns: object, frames: _Frames) -> str:
    if index is None and time_ns is None:
        return ''                          # put outside of any frame
    if type(index) is not int or type(time_ns) is not int:
        return f'it is bound to frame {str(index)[:40]!r} at {str(time_ns)[:40]!r}, which is none'
    expected = frames.time_ns(index)
    if expected is None:
        return '' if frames.may_have_been(index) else f'it is bound to frame {index}, which is not in the recording'
    return '' if expected == time_ns else f'it has frame {index} at {time_ns} ns, the page has it at {expected} ns'


def _is_torn(path: Path) -> bool:
    with open(path, 'rb') as file:
        end = file.seek(0, 2)
        if not end:
            return False
        file.seek(end - 1)
        return file.read(1) != b'\n'


def _check_count(path: Path, lines: int, told: int, report: Optional[Report], findings: Findings) -> None:
    # A callback that was killed takes along what it had buffered, and one that was given up can still put.
    if lines == told or _callback_failed(report) or (lines < told and _writing_failed(report)):
        return
    findings.add('results', path, f'the report says that the callback put {told} results; {lines} are stored')


def _callback_failed(report: Optional[Report]) -> bool:
    return report is not None and bool(report.callback_errors or report.callback_restarts)


def _writing_failed(report: Optional[Report]) -> bool:
    return _callback_failed(report) or report is not None and bool(report.errors)

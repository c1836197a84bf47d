"""Why two runs of a callback may differ: what their recordings themselves tell of it. Nothing here is guessed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

import numpy as np

from ..errors import RecordingFormatError
from ..reading import Recording, Results
from ..report import Report

__all__ = ['Run', 'reasons']

RESULTS, FAILURES = '.results.jsonl', '.failures.jsonl'
PARTIAL = re.compile(r'\.partial(_\d+)?\.results\.jsonl')
#: Burnt into the pixels, so that the callback sees them.
BURNT = ('timestamp', 'report_Hz', 'monitor_qs')


class Run(NamedTuple):
    """What one run left. name: 'A' or 'B'; recording: None where there are results only."""

    name: str
    path: Optional[Path]
    results: Results
    recording: Optional[Recording]

    def __str__(self) -> str:
        return self.name if self.path is None else f'{self.name} ({self.path.name})'


def reasons(a: Run, b: Run) -> List[str]:
    """Sentences, each on something that may have made the runs differ."""
    found = [f'{run}: {text}' for run in (a, b) for text in (*_of_files(run), *_of_recording(run))]
    if a.recording is not None and b.recording is not None:
        found += _of_both(a.recording, b.recording)
    return found


def _of_files(run: Run) -> Iterator[str]:
    path = run.results.path
    if path is None or not path.name.endswith(RESULTS):
        return
    if PARTIAL.search(path.name):
        yield 'the run was ended early, and these are the results that there were'
        return
    failures = path.with_name(path.name[:-len(RESULTS)] + FAILURES)
    if failures.is_file():
        yield f'calls failed when it was processed: {_by_why(failures)} ({failures.name} has the errors)'


def _by_why(failures: Path) -> str:
    counts: Dict[str, int] = {}
    with open(failures, encoding='utf-8', errors='replace') as file:
        for line in file:
            try:
                why = str(json.loads(line)['why'])
            except (ValueError, KeyError, TypeError):
                why = 'unreadable'
            counts[why] = counts.get(why, 0) + 1
    return ', '.join(f'{count:,} {why}' for why, count in counts.items())


def _of_recording(run: Run) -> Iterator[str]:
    recording = run.recording
    if recording is None or recording.status is None:
        return
    latest = recording.settings.get('cb_delivery') == 'latest'
    kinds, counts = np.unique(recording.status, return_counts=True)
    number = dict(zip(kinds.tolist(), counts.tolist()))
    if number.get('by-passed'):
        yield (f'{_frames(number["by-passed"])} of {len(recording):,} by-passed the callback, which was not called for '
               'them' + (" (cb_delivery='latest': those that came while it was busy)" if latest else ''))
    if number.get('failed'):
        yield f'the call failed on {_frames(number["failed"])}'
    if number.get('returned'):
        yield (f"of {_frames(number['returned'])} it holds what the callback returned (record='returned'): whoever "
               'processes it is given that, and not the frames as they came')
    report = _report(recording)
    if report is None:
        yield 'it has no report, so that not all is known of how its callback fared'
    else:
        yield from _of_report(run, recording, report)


def _of_report(run: Run, recording: Recording, report: Report) -> Iterator[str]:
    if report.callback_restarts:
        times = 'once' if report.callback_restarts == 1 else f'{report.callback_restarts:,} times'
        yield f'its callback\'s process was started again {times}; what it had kept in memory was gone'
    if report.results and run.results.path is None:
        yield (f'its callback put {report.results:,} results, and the file with them, '
               f'{recording.path.with_suffix(RESULTS).name}, is not here')
    elif report.results > len(run.results) and run.results.path == recording.results_path:
        yield f'its callback put {report.results:,} results, and {len(run.results):,} of them are stored'
    if report.captured > report.written:
        yield f'of {_frames(report.captured)} that were captured, {report.written:,} are in the file'
    if report.lost:
        yield f'{_frames(report.lost)} {"is" if report.lost == 1 else "are"} missing (lost)'


def _of_both(a: Recording, b: Recording) -> Iterator[str]:
    if a.indices is not None and b.indices is not None:
        only_a, only_b = (len(np.setdiff1d(one, other, assume_unique=True))
                          for one, other in ((a.indices, b.indices), (b.indices, a.indices)))
        if only_a or only_b:
            yield f'not the same frames are in both: {only_a:,} in A only, {only_b:,} in B only'
    if a.shape[1:] != b.shape[1:]:
        yield f'the frames are of another size or format: {_size(a)} in A, {_size(b)} in B'
    yield from _of_settings(a, b)


def _of_settings(a: Recording, b: Recording) -> Iterator[str]:
    names = ['callback', 'buffer_length']
    if not any('processed' in recording.metadata for recording in (a, b)):
        names += [*BURNT, *(['Hz_buffer'] if a.settings.get('report_Hz') else [])]
    for name in names:
        if name in a.settings and name in b.settings and a.settings[name] != b.settings[name]:
            what = 'the callback is called' if name == 'callback' else f'{name} is'
            yield f'{what} {_short(a.settings[name])} in A, {_short(b.settings[name])} in B'


def _report(recording: Recording) -> Optional[Report]:
    try:
        return recording.report
    except RecordingFormatError:
        return None


def _frames(count: int) -> str:
    return f'{count:,} frame{"s" * (count != 1)}'


def _size(recording: Recording) -> str:
    return f'{recording.shape[2]}×{recording.shape[1]} {recording.pixel_format}'


def _short(value: Any) -> str:
    return str(value) if isinstance(value, str) else repr(value)

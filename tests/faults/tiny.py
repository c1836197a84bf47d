"""Tiny recordings, whole in every respect (report, preface, losses, marks, results), whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

import numpy as np

from ProcessedPiRecorder.pipeline.stamps import utc_text
from ProcessedPiRecorder.recordings.page import PageRecord
from ProcessedPiRecorder.recordings.part import PartInfo
from ProcessedPiRecorder.recordings.results import ResultsFile, results_path
from ProcessedPiRecorder.recordings.sink import PageJob, PageSink
from ProcessedPiRecorder.report import Loss, Report

INTERVAL_NS = 10_000_000
STATUSES = ('returned', 'raw', 'by-passed', 'failed')


class Tiny(NamedTuple):
    """A tiny recording: its files, and the pixels (as the reader gives them) by originating time."""

    files: List[Path]
    truth: Dict[int, np.ndarray]

    @property
    def path(self) -> Path:
        return self.files[0]

    @property
    def results(self) -> Path:
        return results_path(self.path)


def make_tiny(path: Path, *, pages: int = 4, level: int = 6, pixel_format: str = 'bgr', height: int = 5, width: int = 7,
              split: int = 0, begin_ns: int = 1_700_000_000_000_000_000, seed: int = 0, results: int = 0,
              lost_before: Sequence[int] = (2,), statuses: Sequence[str] = STATUSES,
              annotations: Mapping[str, Any] = {'metadata': {'animal': 'M<1>'}}, finish: bool = True) -> Tiny:   # noqa: B006
    """Record ``pages`` random images; two frames are lost before each page of ``lost_before``."""
    writer = _Writer(path, begin_ns, np.random.default_rng(seed), lost_before, statuses, annotations)
    shape = (height, width) if pixel_format == 'gray' else (height, width, 3)
    sink = PageSink(path, height=height, width=width, pixel_format=pixel_format, level=level, waits=True, threads=1,
                    split_frames=split, about=annotations, on_written=lambda jobs: None, on_error=writer.errors.append)
    sink.publish()
    for number in range(pages):
        sink.submit(writer.job(number, shape))
    if results:
        writer.put_results(results)
    files = sink.finish(lambda info: writer.describe(info, sink, results))
    assert not writer.errors
    if not finish:
        make_unfinished(files[-1])
    return Tiny(files, writer.truth)


def make_unfinished(path: Path) -> None:
    """As a crash at the end leaves a file: the header leads to page 0 as it was written first."""
    from ProcessedPiRecorder.recordings.reader import RecordingFile
    with RecordingFile(path) as recording:
        first_ifd = int(recording.index()['ifd_offset'][0])
    with open(path, 'r+b') as file:
        file.seek(8)
        file.write(first_ifd.to_bytes(8, 'little'))


class _Writer:
    """Makes pages, and keeps the ledger of them in its own way."""

    def __init__(self, path: Path, begin_ns: int, random: np.random.Generator, lost_before: Sequence[int],
                 statuses: Sequence[str], annotations: Mapping[str, Any]) -> None:
        self.errors: List[BaseException] = []
        self.truth: Dict[int, np.ndarray] = {}
        self._path, self._begin_ns, self._random = path, begin_ns, random
        self._lost_before, self._statuses, self._annotations = lost_before, statuses, annotations
        self._records: List[PageRecord] = []

    def job(self, number: int, shape: Sequence[int]) -> PageJob:
        image = self._random.integers(0, 30, tuple(shape), np.uint8)
        last = self._records[-1] if self._records else None
        index = last.index + 1 if last else 0
        lost = ()
        if number in self._lost_before:
            lost = ({'index': index, 'count': 2, 'time_ns': last.time_ns if last else None, 'reason': 'ring full'},)
            index += 2
        time_ns = self._begin_ns + index * INTERVAL_NS
        marks = ({'label': 'light & "on"', 'time_ns': time_ns + 5},) if number % 3 == 1 else ()
        status = self._statuses[number % len(self._statuses)]
        record = PageRecord(index, time_ns, index * INTERVAL_NS + 77, index * INTERVAL_NS + 99, status, marks,
                            1.5 if status in ('returned', 'raw', 'failed') else None, lost=lost)
        self._records.append(record)
        self.truth[time_ns] = image
        return PageJob(image, record)

    def put_results(self, number: int) -> None:
        with ResultsFile(results_path(self._path)) as file:
            for place in range(number):
                record = self._records[place % len(self._records)]
                file.add(record.index, record.time_ns, {'faces': [place, 2.5, 'text']})

    def describe(self, info: PartInfo, sink: PageSink, results: int) -> Dict[str, Any]:
        return {'report': self._report(info, sink, results).as_dict(), **self._annotations}

    def _report(self, info: PartInfo, sink: PageSink, results: int) -> Report:
        records, totals = self._records, sink.totals
        losses = [Loss(**lost) for record in records for lost in record.lost]
        lost = sum(loss.count for loss in losses)
        by_status = [sum(record.status == status for record in records) for status in STATUSES]
        times = [record.time_ns for record in records]
        seconds = (times[-1] - times[0]) / 1e9
        slowest = max((after - before for before, after in zip(times, times[1:])), default=0)
        return Report(
            complete='no' if lost else 'yes', reasons=[f'{lost} frames lost'] if lost else [],
            sensor=len(records) + lost, captured=len(records), written=len(records),
            processed=by_status[0] + by_status[1], returned=by_status[0], bypassed=by_status[2], failed=by_status[3],
            lost=lost, losses=losses, loss_detection='count',
            rate_hz=round((len(records) - 1) / seconds, 4) if seconds else None,
            slowest_interval_ms=round(slowest / 1e6, 3) if slowest else None, effort=dict(totals.effort),
            raw_bytes=totals.raw_bytes, file_bytes=totals.file_bytes, compression_ratio=round(totals.ratio or 0, 3),
            marks=[dict(mark) for record in records for mark in record.marks], results=results,
            stopped='end of source', started=utc_text(times[0]), duration_s=round(seconds, 6),
            clock={'not_increasing': 0, 'moved_times': 0}, files=[path.name for path in info.files])

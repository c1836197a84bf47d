"""Two accounts of the same frames: the report that the writer kept, and what the pages alone tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List

import pytest
from recording_tools import recorder

from ProcessedPiRecorder.recordings.page import PageRecord, StoredPage
from ProcessedPiRecorder.recordings.reader import RecordingFile
from ProcessedPiRecorder.recordings.tally import Tally
from ProcessedPiRecorder.report import Loss, Report


def tally_of(paths: List[Path]) -> Tally:
    tally = None
    for path in paths:
        with RecordingFile(path) as recording:
            tally = tally or Tally(recording.read_page(0).nbytes)
            for page, row in enumerate(recording.index()):
                tally.page(recording.stored_page(page), int(row['strip_length']))
    assert tally is not None
    return tally


def assert_agrees(report: Report, tally: Tally) -> None:
    assert (tally.captured, tally.lost, tally.unexplained) == (report.captured, report.lost, [])
    assert [(loss.index, loss.count, loss.time_ns, loss.reason) for loss in tally.losses] == \
        [(loss.index, loss.count, loss.time_ns, loss.reason) for loss in report.losses]
    assert tally.by_status == {'raw': report.captured - report.returned - report.bypassed - report.failed,
                               'returned': report.returned, 'by-passed': report.bypassed, 'failed': report.failed}
    assert (tally.processed, tally.effort) == (report.processed, report.effort)
    assert (tally.pressure.pages, tally.pressure.changes) == (report.effort_under_pressure, report.pressure_changes)
    assert (tally.raw_bytes, tally.marks) == (report.raw_bytes, report.marks)


def misbehave(buffer: Any, cb_queue: Any) -> Any:
    number = buffer[-1].index
    if number % 7 == 3:
        raise ValueError('on purpose')
    return None if number % 2 else 255 - buffer[-1]


@pytest.mark.parametrize('split', [0, 11])
def test_the_pages_tell_what_the_report_tells(tmp_path: Path, split: int) -> None:
    lost = [4, 5, 17, 18, 19, 40]
    rec = recorder(tmp_path / 'a.tif', callback=misbehave, split_frames=split, blocking=False,
                   controls={'frames': 60, 'skip': lost})
    rec.recordVid()
    with pytest.raises(Exception, match='on purpose'):
        rec.wait()
    assert rec.report.lost == len(lost) and rec.report.failed and rec.report.returned
    assert_agrees(rec.report, tally_of([Path(name) for name in rec.report.files]))


def test_what_no_page_tells_is_found() -> None:
    tally = Tally(100)
    pages = [(0, ()), (1, ()), (4, ({'index': 2, 'count': 2, 'time_ns': 11, 'reason': 'ring full'},)), (7, ())]
    for number, (index, lost) in enumerate(pages):
        tally.page(StoredPage(number, 0, PageRecord(index, 10 + index, lost=lost), 'huffman', 0), 50)
    assert tally.losses == [Loss(2, 2, 11, 'ring full')] and tally.lost == 2
    assert tally.unexplained == [Loss(5, 2, 14, 'unknown')]
    assert (tally.slowest_ns, tally.raw_bytes, tally.strip_bytes) == (3, 400, 200)

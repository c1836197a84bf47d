"""Recordings to be repaired: made, cut off, hurt; and the judge of what a repair makes of them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

import numpy as np
import tifffile

from ProcessedPiRecorder.recordings.page import PageRecord
from ProcessedPiRecorder.recordings.part import PartInfo
from ProcessedPiRecorder.recordings.reader import RecordingFile
from ProcessedPiRecorder.recordings.repair import RepairResult, repair
from ProcessedPiRecorder.recordings.sink import PageJob, PageSink
from ProcessedPiRecorder.recordings.verification import verify
from ProcessedPiRecorder.report import Loss, Report

HEIGHT, WIDTH, PAGES = 12, 20, 30
TIME = 10**18
LOST = (5, 6, 17)
ABOUT: Dict[str, Any] = {
    'settings': {'tif_path': 'a.tif'}, 'metadata': {'animal': 'M12'},
    'camera': {'width': WIDTH, 'height': HEIGHT, 'framerate': 100.0, 'loss_detection': 'count', 'model': 'test',
               'pixel_format': 'bgr'}}


class Span(NamedTuple):
    """Where a page stands."""

    index: int
    strip: int
    text: int
    ifd: int
    end: int


def picture(index: int, channels: int = 3) -> np.ndarray:
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, 3)
    return np.random.default_rng(index).integers(0, 40, shape, np.uint8)


def indices(pages: int, lost: Iterable[int] = LOST) -> List[int]:
    return [index for index in range(pages + len(tuple(lost))) if index not in lost][:pages]


def write(path: Path, pages: int = PAGES, *, channels: int = 3, lost: Tuple[int, ...] = LOST,
          **options: Any) -> List[Path]:
    """A recording of which the camera lost some frames, with marks, and a report made as the writer makes it."""
    sink = PageSink(path, height=HEIGHT, width=WIDTH, pixel_format='bgr' if channels == 3 else 'gray', waits=True,
                    on_written=lambda jobs: None, on_error=lambda error: None,
                    **{'level': 6, 'about': ABOUT, **options})
    sink.publish()
    before = -1
    for number, index in enumerate(indices(pages, lost)):
        gap = ({'index': before + 1, 'count': index - before - 1, 'time_ns': TIME + before * 10**7,
                'reason': 'camera gap'},) if index > before + 1 else ()
        marks = ({'label': 'light', 'time_ns': TIME + index * 10**7},) if number % 10 == 3 else ()
        record = PageRecord(index, TIME + index * 10**7, host_ns=index, lost=gap, marks=marks)
        sink.submit(PageJob(picture(index, channels), record))
        before = index
    return sink.finish(lambda info: {'report': _report(sink, info, lost, indices(pages, lost)), **ABOUT})


def _report(sink: PageSink, info: PartInfo, lost: Tuple[int, ...], present: List[int]) -> Dict[str, Any]:
    totals = sink.totals
    missing = [index for index in lost if index < present[-1]]
    losses = []
    for index in missing:
        if index - 1 not in missing:
            count = 1 + (index + 1 in missing)
            losses.append(Loss(index, count, TIME + (index - 1) * 10**7, 'camera gap', 'detail'))
    span = (present[-1] - present[0]) / 100
    slowest = max(b - a for a, b in zip(present, present[1:])) * 10.0 if len(present) > 1 else None
    return Report(
        'no' if missing else 'yes', [f'{len(missing)} frames lost'] if missing else [],
        sensor=len(present) + len(missing), captured=len(present), written=len(present), lost=len(missing),
        losses=losses, loss_detection='count', effort=dict(totals.effort), raw_bytes=totals.raw_bytes,
        file_bytes=totals.file_bytes, compression_ratio=round(totals.ratio, 3) if totals.ratio else None,
        rate_hz=round((len(present) - 1) / span, 4) if span else None, slowest_interval_ms=slowest,
        marks=[{'label': 'light', 'time_ns': TIME + index * 10**7} for number, index in enumerate(present)
               if number % 10 == 3],
        stopped='rec_length', started='2001-09-09T01:46:40.000Z', duration_s=span + 0.01,
        camera={'framerate': 100.0}, files=[path.name for path in info.files]).as_dict()


def spans(path: Path) -> List[Span]:
    with RecordingFile(path) as recording:
        rows = recording.index()
        texts = [int(row['strip_offset']) + int(row['strip_length']) for row in rows]
        size = 336 if recording._shape.compressed else 296
        return [Span(int(row['index']), int(row['strip_offset']), text, int(row['ifd_offset']),
                     int(row['ifd_offset']) + size) for row, text in zip(rows, texts)]


def cut_off(path: Path, keep: Optional[int] = None, extra: int = 100) -> List[Span]:
    """As a crash leaves it: no end, the last pages not linked, and a torn one. keep: pages that are linked."""
    pages = spans(path)
    data = bytearray(path.read_bytes()[:pages[-1].end])
    struct.pack_into('<Q', data, 8, pages[0].ifd if keep != 0 else 0)
    if keep:
        struct.pack_into('<Q', data, pages[keep - 1].end - 8, 0)
    path.write_bytes(bytes(data) + bytes(range(extra)))
    return pages


def hurt(path: Path, start: int, end: int, fill: Optional[bytes] = None) -> None:
    data = bytearray(path.read_bytes())
    data[start:end] = fill if fill is not None else bytes(end - start)
    path.write_bytes(data)


def assert_sound(path: Path, expected: Iterable[int], channels: int = 3) -> Report:
    """It verifies, a general reader agrees, and it holds just these frames, pixel by pixel."""
    verification = verify(path, threads=1)
    assert verification.ok, verification.findings[:5]
    assert verification.report is not None
    seen = []
    for file in verification.files:
        with RecordingFile(file) as recording, tifffile.TiffFile(file) as tif:
            assert len(tif.pages) == recording.pages and tif.is_ome
            for page in range(recording.pages):
                index = recording.page_record(page).index
                truth = picture(index, channels)
                np.testing.assert_array_equal(recording.read_page(page), truth)
                np.testing.assert_array_equal(tif.pages[page].asarray(), truth[..., ::-1] if channels == 3 else truth)
                seen.append(index)
    assert seen == list(expected)
    report = verification.report
    assert report.written == len(seen) and report.sensor == report.captured + report.lost
    return report


def repaired(path: Path, in_place: bool) -> RepairResult:
    """Repair; the original must not change, or nothing else may appear."""
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    result = repair(path, in_place=in_place)
    if in_place:
        assert set(path.parent.iterdir()) == set(before)
    else:
        assert {file: file.read_bytes() for file in before} == before
    return result

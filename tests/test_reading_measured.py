"""The benchmark of reading back: tiny runs of it, what it makes of its figures; and how often a file is read."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

from benchmarks import reading
from benchmarks.frames import camera_like
from ProcessedPiRecorder import open_recording
from ProcessedPiRecorder.reading import results as results_module
from ProcessedPiRecorder.recordings.verification import verify

COUNT = 9000          # more than two blocks of the page index


@pytest.fixture(scope='module')
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('long') / 'long.tif'
    reading.make(path, 8, 6, 'gray', COUNT, with_results=True)
    return path


def test_what_it_reads_is_a_recording(tmp_path: Path) -> None:
    reading.make(tmp_path / 'a.tif', 16, 12, 'bgr', 70)
    frames = camera_like(16, 12, 'bgr', 64)
    with open_recording(tmp_path / 'a.tif') as rec:
        np.testing.assert_array_equal(rec[:], np.stack([frames[page % 64] for page in range(70)]))
    findings = [str(finding) for finding in verify(tmp_path / 'a.tif', threads=1).findings]
    assert all('report' in finding for finding in findings), findings       # it is the only thing that it lacks


def test_the_long_recording_is_opened_and_looked_into(long: Path) -> None:
    found = reading.opened(str(long), COUNT)
    assert all(value > 0 for value in (found['open_s'], found['first_page_s'], found['results_open_s']))
    assert found['pages_s']['median'] <= found['pages_s']['p99'] <= found['pages_s']['most']


def test_opening_takes_few_reads_and_a_page_takes_one(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be thousands if pages were walked through."""
    reads: List[int] = []
    plain = os.pread

    def counted(fd: int, length: int, offset: int) -> bytes:
        reads.append(length)
        return plain(fd, length, offset)

    monkeypatch.setattr(os, 'pread', counted)
    with open_recording(long) as rec:
        assert len(rec) == COUNT and len(reads) < 40
        reads.clear()
        for page in (0, COUNT // 2, COUNT - 1):
            assert rec[page].index == page
        assert len(reads) == 3
        reads.clear()
        assert rec.page_of(77) == rec.page_at(rec.times_ns[77]) == 77 and len(rec.results) == COUNT
        assert not reads


def test_frames_in_order_are_held_against_the_bare_decoder(tmp_path: Path) -> None:
    reading.make(tmp_path / 'a.tif', 64, 48, 'bgr', 16)
    found = reading.in_order(str(tmp_path / 'a.tif'), 0)
    assert found['bare_fps'] > 0 and found['iterated_fps'] > 0


def made_up(share: float, page_ms: float) -> Dict[str, Any]:
    told = {'median': page_ms / 2e3, 'p99': page_ms / 1e3, 'most': page_ms / 500}
    opened = {'import_s': 0.2, 'open_s': 0.1, 'open_cpu_s': 0.1, 'first_page_s': 0.01, 'pages_s': told,
              'results_open_s': 1.0, 'results_open_cpu_s': 0.9, 'results_s': told,
              'memory_mb': 130.0, 'memory_with_results_mb': 190.0}
    return {'settings': {'count': 10**6, 'rounds': 1, 'frames': 256, 'width': 1280, 'height': 480, 'small': 32},
            'long': {name: [opened] for name in reading.FORMATS},
            'in_order': {name: [{'bare_fps': 100.0, 'iterated_fps': 100.0 * share, 'bare_cpu_ms': 7.0,
                                       'iterated_cpu_ms': 7.5}] for name in reading.FORMATS}}


def test_aims_are_reached_or_not() -> None:
    good = reading.targets(made_up(0.9, 1.0))
    assert len(good) == 14 and all(row['reached'] for row in good)
    missed = [row['measure'] for row in reading.targets(made_up(0.7, 6.0)) if not row['reached']]
    assert len(missed) == 6 and sum('any page' in measure for measure in missed) == 4


def test_the_tables_tell_it() -> None:
    found = made_up(0.9, 1.0)
    text = reading.tables(copy.deepcopy(found))
    assert '1,000,000 pages' in text and '| gray | 100 (7.0) | 90 (7.5) | 0.90 |' in text and 'nan' not in text


def test_results_in_a_row_take_few_reads(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once had a read of its own, and a row of a join even opened the file."""
    reads: List[int] = []
    plain = results_module._read_some

    def counted(file: Any, path: Path, nbytes: int) -> bytes:
        reads.append(nbytes)
        return plain(file, path, nbytes)

    with open_recording(long) as rec:
        assert len(rec.results) == COUNT
        monkeypatch.setattr(results_module, '_read_some', counted)
        assert [result.page for result in rec.results] == list(range(COUNT))
        assert len(reads) < 20 and sum(reads) == rec.results_path.stat().st_size
        reads.clear()
        joined = rec.join(rec.results)
        assert [row.row.index for row in joined] == list(range(COUNT)) and len(reads) < 20
        reads.clear()
        assert [result.index for result in rec.results.at([COUNT - 1, 5, 6, 7, 2])] == [COUNT - 1, 5, 6, 7, 2]
        assert len(reads) == 3

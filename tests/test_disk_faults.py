"""A disk that fails: at every single call of a short recording, once or for good, in every way that it can."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np
import pytest

from ProcessedPiRecorder.errors import RecordingFileError
from ProcessedPiRecorder.recordings import index
from ProcessedPiRecorder.recordings.page import PageRecord
from ProcessedPiRecorder.recordings.reader import RecordingFile
from ProcessedPiRecorder.recordings.salvage import readable
from ProcessedPiRecorder.recordings.sink import PageJob, PageSink

PAGES, SPLIT = 17, 7
SHAPE = (12, 20, 3)
CALLS = ('pwritev', 'fdatasync', 'ftruncate', 'close', 'open')
REAL = {name: getattr(os, name) for name in CALLS}


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, SHAPE, np.uint8)


class BadDisk:
    """Counts the calls that concern a folder's files, and fails the n-th of one kind, or all from then on.

    Attributes: fired: whether it has failed anything. linked: per file, pages in the chain at its last good sync.
    """

    def __init__(self, folder: Path, name: str = '', at: int = -1, for_good: bool = False,
                 code: int = errno.EIO) -> None:
        self.folder, self.name, self.at, self.for_good, self.code = folder, name, at, for_good, code
        self.counts: Dict[str, int] = dict.fromkeys(CALLS, 0)
        self.fired = False
        self.synced: Dict[str, int] = {}
        self._broken = False
        self._lock = threading.Lock()
        self._here = threading.local()     # while we look ourselves

    def fails(self, name: str) -> bool:
        with self._lock:
            number, self.counts[name] = self.counts[name], self.counts[name] + 1
            hit = name == self.name and number == self.at
            self._broken = self._broken or (hit and self.for_good)
            self.fired = self.fired or hit
        # A close that fails is one thing, a disk that is gone another.
        return hit or (self._broken and (name == 'close') == (self.name == 'close'))

    def concerns(self, place: Any) -> str:
        """The file that a descriptor or path leads to, if it is one of the folder's; else ''."""
        try:
            path = os.readlink(f'/proc/self/fd/{place}') if isinstance(place, int) else os.fspath(place)
        except OSError:
            return ''
        return path if path.startswith(f'{self.folder}{os.sep}') else ''

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in CALLS:
            monkeypatch.setattr(os, name, self._stand_in(name))

    def _stand_in(self, name: str) -> Callable[..., Any]:
        def call(place: Any, *arguments: Any, **more: Any) -> Any:
            path = '' if getattr(self._here, 'looking', False) else self.concerns(place)
            if not path or (name == 'open' and not arguments[0] & os.O_CREAT):
                return REAL[name](place, *arguments, **more)
            if self.fails(name):
                if name == 'close':
                    REAL['close'](place)       # as Linux does: the descriptor is gone all the same
                raise OSError(self.code, os.strerror(self.code))
            before = self._look(Path(path)) if name == 'fdatasync' else 0
            result = REAL[name](place, *arguments, **more)
            if name == 'fdatasync':
                self.synced[path] = before
            return result
        return call

    def _look(self, path: Path) -> int:
        """Pages in the file's chain at this moment."""
        self._here.looking = True
        try:
            with RecordingFile(path) as recording:
                return recording.pages
        except RecordingFileError:
            return 0
        finally:
            self._here.looking = False


class Recording:
    """A short split recording with a sync for every few pages, and what it reported."""

    def __init__(self, path: Path, pages: int = PAGES, **options: Any) -> None:
        self.path, self.pages = path, pages
        self.written: List[PageJob] = []
        self.errors: List[BaseException] = []
        self.error: Optional[RecordingFileError] = None
        self.sink: Optional[PageSink] = None
        self.options = {'split_frames': SPLIT, 'level': 1, 'sync_interval_s': 0.0, 'about': {'settings': {'a': 1}},
                        'threads': 1, **options}

    def run(self) -> 'Recording':
        try:
            self.sink = PageSink(self.path, height=SHAPE[0], width=SHAPE[1], pixel_format='bgr', waits=True,
                                 on_written=self.written.extend, on_error=self.errors.append, **self.options)
        except RecordingFileError as error:
            self.error = error
            return self
        for number in range(self.pages):
            self.sink.submit(PageJob(picture(number), PageRecord(number, 10**18 + number * 1000), number))
        try:
            self.sink.finish(self.describe)
        except RecordingFileError as error:
            self.error = error
        return self

    def describe(self, info: Any) -> Mapping[str, Any]:
        return {'report': {'written': len(self.written), 'failed': bool(self.errors)}}


def judge(recording: Recording, disk: BadDisk) -> Tuple[int, List[str]]:
    """Pages that can be read, and from which files. Every one of them is whole, and in its place."""
    pages, files = readable(recording.path)
    numbers: List[int] = []
    for file in files:
        with RecordingFile(file) as opened:
            for page in range(opened.pages):
                assert opened.verify_page(page)
                numbers.append(opened.page_record(page).index)
                np.testing.assert_array_equal(opened.read_page(page), picture(numbers[-1]))
            assert opened.pages >= disk.synced.get(file, 0)
            if 'report' in opened.annotations:
                assert opened.annotations['report']['written'] == len(recording.written) == pages
                failed = opened.annotations['report']['failed']
                # The very last sync can fail when nothing can be taken back any more.
                assert failed == (recording.error is not None) or (disk.for_good and disk.name == 'fdatasync')
    assert len(numbers) == pages and numbers == sorted(set(numbers))
    # Only what a failed sync left open may be missing before the last page, and only to the chain.
    assert numbers == list(range(pages)) or disk.name == 'fdatasync'
    assert set(os.listdir(recording.path.parent)) >= {Path(file).name for file in files}
    return pages, files


@pytest.fixture(autouse=True)
def blocks_of_the_index_come_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, 'PAGES_A_BLOCK', 4)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = len(os.listdir('/proc/self/fd'))
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith('ppr-')] == []
    assert len(os.listdir('/proc/self/fd')) <= before


def count_calls(folder: Path) -> Dict[str, int]:
    """How many calls of each kind a healthy recording makes; the syncs' number depends on time."""
    disk = BadDisk(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        disk.patch(monkeypatch)
        healthy = Recording(folder / 'healthy.tif').run()
    assert healthy.error is None and judge(healthy, disk)[0] == PAGES
    return disk.counts


KINDS = [pytest.param(name, for_good, code, id=f'{name}-{"for good" if for_good else "once"}-{errno.errorcode[code]}',
                      marks=[pytest.mark.slow] if code == errno.ENOSPC and name != 'pwritev' else [])
         for name in CALLS for for_good in (False, True) for code in (errno.EIO, errno.ENOSPC)]


@pytest.mark.parametrize('name, for_good, code', KINDS)
def test_a_failure_at_every_call(tmp_path: Path, name: str, for_good: bool, code: int) -> None:
    calls = count_calls(tmp_path)[name]
    assert calls or name == 'ftruncate'       # which only a failure leads to
    for at in range(calls + 1):
        folder = tmp_path / f'{at}'
        folder.mkdir()
        disk = BadDisk(folder, name, at, for_good, code)
        with pytest.MonkeyPatch.context() as monkeypatch:
            disk.patch(monkeypatch)
            recording = Recording(folder / 'a.tif').run()
        pages, files = judge(recording, disk)
        written = len(recording.written)
        if not disk.fired or name in ('close', 'ftruncate'):
            assert recording.error is None and pages == PAGES
            continue
        if recording.error is None:
            # A link was written a little later, or what was too much at once fitted page by page.
            assert name == 'pwritev' and not for_good and pages == PAGES
            continue
        assert recording.error is not None and os.strerror(code) in str(recording.error)
        assert len(recording.errors) == (recording.sink is not None)
        if not for_good and name != 'fdatasync':
            assert pages == written          # whatever the kernel had taken is reachable
            assert recording.sink is None or not recording.sink.unfinished
            assert {Path(file).name for file in files} == set(os.listdir(folder))
        assert pages <= written <= PAGES

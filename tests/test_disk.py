"""The disk is watched: a recording is ended and finished before its disk is full, and what is shown of it is true."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator, List, Optional, Tuple

import pytest
from disk_kit import CannotMount, pretend_disk, pretend_figures, small_tmpfs
from recording_tools import paced, recorder, run_script, wait_until
from rich.console import Console

from ProcessedPiRecorder import errors
from ProcessedPiRecorder.cli.progress import disk_left, roughly
from ProcessedPiRecorder.cli.record import exit_code
from ProcessedPiRecorder.cli.verdict import headline
from ProcessedPiRecorder.recordings import space
from ProcessedPiRecorder.recordings.reader import RecordingFile
from ProcessedPiRecorder.recordings.space import Room, Shortage, SpaceWatch, refuse_full_disk, reserve_bytes, room_at
from ProcessedPiRecorder.report import Report

BIG = {'x_resolution': 320, 'y_resolution': 240, 'framerate': 60, 'tif_compression': 0, 'ring_frames': 16}
PAGE = 320 * 240 * 3


# ---------------------------------------------------------------- the watch by itself

class Watched:
    """A watch over a pretended disk, and what it said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, reserve_mb: Optional[float], in_flight: int = 0) -> None:
        self.now = 100.0
        monkeypatch.setattr(space.time, 'monotonic', lambda: self.now)
        self.looks: List[Tuple[int, Optional[float]]] = []
        self.short: List[Shortage] = []
        self.blind = 0
        self.watch = SpaceWatch(reserve_mb, frame_bytes=10**5, framerate=10.0, in_flight=lambda: in_flight,
                                annotation_bytes=lambda: 0, on_look=lambda free, left: self.looks.append((free, left)),
                                on_short=self.short.append, on_blind=self._on_blind)

    def _on_blind(self) -> None:
        self.blind += 1

    def look(self, free: int, size: int, total: int = 10**12) -> None:
        self.watch.look(Room(free, total), size, 0)


def test_the_reserve() -> None:
    assert reserve_bytes(None, 10**9) == 200_000_000 and reserve_bytes(None, 10**12) == 10**10
    assert reserve_bytes(0, 10**12) == 0 and reserve_bytes(1.5, 10**12) == 1_500_000


def test_a_recording_is_ended_once_when_what_is_needed_would_touch_the_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Watched(monkeypatch, 100.0, in_flight=20)
    for step in range(12):                 # 10 MB/s
        disk.now += 1
        disk.look(200_000_000 - step * 10_000_000, step * 10_000_000)
    shortage, = disk.short
    # 20 frames of 0.1 MB, a second of 10 MB, and the margin
    assert shortage.free == 110_000_000 and shortage.reserve == 100_000_000
    assert 12_000_000 < shortage.needed < 15_000_000 and '100 MB are to stay free' in str(shortage)
    lefts = [left for _, left in disk.looks]
    assert lefts[0] is None and lefts[1] == pytest.approx(7.7, abs=0.3) and lefts[-1] == 0.0


def test_without_a_reserve_the_disk_may_be_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Watched(monkeypatch, 0.0)
    disk.look(10**6, 0)
    disk.now += 1
    disk.look(0, 10**6)
    assert not disk.short and disk.looks[-1] == (0, 0.0)


def test_other_programs_on_the_disk_count(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Watched(monkeypatch, 100.0)
    disk.look(300_000_000, 0)
    disk.now += 2
    disk.look(200_000_000, 1_000_000)      # 50 MB/s are going, of which 0.5 are ours
    assert disk.looks[-1][1] == pytest.approx(1.0, abs=0.1)


def test_it_is_looked_at_sooner_the_less_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Watched(monkeypatch, 100.0)
    assert disk.watch.due(0)
    disk.look(160_000_000, 0)
    assert not disk.watch.due(10_000_000) and disk.watch.due(15_000_000)
    disk.look(104_000_000, 50_000_000)
    assert not disk.watch.due(50_100_000) and disk.watch.due(51_000_000)
    disk.now += space.LOOK_S
    assert disk.watch.due(50_000_001)


@pytest.mark.parametrize('figures', [(0, 0), (10, 5), (-1, 100)])
def test_figures_that_cannot_be_end_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                            figures: Tuple[int, int]) -> None:
    free, total = figures
    disk = Watched(monkeypatch, 100.0)
    pretend_figures(monkeypatch, lambda: SimpleNamespace(f_frsize=1, f_blocks=total, f_bavail=free))
    assert room_at(tmp_path) is None
    for _ in range(3):
        disk.watch.look(room_at(tmp_path), 0, 0)
    assert disk.blind == 1 and not disk.short
    refuse_full_disk(tmp_path / 'a.tif', None, 10**9, False)


def test_a_file_system_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise OSError(38, 'Function not implemented')
    pretend_figures(monkeypatch, broken)
    assert room_at(0) is None


# ---------------------------------------------------------------- before the start

def test_a_disk_without_room_for_a_second_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.RecordingFileError, match='stay free.*disk_reserve_mb=100000000.*Make room'):
        recorder(tmp_path / 'a.tif', disk_reserve_mb=1e8)
    pretend_disk(monkeypatch, tmp_path, 210_000_000)
    with pytest.raises(errors.RecordingFileError, match='1 % of the disk and 200 MB.*a second of frames'):
        recorder(tmp_path / 'a.tif', **BIG)
    recorder(tmp_path / 'a.tif', **BIG, disk_reserve_mb=100)
    recorder(tmp_path / 'a.tif', **BIG, disk_reserve_mb=0)
    with pytest.raises(errors.RecordingFileError, match='stay free') as unknown:
        recorder(tmp_path / 'a.tif', x_resolution=0, y_resolution=0, framerate=0, disk_reserve_mb=300)
    assert 'a second of frames' not in str(unknown.value)
    recorder(None, write_vid=False, callback=lambda buffer, cb_queue: None)


def test_what_is_overwritten_counts_as_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'a.tif'
    path.write_bytes(b'x' * 50_000_000)
    pretend_disk(monkeypatch, tmp_path, 60_000_000)
    recorder(path, **BIG, disk_reserve_mb=20, overwrite=True)
    os.link(path, tmp_path / 'kept')
    with pytest.raises(errors.RecordingFileError, match='has only'):
        recorder(path, **BIG, disk_reserve_mb=20, overwrite=True)


def test_the_size_that_the_camera_grants_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not known before the camera is open; and then nothing is left behind."""
    rec = recorder(tmp_path / 'a.tif', x_resolution=0, y_resolution=0, framerate=0, disk_reserve_mb=1)
    pretend_disk(monkeypatch, tmp_path, 3_000_000)
    with pytest.raises(errors.RecordingFileError, match='a second of frames'):
        rec.recordVid()
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------- while it records

def assert_finished(path: Path, pages: int) -> None:
    with RecordingFile(path) as file:
        assert file.finished and file.pages == pages and all(map(file.verify_page, range(pages)))
        assert file.annotations['report']['written'] == pages


def test_a_recording_ends_before_its_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_disk(monkeypatch, tmp_path, 50_000_000)
    rec = recorder(tmp_path / 'a.tif', **BIG, disk_reserve_mb=5, blocking=False, controls=paced(), rec_length=60)
    rec.recordVid()
    status = wait_until(lambda: rec.status().disk_left_s is not None and rec.status())
    assert 0 <= status.disk_left_s < 4 and 5_000_000 < status.disk_free_bytes < 50_000_000
    with pytest.warns(errors.RecorderWarning, match='nearly full: .* MB are free, .* 5 MB are to stay free.*seconds'):
        report = rec.wait(30)
    assert report.stopped == 'disk nearly full' and report.complete == 'yes', report
    assert report.captured == report.written > 20
    assert len(report.warnings) == 1 and 'disk_reserve_mb' in report.warnings[0]
    assert (tmp_path / 'a.tif').stat().st_size < 45_000_000
    assert_finished(tmp_path / 'a.tif', report.written)
    assert exit_code(report, None) == 1


def test_a_disk_that_does_not_tell_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_figures(monkeypatch, lambda: SimpleNamespace(f_frsize=0, f_blocks=0, f_bavail=0))
    with pytest.warns(errors.RecorderWarning, match='does not tell how much room') as told:
        report = recorder(tmp_path / 'a.tif').recordVid()
    assert report.complete == 'yes' and len(told) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    try:
        with small_tmpfs(tmp_path, 40) as folder:
            yield folder
    except CannotMount as error:
        pytest.skip(f'no small disk can be had: {error}')


def test_the_reserve_of_a_real_disk_is_not_touched(small_disk: Path) -> None:
    """A source that is as fast as it can be, with the ring full all the time."""
    rec = recorder(small_disk / 'a.tif', **BIG, disk_reserve_mb=5, controls={'frames': None})
    with pytest.warns(errors.RecorderWarning, match='nearly full'):
        report = rec.recordVid()
    assert (report.complete, report.stopped) == ('yes', 'disk nearly full') and report.written > 20
    assert shutil.disk_usage(small_disk).free >= 5_000_000
    assert_finished(small_disk / 'a.tif', report.written)


def test_a_real_disk_runs_full(small_disk: Path) -> None:
    rec = recorder(small_disk / 'a.tif', **BIG, disk_reserve_mb=0, controls={'frames': None}, split_frames=37)
    with pytest.raises(errors.RecordingFileError, match='No space left.*make room.*captured frames are in the file'):
        rec.recordVid()
    report = rec.report
    assert (report.complete, report.stopped) == ('no', 'file error')
    assert 160 < report.written < report.captured
    files = [RecordingFile(name) for name in report.files]
    assert sum(file.pages for file in files) == report.written and all(file.finished for file in files[:-1])
    assert sorted(os.listdir(small_disk)) == sorted(Path(name).name for name in report.files)
    for file in files:
        file.close()


def test_the_command_tells_that_it_was_ended_early(small_disk: Path) -> None:
    text = ('import sys\nfrom ProcessedPiRecorder.cli import main\n'
            f'sys.argv = ["ppr", "record", {str(small_disk / "a.tif")!r}, "-c", "synthetic", "--size", "320x240", '
            '"--fps", "100", "-z", "0", "--seconds", "30", "--ring-frames", "16", "--disk-reserve-mb", "10", '
            '"--no-display"]\nsys.exit(main())\n')
    process = run_script(text, small_disk.parent)
    out = ' '.join(process.out.split())    # type: ignore[attr-defined]
    assert process.returncode == 1, process.err   # type: ignore[attr-defined]
    assert 'ENDED EARLY' in out and 'because the disk is nearly full' in out and 'COMPLETE' in out
    assert 'nearly full' in process.err    # type: ignore[attr-defined]


# ---------------------------------------------------------------- taken away

def test_a_folder_that_is_renamed_takes_the_recording_along(tmp_path: Path) -> None:
    folder = tmp_path / 'before'
    folder.mkdir()
    rec = recorder(folder / 'a.tif', blocking=False, controls=paced())
    rec.recordVid()
    wait_until(lambda: rec.status().written > 5)
    folder.rename(tmp_path / 'after')
    with pytest.raises(errors.RecordingFileError, match=r'was moved.*after/a\.tif'):
        rec.stopVid()
    assert rec.report.complete == 'no' and rec.report.files == [str(tmp_path / 'after' / 'a.tif')]
    assert rec.report.written == rec.report.captured
    assert_finished(tmp_path / 'after' / 'a.tif', rec.report.written)


def test_a_disk_that_is_unmounted_is_noticed(small_disk: Path) -> None:
    rec = recorder(small_disk / 'a.tif', blocking=False, controls=paced(), disk_reserve_mb=1)
    rec.recordVid()
    wait_until(lambda: rec.status().written > 5)
    subprocess.run(['umount', '-l', str(small_disk)], check=True, timeout=30)
    with pytest.raises(errors.RecordingFileError, match='unmounted'):
        rec.stopVid()
    assert rec.report.complete == 'no' and (rec.report.written, rec.report.files) == (0, [])


# ---------------------------------------------------------------- what is shown

def live(**changes: Any) -> Any:
    return SimpleNamespace(**{'disk_free_bytes': 10**10, 'disk_left_s': 2460.0, 'elapsed_s': 60.0,
                              'bytes_written': 10**9, **changes})


def test_what_is_shown_of_the_disk() -> None:
    assert disk_left(live()) == 'disk: 41 min left (10 GB free)'
    assert disk_left(live(), 600, markup=True) == 'disk: 41 min left (10 GB free)'
    assert disk_left(live(disk_left_s=299.0), markup=True) == '[bold red]disk: 4 min left[/] (10 GB free)'
    assert disk_left(live(), 3600, markup=True) == \
        '[bold red]disk: 41 min left, not enough for the remaining 59:00 min[/] (10 GB free)'
    assert disk_left(live(disk_left_s=None)) == '10 GB free'
    assert disk_left(live(disk_free_bytes=None)) == 'room on the disk unknown'
    assert disk_left(live(disk_free_bytes=None, bytes_written=0)) == 'no file'


@pytest.mark.parametrize('seconds, text', [(0, '0 s'), (59.9, '59 s'), (125, '2 min'), (7100, '118 min'),
                                           (8000, '2.2 h'), (40_000, '11 h'), (10**6, '11 days'),
                                           (10**8, 'over 99 days')])
def test_roughly(seconds: float, text: str) -> None:
    assert roughly(seconds) == text


@pytest.mark.parametrize('complete', ['yes', 'no', 'unknown'])
def test_the_verdict_says_first_that_it_was_ended_early(complete: str) -> None:
    console = Console(width=100, file=open(os.devnull, 'w'), record=True)
    report = Report(complete, captured=10, written=10, sensor=10, duration_s=90.0, stopped='disk nearly full')
    console.print(headline(report))
    console.file.close()
    text = console.export_text()
    assert 'ENDED EARLY' in text and text.index('ENDED EARLY') < text.index('10 frames')
    assert '1:30 min' in text and exit_code(report, None) == 1


def test_the_live_figures_ask_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs would hold up whoever looks."""
    with recorder(tmp_path / 'a.tif', blocking=False, controls=paced()) as rec:
        rec.recordVid()
        wait_until(lambda: rec.status().disk_free_bytes)
        monkeypatch.setattr(os, 'statvfs', lambda place: time.sleep(60))
        assert rec.status().disk_free_bytes > 0

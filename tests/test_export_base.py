"""Exports are whole or not there at all, whatever happens; and they begin and end where they were told to."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import numpy as np
import pytest
import tifffile
from disk_kit import CannotMount, mounted, small_tmpfs
from recording_tools import recorder, run_script, wait_until

from ProcessedPiRecorder import open_recording
from ProcessedPiRecorder.errors import ExportCancelled, ExportError
from ProcessedPiRecorder.exports import FORMATS, export, whole
from ProcessedPiRecorder.exports.base import chosen_pages, each_frame, each_made, refuse_own_files, stored_bytes
from ProcessedPiRecorder.exports.range import index_range, page_range, parse_place
from ProcessedPiRecorder.exports.whole import whole_file, whole_files, whole_folder
from ProcessedPiRecorder.reading import Recording
from ProcessedPiRecorder.recordings import workfolder
from ProcessedPiRecorder.recordings.space import Room

LOST = (3, 4, 10)


@pytest.fixture(scope='module')
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """27 of 30 frames at 100 Hz, with results."""
    path = tmp_path_factory.mktemp('recorded') / 'trial.tif'

    def callback(buffer: Any, cb_queue: Any) -> None:
        cb_queue.put(buffer[-1].index)
    with recorder(path, callback=callback, controls={'skip': LOST}, log_file=str(path.with_suffix('.csv'))) as rec:
        rec.recordVid()
    with open_recording(path) as recording:
        yield recording


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / 'exports'
    folder.mkdir()
    return folder


def names(folder: Path) -> List[str]:
    return sorted(os.listdir(folder))


def make(target: Path, text: str = 'new', **options: Any) -> None:
    with whole_file(target, **options) as part:
        part.write_text(text)


# ---------------------------------------------------------------------- whole, or not at all

def test_a_file_takes_its_name_when_it_is_whole(here: Path) -> None:
    with whole_file(here / 'a.mp4') as part:
        part.write_text('half')
        assert not (here / 'a.mp4').exists()
        assert part.name == 'a.mp4' and part.stat().st_dev == here.stat().st_dev
    assert names(here) == ['a.mp4'] and (here / 'a.mp4').read_text() == 'half'


@pytest.mark.parametrize('error', [ValueError('x'), ExportCancelled('x'), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize('overwrite', [False, True])
def test_nothing_is_left_of_what_failed(here: Path, error: BaseException, overwrite: bool) -> None:
    if overwrite:
        (here / 'a.mp4').write_text('old')
    with pytest.raises(type(error)), whole_file(here / 'a.mp4', overwrite=overwrite) as part:
        part.write_text('half')
        (part.parent / 'what a library left').mkdir()
        raise error
    assert names(here) == (['a.mp4'] if overwrite else [])
    assert not overwrite or (here / 'a.mp4').read_text() == 'old'


def test_ctrl_c_while_it_is_written_leaves_nothing(here: Path) -> None:
    with pytest.raises(KeyboardInterrupt), whole_file(here / 'a.mp4') as part:
        part.write_text('half')
        signal.raise_signal(signal.SIGINT)
    assert names(here) == []


def test_ctrl_c_while_it_takes_its_name_comes_too_late(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def interrupted(*paths: Any) -> None:
        link(*paths)
        signal.raise_signal(signal.SIGINT)
    monkeypatch.setattr(os, 'link', interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(here / 'a.mp4')
    assert names(here) == ['a.mp4'] and (here / 'a.mp4').read_text() == 'new'


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_killed_process_leaves_no_file_under_the_final_name(here: Path, number: int) -> None:
    process = run_script(f'''
import signal, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from ProcessedPiRecorder.exports.whole import whole_file
with whole_file({str(here / 'a.mp4')!r}) as part:
    part.write_text('half')
    print('writing', flush=True)
    time.sleep(30)
''', here.parent, wait=False)
    assert process.stdout is not None and process.stdout.readline() == 'writing\n'
    with pytest.raises(ExportError, match='being exported by another process; wait for it, or choose another name'):
        make(here / 'a.mp4')
    os.kill(process.pid, number)
    process.communicate(timeout=20)
    assert process.returncode == -number                # as it would have ended without us
    if number == signal.SIGKILL:
        assert names(here) == ['.a.mp4.part'] and names(here / '.a.mp4.part') == ['.lock', 'a.mp4']
    else:
        assert names(here) == []
    make(here / 'a.mp4')
    assert names(here) == ['a.mp4'] and (here / 'a.mp4').read_text() == 'new'


def test_two_threads_do_not_write_over_each_other(here: Path) -> None:
    errors: List[BaseException] = []

    def second() -> None:
        try:
            make(here / 'a.mp4')
        except ExportError as error:
            errors.append(error)
    with whole_file(here / 'a.mp4') as part:
        part.write_text('first')
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(errors) == 1 and (here / 'a.mp4').read_text() == 'first'


def test_what_a_killed_export_left_stays_where_there_are_no_locks_to_tell(here: Path, monkeypatch: pytest.MonkeyPatch
                                                                          ) -> None:
    def no_locks(*arguments: Any) -> None:
        raise OSError(errno.ENOLCK, 'No locks available')
    monkeypatch.setattr(workfolder.fcntl, 'flock', no_locks)
    make(here / 'a.mp4')
    (here / '.a.mp4.part').mkdir()
    with pytest.raises(ExportError, match='no locks that would tell. Remove the folder if none is'):
        make(here / 'a.mp4', overwrite=True)
    assert names(here) == ['.a.mp4.part', 'a.mp4']


def test_what_a_network_file_system_keeps_until_it_is_closed_does_not_spoil_the_export(
        here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink = os.unlink

    def busy(path: Any, **options: Any) -> None:
        if '.nfs' in os.fspath(path):
            raise OSError(errno.EBUSY, 'Device or resource busy')
        unlink(path, **options)
    monkeypatch.setattr(os, 'unlink', busy)
    with whole_file(here / 'a.mp4') as part:
        part.write_text('new')
        part.with_name('.nfs0001').touch()
    assert (here / 'a.mp4').read_text() == 'new' and names(here / '.a.mp4.part') == ['.nfs0001']
    make(here / 'a.mp4', 'newer', overwrite=True)
    assert (here / 'a.mp4').read_text() == 'newer'


@pytest.mark.parametrize('kind', ['file', 'link'])
def test_something_in_the_way_is_not_removed(here: Path, kind: str) -> None:
    other = here.parent / 'other'
    other.mkdir()
    (other / 'precious').write_text('x')
    (here / '.a.mp4.part').symlink_to(other) if kind == 'link' else (here / '.a.mp4.part').write_text('x')
    with pytest.raises(ExportError, match='in the way'):
        make(here / 'a.mp4')
    assert (other / 'precious').exists() and names(here) == ['.a.mp4.part']


# ---------------------------------------------------------------------- the target

def test_an_existing_file_stays_unless_it_is_to_be_replaced(here: Path) -> None:
    make(here / 'a.mp4', 'old')
    with pytest.raises(ExportError, match='exists already; choose another name, or pass overwrite=True'):
        make(here / 'a.mp4')
    assert (here / 'a.mp4').read_text() == 'old'
    make(here / 'a.mp4', overwrite=True)
    assert (here / 'a.mp4').read_text() == 'new' and names(here) == ['a.mp4']


@pytest.mark.parametrize('links', [True, False])
def test_a_file_that_came_to_be_meanwhile_is_not_replaced(here: Path, monkeypatch: pytest.MonkeyPatch, links: bool
                                                          ) -> None:
    if not links:
        monkeypatch.setattr(os, 'link', without_links)
    with pytest.raises(ExportError, match='came to be while it was exported'), whole_file(here / 'a.mp4') as part:
        part.write_text('new')
        (here / 'a.mp4').write_text('theirs')
    assert (here / 'a.mp4').read_text() == 'theirs' and names(here) == ['a.mp4']


def without_links(*paths: Any) -> None:
    raise OSError(errno.EPERM, 'Operation not permitted')


@pytest.mark.parametrize('overwrite', [False, True])
def test_file_systems_without_hard_links(here: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool) -> None:
    monkeypatch.setattr(os, 'link', without_links)
    if overwrite:
        (here / 'a.mp4').write_text('old')
    make(here / 'a.mp4', overwrite=overwrite)
    assert names(here) == ['a.mp4'] and (here / 'a.mp4').read_text() == 'new'


def test_places_where_nothing_can_be_made(here: Path) -> None:
    (here / 'folder').mkdir()
    (here / 'file').write_text('x')
    for target, message in ((here / 'nowhere/a.mp4', 'not a folder that exists; make it first'),
                            (here / 'file/a.mp4', 'not a folder that exists'), (Path('/'), 'names no file'),
                            (here / ('x' * 256), 'cannot be written: File name too long')):
        with pytest.raises(ExportError, match=message):
            make(target)
    for overwrite in (False, True):
        with pytest.raises(ExportError, match='folder is a folder; name a file' if overwrite else 'exists already'):
            make(here / 'folder', overwrite=overwrite)
    assert names(here) == ['file', 'folder']


def test_a_name_as_long_as_names_may_be(here: Path) -> None:
    make(here / ('x' * 255))
    assert names(here) == ['x' * 255]


def test_a_link_stays_a_link(here: Path) -> None:
    (here / 'elsewhere').mkdir()
    (here / 'elsewhere/real.mp4').write_text('old')
    (here / 'link.mp4').symlink_to(here / 'elsewhere/real.mp4')
    (here / 'dangling.mp4').symlink_to(here / 'elsewhere/none.mp4')
    for name in ('link.mp4', 'dangling.mp4'):
        with pytest.raises(ExportError, match='exists already'):
            make(here / name)
        make(here / name, overwrite=True)
        assert (here / name).is_symlink() and (here / name).read_text() == 'new'
    assert names(here / 'elsewhere') == ['none.mp4', 'real.mp4']


def test_the_recording_itself_is_never_the_target(recorded: Recording, here: Path) -> None:
    before = {path: path.read_bytes() for path in recorded.path.parent.iterdir()}
    assert len(before) == 3                              # frames, results, log
    for number, path in enumerate(before):
        (here / f'soft{number}.csv').symlink_to(path)
        os.link(path, here / f'hard{number}.csv')
        for target in (path, here / f'soft{number}.csv', here / f'hard{number}.csv'):
            for format in FORMATS:
                with pytest.raises(ExportError, match='a file of the recording itself'):
                    export(recorded, target, format, overwrite=True)
            with pytest.raises(ExportError, match='a file of the recording itself'):
                make(target, overwrite=True, recording=recorded)
    assert {path: path.read_bytes() for path in recorded.path.parent.iterdir()} == before
    refuse_own_files(recorded, here / 'another.csv')


# ---------------------------------------------------------------------- disks

@contextlib.contextmanager
def disk(context: Any) -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        try:
            point = stack.enter_context(context)
        except CannotMount as error:
            pytest.skip(f'no disk can be mounted here: {error}')
        yield point


def test_too_little_room_is_told_before(here: Path) -> None:
    with pytest.raises(ExportError, match=r'needs about 1,000,000.0 GB, and .* free; make room'):
        make(here / 'a.mp4', needs_bytes=10**15)
    assert names(here) == []


def test_a_disk_that_runs_full(here: Path) -> None:
    with disk(small_tmpfs(here, 2)) as point:
        with pytest.raises(ExportError, match=r'ran full while a.mp4 was written.*nothing is left of it. Make room'):
            with whole_file(point / 'a.mp4') as part:
                part.write_bytes(bytes(3_000_000))
        assert names(point) == []


def test_a_disk_that_cannot_be_written(here: Path) -> None:
    with disk(mounted(here, ['-t', 'tmpfs', '-o', 'ro', 'tmpfs'])) as point:
        with pytest.raises(ExportError, match='cannot be written: Read-only file system; choose another place'):
            make(point / 'a.mp4')


def test_fat_has_no_hard_links(here: Path) -> None:
    image = here.parent / 'image'
    image.write_bytes(bytes(4_000_000))
    try:
        subprocess.run(['mkfs.vfat', str(image)], check=True, capture_output=True, timeout=30)
    except OSError as error:
        pytest.skip(f'no FAT can be made here: {error}')
    with disk(mounted(here, ['-o', 'loop', str(image)])) as point:
        make(point / 'a.mp4')
        make(point / 'a.mp4', 'newer', overwrite=True)
        with pytest.raises(ExportError, match='exists already'):
            make(point / 'a.mp4')
        assert names(point) == ['a.mp4'] and (point / 'a.mp4').read_text() == 'newer'


def test_a_file_system_that_holds_small_files_only(here: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(ExportError, match='larger than the file system .* lets a file be'):
            with whole_file(here / 'a.mp4') as part:
                part.write_bytes(bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert names(here) == []


# ---------------------------------------------------------------------- several files, folders

def test_files_that_belong_together_come_together(here: Path) -> None:
    with whole_files([here / 'a.avi', here / 'a.csv']) as parts:
        for part in parts:
            part.write_text(part.name)
    assert [(here / name).read_text() for name in names(here)] == ['a.avi', 'a.csv']


@pytest.mark.parametrize('overwrite', [False, True])
def test_or_none_of_them_does(here: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool) -> None:
    if overwrite:
        (here / 'a.avi').write_text('old avi')
        (here / 'a.csv').write_text('old csv')
    with pytest.raises(ExportError), whole_files([here / 'a.avi', here / 'a.csv'], overwrite=overwrite) as parts:
        for part in parts:
            part.write_text('new')
        if overwrite:
            replace = os.replace
            monkeypatch.setattr(os, 'replace', lambda one, other: replace(one, other) if str(other).endswith('.csv')
                                else without_links())
        else:
            (here / 'a.avi').write_text('theirs')
    assert [(here / name).read_text() for name in names(here)] == (['old avi', 'old csv'] if overwrite else ['theirs'])


def test_one_that_was_not_written_is_an_error(here: Path) -> None:
    with pytest.raises(ExportError, match='No such file'), whole_files([here / 'a.avi', here / 'a.csv']) as parts:
        parts[1].write_text('x')
    assert names(here) == []


def test_an_option_that_is_not_there_is_told(here: Path, recorded: Recording) -> None:
    with pytest.raises(ExportError, match='csv takes no foo; it takes what, start, stop, every, overwrite, progress'):
        export(recorded, here / 'a.csv', foo=1)
    assert names(here) == []


def test_errors_name_what_was_asked_for(here: Path, recorded: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / 'a.csv').write_text('theirs')
    with pytest.raises(ExportError, match=r'a\.csv exists already, and is made beside a\.avi; choose'):
        with whole_files([here / 'a.avi', here / 'a.csv']):
            pass
    with pytest.raises(ExportError, match=rf'^{recorded.path} is a file of the recording itself'):
        refuse_own_files(recorded, recorded.path)
    link = here / 'link.tif'
    link.symlink_to(recorded.path)
    with pytest.raises(ExportError, match=rf'^{link} is {recorded.path}, a file of the recording itself'):
        refuse_own_files(recorded, link)
    monkeypatch.setattr(whole, 'room_at', lambda folder: Room(2000, 10**9))
    with pytest.raises(ExportError, match=rf'^{here}/a\.mp4 needs about 1\.0 MB, and {here} has 2 kB free'):
        whole._require_room(here / '.a.nwb.part' / 'a.mp4', 1000)


def test_files_that_belong_together_stand_together(here: Path) -> None:
    with pytest.raises(ExportError, match='in the same folder'), whole_files([here / 'a', here.parent / 'b']):
        pass


def fill(target: Path, *filenames: str, **options: Any) -> None:
    with whole_folder(target, may_replace=lambda name: name.endswith('.png'), **options) as part:
        for name in filenames:
            (part / name).write_text(name)


def test_a_folder_comes_whole_too(here: Path) -> None:
    fill(here / 'frames', '1.png', '2.png')
    with pytest.raises(ExportError, match='exists already'):
        fill(here / 'frames', '3.png')
    with pytest.raises(ValueError), whole_folder(here / 'frames', may_replace=bool, overwrite=True) as part:
        (part / '3.png').write_text('half')
        raise ValueError
    assert names(here / 'frames') == ['1.png', '2.png']
    fill(here / 'frames', '3.png', overwrite=True)
    assert names(here) == ['frames'] and names(here / 'frames') == ['3.png']


def test_a_folder_with_other_things_in_it_is_never_replaced(here: Path) -> None:
    fill(here / 'frames', '1.png')
    (here / 'frames/thesis.doc').write_text('precious')
    with pytest.raises(ExportError, match=r'holds what no such export made \(thesis.doc\).*choose another name'):
        fill(here / 'frames', '2.png', overwrite=True)
    (here / 'file').write_text('precious')
    with pytest.raises(ExportError, match='is a file, and a folder is to be made'):
        fill(here / 'file', '2.png', overwrite=True)
    assert names(here) == ['file', 'frames'] and names(here / 'frames') == ['1.png', 'thesis.doc']


@pytest.mark.parametrize('theirs', ['a file', 'a folder'])
def test_what_came_to_be_in_a_folders_place_stays(here: Path, theirs: str) -> None:
    with pytest.raises(ExportError, match='came to be while'), whole_folder(here / 'f', may_replace=bool) as part:
        (part / 'x').write_text('x')
        (here / 'f').write_text('theirs') if theirs == 'a file' else (here / 'f').mkdir()
    assert names(here) == ['f'] and ((here / 'f').is_file() or names(here / 'f') == [])


@pytest.mark.parametrize('theirs', ['in it', 'in its place'])
def test_what_came_into_an_older_folder_meanwhile_stays(here: Path, theirs: str) -> None:
    fill(here / 'frames', '1.png')
    with pytest.raises(ExportError, match=r'holds what no such .*notes\.txt|is a file, and a folder'), \
            whole_folder(here / 'frames', may_replace=lambda name: name.endswith('.png'), overwrite=True) as part:
        (part / '2.png').write_text('new')
        if theirs == 'in its place':
            (here / 'frames').rename(here / 'moved')
        (here / ('frames' if theirs == 'in its place' else 'frames/notes.txt')).write_text('precious')
    assert names(here) == ['frames'] + ['moved'] * (theirs == 'in its place')
    assert (here / ('frames' if theirs == 'in its place' else 'frames/notes.txt')).read_text() == 'precious'


def test_a_folder_that_cannot_take_its_name_leaves_the_old_one(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(here / 'frames', '1.png')
    rename, calls = os.rename, []

    def failing(one: Any, other: Any) -> None:
        calls.append(one)
        if len(calls) == 2:
            raise OSError(errno.EIO, 'Input/output error')
        rename(one, other)
    monkeypatch.setattr(os, 'rename', failing)
    with pytest.raises(ExportError, match='Input/output error'):
        fill(here / 'frames', '2.png', overwrite=True)
    assert names(here) == ['frames'] and names(here / 'frames') == ['1.png']


# ---------------------------------------------------------------------- which frames

def test_pages_are_chosen_as_in_slices(recorded: Recording) -> None:
    assert chosen_pages(recorded) == range(27)
    assert chosen_pages(recorded, 5, -2, 4) == range(5, 25, 4)
    for start, stop in ((30, None), (5, 5), (9, 3)):
        with pytest.raises(ExportError, match=r'leaves? no frame of the 27 of trial.tif \(the last .* number 29, 0.29'):
            chosen_pages(recorded, start, stop)
    for every in (0, -1, 1.5, True):
        with pytest.raises(ExportError, match='is no step'):
            chosen_pages(recorded, every=every)          # type: ignore[arg-type]


def utc(time_ns: int) -> str:
    return f'{np.datetime64(time_ns, "ns")}Z'


def test_texts_are_places(recorded: Recording) -> None:
    indices, times = recorded.indices, recorded.times_ns
    assert indices is not None and times is not None
    assert list(indices[:10]) == [0, 1, 2, 5, 6, 7, 8, 9, 11, 12]
    for told, page in (('2', 2), ('3', 3), ('5', 3), ('10', 8), (11, 8), ('0s', 0), ('0.05s', 3), ('0.051 s', 4),
                       ('.02s', 2), (utc(int(times[7])), 7), (utc(int(times[7]) + 1), 8), (utc(int(times[0]) - 1), 0)):
        assert page_range(recorded, told) == (page, 27), told
        assert page_range(recorded, None, told) == (0, page), told
        if page and isinstance(told, str):
            assert chosen_pages(recorded, told) == range(page, 27) and chosen_pages(recorded, 0, told) == range(page)
    assert index_range(recorded) == (0, 30)
    assert index_range(recorded, '3', '10') == (3, 10)      # lost ones stay what they are
    assert index_range(recorded, '0.03s', '100s') == (5, 30)
    assert page_range(recorded, '1000', '99999999s') == (27, 27)
    assert page_range(recorded, '0001-01-01T00:00+23:59', '9999-12-31') == (0, 27)
    with pytest.raises(ExportError, match='leaves? no frame'):
        chosen_pages(recorded, '3', '5')


def test_times_of_day(recorded: Recording) -> None:
    want = 1_772_366_400_250_000_000
    for text in ('2026-03-01T12:00:00.25Z', '2026-03-01 12:00:00.25', '2026-03-01T13:00:00.250000000+01:00',
                 '2026-03-01T07:30:00,25-0430'):
        assert parse_place(text).time_ns == want, text
    assert parse_place('2026-03-01').time_ns == want - 43_200_250_000_000
    assert parse_place('2026-03-01T12:00Z').time_ns == want - 250_000_000
    assert parse_place('2026-03-01T12:00:00.123456789Z').time_ns == want - 126_543_211
    assert parse_place('1.5s').after_ns == 1_500_000_000 and parse_place('7').index == 7


@pytest.mark.parametrize('told', ['', 'x', '-1', '-1s', '1m', '1e3s', 's', '.s', '2026-13-01', '2026-03-01T25:00',
                                  '12:00', '2026-03-01T12:00:00.1234567890', '1' * 19, '１２'])
def test_places_that_are_none(told: str) -> None:
    with pytest.raises(ExportError, match="start='.*' is (not understood|no time that there is)"):
        parse_place(told)


@pytest.mark.parametrize('told', [-1, True, 1.5, None])
def test_and_other_things_that_are_none(told: Any) -> None:
    with pytest.raises(ExportError, match='stop='):
        parse_place(told, 'stop')


def test_other_tiffs_have_frames_numbers_only(here: Path) -> None:
    tifffile.imwrite(here / 'foreign.tif', np.zeros((5, 8, 9), np.uint8), photometric='minisblack')
    with open_recording(here / 'foreign.tif') as foreign:
        assert page_range(foreign, '2', '99') == (2, 5) and index_range(foreign, '2', '99') == (2, 99)
        for told in ('1s', '2026-03-01'):
            with pytest.raises(ExportError, match='start: foreign.tif has no times .* number of a frame, 0 to 4'):
                page_range(foreign, told)


# ---------------------------------------------------------------------- reading ahead

def test_frames_come_in_order_with_their_progress(recorded: Recording) -> None:
    told: List[Tuple[int, int]] = []
    frames = list(each_frame(recorded, range(2, 20, 3), lambda done, total: told.append((done, total))))
    assert [frame.index for frame in frames] == list(recorded.indices[2:20:3])      # type: ignore[index]
    assert told == [(done, 6) for done in range(7)]


def test_what_is_made_in_threads_comes_in_order_and_ends_with_the_one_who_takes_it(recorded: Recording) -> None:
    threads = set()

    def of(page: int, frame: Any) -> Tuple[int, int]:
        threads.add(threading.current_thread().name)
        return page, frame.index
    pages = range(1, 27, 2)
    made = each_made(recorded, pages, of)
    assert list(made) == [(page, recorded.indices[page]) for page in pages]         # type: ignore[index]
    assert threads and all(name.startswith('ppr-read') for name in threads)
    early = each_made(recorded, range(27), of)
    next(early)
    early.close()                                       # type: ignore[attr-defined]
    wait_until(lambda: not any(thread.name.startswith('ppr-read') for thread in threading.enumerate()))


def test_only_compressed_pages_tell_how_much_room_others_need(recorded: Recording, here: Path) -> None:
    size = recorded.path.stat().st_size
    assert stored_bytes(recorded, range(27)) == size and stored_bytes(recorded, range(0, 27, 3)) == size * 9 // 27
    with recorder(here / 'bare.tif', tif_compression=0) as rec:
        rec.recordVid()
    with open_recording(here / 'bare.tif') as bare:
        assert stored_bytes(bare, range(30)) == 0


def test_progress_may_cancel(recorded: Recording, here: Path) -> None:
    def cancel(done: int, total: int) -> None:
        if done == 5:
            raise ExportCancelled('enough')
    with pytest.raises(ExportCancelled, match='enough'):
        export(recorded, here / 'frames', progress=cancel)
    assert names(here) == []


def test_a_name_that_tells_no_format(recorded: Recording, here: Path) -> None:
    with pytest.raises(ExportError, match=r'does not tell a format that is known; end it in one of mp4 \(.mp4\)'):
        export(recorded, here / 'a.xyz')
    export(recorded, here / 'a.xyz', 'png')
    export(recorded.path, here / 'b', start='5', stop='9')
    assert names(here) == ['a.xyz', 'b'] and len(names(here / 'b')) == 5


@pytest.mark.parametrize('suffix', ['avi', 'png'])
def test_a_recording_that_is_renamed_meanwhile_is_exported_all_the_same(here: Path, suffix: str) -> None:
    if suffix == 'avi':
        pytest.importorskip('av')
    with recorder(here / 'old.tif', controls={'frames': 3}) as rec:
        rec.recordVid()
    with open_recording(here / 'old.tif') as opened:
        (here / 'old.tif').rename(here / 'new.tif')
        assert export(opened, here / f'made.{suffix}', suffix).frames == 3

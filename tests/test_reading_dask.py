"""to_dask(): the frames of a recording, read where they are computed, however that is done."""

from __future__ import annotations

import gc
import os
import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Iterator, List

import numpy as np
import pytest
import tifffile
from repair_kit import PAGES, cut_off, indices, picture, write

from ProcessedPiRecorder import open_recording
from ProcessedPiRecorder.errors import MissingExtraError, RecordingFileError, SettingsError
from ProcessedPiRecorder.reading import chunks
from ProcessedPiRecorder.reading import kept as keeping
from ProcessedPiRecorder.recordings.part import part_path

dask = pytest.importorskip('dask')
pytest.importorskip('dask.array')


def whole(channels: int = 3) -> np.ndarray:
    return np.stack([picture(index, channels) for index in indices(PAGES)])


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Recordings that this process keeps open; closed when the test ends."""
    mine = keeping._OpenRecordings()
    monkeypatch.setattr(keeping, '_open', mine)
    yield mine
    for one in mine._kept.values():
        assert one.users == 0
        one.recording.close()


@pytest.mark.parametrize('options', [{}, {'channels': 1}, {'split_frames': 7}, {'level': 0}],
                         ids=['bgr', 'gray', 'split', 'uncompressed'])
@pytest.mark.parametrize('chunk', [None, 1, 8, 1000])
def test_it_computes_the_frames(options: Any, chunk: Any, tmp_path: Path) -> None:
    write(tmp_path / 'a.tif', **options)
    array = whole(options.get('channels', 3))
    with open_recording(tmp_path / 'a.tif') as rec:
        lazy = rec.to_dask(chunk)
        assert lazy.shape == rec.shape and lazy.dtype == rec.dtype
        assert lazy.chunks[0] == {None: (PAGES,), 1: (1,) * PAGES, 8: (8, 8, 8, 6), 1000: (PAGES,)}[chunk]
        assert lazy.numblocks[1:] == (1,) * (rec.ndim - 1)
    for scheduler in ('synchronous', 'threads'):
        np.testing.assert_array_equal(lazy.compute(scheduler=scheduler), array)
    np.testing.assert_array_equal(lazy[3:20:2, 2:9].max(axis=0).compute(scheduler='threads'),
                                  array[3:20:2, 2:9].max(axis=0))


def test_it_is_cut_from_what_was_opened_when_the_working_folder_changes(tmp_path: Path,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / 'a.tif', split_frames=7)
    monkeypatch.chdir(tmp_path)
    with open_recording('a.tif') as rec:
        monkeypatch.chdir('/')
        lazy = rec.to_dask(8)
    np.testing.assert_array_equal(lazy.compute(scheduler='threads'), whole())


def test_a_chunk_is_about_64_mb(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif')
    with open_recording(tmp_path / 'a.tif') as rec, pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, 'CHUNK_BYTES', 10 * 720 + 50)
        assert rec.to_dask().chunks[0] == (10, 10, 10)
    assert chunks.CHUNK_BYTES == 64 * 1024 * 1024


def test_unfinished_and_foreign_ones_too(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif')
    cut_off(tmp_path / 'a.tif', keep=20)
    foreign = np.random.default_rng(0).integers(0, 60000, (9, 12, 20)).astype(np.uint16)
    tifffile.imwrite(tmp_path / 'b.tif', foreign)
    for name, array in (('a.tif', whole()[:20]), ('b.tif', foreign)):
        with open_recording(tmp_path / name) as rec:
            lazy = rec.to_dask(4)
        assert lazy.dtype == array.dtype
        np.testing.assert_array_equal(lazy.compute(scheduler='threads'), array)


@pytest.mark.parametrize('chunk', [0, -1, 1.5, 'auto', True])
def test_what_is_no_number_of_frames_is_refused(chunk: Any, tmp_path: Path) -> None:
    write(tmp_path / 'a.tif', 3)
    with open_recording(tmp_path / 'a.tif') as rec, pytest.raises(SettingsError, match='no number of frames'):
        rec.to_dask(chunk)


def test_without_dask_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, extra: str, purpose: str) -> Any:
        raise MissingExtraError(purpose, 'dask', extra)

    write(tmp_path / 'a.tif', 3)
    monkeypatch.setattr(chunks, 'require', missing)
    with open_recording(tmp_path / 'a.tif') as rec:
        with pytest.raises(MissingExtraError, match=r'to_dask\(\) needs .*ProcessedPiRecorder\[cluster\]'):
            rec.to_dask()


def test_other_processes_read_for_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask's own processes: nothing but the path and the pages goes there."""
    monkeypatch.chdir(tmp_path)
    write(Path('a.tif'), split_frames=7)
    with open_recording('a_001.tif') as rec:
        lazy = rec.to_dask(6)
    assert len(pickle.dumps(lazy)) < 20_000
    monkeypatch.chdir('/')
    mean = lazy.astype(float).mean(axis=(1, 2, 3)).compute(scheduler='processes', num_workers=2)
    np.testing.assert_allclose(mean, whole().mean(axis=(1, 2, 3)))


@pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::ResourceWarning', 'ignore::UserWarning')
def test_on_a_cluster(tmp_path: Path) -> None:
    distributed = pytest.importorskip('distributed')
    write(tmp_path / 'a.tif', split_frames=7)
    with open_recording(tmp_path / 'a.tif') as rec:
        lazy = rec.to_dask(4)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None,
                                  local_directory=str(tmp_path)) as cluster, distributed.Client(cluster) as client:
        np.testing.assert_array_equal(client.compute(lazy).result(30), whole())
        np.testing.assert_array_equal(client.compute(lazy[-5:].sum(axis=0)).result(30), whole()[-5:].sum(axis=0))


# ---------------------------------------------------------------- kept open, and not for too long

def opened_names(kept: Any) -> List[str]:
    return [Path(path).name for path in kept._kept]


def test_a_recording_is_opened_once_for_all_its_blocks(tmp_path: Path, kept: Any,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    opened: List[Any] = []
    plain = keeping._opened_anew
    monkeypatch.setattr(keeping, '_opened_anew', lambda opening: opened.append(opening) or plain(opening))
    write(tmp_path / 'a.tif')
    with open_recording(tmp_path / 'a.tif') as rec:
        lazy = rec.to_dask(1)
    for _ in range(2):
        np.testing.assert_array_equal(lazy.compute(scheduler='threads'), whole())
    assert len(opened) == 1


def test_few_stay_open(tmp_path: Path, kept: Any) -> None:
    before = len(os.listdir('/proc/self/fd'))
    lazies = []
    for number in range(keeping.MOST_OPEN + 3):
        write(tmp_path / f'{number}.tif', 3, lost=())
        with open_recording(tmp_path / f'{number}.tif') as rec:
            lazies.append(rec.to_dask(1))
    for lazy in lazies:
        lazy.compute(scheduler='synchronous')
    assert opened_names(kept) == [f'{number}.tif' for number in range(3, keeping.MOST_OPEN + 3)]
    lazies[3].compute(scheduler='synchronous')
    lazies[0].compute(scheduler='synchronous')
    assert '3.tif' in opened_names(kept) and '4.tif' not in opened_names(kept)      # the longest unused one had to go
    gc.collect()
    assert len(os.listdir('/proc/self/fd')) == before + keeping.MOST_OPEN


def test_who_reads_is_not_cut_off_when_others_take_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, 'MOST_OPEN', 1)
    openings = []
    for number in range(4):
        write(tmp_path / f'{number}.tif', 5, lost=())
        with open_recording(tmp_path / f'{number}.tif') as rec:
            openings.append(keeping.opening_of(rec))
    array = np.stack([picture(index) for index in range(5)])
    with keeping.kept_open(openings[0]) as first:
        with keeping.kept_open(openings[1]):
            np.testing.assert_array_equal(first[:], array)
        np.testing.assert_array_equal(first[:], array)
    with ThreadPoolExecutor(8) as pool:
        blocks = pool.map(lambda number: chunks._read_block(np.arange(5), openings[number % 4]), range(80))
        assert all((block == array).all() for block in blocks)


def test_one_that_has_been_closed_opens_itself_for_its_blocks(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif')
    with open_recording(tmp_path / 'a.tif') as rec:
        pass
    np.testing.assert_array_equal(rec.to_dask(10).compute(scheduler='synchronous'), whole())


def test_a_file_that_was_replaced_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif')
    with open_recording(tmp_path / 'a.tif') as rec:
        lazy = rec.to_dask(10)
    lazy.compute(scheduler='synchronous')
    write(tmp_path / 'b.tif', 8, lost=())
    (tmp_path / 'b.tif').replace(tmp_path / 'a.tif')
    with pytest.raises(RecordingFileError, match=r'a\.tif is not what it was: it had 30 frames'):
        lazy.compute(scheduler='synchronous')
    with open_recording(tmp_path / 'a.tif') as rec:
        assert rec.to_dask(10).name != lazy.name           # or Dask could hand out what it remembers
        assert rec.to_dask(10).compute(scheduler='synchronous').shape == (8, 12, 20, 3)


def test_what_was_cut_from_a_recording_is_not_read_from_its_successor(tmp_path: Path) -> None:
    """Though that one is open already, for blocks of its own."""
    write(tmp_path / 'a.tif')
    with open_recording(tmp_path / 'a.tif') as rec:
        before = rec.to_dask(10)
    write(tmp_path / 'b.tif', 40, lost=())
    (tmp_path / 'b.tif').replace(tmp_path / 'a.tif')
    with open_recording(tmp_path / 'a.tif') as rec:
        assert rec.to_dask(10).compute(scheduler='synchronous').shape[0] == 40
    with pytest.raises(RecordingFileError, match=r'had 30 frames, and other ones than the 40 here'):
        before.compute(scheduler='synchronous')


@pytest.mark.parametrize('split', [0, 7])
def test_other_pixels_under_the_same_numbers_and_times_are_noticed(split: int, tmp_path: Path) -> None:
    """As  ppr process --overwrite  makes them: before a computation, and while one is under way."""
    write(tmp_path / 'a.tif', split_frames=split)
    with open_recording(tmp_path / 'a.tif') as rec:
        lazy = rec.to_dask(10)
    lazy[:10].compute(scheduler='synchronous')
    for number, path in enumerate(write(tmp_path / 'b.tif', split_frames=split)):
        path.replace(part_path(tmp_path / 'a.tif', number))
    with pytest.raises(RecordingFileError, match=r'a\.tif is not what it was'):
        lazy[10:].compute(scheduler='synchronous')


def test_one_that_grew_meanwhile_is_the_same(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif', lost=())
    longer = (tmp_path / 'a.tif').read_bytes()
    cut_off(tmp_path / 'a.tif', keep=12)
    with open_recording(tmp_path / 'a.tif') as rec:
        lazy = rec.to_dask(4)
        assert keeping.opening_of(rec).recording
    lazy.compute(scheduler='synchronous')
    (tmp_path / 'a.tif').write_bytes(longer)
    np.testing.assert_array_equal(lazy.compute(scheduler='synchronous'), np.stack([picture(i) for i in range(12)]))


def test_a_copy_in_its_place_is_as_good(tmp_path: Path) -> None:
    """Another inode and time, as on another machine: the same frames."""
    write(tmp_path / 'a.tif')
    with open_recording(tmp_path / 'a.tif') as rec:
        lazy = rec.to_dask(10)
    lazy.compute(scheduler='synchronous')
    shutil.copyfile(tmp_path / 'a.tif', tmp_path / 'b.tif')
    (tmp_path / 'b.tif').replace(tmp_path / 'a.tif')
    os.utime(tmp_path / 'a.tif', ns=(1, 1))
    np.testing.assert_array_equal(lazy.compute(scheduler='synchronous'), whole())


def test_a_file_that_went_away_is_told(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif', 4)
    with open_recording(tmp_path / 'a.tif') as rec:
        lazy = rec.to_dask(2)
        lazy.compute(scheduler='synchronous')
        (tmp_path / 'a.tif').unlink()
        with pytest.raises(RecordingFileError, match=r'a\.tif.*no such file'):
            lazy.compute(scheduler='synchronous')
        with pytest.raises(RecordingFileError, match=r'a\.tif is no longer there'):
            rec.to_dask(2)


@pytest.mark.filterwarnings('ignore:.*multi-threaded.*fork:DeprecationWarning')
def test_a_fork_begins_with_none_open(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif', 4, lost=())
    with open_recording(tmp_path / 'a.tif') as rec:
        opening = keeping.opening_of(rec)
    locked = keeping._open.lock
    with keeping.kept_open(opening), locked:                   # as another thread of the parent may hold it
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if (chunks._read_block(np.arange(4), opening)[2] == picture(2)).all() else 2
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert threading.active_count() >= 1

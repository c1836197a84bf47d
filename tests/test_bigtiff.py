"""The file as other programs see it: tifffile, OpenCV, Pillow and libtiff's own tools read every pixel."""

from __future__ import annotations

import logging
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np
import pytest

from ProcessedPiRecorder.errors import RecordingFileError
from ProcessedPiRecorder.recordings import bigtiff
from ProcessedPiRecorder.recordings.page import PageRecord
from ProcessedPiRecorder.recordings.sink import PageJob, PageSink
from ProcessedPiRecorder.recordings.volume import Volume

START_NS = 1_700_000_000_000_000_000


def scenes(pages: int, height: int, width: int, channels: int) -> List[np.ndarray]:
    """Noise, with every third page flat, so that efforts differ from page to page."""
    rng = np.random.default_rng(pages)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return [np.full(shape, page % 256, np.uint8) if page % 3 == 0 else
            np.clip(rng.normal(100, 2.5, shape), 0, 255).astype(np.uint8) for page in range(pages)]


def record(path: Path, images: Sequence[np.ndarray], level: int = 6, **options: Any) -> List[Path]:
    gray = images[0].ndim == 2
    failures: List[BaseException] = []
    sink = PageSink(path, height=images[0].shape[0], width=images[0].shape[1], pixel_format='gray' if gray else 'bgr',
                    level=level, on_written=lambda jobs: None, on_error=failures.append, waits=True, **options)
    sink.publish()
    for number, image in enumerate(images):
        sink.submit(PageJob(image, PageRecord(number, START_NS + number * 16_666_667)))
    files = sink.finish(lambda info: {'report': {'complete': 'yes'}, 'settings': {}})
    assert not failures
    return files


def stack_of(images: Sequence[np.ndarray]) -> np.ndarray:
    """As a TIFF shows it: RGB."""
    stack = np.stack(images)
    return stack if stack.ndim == 3 else stack[..., ::-1]


@pytest.fixture(params=[(1, 1, 1, 1), (1, 5, 3, 3), (7, 3, 5, 1), (7, 1283, 7, 3), (40, 48, 64, 3), (40, 48, 64, 1)],
                ids=lambda size: 'x'.join(map(str, size)))
def images(request: pytest.FixtureRequest) -> List[np.ndarray]:
    return scenes(*request.param)


@pytest.mark.parametrize('level', range(10))
@pytest.mark.parametrize('channels', [1, 3])
def test_tifffile_reads_every_level_as_ome(tmp_path: Path, level: int, channels: int,
                                           caplog: pytest.LogCaptureFixture) -> None:
    import tifffile
    images = scenes(9, 24, 40, channels)
    record(tmp_path / 'a.tif', images, level)
    with caplog.at_level(logging.DEBUG, 'tifffile'), tifffile.TiffFile(tmp_path / 'a.tif') as tif:
        assert tif.is_bigtiff and tif.is_ome
        assert [series.axes for series in tif.series] == ['TYX' if channels == 1 else 'TYXS']
        np.testing.assert_array_equal(tif.series[0].asarray(), stack_of(images))
        for page, image in zip(tif.pages, images):
            np.testing.assert_array_equal(page.asarray(), image if channels == 1 else image[..., ::-1])
    assert [entry for entry in caplog.records if entry.levelno >= logging.WARNING] == []


def test_tifffile_reads_any_size(tmp_path: Path, images: List[np.ndarray], caplog: pytest.LogCaptureFixture) -> None:
    import tifffile
    record(tmp_path / 'a.tif', images)
    with tifffile.TiffFile(tmp_path / 'a.tif') as tif:
        assert len(tif.pages) == len(images)
        assert tif.is_ome and len(tif.series) == 1
        np.testing.assert_array_equal(tif.asarray().reshape(stack_of(images).shape), stack_of(images))
    assert [entry for entry in caplog.records if entry.levelno >= logging.WARNING] == []


def test_opencv_reads_it_as_bgr(tmp_path: Path, images: List[np.ndarray]) -> None:
    import cv2
    record(tmp_path / 'a.tif', images)
    read, pages = cv2.imreadmulti(str(tmp_path / 'a.tif'), flags=cv2.IMREAD_UNCHANGED)
    assert read and len(pages) == len(images)
    for page, image in zip(pages, images):
        np.testing.assert_array_equal(page.reshape(image.shape), image)


def test_pillow_reads_it(tmp_path: Path, images: List[np.ndarray]) -> None:
    from PIL import Image
    record(tmp_path / 'a.tif', images)
    with Image.open(tmp_path / 'a.tif') as tif:
        assert tif.n_frames == len(images)
        for number, image in enumerate(images):
            tif.seek(number)
            np.testing.assert_array_equal(np.asarray(tif), image if image.ndim == 2 else image[..., ::-1])


@pytest.mark.parametrize('level', [0, 1, 6])
def test_libtiff_has_nothing_to_warn_of(tmp_path: Path, images: List[np.ndarray], level: int) -> None:
    import tifffile
    for tool in ('tiffinfo', 'tiffcp'):
        if shutil.which(tool) is None:
            pytest.skip(f'{tool} is not installed (Debian package libtiff-tools)')
    record(tmp_path / 'a.tif', images, level)
    for command in (['tiffinfo', '-d', 'a.tif'], ['tiffcp', '-8', '-c', 'none', 'a.tif', 'b.tif']):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=50)
        assert done.stderr == ''
    with tifffile.TiffFile(tmp_path / 'b.tif') as copy:
        for page, image in zip(copy.pages, images):
            np.testing.assert_array_equal(page.asarray(), image if image.ndim == 2 else image[..., ::-1])


# ---------------------------------------------------------------------- bytes

def chain_of(data: bytes) -> List[Dict[str, Any]]:
    """The IFDs reached from the header, read by hand."""
    ifds = []
    assert data[:8] == b'II' + struct.pack('<HHH', 43, 8, 0)
    offset, = struct.unpack_from('<Q', data, 8)
    while offset:
        count, = struct.unpack_from('<Q', data, offset)
        tags = {tag: (kind, length, value) for tag, kind, length, value in
                (struct.unpack_from('<HHQ8s', data, offset + 8 + 20 * number) for number in range(count))}
        following, = struct.unpack_from('<Q', data, offset + 8 + 20 * count)
        ifds.append({'offset': offset, 'next_at': offset + 8 + 20 * count, 'tags': tags, 'count': count})
        offset = following
    return ifds


@pytest.mark.parametrize('level', [0, 6])
def test_all_pages_have_the_same_tags_and_no_link_can_tear(tmp_path: Path, level: int) -> None:
    record(tmp_path / 'a.tif', scenes(30, 11, 13, 3), level)
    ifds = chain_of((tmp_path / 'a.tif').read_bytes())
    assert len(ifds) == 30
    # What may differ from page to page: the description, and where the strip is.
    same = [{tag: entry for tag, entry in ifd['tags'].items() if tag not in (270, 273, 279)} for ifd in ifds]
    assert all(tags == same[0] for tags in same)
    assert len({tuple(ifd['tags']) for ifd in ifds}) == 1
    assert list(ifds[0]['tags']) == sorted(ifds[0]['tags'])
    assert all(ifd['offset'] % 8 == 0 and ifd['next_at'] % 8 == 0 for ifd in ifds)
    assert max(ifds[0]['tags']) < 32768       # no private tags


def test_writing_goes_on_after_short_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = bigtiff.os.pwritev

    def reluctant(fd: int, buffers: Sequence[Any], offset: int) -> int:
        assert len(buffers) <= 1024
        return real(fd, [bytes(buffers[0])[:977]], offset)
    monkeypatch.setattr(bigtiff.os, 'pwritev', reluctant)
    images = scenes(12, 48, 64, 3)
    record(tmp_path / 'a.tif', images, 0)
    monkeypatch.undo()
    import tifffile
    np.testing.assert_array_equal(tifffile.imread(tmp_path / 'a.tif'), stack_of(images))


def test_more_buffers_than_one_call_takes(tmp_path: Path) -> None:
    with open(tmp_path / 'a', 'w+b') as file:
        bigtiff.write_all(file.fileno(), [b'%06d' % number for number in range(3000)] + [b''], 5)
    data = (tmp_path / 'a').read_bytes()
    assert data[5:] == b''.join(b'%06d' % number for number in range(3000))


# ---------------------------------------------------------------------- the file system

def test_fat_is_refused_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bigtiff, 'volume_of', lambda folder: Volume('vfat', folder, 10**9, 10**9))
    with pytest.raises(RecordingFileError, match='FAT.*4 GB.*another disk'):
        record(tmp_path / 'a.tif', scenes(1, 4, 4, 1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(('name', 'message'), [
    ('absent/a.tif', 'make the folder first'), ('x' * 300 + '.tif', 'shorter name'), ('file/a.tif', 'folder first')])
def test_what_cannot_be_created_says_why(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(RecordingFileError, match=message):
        record(tmp_path / name, scenes(1, 4, 4, 1))

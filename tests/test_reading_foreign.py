"""Other programs' TIFFs as frames: the same pixels as tifffile's, in every layout that labs have; and damaged ones."""

from __future__ import annotations

import os
import pickle
import struct
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ProcessedPiRecorder import open_recording
from ProcessedPiRecorder.errors import RecordingFileError, RecordingFormatError

try:
    import imagecodecs
except ImportError:
    imagecodecs = None


class Layout(NamedTuple):
    """shape, dtype: as tifffile is given it; options: of its imwrite; axes: which of the shape are (H, W, samples)."""

    shape: Tuple[int, ...]
    options: Dict[str, Any] = {}
    dtype: str = 'u1'
    planar: bool = False


LAYOUTS = {
    'gray': Layout((5, 20, 30)),
    'gray 16': Layout((5, 20, 30), dtype='u2'),
    'gray 16 signed': Layout((5, 20, 30), dtype='i2'),
    'float': Layout((5, 20, 30), dtype='f4'),
    'double': Layout((5, 20, 30), dtype='f8'),
    'mask': Layout((5, 20, 30), dtype='?'),
    'rgb': Layout((5, 20, 30, 3), {'photometric': 'rgb'}),
    'rgb 16': Layout((5, 20, 30, 3), {'photometric': 'rgb'}, 'u2'),
    'rgba': Layout((5, 20, 30, 4), {'photometric': 'rgb'}),
    'gray and alpha': Layout((5, 20, 30, 2), {'photometric': 'minisblack', 'planarconfig': 'contig',
                                              'extrasamples': ['unassalpha']}),
    'planar': Layout((5, 3, 20, 30), {'photometric': 'rgb', 'planarconfig': 'separate'}, planar=True),
    'planar deflate': Layout((5, 4, 20, 30), {'photometric': 'rgb', 'planarconfig': 'separate',
                                              'compression': 'zlib'}, planar=True),
    'imagej hyperstack': Layout((3, 2, 2, 20, 30), {'imagej': True, 'metadata': {'axes': 'TZCYX'}}, 'u2'),
    'imagej rgb': Layout((4, 20, 30, 3), {'imagej': True}),
    'ome': Layout((3, 2, 20, 30), {'ome': True, 'metadata': {'axes': 'TCYX'}}, 'u2'),
    'ome rgb': Layout((3, 20, 30, 3), {'ome': True, 'photometric': 'rgb', 'compression': 'zlib'}),
    'tiled': Layout((5, 40, 50), {'tile': (16, 16)}),
    'tiled deflate rgb': Layout((5, 40, 50, 3), {'tile': (16, 32), 'compression': 'zlib', 'photometric': 'rgb'}),
    'deflate': Layout((5, 20, 30), {'compression': 'zlib'}),
    'deflate predictor': Layout((5, 20, 30, 3), {'compression': 'zlib', 'predictor': True, 'photometric': 'rgb'}),
    'strips': Layout((5, 20, 30), {'compression': 'zlib', 'rowsperstrip': 7}),
    'volume': Layout((5, 16, 32, 32), {'volumetric': True, 'tile': (16, 16, 16)}),
    'big-endian': Layout((5, 20, 30), {'byteorder': '>'}, 'u2'),
    'big-endian rgb': Layout((5, 20, 30, 3), {'byteorder': '>', 'photometric': 'rgb'}, 'u2'),
    'big-endian deflate': Layout((5, 20, 30), {'byteorder': '>', 'compression': 'zlib'}, 'u2'),
    'bigtiff': Layout((5, 20, 30), {'bigtiff': True}),
    'bigtiff big-endian': Layout((5, 20, 30), {'bigtiff': True, 'byteorder': '>'}, 'f4'),
    'one page': Layout((20, 30)),
    'one page rgb': Layout((20, 30, 3), {'photometric': 'rgb'}),
    'palette': Layout((3, 20, 30), {'photometric': 'palette', 'colormap': np.zeros((3, 256), 'u2')}),
    'white is zero': Layout((3, 20, 30), {'photometric': 'miniswhite'}),
    'lzw': Layout((4, 20, 30), {'compression': 'lzw', 'photometric': 'minisblack'}),
    'zstd': Layout((4, 20, 30), {'compression': 'zstd', 'photometric': 'minisblack'})}
NEED_IMAGECODECS = ('lzw', 'zstd')


def values(layout: Layout) -> np.ndarray:
    random = np.random.default_rng(7).integers(0, 250, layout.shape)
    return random > 100 if layout.dtype == '?' else random.astype(layout.dtype)


def as_frames(stored: np.ndarray, layout: Layout) -> np.ndarray:
    """(frames, height, width[, 3]), colour as BGR, alpha left out."""
    if layout.planar:
        stored = np.moveaxis(stored, -3, -1)
    samples = layout.shape[-3] if layout.planar else layout.shape[-1] if layout.shape[-1] <= 4 else 1
    if samples == 1:
        return stored.reshape(-1, *stored.shape[-2:])
    frames = stored.reshape(-1, *stored.shape[-3:])
    return frames[..., 2::-1] if samples >= 3 else frames[..., 0]


def written(path: Path, name: str) -> np.ndarray:
    layout = LAYOUTS[name]
    if name in NEED_IMAGECODECS and imagecodecs is None:
        pytest.skip('tifffile writes this with imagecodecs only')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        tifffile.imwrite(path, values(layout), **layout.options)
        return as_frames(tifffile.imread(path), layout)


@pytest.mark.parametrize('name', LAYOUTS)
def test_its_frames_are_those_that_tifffile_reads(name: str, tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    expected = written(path, name)
    np.testing.assert_array_equal(expected, as_frames(values(LAYOUTS[name]), LAYOUTS[name]))
    with open_recording(path) as rec:
        assert rec.shape == expected.shape and rec.dtype == np.dtype(LAYOUTS[name].dtype)
        assert rec.pixel_format == ('bgr' if expected.ndim == 4 else 'gray')
        for found in (rec[:], np.array(list(rec)), np.stack([rec[page] for page in range(len(rec))])):
            assert found.dtype == rec.dtype and found.dtype.isnative
            np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(rec[::-2, 3:, 4:9], expected[::-2, 3:, 4:9])
        out = np.empty(rec.shape[1:], rec.dtype)
        np.testing.assert_array_equal(rec.read(len(rec) - 1, out), expected[-1])
        assert rec._repr_html_().count('<img') == len({*np.linspace(0, len(rec) - 1, 6, dtype=int)})


def test_it_says_what_is_not_known_of_it(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / 'a.tif', np.zeros((5, 20, 30), np.uint16))
    with open_recording(tmp_path / 'a.tif') as rec:
        assert repr(rec) == ('<Recording a.tif: 5 frames of 30×20 gray, uint16; not made by ProcessedPiRecorder: no '
                             'times, no verdict>')
        assert not rec.is_ours and rec.report is None and rec.finished
        for unknown in (rec.times_ns, rec.times_s, rec.indices, rec.status, rec.effort, rec.duration_s, rec.rate_hz):
            assert unknown is None
        assert (rec.marks, rec.losses, len(rec.results), rec.settings, rec.metadata, rec.camera) == ([], [], 0, {}, {},
                                                                                                     {})
        assert rec[2].index is None and rec[2].time_ns is None
        assert 'was not made by ProcessedPiRecorder' in rec.notes[0]
        with pytest.raises(RecordingFormatError, match='pixels only'):
            rec.record(0)
        with pytest.raises(KeyError):
            rec.page_of(0)
        with pytest.raises(KeyError, match='no times'):
            rec.page_at(0)
        for wrong in (np.empty((20, 30), np.uint8), np.empty((20, 31), np.uint16)):
            with pytest.raises(ValueError, match='out must be'):
                rec.read(0, wrong)
        with pytest.raises(IndexError):
            rec.read(5)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with tifffile.TiffWriter(tmp_path / 'a.tif') as tif:
            tif.write(np.zeros((3, 20, 30, 4), np.uint8), photometric='rgb', metadata=None)
            tif.write(np.zeros((7, 9), np.uint16), metadata=None)
    with open_recording(tmp_path / 'a.tif') as rec:
        assert len(rec) == 3
        assert any('2 series' in note for note in rec.notes) and any('transparency' in note for note in rec.notes)


@pytest.mark.parametrize('shape, options, why', [
    ((2, 20, 30, 4), {'photometric': 'separated'}, 'SEPARATED'), ((20, 30, 7), {
        'photometric': 'minisblack', 'planarconfig': 'contig'}, '7 samples')])
def test_colours_that_are_neither_gray_nor_rgb_are_refused(shape: Any, options: Any, why: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / 'a.tif', np.zeros(shape, np.uint8), **options)
    with pytest.raises(RecordingFormatError, match=f'{why}.*neither gray nor RGB'):
        open_recording(tmp_path / 'a.tif')


@pytest.mark.parametrize('compression', [None, 'tiff_adobe_deflate', 'packbits', 'tiff_lzw'])
@pytest.mark.parametrize('mode', ['L', 'RGB', 'RGBA', 'I;16', 'F', 'LA'])
def test_stacks_of_pillow(mode: str, compression: Any, tmp_path: Path) -> None:
    channels = {'RGB': (3,), 'RGBA': (4,), 'LA': (2,)}.get(mode, ())
    dtype = {'I;16': np.uint16, 'F': np.float32}.get(mode, np.uint8)
    array = np.random.default_rng(1).integers(0, 255, (4, 20, 30, *channels)).astype(dtype)
    images = [Image.fromarray(frame) for frame in array]
    assert images[0].mode == mode
    images[0].save(tmp_path / 'a.tif', save_all=True, append_images=images[1:], compression=compression)
    expected = array[..., 2::-1] if channels in ((3,), (4,)) else array[..., 0] if channels else array
    with open_recording(tmp_path / 'a.tif') as rec:
        if compression == 'tiff_lzw' and imagecodecs is None:
            with pytest.raises(RecordingFormatError, match='pip install imagecodecs'):
                rec[0]
        else:
            np.testing.assert_array_equal(rec[:], expected)


@pytest.mark.parametrize('shape, dtype', [((20, 30, 3), np.uint8), ((20, 30), np.uint8), ((20, 30), np.uint16),
                                          ((20, 30), np.float32)])
def test_stacks_of_opencv(shape: Any, dtype: Any, tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 255, (4, *shape)).astype(dtype)
    cv2.imwritemulti(str(tmp_path / 'a.tif'), list(array), (cv2.IMWRITE_TIFF_COMPRESSION, 1))
    with open_recording(tmp_path / 'a.tif') as rec:
        np.testing.assert_array_equal(rec[:], array)         # it takes BGR, too


def test_ours_with_its_annotations_cut_away_is_still_a_tiff_of_ours(tmp_path: Path) -> None:
    """A copy by a general program: pages without texts are foreign."""
    from repair_kit import picture, write
    write(tmp_path / 'a.tif', 5, lost=())
    tifffile.imwrite(tmp_path / 'copy.tif', tifffile.imread(tmp_path / 'a.tif'), photometric='rgb')
    with open_recording(tmp_path / 'copy.tif') as rec:
        assert not rec.is_ours
        np.testing.assert_array_equal(rec[:], np.stack([picture(index) for index in range(5)]))


# ---------------------------------------------------------------- shared

@pytest.mark.parametrize('name', ['gray', 'tiled deflate rgb', 'volume'])
def test_any_number_of_threads_and_processes(name: str, tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    expected = written(path, name)
    with open_recording(path) as rec, ThreadPoolExecutor(6) as pool:
        pages = np.random.default_rng(2).integers(0, len(rec), 200)
        assert all(pool.map(lambda page: (rec[int(page)] == expected[page]).all(), pages))
        with pickle.loads(pickle.dumps(rec)) as copy:
            np.testing.assert_array_equal(copy[:], expected)


@pytest.mark.filterwarnings('ignore:.*multi-threaded.*fork:DeprecationWarning')
@pytest.mark.filterwarnings('ignore:unclosed file:ResourceWarning')
@pytest.mark.parametrize('name', ['gray', 'tiled deflate rgb'])
def test_a_fork_reads_beside_its_parent(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They share a place in the file, so each has to leave the other's alone; wherever they are by then."""
    expected = written(tmp_path / 'a.tif', name)
    monkeypatch.chdir(tmp_path)
    with open_recording('a.tif') as rec:
        monkeypatch.chdir('/')
        rec[1]
        child = os.fork()
        good = all((rec[page % 5] == expected[page % 5]).all() for page in range(300))
        if child == 0:
            os._exit(0 if good else 1)
        assert good and os.waitpid(child, 0)[1] == 0


def test_closing_gives_the_descriptors_back(tmp_path: Path) -> None:
    expected = written(tmp_path / 'a.tif', 'deflate')
    before = len(os.listdir('/proc/self/fd'))
    with open_recording(tmp_path / 'a.tif') as rec:
        np.testing.assert_array_equal(rec[:], expected)
    assert len(os.listdir('/proc/self/fd')) == before


# ---------------------------------------------------------------- damaged

def test_a_stack_that_was_cut_off_has_the_frames_that_are_whole(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    expected = written(path, 'imagej hyperstack')
    with tifffile.TiffFile(path) as tif:
        offset = tif.series[0].dataoffset
    assert offset is not None
    os.truncate(path, offset + 7 * 1200 + 500)
    with open_recording(path) as rec:
        np.testing.assert_array_equal(rec[:], expected[:7])
        assert any('cut off: 7 of the 12' in note for note in rec.notes) and not rec.finished
    os.truncate(path, offset + 500)
    with pytest.raises(RecordingFormatError, match='claims frames of 1,200 bytes'):
        open_recording(path)


def test_pages_that_follow_on_themselves_are_refused(tmp_path: Path) -> None:
    """More than a hundred before the loop begins: tifffile itself would go round for ever."""
    path = tmp_path / 'a.tif'
    with tifffile.TiffWriter(path) as tif:
        for _ in range(130):
            tif.write(np.zeros((4, 5), np.uint8), contiguous=False, metadata=None)
    with tifffile.TiffFile(path) as tif:
        offsets = [page.offset for page in tif.pages]
    data = bytearray(path.read_bytes())
    tags = int.from_bytes(data[offsets[129]:offsets[129] + 2], 'little')
    link = offsets[129] + 2 + 12 * tags
    data[link:link + 4] = offsets[120].to_bytes(4, 'little')
    path.write_bytes(data)
    with pytest.raises(RecordingFormatError, match=r'a\.tif is a TIFF that cannot be read.*follows on itself'):
        open_recording(path)


def test_a_page_that_is_damaged_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    expected = written(path, 'deflate')
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[2].dataoffsets[0]
    with open(path, 'r+b') as file:
        file.seek(at)
        file.write(b'\xff' * 20)
    with open_recording(path) as rec:
        np.testing.assert_array_equal(rec[[0, 1, 3, 4]], expected[[0, 1, 3, 4]])
        with pytest.raises(RecordingFormatError, match=r'page 2 of .*a\.tif cannot be read.*program that made it'):
            rec[:]


MUTATED = ['gray', 'planar deflate', 'imagej hyperstack', 'ome', 'tiled', 'big-endian', 'bigtiff', 'volume', 'rgb 16']


@pytest.fixture(scope='module', params=MUTATED)
def victim(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tuple[Path, bytes]:
    folder = tmp_path_factory.mktemp('victim')
    written(folder / 'sound.tif', request.param)
    return folder / 'a.tif', (folder / 'sound.tif').read_bytes()


def frames_or_told(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    begun = time.monotonic()
    told: List[str] = []
    try:
        with open_recording(path) as rec:
            assert repr(rec)
            for page in range(min(len(rec), 50)):
                try:
                    assert rec[page].nbytes < 1e8
                except RecordingFileError as error:
                    told.append(str(error))
    except RecordingFileError as error:
        told.append(str(error))
    assert all(str(path) in text for text in told)
    assert time.monotonic() < begun + 20


@settings(max_examples=40)
@given(data=st.data())
def test_whatever_byte_is_changed(data: st.DataObject, victim: Tuple[Path, bytes]) -> None:
    path, sound = victim
    changed = bytearray(sound)
    near = st.integers(0, min(len(sound) - 1, 600)) | st.integers(0, len(sound) - 1) | st.integers(
        max(len(sound) - 600, 0), len(sound) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(near)] = data.draw(st.sampled_from([0, 1, 127, 255]) | st.integers(0, 255))
    frames_or_told(path, bytes(changed))


@settings(max_examples=40)
@given(data=st.data())
def test_wherever_it_is_cut(data: st.DataObject, victim: Tuple[Path, bytes]) -> None:
    path, sound = victim
    frames_or_told(path, sound[:data.draw(st.integers(0, len(sound) - 1))])


def test_what_tifffile_says_is_told_by_us_and_not_on_the_screen(tmp_path: Path, caplog: pytest.LogCaptureFixture
                                                                ) -> None:
    frames = np.zeros((5, 20, 30), np.uint8)
    tifffile.imwrite(tmp_path / 'deflated.tif', frames, compression='zlib', photometric='minisblack')
    whole = (tmp_path / 'deflated.tif').read_bytes()
    cut, none = tmp_path / 'cut.tif', tmp_path / 'none.tif'
    cut.write_bytes(whole[:len(whole) * 2 // 3])
    none.write_bytes(b'II*\0' + struct.pack('<I', 500) + bytes(12))          # cut off before its pages
    with pytest.raises(RecordingFormatError, match='neither a recording nor another TIFF'):
        open_recording(none)
    with open_recording(cut) as rec:
        assert any('it may be damaged' in note for note in rec.notes)
    assert not caplog.records
    with tifffile.TiffFile(cut) as others:
        assert others.series and caplog.records, 'others hear it as before'

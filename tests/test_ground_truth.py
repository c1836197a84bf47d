"""Every page of a synthetic recording is the synthetic camera's frame, bit for bit, whoever reads it back."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageSequence
from recording_tools import recorder, statuses, truth

FORMATS = ('bgr', 'gray')
STEREO = (False, True)
CB_TYPES = (None, '2Proc', '3Proc')
LEVELS = (0, 1, 6, 9)
METHODS = ('fork', 'spawn')
FRAMES = 6

Case = Tuple[str, bool, Any, int, str]


def pairwise(axes: 'List[Tuple[Any, ...]]') -> List[Tuple[Any, ...]]:
    """Few combinations in which every two values of different axes meet at least once (greedy)."""
    every = list(itertools.product(*axes))
    missing = {pair for case in every for pair in pairs(case)}
    chosen = []
    while missing:
        best = max(every, key=lambda case: len(missing & pairs(case)))
        chosen.append(best)
        missing -= pairs(best)
    return chosen


def pairs(case: Tuple[Any, ...]) -> set:
    return set(itertools.combinations(enumerate(case), 2))


AXES: 'List[Tuple[Any, ...]]' = [FORMATS, STEREO, CB_TYPES, LEVELS, METHODS]
CHOSEN = pairwise(AXES)


def cases() -> Iterator[Any]:
    """The pairwise selection by default, all others as slow tests."""
    for case in itertools.product(*AXES):
        yield pytest.param(*case, marks=() if case in CHOSEN else pytest.mark.slow,
                           id='-'.join(map(str, (case[0], 'stereo' if case[1] else 'mono', *case[2:]))))


def pass_through(buffer: Any, cb_queue: Any) -> Any:
    """Even frames come back as they are, odd ones as None."""
    return None if buffer[-1].index % 2 else buffer[-1]


def by_tifffile(path: Path) -> Iterator[np.ndarray]:
    with tifffile.TiffFile(path) as tif:
        stack = tif.series[0].asarray()
    assert len(stack) == FRAMES
    yield from (image[..., ::-1] if image.ndim == 3 else image for image in stack)


def by_opencv(path: Path) -> Iterator[np.ndarray]:
    good, images = cv2.imreadmulti(str(path), flags=cv2.IMREAD_UNCHANGED)
    assert good
    yield from images


def by_pillow(path: Path) -> Iterator[np.ndarray]:
    with Image.open(path) as stack:
        for page in ImageSequence.Iterator(stack):
            image = np.asarray(page)
            yield image[..., ::-1] if image.ndim == 3 else image


def by_tiffcp(path: Path) -> Iterator[np.ndarray]:
    """libtiff reads every page and writes it anew, uncompressed."""
    copy = path.with_name('copy.tif')
    run_quietly('tiffcp', '-8', '-c', 'none', str(path), str(copy))
    yield from by_opencv(copy)


def run_quietly(*command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f'{command[0]} is not installed (apt-get install libtiff-tools)')
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and done.stderr == '', done.stderr
    return done.stdout


@pytest.mark.parametrize('pixel_format, stereo, cb_type, level, method', list(cases()))
def test_every_page_is_the_truth(tmp_path: Path, pixel_format: str, stereo: bool, cb_type: Any, level: int,
                                 method: str) -> None:
    path = tmp_path / 'a.tif'
    rec = recorder(path, pixel_format=pixel_format, stereo=stereo, callback=pass_through if cb_type else None,
                   cb_type=cb_type, tif_compression=level, start_method=method, controls={'frames': FRAMES})
    report = rec.recordVid()
    assert report.complete == 'yes' and report.written == FRAMES
    frame = truth(rec.settings)
    expected = [frame(index) for index in range(FRAMES)]
    assert expected[0].shape == ((64, 96) if pixel_format == 'gray' else (64, 96, 3))
    for reader in (by_tifffile, by_opencv, by_pillow, by_tiffcp):
        images = list(reader(path))
        assert len(images) == FRAMES, reader.__name__
        for image, true in zip(images, expected):
            np.testing.assert_array_equal(image, true, err_msg=reader.__name__)
    assert statuses(path) == (['returned', 'raw'] * 3 if cb_type else ['raw'] * FRAMES)
    assert run_quietly('tiffinfo', str(path)).count('Image Width: 96 Image Length: 64') == FRAMES


@pytest.mark.parametrize('scale', [0.3, 0.5, 1 / 3])
@pytest.mark.parametrize('pixel_format', FORMATS)
def test_scaled_recordings_have_the_promised_size(tmp_path: Path, scale: float, pixel_format: str) -> None:
    path = tmp_path / 'a.tif'
    rec = recorder(path, x_resolution=320, y_resolution=120, scale_factor=scale, stereo=True,
                   pixel_format=pixel_format, controls={'frames': 3})
    rec.recordVid()
    frame = truth(rec.settings)
    width = int(320 * scale + 0.5)
    with tifffile.TiffFile(path) as tif:
        assert tif.pages[0].shape[:2] == (int(120 * scale + 0.5), width - width % 2)
        np.testing.assert_array_equal(tif.pages[2].asarray()[..., ::-1] if pixel_format == 'bgr'
                                      else tif.pages[2].asarray(), frame(2))


def test_a_camera_without_a_resizer_is_resized_by_the_reader(tmp_path: Path) -> None:
    from ProcessedPiRecorder.cameras import Camera, CameraRequest, Granted, Stamp

    class Plain(Camera):
        name = 'plain'
        count = 0

        def open(self, request: CameraRequest) -> Granted:
            return Granted(128, 64, 128, 64, 100.0, 'bgr', 'none of its own', 'count', waits=True)

        def read(self, out: np.ndarray) -> Any:
            if self.count == 5:
                return None
            out[:] = np.random.default_rng(self.count).integers(0, 255, out.shape, np.uint8)
            self.count += 1
            return Stamp(count=self.count)

    path = tmp_path / 'a.tif'
    report = recorder(path, camera=Plain(), camera_controls={}, x_resolution=0, y_resolution=0,
                      scale_factor=0.5).recordVid()
    assert report.complete == 'yes' and report.written == 5
    for index, image in enumerate(by_opencv(path)):
        whole = np.random.default_rng(index).integers(0, 255, (64, 128, 3), np.uint8)
        np.testing.assert_array_equal(image, cv2.resize(whole, (64, 32), interpolation=cv2.INTER_AREA))


def test_split_files_hold_every_frame_once(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    rec = recorder(path, split_frames=4, controls={'frames': 10})
    report = rec.recordVid()
    assert report.complete == 'yes' and [Path(name).name for name in report.files] == [
        'a.tif', 'a_001.tif', 'a_002.tif']
    frame = truth(rec.settings)
    stack = [tifffile.imread(name)[..., ::-1] for name in report.files]
    np.testing.assert_array_equal(np.concatenate(stack), [frame(index) for index in range(10)])

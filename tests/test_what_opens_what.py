"""What docs/what-opens-what.md says of other programs, tried with these programs: every page, exact to the sample.

Exports have judges of their own in test_export_*.py; here it is the recording itself, as labs hand it on.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from recording_tools import recorder
from repair_kit import cut_off

from ProcessedPiRecorder import open_recording
from ProcessedPiRecorder.exports import export

REPO = Path(__file__).resolve().parent.parent
PAGE = REPO / 'docs' / 'what-opens-what.md'
JAR = Path(os.environ.get('PPR_BIOFORMATS_JAR', Path.home() / '.cache' / 'ppr' / 'bioformats_package.jar'))

KINDS: Dict[str, Dict[str, Any]] = {
    'colour': {}, 'gray': {'pixel_format': 'gray'}, 'uncompressed': {'tif_compression': 0},
    'one part of several': {'split_frames': 8}, 'unfinished': {}, 'a cut': {}}


@pytest.fixture(scope='module', params=list(KINDS))
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('recorded')
    made = folder / 'trial.tif'
    recorder(made, controls={'frames': 24}, **KINDS[request.param]).recordVid()
    if request.param == 'one part of several':
        made = folder / 'trial_001.tif'
        shutil.copy(made, folder / 'alone.tif')        # so that our own reader, too, sees this file only
        return folder / 'alone.tif'
    if request.param == 'unfinished':
        cut_off(made)                                  # what a power cut leaves
    if request.param == 'a cut':
        export(made, folder / 'cut.tif', start=3, stop=20, every=2)
        return folder / 'cut.tif'
    return made


@pytest.fixture(scope='module')
def rgb(path: Path) -> np.ndarray:
    """All pages, as other programs see them: RGB, or gray."""
    with open_recording(path) as recording:
        pixels = recording[:]
    return pixels[..., ::-1] if pixels.ndim == 4 else pixels


def same(seen: Any, rgb: np.ndarray) -> None:
    np.testing.assert_array_equal(np.asarray(seen).reshape(rgb.shape), rgb)


def test_tifffile(path: Path, rgb: np.ndarray) -> None:
    import tifffile
    same(tifffile.imread(path), rgb)


def test_opencv(path: Path, rgb: np.ndarray) -> None:
    import cv2
    done, pages = cv2.imreadmulti(str(path), flags=cv2.IMREAD_UNCHANGED)
    assert done
    same([page[..., ::-1] if page.ndim == 3 else page for page in pages], rgb)


def test_pillow(path: Path, rgb: np.ndarray) -> None:
    from PIL import Image, ImageSequence
    with Image.open(path) as image:
        same([np.array(page) for page in ImageSequence.Iterator(image)], rgb)


def test_imageio(path: Path, rgb: np.ndarray) -> None:
    import imageio.v3 as imageio
    same(imageio.imread(path, plugin='tifffile'), rgb)


def test_libtiff(path: Path, rgb: np.ndarray, tmp_path: Path) -> None:
    """libtiff's own programs read every page without a warning, and what they copy is the same."""
    if not shutil.which('tiffcp'):
        pytest.skip('libtiff-tools are not installed')
    import tifffile
    told = subprocess.run(['tiffinfo', '-D', str(path)], capture_output=True, text=True, check=True)
    assert told.stderr == '' and told.stdout.count('Image Width') == len(rgb)
    copied = subprocess.run(['tiffcp', '-c', 'none', str(path), str(tmp_path / 'copy.tif')], capture_output=True,
                            text=True, check=True)
    assert copied.stderr == ''
    same(tifffile.imread(tmp_path / 'copy.tif'), rgb)


def test_bioio(path: Path, rgb: np.ndarray) -> None:
    """BioIO finds frames as time points, with the interval between them. It wants OME-XML, which comes with the end."""
    reader = pytest.importorskip('bioio_ome_tiff').Reader
    if open_recording(path).finished is False and path.name == 'trial.tif':
        with pytest.raises(Exception, match='(?i)ome'):
            reader(str(path))
        return
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')              # its dependencies', of their own future
        image = reader(str(path))
        assert image.dims.T == len(rgb) and image.dims.order[0] == 'T'
        same(image.data, rgb)


def test_dask(path: Path, rgb: np.ndarray) -> None:
    pytest.importorskip('dask.array')
    with open_recording(path) as recording:
        seen = recording.to_dask().compute()
    same(seen[..., ::-1] if seen.ndim == 4 else seen, rgb)


@pytest.mark.slow
def test_bio_formats(path: Path, rgb: np.ndarray, tmp_path: Path) -> None:
    """What Fiji, QuPath and OMERO read with: its converter's uncompressed copy holds the same samples."""
    if not shutil.which('java') or not JAR.is_file():
        pytest.skip('Java or Bio-Formats are not here: sh scripts/get-bioformats.sh')
    import tifffile
    copy = tmp_path / 'copy.tif'
    told = subprocess.run(['java', '-cp', str(JAR), 'loci.formats.tools.ImageConverter', '-no-upgrade', str(path),
                           str(copy)], capture_output=True, text=True, timeout=50)
    assert told.returncode == 0, told.stdout + told.stderr
    seen = tifffile.imread(copy)
    same(np.moveaxis(seen, 1, -1) if rgb.ndim == 4 else seen, rgb)        # it writes the channels one after the other


def test_ffmpeg_does_not(path: Path) -> None:
    if not shutil.which('ffmpeg'):
        pytest.skip('ffmpeg is not installed')
    told = subprocess.run(['ffmpeg', '-v', 'error', '-i', str(path), '-f', 'null', '-'], capture_output=True, text=True)
    assert 'Invalid TIFF header' in told.stderr


def test_every_program_of_the_table_is_tried_here() -> None:
    table = PAGE.read_text(encoding='utf-8').partition('## Recordings')[2].partition('\n## ')[0]
    named = {re.sub(r'\W', '', row).lower() for row in re.findall(r'^\| \*\*([^*]+)\*\*', table, re.MULTILINE)}
    tried = {name.partition('test_')[2].partition('_does')[0].replace('_', '') for name in globals()
             if name.startswith('test_') and not name.startswith('test_every')}
    assert named == tried

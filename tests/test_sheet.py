"""The contact sheet: which frames, what stands on it, and that it is written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, List, Tuple

import cv2
import numpy as np
import pytest
import repair_kit
import tifffile
from recording_tools import recorder

from ProcessedPiRecorder import open_recording
from ProcessedPiRecorder.errors import RecordingFileError
from ProcessedPiRecorder.views import sheet as module
from ProcessedPiRecorder.views.sheet import contact_sheet, spread, write_contact_sheet

GREEN, RED = module.GREEN, module.RED


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> List[Tuple[str, Any]]:
    """The texts on the sheets that a test draws, with their colours."""
    texts: List[Tuple[str, Any]] = []
    draw = module.write_text

    def write(image: np.ndarray, text: str, place: Any, size: float, color: Any) -> None:
        texts.append((text, color))
        draw(image, text, place, size, color)

    monkeypatch.setattr(module, 'write_text', write)
    return texts


def captions(written: List[Tuple[str, Any]]) -> List[str]:
    return [text for text, _ in written if text.startswith(('frame ', 'page '))]


def find_every_second(buffer: Any, cb_queue: Any) -> None:
    cb_queue.put([{'x': 10, 'y': 20, 'w': 30, 'h': 15}] if buffer[-1].index % 2 else [])


def test_frames_are_spread_from_the_first_to_the_last() -> None:
    assert spread(5, 20) == [0, 1, 2, 3, 4]
    assert spread(100, 1) == [0]
    chosen = spread(1_000_000, 20)
    assert chosen[0] == 0 and chosen[-1] == 999_999 and len(set(chosen)) == 20


def test_sheet_of_a_recording_with_boxes(tmp_path: Path, written: Any) -> None:
    path = tmp_path / 'trial.tif'
    recorder(path, callback=find_every_second, controls={'frames': 12, 'skip': [3]}).recordVid()
    (tmp_path / 'trial.png').write_text('an older one')
    heading = write_contact_sheet(path)
    assert heading == '11 of 11 frames, 96 x 64; something found in 5 of 11'
    texts = dict(written)
    assert texts['complete: no (1 lost)'] == RED and 'trial.tif' in texts and heading in texts
    assert captions(written)[:4] == ['frame 0   0.000 s', 'frame 1   0.010 s', 'frame 2   0.020 s',
                                     'frame 4   0.040 s']
    drawn = cv2.imread(str(tmp_path / 'trial.png'))
    with open_recording(path) as recording:
        np.testing.assert_array_equal(drawn, contact_sheet(recording))
        tile = drawn[module.TITLE + 5:][:160, module.MARGIN:][:, :240]              # frame 0: nothing found
        found = drawn[module.TITLE + 5:][:160, module.MARGIN + 250:][:, :240]       # frame 1
        expected = cv2.resize(np.asarray(recording[0]), (240, 160), interpolation=cv2.INTER_CUBIC)
        np.testing.assert_array_equal(tile, expected)
    edge = found[50 + 4:50 + 30, 25]                                 # the left side of a box at (10, 20), 2.5 times
    assert (edge[:, 1] > 180).all() and (edge[:, 2] < 120).all()
    assert sorted(os.listdir(tmp_path)) == ['trial.png', 'trial.results.jsonl', 'trial.tif']


def find_points(buffer: Any, cb_queue: Any) -> None:
    cb_queue.put({'snout': {'x': 10, 'y': 20, 'likelihood': 0.9}} if buffer[-1].index else {'brightness': 3})


def test_points_are_drawn_and_counted(tmp_path: Path) -> None:
    path = tmp_path / 'trial.tif'
    recorder(path, callback=find_points, controls={'frames': 3, 'scene': 'flat'}, record='raw').recordVid()
    lines = (tmp_path / 'trial.results.jsonl').read_text().splitlines(keepends=True)
    later = json.dumps({**json.loads(lines[1]), 'index': 99, 'time_ns': 1 << 62})
    (tmp_path / 'trial.results.jsonl').write_text(''.join(lines) + later + '\n')     # of a frame that is not there yet
    assert write_contact_sheet(path) == '3 of 3 frames, 96 x 64; something found in 2 of 3'
    drawn = cv2.imread(str(tmp_path / 'trial.png'))[module.TITLE + 5:][:160]
    with open_recording(path) as recording:
        plain = [cv2.resize(np.asarray(frame), (240, 160), interpolation=cv2.INTER_CUBIC) for frame in recording]
    first, second = (drawn[:, module.MARGIN + number * 250:][:, :240] for number in (0, 1))
    np.testing.assert_array_equal(first, plain[0])
    changed = np.argwhere((second != plain[1]).any(axis=2))
    assert len(changed) and abs(changed.mean(axis=0) - (51, 26)).max() < 2            # (10.5, 20.5), 2.5 times
    (tmp_path / 'trial.results.jsonl').write_text(lines[0])
    assert write_contact_sheet(path) == '3 of 3 frames, 96 x 64; no boxes (x, y, w, h) or points (x, y) in 1 result'


def test_complete_recordings_say_so_in_green(tmp_path: Path, written: Any) -> None:
    recorder(tmp_path / 'trial.tif', pixel_format='gray', controls={'frames': 3}).recordVid()
    assert write_contact_sheet(tmp_path / 'trial.tif', tmp_path / 'x.PNG', 2) == '2 of 3 frames, 96 x 64, ' \
                                                                                'no results beside it'
    assert ('complete: yes', GREEN) in written


def test_status_of_frames_that_the_callback_did_not_see(tmp_path: Path, written: Any) -> None:
    def fail_once(buffer: Any, cb_queue: Any) -> None:
        if buffer[-1].index == 1:
            raise ValueError('as it was told')

    rec = recorder(tmp_path / 'trial.tif', callback=fail_once, controls={'frames': 4})
    with pytest.raises(Exception, match='as it was told'):
        rec.recordVid()
    write_contact_sheet(tmp_path / 'trial.tif')
    assert [text for text, color in written if color == RED].count('failed') == 1


def test_any_file_of_a_split_recording(tmp_path: Path, written: Any) -> None:
    recorder(tmp_path / 'trial.tif', split_frames=4, controls={'frames': 10}).recordVid()
    assert write_contact_sheet(tmp_path / 'trial_001.tif', frames=3).startswith('3 of 10 frames')
    assert captions(written) == ['frame 0   0.000 s', 'frame 4   0.040 s', 'frame 9   0.090 s']
    assert (tmp_path / 'trial.png').is_file()                # named after the recording, not after one of its files


def test_unfinished_recording(tmp_path: Path, written: Any) -> None:
    path = tmp_path / 'trial.tif'
    repair_kit.write(path)
    repair_kit.cut_off(path, keep=4)
    assert '4 of 4 frames' in write_contact_sheet(path)
    assert ('unfinished, no verdict', RED) in written


@pytest.mark.parametrize('shape, dtype', [((5, 40, 60), np.uint16), ((5, 40, 60, 3), np.uint8),
                                          ((4, 300, 7), np.float32), ((2, 1, 500), np.int32), ((3, 9, 9), np.uint8)])
def test_other_programs_tiffs(tmp_path: Path, written: Any, shape: Any, dtype: Any) -> None:
    frames = (np.random.default_rng(0).random(shape) * 200 + 17).astype(dtype)
    frames.flat[0], frames.flat[-1] = 5, 250
    tifffile.imwrite(tmp_path / 'foreign.tif', frames, photometric='rgb' if len(shape) == 4 else 'minisblack')
    heading = write_contact_sheet(tmp_path / 'foreign.tif')
    assert heading.startswith(f'{shape[0]} of {shape[0]} frames')
    assert (f'{np.dtype(dtype)} samples shown from 5 (black) to 250 (white)' in heading) == (dtype != np.uint8)
    assert captions(written) == [f'page {page}' for page in range(shape[0])]
    assert any('not made by ProcessedPiRecorder' in text for text, _ in written)


def test_deep_samples_keep_their_brightness_from_tile_to_tile(tmp_path: Path) -> None:
    frames = np.zeros((3, 24, 24), np.uint16)
    frames[1], frames[2] = 30_000, 60_000
    tifffile.imwrite(tmp_path / 'deep.tif', frames, photometric='minisblack')
    with open_recording(tmp_path / 'deep.tif') as recording:
        drawn = contact_sheet(recording)
    row, middles = module.TITLE + 100, [module.MARGIN + 120 + 250 * place for place in range(2)]
    assert drawn[row, middles[0]].tolist() == [0, 0, 0] and drawn[row, middles[1]].tolist() == [128, 128, 128]


@pytest.mark.parametrize('compression', [0, 1])
def test_a_damaged_page_becomes_a_tile_that_says_so(tmp_path: Path, written: Any, compression: int) -> None:
    path = tmp_path / 'trial.tif'
    recorder(path, tif_compression=compression, controls={'frames': 6}).recordVid()
    with open_recording(path) as recording:
        offset = int(recording.index_column('strip_offset')[2])
    with open(path, 'r+b') as file:
        file.seek(offset + 100)
        file.write(b'damage')
    assert '6 of 6 frames, 96 x 64, 1 unreadable' in write_contact_sheet(path)
    assert sum(text.startswith('This page cannot') for text, _ in written) == 1
    assert len(captions(written)) == 6


@pytest.mark.parametrize('dtype', ['complex64', 'complex128'])
def test_of_complex_samples_the_magnitudes_are_shown(dtype: str, tmp_path: Path) -> None:
    frames = np.zeros((2, 24, 24), dtype)
    frames[0], frames[1] = 3 + 4j, -10j
    tifffile.imwrite(tmp_path / 'waves.tif', frames)
    with open_recording(tmp_path / 'waves.tif') as recording:
        drawn = contact_sheet(recording)
    row, middles = module.TITLE + 100, [module.MARGIN + 120 + 250 * place for place in range(2)]
    assert drawn[row, middles[0]].tolist() == [0, 0, 0] and drawn[row, middles[1]].tolist() == [255, 255, 255]
    assert f'magnitudes of {dtype} samples shown from 5 (black) to 10 (white)' in write_contact_sheet(
        tmp_path / 'waves.tif')


def test_results_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    path = tmp_path / 'trial.tif'
    recorder(path, callback=find_every_second, controls={'frames': 4}).recordVid()
    (tmp_path / 'trial.results.jsonl').write_text('no results\n' * 3)
    assert 'its results cannot be read' in write_contact_sheet(path)


def test_many_results_are_not_all_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, 'MOST_COUNTED', 3)
    recorder(tmp_path / 'trial.tif', callback=find_every_second, controls={'frames': 4}).recordVid()
    assert write_contact_sheet(tmp_path / 'trial.tif').endswith('; 4 results')


@pytest.mark.parametrize('name', ['no/such/place.png', 'sheet.jpg', 'trial.tif', 'folder.png', 'linked.png'])
def test_what_cannot_be_written_leaves_everything_as_it_was(tmp_path: Path, name: str) -> None:
    path = tmp_path / 'trial.tif'
    recorder(path, controls={'frames': 2}).recordVid()
    (tmp_path / 'folder.png').mkdir()
    os.symlink('trial.tif', tmp_path / 'linked.png')
    before, content = sorted(os.listdir(tmp_path)), path.read_bytes()
    with pytest.raises(RecordingFileError) as caught:
        write_contact_sheet(path, tmp_path / name)
    assert name in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == before and path.read_bytes() == content


def test_a_link_to_a_sheet_stays_one(tmp_path: Path) -> None:
    recorder(tmp_path / 'trial.tif', controls={'frames': 2}).recordVid()
    os.symlink('elsewhere.png', tmp_path / 'trial.png')
    write_contact_sheet(tmp_path / 'trial.tif')
    assert (tmp_path / 'trial.png').is_symlink() and cv2.imread(str(tmp_path / 'elsewhere.png')) is not None


def test_results_of_a_recording_are_not_replaced_either(tmp_path: Path) -> None:
    path, other = tmp_path / 'trial.tif', tmp_path / 'results.png'
    recorder(path, controls={'frames': 2}).recordVid()
    other.write_text(json.dumps({'index': 0, 'time_ns': 0, 'result': 1}) + '\n')
    with open_recording(path, results=other) as recording, pytest.raises(RecordingFileError, match='made from'):
        write_contact_sheet(recording, other)

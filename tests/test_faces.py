"""The ready-made face detector, judged on a drawn face whose place is known."""

from __future__ import annotations

import pickle
import queue
from collections import deque
from typing import Any, Deque, Tuple

import numpy as np
import pytest

from ProcessedPiRecorder.callbacks import faces
from ProcessedPiRecorder.callbacks.faces import FaceDetector, find_faces
from ProcessedPiRecorder.errors import CallbackError, SettingsError
from ProcessedPiRecorder.frame import Frame

CENTER = (170, 120)


def drawn_face(center: Tuple[int, int] = CENTER, tilt: float = 0.0, gray: bool = False) -> np.ndarray:
    """A cartoon of a face, 320 x 240, that Haar cascades take for one."""
    import cv2
    image = np.full((240, 320), 70, np.uint8)
    x, y = center
    cv2.ellipse(image, (x, y), (48, 62), 0, 0, 360, 190, -1)
    cv2.ellipse(image, (x, y - 40), (48, 30), 0, 180, 360, 40, -1)
    for side in (-1, 1):
        cv2.ellipse(image, (x + 20 * side, y - 14), (12, 6), 0, 0, 360, 60, -1)
        cv2.ellipse(image, (x + 20 * side, y - 24), (14, 3), 0, 0, 360, 50, -1)
    cv2.ellipse(image, (x, y + 10), (7, 14), 0, 0, 360, 215, -1)
    cv2.ellipse(image, (x, y + 24), (9, 3), 0, 0, 360, 110, -1)
    cv2.ellipse(image, (x, y + 38), (20, 5), 0, 0, 360, 80, -1)
    image = cv2.GaussianBlur(image, (7, 7), 2)
    turn = cv2.getRotationMatrix2D(center, tilt, 1)
    image = cv2.warpAffine(image, turn, (320, 240), borderMode=cv2.BORDER_REPLICATE)
    return image if gray else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)


def buffer_of(image: np.ndarray, index: int = 7, time_ns: int = 1_000) -> Deque[Frame]:
    return deque([Frame(image.copy(), index, time_ns)], maxlen=1)


def middle(box: Any) -> Tuple[float, float]:
    x, y, w, h = (box[name] for name in 'xywh')
    return x + w / 2, y + h / 2


@pytest.mark.parametrize('gray', [False, True])
@pytest.mark.parametrize('tilt', [0, 15, -15])
def test_finds_the_face_where_it_was_drawn(tilt: float, gray: bool) -> None:
    results: 'queue.Queue[Any]' = queue.Queue()
    with FaceDetector() as detector:
        assert detector(buffer_of(drawn_face(tilt=tilt, gray=gray)), results) is None
    result = results.get_nowait()
    assert (result['index'], result['time_ns']) == (7, 1_000)
    assert len(result['faces']) == 1
    assert middle(result['faces'][0]) == pytest.approx(CENTER, abs=12)
    assert all(type(value) is int for value in result['faces'][0].values())


def test_a_frame_without_a_face_gives_an_empty_list() -> None:
    results: 'queue.Queue[Any]' = queue.Queue()
    with FaceDetector() as detector:
        detector(buffer_of(np.full((144, 176, 3), 90, np.uint8)), results)
    assert results.get_nowait()['faces'] == []


def test_large_frames_give_places_in_their_own_pixels() -> None:
    import cv2
    large = cv2.resize(drawn_face(), None, fx=4, fy=4)
    (box,) = FaceDetector().find(large)
    assert middle(dict(zip('xywh', box))) == pytest.approx((CENTER[0] * 4, CENTER[1] * 4), abs=40)


def test_a_face_at_the_edge_is_clipped_to_the_frame() -> None:
    for box in FaceDetector(min_neighbors=1).find(drawn_face(center=(60, 180), tilt=15)):
        x, y, w, h = box
        assert x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= 320 and y + h <= 240


def test_drawing_returns_a_frame_with_boxes_and_changes_nothing_else() -> None:
    image = drawn_face()
    results: 'queue.Queue[Any]' = queue.Queue()
    with FaceDetector(draw=True) as detector:
        returned = detector(buffer_of(image), results)
    assert returned is not None and returned.shape == image.shape and returned.dtype == np.uint8
    changed = np.argwhere((returned != image).any(axis=2))
    box = results.get_nowait()['faces'][0]
    assert changed[:, 1].min() == box['x'] and changed[:, 1].max() == box['x'] + box['w'] - 1


def test_travels_before_and_after_it_was_entered() -> None:
    with FaceDetector(min_neighbors=4) as detector:
        detector.find(drawn_face())
        copy = pickle.loads(pickle.dumps(detector))
    assert copy.min_neighbors == 4
    assert copy.find(drawn_face())


def test_the_ready_instance_can_be_named() -> None:
    assert isinstance(find_faces, FaceDetector)
    assert faces.find_faces.__class__.__module__ == 'ProcessedPiRecorder.callbacks.faces'


def test_an_lbp_or_haar_file_can_be_given_by_path(tmp_path: Any) -> None:
    source = faces.cascade_folders()[0] / 'haarcascade_frontalface_default.xml'
    own = tmp_path / 'own.xml'
    own.write_bytes(source.read_bytes())
    assert FaceDetector(str(own)).find(drawn_face())


def test_an_unknown_cascade_is_named_with_those_there_are() -> None:
    with pytest.raises(CallbackError, match=r"no cascade 'nose.xml'.*haarcascade_frontalface_alt2.xml"):
        FaceDetector('nose.xml').__enter__()


def test_a_file_that_is_no_cascade_is_refused(tmp_path: Any) -> None:
    bad = tmp_path / 'bad.xml'
    bad.write_text('<?xml version="1.0"?><opencv_storage></opencv_storage>')
    with pytest.raises(CallbackError, match='not a cascade'):
        FaceDetector(str(bad)).__enter__()


def test_without_cascade_files_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, 'cascade_folders', lambda: [])
    with pytest.raises(CallbackError, match='opencv-contrib-python>=4.6,<5'):
        FaceDetector().__enter__()


@pytest.mark.parametrize('wrong', [{'scale_factor': 1.0}, {'min_neighbors': -1}, {'min_size': 2}, {'tilts': ()},
                                   {'max_side': 3}])
def test_settings_that_cannot_work_are_refused(wrong: Any) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        FaceDetector(**wrong)

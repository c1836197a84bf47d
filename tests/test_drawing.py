"""Boxes in results, and how they are drawn; pictures of any depth for a screen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ProcessedPiRecorder.reading import Result
from ProcessedPiRecorder.views.drawing import Box, draw_boxes, eight_bit, find_boxes, shades

BOX = {'x': 1, 'y': 2, 'w': 3, 'h': 4}


@pytest.mark.parametrize('result, count', [
    (BOX, 1), ([BOX, BOX], 2), ({'faces': [BOX], 'eyes': {'left': BOX}}, 2), (None, 0), ('x', 0), ([], 0), ([[BOX]], 1),
    ({'x': 1, 'y': 2}, 0), ({**BOX, 'w': True}, 0), ({**BOX, 'w': 'wide'}, 0), ({**BOX, 'w': float('nan')}, 0),
    ({**BOX, 'x': 10**400}, 0), ({**BOX, 'score': 0.5}, 1), (Result(0, 0, [BOX, BOX]), 2)])
def test_boxes_are_found_however_deep_they_lie(result: Any, count: int) -> None:
    assert find_boxes(result) == [Box(1, 2, 3, 4)] * count


def test_boxes_are_found_in_order_and_deeper_than_calls_can_be() -> None:
    assert [box.x for box in find_boxes({'a': [{**BOX, 'x': 0}, [{**BOX, 'x': 1}]], 'b': {**BOX, 'x': 2}})] == [0, 1, 2]
    nested: Any = BOX
    for _ in range(5000):
        nested = [nested]
    assert len(find_boxes(nested)) == 1


@pytest.mark.parametrize('shape', [(100, 120, 3), (100, 120)])
def test_boxes_are_drawn_where_they_are(shape: Any) -> None:
    image = np.full(shape, 128, np.uint8)
    assert draw_boxes(image, [Result(0, 0, {'x': 10, 'y': 20, 'w': 15, 'h': 10})], scale=2) == 1
    changed = np.argwhere((image != 128).reshape(100, 120, -1).any(axis=-1))
    top, left = changed.min(axis=0)
    bottom, right = changed.max(axis=0)
    for drawn, there in ((top, 40), (left, 20), (bottom, 59), (right, 49)):
        assert abs(int(drawn) - there) <= 3
    assert (image[48:52, 30:40] == 128).all()                        # the inside stays to be seen


def test_boxes_far_outside_do_no_harm() -> None:
    image = np.zeros((50, 50, 3), np.uint8)
    draw_boxes(image, [Box(-1e300, 10, 2e300, 5), Box(1e12, 1e12, 1, 1), Box(10, 10, -5, -5)])
    assert image[10, 25].any()


def test_deep_pictures_are_scaled_from_darkest_to_brightest() -> None:
    frames = [np.array([[1000, 2000]], np.uint16), np.array([[1500, 3000]], np.uint16)]
    assert shades(frames) == (1000, 3000)
    np.testing.assert_array_equal(eight_bit(frames[1], *shades(frames)), [[64, 255]])
    floats = np.array([[np.nan, 0.0, np.inf, 1.0]], np.float32)
    np.testing.assert_array_equal(eight_bit(floats, *shades([floats])), [[0, 0, 255, 255]])
    assert eight_bit(np.full((2, 2), 7, np.int16), *shades([np.full((2, 2), 7, np.int16)])).max() == 0


def test_8_bit_pictures_stay_as_they_are() -> None:
    image = np.array([[3, 4]], np.uint8)
    assert eight_bit(image, *shades([image])) is image
    assert shades([]) == (0, 255) == shades([np.full((2, 2), np.nan)])

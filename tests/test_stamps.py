"""Stamps: the text, the rate, and that it can be read on any background."""

from __future__ import annotations

from typing import Dict, List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ProcessedPiRecorder.pipeline.stamps import Stamper, utc_text

TIME_NS = 1_714_564_800_123_999_999     # 2024-05-01 12:00:00 UTC and not quite 124 ms
QUEUES = {'ring': 37, 'callback': 3, 'write': 12}


def test_the_time_is_utc_with_milliseconds_rounded_down() -> None:
    assert utc_text(TIME_NS) == '2024-05-01T12:00:00.123Z'
    assert utc_text(0) == '1970-01-01T00:00:00.000Z'


@hypothesis_settings(deadline=None)
@given(st.integers(0, 4 * 10**18))
def test_numpy_reads_the_time_the_same(time_ns: int) -> None:
    assert np.datetime64(utc_text(time_ns)[:-1], 'ms') == np.datetime64(time_ns, 'ns').astype('datetime64[ms]')


def test_the_rate_is_the_mean_over_the_last_intervals() -> None:
    stamper = Stamper(False, True, False, 4, 120, 160)
    image = np.zeros((120, 160), np.uint8)
    rates = []
    for host_ns in [0, 10**9, *range(11 * 10**8, 16 * 10**8, 10**8)]:     # one slow interval, then 10 Hz
        stamper.stamp(image, 0, host_ns, {})
        rates.append(stamper.rate)
    assert rates[0] is None
    assert rates[1] == pytest.approx(1.0)
    assert rates[2] == pytest.approx(2 / 1.1)
    assert rates[-1] == pytest.approx(10.0)
    stamper.stamp(image, 0, 0, {})     # a clock that runs backwards is no reason to stop
    assert stamper.rate is None


@pytest.mark.parametrize('shape', [(144, 384, 3), (144, 384), (480, 1280, 3), (1080, 1920, 3), (16, 32), (1, 1, 3)])
@pytest.mark.parametrize('level', [0, 128, 255])
def test_it_has_contrast_on_any_background_and_keeps_to_the_corner(shape: 'tuple[int, ...]', level: int) -> None:
    image = np.full(shape, level, np.uint8)
    Stamper(True, True, True, 10, *shape[:2]).stamp(image, TIME_NS, 0, QUEUES)
    if shape[0] >= 144:
        assert image.min() < 30 and image.max() > 225
        assert (image[shape[0] // 2:] == level).all()
        assert (image[:, int(shape[1] * 0.99):] == level).all()
    if len(shape) == 3:
        assert (image[..., 0] == image[..., 2]).all()     # white and black, whatever the channels' order


def test_nothing_asked_nothing_written() -> None:
    image = np.full((48, 64, 3), 9, np.uint8)
    stamper = Stamper(False, False, False, 10, 48, 64)
    stamper.stamp(image, TIME_NS, 0, QUEUES)
    assert not stamper.active and (image == 9).all()


def test_it_writes_in_place_into_views_too() -> None:
    whole = np.zeros((480, 1280, 3), np.uint8)
    Stamper(True, False, False, 10, 480, 640).stamp(whole[:, 640:], TIME_NS, 0, {})
    assert whole[:, 640:].any() and not whole[:, :640].any()


@pytest.mark.parametrize('width', [160, 384, 1920])
def test_every_queue_is_on_some_line_and_fits(width: int) -> None:
    stamper = Stamper(True, True, True, 10, width * 3 // 8, width)
    many: Dict[str, int] = {f'queue{number}': number * 1000 for number in range(9)}
    lines: List[str] = stamper._lines(TIME_NS, many)
    assert lines[:2] == ['2024-05-01T12:00:00.123Z', '-- Hz']
    assert '   '.join(lines[2:]) == '   '.join(f'{name} {length}' for name, length in many.items())
    assert len(lines) > 3 or width > 384


def test_the_stamped_text_is_the_same_in_gray_and_color() -> None:
    gray, color = np.zeros((144, 384), np.uint8), np.zeros((144, 384, 3), np.uint8)
    for image in (gray, color):
        Stamper(True, True, True, 10, 144, 384).stamp(image, TIME_NS, 0, QUEUES)
    assert (gray == color[..., 1]).all()

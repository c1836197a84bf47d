"""The common names of camera controls: what passes, what is refused, and what the refusal says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ProcessedPiRecorder.cameras.controls import COMMON, CommonControls, split_controls, unsupported
from ProcessedPiRecorder.errors import CameraFormatError

NATIVE = ('iso', 'AeEnable')


def split(**controls: Any) -> Any:
    return split_controls(controls, NATIVE, 'the IMX219')


def test_common_and_native_are_told_apart() -> None:
    common, own = split(exposure_us=5000, iso=400, AeEnable=False, roi=[0, 0.5, 1, 0.5])
    assert common == CommonControls(exposure_us=5000, roi=(0, 0.5, 1, 0.5))
    assert common.given() == {'exposure_us': 5000, 'roi': (0, 0.5, 1, 0.5)}
    assert own == {'iso': 400, 'AeEnable': False}


def test_nothing_asked_is_nothing_given() -> None:
    common, own = split()
    assert common == CommonControls() and common.given() == {} and own == {}
    assert split(gain=None, iso=None) == (CommonControls(), {})


@pytest.mark.parametrize(('name', 'value', 'kept'), [
    ('exposure_us', np.int64(8000), 8000), ('exposure_us', 999.6, 1000), ('gain', 1, 1.0), ('gain', np.float32(2), 2.0),
    ('white_balance', np.array([1.5, 2.0]), (1.5, 2.0)), ('brightness', -1, -1.0), ('contrast', 2, 2.0),
    ('hflip', 1, True), ('vflip', False, False), ('rotation', 270.0, 270), ('roi', (0.7, 0, 0.3, 1), (0.7, 0, 0.3, 1)),
])
def test_what_passes(name: str, value: Any, kept: Any) -> None:
    common, _ = split(**{name: value})
    got = getattr(common, name)
    assert got == kept and type(got) is type(kept)


@pytest.mark.parametrize(('name', 'value', 'allowed'), [
    ('exposure_us', 0, 'µs'), ('exposure_us', 'short', 'µs'), ('exposure_us', True, 'µs'),
    ('exposure_us', math.inf, 'µs'), ('gain', 0.5, '1 to 64'), ('gain', math.nan, '1 to 64'),
    ('white_balance', 1.5, 'red, blue'), ('white_balance', (1, 2, 3), 'red, blue'),
    ('white_balance', 'ab', 'red, blue'), ('white_balance', (0, 1), 'red, blue'),
    ('brightness', 1.01, '-1 to 1'), ('brightness', 50, '-1 to 1'),
    ('contrast', -0.1, '0 to 2'), ('hflip', 'yes', 'True or False'), ('hflip', 2, 'True or False'),
    ('rotation', 45, '0, 90, 180 or 270'), ('roi', (0, 0, 0, 1), 'fractions'), ('roi', (0.6, 0, 0.5, 1), 'fractions'),
    ('roi', (0, 0, 640, 480), 'fractions'), ('roi', (-0.1, 0, 0.5, 1), 'fractions'), ('roi', 0.5, 'fractions'),
])
def test_what_is_refused_says_what_is_allowed(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(CameraFormatError, match=allowed) as caught:
        split(**{name: value})
    assert repr(value) in str(caught.value) and 'IMX219' in str(caught.value) and name in str(caught.value)


def test_an_unknown_name_is_answered_with_all_that_there_are() -> None:
    with pytest.raises(CameraFormatError) as caught:
        split(warp_drive=9)
    assert all(name in str(caught.value) for name in (*COMMON, *NATIVE, 'warp_drive'))


@pytest.mark.parametrize(('typed', 'meant'), [('ISO', 'iso'), ('exposure', 'exposure_us'), ('Brightness', 'brightness'),
                                              ('whitebalance', 'white_balance'), ('aeenable', 'AeEnable')])
def test_a_near_miss_is_helped(typed: str, meant: str) -> None:
    with pytest.raises(CameraFormatError, match=f"did you mean '{meant}'"):
        split(**{typed: 1})


def test_unsupported_lists_what_is_supported() -> None:
    message = str(unsupported('rotation', 'the IMX219', 'the ISP only turns by 180 degrees', ['hflip', 'vflip']))
    assert message == ("the IMX219 does not support the control 'rotation': the ISP only turns by 180 degrees. "
                       'It supports: hflip, vflip')


anything = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                        lambda inner: st.lists(inner, max_size=5), max_leaves=6)


@given(name=st.sampled_from(COMMON), value=anything)
def test_anything_either_passes_within_its_range_or_is_refused(name: str, value: Any) -> None:
    try:
        common, own = split(**{name: value})
    except CameraFormatError:
        return
    kept = getattr(common, name)
    assert own == {} and (kept is None) == (value is None)
    if kept is not None:
        assert split(**{name: kept}) == (common, {})       # what was kept passes again, unchanged

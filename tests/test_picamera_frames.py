"""What of the legacy stack's camera needs no camera: buffers into frames, the measured rate, sizes, controls."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
from typing import Any, Iterator, Optional

import numpy as np
import pytest
from camera_kit import ListSink
from hypothesis import given
from hypothesis import strategies as st
from recording_tools import wait_until

from ProcessedPiRecorder.cameras import CameraRequest, Granted, PicameraCamera, picamera, stacks
from ProcessedPiRecorder.cameras.mmal.controls import NATIVE, wishes
from ProcessedPiRecorder.cameras.mmal.frames import FRAME_END, FRAME_START, TIME_UNKNOWN, Frames, Layout, period_us
from ProcessedPiRecorder.errors import CameraFormatError, CameraNotFoundError, MissingExtraError

WHOLE = FRAME_START | FRAME_END
CORRUPTED = 1 << 9


class Buffer:
    """As picamera's MMALBuffer, over bytes."""

    def __init__(self, data: Any, flags: int = WHOLE, pts: int = 1000, offset: int = 0) -> None:
        self.memory = np.concatenate([np.zeros(offset, np.uint8), np.frombuffer(bytes(data), np.uint8)])
        self.offset, self.length = offset, len(self.memory) - offset
        self.flags, self.pts = flags, pts

    def __enter__(self) -> Any:
        return self.memory

    def __exit__(self, *exc: Any) -> None:
        pass


def sink_for(layout: Layout) -> ListSink:
    gray = layout.channels == 1
    return ListSink(Granted(layout.width, layout.height, layout.width, layout.height, 30.0, 'gray' if gray else 'bgr',
                            'test', 'fixed_rate'))


def flowing(layout: Layout) -> 'tuple[Frames, ListSink]':
    frames, sink = Frames(), sink_for(layout)
    frames.begin(layout)
    frames.period_us = 1e6
    frames.flow(sink)
    return frames, sink


def padded(layout: Layout, columns: int, rows: int) -> 'tuple[np.ndarray, bytes]':
    """A picture, and the buffer in which the firmware would send it: padded with 255, chroma planes behind Y."""
    picture = np.random.default_rng(1).integers(0, 255, (layout.height, layout.width, layout.channels), np.uint8)
    canvas = np.full((rows, columns, layout.channels), 255, np.uint8)
    canvas[:layout.height, :layout.width] = picture
    return picture, canvas.tobytes() + (b'\x80' * (columns * rows // 2) if layout.channels == 1 else b'')


@pytest.mark.parametrize(('layout', 'columns', 'rows'), [
    (Layout(48, 32, 1), 64, 32),       # Y rows of I420 go by 32
    (Layout(48, 32, 3), 48, 32),       # BGR rows straight from the splitter by 16
    (Layout(48, 32, 3), 64, 32),       # and by 32 from other components
    (Layout(50, 30, 3), 64, 32),
    (Layout(50, 30, 1), 64, 32),
    (Layout(64, 30, 4), 64, 32),
    (Layout(64, 48, 3), 64, 48),
])
def test_padding_is_cropped(layout: Layout, columns: int, rows: int) -> None:
    picture, data = padded(layout, columns, rows)
    frames, sink = flowing(layout)
    assert frames.take(Buffer(data, offset=5)) is False
    assert np.array_equal(sink.frames[0], picture[..., 0] if layout.channels == 1 else picture[..., :3])
    assert sink.stamps[0].sensor_ns == 1_000_000 and sink.losses == []


def test_a_frame_in_several_buffers() -> None:
    picture, data = padded(Layout(64, 16, 3), 64, 16)
    frames, sink = flowing(Layout(64, 16, 3))
    for _ in range(2):
        frames.take(Buffer(data[:1000], FRAME_START))
        frames.take(Buffer(data[1000:2000], 0))
        assert len(sink.frames) == _
        frames.take(Buffer(data[2000:], FRAME_END, pts=77))
    assert all(np.array_equal(image, picture) for image in sink.frames) and len(sink.frames) == 2
    assert [stamp.sensor_ns for stamp in sink.stamps] == [77_000, 77_000]


def test_damaged_frames_are_reported_lost() -> None:
    picture, data = padded(Layout(64, 16, 3), 64, 16)
    frames, sink = flowing(Layout(64, 16, 3))
    frames.take(Buffer(data[:-3]))                                   # too short
    frames.take(Buffer(data, WHOLE | CORRUPTED))
    frames.take(Buffer(data[:1000], FRAME_START))                    # its end never comes
    frames.take(Buffer(data))
    frames.take(Buffer(data[:1000], FRAME_START | CORRUPTED))
    frames.take(Buffer(data[1000:], FRAME_END))
    assert [count for count, _, _ in sink.losses] == [1, 1, 1, 1] and frames.broken == 4
    assert {reason for _, reason, _ in sink.losses} == {'camera error'}
    assert 'damaged frame (3069 bytes of one of 64x16 pixels)' in sink.losses[0][2]
    assert len(sink.frames) == frames.delivered == 1 and np.array_equal(sink.frames[0], picture)


def test_buffers_without_data_or_time() -> None:
    _, data = padded(Layout(64, 16, 3), 64, 16)
    frames, sink = flowing(Layout(64, 16, 3))
    frames.take(Buffer(b'', 0))
    frames.take(Buffer(data, 0))                                     # old firmware: whole, but not marked so
    frames.take(Buffer(data, pts=TIME_UNKNOWN))
    assert [stamp.sensor_ns for stamp in sink.stamps] == [1_000_000, None]


def test_frames_go_nowhere_before_and_after_the_recording() -> None:
    _, data = padded(Layout(64, 16, 3), 64, 16)
    frames, sink = Frames(), sink_for(Layout(64, 16, 3))
    frames.begin(Layout(64, 16, 3))
    frames.period_us = 1e6
    frames.take(Buffer(data, pts=5))
    frames.flow(sink)
    frames.take(Buffer(data, pts=6))
    frames.stem()
    frames.take(Buffer(data, pts=7))
    assert list(frames.arrivals) == [5, 7] and [stamp.sensor_ns for stamp in sink.stamps] == [6000]


def test_what_goes_wrong_in_the_firmwares_thread_is_raised_by_wait() -> None:
    _, data = padded(Layout(64, 16, 3), 64, 16)
    frames, sink = flowing(Layout(64, 16, 3))
    first = BrokenPipeError('the writer process is gone')

    def refuse(stamp: Any) -> None:
        raise first
    sink.commit = refuse                                             # type: ignore[method-assign]
    assert frames.take(Buffer(data)) is True                         # and no more buffers are wanted
    frames.fail(RuntimeError('later'))
    for wait in (lambda: frames.wait_for(sink), lambda: frames.wait(0)):
        with pytest.raises(BrokenPipeError) as caught:
            wait()
        assert caught.value is first


class WakingSink(ListSink):
    """Stops when it is told to, not with a frame."""

    def when_stopping(self, wake: Any) -> None:
        self.wake = wake


def test_frames_without_a_time_do_not_take_part_in_measuring_the_rate() -> None:
    layout = Layout(64, 16, 3)
    _, data = padded(layout, 64, 16)
    frames = Frames()
    frames.begin(layout)
    for pts in (0, TIME_UNKNOWN, 1_000_000, TIME_UNKNOWN, 1_020_000, 1_040_000):
        frames.take(Buffer(data, pts=pts))
    assert list(frames.arrivals) == [1_000_000, 1_020_000, 1_040_000] and frames.untimed == 3


@pytest.mark.parametrize('how', ['sink', 'end', 'frame'])
def test_wait_for_ends_with_the_sink_or_from_outside(how: str) -> None:
    layout = Layout(64, 16, 3)
    frames, _ = flowing(layout)
    sink = WakingSink(sink_for(layout).granted, limit=1)
    frames.flow(sink)
    thread = threading.Thread(target=frames.wait_for, args=(sink,))
    thread.start()
    wait_until(lambda: hasattr(sink, 'wake'))
    assert thread.is_alive()
    if how == 'frame':
        frames.take(Buffer(padded(layout, 64, 16)[1]))
    else:
        sink.wake() if how == 'sink' else frames.end()
    thread.join(10)
    assert not thread.is_alive()


# ---------------------------------------------------------------- the rate


@given(st.floats(4_000, 2_000_000), st.integers(30, 400), st.randoms(use_true_random=False), st.floats(0, 0.4))
def test_the_period_is_found_through_lost_frames(period: float, count: int, random: Any, lost: float) -> None:
    start = random.randrange(10**12)
    kept = [place for place in range(count) if random.random() >= lost]
    if sum(b - a == 1 for a, b in zip(kept, kept[1:])) < len(kept) / 3:
        return                             # nothing but chance would tell the period
    stamps = [round(start + place * period) for place in kept]
    found = period_us(stamps)
    # Stamps are whole µs: each is wrong by half a µs at most.
    assert found is not None and abs(found - period) <= 1.5 / (len(kept) - 1) + 1e-6


def test_too_few_stamps_tell_no_period() -> None:
    assert period_us([]) is None and period_us([5]) is None and period_us([5, 10]) is None
    assert period_us([5, 5, 5]) is None
    assert period_us([0, 10, 10, 20, 30]) == pytest.approx(10)


# ---------------------------------------------------------------- sizes

@pytest.mark.parametrize(('asked', 'stereo', 'given_'), [
    ((0, 0), False, (1280, 720)), ((0, 0), True, (1280, 480)), ((640, 480), False, (640, 480)),
    ((647, 487), False, (640, 480)), ((648, 488), False, (656, 496)), ((1, 1), False, (16, 16)),
    ((1, 1), True, (32, 16)), ((656, 480), True, (672, 480)), ((655, 480), True, (640, 480)),
    ((9999, 9999), False, (2592, 1936)), ((5184, 1944), True, (2592, 1936)),
])
def test_sizes_are_rounded_to_what_the_camera_takes(asked: Any, stereo: bool, given_: Any) -> None:
    size = picamera._size(CameraRequest(*asked, stereo=stereo), 2592, 1944)
    assert (size.width, size.height) == given_ and size.resize is None
    assert bool(picamera._rounded(CameraRequest(*asked, stereo=stereo), size)) is (asked not in ((0, 0), given_))


@pytest.mark.parametrize(('asked', 'scale', 'stereo', 'resize'), [
    ((1280, 480), 0.3, True, (384, 144)), ((640, 480), 0.5, False, (320, 240)), ((640, 480), 0.33, False, (224, 160)),
    ((640, 480), 0.96, False, None),      # rounded up it would be as wide as the sensor's picture
    ((640, 480), 0.01, False, (32, 16)), ((16, 16), 0.5, False, None)])
def test_the_gpu_resizes_in_steps_and_never_enlarges(asked: Any, scale: float, stereo: bool, resize: Any) -> None:
    assert picamera._size(CameraRequest(*asked, scale, stereo=stereo), 3280, 2464).resize == resize


# ---------------------------------------------------------------- controls

def test_controls_are_taken_apart() -> None:
    asked = wishes({'awb_mode': 'off', 'iso': np.int64(400), 'exposure_us': 4000, 'warm_up_s': 2, 'hflip': True,
                    'sharpness': None, 'color_effects': [np.uint8(1), 2]}, 90, False, 'it')
    assert asked.native == {'iso': 400, 'awb_mode': 'off', 'color_effects': (1, 2)}
    assert json.dumps(asked.native) == '{"iso": 400, "awb_mode": "off", "color_effects": [1, 2]}'
    assert asked.common.given() == {'exposure_us': 4000, 'hflip': True}
    assert (asked.warm_up_s, asked.freeze) == (2.0, False)


@pytest.mark.parametrize(('controls', 'says'), [
    ({'shutter': 1}, "does not support the control 'shutter'.*It supports: exposure_us, gain.*warm_up_s, freeze"),
    ({'ISO': 100}, "did you mean 'iso'"),
    ({'exposure_us': 20_000}, r'longer than a frame at 90 Hz \(11111 µs\); ask for framerate=50'),
    ({'exposure_us': 0}, 'exposure_us=0'), ({'brightness': 2}, 'brightness=2.*-1 to 1'),
    ({'iso': 3200}, 'iso=3200.*0 .automatic. or 100'), ({'iso': True}, 'iso=True'), ({'iso': 'high'}, "iso='high'"),
    ({'exposure_mode': 'fast'}, "exposure_mode='fast'.*'night'"), ({'exposure_mode': ['off']}, 'exposure_mode'),
    ({'awb_mode': 1}, "'tungsten'"), ({'meter_mode': 'x'}, "'backlit'"), ({'drc_strength': 'x'}, "'medium'"),
    ({'video_denoise': 'yes'}, "video_denoise='yes'.*True or False"), ({'saturation': 101}, '-100 to 100'),
    ({'saturation': 0.5}, '-100 to 100'), ({'sensor_mode': 8}, 'sensor_mode=8'),
    ({'image_effect': 5}, 'image_effect=5'),
    ({'color_effects': (1, 2, 3)}, r'\(u, v\)'), ({'color_effects': (1, 256)}, r'\(u, v\)'),
    ({'exposure_compensation': 26}, '-25 to 25'),
    ({'warm_up_s': 0.1}, 'warm_up_s=0.1.*0.2 to 30'), ({'warm_up_s': True}, 'warm_up_s'), ({'freeze': 1}, 'freeze=1'),
    ({'gain': 2, 'iso': 100}, 'gain and iso do not go together'),
    ({'gain': 2, 'exposure_mode': 'off'}, "gain and exposure_mode='off'"),
    ({'white_balance': (1, 1), 'awb_mode': 'auto'}, 'white_balance and awb_mode'),
    ({'freeze': True, 'exposure_us': 100}, 'exposure_us and freeze'),
])
def test_controls_that_cannot_work(controls: Any, says: str) -> None:
    with pytest.raises(CameraFormatError, match=says):
        wishes(controls, 90, False, 'it')


@pytest.mark.parametrize(('rotation', 'fits'), [(0, True), (90, False), (180, True), (270, False)])
def test_a_pair_of_eyes_can_only_be_turned_over(rotation: int, fits: bool) -> None:
    with contextlib.nullcontext() if fits else pytest.raises(CameraFormatError, match='with stereo use 0 or 180'):
        assert wishes({'rotation': rotation}, 30, True, 'it').common.rotation == rotation


def test_every_native_control_says_what_is_allowed() -> None:
    for name, control in NATIVE.items():
        with pytest.raises(CameraFormatError) as caught:
            wishes({name: object()}, 30, False, 'it')
        assert control.allowed in str(caught.value)

# ---------------------------------------------------------------- without the stack


class Absent:
    """An importer that fails for one package as the test wants."""

    def __init__(self, package: str, error: BaseException) -> None:
        self.package, self.error = package, error

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split('.')[0] == self.package:
            raise self.error


@pytest.fixture
def unloaded() -> Iterator[None]:
    """picamera and our module over it out of sys.modules for a while."""
    names = [name for name in sys.modules if name.split('.')[0] == 'picamera' or name.endswith('.mmal.stack')]
    kept = {name: sys.modules.pop(name) for name in names}
    package: Any = sys.modules['ProcessedPiRecorder.cameras.mmal']
    stack: Optional[Any] = package.__dict__.pop('stack', None)
    yield
    for name in [name for name in sys.modules if name.endswith('.mmal.stack')]:
        del sys.modules[name]
    sys.modules.update(kept)
    if stack is not None:
        package.stack = stack


@pytest.mark.parametrize(('machine', 'kind', 'says'), [
    ('armv7l', MissingExtraError, r"pip install 'ProcessedPiRecorder\[picamera\]'"),
    ('x86_64', CameraNotFoundError, 'needs a Raspberry Pi')])
def test_without_the_package(unloaded: None, monkeypatch: pytest.MonkeyPatch, machine: str, kind: Any,
                             says: str) -> None:
    monkeypatch.setitem(sys.modules, 'picamera', None)               # makes its import fail
    monkeypatch.setattr(stacks, 'is_installed', lambda name: False)
    monkeypatch.setattr('platform.machine', lambda: machine)
    with pytest.raises(kind, match=says):
        PicameraCamera().open(CameraRequest())
    assert_not_available(says)


def test_without_the_firmwares_libraries(unloaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = OSError('libbcm_host.so: cannot open shared object file')
    monkeypatch.setattr(sys, 'meta_path', [Absent('picamera', failure), *sys.meta_path])
    says = "libbcm_host.so.*no legacy camera stack.*raspi-config.*camera='picamera2'"
    with pytest.raises(CameraNotFoundError, match=says):
        PicameraCamera().open(CameraRequest())
    assert_not_available(says)


def assert_not_available(says: str) -> None:
    (line,) = PicameraCamera.listings()
    assert not line.available and line.name == 'picamera' and re.search(says, line.why_not)


def test_the_number_may_come_as_text() -> None:
    assert repr(PicameraCamera('1')) == 'PicameraCamera(1)' and PicameraCamera().number == 0
    camera = PicameraCamera()
    camera.close()
    assert camera.statistics() == {}

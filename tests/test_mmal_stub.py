"""The simulated camera keeps the rules of the real one: what frames look like, seen through the unmodified picamera.

No code of ours takes part. These tests are what makes those trustworthy that record through it.
"""

from __future__ import annotations

import ctypes
import io
import re
from pathlib import Path
from typing import Any, Iterator

import mmal_kit
import numpy as np
import pytest
from mmal_kit import eye_of, field_of, number_of
from mmal_recording import Output, Sim, as_image, one_image, open_camera, record, simulations

pytestmark = mmal_kit.needs_the_stub


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Sim]:
    with simulations(tmp_path) as start:
        yield start


# ---- pictures ----

@pytest.mark.parametrize(('format', 'resize', 'stride', 'rows', 'channels'), [
    ('bgr', None, 336, 256, 3), ('rgb', None, 336, 256, 3), ('bgra', None, 336, 256, 4), ('yuv', None, 352, 256, 1),
    ('bgra', (160, 120), 160, 128, 4), ('bgr', (160, 120), 160, 128, 3), ('yuv', (100, 80), 128, 80, 1)])
def test_raw_frames_are_padded_as_on_the_real_thing(sim: Sim, format: str, resize: Any, stride: int, rows: int,
                                                    channels: int) -> None:
    """To 32x16; RGB straight from the splitter to 16x16; and the resizer scales to the padded size."""
    sim(frames=200)
    with open_camera((330, 250)) as camera:
        frames = record(camera, 4, format, resize)
    pixels = stride * rows
    assert {len(frame.data) for frame in frames} == {pixels * 3 // 2 if channels == 1 else pixels * channels}
    width, height = (stride, rows) if resize else (330, 250)
    numbers = [number_of(as_image(frame.data, width, height, stride, rows, channels)) for frame in frames]
    assert numbers == list(range(numbers[0], numbers[0] + len(frames)))


def test_all_formats_show_the_same_scene_in_their_own_order_of_colours(sim: Sim) -> None:
    import picamera.array
    sim()
    with open_camera((320, 240)) as camera:
        with picamera.array.PiRGBArray(camera) as rgb:
            camera.capture(rgb, 'rgb', use_video_port=True)
            by_rgb = rgb.array.copy()
        with picamera.array.PiYUVArray(camera) as yuv:
            camera.capture(yuv, 'yuv', use_video_port=True)
            by_yuv = yuv.rgb_array.copy()
        by_bgr = one_image(camera)
        by_bgra = as_image(record(camera, 1, 'bgra')[0].data, 320, 240, 320, 240, 4)
    below_the_square = slice(150, 210)
    assert (by_rgb[below_the_square] == by_bgr[below_the_square, :, ::-1]).all()
    assert (by_bgra[below_the_square, :, :3] == by_bgr[below_the_square]).all()
    assert (by_bgra[..., 3] == 255).all()
    assert np.abs(by_rgb[below_the_square].astype(int) - by_yuv[below_the_square]).max() <= 6


def test_torn_frames_and_other_pictures_are_told(sim: Sim) -> None:
    sim()
    with open_camera() as camera:
        first, *_, last = [as_image(frame.data, 320, 240, 320, 240, 3) for frame in record(camera, 4)]
    torn = np.concatenate((first[:120], last[120:]))
    with pytest.raises(ValueError, match='torn'):
        number_of(torn)
    with pytest.raises(ValueError, match='not a strip|differ'):
        number_of(np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8))


def test_numbers_survive_the_resizing_of_the_stereo_recipe(sim: Sim) -> None:
    sim(cameras=2)
    with open_camera((1280, 480), 25, stereo_mode='side-by-side') as camera:
        frames = record(camera, 2, 'yuv', (384, 144))
    image = as_image(frames[0].data, 384, 144, 384, 144, 1)
    assert number_of(image[:, :192]) == number_of(image[:, 192:])
    assert (eye_of(image[:, :192]), eye_of(image[:, 192:])) == ('left', 'right')


def test_flips_rotation_and_zoom_act_on_the_scene(sim: Sim) -> None:
    sim()
    with open_camera() as camera:
        plain = field_of(one_image(camera))
        camera.hflip = True
        mirrored = field_of(one_image(camera))
        camera.hflip, camera.vflip = False, True
        upside_down = field_of(one_image(camera))
        camera.vflip, camera.rotation = False, 180
        turned = field_of(one_image(camera))
        camera.rotation, camera.zoom = 0, (0.25, 0.5, 0.5, 0.25)
        zoomed = field_of(one_image(camera))
    assert np.allclose(plain, (0, 0, 1, 1), atol=0.02)
    assert np.allclose(mirrored, (1, 0, 0, 1), atol=0.02)
    assert np.allclose(upside_down, (0, 1, 1, 0), atol=0.02)
    assert np.allclose(turned, (1, 1, 0, 0), atol=0.02)
    assert np.allclose(zoomed, (0.25, 0.5, 0.75, 0.75), atol=0.02)


def test_rotation_by_a_quarter_is_clockwise_and_keeps_the_size_of_the_frame(sim: Sim) -> None:
    """What was at the bottom left is then at the top left: green falls from left to right, red grows downwards."""
    sim()
    with open_camera() as camera:
        camera.rotation = 90
        image = one_image(camera).astype(int)
        camera.rotation = 270
        back = one_image(camera).astype(int)
    assert image.shape == (240, 320, 3)
    assert image[200, 20, 1] > image[200, 300, 1] + 100 and image[210, 310, 2] > image[30, 310, 2] + 50
    assert back[200, 20, 1] < back[200, 300, 1] - 100 and back[210, 310, 2] < back[30, 310, 2] - 50


def test_brightness_and_contrast_change_the_scene_but_not_the_strips(sim: Sim) -> None:
    sim()
    with open_camera() as camera:
        plain = one_image(camera)
        camera.brightness = 75
        brighter = one_image(camera)
        camera.brightness, camera.contrast = 50, -50
        duller = one_image(camera)
    scene = np.s_[150:210, 100:200]
    assert (brighter[scene] == np.minimum(plain[scene].astype(int) + 64, 255)).all()
    assert np.abs((duller[scene].astype(int) - 128) * 2 - (plain[scene].astype(int) - 128)).max() <= 1
    assert number_of(plain) < number_of(brighter) < number_of(duller)
    assert (brighter[:10].max(), brighter[:10].min()) == (plain[:10].max(), plain[:10].min())


def test_wide_pictures_show_less_above_and_below(sim: Sim) -> None:
    sim()
    with open_camera((1280, 720), 30) as camera:
        field = field_of(one_image(camera))
    assert np.allclose(field, (0, 0.125, 1, 0.875), atol=0.02)


# ---- capturing ----

def test_capture_continuous_and_still_captures(sim: Sim) -> None:
    import picamera.array
    sim()
    numbers = []
    with open_camera() as camera, picamera.array.PiRGBArray(camera) as output:
        for _ in camera.capture_continuous(output, format='bgr', use_video_port=True):
            numbers.append(number_of(output.array))
            output.seek(0)
            output.truncate()
            if len(numbers) == 5:
                break
        camera.capture(output, 'bgr')
        still = number_of(output.array)
        output.seek(0)
        camera.resolution = (330, 250)
        with pytest.warns(picamera.exc.PiCameraResolutionRounded):
            camera.capture(output, 'rgb')
        assert output.getbuffer().nbytes == 352 * 256 * 3       # the still port pads RGB to 32, too
    assert numbers == sorted(set(numbers)) and still > numbers[-1]


def test_encoders_are_refused(sim: Sim) -> None:
    import picamera
    from picamera import mmal
    sim()
    with open_camera() as camera:
        for attempt in (lambda: camera.capture(io.BytesIO(), 'jpeg'),
                        lambda: camera.start_recording(io.BytesIO(), format='h264')):
            with pytest.raises(picamera.PiCameraMMALError) as caught:
                attempt()
            assert caught.value.status == mmal.MMAL_ENOSYS


def test_a_frame_in_several_buffers(sim: Sim) -> None:
    sim(buffer_bytes=100_000)
    with open_camera() as camera:
        pieces = record(camera, 12)
    lengths = [len(piece.data) for piece in pieces]
    assert lengths[:3] == [100_000, 100_000, 230_400 - 200_000] and lengths[3:6] == lengths[:3]
    assert [piece.complete for piece in pieces[:6]] == [False, False, True] * 2
    assert len({piece.timestamp for piece in pieces[:3]}) == 1 < len({piece.timestamp for piece in pieces[:6]})
    whole = as_image(b''.join(piece.data for piece in pieces[3:6]), 320, 240, 320, 240, 3)
    assert number_of(whole)


def test_old_firmware_needs_the_resizer_for_rgb(sim: Sim) -> None:
    import picamera
    sim(old_firmware=1)
    with open_camera() as camera:
        output = Output(camera)
        with pytest.warns() as caught:
            camera.start_recording(output, format='bgr')
        output.wait_for(3)
        camera.stop_recording()
    assert {warning.category for warning in caught} == {picamera.exc.PiCameraResizerEncoding,
                                                        picamera.exc.PiCameraAlphaStripping}
    assert len(output.frames[0].data) == 320 * 240 * 3
    assert np.allclose(field_of(as_image(output.frames[0].data, 320, 240, 320, 240, 3)), (0, 0, 1, 1), atol=0.02)


# ---- stereo ----

@pytest.mark.parametrize('mode', ['side-by-side', 'top-bottom'])
@pytest.mark.parametrize('camera_num', [0, 1])
def test_stereo_pairs(sim: Sim, mode: str, camera_num: int) -> None:
    """Each eye is mirrored on its own and keeps its place; camera number 1 swaps them."""
    sim(cameras=2)
    size = (640, 240) if mode == 'side-by-side' else (320, 480)
    with open_camera(size, 30, stereo_mode=mode, camera_num=camera_num) as camera:
        camera.hflip = True
        image = one_image(camera)
    first, second = (image[:, :320], image[:, 320:]) if mode == 'side-by-side' else (image[:240], image[240:])
    assert [eye_of(first), eye_of(second)] == (['left', 'right'] if camera_num == 0 else ['right', 'left'])
    assert number_of(first) == number_of(second)
    assert np.allclose(field_of(first), (1, 0, 0, 1), atol=0.02)
    assert np.allclose(field_of(second), (1, 0, 0, 1), atol=0.02)


def test_decimated_eyes_show_the_field_of_a_whole_frame_squeezed(sim: Sim) -> None:
    sim(cameras=2)
    fields = {}
    for decimate in (False, True):
        with open_camera((640, 480), 30, stereo_mode='side-by-side', stereo_decimate=decimate) as camera:
            image = one_image(camera)
        assert image.shape == (480, 640, 3)
        fields[decimate] = field_of(image[:, :320])
    assert np.allclose(fields[True], (0, 0, 1, 1), atol=0.02)
    assert np.allclose(fields[False], (0.25, 0, 0.75, 1), atol=0.02)


def test_stereo_needs_two_cameras_and_pairs_no_larger_than_a_sensor(sim: Sim) -> None:
    import picamera
    sim(cameras=1)
    with pytest.raises(picamera.PiCameraMMALError, match='Argument is invalid'):
        open_camera((640, 240), stereo_mode='side-by-side')
    sim(cameras=2)
    with pytest.raises(picamera.PiCameraMMALError, match='Failed to enable component: Out of resources'):
        open_camera((5184, 1944), 10, stereo_mode='side-by-side')


# ---- the two sides of the interface ----

STRUCTURES = ('VIDEO_FORMAT', 'ES_FORMAT', 'BUFFER_HEADER', 'POOL', 'PORT', 'COMPONENT', 'CONNECTION')
PARAMETERS = ('CONFIG', 'SETTINGS', 'INFO_V2', 'ANNOTATE_V3')


def test_the_structures_have_the_sizes_that_picamera_believes(sim: Sim) -> None:
    sim()
    from picamera import mmal
    wanted = [getattr(mmal, f'MMAL_{name}_T') for name in STRUCTURES]
    wanted += [getattr(mmal, f'MMAL_PARAMETER_CAMERA_{name}_T') for name in PARAMETERS]
    wanted += [getattr(mmal, f'MMAL_PARAMETER_{name}_T') for name in ('STEREOSCOPIC_MODE', 'FPS_RANGE', 'AWB_GAINS')]
    sizes = (ctypes.c_uint32 * len(wanted)).in_dll(ctypes.CDLL('libmmal.so'), 'sim_sizes')
    header = ctypes.sizeof(mmal.MMAL_PARAMETER_HEADER_T)
    assert list(sizes) == [ctypes.sizeof(kind) - (header if 'PARAMETER' in kind.__name__ else 0) for kind in wanted]


def test_the_numbers_of_the_parameters_are_those_of_picamera(sim: Sim) -> None:
    sim()
    from picamera import mmal
    told = re.findall(r'(MMAL_PARAM\w+) = (0x[0-9a-f]+)', (mmal_kit.SOURCES / 'mmal.h').read_text())
    newer_than_picamera = {'MMAL_PARAMETER_ANALOG_GAIN', 'MMAL_PARAMETER_DIGITAL_GAIN'}
    numbers = {name: int(number, 16) for name, number in told if name not in newer_than_picamera}
    assert len(numbers) > 30
    assert numbers == {name: getattr(mmal, name) for name in numbers}


def test_the_state_file_has_the_layout_that_the_kit_believes(sim: Sim) -> None:
    simulation = sim()
    with open_camera():
        assert simulation.state_file.stat().st_size == len(mmal_kit.MAGIC) + mmal_kit.CAMERAS * mmal_kit.CAMERA.size

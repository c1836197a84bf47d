"""The simulated sensors themselves, under picamera2 alone: what other tests rely on has to be so.

picamera2 runs in processes of their own: libcamera starts threads, and this process may be forked by later tests.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import picamera2_kit
import pytest
from picamera2_kit import Bench, Seen, bench, needs_the_sensors, seen

from ProcessedPiRecorder.cameras.scene import Scene

RATE, PERIOD_US = 50, 20_000
SMALL = (640, 480)
#: The whole field of view, which takes a slower mode.
WHOLE: Dict[str, Any] = {'sensor': (1640, 1232), 'FrameDurationLimits': (25_000, 25_000)}
IN_PIXELS = ('RGB888', 'BGR888', 'XRGB8888', 'XBGR8888')
IN_PLANES = ('YUV420', 'NV12')


# ---- what runs in the other process ----

class Shot(NamedTuple):
    """One frame as an application gets it."""

    seen: Seen
    metadata: Dict[str, Any]
    means: Tuple[float, ...]          # of the left, right, upper and lower edge, between the strips
    sequence: int


def film(number: int = 0, frames: int = 20, *, pixels: str = 'RGB888', size: Tuple[int, int] = SMALL, buffers: int = 6,
         nap: Tuple[int, float] = (-1, 0.0), patience_s: float = 25.0, mirrored: bool = False,
         transform: Optional[Dict[str, bool]] = None, sensor: Optional[Tuple[int, int]] = SMALL,
         **controls: Any) -> List[Shot]:
    """Every request that picamera2 completes, until there are so many or the patience ends."""
    import libcamera
    from picamera2 import Picamera2

    shots: List[Shot] = []
    errors: List[Exception] = []
    enough = threading.Event()

    def look(request: Any) -> None:      # in picamera2's thread, which an error would end
        if len(shots) == nap[0]:
            time.sleep(nap[1])
        try:
            if not enough.is_set():
                shots.append(shot(request, pixels, mirrored))
        except Exception as error:
            errors.append(error)
        if errors or len(shots) >= frames:
            enough.set()

    camera = Picamera2(number)
    try:
        config = camera.create_video_configuration(
            main={'format': pixels, 'size': size}, buffer_count=buffers,
            transform=libcamera.Transform(**(transform or {})), sensor={'output_size': sensor, 'bit_depth': 10},
            controls={'FrameDurationLimits': (PERIOD_US, PERIOD_US), **controls})
        camera.configure(config)
        camera.pre_callback = look
        camera.start()
        enough.wait(patience_s)
        camera.stop()
    finally:
        camera.close()
    if errors:
        raise errors[0]
    return shots


def shot(request: Any, pixels: str, mirrored: bool) -> Shot:
    stream = request.config['main']
    width, height = stream['size']
    if pixels in IN_PLANES:              # the first is brightness
        image = request.make_buffer('main').reshape(-1, stream['stride'])[:height, :width]
    else:
        image = request.make_array('main')[:, :, :3]
    inner, rows, columns = image[8:-8], height // 8, width // 8
    edges = (inner[:, :columns], inner[:, -columns:], inner[:rows], inner[-rows:])
    buffer = next(iter(request.request.buffers.values()))
    return Shot(seen(image, mirrored=mirrored), dict(request.get_metadata()),
                tuple(float(edge.mean()) for edge in edges), buffer.metadata.sequence)


def listing() -> List[Dict[str, Any]]:
    from picamera2 import Picamera2

    listed = []
    for info in Picamera2.global_camera_info():
        camera = Picamera2(info['Num'])
        modes = [(mode['size'], mode['bit_depth'], mode['fps'], mode['crop_limits']) for mode in camera.sensor_modes]
        camera.close()
        listed.append({'id': info['Id'], 'model': info['Model'], 'modes': modes})
    return listed


def film_both(frames: int) -> List[List[Shot]]:
    both: List[List[Shot]] = [[], []]
    threads = [threading.Thread(target=lambda i=i: both[i].extend(film(i, frames))) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return both


def hold(number: int, held: Any, release: Any) -> None:
    from picamera2 import Picamera2

    with contextlib.closing(Picamera2(number)):
        held.set()
        release.wait(30)


def why_refused(number: int) -> str:
    from picamera2 import Picamera2

    try:
        Picamera2(number).close()
    except RuntimeError as error:
        cause: Optional[BaseException] = error
        while cause and (cause.__cause__ or cause.__context__):
            cause = cause.__cause__ or cause.__context__
        return str(cause)
    return ''


def film_until_unplugged() -> Tuple[int, int]:
    """How many frames came, and how many cameras are left when no more do."""
    from picamera2 import Picamera2

    camera = Picamera2(0)
    count = [0]

    def look(request: Any) -> None:
        count[0] += 1

    camera.configure(camera.create_video_configuration(main={'format': 'RGB888', 'size': SMALL}))
    camera.pre_callback = look
    camera.start()
    deadline = time.monotonic() + 20
    while len(Picamera2.global_camera_info()) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)                       # for the last frames to come through picamera2's thread
    return count[0], len(Picamera2.global_camera_info())


# ---- here ----

def _call(pipe: Any, function: Callable[..., Any], args: Tuple[Any, ...], keywords: Dict[str, Any]) -> None:
    try:
        pipe.send((function(*args, **keywords), ''))
    except BaseException:
        pipe.send((None, traceback.format_exc()))


def elsewhere(function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """The function's result, from a process of its own; what it raises there fails the test here."""
    context = multiprocessing.get_context('spawn')
    mine, its = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(its, function, args, keywords))
    process.start()
    its.close()
    try:
        result, error = mine.recv() if mine.poll(45) else (None, 'no answer in 45 s')
        process.join(0 if error else 5)
    except EOFError:
        result, error = None, 'it died without a word'
    finally:
        process.kill()
        process.join()
    assert not error, error
    return result


@pytest.fixture
def sensors(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


def numbers(shots: List[Shot]) -> List[int]:
    return [shot.seen.number for shot in shots]


def times(shots: List[Shot]) -> np.ndarray:
    return np.array([shot.metadata['SensorTimestamp'] for shot in shots])


@needs_the_sensors
def test_the_cameras_and_their_modes(sensors: Bench) -> None:
    cameras = elsewhere(listing)
    assert [camera['model'] for camera in cameras] == ['simulated0', 'simulated1']
    assert len({camera['id'] for camera in cameras}) == 2
    modes = [(size, depth) for size, depth, _, _ in cameras[0]['modes']]
    assert ((640, 480), 10) in modes and ((3280, 2464), 8) in modes and len(modes) == 8
    assert all(fps == pytest.approx(206.65, abs=0.1) and crop == (1000, 752, 1280, 960)
               for size, _, fps, crop in cameras[0]['modes'] if size == (640, 480))


@needs_the_sensors
@pytest.mark.parametrize('cameras', [0, 1, 3])
def test_as_many_cameras_as_asked_for(tmp_path: Path, cameras: int) -> None:
    with bench(tmp_path, cameras=cameras):
        assert len(elsewhere(listing)) == cameras


@needs_the_sensors
def test_paced_and_every_frame_told(sensors: Bench) -> None:
    began = time.monotonic()
    shots = elsewhere(film, frames=60)
    assert time.monotonic() - began >= 59 / RATE
    run, = sensors.runs(0)
    assert (run.mode, run.ending) == ('640x480', 'stop')
    delivered = {frame.number: frame for frame in run.frames if frame.fate == 'delivered'}
    assert numbers(shots) == list(delivered)[:60] and {shot.seen.camera for shot in shots} == {0}
    for taken in shots:
        frame = delivered[taken.seen.number]
        assert taken.metadata['SensorTimestamp'] == frame.start_ns
        assert taken.metadata['FrameDuration'] == frame.duration_us == PERIOD_US
    starts = np.array([frame.start_ns for frame in run.frames])
    assert (np.diff(starts) == 1000 * PERIOD_US).all()


@needs_the_sensors
@pytest.mark.parametrize('pixels', IN_PIXELS + IN_PLANES)
def test_every_format_is_the_same_picture(sensors: Bench, pixels: str) -> None:
    # 98 pixels a row: no multiple of what rows are aligned to.
    shots = elsewhere(film, frames=12, pixels=pixels, size=(98, 66), **WHOLE)
    assert numbers(shots) == sensors.runs(0)[-1].fates('delivered')[:12]
    left, right, upper, lower = shots[-1].means
    assert right > left + 10 and lower > upper + 10


@needs_the_sensors
def test_red_is_where_the_format_says(sensors: Bench) -> None:
    # Red twice as strong: as much more in pictures of both orders.
    means = {(pixels, red): elsewhere(film, frames=2, pixels=pixels, AwbEnable=False, ColourGains=(red, 1.0),
                                      AeEnable=False, ExposureTime=10_000, AnalogueGain=1.0)[-1].means
             for pixels in ('RGB888', 'BGR888') for red in (1.0, 1.5)}
    assert means['RGB888', 1.5] == means['BGR888', 1.5]
    left, right = (means['RGB888', 1.5][side] - means['RGB888', 1.0][side] for side in (0, 1))
    assert right > left + 2          # red rises to the right


@needs_the_sensors
def test_two_cameras_at_once(sensors: Bench) -> None:
    both = elsewhere(film_both, 40)
    for camera, shots in enumerate(both):
        assert {shot.seen.camera for shot in shots} == {camera}
        assert numbers(shots) == sensors.runs(camera)[-1].fates('delivered')[:40]
    overlap = min(times(shots)[-1] for shots in both) - max(times(shots)[0] for shots in both)
    assert overlap > 0, 'they did not run at the same time'
    # Each has its own picture.
    assert abs(both[0][-1].means[0] - both[1][-1].means[0]) > 5


@needs_the_sensors
def test_frames_without_a_request_are_lost_as_on_a_sensor(sensors: Bench) -> None:
    shots = elsewhere(film, frames=30, buffers=3, nap=(10, 0.5))
    run, = sensors.runs(0)
    assert len(run.fates('starved')) >= 10           # 25 frames in half a second, for three buffers
    assert numbers(shots) == run.fates('delivered')[:30]
    assert np.diff(times(shots)).max() >= 10 * 1000 * PERIOD_US
    assert [shot.sequence for shot in shots] == list(range(30)), 'as on some drivers, sequence shows no loss'


@needs_the_sensors
def test_dropped_frames(sensors: Bench) -> None:
    sensors.set_faults(0, drop=[5, 6, 9], drop_every=10)
    shots = elsewhere(film, frames=30)
    run, = sensors.runs(0)
    lost = run.fates('dropped')
    assert [number for number in lost if number < 30] == [5, 6, 9, 10, 20]
    assert not set(lost) & set(numbers(shots))
    gaps = np.diff(times(shots)) // (1000 * PERIOD_US) - 1
    assert gaps.sum() == len([n for n in range(numbers(shots)[-1]) if n not in numbers(shots)]) - numbers(shots)[0]


@needs_the_sensors
def test_a_stall_that_ends_and_one_that_does_not(sensors: Bench) -> None:
    sensors.set_faults(0, stall_from=10, stall_until=30)
    shots = elsewhere(film, frames=20)
    run, = sensors.runs(0)
    assert run.fates('stalled') == list(range(10, 30))
    assert numbers(shots) == run.fates('delivered')[:20] and max(numbers(shots)) >= 30

    sensors.set_faults(0, stall_from=10)
    shots = elsewhere(film, frames=20, patience_s=3)
    run = sensors.runs(0)[-1]
    assert numbers(shots) == run.fates('delivered') and max(numbers(shots)) < 10
    assert run.fates('stalled') == [frame.number for frame in run.frames[10:]] != []
    sensors.set_faults(0)
    assert len(elsewhere(film, frames=20)) == 20


@needs_the_sensors
def test_frames_that_libcamera_marks_as_corrupt_are_thrown_away_by_picamera2(sensors: Bench) -> None:
    sensors.set_faults(0, error_every=4)
    shots = elsewhere(film, frames=15)
    run, = sensors.runs(0)
    assert run.fates('corrupt') and all(number % 4 == 0 for number in run.fates('corrupt'))
    assert numbers(shots) == run.fates('delivered')[:15]


@needs_the_sensors
def test_slower_than_asked_and_silent_about_it(sensors: Bench) -> None:
    sensors.set_faults(0, duration_factor=1.5, hide_duration=True)
    shots = elsewhere(film, frames=10)
    assert (np.diff(times(shots)) == 1500 * PERIOD_US).all()
    assert not any('FrameDuration' in shot.metadata for shot in shots)


@needs_the_sensors
def test_an_unplugged_camera_goes_from_the_list(sensors: Bench) -> None:
    sensors.set_faults(0, disconnect_at=20)
    frames, left = elsewhere(film_until_unplugged)
    run, = sensors.runs(0)
    assert left == 1 and run.ending == 'unplugged'
    assert frames == len(run.fates('delivered')) and len(run.frames) == 20


@needs_the_sensors
def test_one_process_at_a_time(sensors: Bench) -> None:
    context = multiprocessing.get_context('spawn')
    held, release = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(0, held, release))
    holder.start()
    try:
        assert held.wait(40)
        assert 'busy' in elsewhere(why_refused, 0).lower()
        assert elsewhere(why_refused, 1) == ''
    finally:
        release.set()
        holder.join(10)
        holder.kill()
        holder.join()
    assert elsewhere(why_refused, 0) == ''


@needs_the_sensors
def test_controls_act_and_are_told(sensors: Bench) -> None:
    fixed = {'AeEnable': False, 'ExposureTime': 5000, 'AnalogueGain': 2.0, 'ColourGains': (1.0, 1.0)}
    plain, bright, dark = (elsewhere(film, frames=3, **{**fixed, **more})[-1]
                           for more in ({}, {'Brightness': 0.2}, {'ExposureTime': 2000}))
    assert plain.metadata['ExposureTime'] == 5000 and plain.metadata['AnalogueGain'] == pytest.approx(2.0)
    assert dark.metadata['ExposureTime'] == 2000
    assert bright.means[0] == pytest.approx(plain.means[0] + 0.2 * 128, abs=2)
    assert dark.means[0] < plain.means[0] / 2


@needs_the_sensors
def test_exposure_settles_by_itself(sensors: Bench) -> None:
    exposures = [shot.metadata['ExposureTime'] for shot in elsewhere(film, frames=20)]
    assert exposures[0] < exposures[-1] == exposures[-5] == 10_000


@needs_the_sensors
def test_mirrored_and_turned(sensors: Bench) -> None:
    as_it_is = elsewhere(film, frames=10)[-1].means
    mirrored = elsewhere(film, frames=10, transform={'hflip': True}, mirrored=True)[-1].means
    turned = elsewhere(film, frames=10, transform={'vflip': True, 'hflip': True}, mirrored=True)[-1].means
    left, right, upper, lower = as_it_is
    assert mirrored == pytest.approx((right, left, upper, lower), abs=1)
    assert turned == pytest.approx((right, left, lower, upper), abs=1)


@needs_the_sensors
def test_the_part_that_is_seen(sensors: Bench) -> None:
    full = elsewhere(film, frames=10, **WHOLE)[-1]
    assert full.metadata['ScalerCrop'][2:] == (3280, 2460)          # 4:3 in the middle of 3280x2464
    part = elsewhere(film, frames=10, ScalerCrop=(0, 0, 820, 616), **WHOLE)[-1]
    assert part.metadata['ScalerCrop'] == (0, 0, 820, 616)
    assert part.means[1] - part.means[0] < full.means[1] - full.means[0]


@pytest.mark.skipif(not hasattr(time, 'CLOCK_BOOTTIME'), reason='this system has no CLOCK_BOOTTIME')
@needs_the_sensors
@pytest.mark.parametrize('clock', ['boottime', 'monotonic'])
def test_the_clock_that_was_asked_for(tmp_path: Path, clock: str) -> None:
    reference = time.CLOCK_BOOTTIME if clock == 'boottime' else time.CLOCK_MONOTONIC
    with bench(tmp_path, clock=clock):
        before = time.clock_gettime_ns(reference)
        shots = elsewhere(film, frames=5)
        assert before < times(shots)[0] < times(shots)[-1] < time.clock_gettime_ns(reference)


# ---- the kit, which needs nothing ----

def test_the_kit_reads_what_is_drawn() -> None:
    image = np.empty((48, 64), np.uint8)
    Scene(64, 48, 'gray').render(3 << picamera2_kit.CAMERA_SHIFT | 1234, image)
    assert seen(image) == Seen(3, 1234)
    assert seen(image[:, ::-1], mirrored=True) == Seen(3, 1234)
    image[-8:] = 0
    with pytest.raises(ValueError, match='torn'):
        seen(image)


def test_the_kit_refuses_faults_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='dorp'):
        Bench(tmp_path).set_faults(0, dorp=[1])
    assert not list(tmp_path.iterdir())


def test_the_kit_reads_ledgers(tmp_path: Path) -> None:
    (tmp_path / 'camera1.ledger').write_text(
        'start 640x480\nframe 0 1000 20 delivered\nframe 1 21000 20 starved\nstop\nstart 1640x1232\n')
    first, second = Bench(tmp_path).runs(1)
    assert (first.mode, first.ending, first.fates('starved')) == ('640x480', 'stop', [1])
    assert (second.mode, second.ending, second.frames) == ('1640x1232', '', [])
    assert Bench(tmp_path).runs(0) == []


def test_without_the_sensors_the_kit_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('LD_PRELOAD', raising=False)
    assert 'make test-picamera2' in picamera2_kit.why_not()

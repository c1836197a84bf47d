"""'auto', and what is said where a stack is missing: before anything starts, in the user's process."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
from recording_tools import ROOT

from ProcessedPiRecorder import ProcessedPiRecorder
from ProcessedPiRecorder.cameras import AutoCamera, CameraRequest, StereoPair, SyntheticCamera, auto, registry, stacks
from ProcessedPiRecorder.errors import CameraError, CameraNotFoundError, MissingExtraError
from ProcessedPiRecorder.preconditions import start_method
from ProcessedPiRecorder.settings import Settings


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> List[str]:
    """The stacks that count as installed; to be filled."""
    names: List[str] = []
    for room in (stacks, auto, registry):
        monkeypatch.setattr(room, 'is_installed', lambda name: name in names)
    return names


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Makes this machine another one: its kind of processor, and what its device tree calls it."""
    def become(processor: str, model: str = '') -> None:
        monkeypatch.setattr(platform, 'machine', lambda: processor)
        if model:
            (tmp_path / 'model').write_bytes(model.encode() + b'\0')
        monkeypatch.setattr(stacks, 'MODEL_FILE', tmp_path / 'model')
    return become


class Legacy(SyntheticCamera):
    name = 'picamera'


class Modern(SyntheticCamera):
    """A camera of the other stack; takes its number as that one does."""

    name = 'picamera2'

    def __init__(self, number: Any, webcams: bool) -> None:
        super().__init__(seed=int(number))
        assert not webcams


class Nothing(SyntheticCamera):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__()

    def open(self, request: CameraRequest) -> Any:
        raise CameraNotFoundError('no camera is attached')


class Busy(Nothing):
    def open(self, request: CameraRequest) -> Any:
        raise CameraError('busy')


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch, installed: List[str]) -> Dict[str, Any]:
    """Both stacks installed, with cameras of these classes."""
    installed += ['picamera', 'picamera2']
    classes: Dict[str, Any] = {'picamera': Legacy, 'picamera2': Modern}
    monkeypatch.setattr(auto, '_load', lambda name, _: classes[name])
    return classes


# ---------------------------------------------------------------- at construction

@pytest.mark.parametrize('name', ['picamera', 'picamera2', 'picamera2:1', 'auto'])
def test_a_pc_is_told_what_to_pass_instead(name: str, installed: List[str], machine: Any) -> None:
    machine('x86_64')
    with pytest.raises(CameraNotFoundError, match="Raspberry Pi.*'opencv:0'.*'synthetic'"):
        ProcessedPiRecorder('trial.tif', camera=name)


@pytest.mark.parametrize(('name', 'says'), [
    ('picamera', r"pip install 'ProcessedPiRecorder\[picamera\]'.*camera='picamera2'"),
    ('picamera2', r"pip install 'ProcessedPiRecorder\[picamera2\]'.*apt install python3-picamera2.*system-site"),
])
def test_a_pi_is_told_what_to_install(name: str, says: str, installed: List[str], machine: Any) -> None:
    machine('aarch64', 'Raspberry Pi 4 Model B Rev 1.4')
    with pytest.raises(MissingExtraError, match=says) as caught:
        registry.check(name)
    assert caught.value.extra == name
    with pytest.raises(MissingExtraError):
        registry.check((name + ':0', name + ':1'), stereo=True)


def test_a_pi_without_both_stacks_is_told_how_to_look_for_its_camera(installed: List[str], machine: Any) -> None:
    machine('armv7l', 'Raspberry Pi 3 Model B Rev 1.2')
    with pytest.raises(CameraNotFoundError, match='on Raspberry Pi 3 Model B Rev 1.2 .*picamera2: not installed.*'
                                                  'picamera: not installed.*rpicam-hello --list-cameras.*vcgencmd'):
        registry.check('auto')


def test_what_is_installed_passes(installed: List[str], machine: Any) -> None:
    machine('aarch64', 'Raspberry Pi 5')
    installed += ['picamera2']
    registry.check('auto')
    registry.check('picamera2:3')
    registry.check(('picamera2:0', 'picamera2:1'), stereo=True)


def test_a_pc_has_no_model_and_a_pi_has(machine: Any, tmp_path: Path) -> None:
    machine('x86_64')
    assert stacks.pi_model() == ''
    machine('aarch64', 'Some Other Board')
    assert stacks.pi_model() == ''
    machine('aarch64', 'Raspberry Pi Zero 2 W Rev 1.0')
    assert stacks.pi_model() == 'Raspberry Pi Zero 2 W Rev 1.0'


def test_no_stack_is_imported_in_the_users_process() -> None:
    script = ('import sys\nfrom ProcessedPiRecorder.cameras import registry\n'
              'for name in ("auto", "picamera", "picamera2:1"):\n'
              '    try:\n        registry.check(name)\n    except Exception:\n        pass\n'
              '    registry.resolve(name)\n'
              'assert not {"picamera", "picamera2", "libcamera"} & set(sys.modules), sorted(sys.modules)\n')
    subprocess.run([sys.executable, '-W', 'error', '-c', script], check=True, timeout=50, cwd=ROOT)


def test_the_list_of_cameras_does_not_refer_to_itself(installed: List[str], machine: Any) -> None:
    machine('x86_64')
    told = {line.name: line.why_not for line in registry.listings()}
    assert not any('ppr cameras' in why for why in told.values())
    assert 'needs a Raspberry Pi' in told['picamera2:N']


# ---------------------------------------------------------------- at open

def opened(**asked: Any) -> Any:
    camera = registry.resolve('auto')
    assert isinstance(camera, AutoCamera)
    camera.open(CameraRequest(width=320, height=96, **asked))
    chosen = camera.chosen
    camera.close()
    camera.close()
    return chosen


def test_libcamera_comes_first(attached: Dict[str, Any]) -> None:
    assert isinstance(opened(), Modern)


def test_the_legacy_stack_is_taken_where_libcamera_has_no_camera(attached: Dict[str, Any]) -> None:
    attached['picamera2'] = Nothing
    assert isinstance(opened(), Legacy)


def test_stereo_is_a_stereopi_where_there_is_one(attached: Dict[str, Any]) -> None:
    assert isinstance(opened(stereo=True), Legacy)


def test_stereo_is_two_cameras_through_libcamera_where_there_are_two(attached: Dict[str, Any]) -> None:
    attached['picamera'] = Nothing
    pair = opened(stereo=True)
    assert isinstance(pair, StereoPair)
    assert (pair.left.options.seed, pair.right.options.seed) == (0, 1)    # type: ignore[attr-defined]


def test_no_camera_on_either_stack_tells_of_both(attached: Dict[str, Any], machine: Any) -> None:
    machine('aarch64', 'Raspberry Pi 5 Model B')
    attached.update(picamera=Nothing, picamera2=Nothing)
    with pytest.raises(CameraNotFoundError, match='picamera2: no camera is attached; picamera: no camera is attached'):
        opened()


def test_a_busy_camera_is_not_passed_over(attached: Dict[str, Any]) -> None:
    attached['picamera2'] = Busy
    with pytest.raises(CameraError, match='busy'):
        opened()


def test_what_it_found_is_used_like_any_camera(attached: Dict[str, Any]) -> None:
    from camera_kit import run
    sink = run(registry.resolve('auto'), limit=5, width=320, height=96, framerate=100,
               controls={'pace': False, 'frames': 9})
    assert len(sink.frames) == 5
    with pytest.raises(CameraError, match='open'):
        AutoCamera().start()


# ---------------------------------------------------------------- libraries that do not survive a fork

@pytest.mark.parametrize(('camera', 'imported', 'method'), [
    ('picamera2', 'libcamera', 'spawn'), ('auto', 'picamera', 'spawn'),
    (('picamera2:0', 'picamera2:1'), 'picamera2', 'spawn'), ('picamera2', '', 'fork'),
    ('synthetic', 'libcamera', 'fork')])
def test_a_script_that_has_imported_a_stack_is_not_forked(camera: Any, imported: str, method: str,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('picamera', 'picamera2', 'libcamera'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    if imported:
        monkeypatch.setitem(sys.modules, imported, sys)
    settings = Settings('trial.tif', camera=camera, stereo=isinstance(camera, tuple))
    assert start_method(settings, registry.resolve(camera)) == method
    told = Settings('trial.tif', camera=camera, stereo=isinstance(camera, tuple), start_method='fork')
    assert start_method(told, registry.resolve(camera)) == 'fork'

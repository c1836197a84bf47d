"""``ppr selftest``: that it passes what is good, and above all that each of its checks can fail."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import mmal_kit
import numpy as np
import pytest
from recording_tools import ROOT, wait_until

from ProcessedPiRecorder.cameras import Camera, CameraRequest, Granted, Stamp, SyntheticCamera
from ProcessedPiRecorder.cli import main
from ProcessedPiRecorder.errors import CameraError, CameraFormatError
from ProcessedPiRecorder.recordings.volume import Volume
from ProcessedPiRecorder.selftest import checks, machine, pause
from ProcessedPiRecorder.selftest.checklist import BY_PERSON, CHECKS
from ProcessedPiRecorder.selftest.context import BY_HAND, FAIL, PASS, SKIPPED, WARN, Context, Finding
from ProcessedPiRecorder.selftest.runner import make_folder, run_checks, tidy

#: So many buffers forgive a machine that is busy with something else.
PATIENT = {'buffers': 1000}
SMALL = ['--size', '96x64', '--seconds', '1', '--fps', '60', '--control', 'buffers=1000']
NAMES = [check.name for check in CHECKS]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / 'recordings'
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield


@pytest.fixture
def ppr(capfd: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> Tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(['selftest', *arguments])
        out, err = capfd.readouterr()
        code = left.value.code
        return (code if isinstance(code, int) else 0), out, err
    return run


def start(*arguments: str, **options: Any) -> 'subprocess.Popen[str]':
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'COLUMNS': '80'}
    return subprocess.Popen([sys.executable, '-m', 'ProcessedPiRecorder', 'selftest', *arguments], env=environment,
                            text=True, **options)


def context_of(camera: Any, **settings: Any) -> Context:
    plain: Dict[str, Any] = {'seconds': 1.0, 'width': 96, 'height': 64, 'framerate': 60.0}
    return Context(camera, make_folder(Path()), **{**plain, **settings})


def found(names: str, camera: Any, **settings: Any) -> Dict[str, Finding]:
    """What these checks find of this camera, 'camera' always the first."""
    context = context_of(camera, **settings)
    wanted = [check for check in CHECKS if check.name in ('camera', *names.split())]
    results = list(run_checks(context, lambda check: None, wanted))
    tidy(context.folder, results)
    return {result.check.name: result.finding for result in results}


def told(finding: Finding) -> str:
    return ' | '.join([*finding.problems, *finding.notes])


# ---------------------------------------------------------------- the whole of it

def test_on_a_synthetic_camera_nothing_fails_and_nothing_is_left(ppr: Any) -> None:
    code, out, err = ppr('-c', 'synthetic', *SMALL, '--json')
    everything = json.loads(out)
    results = {check['name']: check for check in everything['checks']}
    assert (code, err, everything['exit_code']) == (0, '', 0), out
    assert list(results) == NAMES
    for name in ('camera', 'recording', 'callback', 'clock', 'losses', 'again'):
        # A warning, such as of a ring that was half full: the machine was busy with something else.
        assert results[name]['result'] in (PASS, WARN), results[name]
    for name in ('busy', 'exposure', 'mirror', 'eyes', 'lenses'):
        assert results[name]['result'] == SKIPPED and len(results[name]['notes'][0]) > 20, results[name]
    assert results['recording']['figures']['captured'] == results['recording']['figures']['written'] == 60
    assert results['callback']['figures']['returned'] == 60
    assert everything['camera']['model'] == 'synthetic camera'
    assert everything['settings'] == {'camera': 'synthetic', 'seconds': 1, 'width': 96, 'height': 64, 'framerate': 60,
                                      'stereo': False, 'controls': {'buffers': 1000}}
    assert sum(everything['summary'].values()) == len(NAMES) and everything['summary'][FAIL] == 0
    assert everything['kept'] is None and list(Path().iterdir()) == []
    assert 'unplug' in [item['name'] for item in everything['by_hand']]


def test_what_fails_is_told_and_kept(ppr: Any) -> None:
    code, out, _ = ppr('-c', 'synthetic', *SMALL, '--control', 'lose_every=10', '--json')
    everything = json.loads(out)
    results = {check['name']: check for check in everything['checks']}
    assert code == everything['exit_code'] == 1
    assert results['recording']['result'] == results['callback']['result'] == FAIL
    assert 'camera gap: 6' in results['recording']['problems'][0]
    # The losses are there, and they are told: that is what the check of the losses asks.
    assert results['losses']['result'] == PASS and results['losses']['figures']['reported'] > 0
    kept = sorted(path.name for path in Path(everything['kept']).iterdir())
    assert kept == ['callback.tif', 'recording.tif']


def test_without_a_camera_the_facts_of_the_machine_are_told_all_the_same(ppr: Any) -> None:
    code, out, _ = ppr('-c', 'synthetic', '--control', 'bogus=1')
    assert code == 3
    assert "no control 'bogus'" in out and 'THE CAMERA COULD NOT BE USED' in out
    assert 'Python' in out and 'MB/s' in out
    assert '\x1b' not in out and max(map(len, out.splitlines())) <= 80
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize('arguments, code, words', [
    (['-c', 'nonsense'], 3, 'neither a known camera nor a file'),
    (['-c', 'synthetic', '--fps', '-1'], 2, 'framerate=-1'),
    (['-c', 'synthetic', '--seconds', '0'], 2, '--seconds'),
    (['-c', 'synthetic', '--size', 'large'], 2, 'WIDTHxHEIGHT')])
def test_bad_usage(ppr: Any, arguments: List[str], code: int, words: str) -> None:
    left, out, err = ppr(*arguments)
    assert left == code and words in ' '.join((out + err).split())
    assert list(Path().iterdir()) == []


def test_a_folder_that_cannot_be_used(ppr: Any) -> None:
    os.rmdir(os.getcwd())
    code, out, err = ppr('-c', 'synthetic')
    assert (code, out) == (2, '')
    assert 'no test recordings can be made in this folder' in err


def test_the_list_says_everything_and_does_nothing(ppr: Any) -> None:
    code, out, _ = ppr('--list')
    assert code == 0
    for check in CHECKS:
        assert f'  {check.name} ' in out
    for item in BY_PERSON:
        assert item.name in out and all(line in out for line in item.how if line.startswith('$ '))
    _, out, _ = ppr('--list', '--json')
    assert [check['name'] for check in json.loads(out)['checks']] == NAMES


def test_ctrl_c_ends_it_and_leaves_nothing() -> None:
    process = start('-c', 'synthetic', '--size', '96x64', '--seconds', '60', stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    wait_until(lambda: any(Path().glob('ppr-selftest-*/recording.tif')), 40)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, '') and 'INTERRUPTED' in out, out
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize('questions', [True, False])
@pytest.mark.slow
def test_on_a_terminal_it_asks_only_if_asked_to(questions: bool) -> None:
    ours, theirs = os.openpty()
    options = ['--questions'] if questions else []
    process = start('-c', 'synthetic', '--stereo', '--size', '192x64', '--seconds', '1', '--control', 'buffers=1000',
                    *options, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    out = ''
    asked = False
    try:
        while True:
            out += os.read(ours, 65536).decode()
            if 'Cover the LEFT lens' in out and 'press Enter' in out and not asked:
                asked = True
                os.write(ours, b's\n')
    except OSError:                      # the other end is closed
        pass
    _, err = process.communicate(timeout=20)
    os.close(ours)
    assert (process.returncode, asked, err) == (0, questions, ''), out
    assert 'by hand' in out and 'NOTHING FAILED' in out
    assert '\x1b[' in out and ' frames' in out


# ---------------------------------------------------------------- cameras that do not keep their promises

class Liar(SyntheticCamera):
    """Loses frames and gives the others an unbroken row of times: its own evidence shows nothing."""

    def start(self) -> None:
        super().start()
        self._delivered = 0

    def read(self, out: np.ndarray) -> Optional[Stamp]:
        if super().read(out) is None:
            return None
        assert self.granted is not None and self.granted.framerate
        period = round(1e9 / self.granted.framerate)
        self._delivered += 1
        return Stamp(self._start_ns + self._delivered * period, period)


def test_losses_that_the_camera_hides_show_in_its_clock() -> None:
    findings = found('recording clock', Liar(lose_every=10, **PATIENT), seconds=2.0)
    assert findings['recording'].result == PASS
    assert findings['clock'].result == FAIL and 'frames are missing that nothing has shown' in told(findings['clock'])
    assert findings['clock'].figures['drift_ppm'] > 50_000


@pytest.mark.slow
def test_losses_without_evidence_show_in_the_rate() -> None:
    findings = found('recording clock losses', SyntheticCamera(loss_detection='none', lose_every=10, **PATIENT),
                     seconds=3.0)
    assert findings['camera'].result == WARN and 'no evidence of losses' in told(findings['camera'])
    assert findings['recording'].result == FAIL and 'where 60.00 Hz were granted' in told(findings['recording'])
    assert findings['clock'].result == findings['losses'].result == SKIPPED


@pytest.mark.slow
def test_a_stall_is_told() -> None:
    finding = found('recording', SyntheticCamera(stall_at=70, stall_s=1.5), seconds=3.0)['recording']
    assert finding.result == FAIL and 'stall' in finding.problems[0]


@pytest.mark.slow
def test_a_camera_that_breaks_off_does_not_keep_other_checks_from_being_made() -> None:
    findings = found('recording clock again', SyntheticCamera(raise_at=80, **PATIENT), seconds=3.0)
    assert findings['recording'].result == FAIL and 'fails at frame 80' in told(findings['recording'])
    assert findings['clock'].result == SKIPPED
    assert findings['again'].result == PASS


def test_a_mistake_of_ours_is_a_failed_check_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.machine, 'power', lambda: 1 / 0)
    finding = found('power', SyntheticCamera())['power']
    assert finding.result == FAIL and 'ZeroDivisionError' in finding.figures['traceback']


class OnAnotherClock(SyntheticCamera):
    def open(self, request: CameraRequest) -> Granted:
        return dataclasses.replace(super().open(request), clock_base='utc')


@pytest.mark.slow
def test_a_wrong_clock_is_seen() -> None:
    finding = found('recording clock', OnAnotherClock(**PATIENT))['clock']
    assert finding.result == FAIL and 'another clock than was said' in told(finding)


class Rounding(SyntheticCamera):
    """Gives another size than was asked."""

    def open(self, request: CameraRequest) -> Granted:
        return super().open(dataclasses.replace(request, width=request.width - 16))


def test_another_size_without_a_word_fails_and_another_rate_is_told() -> None:
    finding = found('', Rounding(actual_hz=50.0))['camera']
    assert finding.result == FAIL
    assert 'asked for 96×64, it gave 80×64 without a word' in finding.problems
    assert 'asked for 60 Hz, it gave 50.00 Hz' in finding.problems


@pytest.mark.slow
def test_a_source_that_ends_early_is_told() -> None:
    findings = found('recording losses', SyntheticCamera(frames=40, **PATIENT))
    assert findings['recording'].result == WARN
    assert 'it ended after 0.67 s: end of source' in told(findings['recording'])
    assert findings['losses'].result == SKIPPED


def test_damaged_pages_are_found() -> None:
    context = context_of(SyntheticCamera(frames=5, pace=False))
    take = context.record('take', 1.0)
    assert take.damaged_pages() == []
    row = take.index[3]
    with open(take.path, 'r+b') as file:
        file.seek(int(row['strip_offset']) + int(row['strip_length']) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0xff]))
    assert take.damaged_pages() == [3]


def slow(buffer: Any, cb_queue: Any) -> Any:
    time.sleep(0.1)
    return buffer[-1]


@pytest.mark.slow
def test_frames_that_by_pass_the_callback_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, 'pass_through', slow)
    finding = found('callback', SyntheticCamera(**PATIENT), seconds=2.5)['callback']
    assert finding.result == FAIL and 'did not pass through the callback' in told(finding)
    assert finding.figures['bypassed'] > 0


# ---------------------------------------------------------------- losses

def test_a_pause_loses_frames_and_they_are_told() -> None:
    finding = found('losses', SyntheticCamera(buffers=4))['losses']
    assert finding.result == PASS, told(finding)
    assert finding.figures['reported'] == finding.figures['by_time'] > 5


@pytest.mark.slow
def test_a_camera_that_keeps_all_frames_passes_too() -> None:
    finding = found('losses', SyntheticCamera(**PATIENT))['losses']
    assert (finding.result, finding.figures['reported']) == (PASS, 0), told(finding)
    assert 'kept all frames' in told(finding)


class Forgetful(SyntheticCamera):
    """Counts the frames that it delivers, not those that it makes; its times are right."""

    def start(self) -> None:
        super().start()
        self._counted = 0

    def read(self, out: np.ndarray) -> Optional[Stamp]:
        stamp = super().read(out)
        self._counted += 1
        return None if stamp is None else stamp._replace(count=self._counted)


@pytest.mark.slow
def test_losses_that_are_not_told_fail() -> None:
    finding = found('losses', Forgetful(loss_detection='count'))['losses']
    assert finding.result == FAIL and "gaps in the camera's times differ" in told(finding)
    assert finding.figures['reported'] == 0 < finding.figures['by_time']


def state_of(pid: int) -> str:
    return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]


@pytest.mark.slow
def test_a_paused_process_goes_on_even_when_we_are_killed() -> None:
    sleeper = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
    code = f'from ProcessedPiRecorder.selftest import pause; pause._pause({sleeper.pid}, 1.0)'
    pauser = subprocess.Popen([sys.executable, '-c', code], env={**os.environ, 'PYTHONPATH': str(ROOT)})
    try:
        wait_until(lambda: state_of(sleeper.pid) == 'T')
        pauser.kill()
        wait_until(lambda: state_of(sleeper.pid) == 'S')
    finally:
        for process in (pauser, sleeper):
            process.kill()
            process.wait()


def test_a_process_that_is_gone_cannot_be_paused() -> None:
    gone = subprocess.Popen([sys.executable, '-c', ''])
    gone.wait()
    pause._pause(gone.pid, 0.1)


# ---------------------------------------------------------------- one camera, one user

class Exclusive(SyntheticCamera):
    """As real ones: only one process at a time can have it. ``careless``: it harms whoever has it already."""

    def __init__(self, place: Path, **options: Any) -> None:
        super().__init__(**options)
        self._place = place
        self._lock: Any = None

    def __getstate__(self) -> Any:
        return {**super().__getstate__(), 'place': self._place}

    def __setstate__(self, state: Any) -> None:
        self.__init__(state['place'], **dataclasses.asdict(state['options']))    # type: ignore[misc]

    def open(self, request: CameraRequest) -> Granted:
        self._lock = open(self._place, 'w')
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise CameraError('the camera is in use by another program') from None
        return super().open(request)

    def close(self) -> None:
        super().close()
        if self._lock is not None:
            self._lock.close()


def test_a_camera_in_use_is_refused_and_then_given_back(tmp_path: Path) -> None:
    findings = found('again busy', Exclusive(tmp_path / 'lock', **PATIENT))
    assert findings['again'].result == PASS, told(findings['again'])
    assert findings['busy'].result == PASS and 'in use by another program' in told(findings['busy'])


@pytest.mark.slow
def test_a_second_user_who_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found('busy', SyntheticCamera(**PATIENT))['busy'].result == SKIPPED
    monkeypatch.setattr(checks, '_is_exclusive', lambda spec: True)
    finding = found('busy', SyntheticCamera(**PATIENT))['busy']
    assert finding.result == FAIL and 'was not refused' in told(finding)


@pytest.mark.parametrize('spec, exclusive', [('synthetic', False), ('opencv:0', True), ('nonsense', False),
                                             (SyntheticCamera(), False)])
def test_which_cameras_can_have_one_user_only(spec: Any, exclusive: bool) -> None:
    assert checks._is_exclusive(spec) is exclusive


# ---------------------------------------------------------------- pictures

class Studio(Camera):
    """A still, lopsided scene, 60 Hz, with exposure and hflip; one or two eyes, whose lenses can be covered."""

    def __init__(self, light: float = 1.0, *, lopsided: bool = True, exposes: bool = True, flips: bool = True,
                 twins: bool = False, covers: Optional[Path] = None) -> None:
        self.inner = SyntheticCamera(**PATIENT)
        self.light, self.lopsided, self.exposes, self.flips = light, lopsided, exposes, flips
        self.twins, self.covers = twins, covers

    def open(self, request: CameraRequest) -> Granted:
        controls = dict(request.controls)
        self._exposure_us, self._hflip = controls.pop('exposure_us', 8000), controls.pop('hflip', False)
        if controls.pop('gain', 1.0) > 4:
            raise CameraFormatError('too high a gain')
        self._stereo = request.stereo
        return self.inner.open(dataclasses.replace(request, controls=controls))

    def start(self) -> None:
        self.inner.start()

    def read(self, out: np.ndarray) -> Optional[Stamp]:
        stamp = self.inner.read(out)
        out[:] = self._eye(out.shape, 0)
        if self._stereo:
            half = out.shape[1] // 2
            shape = (out.shape[0], half, 3)
            out[:, :half] = self._eye(shape, 0)
            out[:, half:] = self._eye(shape, 0 if self.twins else 1)
            if self.covers is not None and self.covers.exists():
                side = self.covers.read_text()
                out[:, slice(0, half) if side == 'LEFT' else slice(half, None) if side == 'RIGHT' else slice(0)] = 2
        return stamp

    def _eye(self, shape: Tuple[int, ...], eye: int) -> np.ndarray:
        columns = np.linspace(0, 1, shape[1])
        scene = 40 + 150 * (columns ** 2 if self.lopsided else np.abs(columns - 0.5)) + 10 * eye
        if self._hflip and self.flips:
            scene = scene[::-1]
        exposed = self._exposure_us / 8000 if self.exposes else 1
        return np.clip(scene * self.light * exposed, 0, 255).astype(np.uint8)[None, :, None]

    def close(self) -> None:
        self.inner.close()


@pytest.mark.parametrize('studio, result, words', [
    (Studio(), PASS, 'mean level'),
    (Studio(exposes=False), FAIL, 'hardly makes the picture brighter'),
    (Studio(light=60.0), SKIPPED, 'too bright'),
    (Studio(light=0.01), SKIPPED, 'too dark'),
    (SyntheticCamera(), SKIPPED, 'no such control')])
@pytest.mark.slow
def test_exposure(studio: Camera, result: str, words: str) -> None:
    finding = found('exposure', studio)['exposure']
    assert finding.result == result and words in told(finding), told(finding)


@pytest.mark.parametrize('stereo', [False, True])
@pytest.mark.parametrize('studio, result, words', [
    (Studio(), PASS, 'correlation 1.00 with the mirrored'),
    (Studio(flips=False), FAIL, 'does not mirror'),
    (Studio(lopsided=False), SKIPPED, 'looks the same mirrored'),
    (Studio(light=0.0), SKIPPED, 'next to nothing')])
@pytest.mark.slow
def test_mirror(studio: Camera, result: str, words: str, stereo: bool) -> None:
    finding = found('mirror', studio, stereo=stereo, width=192 if stereo else 96)['mirror']
    assert finding.result == result and words in told(finding), told(finding)


def test_a_control_that_a_pi_camera_refuses_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('ProcessedPiRecorder.cameras.stacks.drives', lambda camera: True)
    finding = found('exposure', SyntheticCamera())['exposure']
    assert finding.result == WARN and 'though Pi cameras have this control' in told(finding)


@pytest.mark.slow
def test_two_eyes_are_two_pictures() -> None:
    assert found('eyes', Studio(), stereo=True, width=192)['eyes'].result == PASS
    finding = found('eyes', Studio(twins=True), stereo=True, width=192)['eyes']
    assert finding.result == FAIL and 'one eye was recorded twice' in told(finding)


def coverer(place: Path, meant: Callable[[str], str]) -> Callable[[str], bool]:
    """Someone who covers a lens: the one that is meant by the question's."""
    def ask(text: str) -> bool:
        place.write_text(meant('LEFT' if 'LEFT' in text else 'RIGHT'))
        return True
    return ask


@pytest.mark.parametrize('meant, result, words', [
    (lambda side: side, PASS, 'LEFT covered: left half at 2 % of its brightness, right half at 100 %'),
    (lambda side: {'LEFT': 'RIGHT', 'RIGHT': 'LEFT'}[side], FAIL, 'left and right are swapped'),
    (lambda side: 'NONE', FAIL, 'neither half got dark')])
@pytest.mark.slow
def test_lenses(tmp_path: Path, meant: Callable[[str], str], result: str, words: str) -> None:
    place = tmp_path / 'covers'
    finding = found('lenses', Studio(covers=place), stereo=True, width=192, ask=coverer(place, meant))['lenses']
    assert finding.result == result and words in told(finding), told(finding)


@pytest.mark.slow
def test_lenses_without_someone_at_the_camera() -> None:
    assert found('lenses', Studio(), stereo=True, width=192)['lenses'].result == BY_HAND
    assert found('lenses', Studio(), stereo=True, width=192, ask=lambda text: False)['lenses'].result == BY_HAND
    assert found('lenses', Studio())['lenses'].result == SKIPPED
    dark = found('lenses', Studio(light=0.1), stereo=True, width=192, ask=lambda text: True)['lenses']
    assert dark.result == BY_HAND and 'too dark' in told(dark)


# ---------------------------------------------------------------- the machine

@pytest.mark.parametrize('value, now, ever', [
    (0x0, [], []),
    (0x1, ['under-voltage'], []),
    (0x50005, ['under-voltage', 'throttled'], ['under-voltage', 'throttled']),
    (0xa000a, ['processor frequency capped', 'soft temperature limit'],
     ['processor frequency capped', 'soft temperature limit']),
    (0x40000, [], ['throttled'])])
def test_the_bits_of_get_throttled(value: int, now: List[str], ever: List[str]) -> None:
    assert machine.decode_throttled(value) == (now, ever, hex(value))


@pytest.mark.parametrize('script, result, words', [
    ('echo throttled=0x0', PASS, 'get_throttled 0x0'),
    ('echo throttled=0x50005', FAIL, 'under-voltage now'),
    ('echo throttled=0x50000', WARN, 'since it booted there has been: under-voltage, throttled'),
    ('echo throttled=0x8', WARN, 'now: soft temperature limit'),
    ("echo \"Can't open device file: /dev/vcio\" >&2; exit 255", SKIPPED, "Can't open device file"),
    ('exit 1', SKIPPED, 'nothing (exit code 1)'),
    (None, SKIPPED, 'there is no vcgencmd')])
def test_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: Optional[str], result: str,
               words: str) -> None:
    programs = tmp_path / 'bin'
    programs.mkdir()
    if script is not None:
        (programs / 'vcgencmd').write_text(f'#!/bin/sh\n{script}\n')
        (programs / 'vcgencmd').chmod(0o755)
    monkeypatch.setenv('PATH', str(programs))
    finding = only('power')
    assert finding.result == result and words in told(finding), told(finding)


def only(name: str, **attributes: Any) -> Finding:
    """What a check that needs no camera finds."""
    context = context_of('synthetic')
    results = list(run_checks(context, lambda check: None, [check for check in CHECKS if check.name == name]))
    assert tidy(context.folder, results) is None
    return results[0].finding


def test_a_machine_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('PROC', 'SYS', 'ETC'):
        monkeypatch.setattr(machine, name, tmp_path / 'nothing')
    finding = only('machine')
    assert finding.result == PASS, told(finding)
    assert finding.figures['cma_mb'] is finding.figures['temperature_c'] is None
    assert finding.figures['governor'] == 'unknown' and 'None' not in told(finding)


def test_a_pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {'proc/meminfo': 'MemTotal: 1000000 kB\nMemAvailable: 500000 kB\nCmaTotal: 262144 kB\nCmaFree: 100000 kB\n',
             'etc/os-release': 'NAME="x"\nPRETTY_NAME="Raspbian GNU/Linux 11 (bullseye)"\n',
             'sys/devices/system/cpu/cpu0/cpufreq/scaling_governor': 'powersave\n',
             'sys/class/thermal/thermal_zone0/temp': '83704\n',
             'proc/device-tree/model': 'Raspberry Pi 4 Model B Rev 1.4\0'}
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ('PROC', 'SYS', 'ETC'):
        monkeypatch.setattr(machine, name, tmp_path / name.lower())
    monkeypatch.setattr('ProcessedPiRecorder.cameras.stacks.MODEL_FILE', tmp_path / 'proc/device-tree/model')
    finding = only('machine')
    assert finding.result == WARN and 'slows down soon' in told(finding) and 'powersave' in told(finding)
    assert 'Raspberry Pi 4 Model B Rev 1.4, Raspbian GNU/Linux 11 (bullseye)' in told(finding)
    assert '512 of 1024 MB memory free, CMA 102 of 268 MB free' in told(finding)


@pytest.mark.parametrize('source, words', [
    ('raise ImportError("libGL.so.1: cannot open shared object file")', 'libGL.so.1'),
    ('import no_such_package', 'no_such_package'),
    ('import os; os._exit(3)', 'no answer')])
def test_an_opencv_that_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str,
                                      words: str) -> None:
    (tmp_path / 'cv2.py').write_text(source)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    finding = only('machine')
    assert finding.result == FAIL and 'OpenCV cannot be used here' in told(finding) and words in told(finding)


@pytest.mark.parametrize('kind, result, words', [
    ('ext4', PASS, 'ext4 on /'), ('vfat', FAIL, 'FAT ends a file at 4 GB'), ('tmpfs', WARN, 'lives in memory'),
    ('nfs4', WARN, 'a network can pause'), ('exfat', WARN, 'no journal')])
def test_file_systems(monkeypatch: pytest.MonkeyPatch, kind: str, result: str, words: str) -> None:
    lying_on(monkeypatch, kind)
    finding = only('disk')
    assert finding.result == result and words in told(finding), told(finding)
    assert finding.figures['write_mb_s'] > 0


def test_a_full_disk_is_not_filled_further(monkeypatch: pytest.MonkeyPatch) -> None:
    lying_on(monkeypatch, 'ext4', free=150_000_000)
    monkeypatch.setattr(machine, 'write_speed', lambda folder: pytest.fail('wrote to a full disk'))
    finding = only('disk')
    assert finding.result == FAIL and 'only 150 MB are free' in told(finding)


def lying_on(monkeypatch: pytest.MonkeyPatch, kind: str, free: int = 50_000_000_000) -> None:
    monkeypatch.setattr(checks, 'volume_of', lambda folder: Volume(kind, Path('/'), free, 10**11))
    monkeypatch.setattr(checks, 'SLOW_MB_S', 0.0)      # whatever this machine is busy with


# ---------------------------------------------------------------- the real picamera, over a simulated camera

@mmal_kit.needs_the_stub
def test_picamera(tmp_path: Path) -> None:
    with mmal_kit.simulation(tmp_path, cameras=1) as sim:
        findings = found('losses again busy mirror', 'picamera', width=640, height=480, framerate=30)
        discarded = sim.camera().no_buffer
    for name in ('camera', 'losses', 'again', 'busy', 'mirror'):
        assert findings[name].result == PASS, told(findings[name])
    assert 0 < findings['losses'].figures['reported'] <= discarded
    assert 'Out of resources' in findings['busy'].figures['refused']


@mmal_kit.needs_the_stub
@pytest.mark.slow
def test_a_picamera_whose_clock_runs_wrong(tmp_path: Path) -> None:
    with mmal_kit.simulation(tmp_path, cameras=2, stc_drift_ppm=20_000, frames=64):
        findings = found('recording clock eyes exposure', 'picamera', width=1280, height=480, framerate=25,
                         stereo=True, seconds=2.0)
    assert findings['recording'].result == PASS, told(findings['recording'])
    assert findings['clock'].result == FAIL and 'drift apart' in told(findings['clock'])
    assert findings['eyes'].result == PASS
    # The simulated sensor remembers exposures and does not act on them: that is what this check is there to see.
    assert findings['exposure'].result == FAIL

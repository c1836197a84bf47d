"""ppr preflight as it is typed: real recordings of the synthetic camera, with one thing slow on purpose."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import pytest
from recording_tools import ROOT

from ProcessedPiRecorder.cli import main
from ProcessedPiRecorder.preflight import disk, loop, place, run
from ProcessedPiRecorder.preflight.codec import CodecSpeed
from ProcessedPiRecorder.preflight.disk import DiskSpeed
from ProcessedPiRecorder.recordings.volume import Volume

slow = pytest.mark.slow
pytestmark = pytest.mark.usefixtures('own_folder')

#: Small and slow enough for any machine, with buffers for whatever else it is busy with.
SMALL = ['-c', 'synthetic', '--size', '64x48', '--fps', '20', '--control', 'buffers=1000', '--no-display',
         '--run-seconds', '0.5']


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds and has tests of its own; a busy machine costs no frames."""
    monkeypatch.setattr(run, 'measure_codec', lambda path, level: [CodecSpeed('huffman', 9000.0, 2.0, 2),
                                                                   CodecSpeed('stored', 20000.0, 1.0, 2)])
    monkeypatch.setattr(disk, 'ENOUGH_BYTES', 3 << 20)
    monkeypatch.setattr(run, 'FEWEST_FRAMES', 10)
    monkeypatch.setattr(run, 'CAMERA_RUNS', 1)
    monkeypatch.setattr(run, 'TRIALS_AS_ASKED', 2)
    monkeypatch.setattr(run, 'TRIALS_WITHOUT_LOSS', 1)
    monkeypatch.setattr(loop, 'LATE_S', 10.0)


@pytest.fixture
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, 'measure_disk', lambda folder, room, bytes_a_sync: DiskSpeed(10**9, 1.0, 1 << 20, [1e-3]))


@pytest.fixture
def ppr(capfd: pytest.CaptureFixture[str]) -> Any:
    def typed(*words: str) -> Tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(['preflight', *words])
        out, err = capfd.readouterr()
        code = left.value.code
        return (code if isinstance(code, int) else 0), out, err
    return typed


def answer(ppr: Any, *words: str) -> Dict[str, Any]:
    """What it says as JSON; the trial recordings are gone."""
    before = set(os.listdir())
    code, out, err = ppr(*words, '--json')
    assert code in (0, 1), err
    told: Dict[str, Any] = json.loads(out)
    assert told['exit_code'] == code == (told['verdict'] != 'ok')
    assert set(os.listdir()) - before <= {'__pycache__'}
    return told


def module(text: str) -> None:
    Path('own_callbacks.py').write_text(text)


# ---------------------------------------------------------------- the JSON's keys

def keys_of(value: Any, path: str = '') -> List[str]:
    if isinstance(value, list):
        return [key for item in value[:1] for key in keys_of(item, path + '[]')]
    if not isinstance(value, dict):
        return [path]
    return [key for name, item in value.items() for key in keys_of(item, f'{path}.{name}' if path else name)]


#: Their keys are settings, efforts, kinds of latency and what a camera tells.
FREE = ('asked.settings', 'recording.effort', 'recording.latency_ms', 'recording.losses', 'trials[].effort',
        'trials[].latency_ms')


def assert_documented(told: Dict[str, Any]) -> None:
    """Every key stands in the documents' table, and every one of the table in the answer."""
    text = (ROOT / 'docs' / 'preflight.md').read_text(encoding='utf-8')
    documented = set(re.findall(r'^\| `([\w.\[\]]+)` \|', text, re.MULTILINE))
    found = {next((free for free in FREE if key.startswith(free)), key) for key in keys_of(told)}
    missing = found - documented - {'findings', 'rates.without_loss'}
    assert not missing, sorted(missing)
    # All of them are there in every answer; below null there is nothing.
    null = tuple(key for key, value in ((key, at(told, key)) for key in documented) if value in (None, {}, []))
    assert not {key for key in documented - found if not key.startswith(null) and at(told, key) is KeyError}


def at(told: Any, path: str) -> Any:
    for name in path.replace('[]', '.[]').split('.'):
        if told in (None, {}, []):
            return None
        told = told[0] if name == '[]' else told.get(name, KeyError)
    return told


# ---------------------------------------------------------------- answers

def test_a_recording_that_will_hold(ppr: Any, quick: None, fast_disk: None) -> None:
    module('def look(buffer, cb_queue):\n    return None\n')
    told = answer(ppr, 'trial.tif', *SMALL, '--callback', 'own_callbacks:look')
    assert_documented(told)
    assert (told['verdict'], told['limit'], told['asked']['rate_hz']) == ('ok', None, 20.0), told['findings']
    assert (told['headroom'], told['headroom_is_at_least']) == (4.0, True)
    recording = told['recording']
    assert (recording['captured'], recording['lost'], recording['rate_hz']) == (10, 0, 20.0)
    assert [(trial['purpose'], trial['rate_hz'], trial['shortfalls']) for trial in told['trials']] == [
        ('camera', 20.0, []), ('as_asked', 80.0, [])]
    assert told['folder']['path'] == os.getcwd() and told['folder']['minutes_left'] > 0
    assert told['asked']['settings']['tif_path'].endswith('trial.tif')


def test_the_answer_in_words(ppr: Any, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_readable(ppr, monkeypatch)


@slow
def test_everything_for_real(ppr: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, 'LATE_S', 10.0)
    assert_readable(ppr, monkeypatch)


def assert_readable(ppr: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('COLUMNS', '80')
    code, out, err = ppr(*SMALL, '--callback', 'ProcessedPiRecorder.callbacks.faces:find_faces', '--print-results')
    assert code in (0, 1)
    assert re.search(r'│ (OK|TIGHT|NO)  20 Hz', out)
    for word in ('Camera', 'Recorded', 'Callback', 'Until called', 'Until on disk', 'Ring', 'Size', 'Highest rate',
                 'Folder', 'Free', 'Disk', 'camera', 'callback', 'compression', 'What to do'):
        assert re.search(rf'^ ?{word}\b', out, re.MULTILINE), word
    assert max(map(len, out.splitlines())) <= 80 and '\x1b' not in out
    assert [line for line in err.splitlines() if not line.startswith('ppr: ')] == []
    assert 'recording the camera for' in err and 'trying 80 Hz' in err
    assert os.listdir() == []


def test_a_slow_callback_is_found(ppr: Any, quick: None, fast_disk: None) -> None:
    module('import time\ndef slow(buffer, cb_queue):\n    time.sleep(0.2)\n    cb_queue.put(buffer[-1].index)\n')
    told = answer(ppr, *SMALL, '--callback', 'own_callbacks:slow', '--ring-frames', '8')
    assert (told['verdict'], told['limit']) == ('no', 'callback')
    assert 4 < told['limits']['callback']['rate_hz'] < 5 and told['recording']['callback_ms']['mean'] >= 200
    assert told['recording']['bypassed'] > 0 == told['recording']['lost']
    held = told['rates']['held_hz']
    assert held is None or held < 6
    assert any('--delivery latest' in text for text in told['recommendations'])


@slow
def test_the_same_callback_is_no_limit_when_it_sees_the_latest(ppr: Any, quick: None, fast_disk: None) -> None:
    module('import time\ndef slow(buffer, cb_queue):\n    time.sleep(0.2)\n')
    told = answer(ppr, *SMALL, '--callback', 'own_callbacks:slow', '--delivery', 'latest')
    assert told['verdict'] == 'ok' and told['limits']['callback'] is None, told['findings']
    assert told['recording']['bypassed'] > 0


@slow
def test_a_first_call_that_loads_a_model_is_waited_for(ppr: Any, quick: None, fast_disk: None) -> None:
    module('import time\nbegun = []\ndef lazy(buffer, cb_queue):\n'
           '    if not begun:\n        begun.append(time.sleep(0.8))\n')
    told = answer(ppr, *SMALL, '--callback', 'own_callbacks:lazy', '--ring-frames', '60')
    assert told['verdict'] == 'ok', told['findings']
    assert told['recording']['callback_ms']['first'] >= 800 > told['recording']['callback_ms']['mean']
    assert any('can be loaded in its __enter__' in finding['text'] for finding in told['findings'])


def test_a_disk_that_is_slow_to_sync_is_found_though_the_systems_memory_hides_it(
        ppr: Any, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fdatasync
    monkeypatch.setattr(os, 'fdatasync', lambda fd: (time.sleep(0.3), real(fd))[1])
    for name in ('LEAST_CHUNK', 'MOST_CHUNK'):
        monkeypatch.setattr(disk, name, 1 << 19)
    monkeypatch.setattr(disk, 'ENOUGH_BYTES', 3 << 19)
    told = answer(ppr, *SMALL[:3], '320x240', '--fps', '60', *SMALL[6:], '--gray')
    speed = told['limits']['disk']
    assert 300 <= speed['fdatasync_ms']['p50'] and speed['mb_s'] < 1.8 and speed['rate_hz'] < 60
    assert (told['verdict'], told['limit']) == ('no', 'disk')
    assert told['rates']['sustained_hz'] == told['rates']['disk_hz'] < told['rates']['held_hz']


@slow
def test_a_disk_that_is_slow_to_write_is_found(ppr: Any, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwritev

    def slow(fd: int, buffers: Sequence[Any], offset: int, *flags: int) -> int:
        written = real(fd, buffers, offset, *flags)
        time.sleep(written / 2e6)
        return written

    monkeypatch.setattr(os, 'pwritev', slow)
    told = answer(ppr, *SMALL[:3], '320x240', '--fps', '60', *SMALL[6:], '--gray')
    assert (told['verdict'], told['limit']) == ('no', 'disk') and told['limits']['disk']['mb_s'] <= 2.0
    failed = [trial for trial in told['trials'] if trial['purpose'] == 'as_asked' and trial['shortfalls']]
    assert all(trial['rate_hz'] > 20 for trial in failed)


def test_fat_is_refused_before_anything_is_recorded(ppr: Any, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, 'volume_of', lambda folder: Volume('vfat', folder, 10**10, 10**11))
    monkeypatch.setattr(run, 'make_trial', lambda *_, **__: pytest.fail('recorded onto FAT'))
    told = answer(ppr, 'trial.tif', *SMALL)
    assert (told['verdict'], told['limit'], told['headroom'], told['recording']) == ('no', 'folder', None, None)
    assert '4 GB' in told['findings'][0]['text'] and told['limits']['disk']['mb_s'] > 0
    code, out, _ = ppr('trial.tif', *SMALL)
    assert code == 1 and 'there it cannot be done' in out and 'ext4' in out


def test_a_full_disk_is_not_filled_further(ppr: Any, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, 'volume_of', lambda folder: Volume('ext4', folder, 210_000_000, 10**10))
    monkeypatch.setattr(run, 'make_trial', lambda *_, **__: pytest.fail('recorded onto a full disk'))
    told = answer(ppr, 'trial.tif', *SMALL)
    assert (told['verdict'], told['limit'], told['limits']['disk']) == ('no', 'folder', None)


@slow
def test_a_trial_that_fills_its_share_of_the_disk_is_cut_short(ppr: Any, quick: None, fast_disk: None,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place.Place, 'room', property(lambda self: 20_000))
    monkeypatch.setattr(place, 'LEAST_ROOM', 0)
    told = answer(ppr, 'trial.tif', *SMALL)
    assert told['trials'][0]['cut_short'] and told['recording']['captured'] < 20
    assert any('cut short' in finding['text'] for finding in told['findings'])


@slow
def test_an_existing_file_is_a_finding_and_is_not_touched(ppr: Any, quick: None, fast_disk: None) -> None:
    Path('trial.tif').write_text('precious')
    told = answer(ppr, 'trial.tif', *SMALL)
    assert told['verdict'] == 'no' and told['headroom'] == 4.0
    assert '--overwrite' in told['findings'][0]['text'] and 'exists already' in told['findings'][0]['text']
    assert Path('trial.tif').read_text() == 'precious'


@slow
def test_without_a_file_neither_disk_nor_compression_matter(ppr: Any, quick: None) -> None:
    module('def look(buffer, cb_queue):\n    return None\n')
    told = answer(ppr, '--no-write', *SMALL, '--callback', 'own_callbacks:look')
    assert told['verdict'] == 'ok' and told['folder'] is None, told['findings']
    assert told['limits']['disk'] is told['limits']['compression'] is None and told['limits']['callback']['rate_hz'] > 0


@slow
def test_a_callback_that_fails_is_a_no(ppr: Any, quick: None, fast_disk: None) -> None:
    module('def fail(buffer, cb_queue):\n    if buffer[-1].index == 7:\n        raise ValueError("no mouse")\n')
    told = answer(ppr, *SMALL, '--callback', 'own_callbacks:fail')
    assert told['verdict'] == 'no' and 'no mouse' in told['recording']['callback_error']


@slow
def test_a_camera_that_loses_frames_is_the_limit(ppr: Any, quick: None, fast_disk: None) -> None:
    told = answer(ppr, *SMALL, '--control', 'lose_every=4')
    assert (told['verdict'], told['limit']) == ('no', 'camera')
    assert told['recording']['lost'] == 2 == sum(loss['count'] for loss in told['recording']['losses'])


@slow
def test_a_source_that_waits(ppr: Any, quick: None, fast_disk: None) -> None:
    told = answer(ppr, *SMALL, '--control', 'pace=false', '--control', 'frames=40')
    assert told['verdict'] == 'ok' and told['camera']['waits'], told['findings']


# ---------------------------------------------------------------- when it cannot be made

@pytest.mark.parametrize(('words', 'code', 'message'), [
    (['absent/trial.tif', *SMALL], 2, 'does not exist'), (['trial.tif', '-c', 'opencv:x'], 2, 'not the number'),
    ([*SMALL, '--compression', '11'], 2, '--compression'), ([*SMALL, '--run-seconds', '0'], 2, '--run-seconds'),
    (['--no-write', 'trial.tif', *SMALL], 2, 'nothing would be written'),
    ([*SMALL, '--size', '64x48', '--stereo', '--scale', '7'], 2, '--scale'),
    ([*SMALL, '--control', 'raise_at=3'], 3, 'fails at frame 3')])
def test_what_cannot_be_made_has_an_exit_code_of_its_own(ppr: Any, quick: None, fast_disk: None, words: List[str],
                                                         code: int, message: str) -> None:
    told = ppr(*words)
    assert told[0] == code and message in ' '.join(re.sub('[│╭╮╰╯─]', ' ', told[2]).split()), told[2]
    assert told[1] == '' and os.listdir() == []


@pytest.mark.parametrize(('moment', 'number'), [
    ('trying', signal.SIGINT), pytest.param('recording the camera', signal.SIGINT, marks=slow),
    pytest.param('measuring how fast these frames', signal.SIGINT, marks=slow),
    pytest.param('trying', signal.SIGTERM, marks=slow)])
def test_an_interrupt_leaves_nothing_behind_and_says_so(tmp_path: Path, moment: str, number: int) -> None:
    words = [*SMALL[:-1], '2' if moment == 'recording the camera' else '0.5', '--json']
    process = subprocess.Popen([sys.executable, '-m', 'ProcessedPiRecorder', 'preflight', *words], text=True,
                               cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(ROOT)}, start_new_session=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr is not None
    seen = ''
    while moment not in seen:
        line = process.stderr.readline()
        assert line, seen
        seen += line
    time.sleep(0.3)                            # somewhere in it
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=40)
    assert (process.returncode, out) == (130, ''), err
    assert 'nothing is left behind' in err and 'Traceback' not in err
    assert list(tmp_path.iterdir()) == []

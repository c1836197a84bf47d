"""The ppr command: real recordings of the synthetic camera, judged by exit code, outputs and files."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest
import tifffile
from recording_tools import wait_until

from ProcessedPiRecorder.cli import main
from ProcessedPiRecorder.recordings.results import read_results

QUICK = ['--camera', 'synthetic', '--size', '64x48', '--no-display']
REPO = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.usefixtures('own_folder')


@pytest.fixture
def ppr(capfd: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> Tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(arguments)
        out, err = capfd.readouterr()
        code = left.value.code
        return (code if isinstance(code, int) else 0), out, err
    return run


def start_ppr(*arguments: str, **options: Any) -> 'subprocess.Popen[str]':
    environment = {**os.environ, 'PYTHONPATH': str(REPO)}
    return subprocess.Popen([sys.executable, '-m', 'ProcessedPiRecorder', *arguments], env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def await_pages(path: Path, size: int = 20_000) -> None:
    deadline = time.monotonic() + 20
    while not (path.exists() and path.stat().st_size > size):
        assert time.monotonic() < deadline, 'nothing was recorded'
        time.sleep(0.02)


def page_count(path: str) -> int:
    with tifffile.TiffFile(path) as tif:
        return len(tif.pages)


def is_finished(path: str) -> bool:
    with tifffile.TiffFile(path) as tif:
        return tif.is_bigtiff and tif.is_ome


# --- a recording that goes well

def test_a_complete_recording(ppr: Any) -> None:
    code, out, err = ppr('record', 'trial.tif', *QUICK, '--fps', '60', '--seconds', '0.5', '--meta', 'animal=M12',
                         '--log', 'trial.csv')
    assert (code, err) == (0, '')
    assert 'COMPLETE' in out and 'all 30 frames' in out and 'trial.tif' in out.replace('\n', '').replace(' ', '')
    assert tifffile.imread('trial.tif').shape == (30, 48, 64, 3)
    assert len(Path('trial.csv').read_text().splitlines()) == 31
    assert '\x1b' not in out


def test_the_report_as_json_is_all_there_is_on_stdout(ppr: Any) -> None:
    code, out, _ = ppr('record', 'trial.tif', *QUICK, '--gray', '--seconds', '0.3', '--json', '--compression', '0')
    report = json.loads(out)
    assert (code, report['complete'], report['captured']) == (0, 'yes', report['written'])
    assert tifffile.imread('trial.tif').shape == (report['written'], 48, 64)


def test_quiet_says_nothing(ppr: Any) -> None:
    assert ppr('record', 'trial.tif', *QUICK, '--seconds', '0.2', '--quiet') == (0, '', '')


def test_every_setting_has_an_option_that_reaches_the_recorder(ppr: Any) -> None:
    code, _, err = ppr('record', 'trial.tif', '-c', 'synthetic', '--size', '128x48', '--scale', '0.5', '--fps', '50',
                     '-s', '0.4', '--stereo', '--callback', 'ProcessedPiRecorder.callbacks.faces:find_faces',
                     '--cb-type', '2Proc', '--buffer-length', '2', '-z', '1', '--overwrite', '--display',
                     '--display-proc', 'file_writer', '--timestamp', '--report-hz', '--monitor-qs', '--hz-buffer', '5',
                     '--ring-frames', '333', '--delivery', 'latest', '--cb-timeout', '5', '--cb-start-timeout', '30',
                     '--camera-timeout', '3', '--camera-start-timeout', '20', '--record', 'raw', '--split-frames', '15',
                     '--meta', 'a=b=c',
                     '--control', 'disparity=4', '--control', 'buffers=1000', '--start-method', 'spawn', '--json')
    assert code == 0, err
    assert sorted(path.name for path in Path().glob('*.tif')) == ['trial.tif', 'trial_001.tif']
    _, out, _ = ppr('info', 'trial.tif', '--json')
    settings = json.loads(out)['settings']
    expected = {'x_resolution': 128, 'y_resolution': 48, 'scale_factor': 0.5, 'framerate': 50, 'rec_length': 0.4,
                'stereo': True, 'cb_type': '2Proc', 'buffer_length': 2, 'tif_compression': 1, 'overwrite': True,
                'display_proc': 'file_writer', 'timestamp': True, 'report_Hz': True, 'monitor_qs': True,
                'Hz_buffer': 5, 'ring_frames': 333, 'cb_delivery': 'latest', 'cb_timeout': 5, 'cb_start_timeout': 30,
                'camera_timeout': 3, 'camera_start_timeout': 20, 'record': 'raw', 'split_frames': 15,
                'metadata': {'a': 'b=c'}, 'camera_controls': {'disparity': 4, 'buffers': 1000},
                'start_method': 'spawn'}
    assert {name: settings[name] for name in expected} == expected


def test_without_a_file(ppr: Any) -> None:
    code, out, _ = ppr('record', '--no-write', *QUICK, '--seconds', '0.3', '--print-results',
                       '--callback', 'ProcessedPiRecorder.callbacks.faces:find_faces')
    assert code == 0
    assert_matches('no file was asked for', out)
    assert list(Path().iterdir()) == []
    results = [json.loads(line) for line in out.splitlines() if line.startswith('{')]
    assert [result['index'] for result in results] == list(range(len(results))) and len(results) > 5


# --- callbacks

def write_module(name: str, source: str) -> None:
    Path(f'{name}.py').write_text(textwrap.dedent(source))


@pytest.mark.parametrize('start_method', ['fork', 'spawn'])
def test_a_callback_from_the_current_folder(ppr: Any, start_method: str) -> None:
    write_module('own_tracking', '''
        def invert(buffer, cb_queue):
            cb_queue.put(int(buffer[-1][0, 0, 0]))
            return 255 - buffer[-1]
    ''')
    code, _, err = ppr('record', 'trial.tif', *QUICK, '--seconds', '0.3', '--callback', 'own_tracking:invert',
                       '--start-method', start_method)
    assert code == 0, err
    results = list(read_results('trial.results.jsonl'))
    pages = tifffile.imread('trial.tif')
    assert len(results) == len(pages)
    assert all(255 - page[0, 0, 2] == result for page, (_, _, result) in zip(pages, results))


def test_a_class_is_made_an_instance_of(ppr: Any) -> None:
    write_module('own_counting', '''
        class Counter:
            count = 0
            def __call__(self, buffer, cb_queue):
                self.count += 1
                cb_queue.put(self.count)
    ''')
    code, _, _ = ppr('record', 'trial.tif', *QUICK, '--seconds', '0.2', '--callback', 'own_counting:Counter')
    assert code == 0
    assert [result for _, _, result in read_results('trial.results.jsonl')][:3] == [1, 2, 3]


def test_a_callback_that_raises_costs_no_frame(ppr: Any) -> None:
    write_module('own_failing', '''
        def fail(buffer, cb_queue):
            if buffer[-1].index == 3:
                raise RuntimeError('lost the mouse')
    ''')
    code, out, err = ppr('record', 'trial.tif', *QUICK, '--seconds', '0.4', '--callback', 'own_failing:fail')
    assert code == 1
    assert 'COMPLETE' in out and '1 failed' in out
    assert 'the callback failed' in err and 'lost the mouse' in err and 'Traceback' not in err
    assert page_count('trial.tif') == 12


# --- a recording with something to say

def test_lost_frames_are_told_and_counted(ppr: Any) -> None:
    code, out, _ = ppr('record', 'trial.tif', *QUICK, '--fps', '60', '--seconds', '1', '--control', 'lose_every=10')
    assert code == 1
    assert 'NOT COMPLETE' in out and '6 frames of 60 lost (10 %)' in out and out.count('camera gap') == 6


def test_a_camera_without_evidence_is_unknown(ppr: Any) -> None:
    code, out, _ = ppr('record', 'trial.tif', *QUICK, '--seconds', '0.2', '--control', 'loss_detection=none')
    assert code == 1
    assert 'UNKNOWN' in out and 'no means to see losses' in out


def test_a_camera_that_breaks_leaves_a_file_and_code_3(ppr: Any) -> None:
    code, out, err = ppr('record', 'trial.tif', *QUICK, '--control', 'raise_at=20')
    assert code == 3
    assert 'NOT COMPLETE' in out and 'the recording failed' in err and 'raise_at' in err and 'Traceback' not in err
    assert page_count('trial.tif') == 20


# --- bad usage: nothing is started, nothing is left

@pytest.mark.parametrize('arguments, message', [
    (['--size', '64'], r"--size '64' is not a size; write WIDTHxHEIGHT"),
    (['--size', '0x480'], 'give both'),
    (['--size', '99999x2'], r'out of range.*--size'),
    (['--scale', '0'], r'above 0.*--scale'),
    (['--scale', '1.5'], r'--scale'),
    (['--fps', '-1'], r'out of range.*--fps'),
    (['--compression', '10'], r'from 0 to 9.*--compression'),
    (['--buffer-length', '0'], r'--buffer-length'),
    (['--cb-type', '4Proc'], r"'2Proc' or '3Proc'"),
    (['--cb-type', '3Proc'], 'without a callback'),
    (['--display-proc', 'nowhere'], 'camera_reader'),
    (['--delivery', 'some'], "'every' or 'latest'"),
    (['--start-method', 'forkserver'], "'fork' or 'spawn'"),
    (['--meta', 'animal'], 'key=value'),
    (['--control', '=5'], 'key=value'),
    (['--camera', 'nowhere.mp4'], 'nowhere.mp4'),
    (['--camera', 'lytro'], "'lytro'"),
    (['--callback', 'faces'], 'module:function'),
    (['--callback', 'no_such_module:f'], "no module 'no_such_module'"),
    (['--callback', 'tracking.py:f'], '--callback tracking:f'),
    (['--callback', 'json:nothing'], r"'json' has no 'nothing'; it has .*loads"),
    (['--callback', 'sys:maxsize'], 'is of type int, not a function'),
    (['--no-write'], '--no-write'),
    (['--camera', 'opencv:9'], 'opencv:9|video9'),
    (['--ring-frames', '33', '--cb-timeout', '50', '--callback', 'ProcessedPiRecorder.callbacks.faces:find_faces'],
     r'--ring-frames, --cb-timeout'),
    (['--log', 'trial.results.jsonl'], r'log_file=.*results file.*--log'),
    (['--fps', 'fast'], 'fps'),
    (['--no-such-option'], 'no-such-option'),
])
def test_bad_usage_ends_with_2_and_one_clear_message(ppr: Any, arguments: List[str], message: str) -> None:
    code, out, err = ppr('record', 'trial.tif', *QUICK[2:], *([] if '--camera' in arguments else QUICK[:2]), *arguments)
    assert code == 2 and out == ''
    assert_matches(message, err)
    assert 'Traceback' not in err
    assert list(Path().iterdir()) == []


def assert_matches(pattern: str, text: str) -> None:
    import re
    assert re.search(pattern, ' '.join(text.replace('│', ' ').split())), text


def test_an_existing_file_is_not_touched(ppr: Any) -> None:
    Path('trial.tif').write_text('precious')
    code, _, err = ppr('record', 'trial.tif', *QUICK)
    assert code == 2 and '--overwrite' in err
    assert Path('trial.tif').read_text() == 'precious'
    assert ppr('record', 'trial.tif', *QUICK, '--seconds', '0.2', '--overwrite')[0] == 0
    assert is_finished('trial.tif')


def test_missing_folders_are_named(ppr: Any) -> None:
    code, _, err = ppr('record', 'no/such/trial.tif', *QUICK)
    assert code == 2 and 'mkdir -p' in err


def test_a_module_that_fails_on_import_is_told(ppr: Any) -> None:
    write_module('own_broken', 'import no_such_thing_at_all\n')
    code, _, err = ppr('record', 'trial.tif', *QUICK, '--callback', 'own_broken:f')
    assert code == 2 and "needs 'no_such_thing_at_all'" in err


def test_debug_shows_the_traceback(ppr: Any) -> None:
    import logging
    level, handlers = logging.root.level, list(logging.root.handlers)
    try:
        code, _, err = ppr('--debug', 'record', 'trial.tif', *QUICK, '--scale', '7')
    finally:
        logging.root.setLevel(level)
        logging.root.handlers[:] = handlers
        ppr('version')
    assert code == 2 and 'Traceback' in err


# --- signals, pipes, terminals

@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_and_finishes(number: int) -> None:
    process = start_ppr('record', 'trial.tif', *QUICK, start_new_session=True)
    await_pages(Path('trial.tif'))
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert 'COMPLETE' in out and 'stopping' in err
    assert is_finished('trial.tif')


def test_ctrl_c_of_a_whole_process_group_stops_and_finishes() -> None:
    process = start_ppr('record', 'trial.tif', *QUICK, '--callback', 'ProcessedPiRecorder.callbacks.faces:find_faces',
                        start_new_session=True)
    await_pages(Path('trial.tif'))
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert 'COMPLETE' in out


def test_a_second_ctrl_c_leaves_the_file_to_be_finished_without_us() -> None:
    write_module('own_slow', '''
        import time
        class Slow:
            def __enter__(self): return self
            def __exit__(self, *exception): time.sleep(2)
            def __call__(self, buffer, cb_queue): pass
    ''')
    process = start_ppr('record', 'trial.tif', *QUICK, '--callback', 'own_slow:Slow', start_new_session=True)
    await_pages(Path('trial.tif'))
    process.send_signal(signal.SIGINT)
    time.sleep(0.7)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 3 and 'stopped twice' in err and 'Traceback' not in err
    deadline = time.monotonic() + 20
    while not is_finished('trial.tif'):
        assert time.monotonic() < deadline, 'nobody finished the file'
        time.sleep(0.1)


def test_a_terminal_gets_a_live_bar_and_a_pipe_does_not() -> None:
    outer, inner = pty.openpty()
    command = [sys.executable, '-m', 'ProcessedPiRecorder', 'record', 'trial.tif', *QUICK, '--seconds', '1.5']
    process = subprocess.Popen(command, env={**os.environ, 'PYTHONPATH': str(REPO), 'TERM': 'xterm', 'COLUMNS': '100'},
                               stdin=inner, stdout=inner, stderr=inner)
    os.close(inner)
    seen = read_all(outer)
    assert process.wait(10) == 0
    for text in ('REC', 'to go', 'Hz', '0 lost', 'ring', 'free', 'COMPLETE'):
        assert text in seen


def read_all(fd: int) -> str:
    parts = []
    while select.select([fd], [], [], 20)[0]:
        try:
            data = os.read(fd, 65536)
        except OSError:      # Linux says so when the other end of a pseudo-terminal is closed
            break
        if not data:
            break
        parts.append(data)
    os.close(fd)
    return b''.join(parts).decode()


@pytest.mark.parametrize('closed', ['2>&-', '>&- 2>&-', '<&- >&- 2>&-'])
@pytest.mark.parametrize('start_method', ['fork', 'spawn'])
def test_closed_standard_streams_neither_crash_nor_land_in_the_file(closed: str, start_method: str) -> None:
    write_module('own_loud', '''
        import os
        def shout(buffer, cb_queue):
            for number in (1, 2):
                os.write(number, b'as a library in C would')
    ''')
    run = f'exec "$0" -m ProcessedPiRecorder record "$@" {closed}'
    arguments = ['trial.tif', *QUICK, '--callback', 'own_loud:shout', '--start-method', start_method, '--json']
    environment = {**os.environ, 'PYTHONPATH': str(REPO)}
    done = subprocess.run(['sh', '-c', run, sys.executable, *arguments, '--seconds', '0.2'], env=environment,
                          capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b'') and (b'"complete": "yes"' in done.stdout) == (closed == '2>&-')
    assert page_count('trial.tif') == 6 and b'library in C' not in Path('trial.tif').read_bytes()
    refused = subprocess.run(['sh', '-c', run, sys.executable, *arguments], env=environment, capture_output=True,
                             timeout=30)
    assert (refused.returncode, refused.stdout, refused.stderr) == (2, b'', b'')


# --- outputs that go away

def test_output_that_nobody_reads_ends_neither_recording_nor_results() -> None:
    """As with | head, and with | tee when Ctrl-C ends that first."""
    write_module('own_noisy', """
        def put(buffer, cb_queue):
            cb_queue.put(buffer[-1].index)
        """)
    running = start_ppr('record', 'trial.tif', *QUICK, '--fps', '100', '--callback', 'own_noisy:put', '--print-results')
    assert running.stdout is not None and running.stderr is not None
    assert running.stdout.readline() == '0\n'
    running.stdout.close()
    running.stderr.close()
    await_pages(Path('trial.tif'))
    running.send_signal(signal.SIGTERM)
    assert running.wait(30) == 0
    assert is_finished('trial.tif') and len(list(read_results('trial.results.jsonl'))) == page_count('trial.tif')


@pytest.mark.parametrize('command', [['info'], ['info', '--json'], ['verify'], ['repair'], ['--help']])
def test_an_answer_that_nobody_reads_keeps_its_exit_code(ppr: Any, command: List[str]) -> None:
    arguments = command if command[0].startswith('-') else [*command, 'trial.tif']
    assert ppr('record', 'trial.tif', *QUICK, '--control', 'frames=5')[0] == 0
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, 'wb') as nobody, open('/dev/full', 'wb') as full:
        for output, code, words in ((nobody, 0, ''), (full, 3, 'could not be written')):
            done = subprocess.run([sys.executable, '-m', 'ProcessedPiRecorder', *arguments], stdout=output, text=True,
                                  stderr=subprocess.PIPE, env={**os.environ, 'PYTHONPATH': str(REPO)})
            assert done.returncode == code and words in done.stderr and 'Traceback' not in done.stderr, done.stderr


@pytest.mark.parametrize('start_method', ['fork', 'spawn'])
def test_what_a_callback_prints_does_not_get_into_the_json(start_method: str) -> None:
    write_module('own_noisy', """
        def say(buffer, cb_queue):
            print('noise')
        """)
    with start_ppr('record', 'trial.tif', *QUICK, '--control', 'frames=3', '--callback', 'own_noisy:say', '--json',
                   '--start-method', start_method) as running:
        out, err = running.communicate(timeout=40)
    assert json.loads(out)['captured'] == 3 and err.count('noise') == 3


def test_other_encodings_get_escapes(ppr: Any) -> None:
    assert ppr('record', 'Mäuse.tif', *QUICK, '--control', 'frames=5')[0] == 0
    with start_ppr('info', 'Mäuse.tif') as running:
        out, _ = running.communicate(timeout=20)
    assert 'Mäuse.tif' in out
    ascii_only = {**os.environ, 'PYTHONPATH': str(REPO), 'PYTHONIOENCODING': 'ascii'}
    done = subprocess.run([sys.executable, '-m', 'ProcessedPiRecorder', 'info', 'Mäuse.tif'], env=ascii_only,
                          capture_output=True)
    assert done.returncode == 0 and b'M\\xe4use.tif' in done.stdout, done.stderr


def test_a_recording_without_a_single_frame_is_no_success(ppr: Any) -> None:
    code, out, err = ppr('record', 'trial.tif', *QUICK, '--seconds', '0.01')     # 30 Hz is this camera's own choice
    assert code == 3 and '0 frames captured' in out
    assert_matches('nothing was recorded: .*single frame.*no file', err)
    assert list(Path().iterdir()) == []
    code, _, err = ppr('record', 'trial.tif', *QUICK, '--seconds', '0.01', '--fps', '30')
    assert code == 2
    assert_matches('no more than half a frame.*--seconds', err)


def test_only_commands_that_exist_are_advised() -> None:
    import re

    import typer

    from ProcessedPiRecorder.cli.app import app
    known = set(typer.main.get_command(app).commands)     # type: ignore[attr-defined]
    texts = [*REPO.glob('ProcessedPiRecorder/**/*.py'), *REPO.glob('docs/*.md'), REPO / 'README.md']
    advised = {word for path in texts
               for word in re.findall(r'\bppr ([a-z]+)\b', path.read_text(encoding='utf-8'))}
    assert {'info', 'cameras', 'record'} <= advised & known
    assert advised - known <= {'command'}


# --- info, cameras, sheet, version

def test_info_tells_verdict_gaps_settings_and_metadata(ppr: Any) -> None:
    ppr('record', 'trial.tif', *QUICK, '--seconds', '0.5', '--control', 'skip=[5,6]', '-m', 'animal=M12')
    code, out, _ = ppr('info', 'trial.tif')
    assert code == 0
    for text in ('NOT COMPLETE', '2 frames of 15 lost', 'camera gap', 'animal', 'M12', 'x_resolution', '64×48'):
        assert text in out, out
    code, out, _ = ppr('info', 'trial.tif', '--json')
    facts = json.loads(out)
    assert code == 0 and facts['finished'] and facts['pages'] == 13
    assert [(gap['index'], gap['count'], gap['after_page']) for gap in facts['gaps']] == [(5, 2, 4)]
    assert facts['report']['complete'] == 'no' and facts['metadata'] == {'animal': 'M12'}


def test_info_of_a_recording_that_was_cut_off(ppr: Any) -> None:
    process = start_ppr('record', 'trial.tif', *QUICK, start_new_session=True)
    await_pages(Path('trial.tif'), 60_000)
    time.sleep(1.5)          # the first pages are linked after a second
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    code, out, _ = ppr('info', 'trial.tif')
    assert code == 0 and 'UNFINISHED' in out
    facts = json.loads(ppr('info', 'trial.tif', '--json')[1])
    assert not facts['finished'] and facts['pages'] > 0 and facts['report'] is None


def test_verify_tells_damaged_pages(ppr: Any) -> None:
    ppr('record', 'trial.tif', *QUICK, '--seconds', '0.3', '-z', '0')
    with tifffile.TiffFile('trial.tif') as tif:
        offset = tif.pages[4].dataoffsets[0]
    with open('trial.tif', 'r+b') as file:
        file.seek(offset + 100)
        file.write(b'damage')
    code, out, _ = ppr('verify', 'trial.tif')
    assert code == 1 and 'NOT VERIFIED' in out and 'checksum' in out


@pytest.mark.parametrize('kind', ['missing', 'text', 'empty', 'foreign', 'folder'])
def test_info_of_what_is_no_recording(ppr: Any, kind: str) -> None:
    path = Path('other.tif')
    if kind == 'foreign':
        tifffile.imwrite(path, np.zeros((3, 4, 5), np.uint8), photometric='minisblack')
    elif kind == 'folder':
        path.mkdir()
    elif kind != 'missing':
        path.write_text('no TIFF at all, this is' if kind == 'text' else '')
    code, out, err = ppr('info', 'other.tif')
    assert code == 3 and out == '' and 'other.tif' in err and 'Traceback' not in err


def test_cameras_lists_what_there_is_and_why_not(ppr: Any) -> None:
    code, out, _ = ppr('cameras')
    assert code == 0 and 'synthetic' in out and 'picamera' in out
    listed = json.loads(ppr('cameras', '--json')[1])
    assert all(item['available'] or item['why_not'] for item in listed)


def test_sheet_of_a_recording(ppr: Any) -> None:
    import cv2
    ppr('record', 'trial.tif', *QUICK, '--seconds', '0.4', '--callback',
        'ProcessedPiRecorder.callbacks.faces:find_faces')
    code, out, _ = ppr('sheet', 'trial.tif', '--frames', '6')
    assert code == 0 and '6 of 12 frames' in out
    assert cv2.imread('trial.png').shape[0] > 200
    assert ppr('sheet', 'trial.tif', '-o', 'no/such/place.png')[0] == 3
    assert ppr('sheet', 'nothing.tif')[0] == 3


def test_version_and_help(ppr: Any) -> None:
    from ProcessedPiRecorder import __version__
    assert __version__ in ppr('version')[1]
    assert __version__ in ppr('--version')[1]
    code, out, _ = ppr('record', '--help')
    assert code == 0 and 'Exit codes' in out and '--callback' in out


def test_help_needs_no_camera_stack() -> None:
    source = ('import sys\n'
              'from ProcessedPiRecorder.cli import main\n'
              'try: main(["--help"])\n'
              'except SystemExit: pass\n'
              'print("loaded:", sorted({"cv2", "tifffile", "imageio"} & set(sys.modules)))\n')
    done = subprocess.run([sys.executable, '-c', source], env={**os.environ, 'PYTHONPATH': str(REPO)}, text=True,
                          capture_output=True, check=True)
    assert 'loaded: []' in done.stdout


#: `ppr`, with a camera that takes its time to open, as Pi cameras do.
SLEEPY = '''
import sys, time
from ProcessedPiRecorder.cameras import SyntheticCamera, registry
from ProcessedPiRecorder.cli import main
class Sleepy(SyntheticCamera):
    def open(self, request):
        open('opening', 'w').close()
        time.sleep(4)
        return super().open(request)
registry.resolve = lambda spec: Sleepy(frames=30)
sys.exit(main())
'''


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_start_is_called_off_by_the_first_signal(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, '-c', SLEEPY, 'record', 'trial.tif', *QUICK], text=True,
                               env={**os.environ, 'PYTHONPATH': str(REPO)}, start_new_session=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: Path('opening').exists())
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 3 and 'COMPLETE' not in out and 'Traceback' not in err
    assert_matches('stopped before the start was complete.*nothing was recorded', err)
    assert not Path('trial.tif').exists()

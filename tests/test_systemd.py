"""The systemd unit: valid where systemd can say so, and its command line run by hand as systemd would run it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List

import psutil
import pytest
from recording_tools import ROOT, recorder, wait_until
from test_docs import context_of

from ProcessedPiRecorder.cli.outcome import DOUBTFUL
from ProcessedPiRecorder.pipeline.plan import FINISH_TIMEOUT_S, slowest_call_s
from ProcessedPiRecorder.recordings.reader import RecordingFile

UNIT = ROOT / 'examples' / 'ppr-record@.service'
PAGE = ROOT / 'docs' / 'systemd.md'
PROGRAM = '/home/pi/ppr-env/bin/ppr'


def settings() -> Dict[str, str]:
    """The unit's settings; none is given twice."""
    pairs = re.findall(r'^(\w+)=(.*)$', UNIT.read_text(encoding='utf-8'), re.MULTILINE)
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


def as_systemd_runs(command: str, instance: str, environment: Dict[str, str]) -> List[str]:
    """The words of an ExecStart: quotes, specifiers, $$ and variables as systemd.service(5) describes them."""
    words = []
    for word in shlex.split(command):
        if re.fullmatch(r'\$\w+', word):
            words += shlex.split(environment.get(word[1:], ''))
        else:
            assert not re.search(r'(?<!\$)\$(?:\$\$)*\{', word), 'systemd would put a variable in here'
            words.append(word.replace('%i', instance).replace('%%', '%').replace('$$', '$'))
    return words


@pytest.fixture
def unit(tmp_path: Path) -> Iterator['subprocess.Popen[str]']:
    """The unit, running, its program being this one; in a session of its own, as a unit's processes are."""
    program = tmp_path / 'ppr'
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ProcessedPiRecorder "$@"\n')
    program.chmod(0o755)
    configuration = {'PPR_FOLDER': str(tmp_path), 'PPR_OPTIONS':
                     '--camera synthetic --size 64x48 --fps 50 --control buffers=1000 --meta "project=night shift"'}
    command = settings()['ExecStart'].replace(PROGRAM, str(program))
    process = subprocess.Popen(
        as_systemd_runs(command, 'arena1', configuration), cwd=tmp_path, stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        env={'PATH': os.environ['PATH'], 'PYTHONPATH': str(ROOT), 'HOME': str(tmp_path), **configuration})
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def recording(folder: Path) -> Path:
    """The file, once some pages are in it."""
    def some() -> List[Path]:
        return [path for path in folder.glob('arena1-*.tif') if path.stat().st_size > 20_000]
    found: List[Path] = wait_until(some)
    assert len(found) == 1 and re.fullmatch(r'arena1-\d{8}-\d{6}\.tif', found[0].name)
    return found[0]


def is_finished(path: Path) -> bool:
    with RecordingFile(path) as file:
        return file.finished and all(map(file.verify_page, range(file.pages)))


@pytest.mark.parametrize('everyone', [True, False])
def test_stop_finishes_the_file(unit: 'subprocess.Popen[str]', tmp_path: Path, everyone: bool) -> None:
    path = recording(tmp_path)
    # KillMode=control-group sends it to all processes, mixed to the first.
    (os.killpg if everyone else os.kill)(unit.pid, signal.SIGTERM)
    output, _ = unit.communicate(timeout=30)
    assert unit.returncode == 0, output
    assert 'COMPLETE' in output and 'warning' not in output
    assert is_finished(path)
    with RecordingFile(path) as file:
        assert file.annotations['metadata'] == {'project': 'night shift'}


def test_the_file_is_finished_when_the_first_process_is_killed(unit: 'subprocess.Popen[str]', tmp_path: Path) -> None:
    """Then systemd sends SIGTERM to the others (KillMode=control-group) and waits for them."""
    path = recording(tmp_path)
    others = psutil.Process(unit.pid).children(recursive=True)
    assert others
    unit.kill()
    unit.wait(10)
    for process in others:
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            pass
    psutil.wait_procs(others, timeout=20)
    assert is_finished(path)


def test_a_second_start_makes_a_second_file_or_none() -> None:
    command = as_systemd_runs(settings()['ExecStart'], 'arena1', {})
    assert '%' not in command[2].replace('+%Y%m%d-%H%M%S', '') and '--overwrite' not in command[2]
    assert '--overwrite' not in PAGE.read_text(encoding='utf-8').split('## Use')[0]


def test_the_limits_leave_the_recorder_its_time() -> None:
    told = settings()
    assert int(told['TimeoutStopSec']) > FINISH_TIMEOUT_S + slowest_call_s(recorder(Path('x.tif')).settings)
    assert told['KillMode'] == 'control-group' and told['Restart'] == 'on-failure'
    assert told['RestartPreventExitStatus'] == str(DOUBTFUL)


def test_the_page_tells_what_the_unit_says() -> None:
    page, told = PAGE.read_text(encoding='utf-8'), settings()
    for quoted in re.findall(r'\*\*`(\w+)=([^`]+)`', page):
        assert told[quoted[0]] == quoted[1]
    assert PROGRAM in page and told['User'] == 'pi' and told['WorkingDirectory'] == '/home/pi'


def test_the_configuration_on_the_page_can_be_typed() -> None:
    block = re.search(r'^```ini\n(.*?)^```', PAGE.read_text(encoding='utf-8'), re.DOTALL | re.MULTILINE)
    assert block is not None
    configuration = dict(line.split('=', 1) for line in block.group(1).splitlines())
    words = shlex.split(configuration['PPR_OPTIONS'])[0]
    given = context_of(f'ppr record {words}').params
    assert list(given['camera']) == ['picamera2'] and given['rec_length'] == 3600


@pytest.mark.skipif(not shutil.which('systemd-analyze'), reason='systemd-analyze is not here (Debian: systemd)')
@pytest.mark.parametrize('spoilt', [False, True])
def test_systemd_takes_the_unit(tmp_path: Path, spoilt: bool) -> None:
    copy = tmp_path / 'ppr-record@arena1.service'
    text = UNIT.read_text(encoding='utf-8')
    copy.write_text(text.replace('KillMode=', 'KilMode=') if spoilt else text, encoding='utf-8')
    done = subprocess.run(['systemd-analyze', 'verify', '--man=no', str(copy)], text=True, capture_output=True,
                          timeout=50)
    assert (done.returncode == 0 and not done.stderr) is not spoilt, done.stderr

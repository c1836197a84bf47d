"""ppr export: one by name, many at once, told in words and in JSON, interrupted at any moment."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import numpy as np
import pytest
import tifffile
from PIL import Image
from recording_tools import ROOT, recorder

from ProcessedPiRecorder import open_recording
from ProcessedPiRecorder.cli import app, main
from ProcessedPiRecorder.cli.frame_bar import FrameLines

av = pytest.importorskip('av')

pytestmark = pytest.mark.usefixtures('own_folder')


@pytest.fixture(scope='module')
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp('recorded')
    for name, options in (('one', {}), ('two', {'pixel_format': 'gray'}), ('split', {'split_frames': 12})):
        with recorder(folder / f'{name}.tif', **options) as rec:
            rec.recordVid()
    yield folder


@pytest.fixture
def trials(made: Path, own_folder: None) -> Path:
    """In the current folder: one.tif, two.tif, split.tif with its other two files; 30 frames at 100 Hz each."""
    for path in made.iterdir():
        shutil.copy(path, path.name)
    return Path.cwd()


@pytest.fixture
def ppr(capfd: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> Tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(arguments)
        out, err = capfd.readouterr()
        code = left.value.code
        return (code if isinstance(code, int) else 0), out, err
    return run


def present() -> List[str]:
    return sorted(os.listdir())


BEFORE = ['one.tif', 'split.tif', 'split_001.tif', 'split_002.tif', 'two.tif']


def frames_in(video: str) -> int:
    with av.open(video) as container:
        return sum(1 for _ in container.decode(video=0))


# ---------------------------------------------------------------------- one

def test_one_by_the_name_of_its_target(ppr: Any, trials: Path) -> None:
    code, out, err = ppr('export', 'one.tif', 'one.mp4')
    assert (code, err) == (0, '') and out.startswith('one.mp4: 30 frames, ') and '\x1b' not in out
    assert frames_in('one.mp4') == 30 and present() == sorted([*BEFORE, 'one.mp4'])


def test_what_has_to_be_known_is_told(ppr: Any, trials: Path) -> None:
    code, out, _ = ppr('export', 'two.tif', 'two.mp4', '--lossless')
    assert code == 0 and '\n  • lossless H.264 is read exactly by ffmpeg' in out
    assert ppr('export', 'two.tif', 'two.mp4', '--lossless', '--overwrite', '--quiet') == (0, '', '')


def test_every_option_reaches_the_exporter(ppr: Any, trials: Path) -> None:
    code, out, err = ppr('export', 'one.tif', '--output', 'clip', '--to', 'gif', '--start', '4', '--stop', '0.2s',
                         '--every', '2', '--max-width', '48', '--colors', '16', '--speed', '0.5', '--overwrite')
    assert (code, err) == (0, ''), err
    with Image.open('clip') as image:
        assert image.size == (48, 32) and image.n_frames == 8
    assert ppr('export', 'one.tif', 'a.mp4', '--crf', '30', '--preset', 'ultrafast')[0] == 0
    assert ppr('export', 'one.tif', 'b.mp4', '--crf', '3', '--set', 'preset=veryslow')[0] == 0
    assert Path('a.mp4').stat().st_size < Path('b.mp4').stat().st_size
    tifffile.imwrite('foreign.tif', np.zeros((4, 32, 32), np.uint8), photometric='minisblack')
    assert ppr('export', 'foreign.tif', 'c.avi', '--fps', '8')[0] == 0
    assert ppr('export', 'one.tif', 'results.csv', '--what', 'results')[1].startswith('results.csv: 0 rows, ')


def test_a_time_of_day(ppr: Any, trials: Path) -> None:
    with open_recording('one.tif') as recording:
        told = f'{np.datetime64(int(recording.times_ns[20]), "ns")}Z'      # type: ignore[index]
    assert ppr('export', 'one.tif', 'frames', '--start', told)[0] == 0
    assert sorted(os.listdir('frames'))[0] == 'frame_00000020.png' and len(os.listdir('frames')) == 11


def test_json_is_all_there_is_on_stdout(ppr: Any, trials: Path) -> None:
    code, out, err = ppr('export', 'one.tif', 'one.avi', '--json')
    assert (code, err) == (0, '')
    [told] = json.loads(out)
    assert told['target'] == 'one.avi' and told['frames'] == 30 and told['beside'] == ['one.times.csv']
    assert told['bytes'] == Path('one.avi').stat().st_size and told['notes'] == []
    code, out, err = ppr('export', 'one.tif', 'one.avi', '--json')
    assert code == 2 and json.loads(out)[0]['error'] == err[len('ppr: '):].strip()
    assert err.endswith('one.avi exists already; choose another name, or pass --overwrite\n')


def test_a_folder_of_images_is_made_anew_when_told(ppr: Any, trials: Path) -> None:
    assert ppr('export', 'one.tif', 'frames', '--stop', '9')[0] == 0
    code, _, err = ppr('export', 'one.tif', 'frames')
    assert code == 2 and 'frames is a folder; name a new file in it' in err and '--overwrite' in err
    assert ppr('export', 'one.tif', 'frames', '--stop', '5', '--overwrite')[0] == 0
    assert len(os.listdir('frames')) == 6
    Path('frames/notes.txt').write_text('precious')
    code, _, err = ppr('export', 'one.tif', 'frames', '--overwrite')
    assert code == 3 and 'holds what no such export made (notes.txt)' in err and len(os.listdir('frames')) == 7
    Path('frames.mp4').mkdir()
    code, _, err = ppr('export', 'one.tif', 'frames.mp4', '--overwrite')
    assert code == 2 and 'frames.mp4 is a folder' in err


# ---------------------------------------------------------------------- many

def test_many_get_their_names_from_their_recordings(ppr: Any, trials: Path) -> None:
    code, out, err = ppr('export', *BEFORE, '--to', 'mp4')
    assert (code, err) == (0, '')
    assert present() == sorted([*BEFORE, 'one.mp4', 'two.mp4', 'split.mp4'])
    assert frames_in('split.mp4') == 30
    assert out.count('belongs to the recording of split.tif, which is named before it') == 2


def test_a_split_recording_that_failed_is_not_told_as_exported(ppr: Any, trials: Path) -> None:
    Path('split.mp4').write_text('theirs')
    code, out, err = ppr('export', 'split_001.tif', 'split.tif', '--to', 'mp4')
    assert code == 3 and 'split.mp4 exists already' in err
    assert out == 'split.tif belongs to the recording of split_001.tif, which is named before it\n'


def test_into_another_folder(ppr: Any, trials: Path) -> None:
    for format, expected in (('png', 'one_frames'), ('tif', 'one_cut.tif'), ('gif', 'one.gif')):
        code, out, err = ppr('export', 'one.tif', 'split_001.tif', '--to', format, '--output-dir', 'videos', '--stop',
                             '5')
        assert (code, err) == (0, ''), err
        assert {expected, expected.replace('one', 'split')} <= set(os.listdir('videos'))
    assert present() == sorted([*BEFORE, 'videos'])


def test_one_that_fails_does_not_stop_the_others(ppr: Any, trials: Path) -> None:
    Path('broken.tif').write_bytes(b'II+\0 no recording')
    Path('one.mp4').write_text('theirs')
    code, out, err = ppr('export', 'broken.tif', 'one.tif', 'none.tif', 'two.tif', '--to', 'mp4')
    assert code == 3 and 'two.mp4: 30 frames' in out and Path('one.mp4').read_text() == 'theirs'
    for told in ('ppr: broken.tif: ', 'ppr: one.tif: one.mp4 exists already', 'ppr: none.tif: '):
        assert told in err
    assert present() == sorted([*BEFORE, 'broken.tif', 'one.mp4', 'two.mp4'])


def test_two_of_one_name_do_not_replace_each_other(ppr: Any, trials: Path) -> None:
    Path('day2').mkdir()
    shutil.copy('two.tif', 'day2/one.tif')
    Path('videos').mkdir()
    code, out, err = ppr('export', 'one.tif', 'day2/one.tif', '--to', 'gif', '-d', 'videos', '--overwrite')
    assert code == 3 and 'videos/one.gif has just been made of one.tif; export day2/one.tif on its own' in err
    with Image.open('videos/one.gif') as image:
        assert image.convert('RGB').getpixel((0, 0)) != image.convert('L').getpixel((0, 0))


# ---------------------------------------------------------------------- what was typed cannot work

@pytest.mark.parametrize(('arguments', 'message'), [
    (['one.tif'], 'give a recording and a target'), (['one.tif', 'two.tif', 'a.mp4'], 'or any number of recordings'),
    (['one.tif', 'mp4'], 'pass --to mp4'), (['one.tif', 'two.tif'], 'two.tif is there already. To export several'),
    (['one.tif', 'two.tif', '--overwrite'], 'two.tif is there already'), (['one.tif', '.'], 'pass --to FORMAT'),
    (['one.tif', '--to', 'mpeg'], 'is no format; give one of mp4, avi'), (['one.tif', 'a.xyz'], 'no format that is'),
    (['one.tif', 'two.tif', '-o', 'a.mp4'], '--output names one file'), (['one.tif', 'a.mp4', '-d', '.'], 'give a re'),
    (['one.tif', '-o', 'a.mp4', '-d', '.'], 'pass only one of them'),
    (['one.tif', '-t', 'gif', '-d', 'two.tif'], 'is a file'),
    (['one.tif', '-t', 'gif', '-d', 'no/such'], '--output-dir no/such cannot be made: No such file'),
    (['one.tif', 'onepng', '--to', 'png'], 'pass one.tif --to png --output onepng'),
    (['one.tif', 'new.tif', '--to', 'tif'], '--output new.tif'),
    (['one.tif', 'a.gif', '--lossless'], '--lossless is for mp4, not for gif'),
    (['one.tif', 'a.mp4', '--max-width', '9'], '--max-width is for gif, not for mp4'),
    (['one.tif', 'a.mp4', '--set', 'x=1'], '--set x=…: mp4 takes no x; it takes start, stop,'),
    (['one.tif', 'a.mp4', '--set', 'x'], 'NAME=VALUE'),
    (['one.tif', 'a.mp4', '--speed', '0'], '--speed 0.0 cannot be; give 1 for'),
    (['one.tif', 'a.mp4', '--preset', 'foo'], '--preset foo cannot be; give one of ultrafast'),
    (['one.tif', 'a.gif', '--colors', '7'], '--colors 7 cannot be; give one of 2, 4'),
    (['one.tif', 'a.csv', '--what', 'foo'], '--what foo cannot be; give one of frames, results'),
    (['one.tif', 'a.mp4', '--start', '5s', '--stop', '3s'], '--start 5s --stop 3s leave no frame'),
    (['one.tif', 'a.mp4', '--start', '7', '--stop', '7'], '--start 7 --stop 7 leave no frame'),
    (['one.tif', '-o', 'two.tif'], 'two.tif exists already; choose another name, or pass --overwrite'),
    (['one.tif', 'y.png'], 'name the folder y, say'), (['one.tif', '-o', 'y.PNG'], 'name the folder y, say'),
    (['one.tif', 'a.mp4', '--set', 'progress=1'], 'is no NAME=VALUE'),
    (['one.tif', 'a.mp4', '--start', '3x'], "--start='3x' is not understood"),
    (['one.tif', 'a.mp4', '--stop=-3'], "--stop='-3' is not understood")])
def test_bad_usage_starts_nothing(ppr: Any, trials: Path, arguments: List[str], message: str) -> None:
    code, out, err = ppr('export', *arguments)
    assert (code, out) == (2, '') and message in err and err.startswith('ppr: ')
    assert present() == BEFORE


@pytest.mark.parametrize(('arguments', 'message'), [
    (['none.tif', 'a.mp4'], 'no such file'), (['one.tif', 'a.mp4', '--start', '99'], '--start 99 leave'),
    (['one.tif', 'no/a.mp4'], 'is not a folder that exists'), (['one.tif', '-o', 'one.tif', '--overwrite'], 'itself'),
    (['split_001.tif', '-o', 'split_002.tif', '--overwrite'], 'a file of the recording itself')])
def test_what_cannot_be_made_is_told(ppr: Any, trials: Path, arguments: List[str], message: str) -> None:
    before = {path: Path(path).read_bytes() for path in BEFORE}
    code, out, err = ppr('export', *arguments)
    assert (code, out) == (3, '') and message in err.replace('\n', ' ')
    assert present() == BEFORE and {path: Path(path).read_bytes() for path in BEFORE} == before


# ---------------------------------------------------------------------- interrupted, watched

def long_recording(frames: int = 3000) -> None:
    with recorder(Path('long.tif'), pixel_format='gray', x_resolution=64, y_resolution=48, controls={'frames': frames}
                  ) as rec:
        rec.recordVid()


def start_ppr(*arguments: str, **options: Any) -> 'subprocess.Popen[str]':
    return subprocess.Popen([sys.executable, '-m', 'ProcessedPiRecorder', *arguments], text=True,
                            env={**os.environ, 'PYTHONPATH': str(ROOT), 'TERM': 'xterm', 'COLUMNS': '100'}, **options)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupted_nothing_is_left_of_it(number: int) -> None:
    long_recording()
    with recorder(Path('first.tif')) as rec:
        rec.recordVid()
    process = start_ppr('export', 'first.tif', 'long.tif', '--to', 'gif', stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not Path('.long.gif.part/long.gif').exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    time.sleep(0.1)                    # well within the work: 3,000 frames take longer
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert err == 'ppr: interrupted; nothing is left of long.gif; what was exported before it stays\n'
    assert out.startswith('first.gif: 15 frames') and present() == ['first.gif', 'first.tif', 'long.tif']


@pytest.mark.parametrize('place', ['imports', 'options'])
def test_interrupted_before_the_command_began(place: str, monkeypatch: pytest.MonkeyPatch,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt
    monkeypatch.setattr(app, 'app' if place == 'imports' else 'version', interrupted)
    with pytest.raises(SystemExit) as left:
        main(['--version'])
    assert left.value.code == 130 and capsys.readouterr() == ('', 'ppr: interrupted\n')


def test_a_terminal_sees_a_bar_with_the_time_left() -> None:
    long_recording(1000)
    ours, theirs = pty.openpty()
    process = start_ppr('export', 'long.tif', 'long.avi', stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b''
    while True:
        assert select.select([ours], [], [], 30)[0], seen
        try:
            data = os.read(ours, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data
    os.close(ours)
    assert process.wait(20) == 0
    text = seen.decode()
    assert 'long.avi' in text and '/1000' in text and 'frames' in text and '1,000 frames' in text


def test_a_pipe_sees_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 1.0, 10.0, 11.0, 25.0])
    lines = FrameLines('a.mp4', lambda: next(clock))
    for done in (5, 100, 110, 250):
        lines.show(done, 1000)
    assert capsys.readouterr().err.splitlines() == [
        'ppr: a.mp4: 100 of 1,000 frames, 10.0 frames/s, about 90 s left',
        'ppr: a.mp4: 250 of 1,000 frames, 10.0 frames/s, about 75 s left']

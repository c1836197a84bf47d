"""The verdict's words and figures, and the progress lines, from made-up reports."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, List

import pytest
from rich.console import Console

from ProcessedPiRecorder.cli import verdict
from ProcessedPiRecorder.cli.options import load_callback, parse_controls, parse_size
from ProcessedPiRecorder.cli.outcome import in_options
from ProcessedPiRecorder.cli.progress import LiveBar, PlainLines, plain_figures
from ProcessedPiRecorder.cli.record import exit_code
from ProcessedPiRecorder.errors import CallbackError, CameraError, CameraFormatError, SettingsError
from ProcessedPiRecorder.report import Loss, Report


def printed(report: Report, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    verdict.print_verdict(console, report)
    return console.file.getvalue()   # type: ignore[attr-defined]


def test_complete_says_so_first() -> None:
    text = printed(Report('yes', sensor=3600, captured=3600, written=3600, files=['/data/trial.tif']))
    assert text.splitlines()[1].startswith('│ COMPLETE  all 3,600 frames that the camera made are in the file')


def test_one_lost_frame_of_a_million_is_not_rounded_away() -> None:
    text = printed(Report('no', ['1 frame lost'], sensor=1_000_000, captured=999_999, written=999_999, lost=1,
                          losses=[Loss(17, 1, 10**18, 'ring full')]))
    assert 'NOT COMPLETE  1 frame of 1,000,000 lost (< 0.01 %)' in text
    assert 'ring full' in text and '2001-09-09 01:46:40.000' in text


def test_a_thousand_losses_are_cut_to_the_first_twenty() -> None:
    losses = [Loss(10 * number, 1, number, 'camera gap') for number in range(1000)]
    text = printed(Report('no', sensor=10_000, captured=9000, written=9000, lost=1000, losses=losses))
    assert text.count('camera gap') == 20 and 'the first 20 of 1,000 places' in text


def test_user_texts_are_not_taken_for_markup() -> None:
    hostile = '[bold]x[/] [/nothing] [link=a]'
    text = printed(Report('no', [hostile], captured=1, written=1, errors=[hostile], warnings=[hostile],
                          marks=[{'label': hostile, 'time_ns': 5}], files=[hostile], stopped=hostile,
                          losses=[Loss(0, 1, None, hostile, hostile)], lost=1, camera={'model': hostile}), 200)
    assert text.count(hostile) >= 7


@pytest.mark.parametrize('width', [20, 40, 80, 200])
def test_any_width_and_an_empty_report_can_be_printed(width: int) -> None:
    assert 'COMPLETE' in printed(Report('no'), width)
    assert 'UNKNOWN' in printed(Report('unknown', ['no means'], captured=3, sensor=3), width)


@pytest.mark.parametrize('number, text', [(0, '0 B'), (999, '999 B'), (48_900_000, '48.9 MB'), (1.84e9, '1.84 GB'),
                                          (5e15, '5e+03 TB')])
def test_sizes(number: float, text: str) -> None:
    assert verdict.size(number) == text


@pytest.mark.parametrize('seconds, text', [(0.5, '0.50 s'), (185, '3:05 min'), (3723, '1:02:03 h')])
def test_durations(seconds: float, text: str) -> None:
    assert verdict.duration(seconds) == text


@pytest.mark.parametrize('report, error, code', [
    (Report('yes', captured=9), None, 0), (Report('no', captured=8, lost=1), None, 1),
    (Report('unknown', captured=9), None, 1), (Report('yes', captured=9, callback_errors=1), CallbackError('x'), 1),
    (Report('yes', captured=9, callback_errors=1), None, 1), (Report('no', captured=9), CameraError('x'), 3),
    (Report('no'), None, 3), (Report('no'), CallbackError('x'), 3), (Report('no'), SettingsError('x'), 2),
    (None, CameraError('x'), 3), (None, None, 1), (None, CameraFormatError('x'), 2),
    (Report('no', captured=9), CameraFormatError('x'), 3)])
def test_exit_codes(report: Any, error: Any, code: int) -> None:
    assert exit_code(report, error) == code


def live(**changes: Any) -> Any:
    figures = {'captured': 600, 'written': 590, 'lost': 2, 'bypassed': 3, 'failed': 1, 'ring_frames': 100,
               'ring_in_use': 80, 'rate_hz': 59.94, 'elapsed_s': 10.0, 'bytes_written': 10**9,
               'disk_free_bytes': 10**10, 'disk_left_s': 100.0, 'recording': True}
    return SimpleNamespace(**{**figures, **changes})


def test_plain_lines_come_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    now: List[float] = [0.0]
    lines = PlainLines(60, clock=lambda: now[0])
    for second in range(31):
        now[0] = float(second)
        lines.show(live())
    printed_lines = capsys.readouterr().err.splitlines()
    assert len(printed_lines) == 3
    assert printed_lines[0] == ('ppr: recording 10.00 s of 1:00 min, 600 frames, 59.9 Hz, 2 lost, 3 by-passed, '
                                '1 failed, ring 80 %, 1 GB written, disk: 100 s left (10 GB free)')


def test_figures_before_there_are_any() -> None:
    text = plain_figures(live(captured=0, rate_hz=None, ring_frames=0, ring_in_use=0, bytes_written=0, elapsed_s=0.0,
                              disk_free_bytes=None))
    assert '- Hz' in text and 'ring -' in text and 'no file' in text


@pytest.mark.parametrize('seconds', [0.0, 60.0])
def test_the_live_bar_shows_everything(seconds: float) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None, _environ={'TERM': 'xterm'})
    with LiveBar(console, seconds) as bar:
        bar.show(live())
        bar.say('finishing')
        bar.show(live(elapsed_s=90.0))
    text = console.file.getvalue()   # type: ignore[attr-defined]
    for part in ('REC', '59.9 Hz', '2 lost', '3 by-passed', '1 failed', 'ring 80 %', 'disk: 100 s left (10 GB free)'):
        assert part in text
    assert ('to go' in text) == bool(seconds)


def test_sizes_as_typed() -> None:
    assert parse_size('1280x480') == parse_size('1280X480') == parse_size('1280×480') == (1280, 480)
    assert parse_size(None) == (0, 0)


def test_controls_are_json_where_they_can_be() -> None:
    assert parse_controls(['iso=400', 'awb=auto', 'gains=[1.5, 2]', 'flip=true', 'text="1"', 'x=a=b']) == {
        'iso': 400, 'awb': 'auto', 'gains': [1.5, 2], 'flip': True, 'text': '1', 'x': 'a=b'}


def test_a_callback_inside_a_class_can_be_named() -> None:
    assert load_callback('os:path.join') is not None
    assert load_callback(None) is None


def test_messages_speak_of_options() -> None:
    assert in_options('x; or pass overwrite=True') == 'x; or pass --overwrite'
    assert in_options('tif_compression=12 is out of range').endswith('(here: --compression)')
    assert in_options('scale_factor_of_mine') == 'scale_factor_of_mine'

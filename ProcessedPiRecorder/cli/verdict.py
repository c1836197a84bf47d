"""The verdict on a recording, for someone who reads it at two in the morning: the headline first, figures below."""

from __future__ import annotations

import datetime
from typing import Any, Iterable, List, Mapping, Sequence, Tuple

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from ..report import DISK_NEARLY_FULL, Loss, Report

__all__ = ['alarm', 'clock_time', 'count', 'duration', 'efforts', 'headline', 'loss_table', 'percent', 'print_verdict',
           'size', 'spread']

SHOWN_LOSSES = 20
SHOWN_TEXTS = 10

STYLES = {'yes': 'green', 'no': 'red', 'unknown': 'yellow'}


def print_verdict(console: Console, report: Report, of_cut: bool = False) -> None:
    """Print headline, figures, losses, and whatever was warned of. of_cut: no camera made the recording as it is."""
    console.print(headline(report, of_cut))
    console.print(figures(report, of_cut))
    if report.losses:
        console.print(loss_table(report.losses, report.lost))
    for title, style, texts in (('Errors', 'red', report.errors), ('Warnings', 'yellow', report.warnings)):
        if texts:
            console.print(_texts(title, style, texts))


def headline(report: Report, of_cut: bool = False) -> Panel:
    """COMPLETE, NOT COMPLETE or UNKNOWN, with the reasons."""
    words, meaning = _headline(report, of_cut)
    style = STYLES[report.complete]
    body = f'[bold {style}]{words}[/]  {escape(meaning)}'
    if report.stopped == DISK_NEARLY_FULL:
        style = 'yellow' if report.complete == 'yes' else style
        body = (f'[bold yellow]ENDED EARLY[/]  after {duration(report.duration_s)}, because the disk is nearly full\n'
                f'{body}')
    # The headline itself tells the number of lost frames.
    reasons = [reason for reason in report.reasons if not reason.endswith((' frames lost', ' frame lost'))]
    body += ''.join(f'\n  • {escape(reason)}' for reason in reasons)
    return Panel(body, border_style=style, expand=False, padding=(0, 1))


def _headline(report: Report, of_cut: bool) -> Tuple[str, str]:
    kept = 'in the file' if report.written else 'captured; no file was asked for'
    frames = count(report.captured, 'frame')
    if report.complete == 'yes':
        return 'COMPLETE', f'all {frames} {"of this cut" if of_cut else "that the camera made"} are {kept}'
    if report.complete == 'unknown':
        return 'UNKNOWN', f'{frames} {kept}; nothing is known to be missing, but that is not proven'
    if report.lost and report.captured:
        share = 100 * report.lost / max(report.sensor, 1)
        return 'NOT COMPLETE', f'{count(report.lost, "frame")} of {report.sensor:,} lost ({percent(share)})'
    return 'NOT COMPLETE', f'{frames} captured, {report.written:,} written'


def figures(report: Report, of_cut: bool = False) -> RenderableType:
    """All counts, grouped; groups without content are left out."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style='bold', no_wrap=True)
    # A path must never be cropped.
    table.add_column(overflow='fold')
    for name, value in _rows(report, of_cut):
        table.add_row(name, value)
    return table


def _rows(report: Report, of_cut: bool) -> Iterable[Tuple[str, str]]:
    made = 'to be in this cut' if of_cut else 'made by the camera'
    yield 'Frames', (f'{report.sensor:,} {made} · {report.captured:,} captured · '
                     f'{report.written:,} written · {alarm(report.lost, "lost")}')
    if _has_callback(report):
        yield 'Callback', (f'{report.processed:,} seen · {report.returned:,} recorded as returned · '
                           f'{report.bypassed:,} by-passed · {alarm(report.failed, "failed")}')
        if report.callback_errors or report.callback_restarts:
            yield '', (f'{alarm(report.callback_errors, "errors")} · '
                       f'started again {count(report.callback_restarts, "time")}')
        yield '', ' · '.join(filter(None, [spread('took', report.callback_ms), count(report.results, 'result')]))
    yield 'Time', ' · '.join(filter(None, [
        clock_time(report.started), duration(report.duration_s),
        f'{report.rate_hz:.2f} Hz' if report.rate_hz else '',
        f'longest gap {report.slowest_interval_ms:.1f} ms' if report.slowest_interval_ms else '']))
    for name, what in (('callback', 'Until called'), ('disk', 'Until on disk')):
        if report.latency_ms.get(name):
            yield what, spread('', report.latency_ms[name])
    if report.ring_frames:
        share = 100 * report.ring_high_water / report.ring_frames
        yield 'Ring', f'at most {report.ring_high_water:,} of {report.ring_frames:,} slots in use ({percent(share)})'
    if report.file_bytes:
        ratio = f' · {report.compression_ratio:.2f} times smaller than raw' if report.compression_ratio else ''
        yield 'Size', f'{size(report.file_bytes)}{ratio}{efforts(report.effort)}'
    if report.effort_under_pressure:
        times = sum(1 for change in report.pressure_changes if change.get('pressure'))
        yield '', (f'the ring was filling {count(times, "time")}: less effort on '
                   f'{count(report.effort_under_pressure, "page")}, so that nothing is lost')
    camera = report.camera
    if camera:
        yield 'Camera', _camera(camera, report.loss_detection)
    for mark in report.marks[:SHOWN_TEXTS]:
        yield 'Mark', f'{clock_time(mark.get("time_ns"))} {escape(str(mark.get("label", "")))}'
    if len(report.marks) > SHOWN_TEXTS:
        yield '', f'… and {len(report.marks) - SHOWN_TEXTS:,} more marks'
    if report.stopped:
        yield 'Ended by', escape(report.stopped)
    for number, path in enumerate(report.files[:SHOWN_TEXTS]):
        yield 'Files' if number == 0 else '', escape(path)
    if len(report.files) > SHOWN_TEXTS:
        yield '', f'… and {len(report.files) - SHOWN_TEXTS:,} more'


def _has_callback(report: Report) -> bool:
    return bool(report.processed or report.bypassed or report.failed or report.callback_errors)


def _camera(camera: Mapping[str, Any], loss_detection: str) -> str:
    evidence = {'frame_duration': 'losses seen by the frames\' own times', 'none': 'it gives no means to see losses',
                'fixed_rate': 'losses seen by the fixed rate', 'count': 'losses seen by its frame counter'}
    rate = camera.get('framerate')
    return ' · '.join(filter(None, [
        escape(str(camera.get('model') or 'unnamed')), f'{camera.get("width")}×{camera.get("height")}',
        f'{rate:.4g} Hz' if rate else '', evidence.get(loss_detection, loss_detection)]))


def efforts(effort: Mapping[str, int]) -> str:
    """' · effort: huffman 98 %, stored 2 %'; '' for no pages."""
    pages = sum(effort.values())
    if not pages:
        return ''
    return ' · effort: ' + ', '.join(f'{name} {percent(100 * number / pages)}' for name, number in
                             sorted(effort.items(), key=lambda item: -item[1]) if number)


def loss_table(losses: Sequence[Loss], lost: int) -> Table:
    """The first places where frames are missing."""
    shown = losses[:SHOWN_LOSSES]
    more = f'; the first {len(shown)} of {len(losses):,} places' if len(losses) > len(shown) else ''
    table = Table(title=f'Lost frames: {lost:,}{more}', title_justify='left', title_style='bold red',
                  box=box.SIMPLE_HEAD, pad_edge=False)
    for name, justify in (('frame', 'right'), ('missing', 'right'), ('after (UTC)', 'left'), ('why', 'left')):
        table.add_column(name, justify=justify)   # type: ignore[arg-type]
    for loss in shown:
        why = f'{loss.reason}: {loss.detail}' if loss.detail else loss.reason
        table.add_row(f'{loss.index:,}', f'{loss.count:,}', clock_time(loss.time_ns), escape(why))
    return table


def _texts(title: str, style: str, texts: Sequence[str]) -> Group:
    lines: List[RenderableType] = [f'[bold {style}]{title}[/]']
    lines += [f'  • {escape(text)}' for text in texts[:SHOWN_TEXTS]]
    if len(texts) > SHOWN_TEXTS:
        lines.append(f'  … and {len(texts) - SHOWN_TEXTS:,} more')
    return Group(*lines)


def alarm(number: int, word: str) -> str:
    """'0 lost', and red where it is not 0."""
    return f'[bold red]{number:,} {word}[/]' if number else f'0 {word}'


def spread(word: str, summary: Mapping[str, float]) -> str:
    """The word, then p50, p99 and max in ms as words; '' without figures."""
    if not summary:
        return ''
    parts = [f'{_ms(summary["p50"])} ms usually' if 'p50' in summary else '',
             f'{_ms(summary["p99"])} at 99 %' if 'p99' in summary else '',
             f'{_ms(summary["max"])} at most' if 'max' in summary else '']
    return (word + ' ' if word else '') + ', '.join(filter(None, parts))


def _ms(value: float) -> str:
    return f'{value:.0f}' if value >= 100 else f'{value:.3g}'


def percent(share: float) -> str:
    """0 to 100 as text."""
    # Neither a single lost frame nor a single written one may be rounded away.
    if 0 < share < 0.01:
        return '< 0.01 %'
    if 99.9 < share < 100:
        return '> 99.9 %'
    return f'{share:.2g} %' if share < 1 else f'{share:.3g} %'


def count(number: int, word: str) -> str:
    """'1 frame', '2,000 frames'."""
    return f'{number:,} {word}' if number == 1 else f'{number:,} {word}s'


def size(number: float) -> str:
    """Bytes in units of 1000: '1.84 GB'."""
    for unit in ('B', 'kB', 'MB', 'GB'):
        if number < 1000:
            return f'{number:.0f} {unit}' if unit == 'B' else f'{number:.3g} {unit}'
        number /= 1000
    return f'{number:.3g} TB'


def duration(seconds: float) -> str:
    """'0.50 s', '3:05 min', '1:02:03 h'."""
    if seconds < 60:
        return f'{seconds:.2f} s'
    whole = int(round(seconds))
    if whole < 3600:
        return f'{whole // 60}:{whole % 60:02d} min'
    return f'{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d} h'


def clock_time(when: Any) -> str:
    """UTC from ns since 1970 or from ISO text; '' for nothing."""
    if when is None or when == '':
        return ''
    if isinstance(when, int):
        seconds, ns = divmod(when, 10**9)
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
        return f'{moment:%Y-%m-%d %H:%M:%S}.{ns // 10**6:03d}'
    return str(when).replace('T', ' ').replace('+00:00', ' UTC').replace('Z', ' UTC')

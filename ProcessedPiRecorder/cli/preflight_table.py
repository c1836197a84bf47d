"""The answer of ``ppr preflight``, for someone who reads it at two in the morning: yes or no first, figures below."""

from __future__ import annotations

from typing import Iterable, Iterator, List, Tuple

from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from ..preflight.judgement import NO, NOTE, OK, TIGHT, Judgement, seconds_left
from ..preflight.limits import CALLBACK, COMPRESSION, DISK, stage_rates
from ..preflight.run import Measurements
from .verdict import alarm, duration, efforts, percent, size, spread

__all__ = ['print_answer']

STYLES = {OK: 'green', TIGHT: 'yellow', NO: 'red', NOTE: 'cyan'}
WORDS = {OK: 'OK', TIGHT: 'TIGHT', NO: 'NO'}


def print_answer(console: Console, measured: Measurements, judgement: Judgement) -> None:
    """Print headline, findings, what to do, and the figures."""
    console.print(_headline(measured, judgement))
    table = Table.grid(padding=(0, 2))
    table.add_column(style='bold', no_wrap=True)
    table.add_column(overflow='fold')
    for name, value in _rows(measured, judgement):
        table.add_row(name, value)
    console.print(table)
    if measured.camera_run is not None:
        console.print(_limits(measured, judgement))
    console.print('[bold]What to do[/]')
    for text in judgement.recommendations:
        console.print(_item(escape(text)))


def _headline(measured: Measurements, judgement: Judgement) -> RenderableType:
    style = STYLES[judgement.verdict]
    lines = [f'[bold {style}]{WORDS[judgement.verdict]}[/]  {escape(_sentence(measured, judgement))}']
    for finding in judgement.findings:
        mark = f'[{STYLES[finding.level]}]•[/]'
        lines.append(f'  {mark} {escape(finding.text)}')
    return Panel('\n'.join(lines), border_style=style, expand=False, padding=(0, 1))


def _sentence(measured: Measurements, judgement: Judgement) -> str:
    if measured.camera_run is None:
        return 'nothing was recorded to try it, for there it cannot be done'
    if measured.camera_run.granted.waits:
        return 'nothing of this source can be lost, for it waits for the recorder'
    if measured.as_asked is None and measured.camera_run.report.callback_restarts:
        return 'the callback hung or died when the camera was recorded, so that no other rates were tried'
    asked, best, headroom = f'{measured.asked_hz:.4g} Hz', judgement.rates.sustained, judgement.headroom
    if best is None or headroom is None:
        told = f'{asked} did not hold'
    elif headroom < 1:
        told = f'{asked} did not hold, {best:.4g} Hz did'
    else:
        least = '≥ ' if judgement.rates.at_least else ''
        told = f'{asked} held, headroom {least}{headroom:.2f}×: {best:.4g} Hz'
    told += f' (trials of {measured.run_seconds:g} s)'
    if judgement.limit is not None:
        told += f'; the limit is the {judgement.limit}'
    return told + ('; but:' if judgement.verdict == NO and (headroom or 0) >= 1 else '')


def _rows(measured: Measurements, judgement: Judgement) -> Iterator[Tuple[str, str]]:
    trial = measured.camera_run
    if trial is not None:
        report, granted = trial.report, trial.granted
        yield 'Camera', (f'{escape(granted.model or "unnamed")} · {granted.width}×{granted.height} '
                         f'{granted.pixel_format} · ' + (f'{granted.framerate:.4g} Hz granted' if granted.framerate
                                                         else 'it does not tell its rate'))
        yield 'Recorded', ' · '.join(filter(None, [
            f'{report.captured:,} frames in {duration(report.duration_s)}',
            f'{report.rate_hz:.2f} Hz' if report.rate_hz else '', alarm(report.lost, 'lost'),
            alarm(report.bypassed, 'by-passed') if measured.arguments['callback'] is not None else '']))
        for what, summary in (('Callback', report.callback_ms), ('Until called', report.latency_ms.get('callback')),
                              ('Until on disk', report.latency_ms.get('disk'))):
            if summary:
                yield what, spread('took' if what == 'Callback' else '', summary)
        share = percent(100 * report.ring_high_water / report.ring_frames)
        yield 'Ring', f'at most {report.ring_high_water:,} of {report.ring_frames:,} slots in use ({share})'
        if trial.bytes_a_frame:
            ratio = f' · {report.compression_ratio:.2f} times smaller than raw' if report.compression_ratio else ''
            yield 'Size', f'{size(trial.bytes_a_frame)} a frame{ratio}{efforts(report.effort)}'
        yield from _highest(measured, judgement)
    yield from _folder(measured)


def _highest(measured: Measurements, judgement: Judgement) -> Iterator[Tuple[str, str]]:
    found = judgement.rates
    least = '≥ ' if found.held is not None and found.held >= measured.ceiling_hz else ''
    lowest = measured.lowest_tried_hz
    none = f'none of those tried, from {lowest:.4g} Hz up,' if lowest is not None else 'none was tried'
    held = f'{least}{found.held:.4g} Hz' if found.held is not None else none
    yield 'Highest rate', f'{held} with nothing lost, by-passed or spared'
    if measured.without_loss is not None:
        found_hz = found.lossless
        least = '≥ ' if found_hz is not None and found_hz >= measured.ceiling_hz else ''
        yield '', (f'{least}{found_hz:.4g} Hz' if found_hz is not None else none) + \
            ' with nothing lost (frames may by-pass, effort may fall)'


def _folder(measured: Measurements) -> Iterator[Tuple[str, str]]:
    place, left, disk = measured.place, seconds_left(measured), measured.disk
    volume = place.volume
    if volume is None:
        yield 'Folder', 'no file is asked for'
        return
    where = f' on {volume.mount}' if volume.mount is not None else ''
    yield 'Folder', escape(f'{place.folder} ({volume.kind}{where})')
    yield 'Free', (f'{size(volume.free)}, {size(place.reserve)} to stay free'
                   + (f' · full after {duration(left)} at {measured.asked_hz:.4g} Hz' if left is not None else ''))
    if disk is not None:
        sync = disk.sync_ms()
        yield 'Disk', (f'{size(disk.bytes_a_second)}/s · fdatasync of {size(disk.chunk_bytes)}: {sync["p50"]:.3g} ms '
                       f'usually, {sync["max"]:.3g} at most')


def _limits(measured: Measurements, judgement: Judgement) -> RenderableType:
    table = Table(title='What each stage can do alone', title_justify='left', title_style='bold',
                  box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column('stage', no_wrap=True)
    table.add_column('frames/s', justify='right')
    table.add_column('', overflow='fold')
    for name, rate, more in _stages(measured):
        style = 'bold' if name == judgement.limit else ''
        table.add_row(f'[{style}]{name}[/]' if style else name, rate,
                      more + (' [bold]◄ the limit[/]' if style else ''))
    if judgement.limit == 'processor':
        table.add_row('[bold]processor[/]', '', 'all of them together on these cores [bold]◄ the limit[/]')
    return table


def _stages(measured: Measurements) -> Iterable[Tuple[str, str, str]]:
    trial, stages = measured.camera_run, stage_rates(measured)
    rows: List[Tuple[str, str, str]] = []
    if trial is not None:
        rows.append(('camera', _hz(trial.camera_hz), 'as it came'))
    if CALLBACK in stages:
        rows.append((CALLBACK, _hz(stages[CALLBACK]), f'{measured.callback_mean_ms:.3g} ms a frame on average'))
    elif measured.arguments['callback'] is not None:
        rows.append((CALLBACK, 'any', "--delivery latest: it sees what it has time for"))
    for number, speed in enumerate(measured.codec):
        rows.append((COMPRESSION if number == 0 else '', _hz(speed.rate_hz),
                     f'{speed.effort}, {speed.ratio:.2f} times smaller'
                     + (f', {speed.threads} threads' if number == 0 else ', the least effort')))
    if DISK in stages:
        rows.append((DISK, _hz(stages[DISK]), 'written and synced'))
    return rows


def _hz(rate: float) -> str:
    return f'{rate:.4g}' if rate < 1000 else f'{rate:,.0f}'


def _item(text: str) -> Table:
    row = Table.grid(padding=(0, 1))
    row.add_column(no_wrap=True)
    row.add_column(overflow='fold')
    row.add_row('  •', text)
    return row

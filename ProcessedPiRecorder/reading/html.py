"""A recording as a notebook shows it: some frames, what it is, and whether it is complete."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta, timezone
from html import escape
from typing import TYPE_CHECKING, Iterator, List, Tuple

import numpy as np

from ..errors import RecorderError, RecordingFileError
from ..report import Report

if TYPE_CHECKING:
    from .recording import Recording

__all__ = ['as_html']

THUMBNAILS = 6
MOST_BYTES = 12_000           # of one as PNG; base64 makes a third more of it
WIDTH, HEIGHT = 200, 150      # of one, at most
SMALLEST = 8                  # pixels of a side below which it is not made smaller
MOST_LINES = 8                # of reasons, of notes

_COLOURS = {'yes': '#1a7f37', 'no': '#cf222e', 'unknown': '#9a6700', '': '#57606a'}


def as_html(recording: Recording) -> str:
    """HTML with all its styles and pictures in it, 100 KB at most. Reads a few frames; one that is damaged is told."""
    complete, said = _judged(recording)
    colour = _COLOURS.get(complete, _COLOURS[''])
    rows = ''.join(f'<tr><th style="text-align:left;padding:1px 12px 1px 0;vertical-align:top">{escape(name)}</th>'
                   f'<td style="text-align:left">{escape(fact)}</td></tr>' for name, fact in _facts(recording))
    return (f'<div style="font-family:sans-serif;font-size:13px;border-left:4px solid {colour};padding-left:10px">'
            f'<div style="font-weight:bold">{escape(recording.path.name)}</div>'
            f'<div style="color:{colour};font-weight:bold">{escape(recording.verdict)}</div>'
            f'{_list(said)}<div style="margin:6px 0">{"".join(_thumbnails(recording))}</div>'
            f'<table style="border:0;margin:0">{rows}</table>{_list(recording.notes)}</div>')


def _judged(recording: Recording) -> Tuple[str, List[str]]:
    """'yes', 'no', 'unknown', or '' without a verdict; and the reasons."""
    try:
        report = recording.report
    except RecordingFileError as error:
        return '', [str(error)]
    if not isinstance(report, Report):
        return '', []
    # The report tells of all that was recorded: where files are missing, not all of that is here.
    complete = 'unknown' if recording.missing_files else report.complete
    return complete, [*report.reasons, *report.errors, *report.warnings]


def _facts(recording: Recording) -> Iterator[Tuple[str, str]]:
    height, width = recording.shape[1:3]
    yield 'frames', f'{len(recording):,} of {width} × {height}, {recording.pixel_format}, {recording.dtype}'
    if recording.times_ns is not None and recording.duration_s is not None:
        rate = f', {recording.rate_hz:.2f} Hz' if recording.rate_hz else ''
        yield 'time', f'{_utc(int(recording.times_ns[0]))}, {recording.duration_s:,.3f} s{rate}'
    yield 'as array', f'{recording.nbytes / 1e6:,.1f} MB'
    yield 'on disk', _on_disk(recording)
    if recording.results_path is not None:
        yield 'results', recording.results_path.name
    if recording.metadata:
        yield 'metadata', _shortened(', '.join(f'{name}: {value}' for name, value in recording.metadata.items()))


def _on_disk(recording: Recording) -> str:
    try:
        size = f'{sum(path.stat().st_size for path in recording.files) / 1e6:,.1f} MB'
    except OSError as error:
        size = f'now gone ({error.strerror})'
    many = f' in {len(recording.files):,} files' if len(recording.files) > 1 else ''
    return f'{size}{many}, {recording.path}'


def _utc(time_ns: int) -> str:
    try:
        moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=time_ns // 1000)
    except OverflowError:
        return f'{time_ns} ns'
    return moment.strftime('%Y-%m-%d %H:%M:%S UTC')


def _shortened(text: str, most: int = 300) -> str:
    return text if len(text) <= most else text[:most - 1] + '…'


def _list(lines: object) -> str:
    texts = [_shortened(str(line)) for line in lines] if isinstance(lines, (list, tuple)) else []
    if len(texts) > MOST_LINES:
        texts[MOST_LINES - 1:] = [f'and {len(texts) - MOST_LINES + 1} more']
    items = ''.join(f'<li>{escape(text)}</li>' for text in texts)
    return f'<ul style="margin:2px 0 2px 18px;padding:0">{items}</ul>' if items else ''


def _thumbnails(recording: Recording) -> Iterator[str]:
    for page in sorted({int(page) for page in np.linspace(0, len(recording) - 1, THUMBNAILS)}):
        try:
            data = base64.b64encode(_png(np.asarray(recording.read(page)))).decode('ascii')
            shown = f'<img src="data:image/png;base64,{data}" alt="frame" style="display:block">'
        except (RecorderError, MemoryError) as error:
            shown = f'<div style="width:{WIDTH}px">{escape(_shortened(str(error), 120))}</div>'
        yield (f'<div style="display:inline-block;margin:0 6px 6px 0;vertical-align:top;font-size:11px">{shown}'
               f'{page:,}</div>')


def _png(frame: np.ndarray) -> bytes:
    """Small enough in pixels and bytes; noise compresses badly, and averaging takes it away."""
    import cv2
    height, width = frame.shape[:2]
    picture = _eight_bits(frame)
    scale = min(WIDTH / width, HEIGHT / height, 1.0)
    while True:
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        small = picture if size == (width, height) else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        data: bytes = cv2.imencode('.png', small)[1].tobytes()
        if len(data) <= MOST_BYTES or max(size) <= SMALLEST:
            return data
        scale *= 0.8


def _eight_bits(frame: np.ndarray) -> np.ndarray:
    """Other types are stretched from their least to their greatest value."""
    if frame.dtype == np.uint8:
        return frame
    values = np.nan_to_num(np.abs(frame) if frame.dtype.kind == 'c' else frame.astype(np.float64), posinf=0, neginf=0)
    least, span = values.min(), np.ptp(values)
    stretched: np.ndarray = ((values - least) * (255 / span if span else 0)).astype(np.uint8)
    return stretched

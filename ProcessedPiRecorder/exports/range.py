"""Where an export begins and ends, as people tell it: a frame's number, seconds, or a time of day."""

from __future__ import annotations

import datetime
import re
from typing import NamedTuple, Optional, Tuple, Union

import numpy as np

from ..errors import ExportError
from ..reading import Recording

__all__ = ['Moment', 'Place', 'index_range', 'leave_nothing', 'page_range', 'parse_place']

#: A frame's number (int, or '120'); seconds from the first frame ('12.5s'); UTC ('2026-03-01T12:00:00.25Z').
Place = Union[int, str]

_SECONDS = re.compile(r'(\d+(?:\.\d*)?|\.\d+)\s*s')
_CLOCK = re.compile(r'(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?\s*(Z|[+-]\d\d:?\d\d)?')
ALLOWED = ("a frame's number (120), seconds from the first frame (12.5s), or a time in ISO 8601, UTC unless it tells "
           'its offset (2026-03-01T12:00:00.25Z)')


class Moment(NamedTuple):
    """What was told: ``index``, a frame's number; ``after_ns``, from the first frame; or ``time_ns``, since 1970."""

    index: Optional[int] = None         # type: ignore[assignment]   # hides tuple.index, which nobody misses here
    after_ns: Optional[int] = None
    time_ns: Optional[int] = None


def parse_place(told: Place, what: str = 'start') -> Moment:
    """Understand a place; raises ExportError, which names the argument ``what``, where it cannot be understood."""
    if isinstance(told, (int, np.integer)) and not isinstance(told, bool):
        if told < 0:
            raise ExportError(f'{what}={told} is no frame\'s number; they count from 0')
        return Moment(index=int(told))
    text = told.strip() if isinstance(told, str) else ''
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return Moment(index=int(text))
    seconds = _SECONDS.fullmatch(text)
    if seconds is not None and len(text) <= 30:
        whole, _, part = seconds.group(1).partition('.')
        return Moment(after_ns=int(whole or 0) * 10**9 + _nanoseconds(part))
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        return Moment(time_ns=_utc_ns(clock, told, what))
    raise ExportError(f'{what}={told!r} is not understood; give {ALLOWED}')


def page_range(recording: Recording, start: Optional[Place] = None, stop: Optional[Place] = None) -> Tuple[int, int]:
    """The pages (first, behind the last) of all frames from ``start`` up to, not including, ``stop``.

    A frame's number that is not in the recording (lost) stands for the next one that is; the pages may be none. Of a
    TIFF without times, frames' numbers are pages, and seconds and times of day raise ExportError.
    """
    pages = len(recording)
    return (0 if start is None else _page(recording, parse_place(start, 'start'), 'start'),
            pages if stop is None else _page(recording, parse_place(stop, 'stop'), 'stop'))


def leave_nothing(start: Optional[Place], stop: Optional[Place], every: int = 1) -> str:
    """Of those that were told, the beginning of a sentence that ends in "no frame …"."""
    options = (('start', start, 0), ('stop', stop, None), ('every', every, 1))
    told = [f'{name}={value}' for name, value, usual in options if value not in (None, usual)]
    return f'{", ".join(told) or "start=0"} {"leave" if len(told) > 1 else "leaves"}'


def index_range(recording: Recording, start: Optional[Place] = None, stop: Optional[Place] = None) -> Tuple[int, int]:
    """The same as frames' numbers: one that was told stays, also where that frame was lost; a time gives that of the
    first frame that is not earlier. Without ``start``, the first frame's; without ``stop``, one more than the last's.
    """
    first, last = (0, len(recording) - 1) if recording.indices is None else map(int, recording.indices[[0, -1]])
    return (first if start is None else _index(recording, parse_place(start, 'start'), 'start', last + 1),
            last + 1 if stop is None else _index(recording, parse_place(stop, 'stop'), 'stop', last + 1))


def _page(recording: Recording, moment: Moment, what: str) -> int:
    if moment.index is not None:
        return min(moment.index, len(recording)) if recording.indices is None else \
            int(np.searchsorted(recording.indices, moment.index))
    if recording.times_ns is None:
        raise ExportError(f'{what}: {recording.path.name} has no times to find this in; give the number of a frame, '
                          f'0 to {len(recording) - 1}')
    time_ns = moment.time_ns if moment.after_ns is None else int(recording.times_ns[0]) + moment.after_ns
    assert time_ns is not None
    return int(np.searchsorted(recording.times_ns, min(max(time_ns, -2**63), 2**63 - 1)))


def _index(recording: Recording, moment: Moment, what: str, behind: int) -> int:
    if moment.index is not None:
        return moment.index
    page = _page(recording, moment, what)
    return behind if page == len(recording) or recording.indices is None else int(recording.indices[page])


def _nanoseconds(fraction: Optional[str]) -> int:
    return int((fraction or '').ljust(9, '0')[:9])


def _utc_ns(clock: re.Match[str], told: Place, what: str) -> int:
    day, minutes, seconds, fraction, offset = clock.groups()
    zone = '+00:00' if offset in (None, 'Z') else offset if ':' in offset else f'{offset[:3]}:{offset[3:]}'
    try:
        moment = datetime.datetime.fromisoformat(f'{day}T{minutes or "00:00"}:{seconds or "00"}{zone}')
        since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    except (ValueError, OverflowError) as error:
        raise ExportError(f'{what}={told!r} is no time that there is ({error}); give {ALLOWED}') from None
    return (since.days * 86_400 + since.seconds) * 10**9 + _nanoseconds(fraction)

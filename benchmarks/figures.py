"""From stored runs to figures: medians, and ratios between runs of the same round."""

from __future__ import annotations

import statistics
from typing import Any, Callable, List, Mapping, NamedTuple, Optional

__all__ = ['BARE', 'DISK', 'DISK_COMPRESSED', 'ORIGINAL', 'THREE_PROC', 'Spread', 'beyond_codec_ms', 'case_name',
           'compression_ratio', 'cpu_ms', 'entry', 'find_case', 'rate', 'ratio', 'share_of_disk', 'share_of_limit']

BARE, THREE_PROC, ORIGINAL = 'bare codec', "recorder, '3Proc'", "original's architecture"
DISK, DISK_COMPRESSED = 'raw disk write', 'raw disk write, compressed'

Case = Mapping[str, Any]
Entry = Mapping[str, Any]


class Spread(NamedTuple):
    """Median, least and most of the rounds."""

    median: float
    least: float
    most: float

    def text(self, digits: int) -> str:
        """'median (least–most)'."""
        middle, least, most = (f'{value:,.{digits}f}' for value in self)
        return middle if self.least == self.most else f'{middle} ({least}–{most})'


def find_case(found: Mapping[str, Any], content: str, width: int, height: int, pixel_format: str) -> Optional[Case]:
    """The stored case, if it was measured."""
    wanted = (content, width, height, pixel_format)
    return next((case for case in found['cases']
                 if (case['content'], case['width'], case['height'], case['pixel_format']) == wanted), None)


def case_name(case: Case) -> str:
    """For people: '1280×480 BGR, camera-like'."""
    colours = 'BGR' if case['pixel_format'] == 'bgr' else 'gray'
    return f'{case["width"]}×{case["height"]} {colours}, {case["content"]}'


def frame_bytes(case: Case) -> int:
    """Of one frame's pixels."""
    return int(case['width'] * case['height'] * (3 if case['pixel_format'] == 'bgr' else 1))


def entry(case: Optional[Case], name: str) -> Optional[Entry]:
    """What is stored of a contender that ran."""
    if case is None:
        return None
    return next((stored for stored in case['contenders'] if stored['name'] == name and stored['runs']), None)


def rate(stored: Entry) -> Spread:
    """Frames a second."""
    return _spread([run['frames'] / run['seconds'] for run in stored['runs']])


def cpu_ms(stored: Entry) -> Spread:
    """Processor time, a frame."""
    return _spread([_cpu_ms(run) for run in stored['runs']])


def compression_ratio(case: Case, stored: Entry) -> Optional[float]:
    """Bytes of the pixels / bytes of the file; None where nothing was written."""
    if not stored['runs'] or stored['lossless'] is None:
        return None
    return statistics.median(run['frames'] * frame_bytes(case) / run['bytes'] for run in stored['runs'])


def ratio(case: Optional[Case], name: str, other: str) -> Optional[Spread]:
    """Frames/s of one as a multiple of another's, round by round."""
    return _paired(case, [name, other], lambda one, two: _rate(one) / _rate(two))


def share_of_limit(case: Optional[Case], name: str) -> Optional[Spread]:
    """Frames/s, of the bare codec's or the disk's (where it was measured, too), whichever allows less."""
    limits = [BARE, DISK_COMPRESSED] if entry(case, DISK_COMPRESSED) else [BARE]
    return _paired(case, [name, *limits], lambda one, *limits: _rate(one) / min(map(_rate, limits)))


def share_of_disk(case: Optional[Case], name: str) -> Optional[Spread]:
    """Bytes/s put into the file, of what plain writing of the uncompressed frames puts there."""
    return _paired(case, [name, DISK], lambda one, two: one['bytes'] / one['seconds'] / (two['bytes'] / two['seconds']))


def beyond_codec_ms(case: Optional[Case], name: str) -> Optional[Spread]:
    """Processor time a frame beyond the bare codec's in the same round, ms."""
    return _paired(case, [name, BARE], lambda one, two: _cpu_ms(one) - _cpu_ms(two))


def _paired(case: Optional[Case], names: List[str], figure: Callable[..., float]) -> Optional[Spread]:
    stored = [entry(case, name) for name in names]
    by_round = [{run['round']: run for run in one['runs']} for one in stored if one is not None]
    if len(by_round) < len(names):
        return None
    common = set.intersection(*(set(runs) for runs in by_round))
    return _spread([figure(*(runs[number] for runs in by_round)) for number in sorted(common)]) if common else None


def _rate(run: Mapping[str, Any]) -> float:
    return float(run['frames'] / run['seconds'])


def _cpu_ms(run: Mapping[str, Any]) -> float:
    return float(1000 * run['cpu_s'] / run['frames'])


def _spread(values: List[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))

"""The stored report held against the ledger that the pages alone tell."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Iterator, List, NamedTuple, Optional

from ...report import MOST_PLACES, Loss, Report
from ..tally import Tally

__all__ = ['FileBytesTold', 'disagreements']

ROUNDING_S = 2e-6


class FileBytesTold(NamedTuple):
    """What a report may say of the files' size: it is made before the last file gets its end.

    least: all files without their ends. at_the_end: all files but the last one's end; total: all of them.
    """

    least: int
    at_the_end: int
    total: int


def disagreements(report: Report, tally: Tally, names: List[str], size: FileBytesTold, set_back: int,
                  next_index: int) -> Iterator[str]:
    """Every disagreement, one text each.

    names: the files as they were named when they were recorded. set_back: pages with a sensor time that is not after
    the one before. next_index: the number that a frame behind the last page would have.
    """
    yield from _counts(report, tally)
    yield from _lost(report, tally, next_index)
    yield from _verdict(report)
    yield from _bytes(report, tally, size)
    yield from _times(report, tally)
    yield from _events(report, tally)
    if report.files != names:
        yield f'it names the files {", ".join(map(repr, report.files[:5]))}; they are {", ".join(map(repr, names[:5]))}'
    counted = max([value for name in ('not_increasing', 'moved_times')
                   for value in [report.clock.get(name)] if type(value) is int], default=set_back)
    if set_back > counted:
        yield f'{set_back} pages have a sensor time that is not after the one before; it tells of {counted}'


def _different(name: str, told: Any, found: Any) -> Iterator[str]:
    if told != found:
        yield f'{name}: the report says {told!r}, the pages say {found!r}'


def _counts(report: Report, tally: Tally) -> Iterator[str]:
    yield from _different('written', report.written, tally.captured)
    yield from _different('sensor', report.sensor, report.captured + report.lost)
    # Frames that were captured and are not in the file (it broke) are in these counts all the same.
    unwritten = report.captured - report.written
    if unwritten < 0:
        yield f'captured: the report says {report.captured}, fewer than it says were written ({report.written})'
    for name, told, found in (
            ('returned', report.returned, tally.by_status['returned']),
            ('bypassed', report.bypassed, tally.by_status['by-passed']),
            ('failed', report.failed, tally.by_status['failed']), ('processed', report.processed, tally.processed)):
        if not found <= told <= found + max(unwritten, 0):
            yield from _different(name, told, found)


def _lost(report: Report, tally: Tally, following: int) -> Iterator[str]:
    yield from _different('lost', report.lost, sum(loss.count for loss in report.losses))
    told = list(report.losses)
    rest = _matched(told, list(tally.losses))
    if rest is None:
        yield (f'losses: the report tells of {sum(loss.count for loss in told)} frames at {len(told)} places, the '
               f'pages of {tally.lost} at {len(tally.losses)}; they differ in place, number, time or reason')
        return
    unwritten = report.captured - report.written
    for loss in rest:
        if loss.count < 1 or (loss.index < following if unwritten else loss.index != following):
            yield (f'losses: the report tells of {loss.count} frames lost from number {loss.index} on, which no page '
                   f'tells, and behind the last page number {following} would follow')
            return
        following = loss.index + loss.count


def _matched(told: List[Loss], pages: List[Loss]) -> Optional[List[Loss]]:
    """What the report tells beyond the pages' losses; None when it does not tell those as the pages do."""
    place = 0
    for number, loss in enumerate(told):
        if number == MOST_PLACES - 1 and loss.reason == 'other' and len(told) == MOST_PLACES:
            known = sum(found.count for found in pages[place:])
            return [] if loss.count >= known else None
        if place == len(pages):
            return told[number:]
        found = pages[place]
        if (loss.index, loss.count, loss.time_ns, loss.reason) == (found.index, found.count, found.time_ns,
                                                                   found.reason):
            place += 1
        elif found.reason == 'other' and loss.index == found.index and loss.count < found.count:
            # A page that told of MOST_PLACES places summed up what was beyond.
            pages[place] = Loss(found.index + loss.count, found.count - loss.count, found.time_ns, 'other')
        elif found.reason == 'other' and (loss.index, loss.count) == (found.index, found.count):
            place += 1
        else:
            return None
    return [] if place == len(pages) else None


def _verdict(report: Report) -> Iterator[str]:
    if report.complete == 'yes' and (report.lost or report.captured != report.written or report.reasons):
        yield (f'complete: the report says yes, and also {report.lost} lost, {report.captured} captured, '
               f'{report.written} written' + (f', "{report.reasons[0]}"' if report.reasons else ''))


def _bytes(report: Report, tally: Tally, size: FileBytesTold) -> Iterator[str]:
    yield from _different('effort', report.effort, tally.effort)
    yield from _different('effort_under_pressure', report.effort_under_pressure, tally.pressure.pages)
    yield from _different('pressure_changes', report.pressure_changes, tally.pressure.changes)
    yield from _different('raw_bytes', report.raw_bytes, tally.raw_bytes)
    ratio = round(tally.raw_bytes / tally.strip_bytes, 3) if tally.strip_bytes else None
    yield from _different('compression_ratio', report.compression_ratio, ratio)
    least = size.least if report.errors else size.at_the_end
    if report.file_bytes not in (size.at_the_end, size.total) and not (
            report.errors and least <= report.file_bytes <= size.total):
        yield (f'file_bytes: the report says {report.file_bytes}; the files had {size.at_the_end} when it was made, '
               f'and have {size.total} now')


def _times(report: Report, tally: Tally) -> Iterator[str]:
    if tally.first_ns is None or tally.last_ns is None:
        return
    started = _milliseconds(report.started)
    if started is None or started != tally.first_ns // 10**6:
        yield f'started: the report says {report.started!r}, page 0 was taken {tally.first_ns} ns after 1970'
    if report.captured != tally.captured:
        return                             # later frames are counted in these, too
    seconds = (tally.last_ns - tally.first_ns) / 1e9
    framerate = report.camera.get('framerate')
    duration = seconds + (1 / framerate if framerate else 0.0)
    if abs(report.duration_s - duration) > ROUNDING_S:
        yield f'duration_s: the report says {report.duration_s}, the pages say {duration:.6f}'
    rate = round((tally.captured - 1) / seconds, 4) if tally.captured > 1 and seconds > 0 else None
    yield from _nearly('rate_hz', report.rate_hz, rate, 1e-4)
    slowest = round(tally.slowest_ns / 1e6, 3) if tally.slowest_ns else None
    yield from _nearly('slowest_interval_ms', report.slowest_interval_ms, slowest, 1e-3)


def _nearly(name: str, told: Optional[float], found: Optional[float], rounding: float) -> Iterator[str]:
    if told is None or found is None:
        yield from _different(name, told, found)
    elif abs(told - found) > 1.5 * rounding:
        yield f'{name}: the report says {told}, the pages say {found}'


def _milliseconds(started: str) -> Optional[int]:
    """ms since 1970 of ISO 8601 UTC; None for any other text."""
    for form in ('%Y-%m-%dT%H:%M:%S.%fZ', '%Y-%m-%dT%H:%M:%SZ'):
        try:
            return (datetime.strptime(started, form) - datetime(1970, 1, 1)) // timedelta(milliseconds=1)
        except ValueError:
            pass
    return None


def _events(report: Report, tally: Tally) -> Iterator[str]:
    """Marks: the report may have some more, which came after the last page."""
    if report.marks[:len(tally.marks)] != tally.marks:
        yield f'marks: the {len(tally.marks)} of the pages are not the first {len(tally.marks)} of the report'

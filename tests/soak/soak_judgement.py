"""What a soak's figures say: flat, or growing. Nothing here knows where they come from.

Every limit is about growth *within* the run, between its parts after the warm-up, so that it holds on any machine.
"""

from __future__ import annotations

import statistics
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np
from soak_sampling import ROLES, Sample

__all__ = ['Finding', 'Growth', 'growth_of', 'judge_counts', 'judge_handles', 'judge_latency', 'judge_memory',
           'judge_processes']

BINS = 60
#: A process counts as flat when the line fitted through its memory rises by less than this over the judged time.
#: Not zero: the writer compresses pages of ever other sizes in several threads, and its allocator settles, ever more
#: slowly, over the first tens of thousands of them (1 to 3 MB in half an hour, measured). In 27 minutes at 60 Hz 4 MB
#: are 41 bytes a frame; smaller leaks are for test_growth.py, which counts them by the frame.
MOST_GROWTH_BYTES = 4e6
MOST_GROWTH_SHARE = 0.03
#: Latency counts as grown when it has grown by this factor *and* by more than these milliseconds: from 1 ms to 2 ms
#: is what any other program can do to it.
MOST_RATIO, LEAST_MS = {'p50': 1.5, 'p99': 2.0}, {'p50': 3.0, 'p99': 15.0}
#: Processors that other programs may use in a second before it is left out; a tenth is what an idle system uses.
MOST_OTHERS = 0.3
LEAST_SECONDS, LEAST_QUIET = 5, 0.2
#: Descriptors and threads come and go for moments (a folder that is synced, a part that is finished).
PASSING = 3


class Finding(NamedTuple):
    """One line of the judgement."""

    name: str
    good: bool
    text: str


class Growth(NamedTuple):
    """A robust line through a series: its level in the middle, and its rise from the first to the last moment."""

    level: float
    rise: float

    @property
    def share(self) -> float:
        return self.rise / self.level if self.level else 0.0


Series = Sequence[Tuple[float, float]]       # (seconds since the start, value)
Samples = Sequence[Tuple[float, Mapping[str, Sample]]]


def growth_of(series: Series) -> Growth:
    """Theil and Sen's line through the medians of equal spans of time: single peaks do not bend it.

    Raises ValueError for less than two moments.
    """
    if len(series) < 2:
        raise ValueError(f'a line needs at least two samples, got {len(series)}; let it run for longer')
    times, values = (np.array(column, float) for column in zip(*series))
    edges = np.linspace(times[0], times[-1], min(BINS, len(times)) + 1)
    bins = np.clip(np.searchsorted(edges, times, side='right') - 1, 0, len(edges) - 2)
    points = np.array([(np.median(times[bins == number]), np.median(values[bins == number]))
                       for number in np.unique(bins)])
    first, second = np.triu_indices(len(points), 1)
    slopes = (points[second, 1] - points[first, 1]) / (points[second, 0] - points[first, 0])
    return Growth(float(np.median(values)), float(np.median(slopes)) * float(times[-1] - times[0]))


def judge_counts(report: Mapping[str, Any], results: int, out_of_order: int) -> List[Finding]:
    """Complete, and one result for each frame, in their order."""
    captured, written, complete = report['captured'], report['written'], report['complete']
    counts = f'{captured:,} frames captured, {written:,} written, {results:,} results read'
    reasons = '; '.join(report['reasons'])
    return [Finding('complete', complete == 'yes', f'complete: {complete}' + (f' ({reasons})' if reasons else '')),
            Finding('a result for each frame', captured == written == results == report['results'] > 0
                    and not out_of_order, counts + (f', {out_of_order} out of order' if out_of_order else ''))]


def judge_memory(samples: Samples) -> List[Finding]:
    """Each process's own memory, see Sample.own."""
    findings = []
    for role in ROLES:
        series = [(when, roles[role].own) for when, roles in samples if role in roles]
        if len(series) < 2:
            findings.append(Finding(f'memory of the {role}', False, 'it was not seen'))
            continue
        growth = growth_of(series)
        limit = max(MOST_GROWTH_BYTES, MOST_GROWTH_SHARE * growth.level)
        findings.append(Finding(f'memory of the {role}', growth.rise <= limit,
                                f'{growth.level / 1e6:.1f} MB of its own, {growth.rise / 1e6:+.2f} MB '
                                f'({100 * growth.share:+.1f} %); at most {limit / 1e6:+.1f} MB'))
    return findings


def judge_processes(samples: Samples) -> List[Finding]:
    """The same processes from the beginning to the end."""
    changed = [f'{role}: {len(pids)}' for role in ROLES
               if len(pids := {roles[role].pid for _, roles in samples if role in roles}) != 1]
    return [Finding('the same processes', not changed, ', '.join(changed) or 'none died, none was started again')]


def judge_handles(samples: Samples) -> List[Finding]:
    """Descriptors and threads: as many at the end as at the beginning, and never many more in between."""
    findings = []
    for name in ('fds', 'threads'):
        told, good = [], True
        for role in ROLES:
            counts = [getattr(roles[role], name) for _, roles in samples if role in roles]
            first, last = (statistics.median_low(part) if part else -1 for part in _first_and_last_fifth(counts))
            most = max(counts, default=-1)
            good = good and first == last and most <= first + PASSING
            told.append(f'{role} {first}' + (f' → {last}' if last != first else '')
                        + (f' (up to {most})' if most > max(first, last) else ''))
        findings.append(Finding({'fds': 'descriptors', 'threads': 'threads'}[name], good, ', '.join(told)))
    return findings


def judge_latency(name: str, latency_ms: Series, others: Series) -> List[Finding]:
    """p50 and p99 of the last fifth of the seconds against the first fifth: the median over each fifth.

    Seconds in which other programs had the processors (``others``: so many of them) are left out. Where too few are
    left, all seconds count, but of each fifth its quickest tenth: growth of our own shows in every second.
    """
    seconds = _by_second(latency_ms)
    disturbed = {second for when, cores in others if cores > MOST_OTHERS for second in (int(when) - 1, int(when))}
    judged, share, text = [values for second, values in seconds if second not in disturbed], 50.0, ''
    left_out = len(seconds) - len(judged)
    if len(judged) < max(LEAST_SECONDS, LEAST_QUIET * len(seconds)):
        judged, share = [values for _, values in seconds], 10.0
        text = (f'; other programs were busy in {left_out} of {len(seconds)} s, so the quickest tenth of each fifth '
                'counts')
    elif left_out:
        text = f'; without {left_out} of {len(seconds)} s in which other programs were busy'
    if len(judged) < LEAST_SECONDS:
        return [Finding(f'{name} latency', False, f'{len(judged)} s are too few to judge it')]
    findings = []
    for quantile, place in (('p50', 50), ('p99', 99)):
        before, after = (float(np.percentile([np.percentile(values, place) for values in part], share))
                         for part in _first_and_last_fifth(judged))
        findings.append(_compare(f'{name} latency {quantile}', quantile, before, after, text))
    return findings


def _compare(name: str, quantile: str, before: float, after: float, more: str) -> Finding:
    ratio, most, least = after / max(before, 1e-3), MOST_RATIO[quantile], LEAST_MS[quantile]
    good = ratio <= most or after - before <= least
    return Finding(name, good, f'{before:.1f} ms in the first fifth, {after:.1f} ms in the last: {ratio:.2f} ×; '
                   f'at most {most:g} × or {least:+g} ms{more}')


def _by_second(series: Series) -> List[Tuple[int, List[float]]]:
    found: Dict[int, List[float]] = {}
    for when, value in series:
        found.setdefault(int(when), []).append(value)
    most = max((len(values) for values in found.values()), default=0)
    # The first and the last one are mostly cut off.
    return [(second, values) for second, values in sorted(found.items()) if len(values) >= most / 2]


def _first_and_last_fifth(items: Sequence[Any]) -> Tuple[Sequence[Any], Sequence[Any]]:
    count = max(1, len(items) // 5)
    return items[:count], items[-count:]

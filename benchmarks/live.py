"""At a camera's pace: latency to the callback, CPU, memory; and how long a start and an import take.

Contenders take turns, the order rotates, each run has a process of its own; medians over the rounds, min–max shown.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence

import numpy as np

from .live_trials import PACED, REPO, in_fresh_process
from .machine import facts

__all__ = ['FRAMERATE', 'WARM_UP_FRAMES', 'latencies_of', 'run', 'tables', 'targets']

FRAMERATE = 60.0
IMPORT = 'from ProcessedPiRecorder import ProcessedPiRecorder'
SIZES = ('1280x480', '1920x1080')
DISTINCT_FRAMES = 32
#: Half a second in which processes settle is left out of the percentiles, for everybody; its worst is told apart.
WARM_UP_FRAMES = 30
CPU_SIZE = '1280x480'
COMPRESSING = 0.95           # share of the pages, from which on a latency counts as one while compressing
QUEUE_SIZE = '1920x1080'     # at which the pickled queue is compared


def run(folder: Path = Path('.'), rounds: int = 3, seconds: float = 10.0, starts: int = 7, imports: int = 9,
        sizes: Sequence[str] = SIZES, pixel_format: str = 'bgr', framerate: float = FRAMERATE) -> Dict[str, Any]:
    """Measure all of it; JSON types. Blocks for about rounds × sizes × 4 × seconds, and some.

    folder: on the disk that is recorded to. seconds: of each run at a camera's pace.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix='bench-live-') as scratch:
        found: Dict[str, Any] = {
            'machine': facts(folder),
            'settings': {'rounds': rounds, 'seconds': seconds, 'framerate': framerate, 'pixel_format': pixel_format,
                         'sizes': list(sizes), 'warm_up_frames': WARM_UP_FRAMES},
            'paced': [trial for size in sizes
                      for trial in _paced(Path(scratch), size, pixel_format, rounds, seconds, framerate)],
            'memory': _memory(Path(scratch), rounds, min(seconds, 3.0), framerate),
            'starts': _starts(Path(scratch), starts, framerate)}
    found['imports'] = _imports(imports)
    return found


def _paced(folder: Path, size: str, pixel_format: str, rounds: int, seconds: float,
           framerate: float) -> List[Dict[str, Any]]:
    from .frames import camera_like
    width, height = (int(side) for side in size.split('x'))
    frames = folder / 'frames.npy'
    np.save(frames, np.stack(camera_like(width, height, pixel_format, DISTINCT_FRAMES)))
    names, found = list(PACED), []
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            trial = in_fresh_process('paced', contender=name, frames=str(frames), folder=str(folder),
                                     count=round(seconds * framerate), framerate=framerate,
                                     warm_up=WARM_UP_FRAMES)
            found.append({'size': size, 'contender': name, 'round': number, **trial})
    frames.unlink()
    return found


def _memory(folder: Path, rounds: int, seconds: float, framerate: float) -> List[Dict[str, Any]]:
    return [{'round': number, **in_fresh_process('memory', folder=str(folder), width=1280, height=480,
                                                 framerate=framerate, seconds=seconds)}
            for number in range(rounds)]


def _starts(folder: Path, count: int, framerate: float) -> Dict[str, Any]:
    return in_fresh_process('starts', folder=str(folder), width=1280, height=480, framerate=framerate, count=count)


def _imports(count: int) -> Dict[str, Any]:
    """Wall seconds of fresh interpreters that import nothing, numpy, and the package; in turn."""
    scripts = {'bare': 'pass', 'numpy': 'import numpy', 'package': IMPORT}
    seconds: Dict[str, List[float]] = {name: [] for name in scripts}
    # First this: it warms up the disk cache and the byte code.
    loaded = subprocess.run([sys.executable, '-c', f'import sys; {IMPORT}; print("cv2" in sys.modules)'],
                            cwd=REPO, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    for _ in range(count):
        for name, script in scripts.items():
            begun = time.perf_counter()
            subprocess.run([sys.executable, '-c', script], cwd=REPO, check=True)
            seconds[name].append(time.perf_counter() - begun)
    return {**seconds, 'loads_cv2': loaded == 'True'}


# ---------------------------------------------------------------- what it says

def latencies_of(found: Mapping[str, Any], size: str, contender: str) -> np.ndarray:
    """All latencies of one contender after the warm-up, µs, float64, sorted; frames that never came are left out."""
    values = [value for trial in _trials(found, size, contender) for value in _steady(found, trial)
              if value is not None]
    return np.sort(np.array(values, float))


def _steady(found: Mapping[str, Any], trial: Mapping[str, Any]) -> List[Optional[float]]:
    return trial['latency_us'][found['settings']['warm_up_frames']:]


def _trials(found: Mapping[str, Any], size: str, contender: str) -> List[Mapping[str, Any]]:
    return [trial for trial in found['paced'] if trial['size'] == size and trial['contender'] == contender]


def _percentiles(found: Mapping[str, Any], size: str, contender: str, percent: float) -> List[float]:
    """Of each round, ms."""
    rounds = ([value for value in _steady(found, trial) if value is not None]
              for trial in _trials(found, size, contender))
    return [float(np.percentile(values, percent)) / 1000 for values in rounds if values]


def _cpu(found: Mapping[str, Any], size: str, contender: str) -> List[float]:
    return [trial['cpu_ms_a_frame'] for trial in _trials(found, size, contender)]


def _compressed(found: Mapping[str, Any], size: str) -> float:
    """Share of the recorder's pages that were compressed: when a ring fills, the others are stored as they are."""
    efforts = [trial['effort'] for trial in _trials(found, size, 'recorder')]
    pages = sum(sum(effort.values()) for effort in efforts)
    return 1 - sum(effort.get('stored', 0) + effort.get('none', 0) for effort in efforts) / pages


def _beyond_ring_mb(found: Mapping[str, Any]) -> List[float]:
    return [trial['beyond_ring'] / 1e6 for trial in found['memory']]


def _import_s(found: Mapping[str, Any], name: str) -> List[float]:
    """What an import adds to a bare interpreter, round by round."""
    return [with_it - bare for with_it, bare in zip(found['imports'][name], found['imports']['bare'])]


def targets(found: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """The targets that ``live`` can tell of: measure, target, measured (texts) and reached (bool)."""
    rows = []
    for size in found['settings']['sizes']:
        p50, p99 = (statistics.median(_percentiles(found, size, 'recorder', percent)) for percent in (50, 99))
        compressed = _compressed(found, size)
        rows.append(_row(f'latency capture → callback at {found["settings"]["framerate"]:g} fps while compressing, '
                         f'{size} {_format(found)}', 'p50 ≤ 1 ms, p99 ≤ 5 ms',
                         f'p50 {p50:.2f} ms, p99 {p99:.2f} ms, {100 * compressed:.0f} % of the pages compressed',
                         p50 <= 1 and p99 <= 5 and compressed >= COMPRESSING))
    if QUEUE_SIZE in found['settings']['sizes']:
        queue, own = (statistics.median(_percentiles(found, QUEUE_SIZE, name, 50))
                      for name in ('pickled queue', 'recorder'))
        rows.append(_row(f'… against the pickled queue, {QUEUE_SIZE}, p50', '≥ 5× below', f'{queue / own:.1f}× below',
                         queue / own >= 5))
    if CPU_SIZE in found['settings']['sizes']:
        own, original = (statistics.median(_cpu(found, CPU_SIZE, name)) for name in ('recorder', 'original'))
        rows.append(_row(f'CPU per frame at {found["settings"]["framerate"]:g} fps, {CPU_SIZE} {_format(found)}, of '
                         "the original's architecture", '≤ 1/5',
                         f'1/{original / own:.1f} ({own:.2f} of {original:.2f} ms)', own * 5 <= original))
    beyond = statistics.median(_beyond_ring_mb(found))
    rows.append(_row('memory (PSS) of all processes beyond the ring', '≤ 150 MB', f'{beyond:.0f} MB', beyond <= 150))
    start = statistics.median(found['starts']['warm_s'])
    rows.append(_row('`recordVid()` to the first frame (synthetic, fork)', '≤ 0.3 s', f'{start:.3f} s', start <= 0.3))
    imported, cv2 = statistics.median(_import_s(found, 'package')), found['imports']['loads_cv2']
    rows.append(_row(f'`{IMPORT}`', '≤ 0.15 s, without cv2',
                     f'{imported:.3f} s, {"with" if cv2 else "without"} cv2', imported <= 0.15 and not cv2))
    return rows


def _row(measure: str, target: str, measured: str, reached: bool) -> Dict[str, Any]:
    return {'measure': measure, 'target': target, 'measured': measured, 'reached': bool(reached)}


def _format(found: Mapping[str, Any]) -> str:
    name = found['settings']['pixel_format']
    return 'BGR' if name == 'bgr' else str(name)


def tables(found: Mapping[str, Any]) -> str:
    """Everything as Markdown."""
    return '\n'.join([_paced_table(found), _memory_table(found), _start_table(found)])


def _paced_table(found: Mapping[str, Any]) -> str:
    settings = found['settings']
    lines = [f'### Latency and CPU at {settings["framerate"]:g} fps, {_format(found)}', '',
             f'From the moment at which a frame is whole in the camera\'s process to the first line of the callback; '
             f'{settings["seconds"]:g} s a run, {settings["rounds"]} rounds: median (min–max), without the first '
             f'{settings["warm_up_frames"]} frames. CPU: of all processes, from there to the last frame; in brackets '
             'that of the whole run, start and end included.', '',
             '| size | contender | p50 ms | p99 ms | max ms | worst at the start, ms | CPU ms/frame | frames that '
             'never came |',
             '|---|---|---|---|---|---|---|---|']
    for size in settings['sizes']:
        for name in PACED:
            trials = _trials(found, size, name)
            if trials:
                lines.append('| ' + ' | '.join(_paced_cells(found, size, name, trials)) + ' |')
    return '\n'.join([*lines, '', *(f'- {name}: {what}' for name, what in PACED.items()), *_told(found), ''])


def _told(found: Mapping[str, Any]) -> List[str]:
    """What the recorder's own reports say of its latency: all frames, from arrival in the reader."""
    lines = []
    for size in found['settings']['sizes']:
        told = [trial['told_ms']['callback'] for trial in _trials(found, size, 'recorder') if 'told_ms' in trial]
        if told:
            p50, p99 = (_spread([one[key] for one in told], 2) for key in ('p50', 'p99'))
            lines.append(f'- pages of *recorder* at {size} compressed: {100 * _compressed(found, size):.1f} %')
            lines.append(f'- what the reports of *recorder* themselves tell at {size}, all frames, ms: p50 {p50}, '
                         f'p99 {p99}')
    return lines


def _paced_cells(found: Mapping[str, Any], size: str, name: str, trials: List[Mapping[str, Any]]) -> Iterable[str]:
    first = found['settings']['warm_up_frames']
    yield size
    yield name
    for percent in (50, 99, 100):
        yield _spread(_percentiles(found, size, name, percent), 2)
    worst = [max((value for value in trial['latency_us'][:first] if value is not None), default=float('nan'))
             for trial in trials]
    yield _spread([value / 1000 for value in worst], 1)
    whole = statistics.median(trial['cpu_ms_a_frame_whole'] for trial in trials)
    yield f'{_spread(_cpu(found, size, name), 2)} [{whole:.2f}]'
    yield str(sum(value is None for trial in trials for value in trial['latency_us']))


def _memory_table(found: Mapping[str, Any]) -> str:
    ring = found['memory'][0]['ring_frames']
    return '\n'.join(['### Memory in mid-recording', '',
                      "PSS of all processes, the script's included, in the middle of a recording of 1280×480 BGR "
                      f"through '3Proc', without its ring of {ring} frames: {_spread(_beyond_ring_mb(found), 0)} MB, "
                      'median (min–max).', ''])


def _start_table(found: Mapping[str, Any]) -> str:
    starts, imports = found['starts'], found['imports']
    rows = [('`recordVid()` to the first frame, first in its process', [starts['cold_s']]),
            (f'`recordVid()` to the first frame, {len(starts["warm_s"])} more', starts['warm_s']),
            (f'`{IMPORT}`, beyond a bare interpreter', _import_s(found, 'package')),
            ('`import numpy`, likewise (a part of the above)', _import_s(found, 'numpy')),
            ('a bare interpreter', imports['bare'])]
    cv2 = 'loads' if imports['loads_cv2'] else 'does not load'
    lines = ['### Start and import', '', "Synthetic camera, 1280×480 BGR, 60 fps ('3Proc'): its first frame alone "
             f'takes one period. `{IMPORT}` {cv2} cv2.', '',
             '| what | s, median (min–max) |', '|---|---|']
    return '\n'.join([*lines, *(f'| {what} | {_spread(values, 3)} |' for what, values in rows), ''])


def _spread(values: Sequence[float], digits: int) -> str:
    """Median, and min–max where there are several."""
    if not values:
        return '–'
    middle = f'{statistics.median(values):.{digits}f}'
    return middle if len(values) == 1 else f'{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})'


def main() -> int:
    """Everything with small numbers, printed: a first look. ``python -m benchmarks live`` is the real thing."""
    found = run(Path(os.environ.get('TMPDIR', '.')), rounds=1, seconds=2.0, starts=2, imports=2, sizes=('640x480',))
    print(tables(found))
    print(json.dumps(targets(found), indent=1, ensure_ascii=False))
    return 0


if __name__ == '__main__':
    sys.exit(main())

"""A soak: records a synthetic camera at full load, watches every process of the recorder, and judges what grew.

    make soak                                              # half an hour, 60 Hz, 1280×480 in colour
    make soak SOAK_ARGS='--minutes 2 --size 640x480 --gray'

Exit code 0: complete, and everything flat; 1: not; 2: it cannot be run so. docs/testing.md tells what is judged.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from soak_judgement import Finding, growth_of
from soak_run import Asked, Found, run
from soak_sampling import ROLES, Sample

from ProcessedPiRecorder import __version__
from ProcessedPiRecorder.cameras import CameraRequest, SyntheticCamera
from ProcessedPiRecorder.errors import RecorderError, RecordingFileError, SettingsError
from ProcessedPiRecorder.recordings.encoder import PageEncoder

#: Parts that may be on the disk at once: the first, the one that is recorded, and those that wait to be checked.
PARTS_AT_ONCE = 5
SPARE_BYTES = 1_000_000_000
ROLE_FIELDS = ('own', 'uss', 'pss', 'rss')


def main(arguments: Optional[List[str]] = None) -> int:
    """Run, print, store; the exit code."""
    try:
        asked = parse(arguments)
        require_room(asked)
        asked.prepare_folder()
    except (RecorderError, OSError) as error:
        print(f'soak: {error}', file=sys.stderr)
        return 2
    try:
        found, findings = run(asked)
    except KeyboardInterrupt:
        print('soak: interrupted; nothing is left running, nothing was judged', file=sys.stderr)
        return 130
    good = all(finding.good for finding in findings)
    (asked.output / 'soak.json').write_text(json.dumps(as_json(asked, found, findings), indent=1))
    show(Console(), asked, found, findings)
    plot(asked.output / 'soak.png', found)
    return 0 if good else 1


def parse(arguments: Optional[List[str]]) -> Asked:
    """The command line. Raises SettingsError for what argparse does not see."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--minutes', type=float, default=30.0)
    add('--warm-up', type=float, metavar='SECONDS', help='not judged (default: a tenth, 10 to 180 s)')
    add('--fps', type=float, default=60.0)
    add('--size', default='1280x480', metavar='WIDTHxHEIGHT')
    add('--gray', action='store_true')
    add('--scene', default='shapes', choices=('shapes', 'flat'), help="'shapes' has the noise of a camera (half its "
        "size when compressed), 'flat' has none (a 300th): for slow cards")
    add('--compression', type=int, default=6, metavar='0-9')
    add('--ring-seconds', type=float, default=4.0, help='size of the ring')
    add('--buffers', type=int, default=60, help='frames that the camera keeps for a reader that is late; real ones: 4')
    add('--part-seconds', type=float, default=60.0, help='a new file so often (0: one file; it is not deleted before '
        'the end); a file that has been checked makes room')
    add('--keep', action='store_true', help='delete no file')
    add('--output', type=Path, default=Path('soak-output'))
    add('--sample-every', type=float, default=1.0, metavar='SECONDS')
    add('--leak', type=int, default=0, metavar='BYTES', help='have the callback leak so much a frame: the soak must '
        'find it')
    given = parser.parse_args(arguments)
    try:
        width, height = (int(side) for side in given.size.split('x'))
    except ValueError:
        raise SettingsError(f'--size {given.size} is no size; give it as 1280x480') from None
    seconds = given.minutes * 60
    warm_up_s = min(max(seconds / 10, 10.0), 180.0) if given.warm_up is None else given.warm_up
    if seconds - warm_up_s < 10 * given.sample_every:
        raise SettingsError(f'--minutes {given.minutes:g} leaves {max(seconds - warm_up_s, 0):g} s behind a warm-up of '
                            f'{warm_up_s:g} s; give more minutes or a shorter --warm-up')
    return Asked(given.output, seconds, warm_up_s, given.sample_every, given.fps, width, height,
                 'gray' if given.gray else 'bgr', given.scene, given.compression, given.ring_seconds, given.buffers,
                 given.part_seconds, given.keep, given.leak)


def bytes_a_second(asked: Asked) -> float:
    """Upper bound of what is written: the least effort that saves anything, and never less than the noise asks for."""
    camera = SyntheticCamera(seed=1, scene=asked.scene)
    camera.configure(CameraRequest(asked.width, asked.height, framerate=asked.fps, pixel_format=asked.pixel_format))
    image = camera.frame(0)
    if asked.level == 0 or asked.scene != 'flat':
        return float(image.nbytes * asked.fps)      # stored pages, should the machine not keep up
    encoder = PageEncoder(asked.height, asked.width, 1 if image.ndim == 2 else 3)
    return float(sum(len(piece) for piece in encoder.encode(image, 'huffman')) * asked.fps)


def require_room(asked: Asked) -> None:
    """Raises RecordingFileError when the disk cannot hold what will be on it at once."""
    seconds = asked.seconds
    if asked.part_s and not asked.keep:
        seconds = min(seconds, PARTS_AT_ONCE * asked.part_s)
    needed = bytes_a_second(asked) * seconds + SPARE_BYTES
    folder = next(folder for folder in (asked.output.absolute(), *asked.output.absolute().parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RecordingFileError(f'{folder} has {free / 1e9:.1f} GB free, and this soak may need {needed / 1e9:.1f} GB '
                                 'at once; make room, choose another --output, or ask for less: shorter '
                                 "--part-seconds, --scene flat, --gray, a smaller --size, no --keep")


# ------------------------------------------------------------------ what comes of it

def as_json(asked: Asked, found: Found, findings: List[Finding]) -> Dict[str, Any]:
    """Everything, for those who want to look closer."""
    samples: Dict[str, Any] = {role: {name: [getattr(roles[role], name) if role in roles else None
                                             for _, roles in found.samples] for name in Sample._fields}
                               for role in ROLES}
    return {'version': __version__, 'machine': machine(), 'asked': {**asked._asdict(), 'output': str(asked.output)},
            'good': all(finding.good for finding in findings),
            'findings': [finding._asdict() for finding in findings],
            'seconds': [round(when, 3) for when, _ in found.samples], 'samples': samples,
            'others_cores': found.others, 'ring_in_use': found.ring,
            'callback_latency_ms': latency_by_second(asked, [late / 1e6 for late in found.late_ns]),
            'disk_latency_ms': latency_by_second(asked, found.disk_ms),
            'report': found.report, 'script_exit_code': found.exit_code, 'script_stderr': found.complaints}


def machine() -> Dict[str, Any]:
    """What it ran on."""
    return {'machine': platform.machine(), 'cores': len(os.sched_getaffinity(0)),
            'python': platform.python_version(), 'kernel': platform.release()}


def latency_by_second(asked: Asked, latency_ms: List[float]) -> List[Tuple[float, ...]]:
    """(second, p50, p99, max) of the frames of each second."""
    step = max(1, round(asked.fps))
    return [(start // step, *(round(float(value), 3) for value in np.percentile(latency_ms[start:start + step],
                                                                               (50, 99, 100))))
            for start in range(0, len(latency_ms), step)]


def show(console: Console, asked: Asked, found: Found, findings: List[Finding]) -> None:
    """The judgement first, then who used what."""
    good = all(finding.good for finding in findings)
    console.print(f'\n[bold {"green" if good else "red"}]{"FLAT" if good else "NOT FLAT"}[/]  '
                  f'{asked.seconds / 60:g} min, {asked.width}×{asked.height} {asked.pixel_format}, {asked.fps:g} Hz, '
                  f'after {asked.warm_up_s:g} s of warm-up')
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column('')
    table.add_column('judged')
    table.add_column('found', overflow='fold')
    for finding in findings:
        table.add_row('[green]✓[/]' if finding.good else '[red]✗[/]', finding.name, escape(finding.text))
    console.print(table)
    if found.samples and found.first_s is not None:
        console.print(usage_table(found, found.first_s + asked.warm_up_s))
    if found.ring:
        console.print(f'ring: {100 * max(share for _, share in found.ring):.0f} % in use at most · other programs used '
                      f'{np.mean([cores for _, cores in found.others]):.2f} processors')


def usage_table(found: Found, since_s: float) -> Table:
    """Each process's means after the warm-up."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), caption='own: anonymous memory, in MB as all others; '
                  'USS, PSS, RSS count the ring too', caption_justify='left')
    for heading in ('process', 'CPU %', 'own', 'rise', 'USS', 'PSS', 'RSS', 'fds', 'threads'):
        table.add_column(heading, justify='left' if heading == 'process' else 'right')
    for role in ROLES:
        series = [(when, roles[role]) for when, roles in found.samples if when >= since_s and role in roles]
        if len(series) < 2:
            continue
        (first_s, first), (last_s, last) = series[0], series[-1]
        cpu = 100 * (last.cpu_s - first.cpu_s) / (last_s - first_s)
        means = [f'{np.mean([getattr(sample, name) for _, sample in series]) / 1e6:.1f}' for name in ROLE_FIELDS]
        rise = growth_of([(when, sample.own) for when, sample in series]).rise
        table.add_row(role, f'{cpu:.1f}', means[0], f'{rise / 1e6:+.2f}', *means[1:], str(last.fds), str(last.threads))
    return table


def plot(path: Path, found: Found) -> None:
    """Memory, processor, latency and the ring over time, where matplotlib is installed."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(4, 1, figsize=(10, 12), sharex=False)
    for role in ROLES:
        series = [(when, roles[role].own / 1e6) for when, roles in found.samples if role in roles]
        if series:
            axes[0].plot(*zip(*series), label=role)
    axes[0].set(ylabel='own memory / MB')
    axes[0].legend()
    axes[1].plot([late / 1e6 for late in found.late_ns], '.', markersize=1)
    axes[1].set(ylabel='callback latency / ms', xlabel='frame')
    axes[2].plot(found.disk_ms, '.', markersize=1)
    axes[2].set(ylabel='disk latency / ms', xlabel='frame')
    axes[3].plot(*zip(*found.ring), label='ring in use')
    axes[3].set(ylabel='share', xlabel='s')
    figure.tight_layout()
    figure.savefig(path, dpi=100)


if __name__ == '__main__':
    sys.exit(main())

"""One run of a soak: start the recording script, watch its processes, and put together what is judged."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import psutil
from soak_judgement import (
    Finding,
    judge_counts,
    judge_handles,
    judge_latency,
    judge_memory,
    judge_processes,
)
from soak_parts import PartKeeper
from soak_sampling import Sample, Sampler

__all__ = ['Asked', 'Found', 'run']

SCRIPT = Path(__file__).with_name('soak_script.py')
ORPHAN_PATIENCE_S = 5.0


class Asked(NamedTuple):
    """What is to be recorded, and how it is to be watched; seconds, Hz, pixels."""

    output: Path
    seconds: float = 1800.0
    warm_up_s: float = 60.0
    every_s: float = 1.0             # between two samples
    fps: float = 60.0
    width: int = 1280
    height: int = 480
    pixel_format: str = 'bgr'
    scene: str = 'shapes'
    level: int = 6
    ring_s: float = 4.0
    buffers: int = 60
    part_s: float = 60.0             # 0: one file
    keep: bool = False
    leak_bytes: int = 0              # of the callback, a frame

    @property
    def recording(self) -> Path:
        return self.output / 'recording' / 'soak.tif'

    @property
    def log_file(self) -> Path:
        return self.recording.with_suffix('.csv')

    def prepare_folder(self) -> None:
        """Make the recording's folder; an earlier soak's goes. Raises OSError."""
        if self.recording.parent.exists():
            shutil.rmtree(self.recording.parent)
        self.recording.parent.mkdir(parents=True)

    def settings(self) -> Dict[str, Any]:
        """For the recorder."""
        return {'tif_path': str(self.recording), 'x_resolution': self.width, 'y_resolution': self.height,
                'framerate': self.fps, 'rec_length': self.seconds, 'display': False, 'cb_type': '3Proc',
                'tif_compression': self.level, 'log_file': str(self.log_file), 'camera': 'synthetic',
                'pixel_format': self.pixel_format, 'split_frames': round(self.part_s * self.fps),
                'ring_frames': max(8, round(self.ring_s * self.fps)),
                'camera_controls': {'seed': 1, 'scene': self.scene, 'buffers': self.buffers}}


@dataclass
class Found:
    """All that was seen, in the order in which it came. Times are seconds since the script's start."""

    samples: List[Tuple[float, Dict[str, Sample]]] = field(default_factory=list)
    ring: List[Tuple[float, float]] = field(default_factory=list)         # share of the slots in use
    others: List[Tuple[float, float]] = field(default_factory=list)       # processors that other programs used
    late_ns: List[int] = field(default_factory=list)                      # from each frame's end to its result's making
    disk_ms: List[float] = field(default_factory=list)                    # from each frame's arrival to its page
    first_s: Optional[float] = None                                       # when the first result was read
    report: Optional[Dict[str, Any]] = None
    results: int = 0
    out_of_order: int = 0
    exit_code: int = 0
    complaints: str = ''
    orphans: List[int] = field(default_factory=list)


def run(asked: Asked) -> Tuple[Found, List[Finding]]:
    """Record into the folder that was prepared, watch, judge. Blocks; leaves no process, and no recording unless it is
    to be kept."""
    found, begun = Found(), time.monotonic()
    script = _start_script(asked)
    sampler, parts = Sampler(script.pid, asked.recording.parent), PartKeeper(asked.recording, asked.keep)
    listeners = [threading.Thread(target=target, args=(script, found, begun), name='soak-listen')
                 for target in (_listen, _listen_to_complaints)]
    for listener in listeners:
        listener.start()
    try:
        _watch(script, asked, found, sampler, parts, begun)
    finally:
        if script.poll() is None:
            script.send_signal(signal.SIGINT)
        for listener in listeners:
            listener.join()
        found.exit_code = script.wait()
        found.orphans = _wait_for_orphans(sampler)
        parts.finish()
        if asked.log_file.exists():
            found.disk_ms = _read_log(asked.log_file)
        if not asked.keep:
            shutil.rmtree(asked.recording.parent)
    return found, _judge(asked, found, parts)


def _start_script(asked: Asked) -> 'subprocess.Popen[str]':
    # In a session of its own: Ctrl-C is for us, and we tell the script.
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), json.dumps({'settings': asked.settings(), 'leak_bytes': asked.leak_bytes})],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(path for path in sys.path if path)})


def _watch(script: 'subprocess.Popen[str]', asked: Asked, found: Found, sampler: Sampler, parts: PartKeeper,
           begun: float) -> None:
    """Sample until the script has ended."""
    others, due = OtherPrograms(), time.monotonic()
    while True:
        due += asked.every_s
        try:
            script.wait(max(0.0, due - time.monotonic()))
            return
        except subprocess.TimeoutExpired:
            now, sample = time.monotonic() - begun, sampler.sample()
            found.samples.append((now, sample))
            found.others.append((now, others.since_last(sample)))
            parts.look()


class OtherPrograms:
    """How many processors programs that are none of ours have used, on the whole machine."""

    def __init__(self) -> None:
        self._last_s, self._last_busy_s, self._last_ours = time.monotonic(), self._busy_s(), {os.getpid(): 0.0}

    def since_last(self, sample: Mapping[str, Sample]) -> float:
        """Since the last call; our processes are those of the sample, and this one."""
        now, busy_s = time.monotonic(), self._busy_s()
        ours = {one.pid: one.cpu_s for one in sample.values()}
        ours[os.getpid()] = time.process_time()
        ours_s = sum(cpu_s - self._last_ours.get(pid, 0.0) for pid, cpu_s in ours.items())
        cores = (busy_s - self._last_busy_s - ours_s) / (now - self._last_s)
        self._last_s, self._last_busy_s, self._last_ours = now, busy_s, ours
        return max(0.0, cores)

    @staticmethod
    def _busy_s() -> float:
        times = psutil.cpu_times()
        # What a host takes from a virtual machine is somebody else's too.
        return times.user + times.nice + times.system + times.irq + times.softirq + getattr(times, 'steal', 0.0)


def _listen(script: 'subprocess.Popen[str]', found: Found, begun: float) -> None:
    """In a thread of its own: what the script tells."""
    assert script.stdout is not None
    with script.stdout as lines:
        for line in lines:
            _hear(json.loads(line), found, time.monotonic() - begun)


def _hear(news: Mapping[str, Any], found: Found, now: float) -> None:
    found.results = news['results']
    if 'report' in news:
        found.report, found.out_of_order = news['report'], news['out_of_order']
    if news.get('late_ns'):
        found.first_s = now if found.first_s is None else found.first_s
        found.late_ns.extend(news['late_ns'])
    if news.get('ring_frames'):
        found.ring.append((now, news['ring_in_use'] / news['ring_frames']))


def _listen_to_complaints(script: 'subprocess.Popen[str]', found: Found, begun: float) -> None:
    assert script.stderr is not None
    with script.stderr as complaints:
        found.complaints = complaints.read()


def _wait_for_orphans(sampler: Sampler) -> List[int]:
    deadline = time.monotonic() + ORPHAN_PATIENCE_S
    while sampler.orphans() and time.monotonic() < deadline:
        time.sleep(0.1)
    return sampler.orphans()


def _read_log(path: Path) -> List[float]:
    """Each frame's milliseconds from its arrival to its page."""
    with open(path, newline='') as file:
        return [(int(row['written_ns']) - int(row['host_ns'])) / 1e6 for row in csv.DictReader(file)]


def _judge(asked: Asked, found: Found, parts: PartKeeper) -> List[Finding]:
    ended = Finding('the script ended well', found.exit_code == 0 and found.report is not None,
                    f'exit code {found.exit_code}' + (f': {found.complaints[-2000:]}' if found.exit_code else ''))
    if found.report is None or found.first_s is None:
        return [ended]
    first_s, warm_up_s = found.first_s, asked.warm_up_s
    samples = [(when, roles) for when, roles in found.samples
               if first_s + warm_up_s <= when < first_s + asked.seconds - 1]
    skipped = round(warm_up_s * asked.fps)
    callback_ms, disk_ms = ([(first_s + number / asked.fps, late) for number, late in enumerate(latency)][skipped:]
                            for latency in ([late_ns / 1e6 for late_ns in found.late_ns], found.disk_ms))
    logged = Finding('a row in the log for each frame', len(found.disk_ms) == found.report['captured'],
                     f'{len(found.disk_ms):,} rows')
    return [ended, *judge_counts(found.report, found.results, found.out_of_order), logged,
            *judge_parts(parts, found.report['written']), *judge_processes(samples), *judge_memory(samples),
            *judge_handles(samples), *judge_latency('callback', callback_ms, found.others),
            *judge_latency('disk', disk_ms, found.others),
            Finding('nobody left behind', not found.orphans, f'{len(found.orphans)} processes')]


def judge_parts(parts: PartKeeper, written: int) -> List[Finding]:
    """The files: whole, in order, and what they should hold."""
    good = not parts.problems and parts.pages == written
    text = (f'{parts.pages:,} pages in {parts.parts} files in order; of these {parts.verified:,} checksums and '
            f'{parts.decoded:,} pictures right')
    if not good:
        problems = parts.problems[:5] + ([f'and {len(parts.problems) - 5} more'] if len(parts.problems) > 5 else [])
        text = f'{parts.pages:,} pages of {written:,} found; ' + '; '.join(problems)
    return [Finding('pages', good, text)]

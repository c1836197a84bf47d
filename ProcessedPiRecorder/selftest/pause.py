"""Whether losses are *seen*: the process that reads the camera is paused in mid-recording."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from ..cameras import registry
from ..cameras.base import Camera, CameraRequest, FrameSink, Granted, Stamp
from .context import Context, Finding, Judge, Skip, caught, texts
from .takes import Take, read_take

__all__ = ['Located', 'losses']

PERIODS = 15              # of a pause: more than cameras have buffers for
MIN_PAUSE_S, MAX_PAUSE_S = 0.5, 3.0
AROUND_S, AROUND_PERIODS = 1.0, 5      # recorded before the pause, and after it
LOOK_S = 0.02
SHOWN = 5

#: Run by a process of its own: whatever becomes of this one, a camera's process is never left standing still.
_PAUSE = '''
import os, signal, sys, time
pid = int(sys.argv[1])
os.kill(pid, signal.SIGSTOP)
time.sleep(float(sys.argv[2]))
os.kill(pid, signal.SIGCONT)
'''


class Located(Camera):
    """A camera that leaves word (in the file ``note``) of the process that it lives in; otherwise as it is."""

    def __init__(self, inner: Camera, note: Path) -> None:
        self.inner, self.note = inner, note

    def __repr__(self) -> str:
        return repr(self.inner)

    def open(self, request: CameraRequest) -> Granted:
        self.note.write_text(str(os.getpid()))
        return self.inner.open(request)

    def start(self) -> None:
        self.inner.start()

    def read(self, out: np.ndarray) -> Optional[Stamp]:
        return self.inner.read(out)

    def stream(self, sink: FrameSink) -> None:
        self.inner.stream(sink)

    def close(self) -> None:
        self.inner.close()

    def statistics(self) -> Dict[str, Any]:
        """The camera's own."""
        statistics = getattr(self.inner, 'statistics', dict)
        return dict(statistics())


def losses(context: Context) -> Finding:
    granted = context.granted or {}
    if granted.get('waits'):
        raise Skip('this source waits for the recorder, so that nothing can be lost')
    if granted.get('loss_detection') == 'none':
        raise Skip('this camera gives no evidence of losses, so none can be seen')
    pause_s = min(MAX_PAUSE_S, max(MIN_PAUSE_S, PERIODS / context.rate))
    take = _record_with_pause(context, pause_s)
    hole_s = float(np.diff(take.index['host_ns']).max(initial=0)) / 1e9
    if take.report.stopped == 'end of source':
        raise Skip('the source ends too soon to be paused')
    if hole_s < 0.8 * pause_s:
        raise Skip(f'the pause of {pause_s:.1f} s did not reach the camera\'s process (longest silence {hole_s:.2f} s)')
    return _compare(take, pause_s)


def _record_with_pause(context: Context, pause_s: float) -> Take:
    note = context.folder / 'losses.pid'
    around_s = max(AROUND_S, AROUND_PERIODS / context.rate)
    located = Located(registry.resolve(context.camera), note)
    with caught() as told:
        with context.recorder('losses', 2 * around_s + pause_s, camera=located) as recorder:
            recorder.recordVid()
            while recorder.wait(LOOK_S) is None and recorder.status().elapsed_s < around_s:
                context.watch(recorder.status())
            if recorder.recording:
                _pause(int(note.read_text()), pause_s)
            recorder.wait()
        return read_take(context.folder / 'losses.tif', recorder.report, texts(told))


def _pause(pid: int, seconds: float) -> None:
    """Stop a process for a while. If it has just ended, the times will show that nothing was paused."""
    # Not subprocess.run: upon Ctrl-C that would kill it half-way.
    helper = subprocess.Popen([sys.executable, '-I', '-S', '-c', _PAUSE, str(pid), str(seconds)],
                              start_new_session=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    helper.wait()


def _compare(take: Take, pause_s: float) -> Finding:
    """The losses that were reported, with those that the frames' own times show."""
    numbered = take.missing
    in_file = int(numbered.sum())
    behind = sum(loss.count for loss in take.report.losses if loss.index > take.index['index'][-1])
    judge = Judge(pause_s=pause_s, reported=take.report.lost, in_file=in_file, behind_the_last_frame=behind,
                  complete=take.report.complete)
    judge.require(take.report.lost == in_file + behind,
                  f'{take.report.lost} frames are reported lost, but {in_file + behind} numbers are missing')
    judge.require(take.report.complete == ('no' if take.report.lost else 'yes'),
                  f"{take.report.lost} frames are reported lost, and the verdict is '{take.report.complete}'")
    timed = _missing_by_time(take)
    if timed is None:
        judge.note('the camera gives no times to compare the counts with')
    else:
        judge.figures['by_time'] = int(timed.sum())
        differ = np.flatnonzero(timed != numbered)
        judge.require(not len(differ), _differences(differ, timed, numbered))
    if take.report.lost:
        places = int((numbered > 0).sum())
        judge.note(f'paused for {pause_s:.1f} s: {take.report.lost} frames reported lost in {places} '
                   f'place{"s" if places != 1 else ""}' + ('' if timed is None else ', as their times show'))
    else:
        judge.note(f'paused for {pause_s:.1f} s: the camera kept all frames meanwhile, and every one is there')
    return judge.finding()


def _missing_by_time(take: Take) -> Optional[np.ndarray]:
    """How many frames the camera's own times show to be missing before each frame but the first."""
    times = take.sensor_ns
    if times is None or len(times) < 3:
        return None
    steps = np.diff(times)
    missing: np.ndarray = np.maximum(0, np.rint(steps / np.median(steps)).astype(np.int64) - 1)
    return missing


def _differences(places: np.ndarray, timed: np.ndarray, numbered: np.ndarray) -> str:
    told: List[str] = [f'before frame {place + 1}: {numbered[place]} reported, {timed[place]} by time'
                       for place in places[:SHOWN]]
    more = f' and {len(places) - SHOWN} more places' if len(places) > SHOWN else ''
    return f'reported losses and gaps in the camera\'s times differ: {"; ".join(told)}{more}'

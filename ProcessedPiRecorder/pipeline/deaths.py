"""What is said of a process that ended without a word."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Mapping, Optional

import numpy as np

from .channel import RemoteError
from .processes import Child, ending_of
from .ring import Stat, frames_captured

__all__ = ['death_of', 'death_while_starting', 'recounted', 'stuck', 'with_advice', 'with_result']


SAFE = 'what was written is safe'


def death_of(child: Child, stats: Optional[np.ndarray]) -> RemoteError:
    """Of a child that died while we recorded; what the ring's counters told then."""
    captured, written = (frames_captured(stats), int(stats[Stat.WRITTEN])) if stats is not None else (0, 0)
    text = (f'the {child.role} process ended unexpectedly ({ending_of(child)}) {_counts(captured, written)}'
            f'; {SAFE}')
    return RemoteError('ProcessDiedError', text, child.crash.traceback if child.crash is not None else '', {
        'role': child.role, 'exitcode': child.exitcode, 'frames_captured': captured, 'frames_written': written})


def death_while_starting(child: Child) -> RemoteError:
    """Of a child that died before there was anything to record."""
    text = (f'the {child.role} process ended unexpectedly ({ending_of(child)}) while the recording was started; '
            'nothing was recorded')
    return RemoteError('ProcessDiedError', text, child.crash.traceback if child.crash is not None else '',
                       {'role': child.role, 'exitcode': child.exitcode})


def with_result(death: RemoteError, report: Mapping[str, Any]) -> RemoteError:
    """The writer's death, and that its file has been finished all the same."""
    written, captured = report['written'], report['captured']
    text = f'its file has been finished with the {written} of {captured} captured frames that had been written' \
        if written else 'not one frame had been written, so there is no file'
    return dataclasses.replace(death, message=f'{death.message}; {text}',
                               values={**death.values, 'frames_captured': captured, 'frames_written': written})


def with_advice(death: RemoteError, why: str, path: Optional[Path]) -> RemoteError:
    """The writer's death, and that its file could not be finished."""
    message = death.message.replace(SAFE, f'the file could not be finished ({why})')
    return dataclasses.replace(death, message=f'{message}; run  ppr repair {path}  on it')


def recounted(death: RemoteError, report: Mapping[str, Any]) -> RemoteError:
    """The reader's death, with all frames that it had passed on: it counts one after that, and can die in between."""
    values = death.values
    if values.get('role') != 'reader' or values.get('frames_captured', 0) >= report['captured']:
        return death
    old = _counts(values['frames_captured'], values['frames_written'])
    new = _counts(report['captured'], values['frames_written'])
    return dataclasses.replace(death, message=death.message.replace(old, new),
                               values={**values, 'frames_captured': report['captured']})


def _counts(captured: int, written: int) -> str:
    return f'after {captured} frames were captured and {written} written'


def stuck(pages_waiting: int, seconds: float) -> str:
    """How a process ended that was killed because the file was not finished in time."""
    what = 'the disk took no page' if pages_waiting else 'the file came no nearer to its end'
    return f'{what} for {seconds:g} s, so it was killed; check the disk, dmesg tells more'

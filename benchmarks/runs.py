"""Each run in a fresh process, so that nothing of one is left to the next: no memory, no threads, no processor time.

    python -m benchmarks.runs    one run, as told on standard input (JSON); the answer goes to the file named there
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple, Optional

import numpy as np

from .contenders import CONTENDERS

__all__ = ['Material', 'RunFailed', 'run_apart']

ROOT = Path(__file__).resolve().parent.parent
LONGEST_S = 900


class RunFailed(Exception):
    """A run ended without a result; the message has the last that its process said."""


class Material(NamedTuple):
    """The frames of one case, kept in a file that every run loads; and the folder that is written to."""

    frames: Path
    folder: Path

    @classmethod
    def stored(cls, frames: Any, folder: Path) -> 'Material':
        """``frames``: a list of arrays of one shape."""
        path = folder / 'frames.npy'
        np.save(path, np.stack(frames))
        return cls(path, folder)


def run_apart(name: str, material: Material, count: int, options: Optional[Mapping[str, Any]] = None,
              verify: bool = False) -> Dict[str, Any]:
    """One run of the contender ``name``; blocks until its process has ended.

    Returns:
        frames, seconds, cpu_s, bytes, details (as contenders.Run); with ``verify`` also lossless, decoded and note.

    Raises:
        RunFailed: it raised, died, or took longer than LONGEST_S.
    """
    answer = material.folder / 'answer.json'
    answer.unlink(missing_ok=True)
    told = {'name': name, 'frames': str(material.frames), 'folder': str(material.folder), 'count': count,
            'options': dict(options or {}), 'verify': verify, 'answer': str(answer)}
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))}
    process = subprocess.Popen([sys.executable, '-m', 'benchmarks.runs'], env=environment, text=True, encoding='utf-8',
                               stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               start_new_session=True)
    try:
        _, said = process.communicate(json.dumps(told), timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        raise RunFailed(f'{name} did not end within {LONGEST_S} s') from None
    finally:
        _end_all(process)
    if process.returncode or not answer.exists():
        raise RunFailed(f'{name}: {(said.strip() or f"exit code {process.returncode}").splitlines()[-1]}')
    found: Dict[str, Any] = json.loads(answer.read_text())
    return found


def _end_all(process: 'subprocess.Popen[str]') -> None:
    """What the run may have left: consumers that spin would do so for ever."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _run_here(told: Mapping[str, Any]) -> Dict[str, Any]:
    frames = list(np.load(told['frames']))
    folder = Path(told['folder'])
    contender = CONTENDERS[told['name']](**told['options'])
    # So that nobody pays for what another run has left to be written.
    os.sync()
    try:
        found = contender.run(frames, told['count'], folder)._asdict()
        if told['verify']:
            found.update(contender.verify(frames, told['count'], folder)._asdict())
    finally:
        for path in folder.glob('run*'):
            path.unlink()
    return found


def main() -> int:
    """Read what to do, do it, store the answer."""
    told = json.load(sys.stdin)
    Path(told['answer']).write_text(json.dumps(_run_here(told)))
    return 0


if __name__ == '__main__':
    sys.exit(main())

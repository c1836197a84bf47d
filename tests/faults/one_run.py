"""One fault, once, in a process of its own.

`python -m tests.faults.one_run` reads lines with a JSON list [name, seed, run, folder], forks a process for each, says
its number, and then, when it has ended, 'ended'. So the imports are made once.

The fault has the empty folder ``folder/data`` to itself. What became of it is written to ``folder/outcome.json``.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import random
import sys
import traceback
from pathlib import Path
from typing import Any, Dict

from tests.faults.judge import Leftovers
from tests.faults.outcome import CannotBeMade
from tests.faults.registry import FAULTS, Fault, load, wrong
from tests.faults.witness import memory_files, watch

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Have the kernel give orphaned grandchildren to this process, so that none can hide behind a dead parent."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def chance(seed: int, name: str, run: int) -> random.Random:
    """The run's own random numbers: the same for the same three, in whatever order the runs come."""
    return random.Random(f'{seed}/{name}/{run}')


def make(fault: Fault, seed: int, run: int, folder: Path) -> Dict[str, Any]:
    """Make the fault; what became of it, with everything that is wrong with that."""
    data, temporary, witness = (folder / name for name in ('data', 'tmp', '.witness'))
    for place in (data, temporary, witness):
        place.mkdir()
    os.environ['TMPDIR'] = str(temporary)
    adopt_orphans()
    watch(witness)
    leftovers = Leftovers(lambda: memory_files(witness))
    try:
        outcome = fault.function(data, chance(seed, fault.name, run))
    except CannotBeMade as reason:
        return {'skipped': str(reason)}
    orphans, leaked, text = leftovers.count()
    files = sorted(os.listdir(temporary))
    outcome.orphans += orphans
    outcome.leaked += leaked + len(files)
    outcome.notes = ' · '.join(filter(None, (outcome.notes, text, ', '.join(files[:5]))))
    return {'outcome': outcome.as_dict(), 'wrong': wrong(fault, outcome)}


def run_here(name: str, seed: int, run: int, folder: Path) -> None:
    """Make a fault in this process, and write down what became of it."""
    fault = FAULTS[name]
    with open(folder / 'stacks.txt', 'w') as stacks:
        faulthandler.dump_traceback_later(fault.limit_s * 0.9, file=stacks)
        try:
            result = make(fault, seed, run, folder)
        except BaseException:
            result = {'broken': traceback.format_exc()}
        faulthandler.cancel_dump_traceback_later()
    (folder / 'outcome.part').write_text(json.dumps(result))
    os.replace(folder / 'outcome.part', folder / 'outcome.json')


def script(name: str, seed: int, run: int, folder: Path) -> None:
    """The life of a forked process: a session, a folder and an output of its own."""
    try:
        os.setsid()
        for number, path, mode in ((0, os.devnull, os.O_RDONLY), (1, folder / 'output.txt', os.O_WRONLY | os.O_CREAT)):
            fd = os.open(path, mode, 0o666)
            os.dup2(fd, number)
            os.close(fd)
        os.dup2(1, 2)
        run_here(name, seed, run, folder)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(0)


def main() -> None:
    load()
    for line in sys.stdin:
        name, seed, run, folder = json.loads(line)
        pid = os.fork()
        if pid == 0:
            script(name, seed, run, Path(folder))
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print('ended', flush=True)


if __name__ == '__main__':
    main()

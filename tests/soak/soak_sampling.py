"""Looking at a recording's processes from outside: which is which, and what each of them holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

import psutil

__all__ = ['ROLES', 'Sample', 'Sampler']

ROLES = ('script', 'keeper', 'reader', 'writer', 'callback')


class Sample(NamedTuple):
    """One process at one moment.

    rss, pss, uss: bytes, as psutil names them; they count the ring, of which everyone maps all.
    own: bytes of anonymous memory, swapped out or not: what the process itself has asked for, and what a leak adds
    to. Unlike the others it moves neither with the ring's pages nor with other programs that share a library.
    fds, threads: how many. cpu_s: seconds of processor time so far.
    """

    pid: int
    rss: int
    pss: int
    uss: int
    own: int
    fds: int
    threads: int
    cpu_s: float


class Sampler:
    """Samples the processes of the recording that the process ``script_pid`` makes in ``folder``."""

    def __init__(self, script_pid: int, folder: Path) -> None:
        self._script = psutil.Process(script_pid)
        self._folder = str(folder.resolve()) + os.sep
        self._roles: Dict[str, psutil.Process] = {}
        self.seen: Dict[int, psutil.Process] = {script_pid: self._script}   # everyone that ever was, by process id

    def sample(self) -> Dict[str, Sample]:
        """Each role's sample; a role is missing while it cannot be told yet, or is gone."""
        found: Dict[str, Sample] = {}
        for role, process in self._find_roles().items():
            try:
                found[role] = sample_of(process)
            except (psutil.Error, OSError):      # it has just ended
                pass
        return found

    def orphans(self) -> List[int]:
        """Which of all the processes that were ever seen are still there."""
        return [pid for pid, process in self.seen.items()
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]

    def _find_roles(self) -> Dict[str, psutil.Process]:
        if len(self._roles) == len(ROLES) and all(process.is_running() for process in self._roles.values()):
            return self._roles
        self._roles = {'script': self._script}
        try:
            children = self._script.children(recursive=True)
        except psutil.NoSuchProcess:
            return self._roles
        self.seen.update({child.pid: child for child in children})
        parents = {child.pid: child.ppid() for child in children}
        workers = []
        for child in children:
            if parents[child.pid] == self._script.pid:
                self._roles['keeper'] = child
            else:
                workers.append(child)
        self._tell_apart(workers)
        return self._roles

    def _tell_apart(self, workers: List[psutil.Process]) -> None:
        """By the files that they hold open: forks of one program look alike otherwise."""
        unknown: List[psutil.Process] = []
        for worker in workers:
            role = self._role_by_files(worker)
            if role is None:
                unknown.append(worker)
            else:
                self._roles[role] = worker
        if len(unknown) == 1 and {'writer', 'callback'} <= set(self._roles):
            self._roles['reader'] = unknown[0]

    def _role_by_files(self, worker: psutil.Process) -> Optional[str]:
        try:
            names = [os.readlink(entry) for entry in Path('/proc', str(worker.pid), 'fd').iterdir()]
        except OSError:
            return None
        ours = [name for name in names if name.startswith(self._folder)]
        if any(name.endswith('.tif') for name in ours):
            return 'writer'
        return 'callback' if any(name.endswith('.jsonl') for name in ours) else None


def sample_of(process: psutil.Process) -> Sample:
    """Everything about a process; raises psutil.Error or OSError when it is gone."""
    memory = rollup(process.pid)
    cpu = process.cpu_times()
    return Sample(process.pid, memory['Rss'], memory['Pss'], memory['Private_Clean'] + memory['Private_Dirty'],
                  memory['Anonymous'] + memory['Swap'], process.num_fds(), process.num_threads(),
                  cpu.user + cpu.system)


def rollup(pid: int) -> Dict[str, int]:
    """The sums over all mappings of a process, bytes, by the kernel's names."""
    found: Dict[str, int] = {}
    for line in Path('/proc', str(pid), 'smaps_rollup').read_text().splitlines()[1:]:
        name, value = line.split(':')
        found[name] = int(value.split()[0]) * 1024
    return found

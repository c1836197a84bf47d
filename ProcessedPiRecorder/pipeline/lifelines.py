"""The script's ends of the lifelines: whether processes that are not its own children still live."""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from typing import Dict, Iterable, Tuple

__all__ = ['Lifelines']

log = logging.getLogger(__name__)


class Lifelines:
    """Reading ends of pipes that only one process each holds open for writing, by that process's role."""

    def __init__(self) -> None:
        self._ends: Dict[str, Tuple[int, int]] = {}     # pid, descriptor

    def add(self, role: str, pid: int, fd: int) -> None:
        """A process was born; it takes the place of an earlier one of the same role."""
        before = self._ends.get(role)
        self._ends[role] = (pid, fd)
        if before is not None:
            os.close(before[1])

    def wait(self, roles: Iterable[str], timeout: float) -> bool:
        """Sleep until all of these are gone (True), or the timeout is over."""
        deadline = time.monotonic() + timeout
        left = {self._ends[role][1] for role in roles if role in self._ends}
        while left:
            poll = select.poll()
            for fd in left:
                poll.register(fd, 0)       # only for the other end's being closed, which is always told
            ended = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ended:
                return False
            left -= {fd for fd, _ in ended}
        return True

    def kill(self, role: str) -> None:
        """End this process, if it is still there, and wait until it is gone."""
        if self.wait([role], 0):
            return                         # its number may by now be another process's
        log.warning('the %s process does not end in time and is killed', role)
        kill = os.killpg if role == 'callback' else os.kill      # it leads a group of what it has started
        try:
            kill(self._ends[role][0], signal.SIGKILL)
        except ProcessLookupError:
            return                         # something that it had started holds its end
        self.wait([role], 10)

    def close(self) -> None:
        """Let go of all. Harmless twice."""
        while self._ends:
            os.close(self._ends.popitem()[1][1])

"""What a callback has started and left behind: the keeper inherits it, buries what has ended, and ends the rest.

Under '3Proc' the callback leads a process group, which is ended with it. Under '2Proc' what it forks stands in the
recorder's own group, and its parent is the writer. Whatever has moved to a group or session of its own, as daemons do,
is meant to stay, and stays.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Collection, List

__all__ = ['adopt_orphans', 'bury_orphans', 'end_orphans']

_PR_SET_CHILD_SUBREAPER = 36
PATIENCE_S = 2.0          # something that hangs in the kernel, or forks without end, is not ours to outlast


def adopt_orphans() -> None:
    """From now on this process is the parent of its descendants whose own parent has died."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def bury_orphans(own: Collection[int]) -> None:
    """Take the exit codes of adopted processes that have ended, or each would keep its number until the recording ends.

    own: this process's own children, which are somebody else's to bury.
    """
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:          # there is no child at all
            return
        if ended is None or ended.si_pid in own:
            return                         # its own death wakes us once more; what lies behind it is buried then
        os.waitpid(ended.si_pid, os.WNOHANG)


def end_orphans() -> None:
    """Kill this process's children that are in its own group, and theirs. Call it when its own children are buried."""
    deadline = time.monotonic() + PATIENCE_S
    orphans = _children_in_group()
    while orphans and time.monotonic() < deadline:
        for pid in orphans:
            try:
                os.kill(pid, signal.SIGKILL)
            except PermissionError:        # it runs as another user (sudo)
                pass
        time.sleep(0.005)                  # waitpid has no timeout
        for pid in orphans:
            os.waitpid(pid, os.WNOHANG)    # its own children are ours from then on
        orphans = _children_in_group()


def _children_in_group() -> List[int]:
    found = []
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            # pid (name, which may hold anything) state parent group …
            state, parent, group = path.read_text(errors='replace').rpartition(')')[2].split()[:3]
        except (OSError, ValueError):      # it has ended meanwhile
            continue
        if int(parent) == os.getpid() and (int(group) == os.getpgrp() or state == 'Z'):
            found.append(int(path.parent.name))
    return found

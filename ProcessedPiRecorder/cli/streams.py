"""Standard streams for a command that was started without them (``ppr record ... 2>&-``, some daemons)."""

from __future__ import annotations

import os
import sys

__all__ = ['provide_standard_streams']

STREAMS = (('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w'))


def provide_standard_streams() -> None:
    """Put /dev/null where a standard stream is closed, for this process and those that it starts.

    Else ``sys.stderr`` would be None. Worse, the next file to be opened, such as the recording, would get the
    stream's number, and what libraries written in C print would land in it.
    """
    for number, (name, mode) in enumerate(STREAMS):
        if not _is_open(number):
            # The lowest free number is given, and that is this one: all below have been seen to by now.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            if getattr(sys, name) is None:
                setattr(sys, name, os.fdopen(number, mode, encoding='utf-8', errors='replace', closefd=False))
        elif getattr(sys, name) is None:
            # Its number went to another file before we came here.
            setattr(sys, name, open(os.devnull, mode, encoding='utf-8', errors='replace'))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True

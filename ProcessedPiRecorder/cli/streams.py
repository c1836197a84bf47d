"""Standard streams for a command that was started without them, or whose reader or terminal goes away meanwhile.

``ppr record ... 2>&-`` and some daemons close them; ``| head -1``, a Ctrl-C that ends ``| tee`` first, and a lost ssh
connection end them in the middle.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import contextmanager, redirect_stdout
from typing import Any, Iterator, List, Optional, TextIO

__all__ = ['output_failure', 'provide_standard_streams', 'stdout_of_our_own']

STREAMS = (('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w'))
GONE = (errno.EPIPE, errno.EIO)     # the reader of a pipe, a terminal: nobody is left who misses anything
STDOUT, STDERR = 1, 2

_outputs: List[_LastingOutput] = []


def provide_standard_streams() -> None:
    """Put /dev/null where a standard stream is closed, for this process and those that it starts.

    Else ``sys.stderr`` would be None. Worse, the next file to be opened, such as the recording, would get the
    stream's number, and what libraries written in C print would land in it.

    Output that cannot be written any more is thrown away from then on: no recording may end for that, nor may any
    thread. Characters that the output's encoding does not have are escaped.
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
    for name in ('stdout', 'stderr'):
        stream = getattr(sys, name)
        # Whoever has put something else there (a test, a program that embeds us) knows what for.
        if stream is getattr(sys, f'__{name}__') and isinstance(stream, io.TextIOWrapper):
            stream.flush()
            setattr(sys, name, _lasting(stream.fileno(), stream))


def output_failure() -> Optional[OSError]:
    """What kept standard output from being written, if somebody is there who misses it: a full disk, say."""
    for output in _outputs:
        if output.number == STDOUT and output.failure is not None and output.failure.errno not in GONE:
            return output.failure
    return None


@contextmanager
def stdout_of_our_own(wanted: bool) -> Iterator[TextIO]:
    """Standard output; if ``wanted``, for nobody but us: what others print meanwhile goes to standard error.

    So what a callback prints, or a library written in C, does not get into our JSON. Processes that are started
    meanwhile inherit it so.
    """
    ours = sys.stdout
    if not wanted or not _is_at(ours, STDOUT):
        yield ours
        return
    ours.flush()
    kept = os.dup(STDOUT)
    os.dup2(STDERR, STDOUT)
    try:
        with redirect_stdout(sys.stderr):
            # The number is another one now, and the file the same.
            stream = _lasting(kept, ours, STDOUT)
            yield stream
            stream.flush()
    finally:
        os.dup2(kept, STDOUT)
        os.close(kept)


def _lasting(fd: int, like: TextIO, number: Optional[int] = None) -> io.TextIOWrapper:
    output = _LastingOutput(fd, number)
    _outputs.append(output)
    return io.TextIOWrapper(io.BufferedWriter(output), encoding=like.encoding, errors='backslashreplace',
                            line_buffering=True)


class _LastingOutput(io.FileIO):
    """An output to which writing never fails. failure: the first error, after which all is thrown away.

    number: of the standard stream that it stands for.
    """

    def __init__(self, fd: int, number: Optional[int] = None) -> None:
        super().__init__(fd, 'w', closefd=False)
        self.number = fd if number is None else number
        self.failure: Optional[OSError] = None

    def write(self, data: Any) -> int:
        if self.failure is None:
            try:
                return super().write(data)
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes


def _is_at(stream: Any, number: int) -> bool:
    try:
        return int(stream.fileno()) == number
    except (OSError, AttributeError):          # a stream of somebody's own, without a file behind it
        return False


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True

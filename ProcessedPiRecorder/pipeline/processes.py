"""Starting, ending and burying processes, by fork or by spawn.

Children are plain forks (or fresh interpreters) with an entry of our own: they never re-import the user's
``__main__``, never run its exit handlers, and end by ``os._exit``.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Optional

from ..errors import SettingsError, signal_name
from .channel import Channel, ChannelLogHandler, RemoteError
from .rank import step_back

__all__ = ['Child', 'ending_of', 'exit_text', 'start_child']

log = logging.getLogger(__name__)

#: What can hit a whole process group or control group at once: Ctrl-C, a closed terminal, `systemctl stop`.
#: The user's script answers it for everyone; a child that died of it would cost frames.
GROUP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Where a callback can have been: '3Proc', '2Proc', and the blocks of a recording that is processed again.
CALLING = ('callback', 'writer', 'block')


@dataclass
class Child:
    """A running child, as its parent sees it."""

    role: str
    pid: int
    channel: Channel
    generation: int = 0
    exitcode: Optional[int] = None       # negative: the signal that killed it
    said_goodbye: bool = False           # it has ended its work, and said so
    left: bool = False                   # a callback's process: the callback itself has been left
    crash: Optional[RemoteError] = None  # the exception that it ended with
    verdict: str = ''                    # why we have killed it

    def buried(self) -> bool:
        """Whether it has ended; looks without waiting, and takes its exit code."""
        if self.exitcode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:     # somebody else waited for it (a SIGCHLD handler of the user's)
                pid, status = self.pid, 0
            if pid == self.pid:
                self.exitcode = _exitcode(status)
        return self.exitcode is not None

    def bury(self, timeout: float) -> bool:
        """Wait for its end, at most ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        pause = 0.001
        while not self.buried():
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)             # waitpid has no timeout; only ever used for the last moments
            pause = min(pause * 2, 0.05)
        return True

    def kill_group(self) -> None:
        """End the processes that a child with a group of its own has left behind."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def kill(self) -> None:
        """SIGKILL, and wait until it is really gone."""
        if self.exitcode is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            if not self.bury(10):
                log.error('the %s process (%d) does not die: it hangs in the kernel', self.role, self.pid)


def _exitcode(status: int) -> int:
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def exit_text(exitcode: Optional[int]) -> str:
    """An exit code in words: 'exit code 3', 'killed by SIGSEGV'."""
    if exitcode is None:
        return 'unknown end'
    if exitcode < 0:
        return f'killed by {signal_name(exitcode) or f"signal {-exitcode}"}'
    return f'exit code {exitcode}'


def ending_of(child: Child) -> str:
    """How a child has ended, in words."""
    return child.crash.message if child.crash is not None else child.verdict or exit_text(child.exitcode)


def start_child(role: str, entry: Callable[..., Any], plan: Any, method: str, *, keep_fds: Iterable[int] = (),
                close_fds: Iterable[int] = (), arguments: Any = None, generation: int = 0, lifeline: int = -1) -> Child:
    """Start ``entry(channel, plan, arguments)`` in a process of its own.

    Args:
        plan: under fork inherited as it is; under spawn carried by cloudpickle.
        keep_fds: descriptors that ``arguments`` names; the caller closes its own copies afterwards.
        close_fds: descriptors that a forked child must not hold, or ends of links would never be seen.
        lifeline: its end of the pipe that tells that it lives; one of ``keep_fds``.
    """
    ours, theirs = Channel.pair()
    if method == 'fork':
        pid = _fork(role, entry, theirs, plan, arguments, [ours.fileno(), *close_fds], lifeline)
    else:
        pid = _spawn(role, entry, theirs, keep_fds, lifeline)
        try:
            _boot(ours, entry, plan, arguments)
        except Exception as error:
            Child(role, pid, ours).kill()
            ours.close()
            theirs.close()
            raise SettingsError(f'the callback or the camera cannot be carried to its process: {type(error).__name__}: '
                                f"{error}; open files, sockets and models in __enter__, or use start_method='fork'"
                                ) from error
    theirs.close()
    return Child(role, pid, ours, generation)


def _fork(role: str, entry: Callable[..., Any], channel: Channel, plan: Any, arguments: Any,
          close_fds: Iterable[int], lifeline: int) -> int:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()                # or the child would print it once more
        except (AttributeError, OSError, ValueError):
            pass
    with warnings.catch_warnings():
        # Python >= 3.12 warns when a process with threads forks. The child runs only our code, which takes no
        # lock that another thread could have held: that is why the keeper is forked before anything else.
        warnings.simplefilter('ignore', DeprecationWarning)
        # No Ctrl-C may hit the child before it is ours, or a second copy of the script would run on.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
        pid = os.fork()
        if pid:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return pid
    code = 70
    try:
        gc.freeze()                       # the script's objects are not ours to finalise
        _disown()
        for fd in close_fds:
            os.close(fd)
        code = run_child(role, entry, channel, plan, arguments, lifeline)
    finally:
        os._exit(code)


def _spawn(role: str, entry: Callable[..., Any], channel: Channel, keep_fds: Iterable[int], lifeline: int) -> int:
    command = [sys.executable, *subprocess._args_from_interpreter_flags(),    # type: ignore[attr-defined]
               '-c', f'from {__name__} import spawned; spawned({role!r}, {channel.fileno()}, {lifeline})']
    environment = dict(os.environ)
    # The package may be found only because the script changed sys.path.
    environment['PYTHONPATH'] = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(command, pass_fds=[channel.fileno(), *keep_fds], env=environment)
    process.returncode = 0                # we wait for it ourselves; this keeps Popen from doing so
    return process.pid


def _boot(channel: Channel, entry: Callable[..., Any], plan: Any, arguments: Any) -> None:
    import cloudpickle
    place = (entry.__module__, entry.__qualname__, os.getcwd(), list(sys.path), arguments)
    channel.send('boot', place)
    channel.send('plan', plan, dumps=cloudpickle.dumps)


def spawned(role: str, fd: int, lifeline: int) -> None:
    """Where a spawned child begins: takes its orders from the channel at ``fd``."""
    channel = Channel.from_fd(fd)
    code = 70
    try:
        boot = channel.receive()
        if boot is not None:
            module, name, folder, path, arguments = boot[1]
            sys.path[:] = path
            try:
                os.chdir(folder)
            except OSError:
                pass                      # all our own paths are absolute
            message = channel.receive()
            if message is not None:
                entry = getattr(importlib.import_module(module), name)
                code = run_child(role, entry, channel, message[1], arguments, lifeline)
    except BaseException as error:
        channel.send('crashed', RemoteError.of(error, 'ProcessDiedError'))
    finally:
        os._exit(code)


def run_child(role: str, entry: Callable[..., Any], channel: Channel, plan: Any, arguments: Any,
              lifeline: int = -1) -> int:
    """A child's whole life after its birth; returns its exit code."""
    threading.current_thread().name = f'ppr-{role}'
    for number in GROUP_SIGNALS:
        # Not SIG_IGN: programs that a callback starts would inherit that.
        signal.signal(number, _ignore)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)        # the script may have chosen to die of these; we must not
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)        # a limit on the file's size is an error to tell, not our end
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if role in CALLING:
        os.register_at_fork(after_in_child=_listen_to_signals)
    if role == 'writer' and lifeline >= 0:
        _close_in_forks(lifeline)
    _log_to(channel)
    if role in ('callback', 'display'):
        step_back(waits=getattr(plan, 'unhurried', False))
    _calm_opencv()
    code = 1
    try:
        code = entry(channel, plan, arguments) or 0
        if role in CALLING:
            _end_helpers()
    except BaseException as error:
        log.debug('the %s process failed', role, exc_info=True)
        channel.send('crashed', RemoteError.of(error, 'ProcessDiedError'))
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                pass
    return code


def _listen_to_signals() -> None:
    """In forks that a callback makes: ``terminate()`` must work on them."""
    for number in GROUP_SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _close_in_forks(lifeline: int) -> None:
    """What a callback forks ('2Proc') must not pass for the writer itself. (Under '3Proc' it is ended by its group.)"""
    held = [lifeline]

    def close() -> None:
        while held:                        # once: forks of the fork have other files at that number
            os.close(held.pop())

    os.register_at_fork(after_in_child=close)


def _disown() -> None:
    """In a fresh fork: the script's exit handlers and pools are not ours to run or to end."""
    atexit._clear()
    process, util = sys.modules.get('multiprocessing.process'), sys.modules.get('multiprocessing.util')
    if process is not None and hasattr(process, '_children'):
        setattr(process, '_children', set())   # noqa: B010 (no public name)  as multiprocessing does in its own forks
    if util is not None:
        util._finalizer_registry.clear()


def _end_helpers() -> None:
    """End the pools and daemons that a callback has left running, as an ordinary interpreter does on its way out.

    We leave by os._exit, which would leave them behind. The keeper bounds how long this may take.
    """
    threading._shutdown()                  # type: ignore[attr-defined]  # concurrent.futures ends its workers in here
    atexit._run_exitfuncs()
    util = sys.modules.get('multiprocessing.util')
    if util is not None:
        util._exit_function()


def occupy_standard_descriptors() -> None:
    """Put /dev/null where stdin, stdout or stderr were closed (cron jobs, daemons).

    Otherwise the next pipe or ring would get such a number, and whatever prints would print into it.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)      # takes the lowest free number, which is this one
            os.set_inheritable(opened, True)


def _calm_opencv() -> None:
    """Keep an OpenCV that the script has already used from waiting for threads that a fork does not bring along.

    The pthreads pool of the PyPI wheels notices a fork by itself; TBB and OpenMP (Debian's builds) do not. Never
    setNumThreads(1) here: it waits for the lost threads itself (seen with OpenCV 4.6 and 4.14); 0 does not.
    """
    cv2 = sys.modules.get('cv2')
    if cv2 is not None and not re.search(r'Parallel framework:\s+pthreads', cv2.getBuildInformation()):
        cv2.setNumThreads(0)


def _ignore(number: int, frame: Any) -> None:
    """A handler that does nothing (and is reset to the default in programs that are exec'ed)."""


def _log_to(channel: Channel) -> None:
    root = logging.getLogger()
    for logger in [root, *(item for item in logging.Logger.manager.loggerDict.values()
                           if isinstance(item, logging.Logger))]:
        logger.handlers = []              # a file of the script's must not be written by two processes
        logger.propagate = True
    root.addHandler(ChannelLogHandler(channel))
    logging.captureWarnings(True)

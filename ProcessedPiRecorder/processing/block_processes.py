"""The processes beside a Dask worker that call the callback: started when needed, kept for the next block, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import Any, Dict, List, Optional, Set

from ..pipeline.processes import ending_of, start_child
from .block_process import WHERE_ARE_YOU, Order, block_process_main

__all__ = ['BlockProcess', 'BlockProcesses', 'Ended']

#: A process that nobody needs any more ends after so long; the run that it belonged to may have been killed.
IDLE_S = 60.0
MOST_WORDS = 20_000        # bytes of a process's last words
ANSWER_S = 0.2


class Ended(Exception):
    """Nobody waits for this block any more."""


class BlockProcess:
    """A process for blocks, as its worker sees it."""

    def __init__(self) -> None:
        self._last_words = os.memfd_create('ppr-last-words', os.MFD_CLOEXEC)
        try:
            self._child = start_child('block', block_process_main, None, 'spawn', keep_fds=[self._last_words],
                                      arguments=self._last_words)
        except BaseException:
            os.close(self._last_words)
            raise
        self.timer: Optional[threading.Timer] = None

    @property
    def alive(self) -> bool:
        """Whether it can take another block."""
        return self._child.exitcode is None

    def send(self, order: Order, pickled: bytes) -> bool:
        return self._child.channel.send('block', (order, pickled))

    def receive(self, timeout_s: Optional[float]) -> Any:
        """The next (kind, payload), None when it has died; raises TimeoutError."""
        channel = self._child.channel
        if not channel.wait(timeout_s) and not channel.wait(0):      # paused ourselves, perhaps: it is looked at again
            raise TimeoutError
        message = channel.receive()
        return None if message is None else message[:2]

    def ending(self) -> str:
        """Wait for its end, which has begun, and say how it was, with its last words."""
        self._child.bury(10)
        self._child.kill()                 # where it has closed the channel, and lives on
        words = self._words()
        self.kill()
        return f'{ending_of(self._child)}{words}'

    def whereabouts(self) -> str:
        """Where it is at the moment, line by line; '' where it does not answer."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child.pid, WHERE_ARE_YOU)
        time.sleep(ANSWER_S)               # it has no means to say that it has answered
        return self._words()

    def _words(self) -> str:
        size = os.fstat(self._last_words).st_size
        words = os.pread(self._last_words, min(size, MOST_WORDS), 0).decode('utf-8', 'replace')
        return f'\n{words}' if words else ''

    def kill(self) -> None:
        """End it, with what it has started."""
        self._child.kill()
        self._child.kill_group()
        self._child.channel.close()
        last_words, self._last_words = self._last_words, -1
        if last_words >= 0:
            os.close(last_words)

    def stop(self) -> None:
        """End it from another thread than the one that listens to it, which then hears of it."""
        if self._child.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.pid, signal.SIGKILL)

    def leave(self) -> None:
        """Let it end by itself, else end it."""
        self._child.channel.close()
        self._child.bury(10)
        self.kill()


class BlockProcesses:
    """Those of this worker, by the run that they belong to: a run's modules are of no use to another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: Dict[str, List[BlockProcess]] = {}
        self._at_work: Dict[BlockProcess, str] = {}
        self._ended: Set[str] = set()

    def take(self, job: str) -> BlockProcess:
        """One for this run; a new one where all are at work. Blocks for its start."""
        with self._lock:
            waiting = self._idle.get(job, [])
            process = waiting.pop() if waiting else None
        if process is None:
            process = BlockProcess()
        elif process.timer is not None:
            process.timer.cancel()
        with self._lock:
            self._at_work[process] = job
        return process

    def drop(self, process: BlockProcess) -> None:
        """End it."""
        with self._lock:
            self._at_work.pop(process, None)
        process.kill()

    def give_back(self, job: str, process: BlockProcess) -> None:
        """It can take another block."""
        process.timer = threading.Timer(IDLE_S, self._forget, (job, process))
        process.timer.daemon = True
        with self._lock:
            self._at_work.pop(process, None)
            if job not in self._ended:
                self._idle.setdefault(job, []).append(process)
                process.timer.start()
                return
        process.leave()

    def end(self, job: str) -> None:
        """End those of a run that has ended: those at work at once, idle ones in a thread."""
        with self._lock:
            self._ended.add(job)
            waiting = self._idle.pop(job, [])
            for process, its_job in self._at_work.items():
                if its_job == job:
                    process.stop()
        for process in waiting:
            assert process.timer is not None
            process.timer.cancel()
            threading.Thread(target=process.leave, name='ppr-end-process', daemon=True).start()

    def refuse_ended(self, job: str) -> None:
        """Raises Ended when nobody waits for this run any more."""
        if job in self._ended:
            raise Ended

    def _forget(self, job: str, process: BlockProcess) -> None:
        with self._lock:
            waiting = self._idle.get(job, [])
            if process not in waiting:
                return
            waiting.remove(process)
            if not waiting:
                del self._idle[job]
        process.leave()

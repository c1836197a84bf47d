"""What holds for every test: nothing may be left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Dict, Iterator, List, Set

import psutil
import pytest
from hypothesis import HealthCheck, settings

# A slow moment of a shared machine is no finding about the code under test.
settings.register_profile('shared machine', deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('shared machine')

# Where tests are started in the background (nohup, a job of a script) these are ignored, and every child inherits that.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

PATIENCE_S = 5.0
PR_SET_CHILD_SUBREAPER = 36
SHARED_MEMORY = Path('/dev/shm')


def adopt_orphans() -> None:
    """Have the kernel give orphaned grandchildren to this process, so that none can hide behind a dead parent."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def living_children() -> Dict[int, psutil.Process]:
    alive = {}
    for child in psutil.Process().children(recursive=True):
        try:
            if child.status() == psutil.STATUS_ZOMBIE:
                reap(child.pid)
            elif 'multiprocessing.resource_tracker' not in ' '.join(child.cmdline()):
                # The tracker of Python's multiprocessing lives as long as its parent does.
                alive[child.pid] = child
        except psutil.NoSuchProcess:
            pass
    return alive


def reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def recorder_threads() -> Set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith('ppr')}


def describe(child: psutil.Process) -> str:
    try:
        return f'{child.pid} ({child.name()}: {" ".join(child.cmdline())[:200]})'
    except psutil.Error:
        return f'{child.pid} (gone meanwhile)'


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Each test ends without processes and without threads of ours that were not there before."""
    children_before, threads_before = set(living_children()), recorder_threads()
    yield
    deadline = time.monotonic() + PATIENCE_S
    while True:
        children = [child for pid, child in living_children().items() if pid not in children_before]
        threads = recorder_threads() - threads_before
        if not (children or threads) or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    descriptions = [describe(child) for child in children]
    for child in children:
        child.kill()
    assert not descriptions, f'processes left behind: {descriptions}'
    assert not threads, f'threads left behind: {sorted(thread.name for thread in threads)}'


@pytest.fixture(autouse=True, scope='session')
def no_shared_memory_left() -> Iterator[None]:
    """The suite leaves no file in /dev/shm, except what some other program is using."""
    adopt_orphans()
    before = set(os.listdir(SHARED_MEMORY)) if SHARED_MEMORY.is_dir() else set()
    yield
    new = set(os.listdir(SHARED_MEMORY)) - before if SHARED_MEMORY.is_dir() else set()
    left = sorted(name for name in new if not used_elsewhere(SHARED_MEMORY / name))
    assert not left, f'left behind in {SHARED_MEMORY}: {left}'


def used_elsewhere(path: Path) -> bool:
    if not path.exists():
        return True
    for maps in _readable_maps():
        if str(path) in maps:
            return True
    return False


def _readable_maps() -> List[str]:
    texts = []
    for entry in Path('/proc').glob('[0-9]*/maps'):
        if entry.parent.name == str(os.getpid()):
            continue
        try:
            texts.append(entry.read_text())
        except OSError:
            pass
    return texts


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test stands in a folder of its own, without a display; modules ``own_…`` that it imports go with it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    modules, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith('own_'):
            del sys.modules[name]

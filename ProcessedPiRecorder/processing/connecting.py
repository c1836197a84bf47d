"""The Dask cluster that does the work: one of this machine's own, or somebody else's; and whether it can do it."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .._version import __version__
from ..errors import ClusterError, SettingsError
from ..extras import require
from ..reading.readahead import usable_cores

__all__ = ['Cluster', 'Seen', 'check_workers', 'cluster_of', 'seen']

CONNECT_S = 10.0
WORKERS_S = 10.0
START_S = 60.0
END_S = 10.0
HEAD_BYTES = 4096         # of a file, to tell it from another one of its name

NOISY = ('distributed', 'tornado', 'asyncio')
#: The process above workers of our own. Its standard input closes when we end, whatever ends us; it follows at once.
WORKERS = """
import os, shutil, signal, sys, threading
folder = sys.argv.pop(1)
def follow():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=follow, daemon=True).start()
from distributed.cli.dask_worker import main
try:
    main(args=[*sys.argv[1:], '--local-directory', folder])
finally:
    shutil.rmtree(folder, ignore_errors=True)
"""
#: In the environment of workers of our own.
QUIET = {'DASK_LOGGING__DISTRIBUTED': 'critical', 'DASK_DISTRIBUTED__LOGGING__DISTRIBUTED': 'critical'}


class Cluster(NamedTuple):
    """Where the work is done.

    client: a distributed.Client. slots: blocks that are worked on at once. where: in words. notes: to be told.
    alive: whether whoever starts workers again is there; of somebody else's cluster that is not known here.
    """

    client: Any
    slots: int
    where: str
    notes: Tuple[str, ...] = ()
    alive: Callable[[], bool] = lambda: True


@contextmanager
def cluster_of(workers: Optional[int], scheduler: Optional[str]) -> Iterator[Cluster]:
    """The cluster at ``scheduler`` ('tcp://host:8786'), or one of ``workers`` processes of this machine until the end.

    Raises MissingExtraError without Dask, SettingsError for arguments that make no sense, ClusterError where the
    cluster cannot be reached, has no workers, or its workers are of other versions.
    """
    distributed = require('distributed', 'cluster', 'processing on several workers')
    _check_arguments(workers, scheduler)
    with ExitStack() as stack:
        stack.enter_context(_logs_silenced())
        if scheduler is None:
            assert workers is not None
            cluster = stack.enter_context(_own_cluster(distributed, workers))
        else:
            cluster = stack.enter_context(_foreign_cluster(distributed, scheduler, workers or 1))
        yield cluster


def _check_arguments(workers: Optional[int], scheduler: Optional[str]) -> None:
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= 1024):
        raise SettingsError(f'workers={workers!r} is no number of processes; pass 1 to 1024 (this machine has '
                            f'{usable_cores()} cores)')
    if scheduler is not None and (not isinstance(scheduler, str) or '://' not in scheduler):
        raise SettingsError(f'scheduler={scheduler!r} is no address; pass one such as tcp://192.168.1.5:8786, as the '
                            "scheduler prints it at its start ('dask scheduler')")


# ---------------------------------------------------------------------- of our own

@contextmanager
def _own_cluster(distributed: Any, workers: int) -> Iterator[Cluster]:
    """The scheduler runs in a thread of this process, the workers below a process of Dask's that restarts them.

    Dask's own way to start them would import the user's script anew in each, and run it where it is not guarded.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix='ppr-cluster-'))
        scheduler = stack.enter_context(_own_scheduler(distributed))
        process = _start_workers(scheduler.scheduler_address, workers, folder)
        stack.callback(_end_workers, process)
        client = stack.enter_context(distributed.Client(scheduler, set_as_default=False))
        _await_workers(client, workers, START_S, f'{workers} workers on this machine did not start', process)
        yield Cluster(client, workers, f'{workers} worker{"s" * (workers > 1)} on this machine',
                      alive=lambda: process.poll() is None)


def _own_scheduler(distributed: Any) -> Any:
    try:
        # Any port: the usual one may be another's. Its pages are of no use to anybody here.
        return distributed.LocalCluster(
            n_workers=0, processes=True, host='127.0.0.1', protocol='tcp://', dashboard_address='127.0.0.1:0',
            scheduler_kwargs={'dashboard': False}, silence_logs=logging.CRITICAL)
    except (OSError, RuntimeError) as error:
        raise ClusterError(f'Dask cannot start a scheduler on this machine: {_words(error)}') from error


def _start_workers(address: str, workers: int, folder: str) -> 'subprocess.Popen[bytes]':
    command = [sys.executable, '-c', WORKERS, folder, address, '--nworkers', str(workers),
               '--nthreads', '1', '--no-dashboard', '--memory-limit', '0', '--death-timeout', '60']
    paths = os.pathsep.join(path for path in [_package_folder(), *sys.path] if path)
    # A group of its own: Ctrl-C is for the script, which then ends them all.
    return subprocess.Popen(command, env={**os.environ, **QUIET, 'PYTHONPATH': paths}, stdin=subprocess.PIPE,
                            start_new_session=True)


def _package_folder() -> str:
    return str(Path(__file__).resolve().parent.parent.parent)


def _end_workers(process: 'subprocess.Popen[bytes]') -> None:
    if process.poll() is not None:         # ended by somebody else, who left the workers behind
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:      # a worker that is just being started holds it up
        process.kill()
        with suppress(ProcessLookupError):
            # Not SIGKILL: who is left then to remove multiprocessing's semaphores ignores this one.
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
    finally:
        assert process.stdin is not None
        process.stdin.close()              # not before: it would be a second SIGTERM, which interrupts the first


# ---------------------------------------------------------------------- somebody else's

@contextmanager
def _foreign_cluster(distributed: Any, address: str, at_least: int) -> Iterator[Cluster]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        client = _connected(distributed, address)
    with client:
        notes = [str(warning.message).replace('\n', ' ') for warning in told
                 if warning.category.__name__ == 'VersionMismatchWarning']
        _await_workers(client, at_least, WORKERS_S, f'the scheduler at {address} has fewer than {at_least} workers')
        _check_pythons(client)
        yield Cluster(client, sum(client.nthreads().values()), f'the cluster at {address}', tuple(notes))


def _connected(distributed: Any, address: str) -> Any:
    try:
        with ThreadPoolExecutor(1, 'ppr-ask') as asking:       # here, a loop may be running already (Jupyter's)
            kind = asking.submit(asyncio.run, _ask_who(distributed, address)).result()
        if kind != 'Scheduler':
            raise ClusterError(f'a Dask {str(kind).lower()} answers at {address}; pass the address of its scheduler')
        return distributed.Client(address, timeout=CONNECT_S, set_as_default=False, name='ProcessedPiRecorder')
    except ClusterError:
        raise
    except Exception as error:             # asyncio's TimeoutError, Dask's own, OSError …, by version
        raise ClusterError(f'no Dask scheduler answers at {address} within {CONNECT_S:g} s ({_words(error)}); is it '
                           "running ('dask scheduler'), is this the address that it prints (not its dashboard's), and "
                           'does a firewall let this machine reach that port?') from error


async def _ask_who(distributed: Any, address: str) -> Any:
    """What kind of Dask's servers is there. A Client that finds another program waits forever, or cannot be closed."""
    async def ask() -> Any:
        arguments = distributed.Security().get_connection_args('client')
        comm = await distributed.comm.connect(address, timeout=CONNECT_S, **arguments)
        try:
            await comm.write({'op': 'identity', 'reply': True})
            return (await comm.read())['type']
        finally:
            comm.abort()
    return await asyncio.wait_for(ask(), CONNECT_S)


def _check_pythons(client: Any) -> None:
    """What is pickled by one minor version of Python cannot be relied on to be loaded by another."""
    ours = sys.version_info[:2]
    for address, about in client.get_versions()['workers'].items():
        version = str((about or {}).get('host', {}).get('python', ''))
        if version and tuple(version.split('.')[:2]) != tuple(map(str, ours)):
            raise ClusterError(f'the worker {address} runs Python {version}, and this is Python {ours[0]}.{ours[1]}: a '
                               'callback can only be sent between the same; start the workers with this one')


# ---------------------------------------------------------------------- both

def _await_workers(client: Any, count: int, seconds: float, problem: str, process: Any = None) -> None:
    try:
        client.wait_for_workers(count, timeout=seconds)
    except Exception as error:             # asyncio's TimeoutError, Dask's own, by version
        ended = process.poll() if process is not None else None
        how = f' (their process ended with code {ended})' if ended is not None else ''
        raise ClusterError(f'{problem} within {seconds:g} s{how}; start some (\'dask worker ADDRESS\'), or pass fewer '
                           f'workers ({_words(error)})') from error


class Seen(NamedTuple):
    """A file as it is seen from here: absolute path, bytes, CRC-32 of its beginning."""

    path: str
    size: int
    head: int


def seen(path: Path) -> Seen:
    """Look at a file. Raises OSError."""
    with open(path, 'rb') as file:
        return Seen(os.path.abspath(path), os.fstat(file.fileno()).st_size, zlib.crc32(file.read(HEAD_BYTES)))


def check_workers(cluster: Cluster, files: Sequence[Seen]) -> None:
    """Every worker has this package, of this version, and sees these files as they are. Raises ClusterError."""
    asked = [(file.path, HEAD_BYTES) for file in files]
    for address, answer in cluster.client.run(pickle.loads, _carried(_look_around, asked), on_error='return').items():
        if isinstance(answer, BaseException):
            raise ClusterError(f'the worker {address} cannot answer ({_words(answer)}); is it of the same versions?')
        version, problem, host, found = answer
        who = f'the worker {address} (on {host})'
        if version != __version__:
            has = 'does not have ProcessedPiRecorder' if version is None else f'has ProcessedPiRecorder {version}'
            raise ClusterError(f'{who} {has}, and {__version__} is needed there:  pip install '
                               f"'ProcessedPiRecorder[cluster]=={__version__}'  in its environment")
        if problem:
            raise ClusterError(f'{who} cannot use its ProcessedPiRecorder ({problem}); install it anew there')
        for file, known in zip(files, found):
            if isinstance(known, str):
                raise ClusterError(f'{who} cannot read {file.path} ({known}); recordings have to lie on a file system '
                                   'that all workers share (NFS, …), under the same path')
            if known != (file.size, file.head):
                raise ClusterError(f'{who} sees another file at {file.path} than this machine does ({known[0]:,} bytes '
                                   f'there, {file.size:,} here); recordings have to lie on a file system that all '
                                   'workers share')


def _carried(function: Callable[..., Any], *arguments: Any) -> bytes:
    """What runs the function when it is unpickled, also where this package is not installed."""
    import cloudpickle
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        data: bytes = cloudpickle.dumps(_Carried(function, arguments))
        return data
    finally:
        cloudpickle.unregister_pickle_by_value(module)


class _Carried:
    """Is its function's answer, once it has been pickled and unpickled."""

    def __init__(self, function: Callable[..., Any], arguments: Tuple[Any, ...]) -> None:
        self._function, self._arguments = function, arguments

    def __reduce__(self) -> Any:
        return self._function, self._arguments


def _look_around(asked: List[Tuple[str, int]]) -> Tuple[Optional[str], str, str, List[Any]]:
    """On a worker, which may have nothing of ours: this package's version and what is wrong with it, the files."""
    import importlib
    import platform
    import zlib
    version: Optional[str] = None
    problem = ''
    try:
        from ProcessedPiRecorder import __version__
        version = __version__
        # A worker that meets this only when it is sent a block is lost, and so is the next one.
        importlib.import_module('ProcessedPiRecorder.processing.worker')
    except Exception as error:
        problem = f'{type(error).__name__}: {error}'
    found: List[Any] = []
    for path, head in asked:
        try:
            with open(path, 'rb') as file:
                start = file.read(head)
                found.append((file.seek(0, 2), zlib.crc32(start)))
        except OSError as error:
            found.append(error.strerror or str(error))
    return version, problem, platform.node(), found


@contextmanager
def _logs_silenced() -> Iterator[None]:
    """What Dask has to say of lost connections is told by ClusterError where it matters."""
    # Dask gives its loggers levels of their own.
    names = [name for name in logging.root.manager.loggerDict if name.partition('.')[0] in NOISY]
    loggers = [logging.getLogger(name) for name in {*names, *NOISY}]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _words(error: BaseException) -> str:
    return f'{type(error).__name__}: {error}'[:300].rstrip(': ')

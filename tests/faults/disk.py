"""What a disk can do to a recording: run full, fail, crawl, hang, change under it, or go away.

Full disks, unmounted ones and failed ones are real, small file systems where root may mount them. Errors at a certain
call are injected in front of the system: the call is not made, and fails.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, Iterator, Optional

from tests.disk_kit import CannotMount, small_ext4, small_tmpfs
from tests.faults.cameras import process_of
from tests.faults.outcome import CannotBeMade, Outcome
from tests.faults.registry import Expect, fault
from tests.faults.trial import PACED, SHORT, Trial, seconds

BROKEN = Expect('RecordingFileError', 'no')
MAYBE = Expect(('', 'RecordingFileError'), ('yes', 'no', '-'))
ENDLESS: Dict[str, Any] = {'pace': False, 'frames': 20_000}
LARGE: Dict[str, Any] = {'x_resolution': 240, 'y_resolution': 160, 'tif_compression': 0 if SHORT else 1}
FS_IOC_SHUTDOWN = 0x8004587D
NO_FLUSH = 2                      # what is not on the disk yet never gets there


@contextlib.contextmanager
def disk(made: ContextManager[Path]) -> Iterator[Path]:
    try:
        with made as place:
            (place / 'data').mkdir()
            yield place / 'data'
    except CannotMount as error:
        raise CannotBeMade(str(error)) from None


def trial_on(place: Path, folder: Path, rng: random.Random, **options: Any) -> Trial:
    """A recording on a disk of its own; the witness stays where the campaign looks for it."""
    trial = Trial(place, rng, **options)
    trial.witness = folder.parent / '.witness'
    return trial


def record_on(place: Path, folder: Path, rng: random.Random, act: Callable[[Any], None] = lambda recorder: None,
              **options: Any) -> Outcome:
    return trial_on(place, folder, rng, **options).run(act).judged()


def after(pages: int, recorder: Any) -> None:
    """Wait until so many pages are written, or the recording has ended."""
    while recorder.recording and recorder.status().written < pages:
        time.sleep(0.005)


# ---------------------------------------------------------------- full

def small_disk(folder: Path, rng: random.Random) -> ContextManager[Path]:
    if rng.random() < 0.3 and not SHORT:
        return small_ext4(folder, rng.randint(12, 24))
    return small_tmpfs(folder, rng.uniform(2, 4) if SHORT else rng.uniform(3, 16))


@fault('ENOSPC', group='disk', expects=BROKEN)
def full(folder: Path, rng: random.Random) -> Outcome:
    with disk(small_disk(folder, rng)) as place:
        return record_on(place, folder, rng, camera=ENDLESS, disk_reserve_mb=0, **LARGE)


@fault('ENOSPC while others fill the disk too', group='disk', expects=BROKEN, short=False)
def full_with_others(folder: Path, rng: random.Random) -> Outcome:
    def fill(recorder: Any) -> None:
        with contextlib.suppress(OSError), open(place.parent / 'others', 'wb', buffering=0) as file:
            while recorder.recording:
                file.write(bytes(rng.randrange(1000, 200_000)))
                time.sleep(0.002)
    with disk(small_disk(folder, rng)) as place:
        return record_on(place, folder, rng, fill, camera=ENDLESS, disk_reserve_mb=0, **LARGE)


@fault('disk nearly full', group='disk', expects=Expect('', 'yes'))
def nearly_full(folder: Path, rng: random.Random) -> Outcome:
    """The recording ends in time, complete by its own right, and the reserve is not touched."""
    reserve = rng.uniform(1.0, 3.0)
    with disk(small_tmpfs(folder, rng.uniform(16, 30))) as place:
        # A second of frames must fit beside the reserve, or it is refused at once.
        trial = trial_on(place, folder, rng, camera=ENDLESS, disk_reserve_mb=reserve, ring_frames=16,
                         **{**LARGE, 'framerate': 60}).run()
        outcome = trial.judged()
        free = shutil.disk_usage(place).free
        if trial.report is None or trial.report.stopped != 'disk nearly full':
            outcome.ledger_disagrees.append(f'ended by {trial.report and trial.report.stopped!r}')
        if free < reserve * 1e6:
            outcome.ledger_disagrees.append(f'{free} bytes are free, {reserve} MB were to stay so')
        return outcome


@fault('quota used up (EDQUOT)', group='disk', expects=BROKEN, short=False)
def quota(folder: Path, rng: random.Random) -> Outcome:
    """No figure tells of it beforehand."""
    return injected(folder, rng, 'pwritev', errno.EDQUOT, for_good=True, at=rng.randrange(4, 60))


@fault('RLIMIT_FSIZE', group='disk', expects=BROKEN)
def file_size_limit(folder: Path, rng: random.Random) -> Outcome:
    """The ring is a file to the system, too: it must be smaller than the limit."""
    limit = rng.randint(3_000_000, 6_000_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        return record_on(folder, folder, rng, camera=ENDLESS, ring_frames=8, split_frames=0, **LARGE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@fault('the log and the results have no room', group='disk', expects=Expect('CallbackError', 'yes'))
def others_full(folder: Path, rng: random.Random) -> Outcome:
    """The recording does not depend on them: results are lost beside it, and said so."""
    code = errno.ENOSPC
    with Injection(folder, 'pwrite', 0, code, for_good=True, suffix='.jsonl'):
        return record_on(folder, folder, rng, callback=put_one, cb_type='3Proc', start_method=None)


def put_one(buffer: Any, cb_queue: Any) -> None:
    cb_queue.put({'index': buffer[-1].index})


# ---------------------------------------------------------------- failing calls

class Injection:
    """One call of the system's fails in the recorder's processes, the n-th for the recording's files.

    code: the errno; 0: the call succeeds in part only. pause_s: it takes so long instead. fired: whether it has.
    """

    def __init__(self, folder: Path, name: str, at: int, code: int = 0, *, for_good: bool = False,
                 suffix: str = '.tif', pause_s: float = 0.0) -> None:
        self.folder, self.name, self.at, self.code, self.for_good = folder, name, at, code, for_good
        self.suffix, self.pause_s = suffix, pause_s
        self.real = getattr(os, name)
        self.script = os.getpid()
        self.count = 0
        self._told = folder.parent / 'fired'
        self._lock = threading.Lock()

    def __enter__(self) -> 'Injection':
        setattr(os, self.name, self.call)
        return self

    def __exit__(self, *exception: object) -> None:
        setattr(os, self.name, self.real)

    @property
    def fired(self) -> bool:
        return self._told.exists()

    def call(self, fd: int, *arguments: Any) -> Any:
        if os.getpid() == self.script or not self._concerns(fd):
            return self.real(fd, *arguments)
        with self._lock:
            number, self.count = self.count, self.count + 1
        if number < self.at or (number > self.at and not self.for_good):
            return self.real(fd, *arguments)
        self._told.touch()
        if self.pause_s:
            time.sleep(self.pause_s)
        elif self.code:
            if self.name == 'close':
                self.real(fd)
            raise OSError(self.code, os.strerror(self.code))
        elif self.name == 'pwritev':
            return self._in_part(fd, *arguments)
        return self.real(fd, *arguments)

    def _in_part(self, fd: int, buffers: Any, offset: int) -> int:
        data = b''.join(bytes(buffer) for buffer in buffers)
        return int(self.real(fd, [data[:max(1, len(data) // 3)]], offset))

    def _concerns(self, fd: int) -> bool:
        try:
            if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH:
                return False               # no file system hears of it
            path = os.readlink(f'/proc/self/fd/{fd}')
        except OSError:
            return False
        return path.startswith(f'{self.folder}{os.sep}') and path.endswith(self.suffix)


def injected(folder: Path, rng: random.Random, name: str, code: int, *, for_good: bool, at: Optional[int] = None,
             must_end: bool = True, **settings: Any) -> Outcome:
    at = rng.randrange(0, 25) if at is None else at
    with Injection(folder, name, at, code, for_good=for_good) as injection:
        outcome = record_on(folder, folder, rng, start_method=None,
                            **{'camera': {**PACED, 'frames': 60}, 'sync_interval': 0.05, 'framerate': 100, **settings})
    outcome.notes = f'{name} call {at}, {os.strerror(code) if code else "odd"} · {outcome.notes}'
    if must_end and injection.fired != bool(outcome.error) and outcome.complete != 'yes':
        outcome.ledger_disagrees.append(f'the call failed: {injection.fired}, and what surfaced: {outcome.error!r}')
    return outcome


@fault('EIO when writing', group='disk', expects=MAYBE)
def write_fails(folder: Path, rng: random.Random) -> Outcome:
    return injected(folder, rng, 'pwritev', errno.EIO, for_good=False)


@fault('EIO when writing, for good', group='disk', expects=MAYBE)
def write_fails_for_good(folder: Path, rng: random.Random) -> Outcome:
    return injected(folder, rng, 'pwritev', errno.EIO, for_good=True)


@fault('EIO when syncing', group='disk', expects=MAYBE)
def sync_fails(folder: Path, rng: random.Random) -> Outcome:
    """Never taken for a success later on."""
    return injected(folder, rng, 'fdatasync', errno.EIO, for_good=False, at=rng.randrange(0, 8))


@fault('EIO when closing', group='disk', expects=Expect('', 'yes'), short=False)
def close_fails(folder: Path, rng: random.Random) -> Outcome:
    """Everything was synced before: nothing is lost by it."""
    return injected(folder, rng, 'close', errno.EIO, for_good=True, at=0, must_end=False)


@fault('short writes', group='disk', expects=Expect('', 'yes'), short=False)
def short_writes(folder: Path, rng: random.Random) -> Outcome:
    return injected(folder, rng, 'pwritev', 0, for_good=True, at=0, must_end=False)


@fault('signals in the middle of writes (EINTR)', group='disk', expects=Expect('', 'yes'), short=False)
def signals(folder: Path, rng: random.Random) -> Outcome:
    def shower(recorder: Any) -> None:
        writer = process_of('writer', recorder)
        while recorder.recording and writer is not None:
            with contextlib.suppress(Exception):     # it ends in this very moment
                writer.send_signal(rng.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP)))
            time.sleep(rng.uniform(0.0005, 0.005))
    return record_on(folder, folder, rng, shower, camera={**PACED, 'frames': 60})


# ---------------------------------------------------------------- slow

@fault('a sync takes seconds', group='disk', expects=Expect('', 'yes'), short=False)
def slow_sync(folder: Path, rng: random.Random) -> Outcome:
    """The kernel takes the pages meanwhile; nothing waits for the sync."""
    with Injection(folder, 'fdatasync', 1, pause_s=seconds(rng, 0.7, 3.0)):
        return record_on(folder, folder, rng, camera={**PACED, 'frames': 80}, start_method=None, sync_interval=0.1,
                         split_frames=0)


@fault('writes take half a second', group='disk', expects=Expect('', None), short=False)
def slow_writes(folder: Path, rng: random.Random) -> Outcome:
    """The ring bridges it, or frames are lost exactly as reported."""
    with Injection(folder, 'pwritev', 6, for_good=True, pause_s=seconds(rng, 0.2, 0.5)):
        return record_on(folder, folder, rng, camera=PACED, start_method=None, framerate=100, split_frames=0,
                         rec_length=seconds(rng, 0.8, 2.0), ring_frames=rng.choice((8, 300)))


@fault('a write that never returns', group='disk', expects=Expect(('ProcessDiedError', 'RecordingFileError'), 'no'),
       limit_s=90, short=False)
def hangs(folder: Path, rng: random.Random) -> Outcome:
    """What it has taken stays; the end comes in bounded time (here: a shortened one), and says so."""
    from ProcessedPiRecorder import heir
    from ProcessedPiRecorder.pipeline import keeper, plan
    for module in (heir, keeper, plan):
        module.FINISH_TIMEOUT_S = 1.0      # type: ignore[attr-defined]
    with Injection(folder, 'pwritev', rng.randrange(6, 20), for_good=True, pause_s=600.0):
        return record_on(folder, folder, rng, camera=PACED, start_method=None, framerate=100, split_frames=0,
                         sync_interval=0.05, rec_length=0.8, cb_timeout=0.5, cb_start_timeout=0.5)


# ---------------------------------------------------------------- gone

def moved_away(folder: Path, rng: random.Random, take: Callable[[], None], place: Path, **options: Any) -> Trial:
    def act(recorder: Any) -> None:
        after(rng.randint(3, 20), recorder)
        take()
        time.sleep(rng.uniform(0.05, 0.3))
        recorder.stopVid()
    return trial_on(place, folder, rng, camera=PACED, framerate=100, split_frames=0, **options).run(act)


@fault('folder renamed', group='disk', expects=BROKEN)
def renamed(folder: Path, rng: random.Random) -> Outcome:
    """The recording goes along, and is told where it is."""
    before, now = folder / 'before', folder / 'now'
    before.mkdir()
    trial = moved_away(folder, rng, lambda: before.rename(now), before)
    trial.path = now / trial.path.name
    outcome = trial.judged()
    # The file itself came to a clean end: its own report says so, and is right.
    outcome.ledger_disagrees = [text for text in outcome.ledger_disagrees if 'the file says' not in text]
    return outcome


@fault('folder deleted', group='disk', expects=BROKEN, short=False)
def deleted(folder: Path, rng: random.Random) -> Outcome:
    place = folder / 'place'
    place.mkdir()
    trial = moved_away(folder, rng, lambda: shutil.rmtree(place), place)
    place.mkdir()
    trial.witness = folder / 'none'        # what had been synced was deleted on purpose
    outcome = trial.judged()
    return outcome


@fault('vanished mount', group='disk', expects=BROKEN)
def vanished(folder: Path, rng: random.Random) -> Outcome:
    """Unmounted while it is in use; when it is mounted again, the recording is there, finished."""
    with disk(small_ext4(folder, 30)) as place:
        point = place.parent

        def unmount() -> None:
            subprocess.run(['umount', '-l', str(point)], check=True, timeout=30)
        trial = moved_away(folder, rng, unmount, place, disk_reserve_mb=1)
        if trial.report is not None and (trial.report.written or trial.report.files):
            raise AssertionError(f'{trial.report.written} pages cannot be there')
        return judged_when_mounted_again(trial, folder, point)


@fault('disk pulled out', group='disk', expects=BROKEN)
def pulled(folder: Path, rng: random.Random) -> Outcome:
    """Every call fails from then on, and what was not synced is gone for good.

    Only syncs that had ended before count: one that the kernel has in work may report success and be lost all the same.
    """
    syncs = folder.parent / '.witness' / 'syncs'
    known = 0
    with disk(small_ext4(folder, 30)) as place:
        point = place.parent

        def pull() -> None:
            nonlocal known
            fd = os.open(point, os.O_RDONLY)
            try:
                known = syncs.stat().st_size
                fcntl.ioctl(fd, FS_IOC_SHUTDOWN, struct.pack('I', NO_FLUSH))
            except OSError as error:
                raise CannotBeMade(f'this kernel does not shut a file system down: {error}') from None
            finally:
                os.close(fd)
        trial = moved_away(folder, rng, pull, place, disk_reserve_mb=1)
        os.truncate(syncs, known)
        subprocess.run(['umount', str(point)], check=True, timeout=30)
        return judged_when_mounted_again(trial, folder, point)


@fault('remounted read-only', group='disk', expects=BROKEN)
def read_only(folder: Path, rng: random.Random) -> Outcome:
    """As the kernel does it by itself when the file system has an error."""
    with disk(small_ext4(folder, 30)) as place:
        point = place.parent
        subprocess.run(['mount', '-o', 'remount,errors=remount-ro', str(point)], check=True, timeout=30)
        device = os.path.basename(os.path.realpath(f'/sys/dev/block/{device_number(point)}'))
        switch = Path(f'/sys/fs/ext4/{device}/trigger_fs_error')
        if not switch.exists():
            raise CannotBeMade(f'there is no {switch}')
        trial = moved_away(folder, rng, lambda: switch.write_text('on purpose') and None, place, disk_reserve_mb=1)
        return trial.judged()


def judged_when_mounted_again(trial: Trial, folder: Path, point: Path) -> Outcome:
    """The pages against what the file then says; the verdict is what the script was told when it had gone."""
    mount_again(folder, point)
    told, trial.report = trial.report, None
    outcome = trial.judged()
    outcome.complete = told.complete if told is not None else '-'
    return outcome


def device_number(point: Path) -> str:
    device = os.stat(point).st_dev
    return f'{os.major(device)}:{os.minor(device)}'


def mount_again(folder: Path, point: Path) -> None:
    """Once nobody holds it any more, as the next morning."""
    deadline = time.monotonic() + 20
    image = str(folder / 'image')
    while image in subprocess.run(['losetup', '-a'], capture_output=True, text=True, timeout=30).stdout:
        if time.monotonic() > deadline:
            raise AssertionError('somebody still holds the unmounted disk')
        time.sleep(0.05)
    subprocess.run(['mount', '-o', 'loop', image, str(point)], check=True, timeout=30)

"""Hidden folders in which something is made before it gets its name, each held by a lock while its process lives.

So what a killed process has left is known as such, and goes with the next one to the same target; and two of them do
not write over each other.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path

__all__ = ['LocksMissing', 'claim_folder', 'release_folder']

LOCK = '.lock'                 # a file: network file systems lock files only, and only such as are open for writing
IN_USE = (errno.EBUSY, errno.ENOENT)      # NFS keeps what is open under a name of its own until it is closed


class LocksMissing(OSError):
    """A folder is there already, and its file system has no locks that would tell whether it is in use."""


def claim_folder(folder: Path) -> int:
    """Make the folder, or take over what a killed process has left, and empty it; returns what holds it.

    Raises BlockingIOError where another process holds it, NotADirectoryError where something else (also a link) has
    its name, LocksMissing, and OSError.
    """
    while True:
        made = _made(folder)
        if not made and (folder.is_symlink() or not folder.is_dir()):
            if not os.path.lexists(folder):
                continue
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:              # whose it was has finished at this moment
            continue
        try:
            if _locked(lock, folder, made):
                _clear(folder)
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def release_folder(folder: Path, lock: int) -> None:
    """Remove the folder and all that is in it, and let go of it. Of two errors the first is raised."""
    try:
        _clear(folder)
        (folder / LOCK).unlink(missing_ok=True)
        _remove_if_empty(folder)
    finally:
        os.close(lock)


def _made(folder: Path) -> bool:
    try:
        os.mkdir(folder)
    except FileExistsError:
        return False
    return True


def _locked(lock: int, folder: Path, made: bool) -> bool:
    """Take the lock; False where its file has gone meanwhile, with the process whose it was."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:                   # network and FUSE file systems without locks
        if not made:
            raise LocksMissing(error.errno, error.strerror, str(folder)) from error
    try:
        return os.path.samestat(os.fstat(lock), os.stat(folder / LOCK))
    except FileNotFoundError:
        return False


def _clear(folder: Path) -> None:
    for entry in list(os.scandir(folder)):
        if entry.name == LOCK:
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
        except OSError as error:
            if error.errno not in IN_USE:
                raise


def _remove_if_empty(folder: Path) -> None:
    """It is not, if the next one has come into it already."""
    try:
        os.rmdir(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise

"""Whole or not at all: files are made in a hidden folder beside their target, and take its name when they are whole.

That folder, ``.trial.mp4.part``, is held by a lock (:mod:`~..recordings.workfolder`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, List, NoReturn, Optional, Sequence, Union

from ..errors import ExportError, RecorderError
from ..reading import Recording
from ..recordings.bigtiff import refuse_if_recording, sync_folder
from ..recordings.space import room_at
from ..recordings.whole import rename_new
from ..recordings.workfolder import LocksMissing, claim_folder, release_folder
from ..settings import SUFFIXES
from ..termination import terminated_tidily, undisturbed

__all__ = ['PathLike', 'refuse_own_files', 'whole_file', 'whole_files', 'whole_folder']

PathLike = Union[str, 'os.PathLike[str]']

MARGIN_BYTES = 1 << 20
MOST_NAME_BYTES = 255
PART = '.part'
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def whole_file(target: PathLike, *, overwrite: bool = False, needs_bytes: int = 0,
               recording: Optional[Recording] = None) -> Iterator[Path]:
    """A path to write to; what is there at the end takes the target's name, whole and synced.

    The path has the target's own name, in a folder of its own beside the target, on the same file system. On any
    error, a cancelled export, Ctrl-C or SIGTERM, all of it is removed, and nothing bears the target's name that did
    not before. A symbolic link as target stays one: the file that it leads to is made, or replaced.

    Args:
        overwrite: replace an older file, at the end, when the new one is whole.
        needs_bytes: what it will take, about; 0 = unknown.
        recording: whose files must never be the target.

    Raises ExportError where the target exists (unless ``overwrite``), is a folder, belongs to ``recording``, cannot be
    made, is being made by another export; where there is no room for ``needs_bytes``, or the disk runs full meanwhile;
    RecordingFileError where a recording is to be replaced that goes on at this moment.
    """
    with whole_files([target], overwrite=overwrite, needs_bytes=needs_bytes, recording=recording) as [part]:
        yield part


@contextmanager
def whole_files(targets: Sequence[PathLike], *, overwrite: bool = False, needs_bytes: int = 0,
                recording: Optional[Recording] = None) -> Iterator[List[Path]]:
    """The same for several files of one folder that belong together: all of them take their names, or none does.

    The first one is the main one: it comes last, so that where it is, the others are.
    """
    finals = [_settled(Path(target), overwrite, recording, Path(targets[0]).name) for target in targets]
    for final in finals:
        if os.path.isdir(final):
            raise ExportError(f'{final} is a folder; name a file, such as {final / "trial"}{final.suffix}')
        if final.parent != finals[0].parent:
            raise ExportError(f'{finals[0]} and {final} belong together, and must come to be in the same folder')
    with _workshop(finals[0], needs_bytes) as folder:
        parts = [folder / final.name for final in finals]
        yield parts
        for part in parts:
            _sync(part)
        with undisturbed():
            _take_names(parts[::-1], finals[::-1], overwrite, folder)


@contextmanager
def whole_folder(target: PathLike, *, may_replace: Callable[[str], bool], overwrite: bool = False,
                 needs_bytes: int = 0, recording: Optional[Recording] = None) -> Iterator[Path]:
    """The same for a folder: made empty, filled by the caller, renamed at the end.

    With ``overwrite``, an older folder of that name goes when the new one is whole, but only if ``may_replace`` is
    true of the name of everything in it: nobody's other files go with it.
    """
    final = _settled(Path(target), overwrite, recording)
    if overwrite and os.path.lexists(final):
        _refuse_others_things(final, may_replace)
    with _workshop(final, needs_bytes) as folder:
        part = folder / final.name
        os.mkdir(part)
        yield part
        _sync_all(part)
        with undisturbed():
            _take_folder_name(part, final, may_replace if overwrite else None, folder)


def refuse_own_files(recording: Recording, target: PathLike) -> None:
    """Raises ExportError where the target is a file of the recording, by whatever name or link."""
    own = [*recording.files, recording.path, recording.results_path, _frame_log(recording)]
    for path in own:
        try:
            same = path is not None and os.path.samefile(path, target)
        except OSError:                        # one of them is not there
            continue
        if same:
            also = '' if path is None or os.path.abspath(path) == os.path.abspath(target) else f'{path}, '
            raise ExportError(f'{target} is {also}a file of the recording itself, which an export never replaces; '
                              'choose another name')


def _frame_log(recording: Recording) -> Optional[Path]:
    name = recording.settings.get('log_file')
    return recording.path.with_name(os.path.basename(name)) if isinstance(name, str) and name else None


# ---------------------------------------------------------------------- before

def _settled(target: Path, overwrite: bool, recording: Optional[Recording], main: Optional[str] = None) -> Path:
    """Where the file is to stand at last, beside ``main`` if that is another; raises ExportError where it may not."""
    if not target.name:
        raise ExportError(f'{str(target)!r} names no file; pass a path such as trial.mp4')
    if recording is not None:
        refuse_own_files(recording, target)
    if os.path.lexists(target) and not overwrite:
        why = '' if main in (None, target.name) else f', and is made beside {main}'
        raise ExportError(f'{target} exists already{why}; choose another name, or pass overwrite=True')
    final = Path(os.path.realpath(target)) if os.path.islink(target) else target
    if not os.path.isdir(final.parent):
        raise ExportError(f'{final.parent} is not a folder that exists; make it first, or choose another place')
    return final


def _refuse_others_things(folder: Path, may_replace: Callable[[str], bool]) -> None:
    if not os.path.isdir(folder):
        raise ExportError(f'{folder} is a file, and a folder is to be made; choose another name')
    others = sorted(name for name in os.listdir(folder) if not may_replace(name))
    if others:
        raise ExportError(f'{folder} holds what no such export made ({", ".join(others[:3])}'
                          f'{", …" if len(others) > 3 else ""}), and is therefore not replaced; choose another name')


def _require_room(target: Path, needs_bytes: int) -> None:
    room = room_at(target.parent)
    if room is not None and needs_bytes and room.free < needs_bytes + MARGIN_BYTES:
        asked = _as_asked(target)
        raise ExportError(f'{asked} needs about {_size(needs_bytes + MARGIN_BYTES)}, and {asked.parent} has '
                          f'{_size(room.free)} free; make room, choose another place, or export fewer frames '
                          '(start, stop, every)')


# ---------------------------------------------------------------------- meanwhile

@contextmanager
def _workshop(final: Path, needs_bytes: int) -> Iterator[Path]:
    """The hidden folder, empty but for its lock; gone at the end, with all that is still in it."""
    _require_room(final, needs_bytes)
    name = f'.{final.name}{PART}'
    if len(os.fsencode(name)) > MOST_NAME_BYTES:
        name = f'.{zlib.crc32(os.fsencode(final.name)):08x}{PART}'
    folder = final.with_name(name)
    with terminated_tidily():
        try:
            lock = _claim(folder, final)
            try:
                yield folder
            finally:
                with undisturbed():
                    release_folder(folder, lock)
        except OSError as error:
            _raise_told(final, error, needs_bytes)


def _claim(folder: Path, final: Path) -> int:
    try:
        return claim_folder(folder)
    except BlockingIOError:
        raise ExportError(f'{final} is being exported by another process; wait for it, or choose another name'
                          ) from None
    except NotADirectoryError:
        raise ExportError(f'{folder} is in the way: a folder of that name is needed meanwhile; move it') from None
    except LocksMissing as error:
        raise ExportError(f'{folder} is there: either another export to {final.name} is going on, or one was '
                          'killed; this file system has no locks that would tell. Remove the folder if none is'
                          ) from error


# ---------------------------------------------------------------------- at the end

def _take_names(parts: Sequence[Path], finals: Sequence[Path], overwrite: bool, folder: Path) -> None:
    undo: List[Callable[[], None]] = []
    try:
        for part, final in zip(parts, finals):
            undo.append(_replace(part, final, folder) if overwrite else _rename_new(part, final))
    except BaseException:
        for step in reversed(undo):
            step()
        raise
    sync_folder(finals[0])


def _rename_new(part: Path, final: Path) -> Callable[[], None]:
    """Rename without replacing what came to be there meanwhile; returns how to undo it."""
    try:
        rename_new(part, final)
    except FileExistsError:
        raise _came_to_be(final) from None
    return lambda: os.unlink(final)


def _replace(part: Path, final: Path, folder: Path) -> Callable[[], None]:
    if final.suffix.lower() in SUFFIXES and final.is_file():
        refuse_if_recording(final)             # it may have begun meanwhile, and would go on in a file without a name
    kept = folder / f'{final.name}.old'
    try:
        os.link(final, kept)
    except FileNotFoundError:
        os.replace(part, final)
        return lambda: os.unlink(final)
    except OSError:                            # no links here: a failure of the next file's could not be undone
        os.replace(part, final)
        return lambda: None
    os.replace(part, final)
    return lambda: os.replace(kept, final)


def _take_folder_name(part: Path, final: Path, may_replace: Optional[Callable[[str], bool]], folder: Path) -> None:
    """may_replace: None where nothing may be."""
    old = folder / f'{final.name}.old'
    if os.path.lexists(final):
        if may_replace is None:
            raise _came_to_be(final)
        _refuse_others_things(final, may_replace)          # once more: things may have come into it meanwhile
        os.rename(final, old)
    try:
        os.rename(part, final)
    except OSError as error:
        if old.exists():
            os.rename(old, final)
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise _came_to_be(final) from None
        raise
    sync_folder(final)


def _came_to_be(final: Path) -> ExportError:
    return ExportError(f'{final} came to be while it was exported; choose another name, or pass overwrite=True')


def _sync_all(folder: Path) -> None:
    _sync_file_system(folder)                  # in one go: one by one they would take milliseconds each
    for path in sorted(folder.rglob('*')):
        _sync(path)                            # and this tells what went wrong
    _sync(folder)


def _sync_file_system(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        ctypes.CDLL(None).syncfs(fd)
    finally:
        os.close(fd)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():     # some file systems know no fsync of a folder
            raise
    finally:
        os.close(fd)


def _raise_told(final: Path, error: OSError, needs_bytes: int) -> NoReturn:
    if isinstance(error, RecorderError):
        raise error                            # this package's own say what they have to
    final = _as_asked(final)
    place = final.parent
    if error.errno in FULL:
        room = room_at(place)
        free = f' ({_size(room.free)} free now)' if room is not None else ''
        raise ExportError(f'{place} ran full while {final.name} was written{free}; nothing is left of it. Make room'
                          f'{f" for about {_size(needs_bytes)}" if needs_bytes else ""}, choose another place, or '
                          'export fewer frames (start, stop, every)') from error
    if error.errno == errno.EFBIG:
        raise ExportError(f'{final.name} grew larger than the file system of {place} lets a file be (FAT: 4 GB); '
                          'nothing is left of it. Choose another place, or export fewer frames (start, stop, every)'
                          ) from error
    raise ExportError(f'{final} cannot be written: {error.strerror or error}; choose another place') from error


def _as_asked(final: Path) -> Path:
    """As its user knows it: what belongs to another export is made in that one's hidden folder, and goes beside it."""
    folder = final.parent
    return folder.parent / final.name if folder.name.startswith('.') and folder.suffix == PART else final


def _size(number: int) -> str:
    if number < 10**6:
        return f'{number / 1e3:,.0f} kB'
    return f'{number / 1e9:,.1f} GB' if number >= 10**9 else f'{number / 1e6:,.1f} MB'

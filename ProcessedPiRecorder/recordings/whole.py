"""Files that come to be whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Iterable, Union

from ..errors import RecordingFileError

__all__ = ['rename_new', 'write_whole']


def rename_new(source: Path, target: Path) -> None:
    """Rename a file within its file system, and never replace another one: raises FileExistsError, and OSError."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:                            # file systems without links (FAT, some networks)
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.rename(source, target)
    else:
        os.unlink(source)


def write_whole(path: Union[str, 'os.PathLike[str]'], data: bytes, what: str, *, suffix: str = '',
                besides: Iterable[Path] = ()) -> Path:
    """Write a file, made in memory, under its name only once it is whole; an older one is replaced. Returns its path.

    what: for messages, such as 'the contact sheet'. suffix: that the name has to end in; besides: files that it may
    not replace, those it was made from. Blocks until it is on the disk. Raises RecordingFileError; then there is
    nothing new, and an older file is as it was.
    """
    target = Path(os.path.realpath(path))              # a link stays one
    if suffix and target.suffix.lower() != suffix:
        raise RecordingFileError(f'{what} is a {suffix[1:].upper()}, and {str(path)!r} does not end in {suffix}; '
                                 f'pass a name such as {target.stem or "trial"}{suffix}')
    if any(target == Path(os.path.realpath(kept)) for kept in besides):
        raise RecordingFileError(f'{what} would replace {path}, which it is made from; choose another name')
    part = target.with_name(f'.{target.name}.{os.getpid()}.part')
    try:
        try:
            with open(part, 'wb') as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise RecordingFileError(f'{what} {path} cannot be written: {error.strerror}; choose another place') from error
    return Path(path)

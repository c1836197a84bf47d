"""What is written down beside a recording while it is made, so that it can be judged by more than its own word.

- :class:`WitnessCamera` writes down each sensor frame that it hands over.
- :func:`watch` writes down, in whatever process it happens, how many whole pages each completed ``fdatasync`` found
  in the file, and each memory file that is made. It counts in the bytes, and knows nothing of the writer.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Set

import numpy as np

from ProcessedPiRecorder.cameras import Stamp, SyntheticCamera

NUMBER = struct.Struct('<I')
PAGE_TEXT = re.compile(rb'\{"ppr":1,"page":\d+[^\0]*\}\0')


class WitnessCamera(SyntheticCamera):
    """A synthetic camera that writes down each frame it hands over, by the number in its pixels.

    folder: where; it must exist. change: (stamp, how many came before, number) -> what the recorder is told instead.
    """

    name = 'witness'

    def __init__(self, folder: Optional[Path] = None, change: Optional[Callable[[Stamp, int, int], Stamp]] = None,
                 **options: Any) -> None:
        super().__init__(**options)
        self.folder, self.change = folder, change
        self.handed_over = 0
        self._fd = -1

    def __getstate__(self) -> Any:
        return {**super().__getstate__(), 'folder': self.folder, 'change': self.change}

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        self.folder, self.change = state['folder'], state['change']

    def start(self) -> None:
        if self._fd < 0 and self.folder is not None:
            self._fd = os.open(self.folder / 'delivered', os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        super().start()

    def read(self, out: np.ndarray) -> Optional[Stamp]:
        stamp = super().read(out)
        if stamp is None:
            return None
        number = self.index_of(out)
        if self._fd >= 0:
            os.write(self._fd, NUMBER.pack(number))
        if self.change is not None:
            stamp = self.change(stamp, self.handed_over, number)
        self.handed_over += 1
        return stamp

    def close(self) -> None:
        super().close()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def delivered(folder: Path) -> List[int]:
    """The sensor frames that the camera handed over, in order."""
    path = folder / 'delivered'
    text = path.read_bytes() if path.exists() else b''
    return [number for number, in NUMBER.iter_unpack(text[:len(text) // NUMBER.size * NUMBER.size])]


def watch(folder: Path) -> None:
    """From now on, write down the syncs and the memory files of this process and of all that it forks."""
    log = os.open(folder / 'syncs', os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
    memory = os.open(folder / 'memory', os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
    sync, make = os.fdatasync, os.memfd_create
    seen: Dict[int, _Growing] = {}

    def fdatasync(fd: int) -> None:
        inode = os.fstat(fd).st_ino
        pages = seen.setdefault(inode, _Growing(fd)).count(fd)
        name = os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))
        sync(fd)
        os.write(log, f'{pages} {name}\n'.encode())

    def memfd_create(*arguments: Any) -> int:
        fd = make(*arguments)
        os.write(memory, f'{os.fstat(fd).st_ino}\n'.encode())
        return fd

    os.fdatasync, os.memfd_create = fdatasync, memfd_create      # type: ignore[assignment]


class _Growing:
    """Counts whole pages in a file that only grows; reads each byte about once."""

    def __init__(self, fd: int) -> None:
        self._at = 16
        self._pages = 0

    def count(self, fd: int) -> int:
        size = os.fstat(fd).st_size
        data = os.pread(fd, size - self._at, self._at) if size > self._at else b''
        end = 0
        for text in PAGE_TEXT.finditer(data):
            ifd = -(-(self._at + text.end()) // 8) * 8 - self._at
            tags = data[ifd:ifd + 8]
            if len(tags) < 8 or ifd + 16 + 20 * int.from_bytes(tags, 'little') > len(data):
                break
            self._pages += 1
            end = text.end()
        self._at += end
        return self._pages


def synced(folder: Path) -> Dict[str, int]:
    """Per name of file: how many whole pages the last completed sync had found in it."""
    found: Dict[str, int] = {}
    path = folder / 'syncs'
    for line in path.read_text().splitlines() if path.exists() else ():
        pages, _, name = line.partition(' ')
        found[name] = max(int(pages), found.get(name, 0))
    return found


def memory_files(folder: Path) -> Set[str]:
    """The inodes of all memory files that were made."""
    path = folder / 'memory'
    return set(path.read_text().split()) if path.exists() else set()

"""How much memory can still be had; and keeping what was had."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Optional, Tuple

__all__ = ['available_memory', 'keep_freed_memory']

# glibc's malloc.h; the largest threshold that it takes on 64 bits, and on 32.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MOST_MMAP_THRESHOLD = 32 << 20 if sys.maxsize > 2**32 else 512 << 10


def keep_freed_memory(size: int) -> bool:
    """Have this process keep up to ``size`` bytes of what it frees, for what it asks for next; False: it cannot.

    glibc otherwise gives large blocks back at once, and the kernel clears every page of them when they are asked for
    again. Source: mallopt(3). Only glibc has it.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, min(size, MOST_MMAP_THRESHOLD))
                                        and mallopt(M_TRIM_THRESHOLD, size))


def available_memory() -> Optional[int]:
    """Bytes that can still be had: MemAvailable, or less where a control group sets a limit. None if unknown.

    In a 32-bit process never more than 2 GB, whatever the machine has: no mapping can be larger.
    """
    address_space = sys.maxsize if sys.maxsize < 2**32 else None
    limits = (_meminfo_available(), _cgroup_v2_free(), _cgroup_v1_free(), address_space)
    found = [value for value in limits if value is not None]
    return min(found) if found else None


def _meminfo_available() -> Optional[int]:
    try:
        for line in Path('/proc/meminfo').read_text().splitlines():
            if line.startswith('MemAvailable:'):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _own_cgroup(controller: str) -> Optional[str]:
    """This process's place in the hierarchy ('' is the unified one of cgroup v2)."""
    try:
        for line in Path('/proc/self/cgroup').read_text().splitlines():
            _, controllers, path = line.split(':', 2)
            if controller in controllers.split(',') or (not controller and not controllers):
                return path
    except (OSError, ValueError):
        pass
    return None


def _limit_free(root: str, path: Optional[str], limit_name: str, usage_name: str, cache_names: Tuple[str, str]
                ) -> Optional[int]:
    """The tightest (limit - usage) from this control group up to the root, where file cache is no usage."""
    if path is None:
        return None
    tightest: Optional[int] = None
    parts = [part for part in path.split('/') if part]
    for depth in range(len(parts), -1, -1):
        folder = Path(root, *parts[:depth])
        try:
            limit, usage = int((folder / limit_name).read_text()), int((folder / usage_name).read_text())
        except (OSError, ValueError):      # 'max' is no number: no limit on this level
            continue
        free = limit - usage + min(_file_cache(folder, cache_names), usage)
        tightest = free if tightest is None else min(tightest, free)
    return None if tightest is None else max(tightest, 0)


def _file_cache(folder: Path, names: Tuple[str, str]) -> int:
    """Bytes of a control group's usage that the kernel drops as soon as the group asks for more; 0 if unknown.

    What has been read from files, or written to them, counts as used. Shared memory is not among it.
    """
    try:
        told = dict(line.split() for line in (folder / 'memory.stat').read_text().splitlines())
        return max(sum(int(told[name]) for name in names), 0)
    except (OSError, ValueError, KeyError):
        return 0


def _cgroup_v2_free() -> Optional[int]:
    return _limit_free('/sys/fs/cgroup', _own_cgroup(''), 'memory.max', 'memory.current',
                       ('inactive_file', 'active_file'))


def _cgroup_v1_free() -> Optional[int]:
    return _limit_free('/sys/fs/cgroup/memory', _own_cgroup('memory'), 'memory.limit_in_bytes',
                       'memory.usage_in_bytes', ('total_inactive_file', 'total_active_file'))

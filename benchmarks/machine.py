"""Which machine it was, and what a tree of processes takes of it. Reads /proc; Linux only."""

from __future__ import annotations

import os
import platform
import re
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

__all__ = ['Memory', 'facts', 'tree', 'tree_cpu_s', 'tree_memory', 'tree_pss']

PACKAGES = ('ProcessedPiRecorder', 'numpy', 'opencv-contrib-python', 'zlib-ng', 'tifffile', 'imagecodecs',
            'imageio-ffmpeg', 'vidgear', 'ome-writers', 'matplotlib')
TICKS_A_S = os.sysconf('SC_CLK_TCK')


class Memory(NamedTuple):
    """Bytes of a tree of processes; what several of them share counts once (PSS)."""

    pss: int
    shmem: int        # of these, shared memory: the ring's slots, mainly


def facts(folder: Optional[Path] = None) -> Dict[str, Any]:
    """The machine and the versions of what is measured, as JSON types; no names of hosts, users or paths.

    folder: where the measured files go; its file system and the kind of disk are told then.
    """
    found: Dict[str, Any] = {
        'machine': platform.machine(), 'cpu': _cpu_model(), 'cores': len(os.sched_getaffinity(0)),
        'memory_gb': round(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9, 1),
        'kernel': platform.release().partition('-')[0], 'system': _system(), 'python': platform.python_version(),
        'packages': {name: _version(name) for name in PACKAGES}, 'ffmpeg': _ffmpeg_version()}
    if folder is not None:
        found['disk'] = _disk(folder)
    return found


def _version(package: str) -> Optional[str]:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    text = Path('/proc/cpuinfo').read_text()
    for key in ('model name', 'Model', 'Hardware'):
        found = re.search(rf'^{key}\s*:\s*(.+)$', text, re.MULTILINE)
        if found:
            return found.group(1).strip()
    return platform.processor() or 'unknown'


def _system() -> str:
    try:
        text = Path('/etc/os-release').read_text()
    except OSError:
        return platform.system()
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', text, re.MULTILINE)
    return found.group(1) if found else platform.system()


def _ffmpeg_version() -> Optional[str]:
    try:
        from imageio_ffmpeg import get_ffmpeg_version
    except ImportError:
        return None
    return str(get_ffmpeg_version())


def _disk(folder: Path) -> Dict[str, Any]:
    """File system and kind of disk that a folder is on."""
    device = os.stat(folder).st_dev
    found: Dict[str, Any] = {'filesystem': 'unknown', 'free_gb': round(shutil.disk_usage(folder).free / 1e9, 1)}
    for line in Path('/proc/self/mountinfo').read_text().splitlines():
        mount, _, of_filesystem = line.partition(' - ')
        if mount.split()[2] == f'{os.major(device)}:{os.minor(device)}':
            found['filesystem'] = of_filesystem.split()[0]
    block = Path(f'/sys/dev/block/{os.major(device)}:{os.minor(device)}')
    if 'virtio' in str(block.resolve()):
        found['device'] = 'virtual'            # what it says about itself is made up
        return found
    for queue in (block / 'queue', block / '..' / 'queue'):
        if (queue / 'rotational').is_file():
            found['device'] = block.resolve().name
            found['rotational'] = (queue / 'rotational').read_text().strip() == '1'
            break
    return found


def tree(pid: int) -> List[int]:
    """The process and all that came of it and still live."""
    found = [pid]
    for parent in found:                       # grows while it is gone through
        try:
            tasks = list(Path(f'/proc/{parent}/task').iterdir())
            children = ' '.join((task / 'children').read_text() for task in tasks)
        except (FileNotFoundError, ProcessLookupError):
            continue                           # it ended meanwhile
        found.extend(int(child) for child in children.split())
    return found


def tree_cpu_s(pid: int) -> float:
    """Processor time, user and system, of the process, its children that live, and those that were waited for; seconds.

    In steps of the kernel's tick (mostly 10 ms).
    """
    ticks = 0
    for member in tree(pid):
        try:
            fields = Path(f'/proc/{member}/stat').read_text().rpartition(')')[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += sum(int(field) for field in fields[11:15])      # utime, stime, and those of buried children
    return ticks / TICKS_A_S


def tree_memory(pid: int) -> Memory:
    """What the process and its living children take, bytes."""
    pss = shmem = 0
    for member in tree(pid):
        try:
            text = Path(f'/proc/{member}/smaps_rollup').read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        sizes = {key: int(size) * 1024 for key, size in re.findall(r'^(Pss|Pss_Shmem):\s+(\d+) kB', text, re.MULTILINE)}
        pss += sizes.get('Pss', 0)
        shmem += sizes.get('Pss_Shmem', 0)
    return Memory(pss, shmem)


def tree_pss(pid: int) -> int:
    """PSS of the process and its living children, bytes."""
    return tree_memory(pid).pss

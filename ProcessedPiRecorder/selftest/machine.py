"""Facts of the machine. Whatever it does not tell is None or 'unknown'; nothing here raises for want of a Pi."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ..cameras.stacks import pi_model

__all__ = ['Power', 'cma', 'decode_throttled', 'facts', 'power', 'temperature', 'versions', 'write_speed']

PROC = Path('/proc')
SYS = Path('/sys')
ETC = Path('/etc')
ASK_TIMEOUT_S = 30.0
BLOCK = 1 << 20

#: What the bits of `vcgencmd get_throttled` mean; each once more, 16 bits up: it has been so since the machine booted.
THROTTLED = {0: 'under-voltage', 1: 'processor frequency capped', 2: 'throttled', 3: 'soft temperature limit'}
UNDER_VOLTAGE = THROTTLED[0]

#: Asked in a process of its own: libcamera starts threads, and OpenCV may not even load.
_VERSIONS = '''
import json
def numpy():
    import numpy
    return numpy.__version__
def cv2():
    import cv2
    return cv2.__version__
def libcamera():
    import libcamera
    return str(libcamera.CameraManager.version)
told = {}
for ask in (numpy, cv2, libcamera):
    try:
        told[ask.__name__] = [True, ask()]
    except ModuleNotFoundError as error:
        told[ask.__name__] = [error.name == ask.__name__, None if error.name == ask.__name__ else str(error)]
    except BaseException as error:
        told[ask.__name__] = [False, f'{type(error).__name__}: {error}']
print(json.dumps(told))
'''


class Power(NamedTuple):
    """What the firmware says of voltage and heat."""

    now: List[str]
    ever: List[str]          # since the machine booted
    raw: str


def facts() -> Dict[str, Any]:
    """Model, system, Python, memory, processor: JSON types. Quick, except that it imports OpenCV in a subprocess."""
    memory = _meminfo()
    return {
        'model': pi_model() or f'no Raspberry Pi ({platform.machine()})', 'system': _system(),
        'kernel': platform.release(), 'machine': platform.machine(), 'bits': 64 if sys.maxsize > 2**32 else 32,
        'python': platform.python_version(), 'versions': versions(), 'cores': os.cpu_count(),
        'memory_mb': _mb(memory.get('MemTotal')), 'memory_available_mb': _mb(memory.get('MemAvailable')),
        'cma_mb': _mb(memory.get('CmaTotal')), 'cma_free_mb': _mb(memory.get('CmaFree')),
        'governor': _read(SYS / 'devices/system/cpu/cpu0/cpufreq/scaling_governor') or 'unknown',
        'temperature_c': temperature()}


def versions() -> Dict[str, Any]:
    """{package: version; None where it is not installed; a text in brackets where it cannot be loaded}."""
    told: Dict[str, Any] = {}
    for name in ('picamera', 'picamera2', 'zlib-ng', 'tifffile'):
        try:
            told[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            told[name] = None
    try:
        done = subprocess.run([sys.executable, '-c', _VERSIONS], capture_output=True, text=True, timeout=ASK_TIMEOUT_S,
                              env={**os.environ, 'LIBCAMERA_LOG_LEVELS': '*:ERROR'}, stdin=subprocess.DEVNULL)
        answers = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        answers = {name: [False, f'no answer ({type(error).__name__})'] for name in ('numpy', 'cv2', 'libcamera')}
    for name, (good, version) in answers.items():
        told[name] = version if good or version is None else f'(cannot be loaded: {version})'
    return told


def temperature() -> Optional[float]:
    """The processor's, °C."""
    text = _read(SYS / 'class/thermal/thermal_zone0/temp')
    return int(text) / 1000 if re.match(r'^-?[0-9]+$', text) else None


def power() -> Tuple[Optional[Power], str]:
    """(what the firmware says, '') or (None, why it says nothing)."""
    command = shutil.which('vcgencmd')
    if command is None:
        return None, 'there is no vcgencmd here to ask; only a Raspberry Pi has it'
    try:
        done = subprocess.run([command, 'get_throttled'], capture_output=True, text=True, timeout=5,
                              stdin=subprocess.DEVNULL)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return None, f'vcgencmd get_throttled does not answer: {error}'
    found = re.search(r'throttled=(0x[0-9a-fA-F]+)', done.stdout)
    if found is None:
        said = ' '.join((done.stdout + done.stderr).split())[:200] or f'nothing (exit code {done.returncode})'
        return None, f'vcgencmd get_throttled says: {said}'
    return decode_throttled(int(found.group(1), 16)), ''


def decode_throttled(value: int) -> Power:
    """The number of `vcgencmd get_throttled` in words."""
    return Power([word for bit, word in THROTTLED.items() if value >> bit & 1],
                 [word for bit, word in THROTTLED.items() if value >> bit + 16 & 1], hex(value))


def write_speed(folder: Path, megabytes: int = 64) -> float:
    """MB/s of a file written from start to end and brought to the disk (fdatasync). Raises OSError."""
    block = os.urandom(BLOCK)              # what compresses well would flatter some disks
    path = folder / 'write-speed.bin'
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        began = time.monotonic()
        for _ in range(megabytes):
            if os.write(fd, block) != BLOCK:
                raise OSError(f'the disk took less than was written to {path}; it is full, or there is a quota')
        os.fdatasync(fd)
        return megabytes * BLOCK / 1e6 / max(time.monotonic() - began, 1e-9)
    finally:
        os.close(fd)
        path.unlink()


def cma(machine: Dict[str, Any]) -> str:
    """The memory for camera buffers, in words; '' where this kernel sets none aside."""
    if machine['cma_mb'] is None:
        return ''
    return f'CMA {machine["cma_free_mb"]} of {machine["cma_mb"]} MB free'


def _meminfo() -> Dict[str, int]:
    """kB by name."""
    lines = (line.split() for line in _read(PROC / 'meminfo').splitlines())
    return {fields[0].rstrip(':'): int(fields[1]) for fields in lines if len(fields) > 1 and fields[1].isdigit()}


def _mb(kilobytes: Optional[int]) -> Optional[int]:
    return None if kilobytes is None else round(kilobytes * 1024 / 1e6)


def _system() -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', _read(ETC / 'os-release'), re.MULTILINE)
    return found.group(1) if found else platform.system()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8', errors='replace').strip()
    except OSError:
        return ''

"""Disks for tests: small real ones, where root may mount them, and pretended figures where not."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Iterator

import pytest

STATVFS = os.statvfs


class CannotMount(Exception):
    """This machine mounts nothing for us; the text says why."""


@contextlib.contextmanager
def small_tmpfs(folder: Path, megabytes: float) -> Iterator[Path]:
    """A real file system of this size, mounted at ``folder/disk``; raises CannotMount."""
    with mounted(folder, ['-t', 'tmpfs', '-o', f'size={int(megabytes * 1e6)}', 'tmpfs']) as point:
        yield point


@contextlib.contextmanager
def small_ext4(folder: Path, megabytes: int) -> Iterator[Path]:
    """A real ext4 on a loop device, mounted at ``folder/disk``; its image is ``folder/image``; raises CannotMount."""
    image = folder / 'image'
    with open(image, 'wb') as file:
        file.truncate(megabytes * 10**6)
    try:
        subprocess.run(['mkfs.ext4', '-q', '-F', str(image)], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotMount(f'mkfs.ext4: {error}') from None
    with mounted(folder, ['-o', 'loop', str(image)]) as point:
        yield point


@contextlib.contextmanager
def mounted(folder: Path, arguments: 'list[str]') -> Iterator[Path]:
    point = folder / 'disk'
    point.mkdir()
    if os.geteuid():
        raise CannotMount('only root may mount')
    done = subprocess.run(['mount', *arguments, str(point)], capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise CannotMount(done.stderr.strip())
    try:
        yield point
    finally:
        if os.path.ismount(point):
            subprocess.run(['umount', '-l', str(point)], check=True, timeout=30)


def pretend_disk(monkeypatch: pytest.MonkeyPatch, folder: Path, total: int) -> None:
    """From now on, here and in forks, the folder's disk is as large as this, and full of what lies in the folder."""
    def free() -> int:
        return max(0, total - sum(file.stat().st_size for file in folder.iterdir()))
    pretend_figures(monkeypatch, lambda: SimpleNamespace(f_frsize=1, f_blocks=total, f_bavail=free()))


def pretend_figures(monkeypatch: pytest.MonkeyPatch, figures: Callable[[], Any]) -> None:
    monkeypatch.setattr(os, 'statvfs', lambda place: figures())

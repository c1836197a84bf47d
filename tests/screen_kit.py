"""A virtual X server for tests of windows: started, read back from its own frame buffer, and typed into."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
from pathlib import Path
from typing import Iterator, NamedTuple, Tuple

import numpy as np
import pytest

from ProcessedPiRecorder import screen as screens

needs_xvfb = pytest.mark.skipif(shutil.which('Xvfb') is None, reason='needs Xvfb (apt install xvfb)')
needs_xdotool = pytest.mark.skipif(shutil.which('xdotool') is None, reason='needs xdotool (apt install xdotool)')


class Screen(NamedTuple):
    name: str
    process: 'subprocess.Popen[bytes]'
    buffer: Path

    def pixels(self) -> np.ndarray:
        """What is on the screen, (height, width, 3) BGR: Xvfb's frame buffer file, in XWD format."""
        data = self.buffer.read_bytes()
        header = struct.unpack_from('>25I', data)
        header_size, width, height, line_bytes, colors = header[0], header[4], header[5], header[12], header[19]
        start = header_size + 12 * colors
        pixels = np.frombuffer(data, np.uint8, line_bytes * height, start).reshape(height, -1, 4)
        return pixels[:, :width, :3]


def start_screen(folder: Path, *options: str) -> Iterator[Screen]:
    tell_r, tell_w = os.pipe()
    process = subprocess.Popen(
        ['Xvfb', '-displayfd', str(tell_w), '-screen', '0', '1600x900x24', '-fbdir', str(folder), '-nolisten', 'tcp',
         *options], pass_fds=(tell_w,), stderr=subprocess.DEVNULL)
    os.close(tell_w)
    with os.fdopen(tell_r) as tell:
        number = tell.readline().strip()
    try:
        yield Screen(f':{number}', process, folder / 'Xvfb_screen0')
    finally:
        process.kill()
        process.wait()


def has_color(screen: Screen, color: Tuple[int, int, int], row: int, column: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while tuple(screen.pixels()[row, column]) != color:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def xdotool(screen: Screen, *words: str) -> str:
    return subprocess.run(['xdotool', *words], env={**os.environ, 'DISPLAY': screen.name}, check=True, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20).stdout.strip()


def close_button(screen: Screen, window: int) -> None:
    """Send a window what a window manager sends when its close button is pressed (X protocol, ICCCM 4.2.8.1)."""
    address = screens._x_address(screen.name)
    assert address is not None
    with screens._x_connect(address) as connection:
        connection.sendall(b'l\0' + struct.pack('<HHHHH', 11, 0, 0, 0, 0))
        screens._receive(connection, struct.unpack('<6xH', screens._receive(connection, 8))[0] * 4)
        atoms = []
        for name in (b'WM_PROTOCOLS', b'WM_DELETE_WINDOW'):
            padded = screens._padded(name)
            connection.sendall(struct.pack('<BBHHH', 16, 0, 2 + len(padded) // 4, len(name), 0) + padded)
            atoms.append(struct.unpack_from('<I', screens._receive(connection, 32), 8)[0])
        event = struct.pack('<BBHII5I', 33, 32, 0, window, atoms[0], atoms[1], 0, 0, 0, 0)
        connection.sendall(struct.pack('<BBHII', 25, 0, 11, window, 0) + event)
        connection.sendall(struct.pack('<BBH', 43, 0, 1))     # GetInputFocus: its reply says that all is done
        screens._receive(connection, 32)

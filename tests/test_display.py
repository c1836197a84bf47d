"""The live window under a virtual X server, read back from that server's own frame buffer; and no screen at all."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Iterator, Optional, Tuple

import numpy as np
import pytest
from screen_kit import Screen, close_button, has_color, needs_xdotool, needs_xvfb, start_screen, xdotool

from ProcessedPiRecorder import screen as screens
from ProcessedPiRecorder.pipeline import display
from ProcessedPiRecorder.pipeline.display import fitted
from ProcessedPiRecorder.screen import screen_problem

ROOT = Path(__file__).resolve().parent.parent
TITLE = 'ppr test window'
HEIGHT, WIDTH = 120, 320

CHILD = '''
import sys
import numpy as np
from ProcessedPiRecorder.pipeline.display import show_frames
path, receive_fd, send_fd, height, width = sys.argv[1], *map(int, sys.argv[2:6])
slots = np.memmap(path, np.uint8, 'r', shape=(2, height, width, 3))
print(show_frames(slots, receive_fd, send_fd, sys.argv[6]), flush=True)
'''


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    yield from start_screen(tmp_path)


class Shown:
    """A display process and this end of its pipes."""

    def __init__(self, screen: Screen, folder: Path, height: int = HEIGHT, width: int = WIDTH) -> None:
        self.slots = np.memmap(folder / 'slots', np.uint8, 'w+', shape=(2, height, width, 3))
        receive_fd, self.send_fd = os.pipe()
        self.ready_fd, send_fd = os.pipe()
        environment = {**os.environ, 'DISPLAY': screen.name, 'PYTHONPATH': str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, '-c', CHILD, str(folder / 'slots'), str(receive_fd), str(send_fd), str(height),
             str(width), TITLE], pass_fds=(receive_fd, send_fd), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=environment)
        os.close(receive_fd)
        os.close(send_fd)

    def show(self, color: Tuple[int, int, int], slot: int = 0) -> bool:
        """Show one frame; False when the display process has gone."""
        if os.read(self.ready_fd, 1) != b'r':
            return False
        self.slots[slot] = color
        os.write(self.send_fd, bytes([slot]))
        return True

    def end(self) -> Tuple[Optional[int], str, str]:
        os.close(self.send_fd)
        out, err = self.process.communicate(timeout=20)
        os.close(self.ready_fd)
        return self.process.returncode, out.strip(), err


def wait_for_color(screen: Screen, color: Tuple[int, int, int], row: int = 60, column: int = 100) -> None:
    assert has_color(screen, color, row, column, 10), f'{screen.pixels()[row, column]} is not {color}'


def show_first(screen: Screen, folder: Path, color: Tuple[int, int, int], height: int = HEIGHT, width: int = WIDTH,
               row: int = 60, column: int = 100) -> Shown:
    """A display process that shows its first frame.

    Without a window manager, 5 to 20 of 100 windows of OpenCV's wheels (Qt) stay black on Xvfb for all their
    life, plain cv2.imshow just the same: then it is tried again.
    """
    for attempt in range(8):
        where = folder / f'try{attempt}'
        where.mkdir()
        shown = Shown(screen, where, height, width)
        assert shown.show(color)
        if has_color(screen, color, row, column, 1.0):
            return shown
        assert shown.end()[:2] == (0, 'ended')
    raise AssertionError('no window showed its first frame')


@needs_xvfb
def test_it_shows_the_frames_in_their_colors_and_ends_quietly(screen: Screen, tmp_path: Path) -> None:
    shown = show_first(screen, tmp_path, (255, 0, 0))     # BGR
    assert shown.show((10, 20, 200), 1)
    wait_for_color(screen, (10, 20, 200))
    start, count = time.monotonic(), 0
    while count < 30:
        assert shown.show((count, 0, 0), count % 2)
        count += 1
    assert count / (time.monotonic() - start) < 1.2 * display.MOST_RATE
    code, out, err = shown.end()
    assert (code, out) == (0, 'ended')
    assert err == ''     # no complaints of the toolkit


@needs_xvfb
def test_large_frames_are_scaled_down(screen: Screen, tmp_path: Path) -> None:
    shown = show_first(screen, tmp_path, (0, 200, 0), 1080, 1920, 700, 1270)
    assert not screen.pixels()[730:, :].any() and not screen.pixels()[:, 1290:].any()
    assert shown.end()[:2] == (0, 'ended')


@needs_xvfb
def test_only_the_display_process_ends_when_the_screen_goes_away(screen: Screen, tmp_path: Path) -> None:
    shown = show_first(screen, tmp_path, (1, 2, 3))
    screen.process.kill()
    screen.process.wait()
    try:
        while shown.show((4, 5, 6)):
            pass
    except BrokenPipeError:
        pass
    code, out, _ = shown.end()
    assert code != 0 and out == ''


@needs_xvfb
@needs_xdotool
@pytest.mark.parametrize('action', ['q', 'Escape', 'close button'])
def test_the_user_closes_the_window(screen: Screen, tmp_path: Path, action: str) -> None:
    shown = show_first(screen, tmp_path, (1, 2, 3))
    found = xdotool(screen, 'search', '--name', TITLE)
    if action == 'close button':
        close_button(screen, int(found))
    else:
        xdotool(screen, 'windowfocus', found, 'key', action)
    out, err = shown.process.communicate(timeout=10)
    assert (out.strip(), shown.process.returncode, err) == ('closed', 0, '')
    os.close(shown.send_fd)
    os.close(shown.ready_fd)


@needs_xvfb
def test_the_end_is_noticed_without_any_frame(screen: Screen, tmp_path: Path) -> None:
    shown = Shown(screen, tmp_path)
    assert os.read(shown.ready_fd, 1) == b'r'
    assert shown.end()[:2] == (0, 'ended')


def test_fitted() -> None:
    for shape, expected in (((480, 1280, 3), (480, 1280, 3)), ((1080, 1920), (720, 1280)),
                            ((960, 2560, 3), (480, 1280, 3)), ((4000, 10), (720, 2)), ((1, 4000), (1, 1280))):
        assert fitted(np.zeros(shape, np.uint8)).shape == expected
    image = np.zeros((10, 10), np.uint8)
    assert fitted(image) is image


# Whether there is a screen

@pytest.fixture
def no_screen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in ('DISPLAY', 'WAYLAND_DISPLAY', 'XAUTHORITY'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('HOME', str(tmp_path))
    return monkeypatch


def test_no_screen_at_all(no_screen: pytest.MonkeyPatch) -> None:
    assert 'neither DISPLAY nor WAYLAND_DISPLAY' in (screen_problem() or '')


@pytest.mark.parametrize('name', [':4711', 'unix:4711', '/nowhere/socket:0', 'localhost:59000.0'])
def test_a_screen_that_does_not_exist(no_screen: pytest.MonkeyPatch, name: str) -> None:
    no_screen.setenv('DISPLAY', name)
    assert 'does not answer' in (screen_problem() or '')


@pytest.mark.parametrize('name', ['nonsense', ':', ':x', '0'])
def test_a_name_that_is_none(no_screen: pytest.MonkeyPatch, name: str) -> None:
    no_screen.setenv('DISPLAY', name)
    assert 'is not the name of a screen' in (screen_problem() or '')


def serve(path: Path, answer: bytes) -> Tuple[socket.socket, threading.Thread]:
    """A server in place of X that reads the greeting, answers, and waits for the other side to hang up."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def run() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(100)
            connection.sendall(answer)
            with contextlib.suppress(ConnectionError):     # it hangs up with what it did not read
                connection.recv(100)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return server, thread


@pytest.mark.parametrize('answer, expected', [
    (b'', 'does not answer (timed out)'),     # a server that hangs
    (b'\0\x09\x0b\0\0\0\x03\0No, never\0\0\0', 'refuses this user (No, never)'),
    (b'\x02' + bytes(5) + b'\x01\0why\0', 'refuses this user (why)'),
])
def test_a_server_that_hangs_or_refuses(no_screen: pytest.MonkeyPatch, tmp_path: Path, answer: bytes,
                                        expected: str) -> None:
    server, thread = serve(tmp_path / 'X', answer)
    no_screen.setenv('DISPLAY', f'{tmp_path}/X:0')
    start = time.monotonic()
    assert expected in (screen_problem() or '')
    assert time.monotonic() - start < 3
    thread.join(5)
    server.close()


@needs_xvfb
def test_the_users_key_is_shown_to_the_server(no_screen: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = os.urandom(16)
    fields = (b'another-host', b'', b'MIT-MAGIC-COOKIE-1', bytes(16)), (
        socket.gethostname().encode(), b'', b'MIT-MAGIC-COOKIE-1', key)
    authority = tmp_path / '.Xauthority'
    authority.write_bytes(b''.join(
        struct.pack('>H', 256) + b''.join(struct.pack('>H', len(value)) + value for value in entry)
        for entry in fields) + b'\x01')     # and an entry that breaks off
    screens = start_screen(tmp_path, '-auth', str(authority))
    screen = next(screens)
    try:
        no_screen.setenv('DISPLAY', screen.name)
        assert screen_problem() is None
        no_screen.setenv('HOME', str(tmp_path / 'nobody'))
        assert 'refuses this user' in (screen_problem() or '')
        no_screen.setenv('XAUTHORITY', str(authority))
        start = time.monotonic()
        assert screen_problem() is None
        assert time.monotonic() - start < 0.5
        screen.process.send_signal(signal.SIGSTOP)
        assert 'does not answer' in (screen_problem() or '')
    finally:
        screens.close()     # type: ignore[attr-defined]


def test_wayland(no_screen: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_screen.setenv('WAYLAND_DISPLAY', 'wayland-9')
    no_screen.setenv('XDG_RUNTIME_DIR', str(tmp_path))
    assert 'does not answer' in (screen_problem() or '')
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / 'wayland-9'))
    server.listen()
    (tmp_path / 'platforms').mkdir()
    no_screen.setattr(screens, '_toolkit', lambda: 'QT5')
    no_screen.setenv('QT_QPA_PLATFORM_PLUGIN_PATH', str(tmp_path))
    assert 'through X only' in (screen_problem() or '')
    (tmp_path / 'platforms' / 'libqwayland-generic.so').touch()
    assert screen_problem() is None
    server.close()


@pytest.mark.parametrize('info, toolkit', [
    ('  GUI:                           NONE\n    GTK+:       NO\n', 'NONE'),
    ('  GUI:                           QT5\n', 'QT5'),
    ('  GUI: \n    QT:                          YES (ver 5.15.0 )\n', 'QT'),
    ('  GUI:                           GTK3\n    GTK+:       YES (ver 3.24)\n', 'GTK3'),
    ('nothing', 'NONE'),
])
def test_opencv_without_windows(monkeypatch: pytest.MonkeyPatch, info: str, toolkit: str) -> None:
    import cv2
    monkeypatch.setattr(cv2, 'getBuildInformation', lambda: info)
    assert screens._toolkit() == toolkit
    problem = screens._opencv_problem(True)
    assert ('build without windows' in (problem or '')) == (toolkit == 'NONE')

"""Whether there is a screen that a window can be shown on, and OpenCV's window toolkit made ready for it.

OpenCV's window toolkits end the process when there is no screen (abort), without a Python exception: hence it is
looked at here first.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import struct
import time
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

__all__ = ['prepare_toolkit', 'screen_problem', 'session_problem']

logger = logging.getLogger(__name__)

SCREEN_TIMEOUT = 1.0                    # seconds for a screen to answer; over ssh it may be far away


def prepare_toolkit() -> None:
    """Environment of this process only: keep Qt from complaining on stderr about what the wheels leave out."""
    import cv2
    plugins = os.environ.get('QT_QPA_PLATFORM_PLUGIN_PATH', '')
    if os.environ.get('DISPLAY') and plugins and not _has_wayland_plugin(plugins):
        os.environ.setdefault('QT_QPA_PLATFORM', 'xcb')
    fonts = os.environ.get('QT_QPA_FONTDIR')
    if fonts and not os.path.isdir(fonts):     # the wheels before 4.13 name a folder that they do not bring
        os.environ.setdefault('QT_LOGGING_RULES', 'default.warning=false')
    logger.debug('window toolkit of OpenCV %s: %s', cv2.__version__, _toolkit())


def _has_wayland_plugin(plugin_path: str) -> bool:
    return any(Path(plugin_path, 'platforms').glob('libqwayland*'))


def screen_problem(otherwise: str = 'pass display=False') -> Optional[str]:
    """None when a window can be shown, else one sentence on why not and what to do; ``otherwise``: without a screen.

    Never aborts, and takes milliseconds (a screen that does not answer: a second). Imports cv2, last of all.
    Asks the X server itself, with the user's own key from the Xauthority file, for what the toolkit would
    abort over.
    """
    problem = session_problem() or _opencv_problem(bool(os.environ.get('DISPLAY')))
    return None if problem is None else f'{problem}, or {otherwise}'


def session_problem() -> Optional[str]:
    """The same without a look at OpenCV, for other windows than its own; whoever tells it adds what to do instead."""
    display, wayland = os.environ.get('DISPLAY'), os.environ.get('WAYLAND_DISPLAY')
    if not display and not wayland:
        return ('there is no screen: neither DISPLAY nor WAYLAND_DISPLAY is set; start from a desktop or with '
                '"ssh -X"')
    return _x_problem(display) if display else _wayland_problem(wayland or '')


def _toolkit() -> str:
    """OpenCV's window toolkit: 'QT5', 'GTK3', …, or 'NONE' in the headless builds."""
    import cv2
    info = cv2.getBuildInformation()
    found = re.search(r'^\s*GUI:[ \t]*(\S*)', info, re.MULTILINE)
    if found and found.group(1):
        return found.group(1)
    # Some builds leave the summary empty and list the toolkits below it.
    listed = re.search(r'^\s*(QT|GTK\+?|Wayland):\s+YES', info, re.MULTILINE)
    return listed.group(1) if listed else 'NONE'


def _opencv_problem(has_x: bool) -> Optional[str]:
    import cv2
    if not hasattr(cv2, 'imshow') or _toolkit() == 'NONE':
        return ("this OpenCV is a build without windows; install 'opencv-contrib-python' in place of "
                "'opencv-contrib-python-headless'")
    plugins = os.environ.get('QT_QPA_PLATFORM_PLUGIN_PATH', '')
    if not has_x and plugins and not _has_wayland_plugin(plugins):
        return 'DISPLAY is not set, and this OpenCV shows windows through X only; start XWayland and set DISPLAY'
    return None


def _wayland_problem(name: str) -> Optional[str]:
    path = os.path.join(os.environ.get('XDG_RUNTIME_DIR', ''), name)     # an absolute name stands for itself
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SCREEN_TIMEOUT)
            connection.connect(path)
    except OSError as error:
        return f'the Wayland screen WAYLAND_DISPLAY={name!r} does not answer ({error}); start from a desktop'
    return None


class _XAddress(NamedTuple):
    """A parsed DISPLAY."""

    host: str         # '' for this machine
    path: str         # a socket's own path, else ''
    number: str


def _x_address(display: str) -> Optional[_XAddress]:
    """DISPLAY in its forms ':0', ':0.1', 'unix:0', 'host:10.0', '/path/to/socket:0'."""
    found = re.fullmatch(r'(?:(?:tcp|unix|inet6?|local)/)?(?P<host>.*?):(?P<number>\d+)(?:\.\d+)?', display)
    if found is None:
        return None
    host, number = found.group('host'), found.group('number')
    if host.startswith('/'):
        return _XAddress('', display if os.path.exists(display) else host, number)
    return _XAddress('' if host == 'unix' else host.strip('[]'), '', number)


def _x_problem(display: str) -> Optional[str]:
    """Greet the X server as any program does (X protocol, "Connection Setup") and hang up."""
    address = _x_address(display)
    if address is None:
        return f'DISPLAY={display!r} is not the name of a screen; expected one like ":0"'
    try:
        refusal = _x_ask(address)
    except OSError as error:
        return (f'the X server of DISPLAY={display!r} does not answer ({error or type(error).__name__}); start from '
                'a desktop or with "ssh -X"')
    if refusal is not None:
        return (f'the X server of DISPLAY={display!r} refuses this user ({refusal}); start as the user of the '
                'desktop, without sudo')
    return None


def _x_ask(address: _XAddress) -> Optional[str]:
    """None when the server lets us in, else its reason."""
    patience = 3
    while True:
        try:
            with _x_connect(address) as connection:
                return _x_greet(connection, *_x_key(address))
        except ConnectionRefusedError:
            raise
        except ConnectionError:
            # A server whose last client has just left starts anew, and hangs up on whoever comes in between.
            if not patience:
                raise
            patience -= 1
            time.sleep(0.1)


def _x_connect(address: _XAddress) -> socket.socket:
    if address.host:
        return socket.create_connection((address.host, 6000 + int(address.number)), SCREEN_TIMEOUT)
    path = address.path or f'/tmp/.X11-unix/X{address.number}'
    failure: Optional[OSError] = None
    for name in ('\0' + path, path):     # Linux's abstract socket first, as X's own library does
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(SCREEN_TIMEOUT)
        try:
            connection.connect(name)
            return connection
        except OSError as error:
            connection.close()
            failure = error
    assert failure is not None
    raise failure


def _x_greet(connection: socket.socket, key_name: bytes, key: bytes) -> Optional[str]:
    """None when the server lets us in, else its reason."""
    connection.sendall(b'l\0' + struct.pack('<HHHHH', 11, 0, len(key_name), len(key), 0)
                       + _padded(key_name) + _padded(key))
    head = _receive(connection, 8)
    if head[0] == 1:
        return None
    length = head[1] or struct.unpack_from('<H', head, 6)[0] * 4
    reason = _receive(connection, length).rstrip(b'\0\n').decode('latin-1')
    return reason or 'without a reason'


def _padded(data: bytes) -> bytes:
    """To whole groups of four bytes, as the X protocol has it."""
    return data + b'\0' * (-len(data) % 4)


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b''
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionError('it hung up')
        data += piece
    return data


def _x_key(address: _XAddress) -> Tuple[bytes, bytes]:
    """Name and bytes of the user's key for a screen; empty where there is none (the server may need none)."""
    path = os.environ.get('XAUTHORITY') or os.path.expanduser('~/.Xauthority')
    try:
        data = Path(path).read_bytes()
    except OSError:
        return b'', b''
    host = (address.host or socket.gethostname()).encode()
    best: Tuple[bytes, bytes] = (b'', b'')
    for family, where, number, name, key in _xauthority_entries(data):
        if name != b'MIT-MAGIC-COOKIE-1' or number not in (b'', address.number.encode()):
            continue
        if family == _ANY_HOST or where == host:
            return name, key
        best = best if best[0] or address.host else (name, key)     # written under an earlier host name
    return best


_ANY_HOST = 0xFFFF


def _xauthority_entries(data: bytes) -> List[Tuple[int, bytes, bytes, bytes, bytes]]:
    """(family, address, display number, key's name, key): big-endian, each with its length (libXau's format)."""
    entries: List[Tuple[int, bytes, bytes, bytes, bytes]] = []
    position = 0
    try:
        while position < len(data):
            family, = struct.unpack_from('>H', data, position)
            position += 2
            values: List[bytes] = []
            for _ in range(4):
                length, = struct.unpack_from('>H', data, position)
                values.append(data[position + 2:position + 2 + length])
                position += 2 + length
            entries.append((family, values[0], values[1], values[2], values[3]))
    except struct.error:     # broken off while it is being written
        pass
    return entries

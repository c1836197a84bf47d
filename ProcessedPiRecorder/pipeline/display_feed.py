"""Both ends of the live window: the writer's, which never waits, and the entry of the display process."""

from __future__ import annotations

import os
from typing import NamedTuple, Sequence

import numpy as np

from .channel import Channel
from .display import show_frames
from .plan import Plan
from .ring import Ring

__all__ = ['DisplayArguments', 'DisplayFeed', 'display_main']


class DisplayArguments(NamedTuple):
    """The display's ends of its links, and the window's title."""

    tell_fd: int           # from the writer: which display slot holds a new picture
    request_fd: int        # to the writer: there is time for one
    title: str


class DisplayFeed:
    """Copies the newest frame into a display slot each time the display process asks for one.

    Copying (0.1 ms, at most 30 times a second) keeps the window out of the ring's affairs: a display that hangs
    or dies holds nothing back.
    """

    def __init__(self, slots: Sequence[np.ndarray], request_fd: int, tell_fd: int) -> None:
        self._slots, self._request_fd, self._tell_fd = slots, request_fd, tell_fd
        self._wanted = False
        self._next = 0
        os.set_blocking(request_fd, False)
        os.set_blocking(tell_fd, False)

    def fileno(self) -> int:
        """Readable when the display asks for a picture, or is gone."""
        return self._request_fd

    def receive(self) -> bool:
        """Take the request; False: the display is gone."""
        try:
            asked = os.read(self._request_fd, 64)
        except BlockingIOError:
            return True
        self._wanted = self._wanted or bool(asked)
        return bool(asked)

    def offer(self, image: np.ndarray) -> None:
        """Here is a frame; it is copied if one was asked for."""
        if not self._wanted:
            return
        self._wanted = False
        place, self._next = self._next, (self._next + 1) % len(self._slots)
        np.copyto(self._slots[place], image)
        try:
            os.write(self._tell_fd, bytes([place]))
        except (BrokenPipeError, BlockingIOError):
            pass                           # gone or stuck: its request end will tell

    def close(self) -> None:
        """The display sees the end. Harmless twice."""
        for name in ('_request_fd', '_tell_fd'):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)


def display_main(channel: Channel, plan: Plan, arguments: DisplayArguments) -> int:
    """Entry of the display process. When the screen goes away it dies in here, and nobody else does."""
    message = channel.receive()
    if message is None or message[0] != 'ring':
        return 0
    ring = Ring(message[2][0], message[1])
    channel.send('ready')
    show_frames(ring.displays, arguments.tell_fd, arguments.request_fd, arguments.title)
    return 0

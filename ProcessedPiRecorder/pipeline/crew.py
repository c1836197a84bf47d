"""The keeper's children: who they are, and who holds which end of which link.

Ends are seen only where nobody else holds a copy of the other end. So each child is born with exactly the descriptors
that are its own, and the keeper keeps none of them.

Each also holds the writing end of a pipe of its own, its *lifeline*, on which nothing is ever written. The script has
the other end: should the keeper be killed, end-of-file there tells that this process is gone too (``heir.py``).
"""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from .callback import CallbackArguments, callback_main
from .channel import Channel
from .display_feed import DisplayArguments, display_main
from .finisher import finisher_main
from .links import make_link
from .plan import Plan
from .processes import Child, start_child
from .reader import ReaderArguments, reader_main
from .ring import Ring
from .writer import WriterArguments, writer_main

__all__ = ['Crew']


class Crew:
    """The children of one recording, by role. Used by the keeper's one thread.

    Args:
        hear: called with each new child, so that its channel is listened to.
    """

    def __init__(self, parent: Channel, plan: Plan, hear: Callable[[Child], None]) -> None:
        self._parent, self._plan, self._hear = parent, plan, hear
        self.ring: Optional[Ring] = None
        self.members: Dict[str, Child] = {}
        self._open: List[int] = []                      # descriptors that a forked child must not keep
        self._waiting_links: Tuple[int, ...] = ()       # the writer's ends for a callback that is not ready yet

    def alive(self, role: str) -> Optional[Child]:
        """The running child of this role."""
        child = self.members.get(role)
        return child if child is not None and child.exitcode is None else None

    def tell(self, role: str, kind: str, payload: Any = None, fds: Sequence[int] = ()) -> None:
        """Send to a child, if it is there."""
        child = self.alive(role)
        if child is not None:
            child.channel.send(kind, payload, fds)

    # -- births

    def start_all(self) -> None:
        """Start everyone that these settings need. Raises OSError."""
        settings = self._plan.settings
        frames_read, frames_write = self._link()
        free_read, free_write = self._link()
        offers_read = offers_write = answers_read = answers_write = -1
        inner: Optional[CallbackArguments] = None
        outer: Optional[CallbackArguments] = None
        if settings.callback is not None:
            offers_read, offers_write = self._link()
            answers_read, answers_write = self._link()
            arguments = CallbackArguments(offers_read, answers_write, *self._queue_ends(), 1)
            inner, outer = (arguments, None) if settings.cb_type == '2Proc' else (None, arguments)
        request_read = request_write = tell_read = tell_write = -1
        if settings.display:
            request_read, request_write = self._link()
            tell_read, tell_write = self._link()
        self._launch('reader', reader_main, ReaderArguments(frames_write, free_read), [frames_write, free_read])
        writer = WriterArguments(frames_read, free_write, offers_write, answers_read, request_read, tell_write, inner)
        self._launch('writer', writer_main, writer,
                     [fd for fd in (*writer[:6], *(inner[:4] if inner else ())) if fd >= 0])
        if outer is not None:
            self._launch('callback', callback_main, outer, list(outer[:4]))
        if settings.display:
            self._launch('display', display_main, DisplayArguments(tell_read, request_write, self._title()),
                         [tell_read, request_write])
        self._close_open()

    def start_callback_again(self, generation: int) -> None:
        """A successor for a callback that died; ``hand_over_links`` once it is ready. Raises OSError."""
        assert self.ring is not None
        try:
            offers_read, offers_write = self._link()
            answers_read, answers_write = self._link()
            arguments = CallbackArguments(offers_read, answers_write, *self._queue_ends(), generation)
            self._launch('callback', callback_main, arguments, list(arguments[:4]), generation)
            self._waiting_links = (offers_write, answers_read)
        finally:
            self._close_open(self._waiting_links)
        self.members['callback'].channel.send('ring', self.ring.layout, [self.ring.fd])

    def hand_over_links(self, generation: int) -> None:
        """The successor is ready: the writer may offer it frames."""
        self.tell('writer', 'cb_new', generation, self._waiting_links)
        self.drop_waiting_links()

    def drop_waiting_links(self) -> None:
        """The successor did not get that far."""
        for fd in self._waiting_links:
            os.close(fd)
        self._waiting_links = ()

    def start_finisher(self, orders: Any) -> None:
        """The writer's heir, who finishes its file. Raises OSError."""
        assert self.ring is not None
        self._launch('finisher', finisher_main, None, [])
        self.members['finisher'].channel.send('finish', orders, [self.ring.fd])

    def _launch(self, role: str, entry: Callable[..., Any], arguments: Any, keep: List[int],
                generation: int = 1) -> None:
        ours = [self._parent.fileno(), *(child.channel.fileno() for child in self.members.values()),
                *self._waiting_links]
        if self.ring is not None:
            ours.append(self.ring.fd)
        life_read, life_write = make_link()
        try:
            child = start_child(role, entry, self._plan, self._plan.start_method, keep_fds=[*keep, life_write],
                                close_fds=[*ours, life_read, *(fd for fd in self._open if fd not in keep)],
                                arguments=arguments, generation=generation, lifeline=life_write)
            self._parent.send('born', (role, child.pid), [life_read])
        finally:
            os.close(life_read)
            os.close(life_write)
        self.members[role] = child
        self._hear(child)

    # -- descriptors

    def _link(self) -> Tuple[int, int]:
        ends = make_link()
        self._open += ends
        return ends

    def _queue_ends(self) -> Tuple[int, int]:
        """Pipes for cb_queue; the script's ends go to the script, the callback's (receive, send) are returned."""
        from_script_read, from_script_write = self._link()
        to_script_read, to_script_write = self._link()
        theirs = (to_script_read, from_script_write)
        self._parent.send('queue', None, theirs)
        for fd in theirs:
            self._open.remove(fd)
            os.close(fd)
        return from_script_read, to_script_write

    def _close_open(self, keep: Sequence[int] = ()) -> None:
        for fd in self._open:
            if fd not in keep:
                os.close(fd)
        self._open = []

    def _title(self) -> str:
        path = self._plan.settings.tif_path
        return f'ProcessedPiRecorder: {path.name if path else "not recorded"}'

"""Looking through a recording: what each key does, what is shown next, and how long to wait for it.

The window is whatever can show an image and tell what was pressed (:class:`Screen`); ``window.py`` has the real one.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Protocol, Tuple, Union

import numpy as np

from ..errors import ExportError, RecordingFileError
from ..exports.base import whole_file
from ..frame import left, right
from ..reading import Recording
from .ahead import Ahead, Decoded
from .canvas import Canvas, Scene, on_button, on_timeline, page_under
from .drawing import eight_bit, real, shades
from .facts import Facts, FactsOf
from .player import Player

__all__ = ['HELP', 'Pointer', 'Screen', 'Viewer']

EVENT_INTERVAL = 0.05         # seconds; see pipeline/display.py. A key wakes the window at once
DRAGGING_INTERVAL = 0.015     # what a hand on the slider does not notice
DECODING_INTERVAL = 0.02      # for which events wait for a page that is being decoded
MESSAGE_S = 5.0
SAMPLED_PAGES = 5             # that tell which shades to show of frames with more than eight bits
WAYS = (1, -1)

HELP = (('space', 'play, pause (so does the button)'),
        ('left, right', 'one frame back, on (so do , and .)'),
        ('down, up', 'one second back, on'),
        ('Page Down, Page Up', 'ten seconds back, on'),
        ('Home, End', 'the first, the last frame'),
        ('m', 'the next mark (yellow on the time line)'),
        ('l', 'the next loss (red on the time line)'),
        ('g', 'go to a frame, or to a time (12.5s)'),
        ('+, -', 'twice, half as fast'),
        ('o', 'what the callback found: drawn or not'),
        ('1, 2, 0', 'left eye, right eye, both'),
        ('s', 'save this frame as PNG, as it was recorded'),
        ('h', 'this help'),
        ('q, Escape', 'end'))


class Pointer(NamedTuple):
    """The mouse, in pixels of the canvas. action: 'press', 'move' with the button down, or 'release'."""

    action: str
    x: int
    y: int


class Screen(Protocol):
    """A window."""

    def size(self) -> Tuple[int, int]:
        """(height, width) of what it shows, in pixels."""

    def show(self, canvas: np.ndarray) -> None:
        """Show an image, uint8 (height, width, 3) BGR."""

    def events(self, seconds: float) -> List[Union[str, Pointer]]:
        """Serve the window for a while, or until a key is pressed; keys by their names ('left', 'space', 'q')."""

    def is_open(self) -> bool:
        """Whether it has not been closed."""


class Viewer:
    """Shows a recording on a screen until it is closed. For one thread, which :meth:`run` blocks.

    folder: where frames are saved.
    """

    def __init__(self, recording: Recording, screen: Screen, folder: Path, clock: Callable[[], float] = time.monotonic,
                 ) -> None:
        self._recording, self._screen, self._folder, self._clock = recording, screen, folder, clock
        self.player = Player(len(recording), recording.times_ns)
        self._facts_of = FactsOf(recording)
        self._canvas = Canvas(len(recording), self._facts_of.lossy, self._facts_of.marked,
                              self._facts_of.widest)
        self._shades = _shades(recording)
        self._ahead = Ahead(recording.read, recording.nbytes // len(recording))
        self._planned = 0
        self._seen: Optional[Decoded] = None
        self._facts = Facts((), (), ())
        self._drawn_size = (0, 0)
        self._stale = True
        self._overlay, self._helping, self._ended = True, False, False
        self._dragging, self._plays_on = False, False
        self._eye = ''
        self._typed: Optional[str] = None
        self._message, self._message_until = 'space plays, h shows all keys', 0.0
        self._actions = self._make_actions()

    def run(self) -> None:
        """Until the user ends it."""
        try:
            self._want_page()
            while not self._ended and self._screen.is_open():
                self.turn()
        finally:
            self._ahead.close()

    def turn(self) -> None:
        """Show what is due, then wait until something is, or the user does something."""
        now = self._clock()
        self._take_what_is_due(now)
        self._draw(now)
        if self._waits_for_decoding(self._clock()):
            self._ahead.wait(self.player.due(now), DECODING_INTERVAL)
            patience = 0.0
        else:
            patience = DRAGGING_INTERVAL if self._dragging else EVENT_INTERVAL
            until_next = self.player.wait(self._clock())
            patience = patience if until_next is None else min(patience, until_next)
        for event in self._screen.events(patience):
            self._handle(event)

    # ------------------------------------------------------------------ what is shown

    def _take_what_is_due(self, now: float) -> None:
        player, ahead = self.player, self._ahead
        if player.playing:
            while ahead.has_room:
                wanted = player.next_wanted(self._planned, now, ahead.latency)
                if wanted is None:
                    break
                ahead.add(wanted)
                self._planned = wanted
            found = ahead.newest(player.due(now))
        else:
            found = ahead.take(player.page) if self._awaits_page() else None
        if found is not None:
            self._see(found, now)

    def _see(self, found: Decoded, now: float) -> None:
        self._seen, self._stale = found, True
        self._facts = self._facts_of.of(found.page)
        was_playing = self.player.playing
        self.player.was_shown(found.page, now)
        if was_playing and not self.player.playing:
            self._say('the end; space plays again')
        if not self.player.playing:
            # Whoever steps through it finds the next one decoded.
            self._ahead.want(page for page in (found.page, found.page + 1, found.page - 1)
                             if 0 <= page <= self.player.last)

    def _awaits_page(self) -> bool:
        return self._seen is None or self._seen.page != self.player.page

    def _waits_for_decoding(self, now: float) -> bool:
        return self._awaits_page() if not self.player.playing else (
            self._seen is None or self.player.due(now) > self._seen.page)

    def _want_page(self) -> None:
        """After the place has changed: have its page decoded first."""
        self._planned = self.player.page
        self._ahead.want([self.player.page])
        self._stale = True
        if not self._awaits_page():
            assert self._seen is not None
            self._see(self._seen, self._clock())

    def _draw(self, now: float) -> None:
        if self._message and self._message_until and now > self._message_until:
            self._message, self._stale = '', True
        size = self._screen.size()
        if self._seen is None or not (self._stale or size != self._drawn_size):
            return
        self._screen.show(self._canvas.draw(self._scene(self._seen), *size))
        self._stale, self._drawn_size = False, size

    def _scene(self, seen: Decoded) -> Scene:
        pixels, offset = seen.pixels, 0
        if pixels is not None:
            if self._eye:
                offset = pixels.shape[1] // 2 if self._eye == 'right' else 0
                pixels = left(pixels) if self._eye == 'left' else right(pixels)
            pixels = eight_bit(real(pixels), *self._shades)
        return Scene(self.player.page, len(self._recording), pixels, self._facts, self.player.playing, self._overlay,
                     offset, self._hint(), self._prompt() or self._message, str(seen.error or ''),
                     HELP if self._helping else ())

    def _hint(self) -> str:
        words = []
        if self.player.playing:
            pace = self.player.pace
            if pace.shown < pace.due:
                words.append(f'{pace.shown} of {pace.due} frames shown')
        if self._recording.dtype != np.uint8:
            words.append(f'{self._recording.dtype}, shades {self._shades[0]:g} to {self._shades[1]:g}')
        if self._eye:
            words.append(f'{self._eye} eye')
        if not self._overlay:
            words.append('results not drawn')
        return ', '.join([*words, f'x{self.player.speed:g}'])

    def _say(self, message: str) -> None:
        self._message, self._message_until, self._stale = message, self._clock() + MESSAGE_S, True

    # ------------------------------------------------------------------ what the user does

    def _make_actions(self) -> Dict[str, Callable[[], Any]]:
        step, seconds = self._step, self._seconds
        actions: Dict[str, Callable[[], Any]] = {
            'space': self._play_or_pause, 'home': lambda: self._go(0), 'end': lambda: self._go(self.player.last),
            'm': lambda: self._next(self._facts_of.marked, 'mark'),
            'l': lambda: self._next(self._facts_of.lossy, 'loss'),
            'o': self._switch_overlay, 'h': self._switch_help, '?': self._switch_help, 's': self._save,
            'g': lambda: self._type(''), 'q': self._end, 'escape': self._end,
            '0': lambda: self._choose_eye(''), '1': lambda: self._choose_eye('left'),
            '2': lambda: self._choose_eye('right')}
        for way, arrows, up, page_up, signs in zip(WAYS, (('right', '.'), ('left', ',')), ('up', 'down'),
                                                   ('page up', 'page down'), ('+=', '-_')):
            actions.update({key: lambda way=way: step(way) for key in arrows})              # type: ignore[misc]
            actions[up] = lambda way=way: seconds(way * 1.0)                                # type: ignore[misc]
            actions[page_up] = lambda way=way: seconds(way * 10.0)                          # type: ignore[misc]
            actions.update({key: lambda way=way: self._change_speed(way) for key in signs})  # type: ignore[misc]
        return actions

    def _handle(self, event: Union[str, Pointer]) -> None:
        if isinstance(event, Pointer):
            self._handle_pointer(event)
        elif self._typed is not None:
            self._handle_typed(event)
        elif event in self._actions:
            self._message, self._stale = '', True
            self._actions[event]()

    def _handle_pointer(self, pointer: Pointer) -> None:
        height, width = self._drawn_size
        if pointer.action == 'press' and on_timeline(pointer.y, height, width):
            if on_button(pointer.x):
                self._play_or_pause()
                return
            self._dragging, self._plays_on = True, self.player.playing
            self.player.pause()                # or the handle would run away from under the hand
        if self._dragging:
            self._go(page_under(pointer.x, width, len(self._recording)))
        if self._dragging and pointer.action == 'release':
            self._dragging = False
            if self._plays_on:
                self._play_or_pause()

    def _play_or_pause(self) -> None:
        if self.player.playing:
            self.player.pause()
        else:
            self.player.play(self._clock())
            if self._awaits_page():
                self._want_page()              # it was at the end, and begins anew
            self._planned = self.player.page
        self._stale = True

    def _go(self, page: int) -> None:
        self.player.seek(page, self._clock())
        self._want_page()

    def _step(self, pages: int) -> None:
        self.player.pause()
        self._go(self.player.page + pages)

    def _seconds(self, seconds: float) -> None:
        self.player.seek_seconds(seconds, self._clock())
        self._want_page()

    def _next(self, pages: np.ndarray, what: str) -> None:
        if not len(pages):
            self._say(f'there is no {what} in this recording')
            return
        place = int(np.searchsorted(pages, self.player.page, 'right'))
        self._go(int(pages[place % len(pages)]))
        again = ', from the beginning again' if place == len(pages) else ''
        self._say(f'{what} {place % len(pages) + 1:,} of {len(pages):,}{again}')

    def _change_speed(self, steps: int) -> None:
        self.player.change_speed(steps, self._clock())
        if self.player.playing:
            self._planned = self.player.page
            self._ahead.want(())

    def _switch_overlay(self) -> None:
        self._overlay = not self._overlay

    def _switch_help(self) -> None:
        self._helping = not self._helping

    def _choose_eye(self, eye: str) -> None:
        if self._recording.settings.get('stereo') or not eye:
            self._eye = eye
        else:
            self._say('this recording is not stereo')

    def _end(self) -> None:
        self._ended = True

    def _save(self) -> None:
        if self._seen is None or self._seen.pixels is None:
            self._say('this page cannot be read, so it cannot be saved')
            return
        indices, page = self._recording.indices, self._seen.page
        number = page if indices is None else int(indices[page])
        target = self._folder / f'{self._recording.path.stem}_frame_{number:08d}.png'
        try:
            save_png(self._seen.pixels, target)
        except ExportError as error:
            self._say(f'not saved: {error}')
        else:
            self._say(f'saved as {target}')

    # ------------------------------------------------------------------ go to

    def _type(self, text: Optional[str]) -> None:
        self._typed, self._stale = text, True

    def _prompt(self) -> str:
        return '' if self._typed is None else f'go to frame (or 12.5s): {self._typed}_ (Enter goes, Escape does not)'

    def _handle_typed(self, key: str) -> None:
        typed = self._typed or ''
        if key == 'enter':
            self._type(None)
            self._go_to(typed)
        elif key == 'escape':
            self._type(None)
        elif key == 'backspace':
            self._type(typed[:-1])
        elif key in list('0123456789.s'):
            self._type(typed + key)

    def _go_to(self, text: str) -> None:
        try:
            if text.endswith('s'):
                self._go(self.player.page_at(round(float(text[:-1]) * 1e9)))
            elif text:
                self._go_to_frame(int(text))
        except ValueError:
            self._say(f'{text!r} is neither a frame (120) nor a time (12.5s)')

    def _go_to_frame(self, number: int) -> None:
        indices = self._recording.indices
        page = number if indices is None else int(np.searchsorted(indices, number))
        self._go(page)
        if page > self.player.last:
            self._say(f'there is no frame {number:,}; this is the last one')
        elif indices is not None and indices[page] != number:
            self._say(f'frame {number:,} is not in the recording; this is the next one')


def save_png(pixels: np.ndarray, target: Path) -> None:
    """The pixels as they are, uint8 or uint16, BGR or gray; whole or not at all. Raises ExportError."""
    import cv2
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ExportError(f'a PNG holds 8 or 16 bits a sample, and these are {pixels.dtype}; use tifffile')
    coded, data = cv2.imencode('.png', np.asarray(pixels))
    if not coded:
        raise ExportError(f'OpenCV makes no PNG of {pixels.shape} pixels')
    with whole_file(target, needs_bytes=data.nbytes) as part:
        part.write_bytes(data.tobytes())


def _shades(recording: Recording) -> Tuple[float, float]:
    """Darkest and brightest of a few frames spread over the recording."""
    if recording.dtype == np.uint8:
        return 0.0, 255.0
    samples = []
    for page in np.unique(np.linspace(0, len(recording) - 1, SAMPLED_PAGES).round().astype(int)):
        try:
            samples.append(real(recording.read(int(page))))
        except RecordingFileError:             # told when it is shown
            continue
    return shades(samples)

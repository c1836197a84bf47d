"""The lane: the writer's side of the callback. Which frames are offered, which by-pass it, what came back.

The lane decides about *frames* and never touches pixels. It runs in the writer's hub thread; at its other end is
the callback's process ('3Proc') or a thread of the writer ('2Proc'), reached by the same two links.

A frame's way: waiting -> offered -> resolved. Resolved frames are written in order of capture. An offer is *open*
until it is answered or its process has been buried, and until then its slots stay untouched, whatever has been
decided about the frame meanwhile: a hung callback that wakes up can never write into a slot that has moved on.
"""

from __future__ import annotations

import collections
import enum
import time
from typing import Any, Callable, Deque, Dict, Mapping, Optional, Tuple

from .ledger import Ledger
from .links import NOTHING, Kind, LinkReader, LinkWriter, Record

__all__ = ['BYPASS_SHARE', 'GIVE_UP_SHARE', 'Held', 'Lane', 'Outcome']

#: Frames by-pass the callback once those that wait for it fill this share of the ring …
BYPASS_SHARE = 0.5
#: … and even a frame that it is working on is given up (recorded raw) when the ring is this full.
GIVE_UP_SHARE = 0.85
#: How long the call that is under way may last when the keeper is dead, or no callback can be started any more.
DESPAIR_NS = 2_000_000_000
#: Offers under way at once, so that the callback never waits for the next frame …
DEPTH = 2
#: … and for a source that waits: there the hub may look up from time to time only.
WAITING_DEPTH = 8
#: So much too late a hung call is only noticed by a hub that did not run itself.
LATE_NS = 1_000_000_000


class Outcome(enum.IntEnum):
    """How a call ended."""

    NONE = 0           # returned None: record as it came
    RETURNED = 1       # the output slot holds what to record
    FAILED = 2         # raised, or returned what cannot be recorded


class Held:
    """A frame that the writer holds."""

    __slots__ = ('index', 'time_ns', 'sensor_ns', 'host_ns', 'skew_ns', 'slot', 'output', 'status', 'open', 'written',
                 'offered_ns', 'callback_ms', 'lost')

    def __init__(self, record: Record) -> None:
        self.index, self.time_ns, self.host_ns, self.slot = record.a, record.b, record.d, record.slot
        self.sensor_ns: Optional[int] = None if record.c == NOTHING else record.c
        self.skew_ns: Optional[int] = None if record.e == NOTHING else record.e
        self.output: Optional[int] = None
        self.status = ''                   # '' until resolved
        self.open = False                  # offered, and not yet answered
        self.written = False
        self.offered_ns = 0
        self.callback_ms: Optional[float] = None
        self.lost: Tuple[Mapping[str, Any], ...] = ()   # what is missing before it


class Lane:
    """Offers frames to the callback and resolves them.

    Args:
        every: 'every' delivery, else 'latest'.
        may_bypass: False for a source that waits: then nothing is gained by by-passing.
        use_outputs: whether returned frames are recorded.
        revivable: True for '2Proc', where a hung call cannot be killed but may end.
    """

    def __init__(self, *, every: bool, may_bypass: bool, use_outputs: bool, revivable: bool, slots: int, outputs: int,
                 timeout_s: float, first_timeout_s: float, ledger: Ledger, release: Callable[[Held], None]) -> None:
        self._every, self._may_bypass, self._use_outputs, self._revivable = every, may_bypass, use_outputs, revivable
        self._slots = slots
        self._outputs: Deque[int] = collections.deque(range(outputs))
        self._timeout_ns, self._first_timeout_ns = round(timeout_s * 1e9), round(first_timeout_s * 1e9)
        self._ledger, self._release = ledger, release
        self.waiting: Deque[Held] = collections.deque()
        self.offered: Deque[Held] = collections.deque()
        self.generation = 0
        self.connected = False             # there is a callback to offer to
        self.hopeless = False              # and there will not be one again
        self.ended = False                 # it has said that nothing follows
        self._end_sent = False
        self._answered = 0                 # by this generation
        self.stuck = False                # '2Proc': hung, and cannot be killed
        self._spared: Optional[Held] = None
        self._last_done_ns = 0
        self._end_ns = 0                   # when END was sent
        self._buried: Dict[int, Deque[Held]] = {}
        self._offers: Optional[LinkWriter] = None
        self.answers: Optional[LinkReader] = None

    # -- the callback's comings and goings

    def connect(self, offers: LinkWriter, answers: LinkReader, generation: int) -> None:
        """A callback is ready at the other end of these links."""
        self._offers, self.answers, self.generation = offers, answers, generation
        self.connected, self._answered, self._last_done_ns = True, 0, time.monotonic_ns()
        self._end_sent = self.ended = False

    def hung_for(self, now_ns: int) -> Optional[float]:
        """Seconds that the present call has taken beyond what it may, or None."""
        if not self.offered or self.stuck or not self.connected:
            return None
        over_ns = now_ns - self._call_begun_ns() - self._limit_ns()
        if over_ns < 0:
            return None
        present = self.offered[0]
        if over_ns > LATE_NS and present is not self._spared:
            # We wake up when its time is over. Noticed this late, we were stopped ourselves, and perhaps the callback
            # with us (a frozen container, a paused virtual machine): its time begins anew, once.
            self._spared, present.offered_ns = present, now_ns
            return None
        return over_ns / 1e9

    def time_left_s(self, now_ns: int) -> Optional[float]:
        """Seconds until the present call, or __exit__, counts as hung; None when there is none."""
        if self._end_sent and not self.ended:
            return max(0.0, (self._end_ns + self._first_timeout_ns - now_ns) / 1e9)
        if not self.offered or self.stuck or not self.connected:
            return None
        return max(0.0, (self._call_begun_ns() + self._limit_ns() - now_ns) / 1e9)

    def _call_begun_ns(self) -> int:
        return max(self.offered[0].offered_ns, self._last_done_ns)

    def _limit_ns(self) -> int:
        return self._timeout_ns if self._answered else self._first_timeout_ns

    def give_up_hung(self) -> None:
        """The present call is hung: its frame has failed, those behind it go back or by-pass."""
        self._resolve(self.offered[0], 'failed')
        self._ledger.callback_errors += 1
        if self._revivable:
            self.stuck = True
            for held in self.offered:
                self._resolve(held, 'by-passed')
        else:
            if not self._answered:
                # It had all the time that a model may take to load; its successors need not have that again.
                self._first_timeout_ns = min(self._first_timeout_ns, self._timeout_ns)
            self._disconnect()

    def _disconnect(self) -> None:
        """Nothing more goes to this generation; its offers stay open until it is buried."""
        self.connected = False
        if self._offers is not None:
            self._offers.close()
            self._offers = None
        self._buried[self.generation] = self.offered
        self.offered = collections.deque()

    def bury(self, generation: int, died: bool) -> None:
        """The callback process of this generation has ended and was waited for; its offers are ours again."""
        if generation == self.generation and self.connected:
            self.receive()                 # what it had still answered
            if self.offered and not self.offered[0].status:
                self._resolve(self.offered[0], 'failed')
                self._ledger.callback_errors += 1
            elif died and not self.ended:
                self._ledger.callback_errors += 1
            self._disconnect()
        for held in reversed(self._buried.pop(generation, collections.deque())):
            self._close(held)
            if not held.status:
                self.waiting.appendleft(held)
        if self.answers is not None:
            self.answers.close()
            self.answers = None
        if self._end_sent:
            self.ended = True              # it died in its __exit__; there is nothing left for a successor

    def leaves_too_slowly(self, now_ns: int) -> bool:
        """Whether the callback's __exit__ takes longer than it may; then it is not waited for any more."""
        if not self._end_sent or self.ended or now_ns - self._end_ns < self._first_timeout_ns:
            return False
        self._ledger.callback_errors += 1
        self.ended = True
        return True

    def despair(self) -> None:
        """There will be no callback again, and nobody is left to end this one: it is not waited for long."""
        self.hopeless = True
        self._timeout_ns = min(self._timeout_ns, DESPAIR_NS)
        self._first_timeout_ns = min(self._first_timeout_ns, DESPAIR_NS)

    # -- frames

    def take(self, held: Held) -> None:
        """A frame has arrived."""
        if not self._every:
            while self.waiting:            # only the newest waits
                self._resolve(self.waiting.popleft(), 'by-passed')
        self.waiting.append(held)

    def pump(self, in_use: int) -> None:
        """By-pass what must, offer what can be offered; ``in_use`` slots of the ring are taken."""
        if self.hopeless or self.stuck:
            for group in self._buried.values():
                for held in group:
                    self._resolve(held, 'by-passed')
            while self.waiting:
                self._resolve(self.waiting.popleft(), 'by-passed')
        elif self._may_bypass:
            self._bypass(in_use)
        while self.waiting and self._can_offer():
            self._offer(self.waiting.popleft())

    def _bypass(self, in_use: int) -> None:
        limit = max(2, int(self._slots * BYPASS_SHARE))
        # The oldest goes first: it is the one that all others wait behind.
        while self.waiting and len(self.waiting) + len(self.offered) > limit:
            self._resolve(self.waiting.popleft(), 'by-passed')
        if in_use > self._slots * GIVE_UP_SHARE:
            for held in (*self.offered, *(item for group in self._buried.values() for item in group)):
                self._resolve(held, 'by-passed')

    def _can_offer(self) -> bool:
        depth = (DEPTH if self._may_bypass else WAITING_DEPTH) if self._every else 1
        return (self.connected and not self.stuck and not self._end_sent and len(self.offered) < depth
                and (not self._use_outputs or bool(self._outputs)))

    def _offer(self, held: Held) -> None:
        assert self._offers is not None
        held.output = self._outputs.popleft() if self._use_outputs else None
        held.open, held.offered_ns = True, time.monotonic_ns()
        self.offered.append(held)
        try:
            self._offers.send(Kind.OFFER, held.slot, held.index, held.time_ns, held.host_ns,
                              NOTHING if held.output is None else held.output, generation=self.generation)
        except BrokenPipeError:
            pass                           # it has died; the keeper will say so, and then the offer is taken back

    def receive(self) -> None:
        """Take the answers that are there."""
        if self.answers is None:
            return
        for record in self.answers.receive():
            if record.kind == Kind.END and self._end_sent:
                self.ended = True
                self._ledger.callback_errors += record.a
            elif record.kind == Kind.DONE and self.offered and record.a == self.offered[0].index:
                self._answer(self.offered.popleft(), record)

    def _answer(self, held: Held, record: Record) -> None:
        self._answered += 1
        self.stuck = False
        self._last_done_ns = record.d
        held.callback_ms = (record.d - record.c) / 1e6
        self._ledger.callback_latency.add(record.c - held.host_ns)
        self._ledger.callback_time.add(record.d - record.c)
        late = bool(held.status)
        if record.b == Outcome.FAILED:
            self._ledger.callback_errors += 0 if held.status == 'failed' else 1
            self._resolve(held, 'failed')
        elif not late:
            self._ledger.processed += 1
            self._resolve(held, 'returned' if record.b == Outcome.RETURNED and self._use_outputs else 'raw')
        self._close(held)

    def _close(self, held: Held) -> None:
        """The offer is over: what it held and is not needed is free again."""
        held.open = False
        if held.output is not None and held.status != 'returned':
            self._outputs.append(held.output)
            held.output = None
        if held.written:
            self._release(held)

    def output_free(self, held: Held) -> None:
        """The returned frame of this one is written; its output slot can be used again."""
        if held.output is not None:
            self._outputs.append(held.output)
            held.output = None

    def _resolve(self, held: Held, status: str) -> None:
        if not held.status:
            held.status = status

    # -- the end

    def finish(self) -> None:
        """No more frames will come: once all are answered, let the callback end."""
        if self._end_sent or self.waiting or self.offered or self._offers is None:
            return
        self._end_sent, self._end_ns = True, time.monotonic_ns()
        try:
            self._offers.send(Kind.END, generation=self.generation)
        except BrokenPipeError:
            self.ended = True

    @property
    def idle(self) -> bool:
        """Whether nothing waits for the callback, and it has ended or will never come."""
        undecided = self.waiting or any(not held.status for held in self.offered)
        return not undecided and (self.ended or self.hopeless or self.stuck or not self.connected)

    @property
    def length(self) -> int:
        """Frames that wait for the callback or are with it."""
        return len(self.waiting) + len(self.offered)

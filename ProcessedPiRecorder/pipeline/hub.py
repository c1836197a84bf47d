"""The hub: the writer's one thread that joins all links, and knows where every frame is.

It sleeps until something arrives: a frame, an answer of the callback, a written page, a word of the keeper, a display
with time for a picture. A frame is *held* from its arrival until its page is written, whoever works on it meanwhile.
"""

from __future__ import annotations

import collections
import logging
import os
import selectors
import time
from typing import Any, Deque, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ..cameras.base import Granted
from ..recordings.effort import Room
from ..recordings.page import MOST_LOSSES, PageRecord
from ..recordings.sink import PageJob
from ..report import Loss, Report
from ..settings import DEFAULT_CB_TIMEOUT_S
from .callback import CallbackArguments
from .channel import Channel, RemoteError
from .display_feed import DisplayFeed
from .lane import Held, Lane
from .ledger import Ledger
from .links import NOTHING, Kind, LinkReader, LinkWriter, fit_link
from .output import Output
from .plan import LOSS_REASONS, Plan
from .ring import Ring, Stat

__all__ = ['Hub', 'WriterArguments']

log = logging.getLogger(__name__)


class WriterArguments(NamedTuple):
    """The writer's ends of its links; -1 where there is none."""

    frames_fd: int                                # from the reader
    free_fd: int                                  # to the reader
    offers_fd: int                                # to the callback
    answers_fd: int                               # from the callback
    display_receive_fd: int
    display_send_fd: int
    inner: Optional[CallbackArguments]            # '2Proc': the other ends, for a thread of this process


class Hub:
    """The writer's hub."""

    def __init__(self, channel: Channel, plan: Plan, granted: Granted, ring: Ring, arguments: WriterArguments) -> None:
        self._channel, self._plan, self._granted, self._ring = channel, plan, granted, ring
        self._settings = plan.settings
        self._ledger = Ledger(granted)
        self._frames, self._free = LinkReader(arguments.frames_fd), LinkWriter(arguments.free_fd)
        os.set_blocking(arguments.free_fd, False)
        self._freed: Deque[int] = collections.deque()       # slots of which the reader is still to be told
        self._selector = selectors.DefaultSelector()
        self._order: Deque[Held] = collections.deque()      # frames not yet handed to the file, in order of capture
        self._in_use = self._high_water = self._writing = 0
        self._submitted: Deque[Held] = collections.deque()  # handed to the file, and not yet reported written
        self._written: Deque[PageJob] = collections.deque()     # of which the hub has not yet heard
        self._heard_at = max(1, min(ring.layout.slots // 16, 16))   # so many of them wake it
        self._ample = 2 * self._heard_at + 1                # pages under way that wake it soon enough
        self._wake_read, self._wake_write = os.pipe()
        self._woken = False                                 # a byte is in that pipe, or about to be
        self._marks: List[Dict[str, Any]] = []              # to be attached to the next page
        self._lost: List[Dict[str, Any]] = []               # for the next frame's page to tell
        self._source_ended = False
        self._aborted = False                               # the start has failed: nothing is to be kept
        self._reader_end: Optional[Mapping[str, Any]] = None
        self._answers_watched: Optional[LinkReader] = None
        self._answers_wake_us = False
        self._lane = self._make_lane()
        self._output = Output(channel, plan, granted, ring, self._ledger, self._room, self._on_written, self._wake)
        self._sink = self._output.sink
        self._display = DisplayFeed(ring.displays, arguments.display_receive_fd, arguments.display_send_fd) \
            if arguments.display_receive_fd >= 0 else None
        self._show_captured = self._display is not None and self._settings.display_proc == 'camera_reader'
        self._show_recorded = self._display is not None and not self._show_captured
        fit_link(arguments.free_fd, ring.layout.slots)
        if arguments.offers_fd >= 0:
            fit_link(arguments.offers_fd, ring.layout.slots)

    def _make_lane(self) -> Optional[Lane]:
        settings, layout = self._settings, self._ring.layout
        if settings.callback is None:
            return None
        return Lane(every=settings.cb_delivery == 'every', may_bypass=not self._granted.waits,
                    use_outputs=bool(layout.outputs), revivable=settings.cb_type == '2Proc', slots=layout.slots,
                    outputs=layout.outputs, timeout_s=settings.cb_timeout or DEFAULT_CB_TIMEOUT_S,
                    first_timeout_s=max(settings.cb_start_timeout, settings.cb_timeout or 0), ledger=self._ledger,
                    release=self._release)

    def connect(self, offers_fd: int, answers_fd: int, generation: int) -> None:
        """A callback is ready."""
        assert self._lane is not None
        self._lane.connect(LinkWriter(offers_fd), LinkReader(answers_fd), generation)
        self._watch_answers()

    def discard(self) -> None:
        """The start failed: leave nothing behind."""
        self._output.discard()

    @property
    def callback_hangs(self) -> bool:
        """Whether a '2Proc' callback is in a call that does not return."""
        return self._lane is not None and self._lane.stuck

    # -- the loop

    def run(self) -> None:
        """Until everything is written and the reader's last word is there."""
        watch = self._selector.register
        watch(self._frames, selectors.EVENT_READ, self._receive_frames)
        watch(self._wake_read, selectors.EVENT_READ, self._receive_wake)
        watch(self._channel, selectors.EVENT_READ, self._receive_orders)
        if self._display is not None:
            watch(self._display, selectors.EVENT_READ, self._receive_display)
        while not self._done():
            for key, _ in self._selector.select(self._time_left_s()):
                key.data()
            if self._written:
                self._receive_written()
            if self._granted.waits:
                self._listen_when_there_is_time()
            self._expire()
            self._pump()

    def _done(self) -> bool:
        if self._aborted:
            return True
        return (self._source_ended and not self._order and not self._writing and self._reader_end is not None
                and (self._lane is None or self._lane.idle))

    def _time_left_s(self) -> Optional[float]:
        return self._lane.time_left_s(time.monotonic_ns()) if self._lane is not None else None

    def _pump(self) -> None:
        lane = self._lane
        if lane is not None:
            lane.pump(self._in_use)
            if self._source_ended:
                lane.finish()
        while self._order and self._order[0].status:
            self._record(self._order.popleft())
        self._send_freed()
        stats = self._ring.stats
        stats[Stat.CALLBACK_QUEUE] = lane.length if lane is not None else 0
        stats[Stat.WRITE_QUEUE] = self._writing
        stats[Stat.IN_USE] = self._in_use
        stats[Stat.PROCESSED] = self._ledger.processed

    # -- frames come

    def _receive_frames(self) -> None:
        for record in self._frames.receive():
            if record.kind == Kind.FRAME:
                self._take(Held(record))
            elif record.kind == Kind.LOST:
                self._lose(Loss(record.a, record.b, None if record.c == NOTHING else record.c,
                                LOSS_REASONS[record.d]))
            elif record.kind == Kind.END:
                self._end_of_source()
        if self._frames.ended:
            self._end_of_source()

    def _lose(self, loss: Loss) -> None:
        self._ledger.lose(loss)
        told = {'index': loss.index, 'count': loss.count, 'time_ns': loss.time_ns, 'reason': loss.reason}
        if len(self._lost) < MOST_LOSSES:
            self._lost.append(told)
        else:
            last = self._lost[-1]
            self._lost[-1] = {**last, 'count': last['count'] + loss.count, 'reason': 'other'}

    def _take(self, held: Held) -> None:
        held.lost, self._lost = tuple(self._lost), []
        if not self._ledger.captured:
            self._output.publish()
        self._in_use += 1
        if self._in_use > self._high_water:
            self._high_water = self._in_use
            self._ring.stats[Stat.HIGH_WATER] = self._in_use
        self._ledger.frame(held.time_ns)
        self._ring.stats[Stat.RECEIVED] = self._ledger.captured
        if self._show_captured and self._display is not None:
            self._display.offer(self._ring.slots[held.slot])
        self._order.append(held)
        if self._lane is None:
            held.status = 'raw'
        else:
            self._lane.take(held)

    def _end_of_source(self) -> None:
        if not self._source_ended:
            self._source_ended = True
            self._selector.unregister(self._frames)
            self._lose_what_nobody_told()

    def _lose_what_nobody_told(self) -> None:
        """A reader that was killed has counted losses that it had not yet told of."""
        ledger = self._ledger
        untold = int(self._ring.stats[Stat.LOST]) - ledger.lost
        if untold > 0:
            self._lose(Loss(ledger.captured + ledger.lost, untold, ledger.last_ns, 'process died',
                            'lost before the reader died; why, it could not tell any more'))

    # -- frames go

    def _record(self, held: Held) -> None:
        """A frame whose fate is decided, next in order."""
        image = self._ring.slots[held.slot] if held.status != 'returned' or held.output is None \
            else self._ring.outputs[held.output]
        if self._show_recorded and self._display is not None:
            self._display.offer(image)
        self._count(held)
        self._writing += 1
        if self._sink is None or self._output.error is not None:
            self._forget(held, wanted=self._sink is not None)
            return
        marks, self._marks = self._marks, []
        self._submitted.append(held)
        self._sink.submit(PageJob(image, self._page_record(held, marks), held))

    @staticmethod
    def _page_record(held: Held, marks: Sequence[Mapping[str, Any]]) -> PageRecord:
        return PageRecord(held.index, held.time_ns, held.sensor_ns, held.host_ns, held.status, tuple(marks),
                          held.callback_ms, held.skew_ns, held.lost)

    def _count(self, held: Held) -> None:
        counts, stats = self._ledger.by_status, self._ring.stats
        counts[held.status] += 1
        stats[Stat.RETURNED], stats[Stat.BYPASSED] = counts['returned'], counts['by-passed']
        stats[Stat.FAILED] = counts['failed']

    def _on_written(self, jobs: List[PageJob]) -> None:
        """In a thread of the sink's, one at a time. The hub is woken when it is worth it, or nothing else will do it.

        While pages are under way, more news will come; and with the next frame it looks here anyway.
        """
        self._written.extend(jobs)
        news = len(self._written)
        if news >= self._heard_at or news == self._writing:
            self._wake()

    def _wake(self) -> None:
        if not self._woken:                # else it will look anyway
            self._woken = True
            os.write(self._wake_write, b'w')

    def _receive_wake(self) -> None:
        os.read(self._wake_read, 65536)
        self._woken = False                # before it is looked what there is: nothing can come unseen in between
        self._receive_written()

    def _receive_written(self) -> None:
        broken = self._output.error is not None      # asked first: whatever was written before the error is told by now
        while self._written:
            job = self._written.popleft()
            if not job.token.written:                  # else it was given up before this news came
                self._submitted.popleft()
                self._ledger.written += 1
                self._ledger.disk_latency.add(job.written_ns - job.record.host_ns)
                self._finish_frame(job.token, job)
        stats = self._ring.stats
        stats[Stat.WRITTEN] = self._ledger.written
        if self._sink is not None:
            stats[Stat.FILE_BYTES], stats[Stat.RAW_BYTES] = self._sink.totals.file_bytes, self._sink.totals.raw_bytes
        if broken:
            self._drop_unwritten()

    def _finish_frame(self, held: Held, job: Optional[PageJob]) -> None:
        if self._output.logs:
            self._output.log(job or PageJob(self._ring.slots[held.slot], self._page_record(held, ()), held))
        self._writing -= 1
        held.written = True
        if not held.open:
            if self._lane is not None:
                self._lane.output_free(held)
            self._release(held)

    def _forget(self, held: Held, wanted: bool) -> None:
        """A frame that goes into no file: none is wanted, or it has broken."""
        if wanted:
            self._ledger.unwritten += 1
        self._finish_frame(held, None)

    def _release(self, held: Held) -> None:
        """The slot may be filled again."""
        self._in_use -= 1
        self._freed.append(held.slot)
        self._send_freed()

    def _send_freed(self) -> None:
        """Without ever waiting: where pipes are small, the reader may be waiting for us at the other link."""
        slots = self._ring.layout.slots
        if self._granted.waits and len(self._freed) < slots // 4 and self._in_use > slots // 2:
            return                         # it has time: rather wake it once, for many
        while self._freed:
            try:
                self._free.send(Kind.FREE, self._freed[0])
            except BlockingIOError:
                return                     # sent later: when the reader has taken these, it sends frames, and we wake
            except BrokenPipeError:
                self._freed.clear()        # it has ended; nobody needs them any more
                return
            self._freed.popleft()

    # -- the callback

    def _watch_answers(self) -> None:
        lane = self._lane
        assert lane is not None and lane.answers is not None
        self._answers_watched = lane.answers
        self._selector.register(lane.answers, selectors.EVENT_READ, self._receive_answers)
        self._answers_wake_us = True

    def _listen_when_there_is_time(self) -> None:
        """As long as the sink has enough to do, only its news wake us, not each answer of the callback.

        A source that waits loses nothing by it; and a turn of ours costs as much as the answers to four frames.
        """
        if not self._answers_wake_us:
            self._receive_answers()        # those that have come meanwhile, before anyone is taken to hang
        if self._answers_watched is None:
            return
        wanted = self._writing < self._ample
        if wanted != self._answers_wake_us:
            self._answers_wake_us = wanted
            if wanted:
                self._selector.register(self._answers_watched, selectors.EVENT_READ, self._receive_answers)
            else:
                self._selector.unregister(self._answers_watched)

    def _receive_answers(self) -> None:
        lane = self._lane
        if lane is None or self._answers_watched is None:
            return                         # its callback was buried in this very turn of the loop
        lane.receive()
        if self._answers_watched.ended:
            self._unwatch_answers()
            if self._settings.cb_type == '2Proc' and not lane.ended:
                lane.despair()             # its thread has ended, and nobody can start another
            if lane.hopeless:              # no keeper will tell us of its burial
                lane.bury(lane.generation, died=True)

    def _unwatch_answers(self) -> None:
        if self._answers_watched is not None:
            if self._answers_wake_us:
                self._selector.unregister(self._answers_watched)
            self._answers_watched = None

    def _expire(self) -> None:
        lane = self._lane
        if lane is not None and lane.leaves_too_slowly(time.monotonic_ns()):
            self._tell_hung(lane, "the callback's __exit__ did not return in time; it is not waited for any longer")
            return
        over_s = lane.hung_for(time.monotonic_ns()) if lane is not None else None
        if lane is None or over_s is None:
            return
        index = lane.offered[0].index
        text = (f'the callback did not return from frame {index} in time; '
                + ('it cannot be ended in 2Proc, frames by-pass it until it returns'
                   if self._settings.cb_type == '2Proc' else 'its process is ended and started again'))
        lane.give_up_hung()
        self._tell_hung(lane, text)

    def _tell_hung(self, lane: Lane, text: str) -> None:
        log.warning(text)
        self._channel.send('cb_hung', (lane.generation, RemoteError('CallbackError', text, '')))
        self._ledger.note_error(text)

    # -- the keeper's words

    def _receive_orders(self) -> None:
        message = self._channel.receive()
        if message is None:
            self._keeper_gone()
            return
        kind, payload, fds = message
        if kind == 'reader_end':
            self._reader_end = payload
        elif kind == 'mark':
            self._marks.append(payload)
            self._ledger.marks.append(payload)
        elif kind == 'cb_error':
            self._ledger.note_error(payload)
        elif kind == 'warning':
            self._ledger.warnings.append(payload)
        elif kind == 'abort':
            self._aborted = True
        elif kind == 'display_gone':
            self._close_display()
        elif self._lane is not None:
            self._receive_callback_news(self._lane, kind, payload, fds)

    def _receive_callback_news(self, lane: Lane, kind: str, payload: Any, fds: List[int]) -> None:
        if kind == 'cb_gone':
            if self._answers_watched is lane.answers:
                lane.receive()
                self._unwatch_answers()
            lane.bury(payload['generation'], payload['died'])
        elif kind == 'cb_new':
            fit_link(fds[0], self._ring.layout.slots)
            self._ledger.callback_restarts += 1
            self.connect(fds[0], fds[1], payload)
        elif kind == 'cb_lost':
            lane.despair()

    def _keeper_gone(self) -> None:
        """Nobody will speak any more: end with what there is."""
        self._selector.unregister(self._channel)
        self._reader_end = self._reader_end or {
            'stopped': 'the keeper process died',
            'unknowns': ["the keeper process died, and with it the reader's last words on its clock and losses"]}
        if self._lane is not None:
            self._lane.despair()

    # -- the display

    def _receive_display(self) -> None:
        if self._display is not None and not self._display.receive():
            self._close_display()

    def _close_display(self) -> None:
        if self._display is not None:
            self._selector.unregister(self._display)
            self._display.close()
            self._display, self._show_captured, self._show_recorded = None, False, False

    def give_up(self, error: BaseException) -> None:
        """The hub itself has failed: what was handed to the file can still be finished."""
        self._output.error = error
        self._ledger.file_error = f'the writer failed: {type(error).__name__}: {error}'
        self._reader_end = self._reader_end or {'stopped': 'the writer failed'}

    # -- trouble with the file

    def _room(self) -> Room:
        """From any thread. What waits for the callback is neither the file's nor free; one slot is the camera's."""
        return Room(self._writing, max(self._ring.layout.slots - self._in_use - 1, 0))

    def _drop_unwritten(self) -> None:
        """Take back the frames that the broken file will never report as written."""
        while self._submitted:
            self._forget(self._submitted.popleft(), wanted=True)

    # -- the end

    def finish(self) -> None:
        """Finish the file and hand the report to the keeper."""
        self._close_display()
        files = self._output.finish(self._report)
        self._channel.send('finished', self._report(files).as_dict())

    def _report(self, files: List[str]) -> Report:
        end = dict(self._reader_end or {})
        self._ledger.explain_losses(end.get('loss_details', {}))
        return self._ledger.report(
            write_vid=self._sink is not None, end=end, totals=self._sink.totals if self._sink is not None else None,
            ring_frames=self._ring.layout.slots, high_water=self._high_water,
            results=int(self._ring.stats[Stat.RESULTS]), files=files)

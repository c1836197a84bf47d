"""The lane's decisions, frame by frame, with the callback's end of the links played by the test."""

from __future__ import annotations

import time
from typing import Any, Iterator, List

import pytest

from ProcessedPiRecorder.cameras.base import Granted
from ProcessedPiRecorder.pipeline.lane import Held, Lane, Outcome
from ProcessedPiRecorder.pipeline.ledger import Ledger
from ProcessedPiRecorder.pipeline.links import NOTHING, Kind, LinkReader, LinkWriter, Record, make_link

GRANTED = Granted(64, 48, 64, 48, 30.0, 'bgr', 'a clock', 'frame_duration')


class Bench:
    """A lane, and the other ends of its links."""

    def __init__(self, **options: Any) -> None:
        self.ledger = Ledger(GRANTED)
        self.released: List[int] = []
        settings: Any = {'every': True, 'may_bypass': True, 'use_outputs': True, 'revivable': False, 'slots': 8,
                         'outputs': 4, 'timeout_s': 0.05, 'first_timeout_s': 0.05, **options}
        self.lane = Lane(ledger=self.ledger, release=lambda held: self.released.append(held.index), **settings)
        self.generation = 0
        self.frames: List[Held] = []
        self.connect()

    def connect(self) -> None:
        offers_read, offers_write = make_link()
        answers_read, answers_write = make_link()
        self.generation += 1
        self.offers, self.answers = LinkReader(offers_read), LinkWriter(answers_write)
        self.lane.connect(LinkWriter(offers_write), LinkReader(answers_read), self.generation)

    def take(self, count: int, in_use: int = 0) -> None:
        for _ in range(count):
            index = len(self.frames)
            held = Held(Record(Kind.FRAME, 0, index % 8, index, 1000 + index, NOTHING, time.monotonic_ns(), 0))
            self.frames.append(held)
            self.lane.take(held)
            self.lane.pump(in_use)

    def offered(self) -> List[Record]:
        return self.offers.receive()

    def answer(self, record: Record, outcome: Outcome = Outcome.NONE) -> None:
        now = time.monotonic_ns()
        self.answers.send(Kind.DONE, record.slot, record.a, int(outcome), now, now, generation=self.generation)
        self.lane.receive()
        self.lane.pump(0)

    def statuses(self) -> List[str]:
        return [held.status for held in self.frames]

    def close(self) -> None:
        self.offers.close()
        self.answers.close()
        if self.lane.answers is not None:
            self.lane.answers.close()
        if self.lane._offers is not None:
            self.lane._offers.close()


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(**getattr(request, 'param', {}))
    yield made
    made.close()


def test_two_offers_are_under_way_and_the_next_follows_an_answer(bench: Bench) -> None:
    bench.take(4)
    first, second = bench.offered()
    assert [first.a, second.a] == [0, 1] and first.d != second.d != NOTHING
    bench.answer(first, Outcome.RETURNED)
    third, = bench.offered()
    assert third.a == 2 and bench.statuses() == ['returned', '', '', '']


def test_outcomes_become_statuses_and_counts(bench: Bench) -> None:
    for outcome in (Outcome.NONE, Outcome.RETURNED, Outcome.FAILED):
        bench.take(1)
        bench.answer(bench.offered()[0], outcome)
    assert bench.statuses() == ['raw', 'returned', 'failed']
    assert bench.ledger.processed == 2 and bench.ledger.callback_errors == 1


@pytest.mark.parametrize('bench', [{'may_bypass': False}], indirect=True)
def test_outputs_limit_what_is_offered_and_come_back_when_written(bench: Bench) -> None:
    bench.take(8)
    answered = []
    pending = bench.offered()
    while pending:
        record = pending.pop(0)
        bench.answer(record, Outcome.RETURNED)
        answered.append(record.a)
        pending += bench.offered()
    assert answered == [0, 1, 2, 3]                    # four output slots, none written yet
    bench.lane.output_free(bench.frames[0])
    bench.lane.pump(0)
    assert [record.a for record in bench.offered()] == [4]


def test_the_oldest_waiting_frames_go_past_a_slow_callback(bench: Bench) -> None:
    bench.take(8)                                      # 2 offered, 6 wait; half of 8 slots may
    assert bench.statuses() == ['', '', 'by-passed', 'by-passed', 'by-passed', 'by-passed', '', '']


@pytest.mark.parametrize('bench', [{'may_bypass': False}], indirect=True)
def test_nothing_by_passes_when_the_source_waits(bench: Bench) -> None:
    bench.take(8, in_use=8)
    assert bench.statuses() == [''] * 8


def test_a_nearly_full_ring_gives_up_the_frame_in_the_callback_but_not_its_slot(bench: Bench) -> None:
    bench.take(2)
    first, second = bench.offered()
    bench.lane.pump(in_use=7)
    assert bench.statuses() == ['by-passed', 'by-passed']
    held = bench.frames[0]
    held.written = True
    assert held.open and bench.released == []          # the callback may still be reading it
    bench.answer(first, Outcome.RETURNED)
    assert bench.released == [0] and held.status == 'by-passed' and held.output is None


def test_a_hung_call_fails_and_the_others_wait_for_the_next_process(bench: Bench) -> None:
    before_ns = time.monotonic_ns()
    bench.take(3)
    assert bench.lane.hung_for(before_ns) is None
    # Between these two moments its 0.05 s began, however long the machine pauses here.
    assert bench.lane.time_left_s(before_ns) >= 0.05 >= bench.lane.time_left_s(time.monotonic_ns())
    time.sleep(0.06)
    assert bench.lane.hung_for(time.monotonic_ns()) is not None
    bench.lane.give_up_hung()
    bench.frames[0].written = True
    assert bench.statuses() == ['failed', '', ''] and bench.frames[0].open and bench.frames[1].open
    bench.lane.bury(1, died=True)
    assert bench.released == [0] and [held.index for held in bench.lane.waiting] == [1, 2]
    bench.offers.close(), bench.answers.close()
    bench.connect()
    bench.lane.pump(0)
    assert [record.a for record in bench.offered()] == [1, 2]
    assert bench.ledger.callback_errors == 1


@pytest.mark.parametrize('bench', [{'timeout_s': 10.0, 'first_timeout_s': 60.0}], indirect=True)
@pytest.mark.parametrize('answers', [0, 1])
def test_only_who_hangs_in_its_first_call_leaves_its_successor_less_time_for_it(bench: Bench, answers: int) -> None:
    bench.take(3)
    for record in bench.offered()[:answers]:
        bench.answer(record)
    bench.lane.give_up_hung()
    bench.lane.bury(1, died=True)
    bench.offers.close(), bench.answers.close()
    bench.connect()
    bench.lane.pump(0)
    left_s = bench.lane.time_left_s(time.monotonic_ns())
    assert left_s is not None and (50 < left_s <= 60 if answers else left_s <= 10)


@pytest.mark.parametrize('bench', [{'revivable': True}], indirect=True)
def test_a_hung_thread_is_passed_by_until_it_answers(bench: Bench) -> None:
    bench.take(2)
    first, second = bench.offered()
    time.sleep(0.06)
    bench.lane.give_up_hung()
    bench.take(1)
    assert bench.statuses() == ['failed', 'by-passed', 'by-passed'] and bench.lane.stuck
    bench.answer(first)
    bench.answer(second)
    bench.take(1)
    assert [record.a for record in bench.offered()] == [3] and not bench.lane.stuck


def test_answers_given_before_death_count(bench: Bench) -> None:
    bench.take(3)
    first, second = bench.offered()
    bench.answers.send(Kind.DONE, first.slot, 0, int(Outcome.RETURNED), 0, 0, generation=1)
    bench.lane.bury(1, died=True)
    assert bench.statuses() == ['returned', 'failed', ''] and [held.index for held in bench.lane.waiting] == [2]


def test_without_hope_everything_goes_past(bench: Bench) -> None:
    bench.take(3)
    bench.lane.bury(1, died=True)
    bench.lane.despair()
    bench.lane.pump(0)
    assert bench.statuses() == ['failed', 'by-passed', 'by-passed'] and bench.lane.idle


@pytest.mark.parametrize('bench', [{'every': False}], indirect=True)
def test_latest_keeps_only_the_newest_waiting(bench: Bench) -> None:
    bench.take(4)
    only, = bench.offered()
    assert only.a == 0 and bench.statuses() == ['', 'by-passed', 'by-passed', '']
    bench.answer(only)
    assert [record.a for record in bench.offered()] == [3]


def test_the_end_is_told_once_everything_is_answered(bench: Bench) -> None:
    bench.take(1)
    record, = bench.offered()
    bench.lane.finish()
    assert bench.offered() == [] and not bench.lane.idle
    bench.answer(record)
    bench.lane.finish()
    assert [record.kind for record in bench.offered()] == [Kind.END] and not bench.lane.idle
    bench.answers.send(Kind.END, a=1)
    bench.lane.receive()
    assert bench.lane.idle and bench.ledger.callback_errors == 1


def test_a_dead_callback_never_raises_into_the_hub(bench: Bench) -> None:
    bench.offers.close()
    bench.take(2)
    bench.lane.finish()
    assert bench.statuses() == ['', '']

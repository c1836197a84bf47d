"""Looking through recordings: what is due when, what is shown of it, and the real window under a virtual X server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple, Union

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from recording_tools import ROOT, recorder, truth, wait_until
from repair_kit import cut_off, write
from screen_kit import Screen, close_button, needs_xdotool, needs_xvfb, start_screen, xdotool

from ProcessedPiRecorder import open_recording
from ProcessedPiRecorder.cli import main
from ProcessedPiRecorder.errors import CallbackError, DisplayError, RecordingFileError
from ProcessedPiRecorder.reading import Recording
from ProcessedPiRecorder.views import canvas as canvases
from ProcessedPiRecorder.views.ahead import Ahead
from ProcessedPiRecorder.views.canvas import Canvas, Scene, first_size, page_under, panel_height
from ProcessedPiRecorder.views.drawing import Point, draw_points, find_points
from ProcessedPiRecorder.views.facts import Facts, FactsOf, Notice
from ProcessedPiRecorder.views.player import FOREIGN_RATE, SPEEDS, Player
from ProcessedPiRecorder.views.viewer import HELP, Pointer, Viewer
from ProcessedPiRecorder.views.window import key_name, view

MS = 1_000_000
FIRST_NS = 1_700_000_000_000_000_000


def times_every(*intervals_ms: float) -> np.ndarray:
    return FIRST_NS + np.concatenate([[0], np.cumsum(np.array(intervals_ms) * MS)]).astype(np.int64)


# ---------------------------------------------------------------------- which page is due when

recorded_times = st.lists(st.integers(1, 5_000_000_000), min_size=0, max_size=40).map(
    lambda steps: FIRST_NS + np.cumsum([0, *steps]).astype(np.int64))


@given(recorded_times, st.data())
def test_the_page_that_is_due_is_the_latest_that_had_come(times: np.ndarray, data: st.DataObject) -> None:
    player = Player(len(times), times)
    start = data.draw(st.integers(0, len(times) - 1))
    steps = data.draw(st.integers(-6, 6))
    player.seek(start, 100.0)
    player.change_speed(steps, 100.0)
    if start == len(times) - 1:
        start = 0                              # from the end it begins anew
    player.play(100.0)
    passed = data.draw(st.floats(0, 1e4))
    due = player.due(100.0 + passed)
    position = (times[start] - times[0]) / 1e9 + passed * 2.0 ** steps
    seconds = (times - times[0]) / 1e9
    assert seconds[due] <= position + 1e-5
    assert due == len(times) - 1 or seconds[due + 1] > position - 1e-5
    wait = player.wait(100.0 + passed)
    if due == len(times) - 1:
        assert wait is None
    elif wait:
        assert player.due(100.0 + passed + wait + 1e-5) > due


@given(recorded_times, st.floats(0, 0.5), st.integers(-6, 6))
def test_all_is_wanted_in_order_to_the_last_page(times: np.ndarray, latency: float, steps: int) -> None:
    player = Player(len(times), times)
    player.change_speed(steps, 0.0)
    player.play(0.0)
    planned: List[int] = [0]
    while True:
        wanted = player.next_wanted(planned[-1], 0.0, latency)
        if wanted is None:
            break
        planned.append(wanted)
    assert planned == sorted(set(planned)) and planned[-1] == len(times) - 1
    if player.speed <= 1 and latency == 0 and np.diff(times).min(initial=10**9) > 17 * MS:
        assert planned == list(range(len(times)))       # none is left out that a screen could show


def test_of_more_pages_than_a_screen_shows_only_those_are_decoded() -> None:
    player = Player(10_000, FIRST_NS + np.arange(10_000) * MS)      # 1,000 Hz
    player.play(0.0)
    assert player.next_wanted(0, 0.0, 0.0) == 16
    player.change_speed(3, 0.0)
    assert player.next_wanted(0, 0.0, 0.0) == 133


def test_decoding_that_is_behind_goes_on_with_what_will_be_due() -> None:
    player = Player(100, times_every(*[10.0] * 99))
    player.play(0.0)
    assert player.next_wanted(3, 0.2, 0.1) == 30


def test_gaps_are_seen_as_they_were() -> None:
    player = Player(4, times_every(100, 7_000, 100))
    player.play(0.0)
    assert [player.due(now) for now in (0.05, 0.1, 3.0, 7.05, 7.1, 7.15, 7.2, 9.0)] == [0, 1, 1, 1, 2, 2, 3, 3]
    assert player.wait(3.0) == pytest.approx(4.1)
    player.change_speed(1, 3.0)                # from here on, twice as fast
    assert player.wait(3.0) == pytest.approx(2.05) and player.due(5.06) == 2


def test_without_times_pages_come_at_30_hz() -> None:
    player = Player(90)
    player.play(10.0)
    assert FOREIGN_RATE == 30
    assert [player.due(10.0 + page / 30 + 1e-6) for page in range(90)] == list(range(90))


def test_at_the_end_it_stays_and_then_begins_anew() -> None:
    player = Player(3, times_every(10, 10))
    player.play(0.0)
    player.was_shown(player.due(5.0), 5.0)
    assert (player.page, player.playing, player.wait(6.0)) == (2, False, None)
    player.play(7.0)
    assert (player.due(7.0), player.playing) == (0, True)


def test_a_pause_stays_at_what_is_seen() -> None:
    player = Player(100, times_every(*[10.0] * 99))
    player.play(0.0)
    player.was_shown(player.due(0.105), 0.105)
    player.pause()
    assert player.due(50.0) == 10 and player.wait(50.0) is None
    player.play(60.0)
    assert player.due(60.012) == 11


def test_seeking_by_seconds() -> None:
    player = Player(6, times_every(500, 500, 500, 60_000, 500))
    for seconds, expected in ((1.0, 2), (1.0, 3), (1.0, 4), (-1.0, 3), (-10.0, 0), (-1.0, 0), (10.0, 3), (100.0, 5),
                              (1.0, 5)):
        player.seek_seconds(seconds, 0.0)
        assert player.page == expected


@given(st.integers(-50, 50))
def test_seeking_beyond_the_ends(page: int) -> None:
    player = Player(10)
    player.seek(page, 0.0)
    assert player.page == min(max(page, 0), 9)


def test_speeds_have_ends() -> None:
    player = Player(10)
    for steps, expected in ((1, 2.0), (-2, 0.5), (-100, SPEEDS[0]), (100, SPEEDS[-1])):
        player.change_speed(steps, 0.0)
        assert player.speed == expected


def test_the_pace_tells_what_was_skipped() -> None:
    player = Player(1000, times_every(*[10.0] * 999))
    player.play(0.0)
    for now in np.arange(0.0, 3.0, 0.04):
        player.was_shown(player.due(now + 0.001), now)
    assert player.pace.due / player.pace.shown == pytest.approx(4)
    player.seek(5, 3.0)
    assert player.pace == (0, 0)


# ---------------------------------------------------------------------- decoding ahead

def image_of(page: int) -> np.ndarray:
    if page == 3:
        raise RecordingFileError('page 3 is damaged')
    return np.full((2, 2), page, np.uint8)


@pytest.fixture
def ahead() -> Iterator[Ahead]:
    made = Ahead(image_of, 4, threads=2)
    yield made
    made.close()


def test_the_newest_page_that_is_due_is_taken(ahead: Ahead) -> None:
    ahead.want(range(6))
    wait_until(lambda: all(ahead.take(page) for page in range(6)))
    assert ahead.newest(-1) is None
    found = ahead.newest(4)
    assert found is not None and found.page == 4 and found.pixels is not None and found.pixels[0, 0] == 4
    assert ahead.take(2) is None and ahead.newest(4) is None
    assert ahead.seconds > 0 and ahead.latency > 0


def test_a_page_that_cannot_be_read_says_so(ahead: Ahead) -> None:
    ahead.want([3])
    ahead.wait(3, 10)
    found = ahead.take(3)
    assert found is not None and found.pixels is None and 'damaged' in str(found.error)


def test_what_is_no_longer_wanted_is_forgotten_and_room_is_bounded(ahead: Ahead) -> None:
    page = 10
    while ahead.has_room:
        ahead.add(page)
        page += 1
    assert 2 < page - 10 <= 16
    ahead.want([10])
    assert ahead.has_room
    ahead.wait(10, 10)
    assert ahead.take(11) is None and ahead.take(10) is not None


def test_another_error_comes_up_in_the_window_s_thread() -> None:
    def broken(page: int) -> np.ndarray:
        raise ZeroDivisionError
    ahead = Ahead(broken, 4, threads=1)
    try:
        ahead.want([0])
        with pytest.raises(ZeroDivisionError):
            wait_until(lambda: ahead.take(0))
    finally:
        ahead.close()


# ---------------------------------------------------------------------- what is told of a page

def callback(buffer: Any, cb_queue: Any) -> None:
    index = buffer[-1].index
    if index == 8:
        raise ValueError('on purpose')
    elif index % 2:
        cb_queue.put([{'x': 10, 'y': 5, 'w': 20, 'h': 30}])
    elif index:
        cb_queue.put({'speed': index, 'where': {'x': 7, 'y': 9}})


@pytest.fixture(scope='module')
def trial(tmp_path_factory: pytest.TempPathFactory) -> Tuple[Path, Callable[[int], np.ndarray]]:
    """A recording with losses, marks, results, and a frame that its callback failed on; and its frames as they were."""
    path = tmp_path_factory.mktemp('view') / 'trial.tif'
    rec = recorder(path, callback=callback, blocking=False, controls={
        'pace': True, 'frames': 60, 'buffers': 100, 'skip': (20, 21, 22, 40)})
    with rec:
        rec.recordVid()
        time.sleep(0.1)
        rec.mark('licht an: grün')
        with pytest.raises(CallbackError, match='on purpose'):
            rec.wait()
    return path, truth(rec.settings)


@pytest.fixture
def rec(trial: Tuple[Path, Callable[[int], np.ndarray]]) -> Iterator[Recording]:
    with open_recording(trial[0]) as opened:
        yield opened


def test_the_facts_of_pages(rec: Recording) -> None:
    facts_of = FactsOf(rec)
    assert facts_of.lossy.tolist() == [20, 37]
    [marked] = facts_of.marked.tolist()
    first, lost, failed = facts_of.of(0), facts_of.of(20), facts_of.of(8)
    assert first.place[:2] == ('frame 0', 'page 0 of 56') and first.place[2].endswith(' UTC')
    assert first.place[3:] == ('0.000 s',)
    assert lost.place[0] == 'frame 23' and lost.place[3:] == ('0.230 s', '+40.000 ms')
    assert Notice('3 frames lost before this one (camera gap)', 'bad') in lost.notices
    assert failed.notices[0] == Notice('failed: the callback raised on this frame, or died', 'bad')
    assert Notice('mark: licht an: grün', 'mark') in facts_of.of(marked).notices
    assert json.loads(facts_of.of(2).results_text) == {'speed': 2, 'where': {'x': 7, 'y': 9}}
    assert facts_of.of(1).results_text == '' and len(facts_of.of(1).results) == 1     # boxes are drawn
    assert [len(text) >= len(other) for text, other in zip(facts_of.widest, lost.place)] == [True] * 5


def test_a_long_pause_and_missing_results_are_told(rec: Recording, tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    times = np.array(rec.times_ns)
    times[30:] += 8_000_000_000
    monkeypatch.setattr(rec, 'times_ns', times)
    assert Notice('the next frame came 8.0 s later', 'warning') in FactsOf(rec).of(29).notices
    gone = tmp_path / 'gone.jsonl'
    gone.touch()
    with open_recording(rec.path, results=gone) as without:
        gone.unlink()
        facts = FactsOf(without).of(2)
    assert [notice.kind for notice in facts.notices if 'no results' in notice.text] == ['warning']
    assert facts.results == ()


def test_points_are_found_and_drawn() -> None:
    assert find_points([{'nose': {'x': 1, 'y': 2.5}}, {'x': 1, 'y': 2, 'w': 3, 'h': 4}, {'x': True, 'y': 1},
                        {'x': float('inf'), 'y': 1}, 'x', {'x': 3, 'y': 4, 'p': 0.9}]) == [Point(1, 2.5), Point(3, 4)]
    image = np.zeros((60, 60, 3), np.uint8)
    draw_points(image, [Point(10, 7), Point(1e9, 7)], 2.0)
    assert image[15, 21].tolist() == [60, 220, 60] and not image[30:].any()
    draw_points(np.zeros((9, 9), np.uint8), [Point(2, 2)])


# ---------------------------------------------------------------------- what is drawn

NOTHING = Facts((), (), ())
ORDINARY = Facts(('frame 1', 'page 1 of 10'), (Notice('a loss', 'bad'),), ())


def canvas(pages: int = 10) -> Canvas:
    return Canvas(pages, np.array([2]), np.array([7]), ('frame 8', 'page 8 of 10'))


@pytest.mark.parametrize('shape', [(480, 640, 3), (480, 640), (1080, 1920, 3), (9, 2000), (2000, 9), (1, 1)])
def test_the_frame_is_shown_whole_and_nothing_covers_it(shape: Tuple[int, ...]) -> None:
    height, width = first_size(*shape[:2])
    assert height <= 720 + panel_height(width) and width <= 1280
    pixels = np.full(shape, 200, np.uint8)
    drawn = canvas().draw(Scene(1, 10, pixels, ORDINARY, message='a message'), height, width)
    assert drawn.shape == (height, width, 3)
    picture = drawn[:-panel_height(width)]
    seen = (picture == 200).all(2).sum()
    scale = min(picture.shape[0] / shape[0], width / shape[1])
    assert seen == max(round(shape[0] * scale), 1) * max(round(shape[1] * scale), 1)      # none of it is covered


def test_a_new_window_shows_the_frame_s_own_pixels() -> None:
    rng = np.random.default_rng(0)
    for shape, times in (((480, 640, 3), 1), ((64, 96, 3), 11), ((700, 1280), 1)):
        pixels = rng.integers(0, 256, shape, np.uint8)
        height, width = first_size(*shape[:2])
        drawn = canvas().draw(Scene(0, 10, pixels, NOTHING), height, width)
        expected = pixels.repeat(times, 0).repeat(times, 1)
        left = (width - expected.shape[1]) // 2
        found = drawn[:expected.shape[0], left:left + expected.shape[1]]
        np.testing.assert_array_equal(found, expected if expected.ndim == 3 else np.stack([expected] * 3, 2))


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 10**6), st.text(max_size=300), st.data())
def test_any_size_and_any_text_can_be_drawn(height: int, width: int, pages: int, text: str, data: Any) -> None:
    facts = Facts((text, 'page'), (Notice(text, 'mark'), Notice(text, 'bad')), ())
    scene = Scene(data.draw(st.integers(0, pages - 1)), pages, None, facts, True, hint=text, message=text, instead=text,
                  help=HELP)
    drawn = Canvas(pages, np.array([0]), np.array([pages - 1]), ('8' * 40, '8')).draw(scene, height, width)
    assert drawn.shape == (max(height, 270), max(width, 480), 3)


def test_texts_stay_within_their_window() -> None:
    facts = Facts(('frame',), (Notice('very long ' * 300, 'bad'),), ())
    for width in (480, 720, 1300):
        drawn = canvas().draw(Scene(0, 10, None, facts, message='m' * 999, hint='x1', instead='w' * 999), 400, width)
        assert (drawn[:, -8:] == drawn[0, -1]).all() or (drawn[-80:, -8:] == drawn[-1, -1]).all()


def test_a_page_that_cannot_be_read_is_dark_and_says_so() -> None:
    said = canvas().draw(Scene(1, 10, None, ORDINARY, instead='page 1 is damaged'), 500, 720)
    silent = canvas().draw(Scene(1, 10, None, ORDINARY), 500, 720)
    assert said[:300].max() > 200 and silent[:300].max() < 50


def test_losses_and_marks_stand_on_the_time_line() -> None:
    drawn = canvas(11).draw(Scene(0, 11, None, NOTHING), 500, 720)
    strip = drawn[-panel_height(720):][:34].astype(int)
    red = np.nonzero((strip[:, 80:, 2] > 200) & (strip[:, 80:, 1] < 150))[1] + 80
    yellow = np.nonzero((strip[:, 80:, 1] > 200) & (strip[:, 80:, 0] < 150))[1] + 80
    assert {page_under(x, 720, 11) for x in red} == {2} and {page_under(x, 720, 11) for x in yellow} == {7}


@given(st.integers(-10, 3000), st.integers(480, 3000), st.integers(1, 10**7))
def test_every_column_of_the_time_line_is_a_page(x: int, width: int, pages: int) -> None:
    assert 0 <= page_under(x, width, pages) < pages
    assert page_under(0, width, pages) == 0 and page_under(width, width, pages) == pages - 1


def test_letters_that_the_font_lacks() -> None:
    assert canvases.plain('  Versuch läuft\nñ → 東') == 'Versuch lauft n ? ?'
    assert canvases.text_width('mmmm') > canvases.text_width('mm') > 0


# ---------------------------------------------------------------------- what keys do, without any window

Event = Union[str, Pointer]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeScreen:
    """A screen whose time passes only while it is served; for each round, what is pressed in it."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.canvases, self.next_events, self.open = clock, [], [], True     # type: ignore[var-annotated]
        self.served: List[float] = []

    def size(self) -> Tuple[int, int]:
        return 500, 800

    def show(self, canvas: np.ndarray) -> None:
        self.canvases.append(canvas)

    def events(self, seconds: float) -> List[Event]:
        self.clock.now += seconds
        self.served.append(seconds)
        events, self.next_events = self.next_events, []
        return events

    def is_open(self) -> bool:
        return self.open


class Looking:
    """A viewer on a fake screen, which is driven turn by turn."""

    def __init__(self, recording: Recording, folder: Path) -> None:
        self.clock = Clock()
        self.screen = FakeScreen(self.clock)
        self.viewer = Viewer(recording, self.screen, folder, self.clock)
        self.viewer._want_page()
        self.settle()

    def settle(self) -> None:
        """Until what is wanted is decoded and shown."""
        for _ in range(1000):
            self.viewer.turn()
            if not self.viewer._waits_for_decoding(self.clock.now) and not self.viewer._stale:
                return
        raise AssertionError('it was never shown')

    def press(self, *events: Event) -> int:
        """The page that is seen afterwards."""
        for event in events:
            self.screen.next_events = [event]
            self.viewer.turn()
            self.settle()
        assert self.viewer._seen is not None
        return self.viewer._seen.page

    def message(self) -> str:
        return self.viewer._message


@pytest.fixture
def looking(rec: Recording, tmp_path: Path) -> Iterator[Looking]:
    made = Looking(rec, tmp_path)
    yield made
    made.viewer._ahead.close()


def test_stepping_and_seeking(looking: Looking) -> None:
    for keys, page in ((['right'], 1), (['right', '.'], 3), (['left', ','], 1), (['end'], 55), (['right'], 55),
                       (['home'], 0), (['left'], 0), (['up'], 55), (['page down'], 0), (['page up'], 55),
                       (['home'], 0), (['x', 'f1'], 0)):
        assert looking.press(*keys) == page, keys


def test_losses_and_marks_are_gone_to_one_after_the_other(looking: Looking) -> None:
    assert looking.press('l') == 20
    assert looking.press('l') == 37 and looking.message() == 'loss 2 of 2'
    assert looking.press('l') == 20 and 'from the beginning' in looking.message()
    assert looking.press('m') == looking.viewer._facts_of.marked[0]


def test_going_to_a_frame_or_a_time(looking: Looking) -> None:
    for typed, page, said in (('23', 20, ''), ('21', 20, 'not in the recording'), ('999', 55, 'no frame 999'),
                              ('0.23s', 20, ''), ('0.25s', 22, ''), ('99s', 55, ''), ('1.2.3', 55, 'neither'),
                              ('', 55, ''), ('s', 55, 'neither')):
        assert looking.press('g', *typed, 'enter') == page, typed
        assert said in looking.message()
    assert looking.press('g', '1', '2', 'backspace', 'q', 'enter') == 1     # q is no end while a number is typed
    assert looking.press('g', '5', 'escape') == 1
    assert not looking.viewer._ended


def test_playing_shows_every_page_when_it_is_due(looking: Looking, rec: Recording) -> None:
    seen: List[Tuple[float, int]] = []
    original = looking.viewer._see

    def see(found: Any, now: float) -> None:
        seen.append((now, found.page))
        original(found, now)
    looking.viewer._see = see                  # type: ignore[method-assign]
    looking.screen.next_events = ['space']
    looking.viewer.turn()
    start = looking.clock.now
    while looking.viewer.player.playing:
        looking.viewer.turn()
    assert [page for _, page in seen][-55:] == list(range(1, 56))
    assert rec.times_s is not None
    late = [now - start - rec.times_s[page] for now, page in seen[-55:]]
    assert -0.001 < min(late) and max(late) < 0.021
    assert 'the end' in looking.message()


def test_a_machine_that_cannot_keep_up_skips_and_says_so(looking: Looking) -> None:
    looking.press('+', '+', '+', '+', '+')
    assert looking.viewer.player.speed == 32
    looking.screen.next_events = ['space']
    shown = set()
    hints = set()
    while not shown or looking.viewer.player.playing:
        looking.viewer.turn()
        looking.clock.now += 0.002
        assert looking.viewer._seen is not None
        shown.add(looking.viewer._seen.page)
        hints.add(looking.viewer._hint())
        if looking.viewer.player.page == 0 and len(looking.screen.served) > 100:
            break
    assert 55 in shown and len(shown) < 40
    assert any('frames shown' in hint for hint in hints)


def test_waiting_is_waiting(looking: Looking) -> None:
    """While nothing moves it sleeps for the events' interval, and draws nothing."""
    looking.press('space', 'space')
    looking.clock.now += 10
    looking.viewer.turn()                      # the message is over
    drawn, served = len(looking.screen.canvases), len(looking.screen.served)
    for _ in range(20):
        looking.viewer.turn()
    assert set(looking.screen.served[served:]) == {0.05} and len(looking.screen.canvases) == drawn


def test_the_slider(looking: Looking) -> None:
    y = 500 - panel_height(800) + 10
    assert canvases.on_timeline(y, 500, 800)
    assert looking.press(Pointer('press', 400, y)) == page_under(400, 800, 56)
    assert looking.press(Pointer('move', 790, 20)) == 55           # it is held on to
    assert looking.press(Pointer('move', -50, 20)) == 0
    assert looking.press(Pointer('release', 300, y)) == page_under(300, 800, 56)
    assert looking.press(Pointer('move', 500, y), Pointer('press', 400, 20), Pointer('release', 400, 20)) == \
        page_under(300, 800, 56)                                     # in the picture it means nothing
    looking.screen.next_events = [Pointer('press', 15, y), Pointer('release', 15, y)]
    looking.viewer.turn()
    assert looking.viewer.player.playing                             # the button
    looking.press(Pointer('press', 100, y))
    assert not looking.viewer.player.playing
    looking.press(Pointer('release', 100, y))
    assert looking.viewer.player.playing                             # it goes on from there


def test_results_are_drawn_or_not(looking: Looking, trial: Tuple[Path, Callable[[int], np.ndarray]]) -> None:
    looking.press('right')
    with_boxes = looking.screen.canvases[-1]
    looking.press('o')
    without = looking.screen.canvases[-1]
    assert (with_boxes[:300] == (60, 220, 60)).all(2).sum() > 100
    assert not (without[:300] == (60, 220, 60)).all(2).any()
    looking.press('h')
    assert looking.screen.canvases[-1][:300].mean() != without[:300].mean()


def test_a_frame_is_saved_as_it_was_recorded(looking: Looking, trial: Any, tmp_path: Path) -> None:
    import cv2
    looking.press('l', 's')
    saved = tmp_path / 'trial_frame_00000023.png'
    np.testing.assert_array_equal(cv2.imread(str(saved), cv2.IMREAD_UNCHANGED), trial[1](23))
    assert str(saved) in looking.message()
    before = saved.read_bytes()
    looking.press('s')
    assert 'not saved' in looking.message() and saved.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [saved.name]


def test_the_end(looking: Looking) -> None:
    for key in ('q', 'escape'):
        looking.viewer._ended = False
        looking.press(key)
        assert looking.viewer._ended
    assert not [key for names, _ in HELP for key in names.replace(', ', ' ').split() if len(key) == 1
                and key not in looking.viewer._actions]              # the help tells of no other keys


def test_run_ends_with_its_window(rec: Recording, tmp_path: Path) -> None:
    clock = Clock()
    screen = FakeScreen(clock)
    served = 0

    def events(seconds: float) -> List[Event]:
        nonlocal served
        served += 1
        screen.open = served < 5
        return []
    screen.events = events                     # type: ignore[method-assign]
    Viewer(rec, screen, tmp_path, clock).run()
    assert served == 5


def test_eyes_are_for_stereo_only(looking: Looking, rec: Recording) -> None:
    looking.press('1')
    assert 'not stereo' in looking.message()
    rec.settings['stereo'] = True
    try:
        both = looking.press('0') or looking.screen.canvases[-1]
        widths = []
        for key in ('1', '2'):
            looking.press('o', key)
            widths.append(looking.viewer._scene(looking.viewer._seen).pixels.shape[1])    # type: ignore[arg-type, union-attr]
        assert widths == [rec.shape[2] // 2] * 2 and both is not looking.screen.canvases[-1]
    finally:
        rec.settings['stereo'] = False


# ---------------------------------------------------------------------- other files

@pytest.fixture
def look_at(tmp_path: Path) -> Iterator[Callable[[Path], Looking]]:
    made: List[Looking] = []
    opened: List[Recording] = []

    def look(path: Path) -> Looking:
        opened.append(open_recording(path))
        made.append(Looking(opened[-1], tmp_path))
        return made[-1]
    yield look
    for looking in made:
        looking.viewer._ahead.close()
    for recording in opened:
        recording.close()


@pytest.mark.parametrize('dtype', ['uint16', 'float32', 'bool', 'int32'])
def test_a_foreign_tiff_is_scaled_for_looking_only(look_at: Any, tmp_path: Path, dtype: str) -> None:
    frames = (np.arange(4 * 20 * 30).reshape(4, 20, 30) % 4000).astype(dtype)
    tifffile.imwrite(tmp_path / 'foreign.tif', frames, photometric='minisblack')
    looking = look_at(tmp_path / 'foreign.tif')
    assert looking.press('end') == 3
    facts = looking.viewer._facts
    assert facts.place == ('page 3 of 4', 'no times: played at 30 Hz') and facts.notices == ()
    assert looking.screen.canvases[-1][:300].max() > 150
    assert dtype in looking.viewer._hint()
    looking.press('m')
    assert 'no mark' in looking.message()
    looking.press('s')
    if dtype == 'uint16':
        np.testing.assert_array_equal(_png(tmp_path / 'foreign_frame_00000003.png'), frames[3])
    else:
        assert 'not saved: a PNG holds' in looking.message()


def _png(path: Path) -> np.ndarray:
    import cv2
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_a_damaged_page_is_dark_and_the_others_go_on(look_at: Any, trial: Any, tmp_path: Path) -> None:
    data = bytearray(trial[0].read_bytes())
    with tifffile.TiffFile(trial[0]) as tiff:
        offset, length = tiff.pages[5].dataoffsets[0], tiff.pages[5].databytecounts[0]
    data[offset:offset + length] = bytes(length)
    (tmp_path / 'trial.tif').write_bytes(data)
    looking = look_at(tmp_path / 'trial.tif')
    looking.press('g', '5', 'enter')
    assert looking.viewer._seen is not None and looking.viewer._seen.error is not None
    assert 'page 5' in looking.viewer._scene(looking.viewer._seen).instead
    looking.press('s')
    assert 'cannot be read' in looking.message()
    assert looking.press('right') == 6 and looking.viewer._seen.error is None


def test_a_page_whose_text_is_damaged_shows_its_pixels(look_at: Any, trial: Any, tmp_path: Path) -> None:
    data = trial[0].read_bytes()
    with open_recording(trial[0]) as rec:
        text = f'"index":{rec.indices[7]},"time_ns":{rec.times_ns[7]}'.encode()        # type: ignore[index]
    (tmp_path / 'trial.tif').write_bytes(data.replace(text, b'?' * len(text)))
    looking = look_at(tmp_path / 'trial.tif')
    assert looking.press('g', '7', 'enter') == 7
    assert looking.viewer._seen is not None and looking.viewer._seen.error is None
    assert any('tells nothing of its frame' in notice.text for notice in looking.viewer._facts.notices)
    assert looking.press('right') == 8


def test_an_unfinished_recording(look_at: Any, tmp_path: Path) -> None:
    write(tmp_path / 'cut.tif')
    cut_off(tmp_path / 'cut.tif', keep=9)
    looking = look_at(tmp_path / 'cut.tif')
    assert looking.press('end') == 8
    assert looking.viewer._seen is not None and looking.viewer._seen.error is None
    assert 'frame ' in looking.viewer._facts.place[0]


# ---------------------------------------------------------------------- no screen

@pytest.fixture
def no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)


@pytest.mark.usefixtures('no_screen')
def test_without_a_screen_there_is_one_clear_error(trial: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DisplayError, match='ssh -X'):
        view(trial[0])
    with pytest.raises(SystemExit) as left:
        main(['view', str(trial[0])])
    told = capfd.readouterr()
    assert left.value.code == 3 and told.out == ''
    assert 'ppr sheet' in told.err and len(told.err.splitlines()) == 1


def test_an_opencv_without_windows(trial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ProcessedPiRecorder import screen
    monkeypatch.setattr(screen, 'session_problem', lambda: None)
    monkeypatch.setattr(screen, '_toolkit', lambda: 'NONE')
    with pytest.raises(DisplayError, match="install 'opencv-contrib-python' in place of.*ppr plot"):
        view(trial[0])


@pytest.mark.parametrize('code, name', [
    (-1, ''), (0xFF51, 'left'), (0x10FF51, 'left'), (32, 'space'), (27, 'escape'), (13, 'enter'), (ord('S'), 's'),
    (ord('+'), '+'), (0xFFE1, ''), (0xFF98, 'right'), (8, 'backspace')])
def test_names_of_keys(code: int, name: str) -> None:
    assert key_name(code) == name


# ---------------------------------------------------------------------- the real window

TITLE = 'trial.tif'


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    screens = start_screen(tmp_path, '-noreset')     # else it starts anew after each of our windows
    made = next(screens)
    xdotool(made, 'mousemove', '1599', '899')        # the pointer is part of what is on the screen
    yield made
    next(screens, None)


class Shown:
    """``ppr view`` on a virtual screen."""

    def __init__(self, screen: Screen, path: Path, folder: Path) -> None:
        self.screen = screen
        environment = {**os.environ, 'DISPLAY': screen.name, 'PYTHONPATH': str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'ProcessedPiRecorder', 'view', str(path), '--save-to', str(folder)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    def pixels(self, shape: Tuple[int, ...], scale: int) -> np.ndarray:
        """The picture that it shows, back in the frame's own pixels."""
        return self.screen.pixels()[:shape[0] * scale:scale, :shape[1] * scale:scale]

    def window(self) -> str:
        return xdotool(self.screen, 'search', '--name', TITLE).split()[-1]

    def keys(self, *names: str) -> None:
        xdotool(self.screen, 'windowfocus', self.window(), 'key', '--delay', '60', *names)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def show(screen: Screen, path: Path, folder: Path, expected: np.ndarray) -> Shown:
    """One whose first frame is to be seen; as in tests/test_display.py, some windows stay black on Xvfb."""
    for _ in range(6):
        shown = Shown(screen, path, folder)
        try:
            wait_until(lambda: has_window(screen))
            if until_seen(shown, expected, 3.0):
                return shown
        except BaseException:
            shown.kill()
            raise
        shown.kill()
    raise AssertionError('no window showed its first frame')


def has_window(screen: Screen) -> bool:
    return subprocess.run(['xdotool', 'search', '--name', TITLE], env={**os.environ, 'DISPLAY': screen.name},
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20).returncode == 0


def until_seen(shown: Shown, expected: np.ndarray, seconds: float = 10.0) -> bool:
    """Whether the frame, eleven times as large, comes to be seen in time."""
    deadline = time.monotonic() + seconds
    while not np.array_equal(shown.pixels(expected.shape, 11), expected):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@needs_xvfb
@needs_xdotool
def test_the_window_from_the_first_frame_to_the_last(screen: Screen, trial: Any, tmp_path: Path) -> None:
    path, frame = trial
    shown = show(screen, path, tmp_path, frame(0))
    try:
        shown.keys('o', 'l')                   # the results would be drawn into the frames
        assert until_seen(shown, frame(23))
        shown.keys('Left')
        assert until_seen(shown, frame(19))
        height = 704 + panel_height(1056)
        xdotool(screen, 'mousemove', str(1056 - 20), str(height - panel_height(1056) + 17), 'click', '1')
        assert until_seen(shown, frame(59))    # the slider
        shown.keys('s')
        assert wait_until((tmp_path / 'trial_frame_00000059.png').exists)
        shown.keys('Home')
        assert until_seen(shown, frame(0))
        shown.keys('space')                    # it plays to the end
        assert until_seen(shown, frame(59))
        shown.keys('q')
        out, err = shown.process.communicate(timeout=10)
        assert (shown.process.returncode, out, err) == (0, '', '')
    finally:
        shown.kill()
    np.testing.assert_array_equal(_png(tmp_path / 'trial_frame_00000059.png'), frame(59))


@needs_xvfb
@needs_xdotool
@pytest.mark.parametrize('action', ['close button', 'interrupt'])
def test_it_ends_when_it_is_closed(screen: Screen, trial: Any, tmp_path: Path, action: str) -> None:
    path, frame = trial
    shown = show(screen, path, tmp_path, frame(0))
    try:
        if action == 'interrupt':
            shown.process.send_signal(2)
        else:
            close_button(screen, int(shown.window()))
        _, err = shown.process.communicate(timeout=10)
        assert (shown.process.returncode, 'Traceback' in err) == (130 if action == 'interrupt' else 0, False)
    finally:
        shown.kill()


# ---------------------------------------------------------------------- napari

@pytest.mark.filterwarnings('ignore')     # of napari and what it is made of, about each other
def test_napari_s_layers(rec: Recording, trial: Any) -> None:
    pytest.importorskip('napari')
    from napari.components import ViewerModel

    from ProcessedPiRecorder.views.napari import LazyFrames, add_recording
    viewer, told = ViewerModel(), []     # type: ignore[var-annotated]
    add_recording(viewer, rec, told.append)
    image, boxes, points = viewer.layers
    np.testing.assert_array_equal(np.asarray(image.data[3]), trial[1](3)[..., ::-1])      # RGB
    viewer.dims.set_current_step(0, 3)
    assert len(boxes.data) == 1 and len(points.data) == 0 and told[-1].startswith('frame 3 ')
    np.testing.assert_array_equal(boxes.data[0][:, -2:], [(4.5, 9.5), (4.5, 29.5), (34.5, 29.5), (34.5, 9.5)])
    viewer.dims.set_current_step(0, 2)
    assert len(boxes.data) == 0 and points.data[:, -2:].tolist() == [[9, 7]]
    viewer.dims.set_current_step(0, 20)
    assert '3 frames lost before this one' in told[-1]
    lazy = LazyFrames(rec)
    np.testing.assert_array_equal(lazy[10:20:5, 3:5, :, 1], np.asarray(rec[10:20:5])[:, 3:5, :, 1])


def test_without_napari_the_error_says_how_to_get_it(trial: Any, capfd: pytest.CaptureFixture[str],
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'napari', None)
    with pytest.raises(SystemExit) as left:
        main(['view', str(trial[0]), '--napari'])
    assert left.value.code == 3 and 'ProcessedPiRecorder[napari]' in capfd.readouterr().err

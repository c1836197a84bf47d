"""The plotted page: its numbers against what is known to be true, and what is drawn of them, by its artists."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
import repair_kit
import tifffile
from PIL import Image
from recording_tools import paced, recorder, wait_until

from ProcessedPiRecorder import open_recording
from ProcessedPiRecorder.errors import CallbackError, MissingExtraError, RecordingFileError, RecordingFormatError
from ProcessedPiRecorder.recordings.page import STATUSES, PageRecord
from ProcessedPiRecorder.recordings.sink import PageJob, PageSink
from ProcessedPiRecorder.report import Loss, Report
from ProcessedPiRecorder.views import plot_numbers
from ProcessedPiRecorder.views.plot_numbers import (
    ELSEWHERE,
    NOT_TOLD,
    Envelope,
    Gap,
    Mark,
    PageTexts,
    PlotData,
    envelope,
    plot_data,
    shares,
)

pytest.importorskip('matplotlib')

from ProcessedPiRecorder.views import plot_panels  # noqa: E402   # after the check for what they need
from ProcessedPiRecorder.views.plot import make_figure, write_plot  # noqa: E402
from ProcessedPiRecorder.views.plot_heading import plain  # noqa: E402
from ProcessedPiRecorder.views.plot_strokes import STRETCHES  # noqa: E402

# matplotlib 3.9, the last one for Python 3.9, calls pyparsing by names that newer ones warn of.
pytestmark = pytest.mark.filterwarnings('ignore:.*:DeprecationWarning:matplotlib')

BASE_NS = 10**18


def page(recording: Any) -> Tuple[PlotData, Any, Dict[str, Any]]:
    """Its numbers, the figure, and its axes by name."""
    data = plot_data(recording)
    figure = make_figure(recording, data)
    return data, figure, {axes.get_label(): axes for axes in figure.axes}


def artists(axes: Any, label: str) -> List[Any]:
    return [artist for artist in axes.get_children() if artist.get_label() == label]


def bars(axes: Any, label: str) -> np.ndarray:
    """(left, bottom, right, top) of each bar of this name."""
    corners = [path.vertices for artist in artists(axes, label) for path in artist.get_paths()]
    return np.array([[*each.min(axis=0), *each.max(axis=0)] for each in corners]).reshape(-1, 4)


def words(axes: Any) -> str:
    return ' '.join(text.get_text() for text in axes.texts if text.get_label() == 'words')


def texts_of(figure: Any) -> List[Any]:
    """Every text that is seen."""
    from matplotlib.text import Text
    figure.draw_without_rendering()
    seen = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    ticks = [label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels()]
    hidden = {id(label) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)
              for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()] for label in (tick.label1, tick.label2)
              } - {id(label) for label in ticks}
    outside = set()
    for axes in figure.axes:                      # ticks beyond the limits are not drawn
        for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
            reach = (high - low) * 1e-6
            outside |= {id(label) for tick in axis.get_major_ticks() for label in (tick.label1, tick.label2)
                        if not low - reach <= tick.get_loc() <= high + reach or not label.get_visible()}
    return [text for text in seen if id(text) not in hidden | outside]


def assert_readable(figure: Any) -> None:
    """No two texts overlap, and none leaves the page."""
    extents = [(text.get_text(), text.get_window_extent()) for text in texts_of(figure)]
    for text, extent in extents:
        assert extent.x0 >= 0 and extent.y0 >= 0, text
        assert extent.x1 <= figure.bbox.width and extent.y1 <= figure.bbox.height, text
    for (one, a), (other, b) in itertools.combinations(extents, 2):
        wide = min(a.x1, b.x1) - max(a.x0, b.x0)
        high = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert wide <= 0.5 or high <= 1, f'{one!r} overlaps {other!r}'


def made_up(path: Path, records: List[PageRecord], report: Any = None, size: Tuple[int, int] = (8, 10)) -> Path:
    """A recording of the pages that these records describe."""
    sink = PageSink(path, height=size[0], width=size[1], pixel_format='gray', waits=True, on_written=lambda jobs: None,
                    on_error=lambda error: None, level=1, about={'settings': {}, 'metadata': {}, 'camera': {
                        'framerate': 100.0}})
    sink.publish()
    for record in records:
        sink.submit(PageJob(np.full(size, record.index % 251, np.uint8), record))
    sink.finish(lambda info: {'report': report.as_dict()} if report else {})
    return path


# ------------------------------------------------------------------ the numbers

def test_numbers_of_a_recording_with_losses_marks_and_a_callback(tmp_path: Path) -> None:
    def at_work(buffer: Any, cb_queue: Any) -> None:
        time.sleep(0.003)

    rec = recorder(tmp_path / 'trial.tif', callback=at_work, blocking=False, controls=paced(skip=[5, 6, 9]))
    with rec:
        rec.recordVid()
        wait_until(lambda: rec.status().written > 15)
        mark_ns = rec.mark('stim')
        wait_until(lambda: rec.status().written > 40)
    report = rec.report
    with open_recording(tmp_path / 'trial.tif') as recording:
        data = plot_data(recording)
        times = (recording.times_ns - recording.times_ns[0]) / 1e9
        np.testing.assert_array_equal(data.times_s, times)
        np.testing.assert_allclose(data.intervals_ms, np.diff(times) * 1e3, atol=1e-6)
        records = [recording.stored_page(number) for number in range(len(recording))]
        strips = [int(length) for length in recording.index_column('strip_length')]
        assert data.marks == [Mark((mark_ns - int(recording.times_ns[0])) / 1e9, 'stim')]
    assert data.expected_ms == 10 and data.pages == report.written and data.lost == report.lost >= 3
    assert data.gaps[:2] == [Gap(float(times[4]), float(times[5]), 5, 2, 'camera gap'),
                             Gap(float(times[6]), float(times[7]), 9, 1, 'camera gap')]
    assert data.by_status == {name: sum(stored.record.status == name for stored in records) for name in STATUSES}
    assert data.by_effort == report.effort and data.page_bytes.tolist() == strips
    assert data.frame_bytes == 64 * 96 * 3
    assert data.texts.pages.tolist() == list(range(data.pages)) and not data.sampled and data.texts.unreadable == 0
    told = [np.nan if stored.record.cb_ms is None else stored.record.cb_ms for stored in records]
    np.testing.assert_array_equal(data.texts.cb_ms, told)
    assert np.nanmin(data.texts.cb_ms) >= 3 and np.isnan(data.texts.skew_ms).all()
    assert data.pressure_steps[0] == (0.0, 0) and data.report is not None
    np.testing.assert_array_equal(data.texts.pressure, [stored.pressure for stored in records])


def test_without_a_report_the_pages_tell(tmp_path: Path) -> None:
    path = tmp_path / 'trial.tif'
    repair_kit.write(path)
    with open_recording(path) as recording:
        whole = plot_data(recording)
    repair_kit.cut_off(path, keep=20)
    with open_recording(path) as recording:
        data = plot_data(recording)
    assert data.report is None and data.pages == 20
    assert [(gap.index, gap.count, gap.reason) for gap in data.gaps] == [(5, 2, 'camera gap'), (17, 1, 'camera gap')]
    assert data.gaps == whole.gaps and whole.report is not None
    assert data.marks == whole.marks[:2] and data.marks[0].label == 'light'
    assert data.pressure_is == 'pages' and whole.pressure_is == 'report'


def test_losses_before_within_and_behind(tmp_path: Path) -> None:
    records = [PageRecord(index, BASE_NS + index * 10**7) for index in (3, 4, 10, 20, 21)]
    losses = [Loss(0, 3, None, 'camera error'), Loss(5, 2, BASE_NS, 'camera gap'), Loss(7, 3, BASE_NS, 'ring full'),
              Loss(22, 5, BASE_NS, 'process died')]
    report = Report('no', losses=losses, lost=23)
    with open_recording(made_up(tmp_path / 'a.tif', records, report)) as recording:
        data = plot_data(recording)
    assert data.gaps == [
        Gap(0.0, 0.0, 0, 3, 'camera error'), Gap(0.01, 0.07, 5, 2, 'camera gap'), Gap(0.01, 0.07, 7, 3, 'ring full'),
        Gap(0.07, 0.17, 11, 9, NOT_TOLD), Gap(0.18, 0.18, 22, 5, 'process died')]
    assert data.lost == 22 and data.places == 4


def test_a_loss_that_sums_up_others_is_not_put_in_one_place(tmp_path: Path) -> None:
    records = [PageRecord(index, BASE_NS + index * 10**7) for index in (0, 2, 4, 6)]
    report = Report('no', losses=[Loss(1, 1, BASE_NS, 'camera gap'), Loss(3, 2, BASE_NS, 'other', 'summed up')], lost=3)
    with open_recording(made_up(tmp_path / 'a.tif', records, report)) as recording:
        data = plot_data(recording)
    assert [(gap.index, gap.count, gap.reason) for gap in data.gaps] == [
        (1, 1, 'camera gap'), (3, 1, 'other'), (5, 1, NOT_TOLD)]


def test_very_many_places_are_told_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot_numbers, 'MOST_PLACES', 20)
    monkeypatch.setattr(plot_numbers, 'STRETCHES', 10)
    records = [PageRecord(2 * number, BASE_NS + number * 10**7) for number in range(300)]
    report = Report('no', losses=[Loss(1, 1, BASE_NS, 'camera gap')], lost=299)
    with open_recording(made_up(tmp_path / 'a.tif', records, report)) as recording:
        data = plot_data(recording)
    assert data.gaps[0] == Gap(0.0, 0.01, 1, 1, 'camera gap')
    assert len(data.gaps) <= 11 and data.lost == 299 and data.places == 299
    assert all(before.end_s <= after.start_s for before, after in zip(data.gaps, data.gaps[1:]))
    assert {gap.reason for gap in data.gaps[1:]} == {NOT_TOLD} and data.gaps[-1].end_s == data.times_s[-1]


def test_texts_are_sampled_evenly_where_there_are_many(tmp_path: Path) -> None:
    records = [PageRecord(index, BASE_NS + index * 10**7, cb_ms=float(index)) for index in range(500)]
    with open_recording(made_up(tmp_path / 'a.tif', records)) as recording:
        data = plot_data(recording, most_texts=50)
        hurried = plot_data(recording, most_texts=50, most_seconds=-1)
    assert data.sampled and len(data.texts.pages) == 50 and data.pressure_is == 'sampled pages'
    np.testing.assert_array_equal(data.texts.cb_ms, data.texts.pages)
    assert data.texts.pages[0] == 0 and data.texts.pages[-1] == 499 and np.diff(data.texts.pages).max() <= 11
    assert hurried.texts.pages.tolist() == [0]


def test_any_beginning_of_the_sample_is_spread_evenly() -> None:
    for pages, most in ((1, 10), (7, 3), (1000, 1000), (1_000_000, 20_000)):
        chosen = plot_numbers._spread(pages, most)
        assert len(chosen) == len(set(chosen.tolist())) == min(pages, most)
        assert 0 <= chosen.min() <= chosen.max() < pages
    half = np.sort(plot_numbers._spread(1_000_000, 20_000)[:5000])
    assert np.diff(half).max() < 4 * 1_000_000 / 5000


def test_damaged_texts_are_counted(tmp_path: Path) -> None:
    path = tmp_path / 'trial.tif'
    repair_kit.write(path)
    place = repair_kit.spans(path)[7]
    repair_kit.hurt(path, place.text, place.text + 10)
    with open_recording(path) as recording:
        data, figure, _ = page(recording)
    assert data.texts.unreadable == 1 and 7 not in data.texts.pages
    assert any('the text of 1 could not be read' in text.get_text() for text in figure.texts)


def test_envelope_keeps_every_extreme() -> None:
    rng = np.random.default_rng(1)
    times, values = np.sort(rng.random(10_000)) * 50, rng.random(10_000)
    values[1234], values[8765] = 99, -99
    drawn = envelope(times, values, 0, 60, 300)
    assert isinstance(drawn, Envelope) and len(drawn.times_s) == 250           # nothing is made up where nothing is
    assert drawn.high.max() == 99 and drawn.low.min() == -99
    for number in range(0, 250, 7):
        inside = values[(times >= number * 0.2) & (times < (number + 1) * 0.2)]
        assert (drawn.low[number], drawn.high[number]) == (inside.min(), inside.max())
        assert drawn.middle[number] == np.median(inside)
    assert all(len(part) == 0 for part in envelope(np.empty(0), np.empty(0), 0, 1, 10))
    late = envelope(np.array([0.95]), np.array([3.0]), 0, 1, 10)
    assert late.high.tolist() == [3] and late.times_s.tolist() == [0.95]


def test_shares_of_each_stretch() -> None:
    shared = shares(np.array([0.0, 0.1, 0.2, 0.3, 9.9]), np.array([0, 1, 1, 1, 3]), 4, 0.0, 10.0, 10)
    np.testing.assert_allclose(shared[:, 0], [0.25, 0.75, 0, 0])
    assert shared[:, 1:9].sum() == 0 and shared[:, 9].tolist() == [0, 0, 0, 1]


# ------------------------------------------------------------------ what is drawn of them

def test_losses_and_marks_are_drawn_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / 'trial.tif'
    repair_kit.write(path)
    with open_recording(path) as recording:
        data, figure, axes = page(recording)
        intervals = axes['intervals']
        np.testing.assert_allclose(bars(intervals, 'gaps')[:, [0, 2]],
                                   [(gap.start_s, gap.end_s) for gap in data.gaps], atol=1e-9)
        for name in ('marks', 'intervals', 'losses', 'status', 'compression'):
            lines, = artists(axes[name], 'marks')
            np.testing.assert_allclose([segment[0][0] for segment in lines.get_segments()],
                                       [mark.time_s for mark in data.marks])
        assert [text.get_text() for text in artists(axes['marks'], 'mark')] == ['light'] * 3
        dots, = artists(intervals, 'intervals')
        np.testing.assert_array_equal(dots.get_xydata(), np.stack([data.times_s[1:], data.intervals_ms], axis=1))
        expected, = artists(intervals, 'expected 10 ms')
        assert set(expected.get_ydata()) == {10.0}
        lost = bars(axes['losses'], 'camera gap')
        assert lost[:, 3].tolist() == [2, 1]
        middles = np.array([(gap.start_s + gap.end_s) / 2 for gap in data.gaps])
        assert (lost[:, 0] <= middles).all() and (middles <= lost[:, 2]).all()
        assert words(axes['callback']) == 'No callback took part.'
        assert_readable(figure)


def test_many_frames_are_drawn_as_envelopes(tmp_path: Path) -> None:
    steps = np.full(3000, 10**7)
    steps[1500] += 5 * 10**7                                    # one late frame among thousands
    times = BASE_NS + np.cumsum(steps)
    records = [PageRecord(index, int(time_ns)) for index, time_ns in enumerate(times)]
    with open_recording(made_up(tmp_path / 'a.tif', records)) as recording:
        data, figure, axes = page(recording)
    lines, = artists(axes['intervals'], 'intervals')
    assert len(lines.get_segments()) <= STRETCHES
    tops = np.array([segment[:, 1].max() for segment in lines.get_segments()])
    assert tops.max() == pytest.approx(60) and np.median(tops) == pytest.approx(10)
    at = lines.get_segments()[int(np.argmax(tops))][0][0]
    assert abs(at - data.times_s[1500]) < 2 * data.end_s / STRETCHES
    low, high = axes['intervals'].get_ylim()
    assert low < 10 and high > 60
    assert_readable(figure)


def test_status_leaves_no_gap_where_no_frame_is_missing(tmp_path: Path) -> None:
    codes = ['raw', 'returned', 'by-passed', 'failed']
    records = [PageRecord(index, BASE_NS + index * 10**7, status=codes[index % 4]) for index in range(120)]
    with open_recording(made_up(tmp_path / 'a.tif', records)) as recording:
        data, _, axes = page(recording)
    drawn = np.array(sorted(np.concatenate([bars(axes['status'], code) for code in codes]).tolist()))
    assert len(drawn) == 120 and np.abs(drawn[1:, 0] - drawn[:-1, 2]).max() < 1e-9
    np.testing.assert_allclose(bars(axes['status'], 'failed')[:, 0], data.times_s[3::4])
    assert data.by_status == dict.fromkeys(codes, 30)
    labels = [text.get_text() for text in axes['status'].get_legend().get_texts()]
    assert labels == [f'{code} 30' for code in codes]


def test_pressure_and_ring_and_latency_of_the_report(tmp_path: Path) -> None:
    changes = [{'index': 10, 'time_ns': BASE_NS + 10**8, 'pressure': 2, 'effort': 'stored'},
               {'index': 20, 'time_ns': BASE_NS + 2 * 10**8, 'pressure': 0, 'effort': 'huffman'}]
    report = Report('no', lost=1, losses=[Loss(30, 1, BASE_NS, 'ring full')], effort_under_pressure=10,
                    pressure_changes=changes, ring_frames=40, ring_high_water=40,
                    latency_ms={'disk': {'p50': 4.0, 'p99': 20.0, 'max': 90.0}})
    records = [PageRecord(index, BASE_NS + index * 10**7) for index in range(30)]
    with open_recording(made_up(tmp_path / 'a.tif', records, report)) as recording:
        data, figure, axes = page(recording)
    assert data.pressure_steps == [(0.0, 0), (0.1, 2), (0.2, 0)]
    filled, = artists(axes['pressure'], 'pressure')
    corners = filled.get_paths()[0].vertices
    high = corners[corners[:, 1] > 1]
    assert (high[:, 0].min(), high[:, 0].max()) == (0.1, 0.2)
    assert [bar.get_width() for bar in axes['ring'].patches] == [40, 40]
    shown = ' '.join(text.get_text() for text in axes['latency'].texts)
    assert '4 · 20 · 90 ms' in shown and 'callback called' not in str(axes['latency'].get_yticklabels())
    assert_readable(figure)


def test_skew_of_two_cameras(tmp_path: Path) -> None:
    records = [PageRecord(index, BASE_NS + index * 10**7, skew_ns=(-1) ** index * index * 1000) for index in range(40)]
    with open_recording(made_up(tmp_path / 'a.tif', records)) as recording:
        data, figure, axes = page(recording)
    dots, = artists(axes['skew'], 'skew')
    np.testing.assert_allclose(dots.get_ydata(), [(-1) ** index * index / 1000 for index in range(40)])
    low, high = axes['skew'].get_ylim()
    assert low < -0.039 and high > 0.038
    assert_readable(figure)


# ------------------------------------------------------------------ whatever comes

def every_effort() -> PlotData:
    count = 3000
    effort = np.arange(count) % 12
    return PlotData(
        pages=count, times_s=np.arange(count) * 10.0, intervals_ms=np.full(count - 1, 1e4), expected_ms=1e4,
        frame_bytes=10**7, page_bytes=np.linspace(10**6, 10**7, count), effort=effort.astype(np.uint8),
        status=(np.arange(count) % 4).astype(np.uint8),
        gaps=[Gap(float(at), at + 10.0, at, 1000 + at, reason) for at, reason in enumerate(
            ('camera gap', 'ring full', 'camera error', 'stall', 'source broke off', 'unpaired', NOT_TOLD))], places=7,
        marks=[Mark(float(at * 7), f'a label that is long $and${at}') for at in range(4000)],
        texts=PageTexts(np.arange(0, count, 2), np.linspace(0, 9e3, count // 2), np.zeros(count // 2, np.int64),
                        np.linspace(-1, 1, count // 2)),
        pressure_steps=[(0.0, 0), (100.0, 1), (200.0, 0)], pressure_is='report, cut off',
        report=Report('unknown', ['this camera gives no means to see losses'] * 30, captured=count, ring_frames=10**6,
                      ring_high_water=999_999, effort_under_pressure=99_999,
                      callback_ms={'p50': 1234.5, 'p99': 23456.7, 'max': 99999.9},
                      latency_ms={'callback': {'p50': 98765.4, 'p99': 99999.9, 'max': 123456.7},
                                  'disk': {'p50': 98765.4, 'p99': 99999.9, 'max': 123456.7}}))


def test_the_fullest_page_stays_readable(tmp_path: Path) -> None:
    name = 'a recording with a long name in 日本語 and $maths$ ' + 'x' * 60
    recorder(tmp_path / f'{name}.tif', controls={'frames': 2}).recordVid()
    with open_recording(tmp_path / f'{name}.tif') as recording:
        data = every_effort()
        figure = make_figure(recording, data)
        assert_readable(figure)
        axes = {axes.get_label(): axes for axes in figure.axes}
    labels = [text.get_text() for text in axes['compression'].get_legend().get_texts()]
    assert len(labels) == 5 and labels[-1].startswith('others ')
    losses = [text.get_text() for text in axes['losses'].get_legend().get_texts()]
    assert losses[-1].startswith('other reasons') and sum(
        int(text.rsplit(' ', 1)[1].replace(',', '')) for text in losses) == data.lost
    names = {text.rsplit(' ', 1)[0] for text in losses}
    drawn = np.concatenate([bars(axes['losses'], name) for name in names])
    assert (drawn[:, 3] - drawn[:, 1]).sum() == data.lost
    assert axes['skew'].get_xlabel().endswith(', h') and 3 <= len(artists(axes['marks'], 'mark')) < 40
    lines, = artists(axes['intervals'], 'marks')          # thousands of whole lines would hide what is drawn below them
    assert lines.get_segments()[0][:, 1].min() > 0.9


@pytest.mark.parametrize('frames, options', [
    (1, {}), (2, {}), (3, {'pixel_format': 'gray'}), (12, {'split_frames': 5}), (40, {'tif_compression': 0}),
    (5, {'controls': {'loss_detection': 'none'}})])
def test_plots_of_short_recordings(tmp_path: Path, frames: int, options: Any) -> None:
    path = tmp_path / 'trial.tif'
    recorder(path, **{**options, 'controls': {'frames': frames, **options.get('controls', {})}}).recordVid()
    with open_recording(path) as recording:
        data, figure, axes = page(recording)
    assert data.pages == frames and data.times_s[0] == 0
    assert bool(words(axes['intervals'])) == (frames == 1)
    assert 'missing' in words(axes['losses']) or 'no means' in words(axes['losses'])
    assert_readable(figure)


def test_unfinished_recordings_say_what_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / 'trial.tif'
    repair_kit.write(path)
    repair_kit.cut_off(path, keep=12)
    with open_recording(path) as recording:
        data, figure, axes = page(recording)
    assert words(axes['latency']) == words(axes['ring']) == plot_panels.NO_REPORT
    shown = {text.get_label(): text.get_text() for text in figure.texts}
    assert shown['verdict'] == 'UNFINISHED' and 'ppr repair' in shown['reasons']
    assert_readable(figure)


def test_frames_in_files_that_are_missing_are_not_called_lost(tmp_path: Path) -> None:
    path = tmp_path / 'trial.tif'
    recorder(path, split_frames=10, controls={'frames': 45, 'skip': [25]}).recordVid()
    (tmp_path / 'trial_001.tif').unlink()
    with open_recording(path) as recording:
        data, figure, _ = page(recording)
    assert [(gap.index, gap.count, gap.reason) for gap in data.gaps] == [(10, 10, ELSEWHERE), (25, 1, 'camera gap')]
    path.unlink()
    with open_recording(tmp_path / 'trial_003.tif') as recording:
        data = plot_data(recording)
    assert [(gap.index, gap.count, gap.reason) for gap in data.gaps] == [(0, 20, ELSEWHERE), (25, 1, 'camera gap')]
    assert_readable(figure)


@pytest.mark.parametrize('skip', [[], [9]])
def test_a_recording_with_missing_files_is_not_called_complete(skip: List[int], tmp_path: Path) -> None:
    path = tmp_path / 'trial.tif'
    recorder(path, split_frames=4, controls={'frames': 12, 'skip': skip}).recordVid()
    (tmp_path / 'trial_001.tif').unlink()
    with open_recording(path) as recording:
        assert recording.report is not None and recording.report.complete == ('no' if skip else 'yes')
        figure = page(recording)[1]
    shown = {text.get_label(): text.get_text() for text in figure.texts}
    assert shown['verdict'] == 'FILES MISSING' and 'trial_001.tif missing' in shown['reasons']
    assert 'that the camera made' not in shown['reasons']
    assert ('1 of 12 frames lost' in shown['reasons']) == bool(skip)
    assert_readable(figure)


def test_a_callback_that_saw_nothing(tmp_path: Path) -> None:
    records = [PageRecord(index, BASE_NS + index * 10**7, status='by-passed') for index in range(9)]
    with open_recording(made_up(tmp_path / 'a.tif', records)) as recording:
        _, figure, axes = page(recording)
    assert words(axes['callback']) == 'The callback saw no frame: all were by-passed.'


def test_failed_frames_and_the_time_of_the_calls(tmp_path: Path) -> None:
    def fail_at_five(buffer: Any, cb_queue: Any) -> None:
        if buffer[-1].index == 5:
            raise ValueError('as it was told')

    rec = recorder(tmp_path / 'trial.tif', callback=fail_at_five, controls={'frames': 10})
    with pytest.raises(CallbackError):
        rec.recordVid()
    with open_recording(tmp_path / 'trial.tif') as recording:
        data, figure, axes = page(recording)
    assert data.by_status['failed'] == 1
    (left, _, _, _), = bars(axes['status'], 'failed')
    assert left == pytest.approx(data.times_s[5])
    summary = next(text.get_text() for text in axes['callback'].texts if text.get_label() == 'summary')
    assert summary.startswith('of all calls: median')
    assert_readable(figure)


def test_other_programs_tiffs_have_nothing_to_plot(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / 'foreign.tif', np.zeros((3, 8, 8), np.uint8), photometric='minisblack')
    with pytest.raises(RecordingFormatError, match='no times'):
        write_plot(tmp_path / 'foreign.tif')
    assert os.listdir(tmp_path) == ['foreign.tif']


@pytest.mark.parametrize('text, most, shown', [
    ('two\nlines\tand \x00', 99, 'two lines and ?'), ('日本', 9, '??'), ('a' * 30, 5, 'aaaa…'), ('µ → ü', 9, 'µ → ü'),
    ('\udcff', 9, '?')])
def test_text_from_outside(text: str, most: int, shown: str) -> None:
    assert plain(text, most) == shown


# ------------------------------------------------------------------ the file

def test_the_png_is_a_page(tmp_path: Path) -> None:
    path = tmp_path / 'trial.tif'
    recorder(path, split_frames=10, controls={'frames': 25}).recordVid()
    (tmp_path / 'trial.plot.png').write_text('an older one')
    assert write_plot(tmp_path / 'trial_001.tif') == tmp_path / 'trial.plot.png'
    with Image.open(tmp_path / 'trial.plot.png') as image:
        image.load()
        assert image.size == (1240, 1754) and image.format == 'PNG'
    assert not [name for name in os.listdir(tmp_path) if name.startswith('.')]


def test_it_draws_in_any_thread_without_pyplot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'matplotlib.pyplot', None)         # importing it would raise
    path = tmp_path / 'trial.tif'
    recorder(path, controls={'frames': 10}).recordVid()
    made: List[Path] = []
    threads = [threading.Thread(target=lambda number=number: made.append(write_plot(path, tmp_path / f'{number}.png')))
               for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 2 and (tmp_path / '0.png').read_bytes() == (tmp_path / '1.png').read_bytes()


def test_what_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / 'trial.tif'
    recorder(path, controls={'frames': 2}).recordVid()
    with pytest.raises(RecordingFileError, match='choose another place'):
        write_plot(path, tmp_path / 'no' / 'such' / 'place.png')
    assert os.listdir(tmp_path) == ['trial.tif']


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'trial.tif'
    recorder(path, controls={'frames': 2}).recordVid()
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)         # as if it were not there
    with pytest.raises(MissingExtraError, match=r'ProcessedPiRecorder\[plot\]'):
        write_plot(path)


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from ProcessedPiRecorder.cli import main
    recorder(tmp_path / 'trial.tif', controls={'frames': 6, 'skip': [2]}).recordVid()
    for arguments, code in ((['trial.tif', '-o', str(tmp_path / 'x.png')], 0), (['nothing.tif'], 3)):
        with pytest.raises(SystemExit) as left:
            main(['plot', str(tmp_path / arguments[0]), *arguments[1:]])
        assert (left.value.code or 0) == code
    out = capfd.readouterr().out
    assert 'x.png: trial.tif, complete: no (1 lost)' in out and (tmp_path / 'x.png').is_file()

"""The benchmarks at a camera's pace and over a long recording: tiny runs, and figures that were made up to be judged.

Nothing here is timed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import tifffile
from recording_tools import run_script

from benchmarks import length, live
from benchmarks.live_trials import PACED

#: A fixture makes all the tiny runs, a dozen interpreters; a busy machine may take its time.
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope='module')
def tiny_live(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Any]:
    return live.run(tmp_path_factory.mktemp('live'), rounds=1, seconds=0.5, starts=1, imports=1, sizes=('96x64',),
                    framerate=100)


@pytest.fixture(scope='module')
def tiny_length(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Any]:
    return length.run(tmp_path_factory.mktemp('length'), count=1500, early_frame=200, short_runs=1, sample_s=0.01)


def test_every_contender_sees_every_frame(tiny_live: Dict[str, Any]) -> None:
    assert [trial['contender'] for trial in tiny_live['paced']] == list(PACED)
    for trial in tiny_live['paced']:
        assert len(trial['latency_us']) == 50, trial['contender']
        assert trial['lost'] == 0 and all(value > 0 for value in trial['latency_us']), trial['contender']
        assert trial['cpu_ms_a_frame_whole'] > 0 and isinstance(trial['cpu_ms_a_frame'], float)
        assert (trial['file_bytes'] > 0) == (trial['contender'] != 'pickled queue')


def test_the_recorder_recorded_while_it_was_looked_at(tiny_live: Dict[str, Any]) -> None:
    for trial in tiny_live['paced']:
        if trial['contender'].startswith('recorder'):
            assert trial['complete'] == 'yes' and sum(trial['effort'].values()) == 50
            assert ('none' in trial['effort']) == ('uncompressed' in trial['contender'])
    for trial in tiny_live['memory']:
        assert trial['written'] > 0
        assert 0 < trial['shmem'] < trial['pss'] and trial['beyond_ring'] == trial['pss'] - trial['shmem']


def test_start_and_import_have_their_samples(tiny_live: Dict[str, Any]) -> None:
    assert tiny_live['starts']['cold_s'] > 0 and len(tiny_live['starts']['warm_s']) == 1
    assert {len(tiny_live['imports'][name]) for name in ('bare', 'numpy', 'package')} == {1}
    assert tiny_live['imports']['loads_cv2'] is False


def test_tables_of_what_was_measured(tiny_live: Dict[str, Any], tiny_length: Dict[str, Any]) -> None:
    text = live.tables(tiny_live)
    assert all(f'| 96x64 | {name} |' in text for name in PACED) and 'nan' not in text
    assert 'what the reports of *recorder* themselves tell at 96x64' in text
    assert {row['measure'] for row in live.targets(tiny_live)} >= {f'`{live.IMPORT}`'}
    text = length.tables(tiny_length)
    assert '1,500 frames' in text and '1,002 pages were read back' in text


def test_the_long_recording_is_looked_at_from_beginning_to_end(tiny_length: Dict[str, Any]) -> None:
    long = tiny_length['long']
    frames = [sample[0] for sample in long['samples']]
    assert len(frames) > 3 and frames == sorted(frames) and 0 < frames[0] and frames[-1] < 1500
    assert len(long['frame_ms']['ms']) == 100 and min(long['frame_ms']['ms']) > 0
    assert sum(long['effort'].values()) == 1500
    assert len(tiny_length['before']) == len(tiny_length['after']) == 1


def test_plots_of_what_was_measured(tiny_live: Dict[str, Any], tiny_length: Dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip('matplotlib', reason='the plots of the benchmarks need matplotlib (the extra "bench")')
    from benchmarks import live_plots
    for path in (*live_plots.plots_of_live(tiny_live, tmp_path), *live_plots.plots_of_length(tiny_length, tmp_path)):
        assert path.parent == tmp_path and path.read_bytes().startswith(b'\x89PNG')


def test_the_pickled_way_loses_and_changes_nothing(tmp_path: Path) -> None:
    """Or it would be no fair thing to be compared with."""
    done = run_script('''
from pathlib import Path
import numpy as np
from benchmarks.pickled import PacedRun, run_paced
frames = np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), np.uint8)
np.save('frames.npy', frames)
times = PacedRun.shared(20)
run_paced(list(frames), times, 200, Path('pickled.tif'), spin=True)
assert (times.called_ns > times.ready_ns).all() and (np.diff(times.called_ns) > 0).all(), times
''', tmp_path)
    assert done.returncode == 0, done.err                # type: ignore[attr-defined]
    frames, pages = np.load(tmp_path / 'frames.npy'), tifffile.imread(tmp_path / 'pickled.tif')
    assert len(pages) == 20
    for number, page in enumerate(pages):
        np.testing.assert_array_equal(page[..., ::-1], frames[number % 4])


# ---------------------------------------------------------------- figures that were made up

def made_up_live(recorder_ms: List[float], queue_ms: float, cpu_ms: float) -> Dict[str, Any]:
    def trial(size: str, contender: str, latencies_ms: List[float], cpu: float) -> Dict[str, Any]:
        return {'size': size, 'contender': contender, 'round': 0, 'cpu_ms_a_frame': cpu,
                'effort': {'huffman': 96, 'stored': 4},
                'latency_us': [1e9, 1e9] + [1000 * value for value in latencies_ms]}
    sizes = ['1280x480', '1920x1080']
    paced = [trial(size, name, values, cpu) for size in sizes for name, values, cpu in (
        ('recorder', recorder_ms, cpu_ms), ('pickled queue', [queue_ms] * 100, 3.0), ('original', [9.0] * 100, 30.0))]
    return {'settings': {'rounds': 1, 'seconds': 1, 'framerate': 60, 'pixel_format': 'bgr', 'sizes': sizes,
                         'warm_up_frames': 2},
            'paced': paced, 'memory': [{'pss': 400_000_000, 'shmem': 260_000_000,
                                        'beyond_ring': 140_000_000, 'ring_frames': 120}],
            'starts': {'cold_s': 9.0, 'warm_s': [0.2, 0.25, 0.9]},
            'imports': {'bare': [0.02, 0.03], 'numpy': [0.1, 0.1], 'package': [0.12, 0.13], 'loads_cv2': False}}


def reached(found: Dict[str, Any]) -> List[bool]:
    return [row['reached'] for row in live.targets(found)]


def test_targets_that_are_just_reached() -> None:
    found = made_up_live([1.0] * 98 + [5.0] * 2, 5.0, 6.0)
    assert reached(found) == [True] * 7
    assert live.targets(found)[0]['measured'] == 'p50 1.00 ms, p99 5.00 ms, 96 % of the pages compressed'


def test_a_latency_without_compressing_does_not_count() -> None:
    found = made_up_live([1.0] * 98 + [5.0] * 2, 5.0, 6.0)
    found['paced'][0]['effort'] = {'huffman': 90, 'stored': 10}
    assert reached(found) == [False] + [True] * 6


def test_targets_that_are_just_missed() -> None:
    found = made_up_live([1.0] * 98 + [5.1] * 2, 4.9, 6.1)
    found['memory'][0]['beyond_ring'] = 151_000_000
    found['starts']['warm_s'] = [0.31] * 3
    found['imports']['loads_cv2'] = True
    assert reached(found) == [False] * 7


def made_up_length(late_cpu_ms: float, late_mb: float) -> Dict[str, Any]:
    """0.5 ms CPU and wall a frame, 100 MB; in the last tenth something else."""
    samples, cpu_s, now_s = [], 0.0, 0.0
    for frame in range(100, 10_000, 100):
        late = frame > 9000
        cpu_s += 0.1 * (late_cpu_ms if late else 0.5)
        now_s += 0.05
        samples.append((frame, now_s, cpu_s, int((late_mb if late else 100) * 1e6) + 7, 7, 0.001))
    return {'settings': {'count': 10_000, 'short': 900, 'early_frame': 1000, 'short_runs': 1, 'width': 64, 'height': 48,
                         'pixel_format': 'gray'},
            'long': {'count': 10_000, 'samples': samples}}


def test_windows_lie_where_they_should() -> None:
    found = made_up_length(0.6, 120)
    early, late = length.windows(found)['early'], length.windows(found)['late']
    assert math.isclose(early['cpu_ms'], 0.5) and math.isclose(late['cpu_ms'], 0.6)
    assert math.isclose(early['wall_ms'], 0.5) and math.isclose(late['wall_ms'], 0.5)
    assert math.isclose(early['beyond_ring_mb'], 100) and math.isclose(late['beyond_ring_mb'], 120)


@pytest.mark.parametrize('late_cpu_ms, late_mb, expected', [(0.54, 105, [True, True]), (0.56, 105, [False, True]),
                                                            (0.54, 111, [True, False])])
def test_growing_cost_misses_its_target(late_cpu_ms: float, late_mb: float, expected: List[bool]) -> None:
    assert [row['reached'] for row in length.targets(made_up_length(late_cpu_ms, late_mb))] == expected

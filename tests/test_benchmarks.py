"""The benchmark suite itself: its frames, its contenders, its reports. How fast anything is, is not tested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import figures, report, runs, throughput
from benchmarks.__main__ import app
from benchmarks.contenders import CONTENDERS
from benchmarks.contenders.limits import spread
from benchmarks.frames import MissingClip, PreloadedCamera, camera_like, carphone
from benchmarks.runs import Material, RunFailed, run_apart
from ProcessedPiRecorder import ProcessedPiRecorder

LOSSY = {'VidGear as it comes'}


def test_frames_are_seeded_and_all_different() -> None:
    first, again, other = (camera_like(96, 64, 'bgr', 6, seed=seed) for seed in (1, 1, 2))
    assert all(frame.shape == (64, 96, 3) and frame.dtype == np.uint8 for frame in first)
    assert len({frame.tobytes() for frame in (*first, *again, *other)}) == 12
    assert [frame.tobytes() for frame in first] == [frame.tobytes() for frame in again]


def test_frames_have_a_sensors_noise_and_moving_shapes() -> None:
    frames = np.stack(camera_like(384, 144, 'gray', 32)).astype(float)
    # Where no shape passes, what is left between two frames is the noise of both.
    changes = np.median(np.abs(np.diff(frames, axis=0)), axis=0)
    assert np.median(changes) == pytest.approx(0.6745 * 2.5 * np.sqrt(2), abs=0.8)
    assert frames[:8].mean(axis=0).std() > 10
    assert np.abs(frames[0] - frames[16]).max() > 50


def test_the_real_clip_is_enlarged() -> None:
    try:
        gray, bgr = carphone(384, 144, 'gray', 3), carphone(384, 144, 'bgr', 3)
    except MissingClip as missing:
        pytest.skip(str(missing))
    assert [frame.shape for frame in (*gray, *bgr)] == 3 * [(144, 384)] + 3 * [(144, 384, 3)]
    assert len({frame.tobytes() for frame in gray}) == 3 and gray[0].std() > 20


def test_the_preloaded_camera_tells_when_each_frame_was_ready(tmp_path: Path) -> None:
    frames = camera_like(96, 64, 'gray', 4)
    camera = PreloadedCamera(frames, 10, framerate=100)
    rec = ProcessedPiRecorder(tmp_path / 'run.tif', 96, 64, 1, 100, display=False, camera=camera, pixel_format='gray')
    recorded = rec.recordVid()
    assert recorded is not None and recorded.complete == 'yes' and recorded.written == camera.taken == 10
    assert camera.first_ns == camera.ready_ns[0] > 0
    assert (np.diff(camera.ready_ns) > 0).all() and camera.ready_ns[-1] - camera.ready_ns[0] >= 0.08e9


@pytest.mark.parametrize('pixel_format', ['gray', 'bgr'])
@pytest.mark.parametrize('name', list(CONTENDERS))
def test_what_a_contender_writes_is_what_it_was_given(name: str, pixel_format: str, tmp_path: Path) -> None:
    kind = CONTENDERS[name]
    if kind.missing():
        pytest.skip(f'for {name}:  {kind.missing()}')
    if kind.group == 'recorder' and ('None' in name) == (pixel_format == 'gray'):
        pytest.skip('half of these are enough here')
    frames = camera_like(96, 64, pixel_format, 5)
    contender = kind()
    run = contender.run(frames, 12, tmp_path)
    assert run.frames == 12 and run.seconds > 0 and run.cpu_s > 0 and run.bytes > 0
    verdict = contender.verify(frames, 12, tmp_path)
    assert verdict.decoded == (12 if kind.writes else 0)
    assert verdict.lossless is (None if not kind.writes else name not in LOSSY), verdict.note


def test_a_contender_that_changes_a_pixel_or_loses_a_frame_is_found_out(tmp_path: Path) -> None:
    frames = camera_like(96, 64, 'gray', 5)
    contender = CONTENDERS['raw disk write']()
    contender.run(frames, 12, tmp_path)
    path = contender.path(tmp_path)
    data = bytearray(path.read_bytes())
    data[7 * frames[0].size + 100] ^= 4
    path.write_bytes(data[:-frames[0].size])
    verdict = contender.verify(frames, 12, tmp_path)
    assert verdict.lossless is False and verdict.decoded == 11
    assert verdict.note == '11 of 12 frames are in the file; 1 of 11 images differ, by up to 4'


def test_efforts_are_spread_as_the_recorder_spent_them() -> None:
    mixed = spread({'huffman': 30, 'rle': 10}, 8)
    assert (mixed.count('huffman'), mixed.count('rle')) == (6, 2)
    assert 'rle' in mixed[:4] and 'rle' in mixed[4:]


def test_a_run_in_a_process_of_its_own(tmp_path: Path) -> None:
    material = Material.stored(camera_like(96, 64, 'bgr', 4), tmp_path)
    found = run_apart('raw disk write, compressed', material, 9, {'efforts': {'rle': 1}}, verify=True)
    assert (found['frames'], found['lossless'], found['decoded']) == (9, True, 9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['answer.json', 'frames.npy']
    with pytest.raises(RunFailed, match='no such contender'):
        run_apart('no such contender', material, 9)


def test_a_run_that_does_not_end_is_ended_with_all_its_processes(tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, 'LONGEST_S', 3)
    material = Material.stored(camera_like(96, 64, 'gray', 4), tmp_path)
    with pytest.raises(RunFailed, match='within 3 s'):
        run_apart("original's architecture", material, 10_000_000)


def test_a_small_campaign_from_start_to_report(tmp_path: Path) -> None:
    lines: List[str] = []
    found = throughput.run(throughput.cases_of(['64x48'], ['gray'], []), rounds=1, frames=20, folder=tmp_path,
                           only=['raw disk write, c'], out=tmp_path / 'results', tell=lines.append)
    stored = json.loads((tmp_path / 'results' / 'throughput.json').read_text())
    assert stored == json.loads(json.dumps(found))
    told = [(entry['name'], entry['lossless'], [run['round'] for run in entry['runs']])
            for entry in stored['cases'][0]['contenders']]
    assert told == [('raw disk write, compressed', True, [0]), ('bare codec', None, [0])]
    assert sum('round 1' in line for line in lines) == 2
    assert [path.name for path in tmp_path.iterdir()] == ['results'], 'its own folder is removed'
    assert '| bare codec | ' in report.write(tmp_path / 'results').read_text()


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ValueError, match='1280x480'):
        throughput.cases_of(['1280'], ['gray'], [])
    with pytest.raises(ValueError, match='bare codec'):
        throughput.chosen(['no such contender'])
    assert throughput.chosen(["'2Proc'"])[-1] == 'bare codec'


# ---------------------------------------------------------------- reports from stored figures

def entry(name: str, group: str, rates: List[float], cpu_ms: float, size: int = 0, **more: Any) -> Dict[str, Any]:
    runs = [{'round': number, 'frames': 100, 'seconds': 100 / rate, 'cpu_s': cpu_ms / 10, 'bytes': 100 * size}
            for number, rate in enumerate(rates)]
    return {'name': name, 'what': name, 'group': group, 'note': '', 'missing': None, 'failed': None,
            'lossless': True if size else None, 'checked': 64 if size else 0, 'verdict': '', 'runs': runs, **more}


@pytest.fixture
def stored() -> Dict[str, Any]:
    """Round figures for 1280×480 BGR, which has 1,843,200 bytes a frame."""
    contenders = [
        entry("recorder, '3Proc'", 'recorder', [360, 380, 340], 5.5, 921_600),
        entry("recorder, '3Proc', uncompressed", 'recorder', [300, 320, 280], 1.5, 1_843_200),
        entry('bare codec', 'limit', [400, 400, 400], 5.0), entry('memory copy', 'limit', [5000, 5000, 5000], 0.2),
        entry('raw disk write', 'limit', [500, 500, 500], 0.7, 1_843_200),
        entry('raw disk write, compressed', 'limit', [900, 900, 900], 0.4, 921_600),
        entry("original's architecture", 'original', [180, 240, 100], 9.0, 1_843_200),
        entry('FFV1 (ffmpeg)', 'other', [90, 100, 90], 21.0, 768_000),
        entry('x264 lossless (ffmpeg)', 'other', [120, 130, 110], 16.0, 1_000_000),
        entry('lossy one', 'other', [50], 16.0, 10_000, lossless=False, verdict='64 of 64 images differ, by up to 9'),
        entry('tifffile zstd', 'other', [], 0.0, missing='pip install imagecodecs')]
    machine = {'cpu': 'A processor', 'cores': 2, 'memory_gb': 8.0, 'kernel': '6.1', 'python': '3.11.7', 'ffmpeg': None,
               'packages': {'numpy': '2.0', 'vidgear': None}, 'disk': {'filesystem': 'ext4'}}
    case = {'content': 'camera-like', 'width': 1280, 'height': 480, 'pixel_format': 'bgr', 'efforts': {'huffman': 100},
            'contenders': contenders}
    return {'machine': machine, 'settings': {'rounds': 3, 'date': '2030-01-01'}, 'cases': [case]}


def test_figures_are_medians_of_ratios_within_a_round(stored: Dict[str, Any]) -> None:
    case = figures.find_case(stored, 'camera-like', 1280, 480, 'bgr')
    assert figures.ratio(case, "recorder, '3Proc'", "original's architecture") == pytest.approx((2, 380 / 240, 3.4))
    assert figures.share_of_limit(case, "recorder, '3Proc'") == pytest.approx((0.9, 0.85, 0.95))
    assert figures.beyond_codec_ms(case, "recorder, '3Proc'") == pytest.approx((0.5, 0.5, 0.5))
    assert figures.share_of_disk(case, "recorder, '3Proc'") == pytest.approx((0.36, 0.34, 0.38))
    assert figures.ratio(case, "recorder, '3Proc'", 'tifffile zstd') is None


def test_each_aim_is_told_with_its_verdict(stored: Dict[str, Any]) -> None:
    rows = {row['measure']: (row['measured'], row['reached']) for row in report.targets(stored)}

    def told(*parts: str) -> Any:
        return next(value for measure, value in rows.items() if all(part in measure for part in parts))
    assert told('of the bare codec', 'BGR') == ('0.90 (0.85–0.95) (360 of 400 frames/s)', True)
    assert told('no compression', 'BGR') == ('0.60 (0.56–0.64) (300 of 500 frames/s)', False)
    assert told('beyond the codec') == ("0.50 ms (the camera's own copy is 0.20 of it)", True)
    assert told("original's architecture") == ('2.00 (1.58–3.40)×', True)
    assert told('of FFV1 (ffmpeg)', 'BGR') == ('3.80 (3.78–4.00)×', True)
    assert told('of x264', 'BGR') == ('3.00 (2.92–3.09)×', True)
    assert told('compression ratio', 'BGR') == ('0.83 (2.00 of 2.40)', False)
    assert told('of the bare codec', 'gray') == ('not measured', None)


def test_the_report_names_what_is_lossy_and_what_is_missing(stored: Dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / 'throughput.json').write_text(json.dumps(stored))
    text = report.write(tmp_path).read_text()
    assert 'A processor, 2 cores, 8 GB, Linux 6.1, ext4' in text and 'ffmpeg missing' in text
    assert '| **no**: 64 of 64 images differ, by up to 9 |' in text
    assert '- tifffile zstd was left out; it needs  `pip install imagecodecs`' in text
    assert "| recorder, '3Proc' | 360 (340–380) | 0.90 | 5.50 | 0.50 | 0.36 | 2.00 | yes, 64 read back | 100 |" in text


def test_plots_are_drawn(stored: Dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip('matplotlib', reason='pip install matplotlib')
    from benchmarks.plots import plots_of_throughput
    paths = plots_of_throughput(stored, tmp_path)
    assert [path.name for path in paths] == ['frames_per_second.png', 'cpu_per_frame.png']
    assert all(path.stat().st_size > 10_000 for path in paths)


def test_nothing_measured_is_said(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ['report', '--out', str(tmp_path)])
    assert done.exit_code == 2 and 'python -m benchmarks all' in done.output


def test_workers_are_measured_beside_bare_processes() -> None:
    pytest.importorskip('distributed')
    from benchmarks import cluster
    bare = cluster._bare({'path': '', 'loops': 1, 'frames': 6}, 2)
    assert bare['frames'] == 6 and bare['seconds'] > 0
    for two, reached in ((36.0, True), (31.0, False)):
        speeds = {(cluster.ALONE, None): 30.0, ('workers', 1): 20.0, ('workers', 2): two, (cluster.BARE, 1): 25.0,
                  (cluster.BARE, 2): 45.0}
        runs_made = [{'round': number, 'kind': kind, 'workers': workers, 'frames': 100,
                      'seconds': 100 * (1 + number) / speed}          # rounds on a machine that gets slower
                     for number in range(3) for (kind, workers), speed in speeds.items()]
        found = {'settings': {'workers': 2, 'rounds': 3, 'width': 640, 'height': 480},
                 'series': [{'call_ms': 20, 'frames': 100, 'runs': runs_made}]}
        target, = cluster.targets(found)
        ratio = f'{two / 20:.2f}× ({two / 20:.2f}–{two / 20:.2f})'
        assert target['reached'] is reached and target['measured'] == f'{ratio}; bare processes 1.80×'
        assert f'| 20 ms, 100 frames | 2 workers | {two / 2:.1f} | {ratio.replace("×", "")} |' in cluster.tables(found)

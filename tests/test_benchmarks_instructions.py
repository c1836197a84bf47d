"""Counting instructions: the stages do the work of a frame, and the counts of marks are taken apart rightly."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from benchmarks import instructions
from ProcessedPiRecorder.recordings.decoder import decode_strip


@pytest.mark.parametrize('pixel_format, channels', [('gray', 1), ('bgr', 3)])
def test_every_stage_runs(tmp_path: Path, pixel_format: str, channels: int) -> None:
    stages = {stage.name: stage for stage in instructions.stages_of(pixel_format, 48, 32, tmp_path)}
    assert tuple(stages) == instructions.STAGES
    for stage in stages.values():
        for number in range(5):
            stage.run(number)
    assert stages['copy'].bytes_read == 32 * 48 * channels
    assert (tmp_path / 'instructions.tif').stat().st_size > 0


@pytest.mark.parametrize('pixel_format, channels', [('gray', 1), ('bgr', 3)])
def test_coding_alone_gives_the_strips_of_the_recorder(tmp_path: Path, pixel_format: str, channels: int) -> None:
    """Else page less huffman would not be the predictor."""
    stages = {stage.name: stage for stage in instructions.stages_of(pixel_format, 48, 32, tmp_path)}
    strips = [b''.join(stages[name].run(2)) for name in ('page', 'huffman', 'huffman, zlib')]
    pictures = [decode_strip(strip, 32, 48, channels, True, 'bgr') for strip in strips]
    for picture in pictures[1:]:
        np.testing.assert_array_equal(picture, pictures[0])


def test_what_lies_between_the_marks() -> None:
    """Two frames cost 2 × 7 and four 4 × 7, whatever else there is; cheap stages are called more often."""
    steps = []
    for name in instructions.STAGES:
        calls = instructions.SMALL_CALLS if name in instructions.SMALL else 1
        steps += [1000, 2 * calls * 7 + 50, 3, 4 * calls * 7 + 50]
    assert instructions._from_steps(steps, 2) == {name: 7.0 for name in instructions.STAGES}
    with pytest.raises(RuntimeError, match=instructions.MARK):
        instructions._from_steps(steps[1:], 2)


def made_up() -> Dict[str, Any]:
    stage = {'what': 'it', 'cpu_us': 2.0, 'bytes_read': 10, 'bytes_written': 20, 'instructions': 1234.0}
    stages = {name: dict(stage, instructions_arm64=1000.0) for name in instructions.STAGES}
    stages['page'].update(instructions=5234.0, instructions_arm64=4000.0)
    return {'machine': {}, 'valgrind': 'valgrind-3.19.0', 'isa': 'avx2', 'arm64': 'counted', 'frames': 2,
            'cases': [{'size': '48x32', 'pixel_format': 'gray', 'stages': stages}],
            'pipeline': {'reader': 1.0, 'writer': 2.0, 'callback': 4.0}}


def test_the_table_has_the_predictor_as_a_difference() -> None:
    text = instructions.tables(made_up())
    assert '| predictor: colour order and predictor: page less huffman | 4,000 | 3,000 | 0.0 |' in text
    assert '| all | 7 |' in text


def test_the_table_without_arm64() -> None:
    found = made_up()
    for stage in found['cases'][0]['stages'].values():
        del stage['instructions_arm64']
    assert '| copy: it | 1,234 | – |' in instructions.tables(found)


def test_without_valgrind_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr('sys.argv', ['instructions'])
    monkeypatch.setenv('PATH', '')
    assert instructions.main() == 1
    assert 'apt install valgrind' in capsys.readouterr().err

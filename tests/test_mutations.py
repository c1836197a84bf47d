"""Mutated and cut-off recordings: the right answer or an error of the package's own, in time, in bounded memory."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Dict, List

import pytest

from ProcessedPiRecorder.errors import RecorderError, RecordingFormatError
from ProcessedPiRecorder.recordings.reader import RecordingFile
from ProcessedPiRecorder.recordings.repair import repair
from ProcessedPiRecorder.recordings.verification import verify
from tests.faults import mutations
from tests.faults.mutants import Mutant, make_bases
from tests.faults.tiny import Tiny, make_tiny


def test_random_mutations(tmp_path: Path) -> None:
    stats = mutations.run(11, 300, tmp_path)
    assert not stats['failures'], '\n'.join(stats['failures'][:10])
    assert stats['mutants'] == 300 and not stats['hangs'] and not stats['crashes']
    # Not everything was refused, and not everything let through.
    assert stats['outcomes']['reader']['some pages whole'] > 20 and stats['outcomes']['verify']['not ok'] > 200
    assert list(tmp_path.iterdir()) == []


def hurt(sabotage: str) -> Dict[str, Any]:
    """A run of the campaign in which the workers are hurt on purpose."""
    script = f"""
        import os, signal, time
        from tests.faults import mutant_readers
        def sabotage(path, mutant, rng):
            {sabotage}
        mutant_readers.READERS['info'] = sabotage
    """
    return {'code': '\n'.join(line[8:] for line in script.splitlines())}


@pytest.mark.parametrize(('sabotage', 'expected'), [
    ('time.sleep(60)', 'hung for 2 s'), ('os.kill(os.getpid(), signal.SIGSEGV)', 'died with -11'),
    ('raise KeyError(5)', 'KeyError: 5'), ('mutant.kept = [open(path, "rb")]; return "shown"', 'files left open'),
    ('bytearray(os.urandom(1000)) * 300_000; return "shown"', 'MB of memory'),
    ('raise mutant_readers.WrongAnswer("no")', 'no')])
def test_the_campaign_finds_what_must_not_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sabotage: str,
                                             expected: str) -> None:
    (tmp_path / 'sitecustomize.py').write_text(hurt(sabotage)['code'])
    monkeypatch.setattr(mutations, 'ROOT', mutations.ROOT)
    real = mutations.subprocess.Popen

    def start(command: List[str], **options: Any) -> Any:
        options['env'] = {**options['env'], 'PYTHONPATH': f'{tmp_path}{os.pathsep}{options["env"]["PYTHONPATH"]}'}
        return real(command, **options)

    monkeypatch.setattr(mutations.subprocess, 'Popen', start)
    begin = time.monotonic()
    (tmp_path / 'work').mkdir()
    stats = mutations.run(1, 1, tmp_path / 'work', readers=['info'], limit_s=2.0 if 'sleep' in sabotage else 30.0)
    assert len(stats['failures']) == 1 and expected in stats['failures'][0], stats
    assert '--seed 1 --only 0' in stats['failures'][0] and time.monotonic() - begin < 40


def read_cut(tiny: Tiny) -> str:
    """What the reader makes of a cut file; pages that count as intact are the right ones."""
    try:
        with RecordingFile(tiny.path) as recording:
            for page in range(recording.pages):
                if recording.verify_page(page):
                    time_ns = recording.page_record(page).time_ns
                    assert (recording.read_page(page) == tiny.truth[time_ns]).all()
            return 'finished' if recording.finished else 'unfinished'
    except RecordingFormatError:
        return 'refused'


@pytest.mark.parametrize('finish', [True, False])
def test_a_file_cut_at_every_byte(tmp_path: Path, finish: bool) -> None:
    tiny = make_tiny(tmp_path / 'a.tif', pages=2, height=2, width=2, annotations={'metadata': {}}, finish=finish)
    size = tiny.path.stat().st_size
    seen = set()
    for end in range(size, -1, -1):
        os.truncate(tiny.path, end)
        seen.add(read_cut(tiny))
        try:
            assert verify(tiny.path, threads=1).ok == (finish and end == size)
        except RecordingFormatError:
            assert end < 40 + len('PPRABOUT')
    assert seen == ({'finished', 'refused'} if finish else {'unfinished', 'refused'})


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize('base', range(2))
def test_a_file_cut_at_every_byte_is_repaired(tmp_path: Path, base: int) -> None:
    whole = make_bases(tmp_path / 'bases')[(1, 3)[base]]
    data = whole.files[whole.first]
    for end in range(len(data)):
        place = tmp_path / str(end)
        mutant = Mutant(whole)
        del mutant.files[whole.first][end:]
        mutant.write(place)
        expected = set(mutant.whole_pages())
        try:
            found = repair(place / whole.first, out=place / 'out.tif')
        except RecorderError:
            assert not expected, end
            continue
        with RecordingFile(found.files[0]) as recording:
            assert expected <= set(map(int, recording.times)), end
        assert verify(found.files[0], threads=1).ok, end

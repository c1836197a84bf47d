"""Power cuts, simulated from the real writes and syncs of real recordings and repairs (tests/faults/power_cuts.py).

Here in a shortened form; and the simulation itself is tested: it must find a protocol that is broken on purpose.
"""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import pytest
import tifffile

from ProcessedPiRecorder.recordings.bigtiff import BigTiffAppender
from ProcessedPiRecorder.recordings.repair.in_place import InPlace
from tests.faults import power_cuts
from tests.faults.power_cuts import Judge, Take, chain
from tests.faults.tape import State, Synced, Write, by_chance, read_images, systematic

REPAIRED = 60        # states that are repaired, too


@pytest.fixture(scope='module')
def takes(tmp_path_factory: pytest.TempPathFactory) -> List[Take]:
    folder = tmp_path_factory.mktemp('takes')
    made = [power_cuts.take_recording(folder / 'one'),
            power_cuts.take_recording(folder / 'split', pages=26, channels=1, level=0, split=9)]
    return made + list(repairs_of(folder, made))


def repairs_of(folder: Path, recordings: List[Take]) -> Iterator[Take]:
    for take in recordings:
        states = [state for state in systematic(take.tape) if state.what == 'all kept']
        for number, state in enumerate((states[len(states) // 2], power_cuts.before_the_switch(take))):
            repaired = power_cuts.take_repair(folder / f'{take.name}-{number}', take, state)
            assert repaired is not None and repaired.tape.operations
            yield repaired


def all_states(takes: List[Take]) -> List[Tuple[Take, State]]:
    return [(take, state) for take in takes for state in systematic(take.tape)]


def test_the_tapes_are_of_real_recordings(takes: List[Take]) -> None:
    for take in takes:
        operations = take.tape.operations
        end = [state for state in systematic(take.tape) if state.at == len(operations)][0]
        assert end.images == read_images(take.tape._folder)
        assert sum(len(chain(data, take.picture)) for data in end.images.values()) >= take.least
    syncs = [(number, operation) for number, operation in enumerate(takes[0].tape.operations)
             if isinstance(operation, Synced)]
    assert len(syncs) >= 3                             # how many, is up to when the threads get their turns
    assert any(operation.covers < number - 1 for number, operation in syncs), 'nothing was written during a sync'


def test_switches_are_eight_aligned_bytes(takes: List[Take]) -> None:
    """What is written over is a link or, in a repair, what no chain reaches; a link never straddles two blocks."""
    switches = 0
    for take in takes:
        ends = {name: len(data) for name, data in take.tape.before.items()}
        for operation in take.tape.operations:
            if not isinstance(operation, Write):
                continue
            end = ends.get(operation.file, 0)
            if operation.offset < end and (len(operation.data) == 8 or not take.tape.before):
                assert len(operation.data) == 8 and operation.offset % 8 == 0
                assert operation.offset // 4096 == (operation.offset + 7) // 4096
                switches += 1
            ends[operation.file] = max(end, operation.offset + len(operation.data))
    assert switches > 20


def test_after_any_power_cut_every_reachable_page_is_whole(takes: List[Take], tmp_path: Path) -> None:
    judge = Judge(tmp_path)
    for take, state in all_states(takes):
        judge.chains(take, state)
    rng = random.Random(5)
    for _ in range(500):
        take = rng.choice(takes)
        judge.chains(take, by_chance(take.tape, rng))
    assert judge.failures == []


def test_after_any_power_cut_repair_finds_every_page(takes: List[Take], tmp_path: Path) -> None:
    judge = Judge(tmp_path)
    rng = random.Random(6)
    for take, state in rng.sample(all_states(takes), REPAIRED):
        judge.state(take, state)
        take = rng.choice(takes)
        judge.state(take, by_chance(take.tape, rng))
    assert judge.failures == [] and judge.recovered > 500


def test_a_general_reader_opens_what_a_power_cut_leaves(takes: List[Take], tmp_path: Path) -> None:
    rng = random.Random(7)
    for number, (take, state) in enumerate(rng.sample(all_states(takes), 25)):
        for name, data in state.images.items():
            pages = chain(data, take.picture)
            if pages:
                path = tmp_path / f'{number}-{name}'
                path.write_bytes(data)
                with tifffile.TiffFile(path) as tif:
                    assert len(tif.pages) == len(pages)
                    last = take.picture(pages[-1])
                    assert (tif.pages[-1].asarray() == (last if last.ndim == 2 else last[..., ::-1])).all()


# ---------------------------------------------------------------------- the test of the test


def link_first(self: BigTiffAppender) -> None:
    """As `sync` must not be: the link is written before the pages are safe."""
    with self._lock:
        group, self._group = self._group, None
    if group is not None:
        self._write_link(self._link_at, group.first_ifd)
        self._link_at = group.last_next_at
        self.linked_pages += group.pages
    os.fdatasync(self._fd)


def switch_first(self: BigTiffAppender, first_text: bytes, finish: Any = BigTiffAppender.finish) -> None:
    """As `finish` must not be: the header is switched before the description is safe."""
    calls = itertools.count()
    sync = self.sync
    self.sync = lambda: None if next(calls) == 1 else sync()   # type: ignore[method-assign]
    finish(self, first_text)


@pytest.mark.parametrize('method, broken', [('sync', link_first), ('finish', switch_first)])
def test_a_broken_protocol_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, broken: Any) -> None:
    monkeypatch.setattr(BigTiffAppender, method, broken)
    take = power_cuts.take_recording(tmp_path / 'broken')
    judge = Judge(tmp_path)
    for state in systematic(take.tape):
        judge.chains(take, state)
    assert judge.wrong['bad_chains']


@pytest.mark.parametrize('skipped', [0, 2])
def test_a_repair_that_does_not_sync_in_time_is_found(takes: List[Take], tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch, skipped: int) -> None:
    calls = itertools.count()
    real = InPlace._sync
    monkeypatch.setattr(InPlace, '_sync', lambda self: None if next(calls) == skipped else real(self))
    unlinked = [state for state in systematic(takes[0].tape) if state.what == 'all kept'
                and b'<?xml' not in state.images.get('a.tif', b'') and len(state.images.get('a.tif', b'')) > 10_000][-1]
    # The kernel had all that the killed recorder wrote, and the disk nothing of it.
    repaired = power_cuts.take_repair(tmp_path / 'broken', takes[0], unlinked)
    assert repaired is not None
    if skipped == 0:
        repaired.tape.operations[:0] = [Write('a.tif', 0, repaired.tape.before.pop('a.tif'))]
        repaired.least = 0
        repaired.tape.operations[1:] = [operation._replace(covers=operation.covers + 1)
                                        if isinstance(operation, Synced) else operation
                                        for operation in repaired.tape.operations[1:]]
    judge = Judge(tmp_path)
    for state in systematic(repaired.tape):
        judge.chains(repaired, state)
    assert judge.wrong['bad_chains']


def test_a_killed_recording_opens_everywhere(tmp_path: Path) -> None:
    """A real kill -9, after which a general reader and ours see the same pages."""
    import signal
    import subprocess
    import sys

    from ProcessedPiRecorder.recordings.reader import RecordingFile
    script = '''
import sys, time
from pathlib import Path
import numpy as np
from ProcessedPiRecorder.recordings.page import PageRecord
from ProcessedPiRecorder.recordings.sink import PageJob, PageSink
sink = PageSink(Path(sys.argv[1]), height=20, width=30, pixel_format='gray', level=6, sync_interval_s=0.05,
                on_written=lambda jobs: None, on_error=print)
number = 0
while True:
    sink.submit(PageJob(np.full((20, 30), number % 256, np.uint8), PageRecord(number, 10**18 + number)))
    number += 1
    time.sleep(0.001)
    if number == 300:
        print('go', flush=True)
'''
    child = subprocess.Popen([sys.executable, '-c', script, str(tmp_path / 'a.tif')], stdout=subprocess.PIPE,
                             cwd=Path(__file__).parent.parent)
    try:
        assert child.stdout is not None and child.stdout.readline() == b'go\n'
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        child.stdout.close()
    with RecordingFile(tmp_path / 'a.tif') as recording, tifffile.TiffFile(tmp_path / 'a.tif') as tif:
        assert not recording.finished and recording.annotations == {}
        assert len(tif.pages) == recording.pages >= 20
        for number in range(0, recording.pages, 17):
            assert recording.verify_page(number)
            assert recording.page_record(number).index == number
            assert (tif.pages[number].asarray() == number % 256).all()
            assert (recording.read_page(number) == number % 256).all()

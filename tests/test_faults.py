"""The fault campaign in its shortened form, and the judge itself: it must find what is wrong.

The whole is `make faults` (docs/testing.md). Here every fault is made once, in a process of its own.
"""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import random
import subprocess
from pathlib import Path
from typing import Any, Callable, List

import pytest

from ProcessedPiRecorder.recordings.reader import RecordingFile
from ProcessedPiRecorder.report import Report
from tests.faults import campaign, one_run
from tests.faults import judge as judge_module
from tests.faults.judge import Truth, judge
from tests.faults.outcome import CannotBeMade, Outcome
from tests.faults.registry import FAULTS, Expect, Fault, load, wrong
from tests.faults.trial import Trial
from tests.faults.witness import delivered

SEED = 4
GROUPS = sorted({fault.group for fault in load().values()})


@pytest.mark.timeout(300)
@pytest.mark.parametrize('group', GROUPS)
def test_every_fault_ends_as_it_should(tmp_path: Path, group: str) -> None:
    faults = [fault for fault in FAULTS.values() if fault.group == group and fault.short]
    results = campaign.run_all(faults, [0], SEED, tmp_path, jobs=4, short=True)
    failed = [f'{result.fault}: {"; ".join(result.wrong)} ({result.outcome.notes})' for result in results
              if result.wrong]
    assert not failed, '\n'.join(failed)


def test_every_fault_that_the_documents_promise_is_in_the_campaign() -> None:
    names = ' / '.join(FAULTS)
    for word in PROMISED:
        assert word in names, word


PROMISED = (
    'camera gap', 'ring full', 'camera error', 'stall', 'overload', 'hole', 'truncation', 'mutations', 'power cuts',
    'truncation at every byte', 'clock steps', 'ENOSPC', 'EIO', 'RLIMIT_FSIZE', 'RLIMIT_NOFILE', 'RLIMIT_AS',
    'disk nearly full', 'kill -9 of all', *(f'{what} of the {role}' for what in ('kill -9', 'SIGSTOP and SIGCONT')
                                            for role in ('reader', 'writer', 'callback', 'keeper', 'script')),
    '1,000,000 results', 'corrupt results file', 'unreadable',
    *(f'callback {how} ({lane})' for how in ('raises', 'hangs', 'exits', 'segfaults', 'leaks until it is killed')
      for lane in ('2Proc', '3Proc')))


# ------------------------------------------------------------------ the judge must be able to fail

class Case:
    """A good recording of some frames, to be made bad."""

    def __init__(self, folder: Path, **camera: Any) -> None:
        (folder / 'data').mkdir()
        self.trial = Trial(folder / 'data', random.Random(1), x_resolution=96, y_resolution=64, pixel_format='gray',
                           tif_compression=0, split_frames=0, start_method=None, framerate=100,
                           camera={'frames': 20, **camera}).run()
        self.path = self.trial.path
        self.report: Any = self.trial.report
        assert self.report is not None

    def judged(self, report: Any = None, synced: int = 0, **options: Any) -> Outcome:
        truth = Truth(self.trial.camera(), delivered(self.trial.witness), {'trial.tif': synced})
        return judge(self.path, truth, report or self.report, **options)

    def changed(self, **values: Any) -> Report:
        return Report.from_dict({**self.report.as_dict(), **values})

    def overwrite(self, at: int, data: bytes) -> None:
        with open(self.path, 'r+b') as file:
            file.seek(at)
            file.write(data)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_the_judge_finds_nothing_wrong_with_a_good_recording(case: Case) -> None:
    outcome = case.judged(synced=20)
    assert outcome == Outcome(recorded=20, synced=20, complete='yes')


def test_the_judge_finds_a_deleted_page(case: Case) -> None:
    with RecordingFile(case.path) as recording:
        places = [int(row['ifd_offset']) for row in recording.index()]
    case.overwrite(places[7] + next_field(case.path, places[7]), places[9].to_bytes(8, 'little'))
    outcome = case.judged(synced=20, verify=False)
    assert outcome.recorded == 19 and (outcome.missing_synced, outcome.notes) == (0, 'repaired')
    assert any('missing [8]' in text for text in outcome.ledger_disagrees)
    assert any("'yes' though frames are missing" in text for text in outcome.ledger_disagrees)


def next_field(path: Path, ifd: int) -> int:
    """Where in an IFD the offset of the next one stands."""
    with open(path, 'rb') as file:
        file.seek(ifd)
        return 8 + 20 * int.from_bytes(file.read(8), 'little')


def test_the_judge_finds_a_changed_pixel(case: Case) -> None:
    with RecordingFile(case.path) as recording:
        at = int(recording.index()[5]['strip_offset']) + 2000
    with open(case.path, 'rb') as file:
        file.seek(at)
        value, = file.read(1)
    case.overwrite(at, bytes([value ^ 1]))
    outcome = case.judged()
    assert outcome.wrong_pixels == 1 and any('verify' in text for text in outcome.ledger_disagrees)


def test_the_judge_finds_a_false_yes(tmp_path: Path) -> None:
    """A camera lost frames, and the report is made to say that it did not."""
    case = Case(tmp_path, skip=(5, 6))
    assert not case.judged().ledger_disagrees
    lie = case.changed(complete='yes', lost=0, losses=[], sensor=18)
    assert any("'yes' though" in text for text in case.judged(lie).ledger_disagrees)


@pytest.mark.parametrize('change', [
    {'written': 19}, {'sensor': 21}, {'failed': 1}, {'bypassed': 2}, {'complete': 'no', 'reasons': []},
    {'lost': 1, 'complete': 'no', 'reasons': ['x']}, {'results': 3}, {'stopped': 'stopVid'}])
def test_the_judge_finds_a_report_that_tells_something_else(case: Case, change: Any) -> None:
    assert case.judged(case.changed(**change)).ledger_disagrees


def test_the_judge_finds_a_frame_that_came_and_was_neither_kept_nor_lost(case: Case) -> None:
    truth = Truth(case.trial.camera(), [*range(8), 8, *range(8, 20)])
    assert not judge(case.path, truth, case.report).ledger_disagrees
    truth = Truth(case.trial.camera(), [number for number in range(20) if number != 8])
    assert any('never gave: [8]' in text for text in judge(case.path, truth, case.report).ledger_disagrees)


def test_the_judge_finds_pages_that_were_synced_and_are_gone(case: Case) -> None:
    assert case.judged(synced=25).missing_synced == 5


def test_the_judge_finds_an_extra_file(case: Case) -> None:
    (case.path.parent / 'trial.tif.part').touch()
    assert case.judged().leaked == 1
    assert case.judged(allowed=['trial.tif.part']).leaked == 0


# ------------------------------------------------------------------ and so must the machinery around it

def a_fault(function: Callable[..., Outcome], **options: Any) -> Fault:
    return Fault('made up', 'test', Expect(), function, options.pop('limit_s', 30.0), False)


def one(tmp_path: Path, function: Callable[..., Outcome]) -> Any:
    """One run, in a fork of this process, as the campaign makes it; not as patient."""
    pid = os.fork()
    if pid == 0:
        try:
            judge_module.PATIENCE_S = 0.3
            result = one_run.make(a_fault(function), SEED, 0, tmp_path)
            (tmp_path / 'result.json').write_text(json.dumps(result))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return json.loads((tmp_path / 'result.json').read_text())


def healthy() -> Outcome:
    return Outcome(complete='yes')


def test_an_orphan_is_found_and_ended(tmp_path: Path) -> None:
    def leave(folder: Path, rng: random.Random) -> Outcome:
        subprocess.Popen(['sh', '-c', 'sleep 60 & exit'], start_new_session=True).wait()
        return healthy()

    result = one(tmp_path, leave)
    assert result['outcome']['orphans'] == 1 and 'sleep 60' in result['outcome']['notes']
    assert any('processes are left' in text for text in result['wrong'])


@pytest.mark.parametrize('what', ['descriptor', 'memory', 'temporary file'])
def test_a_leak_is_found(tmp_path: Path, what: str) -> None:
    def leave(folder: Path, rng: random.Random) -> Outcome:
        if what == 'descriptor':
            os.dup(os.open(os.devnull, os.O_RDONLY))
        elif what == 'memory':
            fd = os.memfd_create('ProcessedPiRecorder-ring')
            os.truncate(fd, 4096)
            leave.kept = mmap.mmap(fd, 4096)               # type: ignore[attr-defined]
            os.close(fd)
        else:
            (folder.parent / 'tmp' / 'left').touch()
        return healthy()

    result = one(tmp_path, leave)
    assert result['outcome']['leaked'] >= 1 and any('left behind' in text for text in result['wrong'])


def test_a_run_that_hangs_is_ended_and_counted(tmp_path: Path) -> None:
    nursery = campaign.Nursery(short=True)
    try:
        stuck = dataclasses.replace(FAULTS['stall, and it goes on'], limit_s=0.3)      # needs more than two seconds
        result = campaign.run_one(nursery, stuck, SEED, 0, tmp_path)
        assert result.outcome.hung and result.wrong == ['hung: it was ended after 0 s']
        assert not campaign.run_one(nursery, FAULTS['camera gap'], SEED, 0, tmp_path).wrong
    finally:
        nursery.close()


def test_a_fault_that_breaks_or_cannot_be_made_is_told_apart(tmp_path: Path) -> None:
    def cannot(folder: Path, rng: random.Random) -> Outcome:
        raise CannotBeMade('no loop device')

    assert one(tmp_path, cannot) == {'skipped': 'no loop device'}
    results = [campaign.Result('made up', 0, 1.0, Outcome(), skipped='no loop device'),
               campaign.Result('made up', 1, 1.0, Outcome(missing_synced=2), ['2 synced frames are missing'])]
    table = campaign.markdown([a_fault(cannot)], results)
    assert '| made up | 1 (1 skipped) | 0 | 2 | 0 | 0 | 0 | 0 | 0 |' in table and 'no loop device' in table


def test_what_is_expected_is_compared() -> None:
    fault = Fault('x', 'test', Expect('CallbackError', ('yes', 'unknown')), lambda folder, rng: healthy(), 1.0, False)
    assert not wrong(fault, Outcome(error='CallbackError', complete='unknown'))
    assert wrong(fault, Outcome(error='', complete='no')) == [
        "error: '' instead of 'CallbackError'", "complete: 'no' instead of 'yes' or 'unknown'"]


def test_a_run_can_be_made_again_exactly() -> None:
    name = 'ring full'
    drawn: List[List[float]] = [[one_run.chance(SEED, name, 3).random() for _ in range(3)] for _ in range(2)]
    assert drawn[0] == drawn[1] != [one_run.chance(SEED, name, 4).random() for _ in range(3)]

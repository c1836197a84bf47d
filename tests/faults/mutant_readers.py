"""What reads a mutant, and what is right to answer."""

from __future__ import annotations

import contextlib
import io
import random
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

import numpy as np

from ProcessedPiRecorder.cli.info import show_recording
from ProcessedPiRecorder.errors import RecorderError
from ProcessedPiRecorder.recordings.ome import seal_is_intact
from ProcessedPiRecorder.recordings.reader import RecordingFile
from ProcessedPiRecorder.recordings.repair import repair
from ProcessedPiRecorder.recordings.results import read_results, results_path
from ProcessedPiRecorder.recordings.verification import verify
from tests.faults.mutants import Mutant

__all__ = ['read_all']


class WrongAnswer(AssertionError):
    """A reader gave an answer that is not true."""


def read_all(folder: Path, mutant: Mutant, rng: random.Random, readers: Sequence[str]) -> Dict[str, Any]:
    """Have each reader read the mutant; what each did by its name, and the failures."""
    outcomes: Dict[str, str] = {}
    failures: List[str] = []
    given = rng.choice([name for name in mutant.files if name.endswith('.tif')])
    for name in readers:
        try:
            outcomes[name] = READERS[name](folder / given, mutant, rng)
        except RecorderError as error:
            str(error).encode('utf-8', 'surrogateescape')     # it has to be printed
            outcomes[name] = type(error).__name__
        except WrongAnswer as error:
            failures.append(f'{name} of {given}: {error}')
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-3:]
            failures.append(f'{name} of {given}: {type(error).__name__}: {error} at ' + ' < '.join(
                f'{Path(frame.filename).name}:{frame.lineno}' for frame in reversed(where)))
    return {'outcomes': outcomes, 'failures': failures}


def _info(path: Path, mutant: Mutant, rng: random.Random) -> str:
    as_json = rng.random() < 0.5
    with contextlib.redirect_stdout(io.StringIO()) as told:
        show_recording(path, as_json=as_json)
    _printable(told.getvalue())
    with RecordingFile(path) as recording:
        warned = ('"description_intact": false' if as_json else 'DAMAGED') in told.getvalue()
        if recording.finished and warned == seal_is_intact(mutant.description(path.name)):
            raise WrongAnswer('it shows a damaged description as a good one, or a good one as damaged')
    return 'shown'


def _reader(path: Path, mutant: Mutant, rng: random.Random) -> str:
    pages = read_pages(path, mutant)
    try:
        for _ in read_results(results_path(path)):
            pass
    except RecorderError:
        pass
    return 'all pages whole' if pages == len(mutant.base.truth) else 'some pages whole'


def read_pages(path: Path, mutant: Mutant) -> int:
    """Read all pages; those that count as intact must be what was recorded. Returns how many are."""
    intact = 0
    with RecordingFile(path) as recording:
        for page in range(recording.pages):
            try:
                if recording.verify_page(page):
                    _compare(recording, page, mutant)
                    intact += 1
                else:
                    recording.read_page(page)
                    recording.page_record(page)
            except RecorderError:
                pass
        recording.times.sum()
    return intact


def _compare(recording: RecordingFile, page: int, mutant: Mutant) -> None:
    record = recording.page_record(page)
    truth = mutant.base.truth.get(record.time_ns)
    if truth is None:
        raise WrongAnswer(f'page {page} counts as intact, and was never recorded')
    if not np.array_equal(recording.read_page(page), truth):
        raise WrongAnswer(f'page {page} counts as intact, and its pixels are not those that were recorded')


def _verify(path: Path, mutant: Mutant, rng: random.Random) -> str:
    verification = verify(path, threads=rng.choice((1, 1, 2)))
    _printable(str(verification.as_dict()))
    if verification.ok and (mutant.is_changed or not mutant.base.finished):
        raise WrongAnswer('verified, though it is not what was recorded')
    return 'ok' if verification.ok else 'not ok'


def _repair(path: Path, mutant: Mutant, rng: random.Random) -> str:
    before = {other.name: other.read_bytes() for other in path.parent.iterdir()}
    in_place = rng.random() < 0.3
    whole = [] if mutant.is_ambiguous else mutant.whole_pages()
    out = None if in_place else path.with_name('out.tif')
    try:
        result = repair(path, out=out, in_place=in_place)
    except RecorderError:
        if {other.name: other.read_bytes() for other in path.parent.iterdir()} != before:
            raise WrongAnswer('repair failed, and changed files') from None
        if whole and len(before) == 1:
            raise WrongAnswer(f'repair failed, though {len(whole)} pages are whole') from None
        raise
    _printable(str(result.as_dict()))
    if not in_place and any((path.parent / name).read_bytes() != data for name, data in before.items()):
        raise WrongAnswer('repair changed the original')
    if result.healthy:
        return 'healthy'
    _check_verified(result.files[0], mutant)
    for file in result.files:
        if read_pages(file, mutant) != RecordingFile(file).pages:
            raise WrongAnswer('a page of what was repaired is not whole')
    missing = set(whole) - {int(time_ns) for file in result.files for time_ns in RecordingFile(file).times}
    if missing and not result.pages_left_out:
        raise WrongAnswer(f'{len(missing)} of {len(whole)} whole pages were not recovered')
    return 'repaired in place' if in_place else 'repaired'


def _check_verified(path: Path, mutant: Mutant) -> None:
    name = 'a.results.jsonl'
    spoilt = name in mutant.base.files and mutant.files.get(name) != mutant.base.files[name]
    # What stands in a line of the results is not repaired, and a file of another recording is left as it is.
    let_pass = {'results'} if spoilt else set()
    if mutant.is_ambiguous:
        let_pass.add('parts')
    if mutant.has_forged_description:
        let_pass.add('description')      # a finished part that is believed stays as it is
    findings = [finding for finding in verify(path, threads=1).findings if finding.kind not in let_pass]
    if findings:
        raise WrongAnswer(f'what was repaired is not verified: {findings[0]}')


def _printable(text: str) -> None:
    text.encode('utf-8', 'surrogateescape')


READERS: Dict[str, Callable[[Path, Mutant, random.Random], str]] = {
    'info': _info, 'reader': _reader, 'verify': _verify, 'repair': _repair}

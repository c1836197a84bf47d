"""What can happen to a file: power cuts, holes, truncation, mutations. Each run takes many states of it."""

from __future__ import annotations

import random
import shutil
import struct
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

from ProcessedPiRecorder.errors import RecorderError
from ProcessedPiRecorder.recordings.reader import RecordingFile
from tests.faults import mutations, power_cuts
from tests.faults.judge import Judge, Truth, verification
from tests.faults.mutant_readers import read_all
from tests.faults.mutants import Mutant, make_bases
from tests.faults.outcome import Outcome
from tests.faults.registry import Expect, fault
from tests.faults.trial import SHORT, Trial
from tests.faults.witness import PAGE_TEXT

STATES = 20 if SHORT else 100           # power cuts a run
MUTANTS = 20 if SHORT else 600          # mutations a run
WOUNDS = 4 if SHORT else 12             # holes or cuts a run
STRIDE = 300 if SHORT else 1            # bytes
STRIP_OFFSETS = 273
ANY_FILE = Expect('', '-')


class Span(NamedTuple):
    """Where a page stands in its file: strip, text and IFD."""

    index: int
    start: int
    end: int


def spans(data: bytes) -> List[Span]:
    """All whole pages in the bytes of a file, found by their texts."""
    found = []
    for text in PAGE_TEXT.finditer(data):
        ifd = -(-text.end() // 8) * 8
        count, = struct.unpack_from('<Q', data, ifd)
        tags = {tag: value for tag, _, _, value in struct.iter_unpack('<HHQQ', data[ifd + 8:ifd + 8 + 20 * count])}
        index = int(text.group().split(b'"index":')[1].split(b',')[0])
        found.append(Span(index, tags[STRIP_OFFSETS], ifd + 16 + 20 * count))
    return found


def wound(folder: Path, rng: random.Random, hurt: Any) -> Outcome:
    """A recording is made, hurt many times over, each time read and repaired: no page that is whole may be missing."""
    trial = Trial(folder, rng, camera={'frames': rng.randint(15, 40)}, split_frames=0).run()
    outcome = trial.judged()
    outcome.complete = '-'
    whole = trial.path.read_bytes()
    truth, pages = Truth(trial.camera()), spans(whole)
    for number in range(WOUNDS):
        place = folder / f'hurt-{number}'
        place.mkdir()
        path = place / 'trial.tif'
        data, start, end = hurt(bytearray(whole), rng)
        path.write_bytes(data)
        _read(path, outcome)
        _repair(path, truth, {page.index for page in pages if page.end <= start or page.start >= end}, outcome)
        shutil.rmtree(place)
    return outcome


def _read(path: Path, outcome: Outcome) -> None:
    """The reader says that it is damaged, or reads it."""
    try:
        with RecordingFile(path) as recording:
            for page in range(recording.pages):
                recording.verify_page(page)
    except RecorderError:
        pass
    except Exception as error:
        outcome.ledger_disagrees.append(f'the reader raised {type(error).__name__}: {error}')


def _repair(path: Path, truth: Truth, whole: Any, outcome: Outcome) -> None:
    from ProcessedPiRecorder.recordings.repair import repair
    before, repaired = path.read_bytes(), path.with_name('repaired.tif')
    try:
        repair(path, out=repaired)
    except RecorderError as error:
        if whole:
            outcome.missing_synced += len(whole)
            outcome.ledger_disagrees.append(f'{len(whole)} whole pages, and repair says: {error}'[:300])
        return
    if path.read_bytes() != before:
        outcome.ledger_disagrees.append('repair changed the original')
    if not repaired.exists():
        repaired = path                    # a healthy file is left alone
    court = Judge(repaired, truth)
    court.read()
    outcome.wrong_pixels += court.wrong_pixels
    outcome.missing_synced += len(whole - set(court.kept))
    outcome.ledger_disagrees += [f'repaired: {text}' for text in court.findings + verification(repaired)]


@fault('hole', group='files', expects=ANY_FILE, limit_s=180)
def hole(folder: Path, rng: random.Random) -> Outcome:
    """A range of zeros or garbage anywhere, as a dead block of a card leaves it."""
    def hurt(data: bytearray, rng: random.Random) -> Any:
        length = rng.choice((1, 8, 512, 4096, 16384))
        start = rng.randrange(len(data))
        end = min(len(data), start + length)
        data[start:end] = rng.choice((bytes(end - start), rng.randbytes(end - start)))
        return data, start, end

    return wound(folder, rng, hurt)


@fault('truncation', group='files', expects=ANY_FILE, limit_s=180)
def truncation(folder: Path, rng: random.Random) -> Outcome:
    def hurt(data: bytearray, rng: random.Random) -> Any:
        end = rng.randrange(len(data))
        return data[:end], end, len(data)

    return wound(folder, rng, hurt)


@fault('truncation at every byte', group='files', expects=ANY_FILE, limit_s=900, runs=2)
def truncation_at_every_byte(folder: Path, rng: random.Random) -> Outcome:
    """A small recording, cut at each of its bytes: info, reader, verify and repair each time."""
    bases = [base for base in make_bases(folder / 'bases') if 'split' not in base.name]
    base, outcome = rng.choice(bases), Outcome()
    size = len(base.files[base.first])
    for end in range(rng.randrange(STRIDE), size, STRIDE):
        mutant = Mutant(base)
        del mutant.files[base.first][end:]
        mutant.write(folder / 'cut')
        told = read_all(folder / 'cut', mutant, rng, ('info', 'reader', 'verify', 'repair'))
        outcome.ledger_disagrees += [f'cut at {end}: {text}' for text in told['failures']][:5]
        shutil.rmtree(folder / 'cut')
    shutil.rmtree(folder / 'bases')
    outcome.notes = f'{base.name}, {size} bytes'
    return outcome


@fault('power cuts: a tear at every write', group='files', expects=ANY_FILE, limit_s=600)
def tears(folder: Path, rng: random.Random) -> Outcome:
    stats = power_cuts.run(rng.randrange(10**6), STATES, folder)
    missing = sum(stats[name] for name in ('missing_linked', 'missing_synced', 'missing_whole'))
    return Outcome(recorded=stats['pages_recovered'], missing_synced=missing, wrong_pixels=stats['wrong_pixels'],
                   ledger_disagrees=stats['failures'][:10], notes=_told(stats))


@fault('mutations', group='files', expects=ANY_FILE, limit_s=600)
def mutants(folder: Path, rng: random.Random) -> Outcome:
    stats = mutations.run(rng.randrange(10**6), MUTANTS, folder, jobs=1)
    return Outcome(hung=bool(stats['hangs']), ledger_disagrees=stats['failures'][:10], notes=_told(stats))


def _told(stats: Dict[str, Any]) -> str:
    return ', '.join(f'{value} {name}' for name, value in stats.items() if isinstance(value, (int, float)))

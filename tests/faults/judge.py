"""The judge of one recording: pages against the camera's truth, report against pages, and what was left behind.

The pages are read with tifffile, their texts with ``json``, and the annotations with ElementTree: nothing of the
package under test is believed but the synthetic camera's pixels, and what `ppr verify` says is one more witness.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple
from xml.etree import ElementTree

import numpy as np
import psutil
import tifffile

from ProcessedPiRecorder.cameras import SyntheticCamera
from ProcessedPiRecorder.report import Report
from tests.faults.outcome import Outcome

PATIENCE_S = 5.0
NAMESPACE = 'urn:processedpirecorder:'
MOST_TEXTS = 20
Pixels = Callable[[np.ndarray], np.ndarray]


@dataclass
class Page:
    """A page as a reader sees it that knows nothing of us: its JSON, and its pixels in BGR or gray."""

    text: Dict[str, Any]
    image: np.ndarray


@dataclass
class Truth:
    """What is known of a recording from elsewhere.

    Attributes:
        camera: configured as it was; its ``frame(i)`` is the truth. returned: what the callback does to pixels.
        delivered: sensor frames that the camera handed over, in order; None when nobody wrote them down.
        synced: per file name, the pages that a completed sync had found.
        own_numbers: the camera's times are damaged on purpose, so the recorder's numbers need not be the sensor's.
    """

    camera: SyntheticCamera
    delivered: Optional[Sequence[int]] = None
    synced: Mapping[str, int] = field(default_factory=dict)
    returned: Optional[Pixels] = None
    own_numbers: bool = False


class Judge:
    """Collects findings about one recording."""

    def __init__(self, path: Path, truth: Truth) -> None:
        self.path, self.truth = path, truth
        self.findings: List[str] = []
        self.wrong_pixels = 0
        self.kept: List[int] = []              # the recorder's numbers of the pages
        self.numbers: List[int] = []           # the sensor's, from the pixels
        self.statuses: Dict[str, int] = {}
        self.stored: Optional[Report] = None
        self.finished = True
        self.pages_of: Dict[str, int] = {}

    def find(self, text: str) -> None:
        if len(self.findings) < MOST_TEXTS:
            self.findings.append(text)

    def read(self) -> None:
        """All files, page by page."""
        for file in parts(self.path):
            before = len(self.kept)
            try:
                for page in self._pages(file):
                    self._page(page, file.name, len(self.kept) - before)
            except Exception as error:
                self.find(f'{file.name} cannot be read: {type(error).__name__}: {error}')
            self.pages_of[file.name] = len(self.kept) - before
        if any(later <= earlier for earlier, later in zip(self.kept, self.kept[1:])):
            self.find('the page indices do not increase')
        if any(later <= earlier for earlier, later in zip(self.numbers, self.numbers[1:])):
            self.find('the frames are not in the order of the sensor')

    def _pages(self, file: Path) -> Iterator[Page]:
        with open(file, 'rb') as stream:
            if stream.read(16)[8:] == bytes(8):
                self.finished = False
                return                         # it ended before its first sync
        with tifffile.TiffFile(file, is_ome=False) as tif:
            description = tif.pages[0].description
            finished = description.startswith('<?xml')
            notes = annotations(description) if finished else {}
            self.finished = self.finished and finished
            if 'report' in notes:
                self.stored = Report.from_dict(notes['report'])
            for number, page in enumerate(tif.pages):
                text = notes['page0'] if finished and number == 0 else page.description
                image = page.asarray()
                yield Page(json.loads(text), image[..., ::-1] if image.ndim == 3 else image)

    def _page(self, page: Page, name: str, place: int) -> None:
        index, status = page.text['index'], page.text['status']
        if page.text['page'] != place:
            self.find(f'{name}: page {place} says that it is page {page.text["page"]}')
        self.kept.append(index)
        self.statuses[status] = self.statuses.get(status, 0) + 1
        image = page.image
        if status == 'returned' and self.truth.returned is not None:
            image = self.truth.returned(image)         # its own inverse
        try:
            number = self.truth.camera.index_of(image)
        except ValueError:
            number = -1
        self.numbers.append(number)
        right = number if self.truth.own_numbers else index
        if number < 0 or number != right or not np.array_equal(image, self.truth.camera.frame(right)):
            self.wrong_pixels += 1

    def judge_report(self, report: Report) -> None:
        """Whether the report tells what the pages and the camera tell."""
        lost = [loss.index + place for loss in report.losses for place in range(min(loss.count, 10**6))]
        unwritten = report.captured - report.written
        self._equal('written', report.written, len(self.kept))
        self._equal('sensor', report.sensor, report.captured + report.lost)
        self._equal('lost', report.lost, len(lost))
        for name, value in (('returned', report.returned), ('bypassed', report.bypassed), ('failed', report.failed)):
            # Frames that were never written were counted when their lane was settled.
            count = self.statuses.get('by-passed' if name == 'bypassed' else name, 0)
            if not count <= value <= count + unwritten:
                self.find(f'report.{name} is {value}, the pages tell {count}')
        everything = set(self.kept) | set(lost)
        if len(everything) != len(self.kept) + len(lost):
            self.find('some frames are reported lost though they are in the file, or reported lost twice')
        if unwritten < 0 or (unwritten == 0 and everything != set(range(report.sensor))):
            missing = sorted(set(range(report.sensor)) - everything)
            self.find(f'pages and losses are not all of 0..{report.sensor - 1}: missing {missing[:5]}, '
                      f'too many {sorted(everything - set(range(report.sensor)))[:5]}')
        if report.complete == 'yes' and (lost or unwritten or self.kept != list(range(report.sensor))):
            self.find("the report says complete 'yes' though frames are missing")
        if report.complete == 'no' and not (report.reasons or report.errors):
            self.find("the report says complete 'no' without a reason")
        self._judge_delivery(report, set(lost), unwritten)
        if self.stored is not None:
            self._judge_stored(report)

    def _equal(self, name: str, told: int, counted: int) -> None:
        if told != counted:
            self.find(f'report.{name} is {told}, counted {counted}')

    def _judge_delivery(self, report: Report, lost: Set[int], unwritten: int) -> None:
        """What the camera handed over is in the file, or was lost at the ring and reported so."""
        if self.truth.delivered is None:
            return
        given = set(self.truth.delivered)
        strangers = set(self.numbers) - given
        if strangers:
            self.find(f'frames are in the file that the camera never gave: {sorted(strangers)[:5]}')
        last = max(self.numbers, default=-1)
        dropped = {number for number in given if number <= last} - set(self.numbers)
        told = sum(loss.count for loss in report.losses if loss.reason == 'ring full')
        if len(dropped) > told + unwritten:
            self.find(f'the camera gave {len(dropped)} frames that are not in the file; the report tells of {told} '
                      f'lost at the ring and {unwritten} not written')
        if self.truth.own_numbers:
            return
        if not dropped <= lost and not unwritten:
            self.find(f'frames came, and are neither in the file nor lost: {sorted(dropped - lost)[:5]}')
        gaps = {loss.index + place for loss in report.losses if loss.reason in ('camera gap', 'stall')
                for place in range(loss.count)}
        if gaps & given:
            self.find(f'reported as never given by the camera, which gave them: {sorted(gaps & given)[:5]}')

    def _judge_stored(self, report: Report) -> None:
        assert self.stored is not None
        for name in ('complete', 'sensor', 'captured', 'written', 'returned', 'bypassed', 'failed', 'lost', 'losses',
                     'results', 'stopped', 'effort', 'effort_under_pressure', 'raw_bytes', 'callback_restarts'):
            told, stored = getattr(report, name), getattr(self.stored, name)
            if told != stored:
                self.find(f'rec.report.{name} is {told!r}, the file says {stored!r}'[:300])

    def judge_syncs(self) -> Tuple[int, int]:
        """How many pages had been synced, and how many of them are not in the files."""
        missing = sum(max(0, pages - self.pages_of.get(name, 0)) for name, pages in self.truth.synced.items())
        return sum(self.truth.synced.values()), missing

    def judge_extra_files(self, allowed: Sequence[str] = ()) -> int:
        """Files beside the recording that nobody asked for."""
        known = {*(file.name for file in parts(self.path)), self.path.with_suffix('.results.jsonl').name, *allowed}
        extra = sorted(set(os.listdir(self.path.parent)) - known)
        if extra:
            self.find(f'left in the folder: {", ".join(extra[:5])}')
        return len(extra)


def judge(path: Path, truth: Truth, report: Optional[Report], error: Optional[BaseException] = None, *,
          allowed: Sequence[str] = (), verify: bool = True) -> Outcome:
    """What became of the recording at ``path``. Does not look for processes: see :class:`Leftovers`."""
    court = Judge(path, truth)
    court.read()
    if report is None:
        report = court.stored
    if report is not None:
        court.judge_report(report)
    verdict = verification(path) if verify and court.pages_of and court.finished else []
    for text in verdict:
        court.find(f'verify: {text}')
    pages, missing = court.judge_syncs()
    notes = '' if court.finished or not court.kept else 'unfinished'
    if missing:
        missing, notes = judge_repair(path, truth, missing, court)
    return Outcome(recorded=len(court.kept), synced=pages, missing_synced=missing, wrong_pixels=court.wrong_pixels,
                   error=type(error).__name__ if error is not None else '',
                   complete=report.complete if report is not None else '-',
                   leaked=court.judge_extra_files(allowed), ledger_disagrees=court.findings, notes=notes)


def judge_repair(path: Path, truth: Truth, missing: int, court: Judge) -> Tuple[int, str]:
    """Synced pages still missing after ``repair``, which must leave the original as it is, and a note."""
    if importlib.util.find_spec('ProcessedPiRecorder.recordings.repair') is None:
        return missing, 'unfinished; nothing repairs it'
    from ProcessedPiRecorder.recordings.repair import repair
    folder = path.parent / 'repaired'
    folder.mkdir()
    repaired = folder / path.name
    try:
        repair(path, out=repaired)
    except Exception as error:
        court.find(f'repair: {type(error).__name__}: {error}')
        return missing, 'repair failed'
    if not repaired.exists():
        folder.rmdir()
        return missing, 'repair finds nothing to do'
    again = Judge(repaired, Truth(truth.camera, synced=truth.synced, returned=truth.returned,
                                  own_numbers=truth.own_numbers))
    again.read()
    court.wrong_pixels += again.wrong_pixels
    for text in [*again.findings, *verification(repaired)]:
        court.find(f'repaired: {text}')
    left = again.judge_syncs()[1]
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    return left, 'repaired'


def verification(path: Path) -> List[str]:
    """What `ppr verify` finds."""
    from ProcessedPiRecorder.recordings.verification import verify
    try:
        verified = verify(path)
    except Exception as error:
        return [f'{type(error).__name__}: {error}']
    return [finding.text for finding in verified.findings] or ([] if verified.ok else ['not ok, without a finding'])


def parts(path: Path) -> List[Path]:
    """The recording's files, in order."""
    name = re.compile(re.escape(path.stem) + r'_(\d{3,})' + re.escape(path.suffix))
    others = sorted((int(found.group(1)), file) for file in path.parent.iterdir()
                    for found in [name.fullmatch(file.name)] if found)
    return [file for file in [path, *(file for _, file in others)] if file.exists()]


def annotations(xml: str) -> Dict[str, Any]:
    """The annotations in a finished file's OME-XML."""
    found = {}
    for element in ElementTree.fromstring(xml).iter():
        if element.tag.endswith('CommentAnnotation') and element.get('Namespace', '').startswith(NAMESPACE):
            value = next(iter(element))
            found[element.get('Namespace', '')[len(NAMESPACE):]] = json.loads(value.text or 'null')
    return found


class Leftovers:
    """What a run leaves behind in the machine. Made before it, in a process that adopts orphans."""

    def __init__(self, memory: Callable[[], Set[str]] = set) -> None:
        self._memory = memory
        self._descriptors = descriptors()
        self._children = set(living())

    def count(self) -> Tuple[int, int, str]:
        """Processes, and memory files, descriptors and threads; and a text about them. Waits for the last to go."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            gc.collect()
            orphans = {pid: text for pid, text in living().items() if pid not in self._children}
            leaks = [*self._new_descriptors(), *mapped(self._memory()), *our_threads()]
            if not (orphans or leaks) or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        for pid in orphans:
            psutil.Process(pid).kill()
        return len(orphans), len(leaks), '; '.join([*orphans.values(), *leaks])[:500]

    def _new_descriptors(self) -> List[str]:
        return [f'descriptor of {target}' for number, target in descriptors().items()
                if number not in self._descriptors and '.witness' not in target]


def living() -> Dict[int, str]:
    """All processes below this one that are not mere zombies, with what they run."""
    found = {}
    for child in psutil.Process().children(recursive=True):
        try:
            text = ' '.join(child.cmdline())
            if child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)
            elif 'resource_tracker' not in text:
                found[child.pid] = f'process {child.pid} ({text[:100]})'
        except (psutil.NoSuchProcess, ChildProcessError):
            pass
    return found


def descriptors() -> Dict[int, str]:
    found = {}
    for name in os.listdir('/proc/self/fd'):
        try:
            found[int(name)] = os.readlink(f'/proc/self/fd/{name}')
        except OSError:
            pass
    return found


def mapped(inodes: Set[str]) -> List[str]:
    """Processes, anywhere, that have one of these memory files mapped."""
    found = []
    for entry in Path('/proc').glob('[0-9]*/maps') if inodes else ():
        try:
            lines = entry.read_text().splitlines()
        except OSError:
            continue
        held = {line.split()[4] for line in lines if 'memfd:ProcessedPiRecorder' in line} & inodes
        found.extend(f'memory file {inode} in process {entry.parent.name}' for inode in held)
    return found


def our_threads() -> List[str]:
    return [f'thread {thread.name}' for thread in threading.enumerate() if thread.name.startswith('ppr')]

"""Which files belong to a recording: any one of them leads to all, by the names that split recordings have."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional

from ...errors import RecordingFileError
from ..part import first_of_parts, part_path, parts_on_disk
from ..reader import is_part
from .findings import Findings
from .recorded_file import RecordedFile

__all__ = ['first_path', 'later_parts', 'leftover_parts', 'part_facts']


def first_path(recorded: RecordedFile) -> Optional[Path]:
    """Where file 0 of the recording should be, by the present name of one of its files; None: the name does not tell.

    By the present name, since a recording may have been renamed, all its files alike.
    """
    return first_of_parts(recorded.path, recorded.part or 0)


def part_facts(recorded: RecordedFile) -> Dict[str, Any]:
    """What a file tells of its place in the recording: part, first_page, first_name, last, …"""
    for source in (recorded.annotations, recorded.about):
        facts = source.get('file')
        if isinstance(facts, dict):
            return facts
    return {}


def later_parts(first: Path, number: int, wanted: int) -> List[int]:
    """Numbers of the parts beyond ``number`` that are on the disk; ``wanted`` is one, whatever it holds."""
    try:
        return [other for other, path in parts_on_disk(first)
                if other > number and (other == wanted or is_part(path, other))]
    except OSError:
        return []                        # the folder cannot be listed


def leftover_parts(first: Path, count: int, first_name: Any) -> List[Path]:
    """Files with names of parts that a recording of ``count`` files does not have, and that say that they are its."""
    numbers = later_parts(first, count - 1, -1)
    return [path for path in (part_path(first, number) for number in numbers) if _first_name(path) == first_name]


def _first_name(path: Path) -> Any:
    try:
        with RecordedFile(path, Findings()) as recorded:
            return part_facts(recorded).get('first_name')
    except RecordingFileError:
        return None

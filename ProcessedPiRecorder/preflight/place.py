"""Where the recording is to go: whether it would be taken there, and how much room there is."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional

from ..errors import RecordingFileError
from ..recorder import ProcessedPiRecorder
from ..recordings.bigtiff import file_error
from ..recordings.space import reserve_bytes
from ..recordings.volume import Volume, volume_of

__all__ = ['Place', 'find_place', 'working_folder']

log = logging.getLogger(__name__)

#: Of the free space beyond the reserve, so much may be filled for a while.
SHARE = 10
#: With less than this nothing worth knowing could be measured; so much is taken where nobody knows how much there is.
LEAST_ROOM, BLIND_ROOM = 16_000_000, 256_000_000


@dataclass(frozen=True)
class Place:
    """The target folder.

    Attributes:
        folder: None when no file is to be written. volume: what it lies on.
        reserve: bytes that a recording leaves free.
        refusal: why a recording with these very options would not be started, '' if it would.
    """

    folder: Optional[Path] = None
    volume: Optional[Volume] = None
    reserve: int = 0
    refusal: str = ''

    @property
    def usable(self) -> Optional[int]:
        """Bytes that a recording may take; None where the file system does not tell (some FUSE ones say 0 of 0)."""
        volume = self.volume
        if volume is None or not 0 <= volume.free <= volume.total or not volume.total:
            return None
        return max(0, volume.free - self.reserve)

    @property
    def room(self) -> int:
        """Bytes that a trial may take: a tenth of the usable ones."""
        return BLIND_ROOM if self.usable is None else self.usable // SHARE

    @property
    def takes_recordings(self) -> bool:
        """Whether trials can be made there at all."""
        return self.volume is None or (not self.volume.is_fat and self.room >= LEAST_ROOM)


def find_place(arguments: Mapping[str, Any]) -> Place:
    """Check the recorder's arguments as it does itself, and find out where its file would lie.

    An output that exists already is told in ``refusal``; everything else that is wrong is raised, as by the recorder.
    """
    refusal = ''
    try:
        _check(arguments)
    except RecordingFileError as error:
        _check({**arguments, 'overwrite': True})
        refusal = str(error)
    if not arguments['write_vid']:
        return Place(refusal=refusal)
    path = arguments['tif_path']
    # Where PATH is a link, what it points to is overwritten.
    folder = Path(os.path.realpath(path)).parent if path is not None else Path.cwd()
    volume = volume_of(folder)
    return Place(folder, volume, reserve_bytes(arguments.get('disk_reserve_mb'), volume.total), refusal)


def _check(arguments: Mapping[str, Any]) -> None:
    checked: Dict[str, Any] = dict(arguments)
    if checked['write_vid'] and checked['tif_path'] is None:
        checked['tif_path'] = Path.cwd() / f'.ppr-preflight-{os.getpid()}.tif'      # only its folder is looked at
    ProcessedPiRecorder(**checked).close()


@contextmanager
def working_folder(place: Place) -> Iterator[Path]:
    """A folder of our own beside the target (without a target, in the system's), gone at the end whatever happens.

    Raises RecordingFileError where it cannot be made.
    """
    where = place.folder or Path(tempfile.gettempdir())
    try:
        folder = Path(tempfile.mkdtemp(prefix='ppr-preflight-', dir=where))
    except OSError as error:
        raise file_error(where, 'takes no folder for the trial recordings', error) from error
    try:
        yield folder
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        log.warning('%s could not be removed (%s); remove it', folder, error)

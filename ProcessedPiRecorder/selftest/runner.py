"""Goes through the checklist, check by check, and keeps on disk only what a failure needs to be looked at."""

from __future__ import annotations

import logging
import shutil
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterable, Iterator, List, Optional

from ..errors import RecorderError, RecordingFileError
from .checklist import CHECKS, Check
from .context import FAIL, SKIPPED, Context, Finding, Skip

__all__ = ['Result', 'make_folder', 'run_checks', 'tidy']

log = logging.getLogger(__name__)

#: Its recording is looked at by later checks.
MAIN = 'recording'


@dataclass(frozen=True)
class Result:
    """A check and what it found."""

    check: Check
    finding: Finding


def make_folder(place: Path) -> Path:
    """A folder of our own for the recordings, on the disk that will be used. Raises RecordingFileError."""
    try:
        return Path(tempfile.mkdtemp(prefix='ppr-selftest-', dir=place.resolve(strict=True)))
    except OSError as error:
        raise RecordingFileError(f'no test recordings can be made in this folder: {error.strerror or error}; go to the '
                                 'folder that your recordings will be in, and run this there') from error


def run_checks(context: Context, begin: Callable[[Check], None], checks: Iterable[Check] = CHECKS) -> Iterator[Result]:
    """Each check's result as soon as it is known. ``begin`` is told of each before it is made.

    Blocks for as long as the recordings take. Raises nothing that a check finds: KeyboardInterrupt only.
    """
    opened: Optional[bool] = None        # whether the camera has; None: not tried yet
    for check in checks:
        begin(check)
        if check.needs_camera and opened is False:
            finding = Finding(SKIPPED, [], ['the camera could not be used'])
        else:
            finding = _find(check, context)
        if check.needs_camera and opened is None:
            opened = context.granted is not None
        if finding.result != FAIL and check.name != MAIN:
            _remove(context.folder, check.name)
        yield Result(check, finding)


def _find(check: Check, context: Context) -> Finding:
    try:
        return check.run(context)
    except Skip as reason:
        return reason.finding()
    except (RecorderError, OSError) as error:
        return Finding(FAIL, [str(error) or type(error).__name__], [], {'error': type(error).__name__})
    except Exception as error:
        # A mistake of ours must not keep the other checks from being made; who reports it needs the place.
        log.debug('the check %s failed', check.name, exc_info=True)
        return Finding(FAIL, [f'the check itself failed ({type(error).__name__}: {error}); please report this, with '
                              'what --json prints'], [],
                       {'error': type(error).__name__, 'traceback': traceback.format_exc()})


def tidy(folder: Path, results: List[Result]) -> Optional[Path]:
    """Remove the recordings; where a check failed keep them, and return the folder."""
    if any(result.finding.result == FAIL for result in results) and any(folder.iterdir()):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    return None


def _remove(folder: Path, name: str) -> None:
    for path in folder.glob(f'{name}*'):
        path.unlink()

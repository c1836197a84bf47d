"""``verify``: whether a recording is what its own report says, from its first byte to its last.

::

    recorded_file   one file, opened as far as it can be; where its pages are said to be
    pages           each page: checksum, pixels, text, IFD; in parallel threads
    one_file        every byte of a file accounted for
    sequence        the pages in their order: numbers, times, losses; the ledger that they make
    description     the OME-XML against the pages
    ledger          the report against the pages
    stored_results  the results file against the pages
    parts           the files of a split recording; whole puts all of it together

No account of the writer's is trusted: what the pages tell is counted anew (:class:`~..tally.Tally`), and what the
other bytes should be is made anew from the pages.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Optional, Union

from ..part import behind_link
from .findings import Finding, Verification
from .whole import Progress, RecordingCheck

__all__ = ['Finding', 'Verification', 'verify']


def verify(path: Union[str, 'os.PathLike[str]'], *, threads: Optional[int] = None,
           progress: Optional[Progress] = None) -> Verification:
    """Check a recording, all files of it; whichever of them is given.

    Blocks: every byte is read, every page decoded. Memory: a few pages a thread, and 100 bytes for each page.

    Args:
        threads: that decode pages; None = one for each core that this process may use.
        progress: called in this thread with (pages done, pages in all the files opened so far).

    Raises RecordingFileError when ``path`` cannot be opened, RecordingFormatError when it is no recording of ours.
    Anything else that is wrong is a finding.
    """
    threads = threads or len(os.sched_getaffinity(0))
    check = RecordingCheck(behind_link(Path(path)), threads, progress or (lambda done, total: None))
    if threads == 1:
        return check.run(None)
    with ThreadPoolExecutor(threads, 'ppr-verify') as executor:
        return check.run(executor)

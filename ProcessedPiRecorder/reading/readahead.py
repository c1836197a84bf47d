"""Reading pages ahead of the one who takes them: decoded in parallel, handed out in order, never too many at once."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Deque, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from ..errors import RecorderStateError

__all__ = ['pages_in_order', 'read_into', 'usable_cores']

TASK_BYTES = 1 << 20          # pixels that one task decodes: fewer, and handing them over costs more than decoding them
MOST_A_TASK = 64

Read = Callable[[int], np.ndarray]
_Batch = Tuple[List[np.ndarray], Optional[Exception]]


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def pages_in_order(read: Read, pages: Sequence[int], page_bytes: int, threads: Optional[int] = None
                   ) -> Iterator[np.ndarray]:
    """The pages' pixels, in the order of ``pages``, each in an array of its own.

    read: called in threads of their own; what it raises comes up where its page's turn is.
    threads: that decode; None = one for each core that this process may use; 0 = decode in this thread, when asked.
    At most twice as many tasks as threads are decoded ahead, each of about TASK_BYTES (one page at least). The threads
    end with the iterator, also when it is closed or thrown away early.
    """
    if threads == 0:
        for page in pages:
            yield read(page)
        return
    threads = usable_cores() if threads is None else threads
    size = min(max(TASK_BYTES // max(page_bytes, 1), 1), MOST_A_TASK)
    tasks = (pages[start:start + size] for start in range(0, len(pages), size))
    ahead: Deque[Future[_Batch]] = deque()
    executor, process = ThreadPoolExecutor(threads, 'ppr-read'), os.getpid()
    try:
        for task in tasks:
            ahead.append(executor.submit(_read_all, read, task))
            if len(ahead) > 2 * threads:
                yield from _taken(ahead, process)
        while ahead:
            yield from _taken(ahead, process)
    finally:
        if os.getpid() == process:
            for future in ahead:
                future.cancel()
            executor.shutdown()


def _taken(ahead: Deque[Future[_Batch]], process: int) -> Iterator[np.ndarray]:
    if os.getpid() != process:
        raise RecorderStateError('this iteration began in another process, and its threads are there; begin a new one')
    arrays, error = ahead.popleft().result()
    yield from arrays
    if error is not None:
        raise error


def read_into(read: Callable[[int, int], None], pages: Sequence[int], page_bytes: int) -> None:
    """Call ``read(place, page)`` for each page and its place in ``pages``, in parallel; returns when all are done.

    Raises the first error, in the order of pages; what was not begun then is left.
    """
    threads = min(usable_cores(), len(pages))
    if threads <= 1:
        for place, page in enumerate(pages):
            read(place, page)
        return
    size = min(max(TASK_BYTES // max(page_bytes, 1), 1), MOST_A_TASK)

    def read_some(start: int) -> None:
        for place in range(start, min(start + size, len(pages))):
            read(place, pages[place])

    with ThreadPoolExecutor(threads, 'ppr-read') as executor:
        futures = [executor.submit(read_some, start) for start in range(0, len(pages), size)]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()


def _read_all(read: Read, pages: Sequence[int]) -> _Batch:
    """What could be read before the first error, and that error."""
    arrays: List[np.ndarray] = []
    try:
        for page in pages:
            arrays.append(read(page))
    except Exception as error:
        return arrays, error
    return arrays, None

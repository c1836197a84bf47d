"""Pages decoded before they are shown, in threads, so that the window's own thread waits for none of them."""

from __future__ import annotations

import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Callable, Dict, Iterable, NamedTuple, Optional

import numpy as np

from ..errors import RecordingFileError
from ..reading.readahead import usable_cores

__all__ = ['Ahead', 'Decoded']

MOST_BYTES = 128 << 20        # of decoded pages that wait to be shown
MOST_PAGES = 16
NEW_SHARE = 0.2               # of the newest one in the mean time that a page takes


class Decoded(NamedTuple):
    """A page: its pixels, or why there are none."""

    page: int
    pixels: Optional[np.ndarray]
    error: Optional[RecordingFileError]


class Ahead:
    """Decoded pages, and those that are under way. For one thread; ``read`` is called in others.

    Attributes:
        seconds: that a page takes to be decoded, the mean of the last ones.

    Args:
        read: the pixels of a page; may raise RecordingFileError.
        page_bytes: that a decoded page takes.
    """

    def __init__(self, read: Callable[[int], np.ndarray], page_bytes: int, threads: Optional[int] = None) -> None:
        self._read = read
        threads = threads or usable_cores()
        self._threads = threads
        self._most = min(max(MOST_BYTES // max(page_bytes, 1), threads + 1), MOST_PAGES)
        self._executor = ThreadPoolExecutor(threads, 'ppr-view')
        self._pages: Dict[int, Future[Decoded]] = {}
        self.seconds = 0.0

    def close(self) -> None:
        """End the threads; waits for the pages that they are at."""
        self.want(())
        self._executor.shutdown()

    @property
    def has_room(self) -> bool:
        """Whether another page may be added."""
        return len(self._pages) < self._most

    @property
    def latency(self) -> float:
        """Seconds until a page that is added now will be decoded, about."""
        queued = sum(not future.done() for future in self._pages.values())
        return self.seconds * (1 + queued / self._threads)

    def want(self, pages: Iterable[int]) -> None:
        """Have these pages decoded, in this order, and none of those before that are not among them."""
        wanted = list(pages)
        for page in set(self._pages).difference(wanted):
            self._pages.pop(page).cancel()
        for page in wanted:
            self.add(page)

    def add(self, page: int) -> None:
        """Have one more decoded, after the others."""
        if page not in self._pages:
            self._pages[page] = self._executor.submit(self._decode, page)

    def newest(self, at_most: int) -> Optional[Decoded]:
        """The last of the decoded pages that is not beyond ``at_most``; None: there is none yet.

        It and all before it are forgotten.
        """
        ready = [page for page, future in self._pages.items() if page <= at_most and future.done()]
        if not ready:
            return None
        newest = self._pages[max(ready)].result()
        for page in [page for page in self._pages if page <= newest.page]:
            self._pages.pop(page).cancel()
        return newest

    def take(self, page: int) -> Optional[Decoded]:
        """This page, once it is decoded; None: not yet. It stays."""
        future = self._pages.get(page)
        return future.result() if future is not None and future.done() else None

    def wait(self, at_most: int, seconds: float) -> None:
        """Until another page not beyond ``at_most`` is decoded, or the time is over."""
        awaited = [future for page, future in self._pages.items() if page <= at_most and not future.done()]
        if awaited:
            wait(awaited, seconds, FIRST_COMPLETED)

    def _decode(self, page: int) -> Decoded:
        start = time.perf_counter()
        try:
            return Decoded(page, self._read(page), None)
        except RecordingFileError as error:
            return Decoded(page, None, error)
        finally:
            took = time.perf_counter() - start
            self.seconds += (took - self.seconds) * (NEW_SHARE if self.seconds else 1.0)

"""The way back from disk: recordings as arrays of frames, with times, numbers, results and verdict.

::

    recording    Recording, open_recording; selection: what [...] may hold; html: how notebooks show it
    opening      what a path leads to: pages of ours (sources), or of another program (foreign)
    readahead    pages decoded in parallel, handed out in order
    results      what the callback put, bound to its pages; boxes: what counts as one
    joining      rows of other tables on frames; timetable reads them, timestamps their times
    kept         recordings that stay open for blocks of work; chunks: such blocks, for Dask
    copying      a recording made of pages of others, still compressed
"""


from .recording import Recording, open_recording, opened
from .results import Result, Results

__all__ = ['Recording', 'Result', 'Results', 'open_recording', 'opened']

"""Recordings processed again: the same callback, the same contract, over frames that are on disk.

::

    local     process(): through the recorder's own processes on this machine, in order, one call after the other
    task      what is to be done; outputs: where what comes of it goes, whole or not at all
    watched   the user's callback, with a note of each frame whose call did not come to its end
    cluster   the same on many processes or machines, by blocks
    report    what came of it
    compare   the results of two runs, frame by frame; alike: of one frame; reasons: why they may differ
"""

from .compare import Comparison, compare
from .local import process
from .report import Failure, ProcessReport

__all__ = ['Comparison', 'Failure', 'ProcessReport', 'compare', 'process']

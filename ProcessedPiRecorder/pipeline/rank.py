"""How the kernel ranks our processes when memory or the processor runs short: the recording comes first.

The reader and the writer stay what the user's script is. Whoever can be done without steps back: the callback's
process and the display's. That needs no privileges.
"""

from __future__ import annotations

import logging
import os

__all__ = ['NICENESS', 'OOM_SCORE', 'be_ended_first', 'step_back']

log = logging.getLogger(__name__)

#: Out of memory, the kernel ends whoever holds most. This much (of 1000, all there is) is added for us: a callback that
#: leaks goes before the writer, which holds the ring, and a stranger that holds half of the memory before both.
OOM_SCORE = 500
#: With eight busy processes of a callback's on two cores, two thirds of the frames were lost without, a fifth with it.
NICENESS = 10


def step_back(waits: bool = False) -> None:
    """Let this process, and what it starts, be ended for want of memory before others, and computed after them.

    waits: the source of frames waits for everyone, so that there is no hurry for the others; then it is computed like
    them, and on a busy machine the work that is waited for gets its share.

    What the user has set for the script is kept and added to. In the process's only thread: the kernel ranks threads.
    """
    be_ended_first()
    if not waits:
        os.nice(NICENESS)


def be_ended_first() -> None:
    """Let this process, and what it starts, be ended for want of memory before others."""
    try:
        with open('/proc/self/oom_score_adj') as file:
            before = int(file.read())
        with open('/proc/self/oom_score_adj', 'w') as file:
            file.write(str(min(max(before, 0) + OOM_SCORE, 1000)))
    except (OSError, ValueError) as error:
        log.debug('oom_score_adj cannot be raised (%s): out of memory, the kernel may end the writer first', error)

"""The processes and what joins them.

::

                   ┌───────────── offer ────────────► [callback]  deque(buffer_length)
                   │                                      │       callback(buffer, cb_queue) ─► the user's script
    camera ─► [reader] ──frame──► [writer] ◄──── done ────┘
               index, times, losses  │ holds every slot until its page is written
                   ▲                 │ compresses on every core, appends, syncs, links ─► trial.tif
                   └───── free ──────┘
"""

"""``ppr preflight``: will this camera, callback, codec and folder hold the asked rate? Answered before the experiment.

::

    options ─► [camera run] ──frames──► [trials] at rising rates ──► [judgement] ──► table, JSON, exit code
                    │                       │                            ▲
                    └── bytes a frame ──────┴── [disk] and [codec], each alone

Camera run and trials are recordings by the real pipeline into a folder of their own; only the trials' camera is a
stand-in, which hands out the frames of the camera run from memory. Nothing in the result is estimated, but for what
says so: every figure was measured here, and the words tell for how long.
"""

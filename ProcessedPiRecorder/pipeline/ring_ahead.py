"""The ring, made while the camera is being opened: to clear its memory takes about as long as that."""

from __future__ import annotations

from typing import Optional, Tuple

from ..cameras.base import Granted, recorded_size
from ..errors import RecorderError
from .plan import Plan, check_timeout
from .reader import granted_shape
from .ring import Ring, plan_ring

__all__ = ['RingMaker']


class RingMaker:
    """Makes a recording's ring, in the keeper."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._ahead: Optional[Ring] = None
        self._expected: Tuple[Tuple[int, ...], float] = ((), 0.0)      # shape and rate that it was made for

    def make_ahead(self) -> None:
        """Make the ring for a camera that grants what is asked of it. Blocks until its memory is cleared.

        Nothing is raised: what is wrong with it, ``ring_for`` will find too, and it knows what was granted.
        """
        settings = self._plan.settings
        if not (settings.x_resolution and settings.y_resolution and settings.framerate):
            return                         # the camera's own defaults, which only the camera knows
        width, height = recorded_size(settings.x_resolution, settings.y_resolution, settings.scale_factor,
                                      settings.stereo)
        shape = (height, width) if settings.pixel_format == 'gray' else (height, width, 3)
        self._expected = shape, settings.framerate
        try:
            self._ahead = Ring.create(plan_ring(settings, shape, settings.framerate))
        except RecorderError:
            self._ahead = None

    def ring_for(self, granted: Granted) -> Ring:
        """The ring for what the camera grants. Raises RingError, SettingsError."""
        settings, shape = self._plan.settings, granted_shape(self._plan, granted)
        ring, self._ahead = self._ahead, None
        if ring is not None and self._expected != (shape, granted.framerate):
            ring.close()
            del ring                       # its memory, before there is need for as much again
            ring = None
        if ring is None:
            layout = plan_ring(settings, shape, granted.framerate)
            check_timeout(settings, granted, layout.slots)
            return Ring.create(layout)
        check_timeout(settings, granted, ring.layout.slots)
        return ring

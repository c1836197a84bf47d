"""Record Raspberry Pi cameras at high rates through a computer-vision callback, without a dropped frame.

::

    from ProcessedPiRecorder import ProcessedPiRecorder as ppr

    rec = ppr('trial.tif', framerate=60, rec_length=10, callback=find_faces, cb_type='3Proc')
    report = rec.recordVid()
    print(report.complete)

    recorded = open_recording('trial.tif')         # frames, times, results; read when they are asked for
"""

from . import errors
from ._version import __version__
from .errors import RecorderError
from .frame import Frame, left, right
from .reading import Recording, open_recording
from .recorder import ProcessedPiRecorder
from .report import Report
from .settings import Settings
from .status import Status

__all__ = ['Frame', 'ProcessedPiRecorder', 'RecorderError', 'Recording', 'Report', 'Settings', 'Status',
           '__version__', 'errors', 'left', 'open_recording', 'right']

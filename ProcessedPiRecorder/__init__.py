"""Record Raspberry Pi cameras at high rates through a computer-vision callback, without a dropped frame.

::

    from ProcessedPiRecorder import ProcessedPiRecorder as ppr

    rec = ppr('trial.tif', framerate=60, rec_length=10, callback=find_faces, cb_type='3Proc')
    report = rec.recordVid()
    print(report.complete)

    recorded = open_recording('trial.tif')         # frames, times, results; read when they are asked for
"""

import importlib as _importlib
import typing as _typing

from ._version import __version__

if _typing.TYPE_CHECKING:
    from . import errors
    from .errors import RecorderError
    from .frame import Frame, left, right
    from .reading import Recording, open_recording
    from .recorder import ProcessedPiRecorder
    from .report import Report
    from .settings import Settings
    from .status import Status

__all__ = ['Frame', 'ProcessedPiRecorder', 'RecorderError', 'Recording', 'Report', 'Settings', 'Status',
           '__version__', 'errors', 'left', 'open_recording', 'right']

# Imported when they are asked for: who only records does not wait for what reads, and Ctrl-C, while a command starts,
# comes when the command can already answer it.
_HOMES = {'RecorderError': 'errors', 'Frame': 'frame', 'left': 'frame', 'right': 'frame', 'Recording': 'reading',
          'open_recording': 'reading', 'ProcessedPiRecorder': 'recorder', 'Report': 'report', 'Settings': 'settings',
          'Status': 'status'}


def __getattr__(name: str) -> _typing.Any:
    if name == 'errors':
        return _importlib.import_module('.errors', __name__)
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(_importlib.import_module(f'.{_HOMES[name]}', __name__), name)
    globals()[name] = value
    return value


def __dir__() -> _typing.List[str]:
    return sorted({*globals(), *__all__})

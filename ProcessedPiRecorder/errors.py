"""Every exception and warning of this package, in one tree.

::

    RecorderError
    ├── SettingsError (ValueError)         an argument that cannot work; raised before any process starts
    ├── RecorderStateError (RuntimeError)  right call, wrong moment: recordVid() while recording, …
    ├── CameraError                        the camera, or what stands behind it, failed
    │   ├── CameraNotFoundError            there is no such camera here
    │   ├── CameraFormatError              it cannot give the asked size, rate or format
    │   └── CameraStalledError             it stopped sending frames
    ├── CalibrationError                   a stereo calibration cannot be made, read, or used on these frames
    ├── CallbackError                      the user's callback failed; the recording itself is safe
    ├── RecordingFileError (OSError)       the file cannot be made or written
    │   └── RecordingFormatError           a file that is not a readable recording
    ├── RingError (MemoryError)            the shared-memory ring cannot be had
    ├── ProcessDiedError                   a process of the pipeline ended without a word
    ├── StartTimeoutError (TimeoutError)   a process did not become ready in time
    ├── DisplayError                       there is no screen to show a window on
    ├── TooLargeError (MemoryError)        more frames at once than there is memory for
    ├── ExportError                        a recording cannot be exported so, or there
    │   └── ExportCancelled                it was asked to end; nothing is left of it
    └── ProcessingError                    a recording cannot be processed again
        └── ClusterError                   the Dask cluster cannot be reached, or went away
    MissingExtraError (RecorderError, ImportError)   an optional package is needed; names the pip install

    RecorderWarning (UserWarning)
    ├── ResolutionRoundedWarning           the camera needed another resolution than was asked
    ├── FormatSubstitutedWarning           the camera gives another format than was asked
    ├── AutomaticChoiceWarning             something was chosen that the user did not name
    ├── DisplayWarning                     there is no screen, or it went away
    ├── CallbackBypassedWarning            frames were recorded without passing the callback
    └── ReaderCompatibilityWarning         some programs will not read this file whole

An exception that began in another process carries that process's traceback as its ``__cause__``
(a :class:`RemoteTraceback`).
"""

from __future__ import annotations

import signal
from typing import Any, Optional

__all__ = [
    'AutomaticChoiceWarning', 'CalibrationError', 'CallbackBypassedWarning', 'CallbackError', 'CameraError',
    'CameraFormatError', 'CameraNotFoundError', 'CameraStalledError', 'ClusterError', 'DisplayError',
    'DisplayWarning', 'ExportCancelled', 'ExportError', 'FormatSubstitutedWarning', 'MissingExtraError',
    'ProcessDiedError', 'ProcessingError', 'ReaderCompatibilityWarning', 'RecorderError', 'RecorderStateError',
    'RecorderWarning', 'RecordingFileError', 'RecordingFormatError', 'RemoteTraceback', 'ResolutionRoundedWarning',
    'RingError', 'SettingsError', 'StartTimeoutError', 'TooLargeError',
]


def signal_name(exitcode: Optional[int]) -> Optional[str]:
    """'SIGKILL' for -9; None for an exit code that stands for no signal."""
    try:
        return signal.Signals(-exitcode).name if exitcode is not None and exitcode < 0 else None
    except ValueError:
        return None


class RecorderError(Exception):
    """The root of all errors of this package."""


class SettingsError(RecorderError, ValueError):
    """An argument that cannot work. Raised before any process starts."""


class RecorderStateError(RecorderError, RuntimeError):
    """The right call at the wrong moment."""


class CameraError(RecorderError):
    """The camera, or what stands behind it, failed."""


class CameraNotFoundError(CameraError):
    """There is no such camera on this machine."""


class CameraFormatError(CameraError):
    """The camera cannot give the asked size, rate or pixel format."""


class CameraStalledError(CameraError):
    """The camera stopped sending frames."""


class CalibrationError(RecorderError):
    """A stereo calibration cannot be made, read, or used on these frames."""


class CallbackError(RecorderError):
    """The user's callback failed; every frame was recorded all the same.

    Attributes:
        count: how many calls failed.
        restarts: how often the callback's process had to be started again.
    """

    def __init__(self, message: str, count: int = 1, restarts: int = 0) -> None:
        super().__init__(message, count, restarts)
        self.count = count
        self.restarts = restarts

    def __str__(self) -> str:
        return str(self.args[0])


class RecordingFileError(RecorderError, OSError):
    """The recording's file cannot be made, written or opened."""


class RecordingFormatError(RecordingFileError):
    """A file that is not a readable recording."""


class _OutOfMemory(RecorderError, MemoryError):
    """The root of errors that are MemoryErrors, too.

    MemoryError has a ``__new__`` of its own that refuses such classes; who unpickles exceptions by calling that (Dask,
    by way of tblib) would get a TypeError for them.
    """

    def __new__(cls, *args: Any) -> Any:
        return Exception.__new__(cls, *args)


class RingError(_OutOfMemory):
    """The ring of shared memory cannot be had."""


class StartTimeoutError(RecorderError, TimeoutError):
    """A process of the pipeline did not become ready in time."""


class ProcessDiedError(RecorderError):
    """A process of the pipeline ended without a word.

    Attributes:
        role: which one: 'reader', 'writer', 'callback', 'display' or 'keeper'.
        exitcode: its exit code; negative is the number of the signal that killed it; None if unknown.
        signal_name: that signal's name ('SIGKILL'); None where it ended with an exit code.
        frames_captured, frames_written: how far the recording had come.
    """

    def __init__(self, message: str, role: str = '', exitcode: Optional[int] = None,
                 frames_captured: int = 0, frames_written: int = 0) -> None:
        super().__init__(message, role, exitcode, frames_captured, frames_written)
        self.role = role
        self.exitcode = exitcode
        self.frames_captured = frames_captured
        self.frames_written = frames_written

    @property
    def signal_name(self) -> Optional[str]:
        return signal_name(self.exitcode)

    def __str__(self) -> str:
        return str(self.args[0])


class DisplayError(RecorderError):
    """There is no screen to show a window on."""


class TooLargeError(_OutOfMemory):
    """More frames are wanted at once than there is memory for."""


class ExportError(RecorderError):
    """A recording cannot be exported in this way, or to this place."""


class ExportCancelled(ExportError):
    """An export was asked to end before it was done; nothing is left of it. A progress callback raises it to cancel."""


class ProcessingError(RecorderError):
    """A recording cannot be processed again in this way."""


class ClusterError(ProcessingError):
    """The Dask cluster cannot be reached, or it went away."""


class MissingExtraError(RecorderError, ImportError):
    """An optional package is needed. The message names the exact ``pip install``, and ``more`` to know."""

    def __init__(self, what: str, package: str, extra: str, more: str = '') -> None:
        super().__init__(what, package, extra, more)
        self.extra = extra

    def __str__(self) -> str:
        what, package, extra, more = self.args
        return (f"{what} needs the package {package!r}, which is not installed; "
                f"install it with:  pip install 'ProcessedPiRecorder[{extra}]'" + (f'  ({more})' if more else ''))


class RemoteTraceback(Exception):
    """The traceback of an exception that began in another process, as text; found as a ``__cause__``."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return '\n' + self.text

    def __reduce__(self) -> Any:
        return RemoteTraceback, (self.text,)


class RecorderWarning(UserWarning):
    """The root of all warnings of this package."""


class ResolutionRoundedWarning(RecorderWarning):
    """The camera needed another resolution than was asked."""


class FormatSubstitutedWarning(RecorderWarning):
    """The camera gives another format than was asked."""


class AutomaticChoiceWarning(RecorderWarning):
    """Something was chosen that the user did not name."""


class DisplayWarning(RecorderWarning):
    """There is no screen to show the live window on, or it went away."""


class CallbackBypassedWarning(RecorderWarning):
    """Frames were recorded without passing through the callback."""


class ReaderCompatibilityWarning(RecorderWarning):
    """Some programs will not read this file whole."""

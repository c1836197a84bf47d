"""The recorder: the one class that a lab script needs.

It checks the settings, starts the keeper and through it the reader, the writer, the callback and the display, hears
from them in a thread of its own, and hands on what they have to say: status, results, warnings, errors, the report.
"""

from __future__ import annotations

import atexit
import dataclasses
import logging
import os
import signal
import threading
import time
import weakref
from types import TracebackType
from typing import Any, Callable, List, Mapping, Optional, Tuple, Type

from . import errors
from .cameras import registry
from .errors import RecorderError, RecorderStateError, SettingsError
from .heir import forking
from .listener import listen
from .messages import warn_script
from .outcome import Run, conclude
from .pipeline.cb_queue import CallbackQueue
from .pipeline.keeper import keeper_main
from .pipeline.plan import Plan
from .pipeline.processes import Child, occupy_standard_descriptors, start_child
from .pipeline.ring import Stat
from .preconditions import check_carriage, check_files, start_method
from .recordings.part import behind_link
from .report import Report
from .settings import Settings
from .status import Status, read_status

__all__ = ['ProcessedPiRecorder']

log = logging.getLogger(__name__)

#: How long the end of a script waits for a recording that it left running.
EXIT_TIMEOUT_S = 120.0
#: How long the keeper may take to answer to a stop; it does nothing else than to listen.
KEEPER_PATIENCE_S = 30.0


class ProcessedPiRecorder:
    """Records a camera through a callback into a losslessly compressed BigTIFF, and says what it can prove.

    The arguments up to ``log_file`` may be positional, in this order; all others by name. Everything is checked
    here, before any process starts: SettingsError says what was got, what is allowed and what to do;
    CameraNotFoundError and RecordingFileError come from here too, when the camera's or the file's name shows it.

    Args:
        tif_path: the BigTIFF to write. Required unless ``write_vid=False``. An existing file is an error unless
            ``overwrite=True``, and then it is replaced when the first frame has arrived, not before.
        x_resolution, y_resolution: sensor pixels; 0 = the camera's default. With stereo x is both eyes together.
        scale_factor: recorded size = round(resolution × scale_factor), 0 < scale_factor <= 1.
        framerate: Hz; 0 = the camera's default.
        rec_length: seconds; 0 = until ``stopVid()``, Ctrl-C or the end of the source.
        display, display_proc: a live window of the captured ('camera_reader') or recorded ('file_writer') frames.
        stereo: the camera is a StereoPi, or two cameras are given: both eyes side by side, left eye left.
        timestamp, report_Hz, monitor_qs: burn UTC time, rate (mean over ``Hz_buffer`` frames) and all queue
            lengths onto each frame when it is taken.
        callback: ``callback(buffer, cb_queue) -> frame or None``. ``buffer`` is a deque of the last
            ``buffer_length`` frames (Frame: uint8, (height, width, 3) BGR or (height, width) gray), newest last.
            Runs in the callback process ('3Proc') or in the writer process ('2Proc').
        cb_type: '3Proc' or '2Proc'; '3Proc' when a callback is given without it.
        blocking: whether ``recordVid`` returns when the recording is on disk, or at once.
        write_vid: False: callback and display only, no file.
        tif_compression: 0 = none, 1-9 = the most effort that may be spent on Deflate.
        buffer_length: frames in the callback's deque. Hz_buffer: frames that ``report_Hz`` averages over.
        log_file: a CSV with one row a frame.
        camera: 'auto' (an attached Pi camera), 'picamera', 'picamera2', 'opencv:0', a URL, a video file, a
            recording of ours, 'synthetic', a Camera instance, or two of them with ``stereo=True``.
        pixel_format: 'bgr' or 'gray'.
        ring_frames, ring_mb: size of the ring that bridges slow moments; by default two seconds of frames, within
            a quarter of the free memory.
        cb_delivery: 'every': the callback sees every frame as long as the ring can wait for it. 'latest': it is
            offered the newest frame when it is idle.
        cb_timeout: seconds after which a call counts as hung (default 10). cb_start_timeout: the same for
            ``__enter__`` and the first call.
        camera_timeout: seconds without a frame until the camera counts as stalled; three frame periods at least.
            camera_start_timeout: seconds that it may take to open, to settle (a Pi camera's automatic exposure) and
            to start.
        record: 'returned' frames, or 'raw' ones whatever the callback returns.
        overwrite: replace existing files. split_frames: begin a new file every so many frames; 0 = never.
        sync_interval: seconds between syncs to the disk. A power cut costs at most about two of them.
        disk_reserve_mb: MB to be left free on the disk: before they are touched the recording is ended and finished.
            None: the larger of 1 % of the disk and 200 MB. 0: the disk may be filled up.
        metadata: JSON types, stored in the file.
        camera_controls: what this kind of camera offers. Both Pi stacks: exposure_us, gain, white_balance (red, blue),
            brightness, contrast, hflip, vflip, rotation, roi, and the stack's own names (docs/raspberry-pi.md).
        progress: called with a Status every half second from the start on, in a thread of the script's process.
        start_method: 'fork' (default) or 'spawn'.

    Attributes:
        cb_queue: what the callback puts can be read here, and the other way round.
        recording: whether a recording is running. report: the Report of the last one, None before.
        settings: the checked settings.

    Raises (from ``recordVid``, ``wait``, ``stopVid`` or leaving ``with``, whichever comes first; once):
        CameraError, RecordingFileError, ProcessDiedError, CallbackError, ... when the recording did not go well.
        What was recorded is then safely on disk, and ``report`` tells how much that is.
    """

    def __init__(self, tif_path: Any = None, x_resolution: int = 0, y_resolution: int = 0, scale_factor: float = 1,
                 framerate: float = 0, rec_length: float = 0, display: bool = True,
                 display_proc: str = 'camera_reader', stereo: bool = False, timestamp: bool = False,
                 report_Hz: bool = False, monitor_qs: bool = False, callback: Optional[Callable[..., Any]] = None,
                 cb_type: Optional[str] = None, blocking: bool = True, write_vid: bool = True,
                 tif_compression: int = 6, buffer_length: int = 1, Hz_buffer: int = 10, log_file: Any = None, *,
                 camera: Any = 'auto', pixel_format: str = 'bgr', ring_frames: Optional[int] = None,
                 ring_mb: Optional[float] = None, cb_delivery: str = 'every', cb_timeout: Optional[float] = None,
                 cb_start_timeout: float = 60.0, camera_timeout: float = 10.0,
                 camera_start_timeout: float = 60.0, record: str = 'returned',
                 overwrite: bool = False, split_frames: int = 0, sync_interval: float = 1.0,
                 disk_reserve_mb: Optional[float] = None, metadata: Optional[Mapping[str, Any]] = None,
                 camera_controls: Optional[Mapping[str, Any]] = None,
                 progress: Optional[Callable[[Status], None]] = None, start_method: Optional[str] = None) -> None:
        self.settings = Settings(
            tif_path=tif_path, x_resolution=x_resolution, y_resolution=y_resolution, scale_factor=scale_factor,
            framerate=framerate, rec_length=rec_length, display=display, display_proc=display_proc, stereo=stereo,
            timestamp=timestamp, report_Hz=report_Hz, monitor_qs=monitor_qs, callback=callback, cb_type=cb_type,
            blocking=blocking, write_vid=write_vid, tif_compression=tif_compression, buffer_length=buffer_length,
            Hz_buffer=Hz_buffer, log_file=log_file, camera=camera, pixel_format=pixel_format,
            ring_frames=ring_frames, ring_mb=ring_mb, cb_delivery=cb_delivery, cb_timeout=cb_timeout,
            cb_start_timeout=cb_start_timeout, camera_timeout=camera_timeout,
            camera_start_timeout=camera_start_timeout, record=record, overwrite=overwrite,
            split_frames=split_frames, sync_interval=sync_interval, disk_reserve_mb=disk_reserve_mb,
            metadata={} if metadata is None else metadata,
            camera_controls={} if camera_controls is None else camera_controls,
            progress=progress, start_method=start_method)
        self.cb_queue = CallbackQueue()
        self._report: Optional[Report] = None
        self._run: Optional[Run] = None
        self._error: Optional[BaseException] = None
        self._lock = threading.RLock()
        self._starting = threading.Lock()
        self._old_sigterm: Any = None
        registry.check(self.settings.camera, self.settings.stereo)
        # Now, and not at the start: the script may change its folder in between. No hardware is touched by this.
        self._camera = registry.resolve(self.settings.camera)
        check_files(self.settings)
        check_carriage(self.settings)
        _live.add(self)

    # -- the public face

    def recordVid(self) -> Optional[Report]:
        """Start to record; with ``blocking=True`` return the report when everything is on disk, else None at once.

        Blocking: Ctrl-C ends the recording and finishes the file. When ``rec_length`` is 0 that is the normal way
        to end, and this returns; otherwise KeyboardInterrupt goes on to the script. SIGTERM finishes the file too,
        and then ends the script.

        Raises what prevented the start (nothing is left behind then), or how the recording went wrong.
        """
        if self.recording or not self._starting.acquire(blocking=False):
            raise RecorderStateError('a recording is running already; call stopVid() or wait() first')
        try:
            check_files(self.settings)
            self._drop_old_error()
            self._report = None
            self._catch_sigterm()
            self._start()
        except BaseException:
            self._give_up_start()
            raise
        finally:
            self._starting.release()
        return self._block() if self.settings.blocking else None

    def _give_up_start(self) -> None:
        """Something was raised while we started (a warning as an error, Ctrl-C): nothing may go on unseen."""
        run = self._run
        if run is not None:
            self._ask_to_stop('interrupted')
            self._await_end(run)
        self._release_sigterm()

    def stopVid(self, timeout: Optional[float] = None) -> Optional[Report]:
        """End the recording, wait until it is on disk, and return its report. Harmless when none is running.

        With a ``timeout`` in seconds it returns None when the file is not finished by then; that goes on.
        Raises how the recording went wrong, once.
        """
        self._ask_to_stop('stopVid')
        return self.wait(timeout)

    def wait(self, timeout: Optional[float] = None) -> Optional[Report]:
        """Wait until the recording has ended and is on disk; its report, or None after ``timeout`` seconds.

        Raises how the recording went wrong, once.
        """
        run = self._run
        if run is not None:
            if threading.current_thread() is run.thread:
                return None                # the progress function: it runs in the thread that would bring the end
            if not self._await_outcome(run, timeout):
                return None
            self._conclude(run)
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self.report

    def mark(self, label: str) -> int:
        """Store an event with the recording, on the frames' clock; returns its originating time (ns since 1970 UTC).

        The label is cut after 200 characters. Raises RecorderStateError when nothing is being recorded, or the last
        frame has already been taken.
        """
        monotonic_ns = time.monotonic_ns()
        run = self._run
        if run is None or run.ring is None or not self.recording or run.source_ended:
            raise RecorderStateError(f'mark({label!r}): nothing is being recorded; call recordVid() first '
                                     '(with blocking=False, or mark from another thread)')
        time_ns = monotonic_ns + int(run.ring.stats[Stat.HOST_OFFSET_NS])
        mark = {'label': str(label)[:200], 'time_ns': time_ns}
        run.marks.append(mark)
        run.channel.send('mark', mark)
        return time_ns

    def status(self) -> Status:
        """Live figures. Cheap, never blocks."""
        run = self._run
        if run is None or run.ring is None:
            return Status(recording=self.recording)
        return read_status(run.ring, run.rates, self.recording)

    @property
    def report(self) -> Optional[Report]:
        """The Report of the last recording; None before the first has ended."""
        if self._run is not None:
            self._conclude(self._run)
        return self._report

    @property
    def recording(self) -> bool:
        """Whether a recording is running; False once it is on disk."""
        run = self._run
        return run is not None and run.outcome is None

    def close(self) -> None:
        """Stop a running recording and finish its file; errors that nobody has seen are raised. Harmless twice."""
        if self._run is not None or self._error is not None:
            self.stopVid()
        self.cb_queue.end()

    def __enter__(self) -> 'ProcessedPiRecorder':
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        try:
            self.close()
        except RecorderError:
            if error is None:
                raise
            log.exception('the recording ended with an error while the script was failing already')

    # -- starting

    def _start(self) -> None:
        plan, early = self._plan()
        for category, text in early:
            warn_script(text, getattr(errors, category))
        self.cb_queue.begin()
        occupy_standard_descriptors()
        keeper = self._start_keeper(plan)
        run = Run(keeper.channel, keeper, plan)
        self._run = run
        run.thread = threading.Thread(target=listen, args=(run, self.cb_queue, self.settings.progress, self.status),
                                      name='ppr-listen', daemon=True)
        try:
            run.thread.start()
        except RuntimeError as error:
            self._run = None
            keeper.channel.close()         # the keeper sees the end of it, and goes
            keeper.bury(10)
            self.cb_queue.end()
            raise RecorderError(f'no thread can be started ({error}); end other programs, or raise the limit '
                                '(ulimit -u)') from error
        with run.changed:
            run.changed.wait_for(lambda: run.started or run.outcome is not None)
        if run.outcome is not None:
            failed = not run.started
            self._conclude(run)
            if failed and self._error is not None:
                error_now, self._error = self._error, None
                raise error_now
        self._warn(run)

    def _start_keeper(self, plan: Plan) -> Child:
        try:
            # Forked before any thread of ours exists for this recording. One at a time: a fork in between would
            # inherit our end of the channel, and the keeper would never see it closed.
            with forking:
                return start_child('keeper', keeper_main, plan, plan.start_method)
        except SettingsError:
            self.cb_queue.end()
            raise
        except OSError as error:
            self.cb_queue.end()
            raise RecorderError(f'the recorder\'s processes could not be started: {error}; '
                                'end other programs, or raise the limits (ulimit -u, ulimit -n)') from error

    def _plan(self) -> Tuple[Plan, List[Tuple[str, str]]]:
        settings = dataclasses.replace(self.settings, progress=None)
        early: List[Tuple[str, str]] = []
        if settings.display:
            from .screen import screen_problem
            problem = screen_problem()
            if problem:
                early.append(('DisplayWarning', f'no live window: {problem}'))
                settings = _without_display(settings)
        plan = Plan(settings=settings, camera=self._camera,
                    start_method=start_method(settings, self._camera),
                    tif_path=settings.tif_path and behind_link(settings.tif_path))
        return plan, early

    def _block(self) -> Optional[Report]:
        run = self._run
        try:
            return self.wait()
        except KeyboardInterrupt:
            assert run is not None
            self._ask_to_stop('interrupted')
            self._await_end(run)
            if self.settings.rec_length:
                raise
            return self.wait()
        except SystemExit:
            assert run is not None
            self._ask_to_stop('interrupted')
            self._await_end(run)
            raise

    def _await_end(self, run: Run) -> None:
        self._await_outcome(run, None)
        self._conclude(run)

    def _await_outcome(self, run: Run, timeout: Optional[float]) -> bool:
        """Wait for it; where it was asked to stop, not for ever for a keeper that does not answer."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with run.changed:
            while run.outcome is None:
                now = time.monotonic()
                answer_by = run.stop_asked + KEEPER_PATIENCE_S if run.stop_asked and not run.stop_heard else None
                if answer_by is not None and now >= answer_by:
                    run.end_keeper(f'it did not answer for {KEEPER_PATIENCE_S:g} s and was killed')
                    answer_by = None
                limits = [limit for limit in (deadline, answer_by) if limit is not None]
                if deadline is not None and now >= deadline:
                    return False
                run.changed.wait(min(limits) - now if limits else None)
        return True

    def _ask_to_stop(self, reason: str) -> None:
        run = self._run
        if run is not None and run.outcome is None:
            with run.changed:
                run.stop_asked = run.stop_asked or time.monotonic()
                run.changed.notify_all()
            run.channel.send('stop', reason)

    # -- the end

    def _conclude(self, run: Run) -> None:
        """In the thread that asks first: make the outcome the report and the error of this recorder."""
        with self._lock:                   # all of it: another thread must not see the end without the outcome
            if self._run is not run or run.outcome is None:
                return
            self._run = None
            if run.thread is not None:
                run.thread.join()
            self._report, self._error = conclude(run, self.settings)
            run.ring = None                # a raised error's traceback must not keep the memory mapped
        self._release_sigterm()
        self._warn(run)

    def _drop_old_error(self) -> None:
        """A new recording begins: an error of the last one that nobody has asked for is at least told."""
        if self._run is not None:
            self._conclude(self._run)
        if self._error is not None:
            error, self._error = self._error, None
            warn_script(f'the recording before this one ended with an error: {type(error).__name__}: {error}',
                         errors.RecorderWarning)

    def _warn(self, run: Run) -> None:
        while run.warnings:
            category, text = run.warnings.pop(0)
            warn_script(text, getattr(errors, category))

    # -- SIGTERM

    def _catch_sigterm(self) -> None:
        """Let SIGTERM end the script by way of SystemExit, so that files are finished; only where nobody else cares."""
        if threading.current_thread() is threading.main_thread() and \
                signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _terminate)
            self._old_sigterm = signal.SIG_DFL

    def _release_sigterm(self) -> None:
        if self._old_sigterm is None or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is _terminate and \
                not any(other.recording for other in list(_live) if other is not self):
            signal.signal(signal.SIGTERM, self._old_sigterm)
        self._old_sigterm = None


def _terminate(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


def _without_display(settings: Settings) -> Settings:
    # Built anew without a check: "no display, no callback, no file" is for the user to hear about, not to fail on.
    bare = dataclasses.replace(settings)
    object.__setattr__(bare, 'display', False)
    return bare


#: All recorders of this process, for the end of the script and for forks of it.
_live: 'weakref.WeakSet[ProcessedPiRecorder]' = weakref.WeakSet()


@atexit.register
def _finish_at_exit() -> None:
    """A script that ends while it records: stop, and finish the files, within a bounded time."""
    for recorder in list(_live):
        try:
            recorder._ask_to_stop('the script ended')
            if recorder.wait(EXIT_TIMEOUT_S) is None and recorder.recording:
                log.error('the recording is not finished after %g s; its processes go on and finish it', EXIT_TIMEOUT_S)
        except RecorderError as error:
            log.error('the recording ended with an error: %s', error)


def _close_in_child() -> None:
    """In any fork of this process: let go of the pipes, or their other ends would never see our end."""
    for recorder in list(_live):
        run = recorder._run
        if run is not None:
            run.let_go()
        recorder.cb_queue.close_fds_in_child()
        recorder._run = None


os.register_at_fork(after_in_child=_close_in_child)

"""The options that say what a recording is to be, declared once for every command that takes them."""

# No "from __future__ import annotations" here: typer needs the annotations themselves, and so do we.

import functools
import inspect
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Callable, Dict, List, Optional

import typer

from .options import camera_spec, load_callback, parse_controls, parse_metadata, parse_size
from .outcome import BadUsage

__all__ = ['CALLBACK', 'OUTPUT', 'PREFLIGHT', 'RecordingOptions', 'option', 'takes_recording_options']

WHAT, CALLBACK, FRAMES, FILE, SAFETY, OUTPUT, PREFLIGHT = (
    'The camera', 'The callback', 'The frames', 'The file', 'Buffers and limits', 'What is shown', 'The preflight')


def option(panel: str, *names: str, **settings: Any) -> Any:
    """An option that ``--help`` shows in this panel."""
    return typer.Option(*names, rich_help_panel=panel, **settings)


@dataclass(frozen=True)
class RecordingOptions:
    """What was typed. A field that is named like an argument of the recorder's is handed on as it is."""

    path: Annotated[Optional[Path], typer.Argument(help='The BigTIFF to write, such as trial.tif.')] = None
    camera: Annotated[Optional[List[str]], option(
        WHAT, '--camera', '-c', help="'auto' (an attached Pi camera), 'opencv:0', a URL, a video file, a recording, "
                                     "'synthetic'; see: ppr cameras. Twice, for stereo from two cameras.")] = None
    size: Annotated[Optional[str], option(WHAT, '--size', help='Sensor pixels, such as 1280x480.')] = None
    scale_factor: Annotated[float, option(WHAT, '--scale', help='Recorded size / sensor size.')] = 1
    framerate: Annotated[float, option(WHAT, '--fps', help="Hz; 0 = the camera's default.")] = 0
    rec_length: Annotated[float, option(WHAT, '--seconds', '-s',
                                        help='0 = until Ctrl-C or the end of the source.')] = 0
    stereo: Annotated[bool, option(WHAT, '--stereo', help='A StereoPi, or two cameras, side by side.')] = False
    gray: Annotated[bool, option(WHAT, '--gray', help='Gray frames instead of BGR.')] = False
    control: Annotated[Optional[List[str]], option(
        WHAT, '--control', help='A control of the camera: key=value, value as JSON. Repeatable.')] = None
    camera_timeout: Annotated[float, option(WHAT, '--camera-timeout',
                                            help='Seconds without a frame until it counts as stalled.')] = 10
    camera_start_timeout: Annotated[float, option(
        WHAT, '--camera-start-timeout', help='Seconds that it may take to open, settle and start.')] = 60
    callback: Annotated[Optional[str], option(
        CALLBACK, '--callback', help='module:function; the current folder is searched first.')] = None
    cb_type: Annotated[Optional[str], option(CALLBACK, '--cb-type', help="'2Proc' or '3Proc' (default).")] = None
    buffer_length: Annotated[int, option(CALLBACK, '--buffer-length', help="Frames in the callback's deque.")] = 1
    cb_delivery: Annotated[str, option(CALLBACK, '--delivery', help="'every' frame, or the 'latest'.")] = 'every'
    cb_timeout: Annotated[Optional[float], option(CALLBACK, '--cb-timeout',
                                                  help='Seconds after which a call counts as hung.')] = None
    cb_start_timeout: Annotated[float, option(CALLBACK, '--cb-start-timeout',
                                              help='The same for its start and its first call.')] = 60
    record: Annotated[str, option(CALLBACK, '--record', help="'returned' frames, or 'raw' ones.")] = 'returned'
    timestamp: Annotated[bool, option(FRAMES, '--timestamp', help='Burn the time onto each frame.')] = False
    report_Hz: Annotated[bool, option(FRAMES, '--report-hz', help='Burn the frame rate onto each frame.')] = False
    monitor_qs: Annotated[bool, option(FRAMES, '--monitor-qs', help='Burn all queue lengths onto each frame.')] = False
    Hz_buffer: Annotated[int, option(FRAMES, '--hz-buffer', help='Frames that --report-hz averages over.')] = 10
    tif_compression: Annotated[int, option(FILE, '--compression', '-z', help='0 = none, 9 = most effort.')] = 6
    overwrite: Annotated[bool, option(FILE, '--overwrite', help='Replace existing files.')] = False
    split_frames: Annotated[int, option(FILE, '--split-frames', help='A new file every so many frames.')] = 0
    sync_interval: Annotated[float, option(
        FILE, '--sync-interval', help='Seconds between syncs to the disk; a power cut costs about two at most.')] = 1
    disk_reserve_mb: Annotated[Optional[float], option(
        FILE, '--disk-reserve-mb', help='MB to leave free; default: the larger of 1 % of the disk and 200.')] = None
    log_file: Annotated[Optional[Path], option(FILE, '--log', help='A CSV with one row a frame.')] = None
    meta: Annotated[Optional[List[str]], option(FILE, '--meta', '-m',
                                                help='key=value, stored in the file. Repeatable.')] = None
    no_write: Annotated[bool, option(FILE, '--no-write', help='Callback and window only, no file.')] = False
    ring_frames: Annotated[Optional[int], option(SAFETY, '--ring-frames', help='Frames that the ring holds.')] = None
    ring_mb: Annotated[Optional[float], option(SAFETY, '--ring-mb', help='The same in MB.')] = None
    start_method: Annotated[Optional[str], option(SAFETY, '--start-method', help="'fork' or 'spawn'.")] = None
    display: Annotated[bool, option(OUTPUT, '--display/--no-display', help='The live window.')] = True
    display_proc: Annotated[str, option(
        OUTPUT, '--display-proc', help="Show what the 'camera_reader' or the 'file_writer' has.")] = 'camera_reader'

    def recorder_arguments(self) -> Dict[str, Any]:
        """The recorder's keyword arguments. Imports the callback; raises BadUsage for what cannot be meant."""
        if self.no_write and self.path is not None:
            raise BadUsage(f'--no-write with {self.path}: nothing would be written there; leave one of them out')
        width, height = parse_size(self.size)
        made = {'tif_path': self.path, 'x_resolution': width, 'y_resolution': height,
                'pixel_format': 'gray' if self.gray else 'bgr', 'write_vid': not self.no_write,
                'camera': camera_spec(self.camera), 'callback': load_callback(self.callback),
                'metadata': parse_metadata(self.meta or []), 'camera_controls': parse_controls(self.control or [])}
        as_they_are = {field.name: getattr(self, field.name) for field in fields(self)
                       if field.name not in ('path', 'size', 'gray', 'no_write', 'meta', 'control')}
        return {**as_they_are, **made}


def takes_recording_options(command: Callable[..., None]) -> Callable[..., None]:
    """A decorator for a command whose first parameter is a RecordingOptions: typer sees each of its options."""
    own = list(inspect.signature(command).parameters.values())[1:]
    shared = [inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default,
                                annotation=field.type) for field in fields(RecordingOptions)]

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        recording = RecordingOptions(**{parameter.name: given.pop(parameter.name) for parameter in shared})
        command(recording, **given)

    parameters = [*shared, *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own)]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    setattr(with_options, '__signature__', inspect.Signature(parameters))   # noqa: B010 (functions do not declare it)
    return with_options

"""The commands and their options. Each imports what it needs when it is called."""

# No "from __future__ import annotations" here: on Python 3.9 typer does not see options in postponed annotations.

from pathlib import Path
from typing import Annotated, Any, Dict, List, Optional

import typer

from .outcome import BadUsage, errors_told

__all__ = ['app']

app = typer.Typer(name='ppr', no_args_is_help=True, add_completion=False, rich_markup_mode='rich',
                  pretty_exceptions_enable=False, context_settings={'help_option_names': ['-h', '--help']},
                  help='Record cameras through a computer-vision callback into lossless BigTIFF, '
                       'with proof that nothing was lost.')

_state = {'debug': False}


def debugging() -> bool:
    """Whether --debug was given."""
    return _state['debug']


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def common(debug: Annotated[bool, typer.Option('--debug', help='Show tracebacks, log everything.')] = False,
           show_version: Annotated[bool, typer.Option('--version', callback=_print_version, is_eager=True,
                                                      help='Print the version.')] = False) -> None:
    _state['debug'] = debug
    if debug:
        import logging
        logging.basicConfig(level=logging.DEBUG, format='%(asctime)s %(processName)s %(name)s: %(message)s')


WHAT, CALLBACK, FRAMES, FILE, SAFETY, OUTPUT = (
    'The camera', 'The callback', 'The frames', 'The file', 'Buffers and limits', 'What is shown')


def _option(panel: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **settings)


@app.command(epilog='Exit codes: 0 complete · 1 the file is good, but frames were lost, the callback failed, or '
                    'completeness cannot be proven · 2 bad usage, nothing was started · 3 the recording failed, or '
                    'not a single frame came.')
@errors_told(debugging)
def record(
    path: Annotated[Optional[Path], typer.Argument(help='The BigTIFF to write, such as trial.tif.')] = None,
    camera: Annotated[Optional[List[str]], _option(
        WHAT, '--camera', '-c', help="'auto' (an attached Pi camera), 'opencv:0', a URL, a video file, a recording, "
                                     "'synthetic'; see: ppr cameras. Twice, for stereo from two cameras.")] = None,
    size: Annotated[Optional[str], _option(WHAT, '--size', help='Sensor pixels, such as 1280x480.')] = None,
    scale: Annotated[float, _option(WHAT, '--scale', help='Recorded size / sensor size.')] = 1,
    fps: Annotated[float, _option(WHAT, '--fps', help="Hz; 0 = the camera's default.")] = 0,
    seconds: Annotated[float, _option(WHAT, '--seconds', '-s', help='0 = until Ctrl-C or the end of the source.')] = 0,
    stereo: Annotated[bool, _option(WHAT, '--stereo', help='A StereoPi, or two cameras, side by side.')] = False,
    gray: Annotated[bool, _option(WHAT, '--gray', help='Gray frames instead of BGR.')] = False,
    control: Annotated[Optional[List[str]], _option(
        WHAT, '--control', help='A control of the camera: key=value, value as JSON. Repeatable.')] = None,
    camera_timeout: Annotated[float, _option(WHAT, '--camera-timeout',
                                             help='Seconds without a frame until it counts as stalled.')] = 10,
    camera_start_timeout: Annotated[float, _option(
        WHAT, '--camera-start-timeout', help='Seconds that it may take to open, settle and start.')] = 60,
    callback: Annotated[Optional[str], _option(
        CALLBACK, '--callback', help='module:function; the current folder is searched first.')] = None,
    cb_type: Annotated[Optional[str], _option(CALLBACK, '--cb-type', help="'2Proc' or '3Proc' (default).")] = None,
    buffer_length: Annotated[int, _option(CALLBACK, '--buffer-length', help="Frames in the callback's deque.")] = 1,
    delivery: Annotated[str, _option(CALLBACK, '--delivery', help="'every' frame, or the 'latest'.")] = 'every',
    cb_timeout: Annotated[Optional[float], _option(CALLBACK, '--cb-timeout',
                                                   help='Seconds after which a call counts as hung.')] = None,
    cb_start_timeout: Annotated[float, _option(CALLBACK, '--cb-start-timeout',
                                               help='The same for its start and its first call.')] = 60,
    record_what: Annotated[str, _option(CALLBACK, '--record', help="'returned' frames, or 'raw' ones.")] = 'returned',
    print_results: Annotated[bool, _option(CALLBACK, '--print-results',
                                           help='Print what the callback puts: one line of JSON each.')] = False,
    timestamp: Annotated[bool, _option(FRAMES, '--timestamp', help='Burn the time onto each frame.')] = False,
    report_hz: Annotated[bool, _option(FRAMES, '--report-hz', help='Burn the frame rate onto each frame.')] = False,
    monitor_qs: Annotated[bool, _option(FRAMES, '--monitor-qs', help='Burn all queue lengths onto each frame.')
                          ] = False,
    hz_buffer: Annotated[int, _option(FRAMES, '--hz-buffer', help='Frames that --report-hz averages over.')] = 10,
    compression: Annotated[int, _option(FILE, '--compression', '-z', help='0 = none, 9 = most effort.')] = 6,
    overwrite: Annotated[bool, _option(FILE, '--overwrite', help='Replace existing files.')] = False,
    split_frames: Annotated[int, _option(FILE, '--split-frames', help='A new file every so many frames.')] = 0,
    log: Annotated[Optional[Path], _option(FILE, '--log', help='A CSV with one row a frame.')] = None,
    meta: Annotated[Optional[List[str]], _option(FILE, '--meta', '-m',
                                                 help='key=value, stored in the file. Repeatable.')] = None,
    no_write: Annotated[bool, _option(FILE, '--no-write', help='Callback and window only, no file.')] = False,
    ring_frames: Annotated[Optional[int], _option(SAFETY, '--ring-frames', help='Frames that the ring holds.')] = None,
    ring_mb: Annotated[Optional[float], _option(SAFETY, '--ring-mb', help='The same in MB.')] = None,
    start_method: Annotated[Optional[str], _option(SAFETY, '--start-method', help="'fork' or 'spawn'.")] = None,
    display: Annotated[bool, _option(OUTPUT, '--display/--no-display', help='The live window.')] = True,
    display_proc: Annotated[str, _option(
        OUTPUT, '--display-proc', help="Show what the 'camera_reader' or the 'file_writer' has.")] = 'camera_reader',
    as_json: Annotated[bool, _option(OUTPUT, '--json', help='Print the report as JSON.')] = False,
    quiet: Annotated[bool, _option(OUTPUT, '--quiet', '-q', help='Neither progress nor verdict; only errors.')] = False,
) -> None:
    """Record a camera into PATH, and say whether the recording is complete.

    Ctrl-C stops; the file is finished then, too.
    """
    from . import options
    from .record import run_recording
    if no_write and path is not None:
        raise BadUsage(f'--no-write with {path}: nothing would be written there; leave one of them out')
    width, height = options.parse_size(size)
    settings: Dict[str, Any] = {
        'tif_path': path, 'x_resolution': width, 'y_resolution': height, 'scale_factor': scale, 'framerate': fps,
        'rec_length': seconds, 'display': display, 'display_proc': display_proc, 'stereo': stereo,
        'timestamp': timestamp, 'report_Hz': report_hz, 'monitor_qs': monitor_qs,
        'callback': options.load_callback(callback), 'cb_type': cb_type, 'write_vid': not no_write,
        'tif_compression': compression, 'buffer_length': buffer_length, 'Hz_buffer': hz_buffer, 'log_file': log,
        'camera': options.camera_spec(camera), 'pixel_format': 'gray' if gray else 'bgr', 'ring_frames': ring_frames,
        'ring_mb': ring_mb, 'cb_delivery': delivery, 'cb_timeout': cb_timeout, 'cb_start_timeout': cb_start_timeout,
        'camera_timeout': camera_timeout, 'camera_start_timeout': camera_start_timeout, 'record': record_what,
        'overwrite': overwrite, 'split_frames': split_frames,
        'metadata': options.parse_metadata(meta or []), 'camera_controls': options.parse_controls(control or []),
        'start_method': start_method}
    raise typer.Exit(run_recording(settings, as_json=as_json, quiet=quiet, print_results=print_results,
                                   debug=debugging))


@app.command()
@errors_told(debugging)
def info(path: Annotated[Path, typer.Argument(help='A recording.')],
         as_json: Annotated[bool, typer.Option('--json', help='Print it as JSON.')] = False,
         verify: Annotated[bool, typer.Option('--verify', help="Check every page's checksum.")] = False) -> None:
    """Show a recording's verdict, settings, gaps and metadata; of unfinished files, what is there.

    Exit codes: 0 · 1 pages are damaged (--verify) · 3 it cannot be read.
    """
    from .info import show_recording
    raise typer.Exit(show_recording(path, as_json, verify))


@app.command()
@errors_told(debugging)
def cameras(as_json: Annotated[bool, typer.Option('--json', help='Print them as JSON.')] = False) -> None:
    """List the cameras of this machine, and why others are missing."""
    from .info import show_cameras
    show_cameras(as_json)


@app.command()
@errors_told(debugging)
def sheet(recording: Annotated[Path, typer.Argument(help='A recording.')],
          output: Annotated[Optional[Path], typer.Option('--output', '-o', help='The PNG; default: beside it.')] = None,
          frames: Annotated[int, typer.Option('--frames', '-n', min=1, max=400, help='How many frames to show.')] = 20,
          ) -> None:
    """Draw a contact sheet: frames spread over a recording, with the boxes that its callback found."""
    from ..recordings.sheet import write_contact_sheet
    target = output or recording.with_suffix('.png')
    summary = write_contact_sheet(recording, target, frames)
    typer.echo(f'{target}: {summary}')


@app.command(epilog='Exit codes: 0 nothing failed · 1 something failed · 2 bad usage, nothing was started · '
                    '3 the camera could not be used.')
@errors_told(debugging)
def selftest(
    camera: Annotated[Optional[List[str]], typer.Option(
        '--camera', '-c', help="As for ppr record; 'synthetic' where there is none. Twice, for stereo.")] = None,
    seconds: Annotated[float, typer.Option('--seconds', '-s', min=1, max=86_400,
                                           help='Length of the longer recordings.')] = 5,
    size: Annotated[Optional[str], typer.Option('--size', help='Sensor pixels, such as 1280x480.')] = None,
    fps: Annotated[float, typer.Option('--fps', help="Hz; 0 = the camera's default.")] = 0,
    stereo: Annotated[bool, typer.Option('--stereo', help='A StereoPi, or two cameras, side by side.')] = False,
    control: Annotated[Optional[List[str]], typer.Option(
        '--control', help='A control of the camera: key=value, value as JSON. Repeatable.')] = None,
    questions: Annotated[bool, typer.Option(
        '--questions/--no-questions', help='Ask for help at the camera (cover a lens); on a terminal only.')] = False,
    only_list: Annotated[bool, typer.Option('--list', help='Print what is checked, and what only a person can check; '
                                                           'check nothing.')] = False,
    as_json: Annotated[bool, typer.Option('--json', help='Print everything as JSON, to report a problem.')] = False,
) -> None:
    """Check that the recorder keeps its promises on this machine, with this camera.

    Makes some short recordings in a folder of its own under the current one, and removes them, unless a check fails.
    """
    from . import options
    from .selftest import print_checklist, run_selftest
    if only_list:
        print_checklist(as_json)
        return
    width, height = options.parse_size(size)
    settings: Dict[str, Any] = {
        'camera': options.camera_spec(camera), 'seconds': seconds, 'width': width, 'height': height, 'framerate': fps,
        'stereo': stereo, 'controls': options.parse_controls(control or [])}
    raise typer.Exit(run_selftest(settings, questions=questions, as_json=as_json))


@app.command()
def version() -> None:
    """Print the version."""
    from .._version import __version__
    typer.echo(f'ProcessedPiRecorder {__version__}')

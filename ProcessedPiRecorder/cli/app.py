"""The commands and their options. Each imports what it needs when it is called."""

# No "from __future__ import annotations" here: on Python 3.9 typer does not see options in postponed annotations.

from pathlib import Path
from typing import Annotated, Any, Dict, List, Optional

import typer

from . import afterwards
from .outcome import errors_told
from .recording_options import CALLBACK, OUTPUT, PREFLIGHT, RecordingOptions, option, takes_recording_options

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


@app.command(epilog='Exit codes: 0 complete · 1 the file is good, but frames were lost, the callback failed, '
                    'completeness cannot be proven, or it was ended early because the disk was nearly full · 2 bad '
                    'usage, nothing was started · 3 the recording failed, or not a single frame came.')
@errors_told(debugging)
@takes_recording_options
def record(
    recording: RecordingOptions,
    print_results: Annotated[bool, option(CALLBACK, '--print-results',
                                          help='Print what the callback puts: one line of JSON each.')] = False,
    as_json: Annotated[bool, option(OUTPUT, '--json', help='Print the report as JSON.')] = False,
    quiet: Annotated[bool, option(OUTPUT, '--quiet', '-q', help='Neither progress nor verdict; only errors.')] = False,
) -> None:
    """Record a camera into PATH, and say whether the recording is complete.

    Ctrl-C stops; the file is finished then, too.
    """
    from .record import run_recording
    raise typer.Exit(run_recording(recording.recorder_arguments(), as_json=as_json, quiet=quiet,
                                   print_results=print_results, debug=debugging))


@app.command(epilog='Exit codes: 0 ok · 1 tight, or no · 2 bad usage, nothing was started · 3 it could not be made '
                    '· 130 interrupted.')
@errors_told(debugging)
@takes_recording_options
def preflight(
    recording: RecordingOptions,
    run_seconds: Annotated[float, option(PREFLIGHT, '--run-seconds', min=0.5, max=600, help=(
        'Length of each trial; the camera is recorded for twice as long.'))] = 2,
    print_results: Annotated[bool, option(CALLBACK, '--print-results', hidden=True)] = False,
    as_json: Annotated[bool, option(OUTPUT, '--json', help='Print everything as JSON.')] = False,
    quiet: Annotated[bool, option(OUTPUT, '--quiet', '-q', help=(
        'Neither progress nor table; the exit code is the answer.'))] = False,
) -> None:
    """Will a recording with these options hold its rate? Takes the options of ppr record, and tries it out.

    Records the camera for some seconds, then its frames from memory at rising rates, in a folder of its own beside
    PATH that is removed at the end. PATH itself is not touched. Takes 10 to 30 seconds.
    """
    from .preflight import run_preflight
    raise typer.Exit(run_preflight(recording.recorder_arguments(), run_seconds=run_seconds, as_json=as_json,
                                   quiet=quiet, debug=debugging))


@app.command()
@errors_told(debugging)
def info(path: Annotated[Path, typer.Argument(help='A recording.', readable=False)],
         as_json: Annotated[bool, typer.Option('--json', help='Print it as JSON.')] = False) -> None:
    """Show a recording's verdict, settings, gaps and metadata; of unfinished files, what is there.

    Checks nothing: ppr verify does. Exit codes: 0 · 3 it cannot be read.
    """
    from .info import show_recording
    show_recording(path, as_json)


@app.command(epilog='Exit codes: 0 everything agrees · 1 something does not, or the recording is unfinished · '
                    '3 it cannot be read · 130 interrupted.')
@errors_told(debugging)
def verify(path: Annotated[Path, typer.Argument(help='A recording; of a split one, any file.', readable=False)],
           as_json: Annotated[bool, typer.Option('--json', help='Print everything as JSON.')] = False,
           threads: Annotated[Optional[int], typer.Option(
               '--threads', min=1, max=1024, help='Threads that decode pages; default: one for each core.')] = None,
           quiet: Annotated[bool, typer.Option('--quiet', '-q', help='Only what is wrong.')] = False) -> None:
    """Check that a recording is what its own report says: every page, every byte, every count.

    Decodes all pages, counts the ledger anew from them alone, and holds it against the report. Changes nothing.
    """
    from .verify import run_verify
    raise typer.Exit(run_verify(path, as_json=as_json, threads=threads, quiet=quiet))


@app.command(epilog='Exit codes: 0 everything that the files held is recovered, or there was nothing to do · 1 some of '
                    'it is not recoverable · 2 bad usage · 3 it failed; nothing is worse than it was · 130 '
                    'interrupted.')
@errors_told(debugging)
def repair(path: Annotated[Path, typer.Argument(help='A recording; of a split one, any file.', readable=False)],
           output: Annotated[Optional[Path], typer.Option(
               '--output', '-o', help='The new file; default: trial_repaired.tif beside trial.tif.')] = None,
           in_place: Annotated[bool, typer.Option('--in-place', help=(
               'Finish the recording where it stands, instead of writing a new one; needs little room.'))] = False,
           as_json: Annotated[bool, typer.Option('--json', help='Print everything as JSON.')] = False) -> None:
    """Make a finished recording of every whole page of one that was cut off or damaged.

    After a crash, a power cut, a full or failing disk, with holes, or with its end missing. The original is only read,
    unless --in-place.
    """
    from .repair import run_repair
    raise typer.Exit(run_repair(path, output=output, in_place=in_place, as_json=as_json))


@app.command()
@errors_told(debugging)
def cameras(as_json: Annotated[bool, typer.Option('--json', help='Print them as JSON.')] = False) -> None:
    """List the cameras of this machine, and why others are missing."""
    from .info import show_cameras
    show_cameras(as_json)


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


afterwards.add_to(app, debugging)

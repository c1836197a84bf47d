"""The commands for recordings that are there already: look, export, process again. Each imports what it needs."""

# No "from __future__ import annotations" here: on Python 3.9 typer does not see options in postponed annotations.

from pathlib import Path
from typing import Annotated, Any, Callable, List, Optional, Tuple

import typer

from .outcome import errors_told

__all__ = ['add_to']

PANEL = 'Afterwards'

RecordingPath = Annotated[Path, typer.Argument(help='A recording; of a split one, any file.', readable=False)]


def add_to(app: typer.Typer, debugging: Callable[[], bool]) -> None:
    """Make these commands part of ``ppr``."""
    for command, epilog in COMMANDS:
        app.command(epilog=epilog, rich_help_panel=PANEL)(errors_told(debugging)(command))


def plot(recording: RecordingPath,
         output: Annotated[Optional[Path], typer.Option('--output', '-o', help=(
             'The PNG; default: trial.plot.png beside trial.tif.'))] = None) -> None:
    """Draw a recording on one page: intervals, losses, latency, callback time, compression, ring, marks."""
    from .plot import run
    run(recording, output)


def sheet(recording: RecordingPath,
          output: Annotated[Optional[Path], typer.Option('--output', '-o', help='The PNG; default: beside it.')] = None,
          frames: Annotated[int, typer.Option('--frames', '-n', min=1, max=400, help='How many frames to show.')] = 20,
          ) -> None:
    """Draw a contact sheet: frames spread over a recording, with the boxes and points that its callback found."""
    from .sheet import run
    run(recording, output, frames)


def view(recording: RecordingPath,
         results: Annotated[Optional[Path], typer.Option('--results', help='Others than those beside it.')] = None,
         save_to: Annotated[Optional[Path], typer.Option('--save-to', help='Folder for frames saved with the key s; '
                                                         'default: beside the recording.')] = None,
         in_napari: Annotated[bool, typer.Option('--napari', help='In napari, where that is installed.')] = False,
         ) -> None:
    """Look through a recording in a window: play it as it was, go to any frame, with what the callback found."""
    from .view import run
    run(recording, results, save_to, in_napari)


def export(
    paths: Annotated[List[Path], typer.Argument(metavar='PATH', readable=False, help=(
        'A recording and the new file, whose end tells the format; or, with --to, any number of recordings.'))],
    to: Annotated[Optional[str], typer.Option('--to', '-t', metavar='FORMAT', help=(
        'mp4, avi, gif, png, nwb, csv, parquet, tif (a cut).'))] = None,
    output: Annotated[Optional[Path], typer.Option('--output', '-o', help='The new file, of one recording.')] = None,
    output_dir: Annotated[Optional[Path], typer.Option('--output-dir', '-d', help=(
        'With --to: where the new files go; default: beside their recordings.'))] = None,
    start: Annotated[Optional[str], typer.Option('--start', help=(
        'The first frame: its number (120), seconds from the beginning (12.5s), or UTC (2026-03-01T12:00).'))] = None,
    stop: Annotated[Optional[str], typer.Option('--stop', help='The first frame that is not wanted any more.')] = None,
    every: Annotated[int, typer.Option('--every', min=1, help='2: every second frame, …')] = 1,
    overwrite: Annotated[bool, typer.Option('--overwrite', help='Replace what is there, once the new one is whole.')
                         ] = False,
    lossless: Annotated[bool, typer.Option('--lossless', help='mp4: keep every pixel exactly.')] = False,
    crf: Annotated[Optional[float], typer.Option('--crf', min=0, max=51, help=(
        'mp4: quality, smaller is better; default 18.'))] = None,
    preset: Annotated[Optional[str], typer.Option('--preset', help="mp4: x264's, ultrafast to veryslow.")] = None,
    speed: Annotated[Optional[float], typer.Option('--speed', help='mp4, gif: 0.1 plays ten times slower.')] = None,
    rate_hz: Annotated[Optional[float], typer.Option('--fps', help=(
        'Of a TIFF that is no recording of ours, and has no times.'))] = None,
    max_width: Annotated[Optional[int], typer.Option('--max-width', min=1, help='gif: make wider frames smaller.')
                         ] = None,
    colors: Annotated[Optional[int], typer.Option('--colors', help='gif: of each palette, 2, 4, 8, … 256.')] = None,
    what: Annotated[Optional[str], typer.Option('--what', help=(
        'csv, parquet: what the rows are, frames (default) or results.'))] = None,
    others: Annotated[Optional[List[str]], typer.Option('--set', metavar='NAME=VALUE', help=(
        "Any other option of a format, such as nwb's subject_id=M12. Repeatable."))] = None,
    quiet: Annotated[bool, typer.Option('--quiet', '-q', help='Only errors.')] = False,
    as_json: Annotated[bool, typer.Option('--json', help='Print what was made as JSON.')] = False,
) -> None:
    """Write recordings in another form: video, pictures, tables, NWB, or a cut. Whole, or not at all.

    ppr export trial.tif trial.mp4  ·  ppr export *.tif --to mp4
    """
    from .export import Wanted, parse_settings, run_export
    options = {'start': start, 'stop': stop, 'every': every if every > 1 else None, 'overwrite': overwrite or None,
               'lossless': lossless or None, 'crf': crf, 'preset': preset, 'speed': speed, 'rate_hz': rate_hz,
               'max_width': max_width, 'colors': colors, 'what': what}
    given = {**parse_settings(others or []), **{name: value for name, value in options.items() if value is not None}}
    raise typer.Exit(run_export(Wanted(paths, to, output, output_dir, given), as_json=as_json, quiet=quiet))


def process(recordings: Annotated[List[Path], typer.Argument(help='Recordings; of a split one, any file.',
                                                             readable=False)],
            callback: Annotated[str, typer.Option('--callback', help='module:function, or file.py:function.')],
            out: Annotated[Optional[Path], typer.Option('--out', '-o', help=(
                'A processed recording, or a folder for it; for several recordings, a folder for them.'))] = None,
            results: Annotated[Optional[Path], typer.Option('--results', help=(
                'Where the results go; default: beside --out, else trial_processed.results.jsonl.'))] = None,
            record: Annotated[str, typer.Option('--record', help=(
                "What --out holds: 'returned' frames, or 'raw' ones."))] = 'returned',
            buffer_length: Annotated[Optional[int], typer.Option('--buffer-length', help=(
                "Frames in the callback's deque; default: as recorded."))] = None,
            cb_timeout: Annotated[Optional[float], typer.Option('--cb-timeout', help=(
                'Seconds after which a call counts as hung.'))] = None,
            cb_start_timeout: Annotated[Optional[float], typer.Option('--cb-start-timeout', help=(
                'The same for its start and its first call.'))] = None,
            tif_compression: Annotated[Optional[int], typer.Option('--compression', '-z', help=(
                'Of --out: 0 = none, 9 = most effort; default: as recorded.'))] = None,
            disk_reserve_mb: Annotated[Optional[float], typer.Option('--disk-reserve-mb', help=(
                'MB to leave free on the disk of --out; default: the larger of 1 % of it and 200.'))] = None,
            rate_hz: Annotated[Optional[float], typer.Option('--fps', help=(
                "Of another program's TIFF, which tells no times: the rate at which it was taken."))] = None,
            workers: Annotated[Optional[int], typer.Option('--workers', help=(
                'So many processes at once, each with a part of the recording and a callback of its own; with '
                '--scheduler: wait until it has so many workers, at least.'))] = None,
            scheduler: Annotated[Optional[str], typer.Option('--scheduler', help=(
                'The same on a Dask cluster: tcp://host:8786.'))] = None,
            block_frames: Annotated[Optional[int], typer.Option('--block-frames', min=1, help=(
                'Frames that a worker processes at a time; default: some seconds of work.'))] = None,
            overwrite: Annotated[bool, typer.Option('--overwrite', help='Replace what an earlier run made.')] = False,
            as_json: Annotated[bool, typer.Option('--json', help='Print the reports as JSON.')] = False,
            quiet: Annotated[bool, typer.Option('--quiet', '-q', help='Only errors.')] = False) -> None:
    """Call a callback with every frame of recordings, as ppr record would, as fast as the machine allows.

    Nothing has its final name before all is done; the recordings themselves are only read.
    """
    from .app import debugging
    from .process import Wishes, run_process
    settings = {'buffer_length': buffer_length, 'cb_timeout': cb_timeout, 'cb_start_timeout': cb_start_timeout,
                'tif_compression': tif_compression, 'disk_reserve_mb': disk_reserve_mb}
    wishes = Wishes(callback, out, results, record, rate_hz, overwrite, workers, scheduler, block_frames,
                    settings)
    raise typer.Exit(run_process(recordings, wishes, as_json=as_json, quiet=quiet, debug=debugging))


def compare(a: Annotated[Path, typer.Argument(metavar='A', readable=False, help=(
                'A recording, or a file of results (*.results.jsonl).'))],
            b: Annotated[Path, typer.Argument(metavar='B', readable=False, help='Another one.')],
            by: Annotated[str, typer.Option('--by', help="By what frames belong together: 'index' or 'time'."
                                            )] = 'index',
            time_tolerance: Annotated[Optional[str], typer.Option('--time-tolerance', help=(
                'With --by time: how far two times of a frame may be apart, such as 2ms.'))] = None,
            iou: Annotated[float, typer.Option('--iou', help=(
                'Boxes that overlap so much (0.5, say) are the same; 1: only those with the same numbers.'))] = 1.0,
            tolerance: Annotated[float, typer.Option('--tolerance', help=(
                'How far numbers may differ and still count as the same.'))] = 0.0,
            as_json: Annotated[bool, typer.Option('--json', help='Print everything as JSON.')] = False,
            quiet: Annotated[bool, typer.Option('--quiet', '-q', help='The exit code is the answer.')] = False) -> None:
    """Compare the results of two runs, frame by frame: what came, went and changed, and why that may be.

    Boxes (x, y, w, h) are compared in any order, everything else as it was put.
    """
    from .compare import run_compare
    raise typer.Exit(run_compare(a, b, by=by, iou=iou, tolerance=tolerance, time_tolerance=time_tolerance,
                                 as_json=as_json, quiet=quiet))


#: Each command, and what stands below its help.
COMMANDS: Tuple[Tuple[Callable[..., Any], Optional[str]], ...] = (
    (sheet, None),
    (plot, None),
    (process, 'Exit codes: 0 all frames processed · 1 some failed, the others went on · 2 bad usage, nothing was '
              'started · 3 a recording could not be processed · 130 interrupted.'),
    (view, 'In the window, h shows all keys. Without a screen: ppr sheet, ppr plot.'),
    (export, 'Exit codes: 0 all are made · 2 bad usage, nothing was started · 3 one of them could not be made · 130 '
             'interrupted. Nothing is left of what was not made whole.'),
    (compare, 'Exit codes: 0 the same · 1 they differ · 2 bad usage · 3 one of them cannot be read · 130 interrupted.'),
)

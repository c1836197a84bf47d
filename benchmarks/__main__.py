"""The benchmark suite's commands. Whatever is measured, is measured when its command is called."""

# No "from __future__ import annotations" here: on Python 3.9 typer does not see options in postponed annotations.

import json
from pathlib import Path
from typing import Annotated, Any, Callable, Dict, List, Optional

import typer

app = typer.Typer(name='benchmarks', no_args_is_help=True, add_completion=False, rich_markup_mode='rich',
                  pretty_exceptions_enable=False, context_settings={'help_option_names': ['-h', '--help']},
                  help='Measure the recorder beside what one would pick instead, in one run. On a machine that does '
                       'nothing else: it has two cores or more, and everybody on them shows in the figures.')

RESULTS = Path(__file__).resolve().parent / 'results'

Folder = Annotated[Path, typer.Option('--folder', help='A folder on the disk to be measured; some GB are written and '
                                                       'removed.', exists=True, file_okay=False, writable=True)]
Out = Annotated[Path, typer.Option('--out', help='Where the figures, tables and plots go.', file_okay=False)]
Rounds = Annotated[int, typer.Option('--rounds', min=1, help='How often each contender runs.')]
Sizes = Annotated[Optional[List[str]], typer.Option('--sizes', help='WIDTHxHEIGHT, several with commas.')]
Formats = Annotated[Optional[List[str]], typer.Option('--formats', help='gray, bgr, or gray,bgr.')]


@app.command()
def throughput(sizes: Sizes = None, formats: Formats = None, rounds: Rounds = 3,
               seconds: Annotated[float, typer.Option('--seconds', min=0.1, help=(
                   'How long the bare codec runs; the others get as many frames, slow ones fewer.'))] = 4.0,
               frames: Annotated[Optional[int], typer.Option('--frames', min=16, help=(
                   'That many for all instead.'))] = None,
               carphone: Annotated[Optional[List[str]], typer.Option('--carphone', help=(
                   "Sizes at which the real clip is recorded, too; 'none' for not at all."))] = None,
               folder: Folder = Path('.'), only: Annotated[Optional[List[str]], typer.Option('--only', help=(
                   "A part of contenders' names; can be given several times."))] = None,
               out: Out = RESULTS) -> None:
    """Frames a second and CPU a frame of every contender, each file read back and compared. An hour or two."""
    from . import throughput as module
    try:
        cases = module.cases_of(_parts(sizes) or module.SIZES, _parts(formats) or module.FORMATS,
                                [size for size in _parts(carphone) or [module.CARPHONE_SIZE] if size != 'none'])
        module.run(cases, rounds=rounds, seconds=seconds, frames=frames, folder=folder, only=only or (), out=out,
                   tell=_tell)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    _report(out)


@app.command()
def live(rounds: Rounds = 3, seconds: Annotated[float, typer.Option('--seconds', min=1, help='Of each run.')] = 10.0,
         folder: Folder = Path('.'), out: Out = RESULTS) -> None:
    """Latency, CPU and memory at 60 frames a second; start, import. A few minutes."""
    from . import live as module
    _store('live', out, lambda: module.run(folder, rounds=rounds, seconds=seconds))


@app.command()
def length(count: Annotated[int, typer.Option('--count', min=2000, help='Frames of the long recording.')] = 1_000_000,
           folder: Folder = Path('.'), out: Out = RESULTS) -> None:
    """What a frame costs late in a long recording, against early in it. A million take some minutes."""
    from . import length as module
    _store('length', out, lambda: module.run(folder, count=count))


@app.command()
def cluster(rounds: Rounds = 3,
            seconds: Annotated[float, typer.Option('--seconds', min=0.1, help='That one worker has work for.')] = 20.0,
            folder: Folder = Path('.'), out: Out = RESULTS) -> None:
    """Processing again with a CPU-bound callback: workers, one process, and what the cores give. Ten minutes."""
    from . import cluster as module
    _store('cluster', out, lambda: module.run(folder, rounds=rounds, seconds=seconds))


@app.command()
def reading(count: Annotated[int, typer.Option('--count', min=2000, help='Pages of the long recording.')] = 1_000_000,
            rounds: Rounds = 5, folder: Folder = Path('.'), out: Out = RESULTS) -> None:
    """Reading back: a long recording's opening, pages, memory; frames in order. Some minutes."""
    from . import reading as module
    _store('reading', out, lambda: module.run(folder, count=count, rounds=rounds))


@app.command()
def report(out: Out = RESULTS) -> None:
    """Tables and plots from the stored figures."""
    _report(out)


@app.command()
def smoke(folder: Folder = Path('.'), rounds: Rounds = 3) -> None:
    """A quick look for gross regressions, as the tests have it. Exit code 1: something is far off."""
    import tempfile

    from .smoke import findings
    good = True
    with tempfile.TemporaryDirectory(prefix='benchmark-', dir=folder) as scratch:
        for finding in findings(Path(scratch), rounds):
            good &= finding.good
            _tell(str(finding))
    raise typer.Exit(0 if good else 1)


@app.command(name='all')
def everything(rounds: Rounds = 3, folder: Folder = Path('.'), out: Out = RESULTS) -> None:
    """throughput, live, length, reading and cluster with their usual settings, and the report."""
    throughput(rounds=rounds, folder=folder, out=out)
    live(rounds=rounds, folder=folder, out=out)
    length(folder=folder, out=out)
    reading(folder=folder, out=out)
    cluster(rounds=rounds, folder=folder, out=out)


def _parts(texts: Optional[List[str]]) -> List[str]:
    """Also what was written with commas."""
    return [part.strip() for text in texts or () for part in text.split(',') if part.strip()]


def _store(name: str, out: Path, measure: Callable[[], Dict[str, Any]]) -> None:
    _tell(f'{name} …')
    found = measure()
    out.mkdir(parents=True, exist_ok=True)
    (out / f'{name}.json').write_text(json.dumps(found, indent=1) + '\n')
    _report(out)


def _report(out: Path) -> None:
    from .report import write
    try:
        _tell(f'written: {write(out)}')
    except FileNotFoundError as error:
        typer.echo(f'benchmarks: {error}', err=True)
        raise typer.Exit(2) from None


def _tell(line: str) -> None:
    from rich.console import Console
    Console(highlight=False, soft_wrap=True).print(line, markup=False)


if __name__ == '__main__':
    app(prog_name='python -m benchmarks')

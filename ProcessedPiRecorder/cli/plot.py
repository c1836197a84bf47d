"""``ppr plot``: a recording on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from ..reading import open_recording
from ..views.plot import write_plot

__all__ = ['run']


def run(path: Path, output: Optional[Path]) -> None:
    """Draw it, and say where it is. Raises RecordingFileError."""
    with open_recording(path) as recording:
        typer.echo(f'{write_plot(recording, output)}: {recording.path.name}, {recording.verdict}')

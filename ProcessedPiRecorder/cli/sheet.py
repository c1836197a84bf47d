"""``ppr sheet``: a contact sheet of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from ..reading import open_recording
from ..views.sheet import sheet_path, write_contact_sheet

__all__ = ['run']


def run(path: Path, output: Optional[Path], frames: int) -> None:
    """Draw it, and say where it is. Raises RecordingFileError."""
    with open_recording(path) as recording:
        target = output or sheet_path(recording)
        heading = write_contact_sheet(recording, target, frames)
    typer.echo(f'{target}: {heading}')

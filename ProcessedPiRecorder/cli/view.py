"""``ppr view``: look through a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

__all__ = ['run']


def run(recording: Path, results: Optional[Path], save_to: Optional[Path], in_napari: bool) -> None:
    """Show the recording until its window is closed."""
    if in_napari:
        from ..views.napari import view_in_napari
        view_in_napari(recording, results=results)
    else:
        from ..views.window import view
        view(recording, results=results, save_to=save_to)

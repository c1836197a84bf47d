"""The ``ppr`` command. Everything heavy is imported by the command that needs it, so that ``ppr --help`` is quick."""

from __future__ import annotations

from typing import Optional, Sequence

__all__ = ['main']


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run the command line (default: ``sys.argv[1:]``) and exit with its code."""
    from .streams import provide_standard_streams
    provide_standard_streams()
    from .app import app
    app(args=None if arguments is None else list(arguments), prog_name='ppr')

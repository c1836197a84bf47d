"""The ``ppr`` command. Everything heavy is imported by the command that needs it, so that ``ppr --help`` is quick."""

from __future__ import annotations

import sys
from typing import Optional, Sequence

__all__ = ['main']


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run the command line (default: ``sys.argv[1:]``) and exit with its code."""
    from .streams import output_failure, provide_standard_streams
    provide_standard_streams()
    try:
        from .app import app
        app(args=None if arguments is None else list(arguments), prog_name='ppr')
    except KeyboardInterrupt:
        _tell_interrupted()
        sys.exit(130)
    except SystemExit as left:
        if _is_untold_interrupt(left):
            _tell_interrupted()
            left.code = 130
        sys.stdout.flush()
        failure = output_failure()
        if failure is None:
            raise
        print(f'ppr: the output could not be written ({failure.strerror}) and is not whole; make room where it goes. '
              'No recording is concerned', file=sys.stderr)
        sys.exit(3)


def _tell_interrupted() -> None:
    print('ppr: interrupted', file=sys.stderr, flush=True)


def _is_untold_interrupt(left: SystemExit) -> bool:
    """Whether typer made this exit of a Ctrl-C outside of any command, which it does without a word."""
    return left.__context__ is not None and isinstance(left.__context__.__cause__, KeyboardInterrupt)

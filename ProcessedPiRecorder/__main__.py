"""``python -m ProcessedPiRecorder``: the same as the ``ppr`` command."""

from .cli import main

if __name__ == '__main__':
    main()

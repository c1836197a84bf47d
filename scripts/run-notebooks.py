"""Run the notebooks in examples/, each in a folder of its own. With --write: keep what they show in them."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / 'examples').glob('*.ipynb'))
TIMEOUT_S = 50           # for a cell


def run(path: Path, folder: Path) -> Any:
    """The notebook with what its cells show, run by this Python in ``folder``. Raises when a cell does."""
    import nbformat
    from nbclient import NotebookClient
    notebook = nbformat.read(path, as_version=4)
    os.environ['PYTHONPATH'] = str(ROOT)
    os.environ['JUPYTER_RUNTIME_DIR'] = os.environ['IPYTHONDIR'] = str(folder)
    NotebookClient(notebook, timeout=TIMEOUT_S, kernel_name='python3', resources={'metadata': {'path': str(folder)}}
                   ).execute()
    return notebook


def main() -> None:
    import nbformat
    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            notebook = run(path, Path(folder))
        for cell in notebook.cells:
            cell.metadata.pop('execution', None)         # when each cell ran
        if '--write' in sys.argv[1:]:
            nbformat.write(notebook, path)
        print(f'{path.name}: {len(notebook.cells)} cells')


if __name__ == '__main__':
    main()

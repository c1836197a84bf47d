"""The notebooks run as they stand, and what is kept in them is what they show."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any, List

import pytest

REPO = Path(__file__).resolve().parent.parent

pytest.importorskip('nbclient')
pytest.importorskip('ipykernel')
pytest.importorskip('matplotlib')
pytest.importorskip('av')


def outputs(notebook: Any, kind: str) -> List[str]:
    """What its cells printed ('text'), or the data of a media type that they showed."""
    shown = [output for cell in notebook.cells if cell.cell_type == 'code' for output in cell.outputs]
    assert not [output for output in shown if output.output_type == 'error']
    if kind == 'text':
        return [output.text for output in shown if output.get('name') == 'stdout']
    return [output.data[kind] for output in shown if 'data' in output and kind in output.data]


@pytest.mark.filterwarnings('ignore')          # the Jupyter packages', of their own future
@pytest.mark.timeout(120)
@pytest.mark.parametrize('path', sorted((REPO / 'examples').glob('*.ipynb')), ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    for name in ('PYTHONPATH', 'JUPYTER_RUNTIME_DIR', 'IPYTHONDIR'):
        monkeypatch.setenv(name, '')           # so that what the script sets is taken back
    run = runpy.run_path(str(REPO / 'scripts' / 'run-notebooks.py'))['run']
    fresh, kept = run(path, tmp_path), nbformat.read(path, as_version=4)
    assert len(outputs(fresh, 'image/png')) == len(outputs(kept, 'image/png')) > 0
    assert len(outputs(fresh, 'text/html')) == len(outputs(kept, 'text/html')) > 0
    assert [bool(cell.outputs) for cell in fresh.cells if cell.cell_type == 'code'] == \
        [bool(cell.outputs) for cell in kept.cells if cell.cell_type == 'code']


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('path', sorted((REPO / 'examples').glob('*.ipynb')), ids=lambda path: path.stem)
def test_what_is_kept_in_a_notebook_is_fit_to_be_shown(path: Path) -> None:
    import nbformat
    notebook = nbformat.read(path, as_version=4)
    told = '\n'.join(outputs(notebook, 'text') + outputs(notebook, 'text/plain'))
    assert 'complete: yes' in told and ' 0 failed' in told
    whole = path.read_text(encoding='utf-8')
    assert '/tmp/' not in whole and '/home/' not in whole and '/root/' not in whole

"""The package as a whole: what it shows, what it loads, what it depends on."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Iterator, Tuple

import pytest

import ProcessedPiRecorder

REPO = Path(__file__).resolve().parent.parent
PACKAGE = REPO / 'ProcessedPiRecorder'

#: From the top down; a layer may import from itself and from those to the right of it.
LAYERS = {'cli': {'recorder', 'selftest', 'preflight', 'cameras', 'recordings', 'reading', 'views', 'exports',
                  'processing'},
          'processing': {'recorder', 'pipeline', 'cameras', 'reading', 'recordings', 'exports'},
          'views': {'reading', 'recordings', 'exports'}, 'exports': {'reading', 'recordings'},
          'preflight': {'recorder', 'status', 'cameras', 'recordings'},
          'selftest': {'recorder', 'cameras', 'recordings'},
          'recorder': {'preconditions', 'status', 'outcome', 'listener', 'heir', 'messages', 'pipeline', 'cameras',
                       'recordings'},
          'listener': {'heir', 'messages', 'outcome', 'pipeline', 'status'},
          'heir': {'outcome', 'pipeline', 'recordings'},
          'outcome': {'pipeline', 'recordings'}, 'messages': set(),
          'preconditions': {'cameras', 'recordings'}, 'status': {'pipeline'},
          'pipeline': {'cameras', 'recordings'}, 'callbacks': set(), 'cameras': {'reading', 'recordings'},
          'reading': {'recordings'}, 'recordings': set()}


def python(*arguments: str) -> str:
    environment = {**os.environ, 'PYTHONPATH': str(REPO)}
    return subprocess.run([sys.executable, *arguments], env=environment, cwd=REPO, check=True, text=True,
                          capture_output=True).stdout


def test_all_is_what_is_visible() -> None:
    visible = {name for name in dir(ProcessedPiRecorder) if not name.startswith('_')
               and not isinstance(getattr(ProcessedPiRecorder, name), ModuleType)}
    assert visible | {'__version__', 'errors'} == set(ProcessedPiRecorder.__all__)


def test_importing_loads_no_camera_stack() -> None:
    heavy = {'cv2', 'tifffile', 'imageio', 'picamera', 'picamera2', 'typer', 'rich', 'matplotlib', 'pandas', 'av',
             'dask', 'multiprocessing.pool'}
    for name in ('ProcessedPiRecorder', 'open_recording'):
        script = f'import sys; from ProcessedPiRecorder import {name}; print({heavy} & set(sys.modules))'
        assert python('-c', script).strip() == 'set()'


def test_a_name_is_there_when_it_is_asked_for() -> None:
    script = ('import sys, ProcessedPiRecorder as package; print("numpy" in sys.modules); '
              'print([name for name in package.__all__ if getattr(package, name, None) is None]); '
              'print(package.RecorderError is package.errors.RecorderError)')
    assert python('-c', script).split() == ['False', '[]', 'True']
    with pytest.raises(AttributeError, match="has no attribute 'ppr'"):
        _ = ProcessedPiRecorder.ppr  # type: ignore[attr-defined]


@pytest.mark.parametrize('module', ['numpy', 'typer'])
def test_ctrl_c_while_a_command_starts_is_told_in_a_word(module: str) -> None:
    script = f"""
import signal, sys

class JustNow:
    def find_spec(self, name, *_):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, JustNow())
from ProcessedPiRecorder.cli import main
main(['info', 'a.tif'])
"""
    ended = subprocess.run([sys.executable, '-c', script], env={**os.environ, 'PYTHONPATH': str(REPO)}, cwd=REPO,
                           text=True, capture_output=True)
    assert (ended.returncode, ended.stderr) == (130, 'ppr: interrupted\n')


def test_it_is_typed_and_says_so() -> None:
    assert (PACKAGE / 'py.typed').is_file()


def test_the_version_stands_in_one_place() -> None:
    pytest.importorskip('setuptools')
    assert python('-W', 'ignore', 'setup.py', '--version').split()[-1] == ProcessedPiRecorder.__version__
    assert f'## {ProcessedPiRecorder.__version__}' in (REPO / 'CHANGELOG.md').read_text(encoding='utf-8')


def test_python_m_is_the_command() -> None:
    assert ProcessedPiRecorder.__version__ in python('-m', 'ProcessedPiRecorder', '--version')


def imports_between_rooms() -> Iterator[Tuple[str, str, Path]]:
    for path in PACKAGE.rglob('*.py'):
        place = path.relative_to(PACKAGE).with_suffix('').parts
        if len(place) == 1 and place[0] in ('__init__', '__main__'):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.ImportFrom) and node.level == len(place):
                names = [node.module] if node.module else [alias.name for alias in node.names]
                for name in names:
                    yield place[0], name.split('.')[0], path


def test_dependencies_point_one_way() -> None:
    wrong = [f'{path.relative_to(REPO)} imports {to}' for room, to, path in imports_between_rooms()
             if to in LAYERS and to != room and to not in LAYERS.get(room, set())]
    assert not wrong


def test_no_file_is_too_long_to_read() -> None:
    lengths = {path: len(path.read_text(encoding='utf-8').splitlines()) for path in PACKAGE.rglob('*.py')}
    assert not {str(path): length for path, length in lengths.items() if length > 600}


def test_links_in_the_documents_lead_somewhere() -> None:
    missing = []
    for page in [REPO / 'README.md', *(REPO / 'docs').glob('*.md')]:
        for target in re.findall(r'\]\((?!https?:)([^)#]+)', page.read_text(encoding='utf-8')):
            if not (page.parent / target).exists():
                missing.append(f'{page.name}: {target}')
    assert not missing

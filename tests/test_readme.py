"""The README's code and the examples run as they stand; only the camera is another one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, List

import pytest
import tifffile

REPO = Path(__file__).resolve().parent.parent
README = (REPO / 'README.md').read_text(encoding='utf-8')

#: 'auto' finds the attached Pi camera; here it finds this one, which ends by itself and is not paced.
SWAP = '''
from ProcessedPiRecorder.cameras import SyntheticCamera, registry
resolve = registry.resolve
registry.check = lambda spec, stereo: None
registry.resolve = lambda spec: SyntheticCamera(frames=30, buffers=1000) if spec == 'auto' else resolve(spec)
'''


def code_blocks(text: str) -> List[str]:
    return re.findall(r'^```python\n(.*?)^```', text, re.DOTALL | re.MULTILINE)


def run_script(source: str, folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ('DISPLAY', 'WAYLAND_DISPLAY')}
    done = subprocess.run([sys.executable, '-W', 'error', '-W', 'default::UserWarning', '-c', source, *arguments],
                          cwd=folder, env={**environment, 'PYTHONPATH': str(REPO)}, text=True, capture_output=True,
                          timeout=55)
    assert done.returncode == 0, done.stderr
    assert 'Traceback' not in done.stderr
    return done.stdout


def test_the_readmes_code_runs(tmp_path: Path) -> None:
    blocks = code_blocks(README)
    assert len(blocks) == 6
    outputs = [run_script(SWAP + block, tmp_path) for block in blocks]
    assert outputs[0] == 'yes 30 0\n'
    assert re.fullmatch(r'\(30, \d+, \d+, 3\) complete: yes\n', outputs[5])
    assert '"complete": "yes"' in outputs[1] and '"label": "stimulus"' in outputs[1]
    assert {path.name for path in tmp_path.glob('*.tif')} == {'trial.tif', 'light.tif', 'faces.tif', 'stereo.tif'}
    with tifffile.TiffFile(tmp_path / 'stereo.tif') as tif:
        assert tif.series[0].shape == (30, 144, 384, 3)


def test_the_original_call_with_all_arguments_in_their_places(tmp_path: Path) -> None:
    source = SWAP + textwrap.dedent('''
        from ProcessedPiRecorder import ProcessedPiRecorder as ppr

        buffer_length = 3
        def callback_function(buffer, cb_queue):
            if len(buffer) == buffer_length:
                frame = 255 - buffer[-1]
                cb_queue.put('HiMom')
                return(frame)

        myRecorder = ppr('original.tif', 320, 240, 0.5, 25, 2, False, 'camera_reader', False, True, True, True,
                         callback_function, '2Proc', True, True, 6, buffer_length, 10, 'original.csv')
        myRecorder.recordVid()
        print(list(myRecorder.cb_queue))
    ''')
    assert run_script(source, tmp_path) == f'{["HiMom"] * 28}\n'
    with tifffile.TiffFile(tmp_path / 'original.tif') as tif:
        assert tif.series[0].shape == (30, 120, 160, 3)
    assert (tmp_path / 'original.csv').exists()


def test_the_table_of_arguments_is_the_signature() -> None:
    import inspect

    from ProcessedPiRecorder import ProcessedPiRecorder as ppr
    parameters = inspect.signature(ppr).parameters
    first_cells = re.findall(r'^\| (`[^|]*) \|', README, re.MULTILINE)
    named = [name for cell in first_cells for name in re.findall(r'`(\w+)`', cell)]
    in_place = [name for name, parameter in parameters.items() if parameter.kind is not parameter.KEYWORD_ONLY]
    by_name = {name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}
    documented = [name for name in named if name in parameters]
    # Hz_buffer and display_proc share rows with others; the order is that of the first naming.
    assert [name for name in documented if name in in_place] == in_place
    assert by_name == set(documented) - set(in_place)


@pytest.fixture(scope='module')
def film(tmp_path_factory: Any) -> Path:
    import cv2
    import numpy as np
    path: Path = tmp_path_factory.mktemp('film') / 'film.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 30, (160, 120))
    for number in range(30):
        writer.write(np.full((120, 160, 3), 8 * number, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize('example', sorted((REPO / 'examples').glob('*.py')), ids=lambda path: path.stem)
def test_every_example_runs(example: Path, tmp_path: Path, film: Path) -> None:
    # As fast as the recorder can; the scripts themselves are what they are.
    swap = SWAP.replace("spec == 'auto'", "spec == 'synthetic'")
    # Distances can be measured only after calibrating.
    scripts = [example.with_name('stereo_calibrate.py'), example] if example.stem == 'stereo_depth' else [example]
    for script in scripts:
        source = f'{swap}\nimport runpy\nrunpy.run_path({str(script)!r}, run_name="__main__")'
        output = run_script(source, tmp_path, str(film) if example.stem == 'video_file' else 'synthetic')
    assert output.strip()
    assert list(tmp_path.glob('*.tif'))


def test_the_recipes_are_the_examples() -> None:
    done = subprocess.run([sys.executable, str(REPO / 'scripts' / 'make-recipes.py'), '--check'])
    assert done.returncode == 0, 'run scripts/make-recipes.py'


def test_the_commands_in_the_readme_exist() -> None:
    makefile = (REPO / 'Makefile').read_text(encoding='utf-8')
    for target in re.findall(r'\bmake ([a-z-]+)', README):
        if target not in ('sure',):
            assert re.search(rf'^{target}:', makefile, re.MULTILINE), target

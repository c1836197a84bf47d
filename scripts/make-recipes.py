"""Write docs/recipes.md from the example scripts. With --check: only say whether it is up to date."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ROOT / 'docs' / 'recipes.md'

INTRODUCTION = """# Recipes

Short scripts that do one thing each. They are the files in [examples/](../examples), and the tests run them. Each takes
the camera as its argument; try them with `synthetic`:

    python examples/minimal.py synthetic
"""

ORDER = ('minimal', 'face_detection', 'find_shapes', 'processed_frames', 'two_way_queue', 'stereo_halves',
         'stereopi', 'stereo_calibrate', 'stereo_depth', 'video_file', 'pose_deeplabcut', 'pose_sleap',
         'pose_afterwards')


def recipe(path: Path) -> str:
    """One example as a section: its docstring's first sentence, the rest of it, its picture if it has one, the code."""
    source = path.read_text(encoding='utf-8')
    docstring = ast.get_docstring(ast.parse(source)) or ''
    title, _, rest = docstring.partition('. usage: ')
    explanation = rest.partition('\n')[2].strip()
    image = ROOT / 'docs' / 'images' / f'{path.stem.replace("_", "-")}.png'
    picture = f'![what it records](images/{image.name})' if image.exists() else ''
    code = source.split('"""\n', 1)[1].strip()
    parts = [f'## {title}', explanation, picture, f'`examples/{path.name}`', f'```python\n{code}\n```']
    return '\n\n'.join(filter(None, parts))


def recipes() -> str:
    """The whole page."""
    return '\n'.join([INTRODUCTION, *(recipe(ROOT / 'examples' / f'{name}.py') + '\n' for name in ORDER)])


def main() -> int:
    text = recipes()
    if '--check' in sys.argv[1:]:
        return 0 if RECIPES.read_text(encoding='utf-8') == text else 1
    RECIPES.write_text(text, encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())

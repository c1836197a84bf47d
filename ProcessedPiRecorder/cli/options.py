"""From what was typed to the recorder's arguments."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from .outcome import BadUsage

__all__ = ['camera_spec', 'load_callback', 'parse_controls', 'parse_metadata', 'parse_size']


def parse_size(text: Optional[str]) -> Tuple[int, int]:
    """'1280x480' → (1280, 480); None → (0, 0), the camera's default."""
    if text is None:
        return 0, 0
    width, cross, height = text.lower().replace('×', 'x').partition('x')
    if not (cross and width.strip().isdigit() and height.strip().isdigit()):
        raise BadUsage(f'--size {text!r} is not a size; write WIDTHxHEIGHT in pixels, such as 1280x480')
    return int(width), int(height)


def parse_metadata(items: Sequence[str]) -> Dict[str, str]:
    """['animal=M12', ...] → {'animal': 'M12'}; values stay texts."""
    return dict(_pair('--meta', item, 'animal=M12') for item in items)


def parse_controls(items: Sequence[str]) -> Dict[str, Any]:
    """['iso=400', 'awb_gains=[1.5, 1.2]'] → values as JSON where they are JSON, else as text."""
    return {key: _json_or_text(value) for key, value in (_pair('--control', item, 'iso=400') for item in items)}


def camera_spec(cameras: Optional[List[str]]) -> Any:
    """One name, or a pair of them for stereo from two cameras."""
    if not cameras:
        return 'auto'
    return cameras[0] if len(cameras) == 1 else tuple(cameras)


def load_callback(name: Optional[str]) -> Optional[Callable[..., Any]]:
    """'module:function' → the function, the current folder importable. A class is made an instance of, bare."""
    if name is None:
        return None
    module_name, colon, attribute = name.partition(':')
    if not colon or not module_name or not attribute:
        raise BadUsage(f'--callback {name!r} is not module:function; write it as in  --callback tracking:find_mouse  '
                       'for the function find_mouse of tracking.py in the current folder')
    if module_name.endswith('.py') or '/' in module_name:
        raise BadUsage(f'--callback {name!r} names a file, but a module is wanted: go to its folder and write  '
                       f'--callback {os.path.splitext(os.path.basename(module_name))[0]}:{attribute}')
    target = _attribute(_module(module_name), attribute)
    callback = target() if isinstance(target, type) else target
    if not callable(callback):
        raise BadUsage(f'--callback {name!r} is of type {type(callback).__name__}, not a function '
                       'callback(buffer, cb_queue)')
    return callback


def _module(name: str) -> Any:
    here = os.getcwd()
    if here not in sys.path:
        # Before everything else, as with a script started here. Children under spawn get this path, too.
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + '.')):
            raise BadUsage(f'there is no module {error.name!r} to take the callback from; it is looked for in '
                           f'{here} and among the installed packages') from error
        raise BadUsage(f'the callback\'s module {name!r} needs {error.name!r}, which is not installed') from error
    except Exception as error:
        raise BadUsage(f'the callback\'s module {name!r} cannot be imported: '
                       f'{type(error).__name__}: {error}') from error


def _attribute(module: Any, dotted: str) -> Any:
    value = module
    for part in dotted.split('.'):
        if not hasattr(value, part):
            names = sorted(name for name, item in vars(module).items() if callable(item) and not name.startswith('_'))
            raise BadUsage(f'{module.__name__!r} has no {dotted!r}; it has {", ".join(names[:12]) or "no functions"}')
        value = getattr(value, part)
    return value


def _pair(option: str, item: str, example: str) -> Tuple[str, str]:
    key, equals, value = item.partition('=')
    if not equals or not key.strip():
        raise BadUsage(f'{option} {item!r} is not key=value; write it as in  {option} {example}')
    return key.strip(), value


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text

"""What the documents say is so: links lead somewhere, commands can be typed, quoted messages are the program's."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
import typer

from ProcessedPiRecorder.cameras.controls import COMMON
from ProcessedPiRecorder.cameras.libcamera.controls import read_own
from ProcessedPiRecorder.cameras.mmal.controls import NATIVE, wishes
from ProcessedPiRecorder.cli import options
from ProcessedPiRecorder.cli.app import app
from ProcessedPiRecorder.pipeline.plan import LOSS_REASONS

REPO = Path(__file__).resolve().parent.parent
PAGES = [REPO / 'README.md', REPO / 'CHANGELOG.md', *sorted((REPO / 'docs').glob('*.md'))]
PI, TROUBLE = REPO / 'docs' / 'raspberry-pi.md', REPO / 'docs' / 'troubleshooting.md'
COMMANDS: Dict[str, Any] = typer.main.get_command(app).commands     # type: ignore[attr-defined]

each_page = pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)


def read(page: Path) -> str:
    return page.read_text(encoding='utf-8')


# --- links

def anchors(page: Path) -> List[str]:
    """The names that a page's headings get."""
    headings = re.findall(r'^#+ (.*)$', re.sub(r'^```.*?^```', '', read(page), flags=re.DOTALL | re.MULTILINE), re.M)
    return [re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings]


@each_page
def test_links_lead_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    wrong = []
    for target in re.findall(r'\]\((?!https?:)([^)]+)\)', read(page)):
        name, _, anchor = target.partition('#')
        place = page.parent / name if name else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            wrong.append(target)
    assert not wrong


def test_every_page_can_be_found_from_the_readme() -> None:
    found, fresh = set(), {REPO / 'README.md'}
    while fresh:
        page = fresh.pop()
        found.add(page)
        links = re.findall(r'\]\((?!https?:)([^)#]+\.md)', read(page))
        fresh |= {(page.parent / link).resolve() for link in links} - found
    assert set(PAGES) <= found


# --- commands and code

def command_lines(text: str) -> Iterator[str]:
    """What is typed: the lines of code blocks, and code in the text."""
    lines = re.findall(r'^(?: {4,}|)(ppr [^\n]*)$', text, re.MULTILINE)
    for line in [*lines, *re.findall(r'`(ppr [^`\n]*)`', text)]:
        if '…' not in line:
            yield line


def context_of(line: str) -> Any:
    """The command line, parsed as the program does it, and not run. Raises what the parser raises."""
    name, *words = shlex.split(line, comments=True)[1:]
    words = words[:words.index('>')] if '>' in words else words
    return COMMANDS[name].make_context(name, words)


@each_page
def test_command_lines_can_be_typed(page: Path) -> None:
    for line in command_lines(read(page)):
        if line.endswith('--help') or line.split()[1:] in ([name] for name in COMMANDS):
            continue
        given = context_of(line).params
        options.parse_size(given.get('size'))
        options.parse_metadata(given.get('meta') or [])
        for name, value in options.parse_controls(given.get('control') or []).items():
            assert name in (*COMMON, 'buffer_count', 'left', 'right'), line
            assert not isinstance(value, str), f'{line}: {name} is no JSON'


def test_a_wrong_command_line_would_be_found() -> None:
    found = list(command_lines('    ppr record a.tif --fast\nSay `ppr info a.tif` and `ppr record …`.\n'))
    assert found == ['ppr record a.tif --fast', 'ppr info a.tif']
    with pytest.raises(Exception, match='No such option'):
        context_of(found[0])
    assert len([line for page in PAGES for line in command_lines(read(page))]) > 20


@each_page
def test_python_blocks_compile(page: Path) -> None:
    for block in re.findall(r'^```python\n(.*?)^```', read(page), re.DOTALL | re.MULTILINE):
        compile(block, str(page), 'exec')


# --- messages

def texts_of_the_program() -> str:
    """All text in the package's code; parts of one message that stand in several literals are joined."""
    texts = []
    for path in (REPO / 'ProcessedPiRecorder').rglob('*.py'):
        for node in ast.walk(ast.parse(read(path))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return '\0'.join(texts)


def rows(page: Path, header: str) -> List[List[str]]:
    """The rows of all tables whose first column bears this header."""
    found = []
    for table in re.findall(rf'^\| {header} \|.*\n\|[-|]+\n((?:\|.*\n)+)', read(page), re.MULTILINE):
        found += [[cell.strip() for cell in row.strip('|').split(' | ')] for row in table.splitlines()]
    return found


def test_quoted_messages_are_the_programs() -> None:
    texts = texts_of_the_program()
    quoted = [(row[0], part) for row in rows(TROUBLE, 'message') for part in re.findall(r'`([^`]+)`', row[0])]
    assert len(quoted) > 60
    assert not [(message, part) for message, part in quoted if part not in texts]
    assert 'no camera ever said this' not in texts


def test_every_message_has_a_cause_and_something_to_do() -> None:
    for row in rows(TROUBLE, 'message') + rows(TROUBLE, 'symptom'):
        assert len(row) == 3 and all(row), row


def test_every_reason_for_a_loss_is_explained() -> None:
    text = read(TROUBLE) + read(REPO / 'README.md')
    assert not [reason for reason in LOSS_REASONS if reason not in text and reason not in ('camera error', 'other')]


# --- the Raspberry Pi's page

def test_the_table_of_controls_is_the_code() -> None:
    common = [name for row in rows(PI, 'control') for name in re.findall(r'`(\w+)`', row[0])]
    assert common == [*COMMON, 'warm_up_s', 'freeze', 'buffer_count', 'sensor_mode']
    told = {row[0].strip('`'): (row[2], row[3]) for row in rows(PI, 'control')}
    legacy, libcamera = wishes({}, 30, False, 'camera'), read_own({}, 'camera')
    assert told['warm_up_s'] == (f'{legacy.warm_up_s:g}', f'{libcamera.warm_up_s:g}')
    assert told['freeze'] == (str(legacy.freeze), str(libcamera.freeze))
    assert told['buffer_count'] == ('none', str(libcamera.buffer_count))


def test_the_legacy_controls_that_it_names_exist() -> None:
    sentence = re.search(r'Beside them the legacy stack takes (.*?) and more', read(PI), re.DOTALL)
    assert sentence is not None
    named = re.findall(r'`(\w+)`', sentence.group(1))
    assert named and set(named) <= set(NATIVE)


def test_what_is_installed_by_hand_is_what_setup_requires() -> None:
    by_hand = re.search(r'pip install (tifffile .*)\n.*--no-deps', read(PI))
    assert by_hand is not None
    required = re.findall(r"^ {8}f?'([\w-]+)>=", read(REPO / 'setup.py').split('extras_require')[0], re.MULTILINE)
    from_the_system = {'numpy', 'opencv-contrib-python'}
    assert set(by_hand.group(1).split()) == set(required) - from_the_system - {'zlib-ng'}


def test_the_starting_settings_of_a_stereopi_are_everywhere_the_same() -> None:
    in_script = read(REPO / 'examples' / 'stereopi.py')
    for setting in ('x_resolution=1280', 'y_resolution=480', 'scale_factor=0.3', 'framerate=25', 'stereo=True'):
        assert setting in in_script and setting in read(REPO / 'README.md')
    line = next(line for line in command_lines(read(PI)) if 'stereo.tif' in line)
    params = context_of(line).params
    given = tuple(params[name] for name in ('size', 'scale_factor', 'framerate', 'stereo'))
    assert given == ('1280x480', 0.3, 25.0, True)

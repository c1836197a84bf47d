"""How a notebook shows a recording: whole, escaped, small, whatever is wrong with the file."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Dict, List, Tuple

import cv2
import numpy as np
import pytest
import tifffile
from recording_tools import recorder
from repair_kit import PAGES, cut_off, hurt, spans, write

from ProcessedPiRecorder import Recording, open_recording
from ProcessedPiRecorder.reading import html

GREEN, RED, AMBER, GRAY = (html._COLOURS[name] for name in ('yes', 'no', 'unknown', ''))


class Page(HTMLParser):
    """What a browser would make of it; fails where tags are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: List[str] = []
        self.images: List[np.ndarray] = []
        self.text = ''
        self.styles: List[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Any]]) -> None:
        found: Dict[str, Any] = dict(attrs)
        assert tag in ('div', 'ul', 'li', 'table', 'tr', 'th', 'td', 'img')
        self.styles.append(found.get('style') or '')
        if tag == 'img':
            data = base64.b64decode(found['src'].split(',', 1)[1], validate=True)
            self.images.append(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
        else:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + '\n'


def shown(recording: Recording) -> Page:
    text = recording._repr_html_()
    assert len(text) < 100_000
    return Page(text)


def test_a_complete_recording_is_shown_in_green(tmp_path: Path) -> None:
    recorder(tmp_path / 'trial.tif', metadata={'animal': 'M<12>'}).recordVid()
    with open_recording(tmp_path / 'trial.tif') as rec:
        page = shown(rec)
    assert f'border-left:4px solid {GREEN}' in page.styles[0]
    for text in ('trial.tif', 'complete: yes', '30 of 96 × 64, bgr, uint8', '0.290 s, 100.00 Hz', 'animal: M<12>'):
        assert text in page.text
    assert len(page.images) == 6 and page.images[0].shape == (64, 96, 3)


def test_the_pictures_are_the_frames(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif')
    with open_recording(tmp_path / 'a.tif') as rec:
        page = shown(rec)
        numbers = [0, 5, 11, 17, 23, 29]
        for number, image in zip(numbers, page.images):
            np.testing.assert_array_equal(image, rec[number])
        assert re.findall(r'^(\d+)$', page.text, re.MULTILINE) == [str(number) for number in numbers]


def test_an_incomplete_one_is_shown_in_red_with_the_reasons(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif')
    with open_recording(tmp_path / 'a.tif') as rec:
        page = shown(rec)
    assert RED in page.styles[0] and 'complete: no (3 lost)' in page.text and '3 frames lost' in page.text


def test_one_without_a_verdict_is_shown_in_gray_with_the_notes(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif', split_frames=7)
    (tmp_path / 'a_002.tif').unlink()
    tifffile.imwrite(tmp_path / 'b.tif', np.zeros((5, 20, 30), np.uint8))
    for name, told in (('a.tif', 'a_002.tif missing'), ('b.tif', 'was not made by ProcessedPiRecorder')):
        with open_recording(tmp_path / name) as rec:
            page = shown(rec)
        assert (GRAY in page.styles[0]) == (name == 'b.tif') and told in page.text


def test_one_with_missing_files_is_not_green(tmp_path: Path) -> None:
    """Whatever its report says of all that was recorded."""
    write(tmp_path / 'a.tif', split_frames=7, lost=())
    (tmp_path / 'a_002.tif').unlink()
    with open_recording(tmp_path / 'a.tif') as rec:
        assert rec.report is not None and rec.report.complete == 'yes'
        page = shown(rec)
    assert not any(GREEN in style for style in page.styles) and '1 of its files missing' in page.text


def test_unfinished_ones_too(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif')
    cut_off(tmp_path / 'a.tif', keep=3)
    with open_recording(tmp_path / 'a.tif') as rec:
        page = shown(rec)
    assert GRAY in page.styles[0] and 'unfinished, no verdict' in page.text and len(page.images) == 3


def test_a_damaged_page_is_told_in_its_place(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif')
    span = spans(tmp_path / 'a.tif')[11]
    hurt(tmp_path / 'a.tif', span.strip + 9, span.strip + 30)
    with open_recording(tmp_path / 'a.tif') as rec:
        page = shown(rec)
    assert len(page.images) == 5 and 'page 11 of' in page.text


def test_a_closed_one_and_one_that_went_away(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif')
    with open_recording(tmp_path / 'a.tif') as rec:
        pass
    (tmp_path / 'a.tif').unlink()
    page = shown(rec)
    assert not page.images and 'is closed' in page.text and 'now gone' in page.text


def test_a_report_that_cannot_be_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / 'a.tif')
    with open_recording(tmp_path / 'a.tif') as rec:
        rec._source._parts[-1].annotations['report']['complete'] = '<b>'     # type: ignore[attr-defined]
        page = shown(rec)
    assert GRAY in page.styles[0] and "complete='<b>'" in page.text and 'no verdict that can be trusted' in page.text


def test_whatever_people_write_is_text(tmp_path: Path) -> None:
    path = tmp_path / '<script>alert("1")&.tif'
    nasty = {'<img src=x onerror=alert(1)>': '</div><script>' + 'x' * 5000, 'ü': '\ud800'}
    rec = recorder(path, metadata=nasty, controls={'frames': 3})
    rec.recordVid()
    with open_recording(path) as opened:
        page = shown(opened)             # no tags but ours: Page says so
    assert '<script>alert("1")&.tif' in page.text and '…' in page.text


def test_many_reasons_are_summed_up() -> None:
    text = html._list([f'reason {number}' for number in range(50)])
    assert text.count('<li>') == html.MOST_LINES and 'and 43 more' in text
    assert html._list(()) == ''


@pytest.mark.parametrize('shape, dtype', [
    ((480, 1280, 3), 'u1'), ((480, 1280), 'u1'), ((1, 3000), 'u1'), ((3000, 1), 'u1'), ((1, 1), 'u1'), ((90, 70), 'u2'),
    ((90, 70, 3), 'f4'), ((90, 70), 'f8'), ((90, 70), '?'), ((90, 70), 'i4'), ((90, 70), 'c8')])
def test_pictures_are_small_whatever_they_are_made_of(shape: Any, dtype: str) -> None:
    frame = np.random.default_rng(0).integers(0, 250, shape).astype(dtype)
    data = html._png(frame)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert len(data) <= html.MOST_BYTES and image.dtype == np.uint8
    assert image.shape[0] <= html.HEIGHT and image.shape[1] <= html.WIDTH and (image.ndim == 3) == (len(shape) == 3)


def test_values_that_are_no_numbers_are_shown() -> None:
    frame = np.array([[np.nan, np.inf], [1.0, -3.0]])
    assert html._eight_bits(frame).tolist() == [[191, 191], [255, 0]]
    assert html._eight_bits(np.full((2, 2), 7.0)).tolist() == [[0, 0], [0, 0]]


def test_it_has_as_many_pictures_as_frames_if_there_are_few(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif', 2, lost=())
    with open_recording(tmp_path / 'a.tif') as rec:
        assert len(shown(rec).images) == 2
    assert PAGES > html.THUMBNAILS

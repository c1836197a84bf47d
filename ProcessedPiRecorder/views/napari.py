"""A recording in napari: its frames, and what the callback found on the one that is shown.

Nothing is loaded before it is looked at, so that a million frames open at once.
"""

from __future__ import annotations

import os
from typing import Any, Callable, List, Optional, Tuple, Union

import numpy as np

from ..errors import DisplayError, RecordingFileError
from ..extras import require
from ..reading import Recording, opened
from ..screen import session_problem
from .drawing import find_boxes, find_points, shades
from .facts import FactsOf

__all__ = ['LazyFrames', 'add_recording', 'view_in_napari']

PathLike = Union[str, 'os.PathLike[str]']

WITHOUT_SCREEN = ('offscreen', 'minimal')      # platforms of Qt that need none
PLUGINS = 'QT_QPA_PLATFORM_PLUGIN_PATH'
EDGE = '#3cdc3c'
TEXT_HEIGHT = 70               # pixels: three lines
PURPOSE = 'ppr view --napari'


def view_in_napari(recording: Union[Recording, PathLike], *, results: Optional[PathLike] = None) -> None:
    """Show a recording in napari; blocks until its window is closed. Call it in the main thread.

    results: others than those beside it, when a path is passed.

    Raises MissingExtraError without napari, DisplayError without a screen, RecordingFileError when the recording
    cannot be opened.
    """
    napari = require('napari', 'napari', PURPOSE)
    problem = None if os.environ.get('QT_QPA_PLATFORM') in WITHOUT_SCREEN else session_problem()
    if problem is not None:
        raise DisplayError(f'{problem}, or draw it with "ppr sheet" or "ppr plot" instead')
    _leave_qt_to_napari()
    with opened(recording, results) as rec:
        viewer = napari.Viewer(title=f'{rec.path.name} - {rec.verdict}')
        add_recording(viewer, rec)
        napari.run()


def add_recording(viewer: Any, recording: Recording, tell: Optional[Callable[[str], None]] = None) -> None:
    """Add a recording to a viewer of napari, as three layers: its frames, boxes and points of the one that is shown.

    Number, time, status and further results of that frame are told to ``tell``; None: in a line below the frames.
    Keep the recording open as long as the viewer.
    """
    show_text = tell or _line_below(viewer)
    colour = recording.pixel_format == 'bgr'
    frames = LazyFrames(recording)
    limits = {} if colour and recording.dtype == np.uint8 else {'contrast_limits': _limits(recording)}
    shown = viewer.add_image(frames, name=recording.path.name, rgb=colour, multiscale=False, **limits)
    viewer.dims.axis_labels = ('page', 'y', 'x')
    boxes = viewer.add_shapes(name='boxes', ndim=2, edge_color=EDGE, face_color='transparent', edge_width=2)
    points = viewer.add_points(name='points', ndim=2, size=8, symbol='cross', face_color=EDGE)
    viewer.layers.selection.active = shown
    facts_of = FactsOf(recording)

    def show_results(_: Any = None) -> None:
        page = int(viewer.dims.current_step[0])
        facts = facts_of.of(page)
        found = [result.result for result in facts.results]
        _set_boxes(boxes, [corners for result in found for corners in _corners(result)])
        points.data = np.array([(point.y, point.x) for result in found for point in find_points(result)],
                               float).reshape(-1, 2)
        rows = ['   '.join(facts.place), '   '.join(notice.text for notice in facts.notices), facts.results_text]
        show_text('\n'.join(filter(None, rows)))

    viewer.dims.events.current_step.connect(show_results)
    viewer.dims.set_current_step(0, 0)
    show_results()


class LazyFrames:
    """A recording as napari takes arrays: read when it is sliced, colour as RGB.

    A page that cannot be read is black, and napari tells why.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.shape, self.dtype, self.ndim = recording.shape, recording.dtype, recording.ndim
        self.size = int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        keys = key if isinstance(key, tuple) else (key,)
        frames, inside = keys[0], keys[1:]
        if isinstance(frames, (int, np.integer)):
            pixels = self._frame(int(frames))
            return pixels[inside] if inside else pixels
        pages = np.arange(len(self))[frames]
        return np.stack([self._frame(int(page)) for page in pages])[(slice(None), *inside)]

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> np.ndarray:
        pixels = np.asarray(self._recording)
        pixels = pixels[..., ::-1] if self._recording.pixel_format == 'bgr' else pixels
        return pixels if dtype is None else pixels.astype(dtype)

    def _frame(self, page: int) -> np.ndarray:
        try:
            pixels = np.asarray(self._recording.read(range(len(self))[page]))
        except RecordingFileError as error:
            notifications = require('napari.utils.notifications', 'napari', PURPOSE)
            notifications.show_warning(str(error))
            return np.zeros(self.shape[1:], self.dtype)
        return pixels[..., ::-1] if self._recording.pixel_format == 'bgr' else pixels


def _line_below(viewer: Any) -> Callable[[str], None]:
    """A place for text below the frames, where it covers nothing; returns what shows a text there."""
    label = require('qtpy.QtWidgets', 'napari', PURPOSE).QLabel()
    label.setWordWrap(True)
    label.setMargin(6)
    label.setMinimumHeight(TEXT_HEIGHT)
    viewer.window.add_dock_widget(label, name='frame', area='bottom')
    return label.setText


def _corners(result: Any) -> List[np.ndarray]:
    """Of each box, its corners as napari has them: (y, x), at the edges of pixels, whose centres are whole numbers."""
    return [np.array([(y, x) for y, x in ((box.y, box.x), (box.y, box.x + box.w), (box.y + box.h, box.x + box.w),
                                          (box.y + box.h, box.x))], float) - 0.5 for box in find_boxes(result)]


def _set_boxes(layer: Any, boxes: List[np.ndarray]) -> None:
    layer.data = []
    if boxes:
        layer.add_rectangles(boxes, edge_color=EDGE, face_color='transparent', edge_width=2)


def _limits(recording: Recording) -> Tuple[float, float]:
    if recording.dtype == np.uint8:
        return 0.0, 255.0
    frames = LazyFrames(recording)
    darkest, brightest = shades(frames[page] for page in (0, len(recording) // 2, len(recording) - 1))
    return darkest, max(brightest, darkest + 1e-9)


def _leave_qt_to_napari() -> None:
    """OpenCV points Qt to plugins of its own, which the Qt below napari cannot load and ends the process for."""
    if 'cv2' in os.environ.get(PLUGINS, ''):
        del os.environ[PLUGINS]

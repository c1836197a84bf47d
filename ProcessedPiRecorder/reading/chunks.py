"""A recording as a Dask array: blocks of whole frames, read where and when they are computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from ..errors import SettingsError
from ..extras import require
from .kept import Opening, kept_open, opening_of

if TYPE_CHECKING:
    from .recording import Recording

__all__ = ['as_dask']

CHUNK_BYTES = 1 << 26


def as_dask(recording: Recording, chunk: Optional[int] = None) -> Any:
    """See :meth:`Recording.to_dask`."""
    dask_array = require('dask.array', 'cluster', 'recording.to_dask()')
    frame_shape = recording.shape[1:]
    if chunk is None:
        chunk = max(CHUNK_BYTES // max(recording.nbytes // len(recording), 1), 1)
    if isinstance(chunk, bool) or not isinstance(chunk, (int, np.integer)) or chunk < 1:
        raise SettingsError(f'chunk={chunk!r} is no number of frames; pass 1 or more, or None for about 64 MB of them')
    pages = dask_array.arange(len(recording), chunks=int(chunk))
    return pages.map_blocks(
        _read_block, opening_of(recording), dtype=recording.dtype, new_axis=list(range(1, recording.ndim)),
        chunks=(pages.chunks[0], *((length,) for length in frame_shape)), name=None,
        meta=np.empty((0,) * recording.ndim, recording.dtype))


def _read_block(pages: np.ndarray, opening: Opening) -> np.ndarray:
    with kept_open(opening) as recording:
        block = np.empty((len(pages), *recording.shape[1:]), recording.dtype)
        for place, page in enumerate(pages.tolist()):
            recording.read(page, block[place])
    return block

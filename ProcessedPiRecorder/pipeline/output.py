"""Where recorded frames go: the file and the frame log; and what is to be told of them when they break.

The hub decides what is recorded, and in which order. From here on it is the disk's affair.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from ..cameras.base import Granted
from ..errors import RecordingFileError
from ..recordings.bigtiff import file_error
from ..recordings.effort import Room
from ..recordings.framelog import FrameLog
from ..recordings.part import PartInfo
from ..recordings.results import ResultsFile, results_path
from ..recordings.salvage import readable
from ..recordings.sink import PageJob, PageSink
from ..report import Report
from .channel import Channel, RemoteError
from .disk import FileIdentity, make_space_watch
from .finisher import OwnFile
from .ledger import Ledger
from .plan import Plan
from .ring import Ring

__all__ = ['Output']


class Output:
    """One recording's file and log. All but ``on_error`` in the hub's thread.

    Raises RecordingFileError when the file cannot be created.

    Args:
        room: of the ring; from any thread.
        on_written: gets the pages that the kernel has taken; from the sink's thread.
        wake: has the hub look at ``error``; from any thread.

    Attributes:
        sink: None with write_vid=False.
        error: why nothing more can be written. logs: whether there is a frame log to write.
    """

    def __init__(self, channel: Channel, plan: Plan, granted: Granted, ring: Ring, ledger: Ledger,
                 room: Callable[[], Room], on_written: Callable[[List[PageJob]], None],
                 wake: Callable[[], None]) -> None:
        self._channel, self._plan, self._granted, self._ring, self._ledger = channel, plan, granted, ring, ledger
        self._settings = plan.settings
        self._wake = wake
        self.error: Optional[BaseException] = None
        self._published = False
        self._identity: Optional[FileIdentity] = None     # of the file that we publish
        self._log: Optional[FrameLog] = None
        self.sink: Optional[PageSink] = None
        if self._settings.write_vid:
            self.sink = self._make_sink(room, on_written)
            channel.send('created', OwnFile.at(self.sink.current_path))

    def _make_sink(self, room: Callable[[], Room], on_written: Callable[[List[PageJob]], None]) -> PageSink:
        settings, granted, shape = self._settings, self._granted, self._ring.layout.shape
        about = self._description()
        space = make_space_watch(self._channel, self._plan, granted, self._ring, self._ledger, about)
        return PageSink(self._path, height=shape[0], width=shape[1], pixel_format=granted.pixel_format,
                        level=settings.tif_compression, overwrite=settings.overwrite,
                        split_frames=settings.split_frames, room=room, waits=granted.waits,
                        framerate=granted.framerate, on_written=on_written, on_error=self.on_error, about=about,
                        sync_interval_s=settings.sync_interval, space=space)

    def publish(self) -> None:
        """The first frame is here, so everything has started well: now the file may take its name."""
        settings = self._settings
        try:
            if self._plan.tif_path is not None:
                # Also without a callback: an older recording's results must not be taken for this one's.
                ResultsFile(results_path(self._plan.tif_path), settings.overwrite).prepare()
            if self.sink is not None:      # last, so that an old file goes only when nothing else can go wrong
                self.sink.publish()
                self._identity = FileIdentity(self._path)
            self._published = True
        except RecordingFileError as error:
            self.on_error(error)
        except OSError as error:           # it was taken away again, or the disk has gone, in this very moment
            self.on_error(file_error(self._path, 'cannot be opened again', error))
        if settings.log_file is not None:
            try:
                self._log = FrameLog(settings.log_file, settings.overwrite)
            except RecordingFileError as error:
                self._lose_log(error)

    def discard(self) -> None:
        """The start failed: leave nothing behind."""
        if self.sink is not None:
            self.sink.discard()

    def on_error(self, error: BaseException) -> None:
        """From any thread: nothing more can be written."""
        if self.error is None:
            self.error = error
            self._channel.send('file_error', RemoteError.of(error, 'RecordingFileError'))
            self._ledger.note_error(str(error))
            self._ledger.file_error = str(error)
            self._wake()

    # -- the frame log

    @property
    def logs(self) -> bool:
        return self._log is not None

    def log(self, job: PageJob) -> None:
        """A frame has gone its way."""
        if self._log is not None:
            try:
                self._log.add(job)
            except RecordingFileError as error:
                self._lose_log(error)

    def _lose_log(self, error: RecordingFileError) -> None:
        """The frame log is a convenience: its trouble does not end a recording."""
        self._log = None
        self._channel.send('warn', ('RecorderWarning', f'the frame log ends here: {error}'))

    # -- the end

    def finish(self, report: Callable[[List[str]], Report]) -> List[str]:
        """Finish the file; the paths of all files. report: makes the report with these names of files. Blocks."""
        files: List[str] = []
        if self.sink is not None:
            try:
                if self._published and self._ledger.captured:
                    files = [str(path) for path in self.sink.finish(lambda part: self._annotations(part, report))]
                else:
                    self.sink.discard()
            except Exception as error:
                self.on_error(error)
        if self._log is not None:
            try:
                self._log.close()
            except RecordingFileError as error:
                self._lose_log(error)
        if self._published and self.sink is not None:
            files = self._look_again(self.sink, files)
        return files

    def _look_again(self, sink: PageSink, files: List[str]) -> List[str]:
        """What we have written must still be what stands under its name; after an error, see how much that is."""
        identity, where = self._identity, None
        if identity is not None:
            problem, where = identity.problem()
            identity.close()
            if problem:
                self.on_error(RecordingFileError(problem))
        if self.error is None:
            return files
        self._ledger.written, files = readable(where) if where is not None else (0, [])
        left = f'; {sink.unfinished[0]} could not be finished: it opens as it is, and  ppr repair  finishes it' \
            if sink.unfinished and files else ''
        if isinstance(self.error, RecordingFileError):
            self._channel.send('file_error', RemoteError('RecordingFileError', (
                f'{self.error}. {self._ledger.written:,} of {self._ledger.captured:,} captured frames are in the '
                f'file{left}'), ''))
        return files

    def _description(self) -> Dict[str, Any]:
        """What is known from the start."""
        return {'settings': self._settings.as_dict(), 'metadata': dict(self._settings.metadata),
                'camera': dataclasses.asdict(self._granted)}

    def _annotations(self, part: PartInfo, report: Callable[[List[str]], Report]) -> Dict[str, Any]:
        assert self.sink is not None
        # A hub that has failed had not yet heard of the last pages.
        self._ledger.written = self.sink.totals.pages
        # The names only: a recording is still itself when its folder has moved.
        files = [Path(path).name for path in part.files]
        return {'report': report(files).as_dict(), **self._description()}

    @property
    def _path(self) -> Path:
        assert self._plan.tif_path is not None
        return self._plan.tif_path

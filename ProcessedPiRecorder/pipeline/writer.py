"""The writer process: the hub's thread, the threads that compress, write and sync, and under '2Proc' the callback's."""

from __future__ import annotations

import os
import select
import threading
from typing import List, Optional

from .callback import CallbackRunner
from .channel import Channel, RemoteError
from .hub import Hub, WriterArguments
from .plan import FLUSH_TIMEOUT_S, Plan
from .ring import Ring

__all__ = ['WriterArguments', 'writer_main']


def _start_inner_callback(channel: Channel, plan: Plan, ring: Ring,
                          arguments: WriterArguments) -> Optional[threading.Thread]:
    """'2Proc': the callback in a thread of this process."""
    if arguments.inner is None:
        return None
    runner = CallbackRunner(plan, ring, arguments.inner, channel.send)
    entered_read, entered_write = os.pipe()
    failure: List[BaseException] = []

    def live() -> None:
        try:
            runner.enter()
        except BaseException as error:
            failure.append(error)
            return
        finally:
            os.close(entered_write)
        try:
            runner.run()
        except BaseException as error:
            channel.send('cb_error', RemoteError.of(error, 'CallbackError', "the callback's thread has ended: "))

    thread = threading.Thread(target=live, name='ppr-callback', daemon=True)
    thread.start()
    poll = select.poll()
    for fd in (entered_read, channel.fileno()):
        poll.register(fd, select.POLLIN)
    # Entering may take minutes (a model is loaded): the keeper's word to give up must still be heard.
    told = [fd for fd, _ in poll.poll()]
    os.close(entered_read)
    if failure:
        raise failure[0]
    return thread if entered_read in told else None


def writer_main(channel: Channel, plan: Plan, arguments: WriterArguments) -> int:
    """Entry of the writer process."""
    if plan.request.pixel_format == 'bgr':
        # While the camera is opened: it takes a tenth of a second.
        import cv2

        if arguments.inner is None:
            cv2.setNumThreads(0)           # pages are spread over the cores already; a callback's thread keeps its own
    message = channel.receive()
    if message is None or message[0] != 'ring':
        return 0
    layout, granted = message[1]
    ring = Ring(message[2][0], layout, at_once=True)
    try:
        hub = Hub(channel, plan, granted, ring, arguments)
    except Exception as error:
        channel.send('error', RemoteError.of(error, 'RecordingFileError', 'the file could not be started: '))
        return 1
    try:
        inner = _start_inner_callback(channel, plan, ring, arguments)
    except BaseException as error:
        hub.discard()
        channel.send('error', RemoteError.of(error, 'CallbackError', "the callback's __enter__ failed: "))
        return 1
    if inner is not None or arguments.inner is None:
        channel.send('ready', None)
    message = channel.receive()
    if message is None or message[0] != 'go':
        hub.discard()
        return 0
    if arguments.offers_fd >= 0:
        hub.connect(arguments.offers_fd, arguments.answers_fd, 1)
    try:
        hub.run()
    except Exception as error:
        channel.send('crashed', RemoteError.of(error, 'ProcessDiedError', 'the writer process failed: '))
        hub.give_up(error)
    hub.finish()
    if inner is not None and not hub.callback_hangs:
        inner.join(FLUSH_TIMEOUT_S)        # it hands over the results that it still holds
    return 0

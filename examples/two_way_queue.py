"""Change a threshold while the recording runs. usage: two_way_queue.py [CAMERA]

The cb_queue has two directions: what the callback puts, the script gets, and the other way round.
"""

import queue
import sys

from ProcessedPiRecorder import ProcessedPiRecorder as ppr

camera = sys.argv[1] if len(sys.argv) > 1 else 'auto'


class BrightPart:
    """Measures how much of the picture is brighter than a threshold that the script may change."""

    threshold = 100

    def __call__(self, buffer, cb_queue):
        try:
            self.threshold = cb_queue.get_nowait()
        except queue.Empty:
            pass
        frame = buffer[-1]
        cb_queue.put((frame.index, self.threshold, float((frame > self.threshold).mean())))


rec = ppr('bright.tif', rec_length=5, callback=BrightPart(), blocking=False, camera=camera, overwrite=True)
with rec:
    rec.recordVid()
    for index, threshold, part in rec.cb_queue:
        if part > 0.25 and index % 10 == 0:
            rec.cb_queue.put(threshold + 10)
print(f'threshold at the end: {threshold}, bright part: {part:.2f}')

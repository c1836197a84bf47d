"""Record what the callback makes of the frames: here, what has moved. usage: processed_frames.py [CAMERA]

What a callback returns is what is recorded. As long as the buffer is not full it returns None, and these frames are
recorded as they came, so that none is missing.
"""

import sys

import cv2

from ProcessedPiRecorder import ProcessedPiRecorder as ppr

camera = sys.argv[1] if len(sys.argv) > 1 else 'auto'
BUFFER = 5


def what_moved(buffer, cb_queue):
    if len(buffer) < BUFFER:
        return None
    difference = cv2.absdiff(buffer[-1], buffer[0])
    cb_queue.put(float(difference.mean()))
    return difference


rec = ppr('moved.tif', rec_length=5, callback=what_moved, cb_type='3Proc', buffer_length=BUFFER, camera=camera,
          overwrite=True)
report = rec.recordVid()
print(f'{report.returned} frames recorded as returned, {report.captured - report.returned} as they came')

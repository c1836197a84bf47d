"""The two eyes of a stereo camera, and how far they are shifted. usage: stereo_halves.py [CAMERA]

A StereoPi gives both eyes side by side in one frame; `left` and `right` are its halves, without a copy.
"""

import sys

import cv2

from ProcessedPiRecorder import ProcessedPiRecorder as ppr
from ProcessedPiRecorder import left, right

camera = sys.argv[1] if len(sys.argv) > 1 else 'auto'


def shift_between_eyes(buffer, cb_queue):
    eyes = [cv2.cvtColor(eye, cv2.COLOR_BGR2GRAY).astype('float32') for eye in (left(buffer[-1]), right(buffer[-1]))]
    (across, down), sureness = cv2.phaseCorrelate(*eyes, cv2.createHanningWindow(eyes[0].shape[::-1], cv2.CV_32F))
    cb_queue.put({'shift_px': across, 'sureness': sureness})


rec = ppr('stereo.tif', x_resolution=1280, y_resolution=480, scale_factor=0.3, framerate=25, rec_length=5,
          stereo=True, callback=shift_between_eyes, blocking=False, camera=camera, overwrite=True)
with rec:
    rec.recordVid()
    shifts = sorted(result['shift_px'] for result in rec.cb_queue)
print(f'median shift between the eyes: {shifts[len(shifts) // 2]:.1f} pixels in {len(shifts)} frames')

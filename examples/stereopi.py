"""Record a StereoPi, both eyes side by side, and see in which eye something moves. usage: stereopi.py [CAMERA]

1280 × 480 sensor pixels for both eyes together, recorded at 0.3 of that (384 × 144), at 25 Hz: good settings to start
from. Exposure and white balance settle for two seconds and then stay as they are, so that changes in the picture are
changes before the camera. The file bears the date and time, so no recording ever meets another one's file.
"""

import sys
from datetime import datetime

import cv2

from ProcessedPiRecorder import ProcessedPiRecorder as ppr
from ProcessedPiRecorder import left, right

camera = sys.argv[1] if len(sys.argv) > 1 else 'picamera'
MOVED = 3.0                              # mean change from frame to frame, of 255


def movement(buffer, cb_queue):
    if len(buffer) == 2:
        cb_queue.put([float(cv2.absdiff(eye(buffer[1]), eye(buffer[0])).mean()) for eye in (left, right)])


rec = ppr(datetime.now().strftime('stereopi-%Y%m%d-%H%M%S.tif'), x_resolution=1280, y_resolution=480, scale_factor=0.3,
          framerate=25, rec_length=60, stereo=True, display=False, callback=movement, cb_type='3Proc', buffer_length=2,
          blocking=False, camera=camera, metadata={'rig': 'StereoPi'},
          camera_controls={} if camera == 'synthetic' else {'warm_up_s': 2, 'freeze': True})
moved = {'left': 0, 'right': 0}
with rec:
    rec.recordVid()
    for changes in rec.cb_queue:         # ends when the recording has ended and everything is read
        for eye, change in zip(moved, changes):
            moved[eye] += change > MOVED
report = rec.report
print(f'complete: {report.complete}; {report.written} frames written, {report.lost} lost; '
      f'movement seen in {moved["left"]} frames by the left eye, in {moved["right"]} by the right one')
sys.exit(0 if report.complete == 'yes' else 1)

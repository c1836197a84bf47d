"""Measure distances while recording, with a calibrated stereo camera. usage: stereo_depth.py [CAMERA]

Needs `stereo.json`, which `stereo_calibrate.py` makes. Recorded is the left eye's picture, with the disparities beside
it: red is near, blue is far, black is unknown. Calibrated at the full resolution, recorded at 0.3 of it.
"""

import sys

from ProcessedPiRecorder import ProcessedPiRecorder as ppr
from ProcessedPiRecorder.callbacks.stereo import StereoCalibration, StereoDepth

camera = sys.argv[1] if len(sys.argv) > 1 else 'auto'
calibration = StereoCalibration.load('stereo.json').scaled_to((192, 144))

rec = ppr('depth.tif', x_resolution=1280, y_resolution=480, scale_factor=0.3, framerate=25, rec_length=10, stereo=True,
          callback=StereoDepth(calibration, near_mm=250, draw=True), cb_type='3Proc', blocking=False, camera=camera,
          camera_controls={'scene': 'chessboard'} if camera == 'synthetic' else {}, overwrite=True)
with rec:
    rec.recordVid()
    for result in rec.cb_queue:
        if result['known_part'] and result['index'] % 25 == 0:
            print(f'frame {result["index"]}: nearest {result["nearest_depth_mm"]:.0f} mm, '
                  f'median {result["median_depth_mm"]:.0f} mm, {result["known_part"]:.0%} known')

"""Calibrate a stereo camera with a printed chessboard. usage: stereo_calibrate.py [CAMERA | RECORDING.tif]

Print a chessboard of 10 × 7 squares with a white rim, measure its squares, and glue it onto something flat. For twenty
seconds, hold it before both eyes: near and far, in the middle and in the corners, tilted to all sides, at rest now and
then. Counted are the inner corners, where four squares meet: 9 × 6. Good calibrations fit to less than half a pixel.
"""

import sys

from ProcessedPiRecorder import ProcessedPiRecorder as ppr
from ProcessedPiRecorder.callbacks.stereo import calibrate
from ProcessedPiRecorder.recordings.reader import RecordingFile

source = sys.argv[1] if len(sys.argv) > 1 else 'auto'

if not source.endswith('.tif'):
    rec = ppr('chessboard.tif', x_resolution=1280, y_resolution=480, framerate=25, rec_length=20, stereo=True,
              camera=source, camera_controls={'scene': 'chessboard'} if source == 'synthetic' else {}, overwrite=True)
    rec.recordVid()
    source = 'chessboard.tif'

with RecordingFile(source) as recording:
    some = range(0, len(recording), max(1, len(recording) // 40))
    calibration = calibrate((recording.read_page(page) for page in some), board=(9, 6), square_mm=25)
calibration.save('stereo.json')
print(f'{calibration.boards} pairs, {calibration.rms_px:.2f} pixels rms, '
      f'baseline {calibration.baseline_mm:.1f} mm; see stereo.json')

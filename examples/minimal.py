"""Record ten seconds and say whether anything is missing. usage: minimal.py [CAMERA]"""

import sys

from ProcessedPiRecorder import ProcessedPiRecorder as ppr

camera = sys.argv[1] if len(sys.argv) > 1 else 'auto'

rec = ppr('minimal.tif', 640, 480, framerate=30, rec_length=10, camera=camera, overwrite=True)
report = rec.recordVid()
print(f'complete: {report.complete}; {report.written} frames written, {report.lost} lost')

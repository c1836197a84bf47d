"""Find faces while recording, and act on them at once. usage: face_detection.py [CAMERA]"""

import sys

from ProcessedPiRecorder import ProcessedPiRecorder as ppr
from ProcessedPiRecorder.callbacks.faces import FaceDetector

camera = sys.argv[1] if len(sys.argv) > 1 else 'auto'

rec = ppr('faces.tif', rec_length=10, callback=FaceDetector(draw=True), cb_type='3Proc', blocking=False,
          camera=camera, overwrite=True)
with rec:
    rec.recordVid()
    seen = 0
    for result in rec.cb_queue:          # ends when the recording has ended and everything is read
        if len(result['faces']) != seen:
            seen = len(result['faces'])
            print(f'frame {result["index"]}: {seen} faces')
print(f'{rec.report.results} results in faces.results.jsonl')

"""Run a video file through the same callback as a camera, every frame, at its own rate. usage: video_file.py VIDEO"""

import sys

from ProcessedPiRecorder import ProcessedPiRecorder as ppr
from ProcessedPiRecorder.callbacks.faces import find_faces

rec = ppr('from_video.tif', callback=find_faces, camera=sys.argv[1], overwrite=True)
report = rec.recordVid()                 # ends with the film
with_faces = sum(1 for result in rec.cb_queue if result['faces'])
print(f'faces in {with_faces} of {report.processed} frames; complete: {report.complete}')

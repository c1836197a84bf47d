"""Follow body parts with DeepLabCut-Live while recording. usage: pose_deeplabcut.py [CAMERA] [EXPORTED_MODEL]

The network is loaded in the callback's own process, and its first, slow run is over before the first frame comes.
Without a model a stand-in with the same methods answers: it takes the centre and both ends of the largest coloured
thing for body parts. DeepLabCut-Live (`pip install deeplabcut-live`) takes frames in BGR order, as they are.
"""

import sys

import cv2
import numpy as np

from ProcessedPiRecorder import ProcessedPiRecorder as ppr
from ProcessedPiRecorder import open_recording

camera = sys.argv[1] if len(sys.argv) > 1 else 'auto'
model_path = sys.argv[2] if len(sys.argv) > 2 else None


class StandIn:
    """Answers as dlclive.DLCLive does: one row of x, y, likelihood for each body part."""

    def init_inference(self, frame):
        return self.get_pose(frame)

    def get_pose(self, frame):
        smooth = cv2.medianBlur(np.ascontiguousarray(frame), 5)
        colourful = smooth.max(axis=2) - smooth.min(axis=2)
        _, mask = cv2.threshold(colourful, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        if not outlines:
            return np.zeros((3, 3))
        points = max(outlines, key=cv2.contourArea)[:, 0].astype(float)
        along = points @ cv2.PCACompute(points, mean=None)[1][0]
        parts = np.array([points[along.argmin()], points.mean(axis=0), points[along.argmax()]])
        return np.column_stack([parts, [0.9, 0.99, 0.9]])


class Pose:
    """A callback: body parts of each frame, by name."""

    parts = ('snout', 'centre', 'tail')

    def __init__(self, model_path):
        self.model_path = model_path

    def __enter__(self):                            # in the process where it will run, before the first frame
        if self.model_path is None:
            self.model = StandIn()
        else:
            from dlclive import DLCLive
            self.model = DLCLive(self.model_path)
        self.model.init_inference(np.zeros((240, 320, 3), np.uint8))
        return self

    def __exit__(self, *exc_info):
        pass

    def __call__(self, buffer, cb_queue):
        pose = self.model.get_pose(buffer[-1])
        cb_queue.put({name: {'x': x, 'y': y, 'likelihood': likelihood}
                      for name, (x, y, likelihood) in zip(self.parts, pose.tolist())})


rec = ppr('pose.tif', 320, 240, framerate=30, rec_length=3, callback=Pose(model_path), cb_type='3Proc', camera=camera,
          overwrite=True)
report = rec.recordVid()
print(f'complete: {report.complete}; the body parts of {report.results} frames')

with open_recording('pose.tif') as recording:
    sure = [result for result in recording.results if result.result['centre']['likelihood'] > 0.6]
    way = np.array([[result.result['centre']['x'], result.result['centre']['y']] for result in sure])
    seconds = np.diff([result.time_ns for result in sure]) / 1e9
speed = np.hypot(*np.diff(way, axis=0).T) / seconds
print(f'median speed of the centre: {np.median(speed):.0f} pixels a second')

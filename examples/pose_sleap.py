"""Follow several animals with a SLEAP network while recording. usage: pose_sleap.py [CAMERA] [MODEL_FOLDER ...]

SLEAP's networks take a batch of frames and want them as they were trained: RGB or gray. Without a model a stand-in
answers in the same form: each coloured thing is an animal of two nodes.
"""

import sys

import cv2
import numpy as np

from ProcessedPiRecorder import ProcessedPiRecorder as ppr

camera = sys.argv[1] if len(sys.argv) > 1 else 'auto'
model_folders = sys.argv[2:]


class StandIn:
    """Answers as a SLEAP predictor's inference model does: 'instance_peaks' is (batch, animals, nodes, 2)."""

    def predict_on_batch(self, frames):
        smooth = cv2.medianBlur(np.ascontiguousarray(frames[0]), 5)
        colourful = smooth.max(axis=2) - smooth.min(axis=2)
        _, mask = cv2.threshold(colourful, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        boxes = [cv2.boundingRect(outline) for outline in outlines if cv2.contourArea(outline) > 500]
        peaks = [[(x, y + h / 2), (x + w, y + h / 2)] for x, y, w, h in boxes]
        return {'instance_peaks': np.array(peaks, float).reshape(1, -1, 2, 2)}


class Animals:
    """A callback: the nodes of every animal in each frame."""

    nodes = ('head', 'tail')

    def __init__(self, model_folders):
        self.model_folders = model_folders

    def __enter__(self):                            # in the process where it will run, before the first frame
        if self.model_folders:
            import sleap
            self.model = sleap.load_model(self.model_folders).inference_model
        else:
            self.model = StandIn()
        return self

    def __exit__(self, *exc_info):
        pass

    def __call__(self, buffer, cb_queue):
        frame = cv2.cvtColor(buffer[-1], cv2.COLOR_BGR2RGB)
        peaks = np.asarray(self.model.predict_on_batch(frame[np.newaxis])['instance_peaks'])[0]
        cb_queue.put([{name: {'x': x, 'y': y} for name, (x, y) in zip(self.nodes, animal) if x == x}   # nan: not seen
                      for animal in peaks.tolist()])


rec = ppr('animals.tif', 320, 240, framerate=30, rec_length=3, callback=Animals(model_folders), cb_type='3Proc',
          camera=camera, overwrite=True)
report = rec.recordVid()
print(f'complete: {report.complete}; {report.results} results in animals.results.jsonl')

"""Find coloured things, and draw a contact sheet of them. usage: find_shapes.py [CAMERA]"""

import sys

import cv2

from ProcessedPiRecorder import ProcessedPiRecorder as ppr
from ProcessedPiRecorder.views.sheet import write_contact_sheet

camera = sys.argv[1] if len(sys.argv) > 1 else 'auto'


def find_shapes(buffer, cb_queue):
    smooth = cv2.medianBlur(buffer[-1], 5)
    colourful = smooth.max(axis=2) - smooth.min(axis=2)
    _, mask = cv2.threshold(colourful, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    large = [outline for outline in outlines if cv2.contourArea(outline) > 500]
    cb_queue.put([dict(zip('xywh', cv2.boundingRect(outline))) for outline in large])


rec = ppr('shapes.tif', 320, 240, framerate=30, rec_length=6, callback=find_shapes, camera=camera, overwrite=True)
report = rec.recordVid()
write_contact_sheet('shapes.tif', 'shapes.png', frames=12)
print(f'{report.results} results; look at shapes.png')

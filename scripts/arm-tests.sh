#!/bin/sh
# The core tests on the processors of Raspberry Pis, emulated: a Debian 12 (what Raspberry Pi OS is made from) for
# arm64, with its Python 3.11 and PyPI's aarch64 wheels, under qemu's user mode, on the last commit.
#
# usage: arm-tests.sh [pytest option, tests/file.py ...]      default: the files named in $TESTS below
#        ARM=armhf arm-tests.sh          32 bits, with Debian's own numpy and OpenCV
#
# It shows what differs between processors: sizes, alignments, byte counts, wheels, missing system calls. It does not
# show their weaker memory order (the emulator runs on this machine's), their speed, or their pages of 16 KiB.
# It needs root (once, to unpack Debian) and the network (once); without them it says so and skips. What it fetches is
# kept under ~/.cache/ppr. The machine's own binfmt_misc is not touched.
set -eu

SUITE=bookworm
ARM=${ARM:-arm64}
repo=$(cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/ppr

say() { echo "arm-tests: $*"; }
skip() { say "SKIPPED: $*"; exit 0; }
die() { say "$*" >&2; exit 1; }
logged() { # what is done, then the command: its output is shown only when it fails
    what=$1; shift
    "$@" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; die "$what failed"; }
}

case $ARM in
    arm64)
        emulator=qemu-aarch64-static triplet=aarch64-linux-gnu class='\x02' machine='\xb7'
        # libgl1 and libglib: for OpenCV's wheel. gcc: for the simulated camera of the legacy stack.
        PACKAGES=python3,libgl1,libglib2.0-0,gcc,libc6-dev,libtiff-tools
        WHEELS='./ProcessedPiRecorder[test]'
        TESTS='test_ring_and_links test_losses test_stamps test_bigtiff test_bigtiff_crash test_encoder
               test_recording_file test_lane test_synthetic test_bad_input test_ground_truth test_losses_reported
               test_callback_lanes test_results test_cb_queue test_preconditions test_endings
               test_mmal_stub test_mmal_stub_behaviour' ;;
    armhf)
        emulator=qemu-arm-static triplet=arm-linux-gnueabihf class='\x01' machine='\x28'
        PACKAGES=python3,python3-numpy,python3-opencv,python3-psutil,python3-pil,libtiff-tools
        # The last tifffile for Debian's numpy; and all that these need, for nothing else is installed.
        WHEELS='cloudpickle>=2.0 tifffile==2024.8.30 pytest>=8.0 pluggy iniconfig packaging pygments
                pytest-timeout>=2.3 hypothesis>=6.100 sortedcontainers'
        TESTS='test_ring_and_links test_losses test_stamps test_bigtiff test_bigtiff_crash test_encoder
               test_recording_file test_lane test_synthetic test_ground_truth test_losses_reported' ;;
    *) die "ARM=$ARM is unknown; use arm64 or armhf" ;;
esac

# --- Inside: name spaces of its own, with the right to mount -----------------------------------------------------
enter() { # root work command ...
    root=$1 work=$2; shift 2
    mount --bind "$work" "$root/tmp"
    mount -t proc proc "$root/proc"
    if [ -n "${PPR_ARM_REGISTER:-}" ]; then
        # A user name space has a binfmt_misc of its own; F: the emulator is opened now, outside the chroot.
        mount -t binfmt_misc binfmt_misc "$root/proc/sys/fs/binfmt_misc"
        printf '%s' "$PPR_ARM_REGISTER" >"$root/proc/sys/fs/binfmt_misc/register"
    fi
    mount -t tmpfs -o mode=755,size=1m tmpfs "$root/dev"
    for node in null zero full random urandom tty; do
        touch "$root/dev/$node" && mount --bind "/dev/$node" "$root/dev/$node"
    done
    mkdir "$root/dev/shm"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    ln -s /proc/self/fd "$root/dev/fd"
    exec chroot "$root" "$@"
}
if [ -n "${PPR_ARM_INSIDE:-}" ]; then enter "$@"; fi

# --- What this machine must have ---------------------------------------------------------------------------------
[ "$(id -u)" = 0 ] || skip "it needs root, to unpack a Debian with its owners; run it as root to test for $ARM"
command -v apt-get >/dev/null || skip "it needs apt, so a Debian or a child of it"
need() { # package command
    command -v "$2" >/dev/null && return
    say "installing $1 ..."
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$1" >/dev/null ||
        skip "$1 is not here and cannot be installed (no network?)"
}
need qemu-user-static $emulator
emulator=$(command -v $emulator)

work=$(mktemp -d "${TMPDIR:-/tmp}/ppr-arm.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
cd "$work"
mkdir -p "$cache" ProcessedPiRecorder
git -c safe.directory='*' -C "$repo" archive HEAD | tar -C ProcessedPiRecorder -xf -

# --- The foreign Debian: unpacked, not configured, so nothing foreign runs for it -----------------------------------
key() { printf '%s' "$*" | cksum | cut -d ' ' -f 1; }
root=$cache/$SUITE-$ARM-$(key "$PACKAGES")
if [ ! -d "$root" ]; then
    need debootstrap debootstrap
    mirror=$(sh "$repo/scripts/debian-mirror.sh")
    [ -n "$mirror" ] || skip "no Debian archive is named in /etc/apt/sources.list*"
    /usr/lib/apt/apt-helper download-file "${mirror%/}/dists/$SUITE/main/binary-$ARM/Release" "$work/Release" \
        >/dev/null 2>&1 || skip "the Debian archive has no $ARM, or cannot be reached (no network?)"
    say "unpacking a Debian ($SUITE, $ARM) from ${mirror%/} ..."
    rm -rf --one-file-system "$root.part"
    logged debootstrap debootstrap --foreign --arch="$ARM" --variant=minbase --include="$PACKAGES" "$SUITE" \
        "$root.part" "${mirror%/}"
    for package in "$root.part"/var/cache/apt/archives/*.deb; do
        logged "unpacking $package" dpkg-deb --extract "$package" "$root.part"
    done
    rm -rf "$root.part/var/cache/apt/archives" "$root.part/debootstrap"
    # What the packages' configuration would have made of it, as far as the tests look.
    mkdir -p "$root.part/root" "$root.part/proc" "$root.part/dev" "$root.part/tmp"
    echo 'root:x:0:0:root:/root:/bin/sh' >"$root.part/etc/passwd"
    ln -sf gcc "$root.part/usr/bin/cc"
    for library in blas lapack; do
        ln -sf $library/lib$library.so.3 "$root.part/usr/lib/$triplet/lib$library.so.3"
    done
    mv "$root.part" "$root"
fi

# --- Its Python packages ---------------------------------------------------------------------------------------------
site=$root/usr/local/lib/python3.11/dist-packages
stamp=$site/.$(key "$WHEELS" "$(cat ProcessedPiRecorder/setup.py)" picamera)
if [ ! -e "$stamp" ]; then
    say "installing Python packages for $ARM ..."
    logged 'making a virtual environment' python3 -m venv "$work/venv"
    rm -rf "$site"
    mkdir -p "$site"
    platforms='--platform manylinux2014_aarch64'
    for version in 17 24 26 27 28 31 34 35 36; do platforms="$platforms --platform manylinux_2_${version}_aarch64"; done
    [ "$ARM" = arm64 ] || platforms='--no-deps --platform any'
    # shellcheck disable=SC2086  # several options, several wheels
    "$work/venv/bin/python" -m pip install --quiet --target "$site" --python-version 3.11 --implementation cp \
        --only-binary=:all: $platforms $WHEELS >"$work/log" 2>&1 ||
        { tail -n 5 "$work/log" >&2; skip "the packages cannot be had from PyPI (no network?)"; }
    # It has no wheel; its setup.py takes READTHEDOCS for leave to install where there is no Pi.
    READTHEDOCS=True logged 'installing picamera' "$work/venv/bin/python" -m pip install --quiet --no-deps \
        --target "$site" picamera==1.13
    # The code that is tested is the checkout's.
    rm -rf "$site/ProcessedPiRecorder" ProcessedPiRecorder/build ProcessedPiRecorder/*.egg-info
    touch "$stamp"
fi

# --- How foreign programs run here -----------------------------------------------------------------------------------
# Not only Python but whatever it starts: under qemu alone, the first exec of a child would end in "Exec format error".
zeros='\x00\x00\x00\x00\x00\x00\x00\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
register=":ppr-$ARM:M::\\x7fELF$class\\x01\\x01\\x00$zeros\\x02\\x00$machine\\x00:$mask:$emulator:F"
private='--mount --pid --fork --kill-child --propagation private'
own='--user --map-root-user'
can() { # shellcheck disable=SC2086
    unshare $private "$@" >/dev/null 2>&1; }

if chroot "$root" /bin/true 2>/dev/null && can true; then
    mechanism="this machine's own means"
# shellcheck disable=SC2086
elif can $own sh -c "mount -t proc proc '$root/proc' && mount -t binfmt_misc none '$root/proc/sys/fs/binfmt_misc'"; then
    mechanism="$(basename "$emulator"), in a name space of its own"
    private="$own $private"
    export PPR_ARM_REGISTER="$register"
else
    # proot would need neither, but under it children die that live everywhere else.
    skip "this machine does not run programs for $ARM, and cannot be taught for one run: that needs a kernel from 6.7 on \
with binfmt_misc, and the right to mount; or install qemu-user-static where binfmt_misc is mounted (qemu-user-binfmt)"
fi

inside() { # command ...: in the foreign root, its /tmp being $work; for subshells
    # shellcheck disable=SC2086
    exec env PPR_ARM_INSIDE=1 unshare $private sh "$repo/scripts/arm-tests.sh" "$root" "$work" "$@"
}
foreign=$(inside /usr/bin/env -i PATH=/usr/bin:/bin LANG=C.UTF-8 python3 -c \
    'import platform, subprocess, sys
print(subprocess.check_output([sys.executable, "-c", "import platform; print(platform.machine())"], text=True))' 2>"$work/log") || {
    cat "$work/log" >&2
    die "programs for $ARM do not run here, with $mechanism"
}

# --- The tests -------------------------------------------------------------------------------------------------------
# What asks for a machine that keeps up with a camera, or with its own disk, says nothing on an emulated one.
UNFAIR='test_callback_lanes.py::test_a_slow_callback_never_costs_a_frame_of_a_camera_that_does_not_wait
        test_callback_lanes.py::test_a_hundred_thousand_results_with_the_script_blocked
        test_bigtiff_crash.py::test_the_tape_is_a_real_recording'
case "$*" in
    *tests/*) ;;
    *)
        for test in $TESTS; do set -- "$@" "tests/$test.py"; done
        for test in $UNFAIR; do set -- "$@" --deselect "tests/$test"; done ;;
esac
say "the last commit on $foreign (by $mechanism) ..."
started=$(date +%s)
status=0
# shellcheck disable=SC2016  # for the shell inside
inside /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb PYTHONPATH=/tmp/ProcessedPiRecorder \
    sh -c 'cd /tmp/ProcessedPiRecorder && exec nice python3 -u -m pytest -p no:cacheprovider "$@"' sh \
    --timeout 300 -o faulthandler_timeout=330 "$@" </dev/null &
child=$!
# unshare heeds no gentler signal; all that it started goes with it.
trap 'kill -9 $child; exit 130' INT
trap 'kill -9 $child; exit 143' TERM HUP
wait $child || status=$?
say "ended with status $status after $(($(date +%s) - started)) s"
exit $status

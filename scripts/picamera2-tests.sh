#!/bin/sh
# The tests that need picamera2: the real, unmodified one over the real libcamera, with simulated sensors below them
# (tests/libcamera/README.md), on every Python that is here.
#
# usage: picamera2-tests.sh [pytest argument ...]      default: what of the tests is about picamera2
#        PYTHONS='3.11' picamera2-tests.sh             on these Pythons only
#        PPR_PICAMERA2_RUN=1 picamera2-tests.sh python-argument ...     Python itself instead of pytest
#
# libcamera is built from Debian's source, once. It and a virtual environment for each Python are kept under
# ~/.cache/ppr/picamera2. It needs root and the network for that, once; without them it says so and skips.
set -eu

TESTS='tests/test_libcamera_fixture.py tests/test_conformance.py tests/test_picamera2*.py'
PYTHONS=${PYTHONS:-3.9 3.11 3.13}
# The newest that were tried with this. Later ones than 0.3.30 say that they run on Python 3.9, and do not.
picamera2_for() { case $1 in 3.9) echo picamera2==0.3.30 ;; *) echo picamera2==0.3.38 ;; esac; }
# The version of libcamera that the sensors were written for, and the suites that are asked for it, in this order.
TRIED=0.7.2
SUITES='sid trixie-backports forky trixie'
PACKAGES='g++ pkg-config binutils openssl libyaml-dev libgnutls28-dev libudev-dev libyuv-dev libcap-dev libarchive13'
repo=$(cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/ppr/picamera2

say() { echo "picamera2-tests: $*"; }
skip() { say "SKIPPED: $*"; exit 0; }

[ "$(uname -s)" = Linux ] || skip 'libcamera is for Linux'
mkdir -p "$cache/source"
cd "$repo"

# --- The Pythons that are here ---------------------------------------------------------------------------------------
find_python() { # 3.x
    ls -d "${PYENV_ROOT:-${HOME:-/root}/.pyenv}/versions/$1".*/bin/python3 2>/dev/null | sort -V | tail -n 1 | grep . ||
        command -v "python$1" || true
}
found=
for wanted in $PYTHONS; do
    python=$(find_python "$wanted")
    if [ -n "$python" ]; then found="$found $wanted=$python"; else say "Python $wanted: not here, skipped"; fi
done
[ -n "$found" ] || skip "none of these Pythons is here: $PYTHONS"

# --- libcamera's source ----------------------------------------------------------------------------------------------
fetch_source() { # suite: with an apt configuration of its own, so that the machine's stays as it is
    apt=$cache/apt
    mkdir -p "$apt/lists/partial" "$apt/archives/partial"
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    [ ! -f "$key" ] || signed="[signed-by=$key] "
    echo "deb-src ${signed:-}$mirror $1 main" >"$apt/sources.list"
    set -- -qq -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$apt/lists" \
        -o "Dir::Cache=$apt" -o APT::Sandbox::User=root
    (cd "$cache/source" && apt-get "$@" update && apt-get "$@" source --download-only --only-source libcamera) \
        >"$cache/apt.log" 2>&1
}
source_here() { # what apt has fetched and checked as a whole
    [ ! -e "$cache/source/.fetched" ] ||
        find "$cache/source" -name 'libcamera_*.orig.tar.*' ! -name '*.asc' | sort -V | tail -n 1
}
if [ -z "$(source_here)" ]; then
    [ "$(id -u)" = 0 ] || skip "libcamera is to be built, and its headers are installed by apt as root; run it as root once"
    command -v apt-get >/dev/null || skip 'libcamera is to be built from its Debian source, and there is no apt here'
    mirror=$(sh "$repo/scripts/debian-mirror.sh")
    [ -n "$mirror" ] || skip 'no Debian archive is named in /etc/apt/sources.list*'
    for suite in $SUITES; do
        if fetch_source "$suite"; then say "libcamera's source is from Debian $suite"; touch "$cache/source/.fetched"; break; fi
    done
    rm -rf "$cache/apt"
    [ -n "$(source_here)" ] || skip "libcamera's source cannot be fetched from any of: $SUITES (no network?)"
fi
tarball=$(source_here)

missing=
for package in $PACKAGES; do
    dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    [ "$(id -u)" = 0 ] || skip "these packages are missing, and installing them needs root:$missing"
    # shellcheck disable=SC2086
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing; } \
        >"$cache/apt.log" 2>&1 || skip "these packages cannot be installed (no network?):$missing"
fi

# --- Build, and an environment for each Python -------------------------------------------------------------------------
# Two runs at the same time must not build in the same folder.
exec 9>"$cache/.lock"
flock 9
pythons=
for pair in $found; do pythons="$pythons ${pair#*=}"; done
# shellcheck disable=SC2086
sh "$repo/tests/libcamera/build.sh" "$cache" "$tarball" $pythons 9>&- || {
    case $tarball in
        */libcamera_$TRIED.*) exit 1 ;;
        *) skip "$(basename "$tarball") is not the version that the sensors were written for, $TRIED, and does not build" \
                'with them: tests/libcamera/sensor has to follow its internal interface' ;;
    esac
}

prepare() { # 3.x python: picamera2, and what the tests need; the project itself is taken from the tree
    venv=$cache/venv-$1
    picamera2=$(picamera2_for "$1")
    { cat "$repo/setup.py"; echo "# $picamera2"; } >"$cache/.wanted"
    ! cmp -s "$cache/.wanted" "$venv/.installed" || return 0
    say "installing $picamera2 and the tests' packages for Python $1 ..."
    "$2" -m venv "$venv"
    for packages in "wheel setuptools" "$picamera2" "--editable .[test]"; do
        # shellcheck disable=SC2086
        "$venv/bin/python" -m pip --disable-pip-version-check install --quiet $packages >"$cache/pip.log" 2>&1 || {
            tail -n 20 "$cache/pip.log" >&2
            say "pip failed for Python $1"
            exit 1
        }
    done
    "$venv/bin/python" -m pip --disable-pip-version-check uninstall --quiet --yes ProcessedPiRecorder >/dev/null
    cp "$cache/.wanted" "$venv/.installed"
}
for pair in $found; do prepare "${pair%%=*}" "${pair#*=}" 9>&-; done
exec 9>&-

# --- Run -------------------------------------------------------------------------------------------------------------
with_sensors() { # 3.x command ...
    numbers=$1
    shift
    env LD_PRELOAD="$cache/dmabuf_shim.so" LD_LIBRARY_PATH="$cache/lib" LIBCAMERA_LOG_LEVELS="${LIBCAMERA_LOG_LEVELS:-*:ERROR}" \
        PYTHONPATH="$repo:$repo/tests/libcamera/stand_ins:$cache/python$numbers" "$cache/venv-$numbers/bin/python" "$@"
}
status=0
for pair in $found; do
    numbers=${pair%%=*}
    if [ -n "${PPR_PICAMERA2_RUN:-}" ]; then
        with_sensors "$numbers" "$@" || status=$?
        continue
    fi
    say "Python $numbers"
    # shellcheck disable=SC2086
    if [ $# = 0 ]; then
        with_sensors "$numbers" -m pytest $TESTS -k 'libcamera_fixture or picamera2' || status=$?
    else
        with_sensors "$numbers" -m pytest "$@" || status=$?
    fi
done
exit $status

#!/bin/sh
# OpenCV's wheels need two system libraries that a bare Debian lacks: libGL.so.1 and libgthread-2.0.so.0.
# As root they are installed; otherwise the command to type is printed.
set -eu

# ldconfig is not on the PATH of ordinary users.
PATH=$PATH:/usr/sbin:/sbin
known=$(ldconfig -p 2>/dev/null || true)
missing=
case $known in *libGL.so.1*) ;; *) missing="$missing libgl1" ;; esac
case $known in *libgthread-2.0.so.0*) ;; *) missing="$missing libglib2.0-0" ;; esac
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "OpenCV needs the system libraries libGL.so.1 and libgthread-2.0.so.0, and some are missing here." >&2
    echo "Install them with this system's package manager (Debian calls the packages:$missing)." >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "OpenCV needs system packages that are missing here. Install them, then try again:" >&2
    echo "    sudo apt-get install$missing" >&2
    exit 1
fi
echo "Installing system packages that OpenCV needs:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086  # several packages
apt-get install -qq -y --no-install-recommends $missing >/dev/null

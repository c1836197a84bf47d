#!/bin/sh
# The README's two commands on a machine that has nothing: a bare Debian 12 made with debootstrap, with python3,
# python3-venv and make, and a copy of the last commit.
#
# usage: fresh-machine.sh [command ...]      default: make demo && make test
#
# Mirror, proxies and pip's settings are those of the machine it runs on. It needs root (chroot, mounts) and the
# network; without them it says so and skips. The bare root is kept as a tarball under ~/.cache/ppr.
set -eu

SUITE=bookworm
PACKAGES=python3,python3-venv,make
repo=$(cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/ppr
command=${*:-make demo && make test}

say() { echo "fresh-machine: $*"; }
skip() { say "SKIPPED: $*"; exit 0; }

# --- What this machine must have ---------------------------------------------------------------------------------
[ "$(id -u)" = 0 ] || skip "it needs root, for chroot and mounts; run it as root to test a fresh machine"
command -v apt-get >/dev/null || skip "it needs apt and debootstrap, so a Debian or a child of it"
if [ -z "${PPR_FRESH_MACHINE_INSIDE:-}" ]; then
    unshare --mount --propagation private true 2>/dev/null || skip "mounting is not allowed here (a container without the right to)"
    # In name spaces of its own every mount goes when the script ends, and every process, however it ends.
    for options in '--mount --pid --fork --kill-child' '--mount'; do
        # shellcheck disable=SC2086
        if unshare $options --propagation private true 2>/dev/null; then
            # shellcheck disable=SC2086
            PPR_FRESH_MACHINE_INSIDE=1 exec unshare $options --propagation private sh "$0" "$@"
        fi
    done
fi
if ! command -v debootstrap >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y debootstrap >/dev/null ||
        skip "debootstrap is not here and cannot be installed (no network?)"
fi

# --- Its mirror ----------------------------------------------------------------------------------------------------
mirror=$(sh "$repo/scripts/debian-mirror.sh")
mirror=${mirror%/}
[ -n "$mirror" ] || skip "no Debian archive is named in /etc/apt/sources.list*"

work=$(mktemp -d "${TMPDIR:-/tmp}/ppr-fresh.XXXXXX")
root=$work/root
cleanup() {
    cd /
    # Deepest first; a lazy unmount succeeds even when something still looks inside.
    sed -n "s|^[^ ]* \($root[^ ]*\) .*|\1|p" /proc/mounts | sort -r | while read -r mounted; do
        umount -l "$mounted" || true
    done
    if grep -q " $root" /proc/mounts; then
        say "something is still mounted under $root; it is left alone"
    else
        rm -rf --one-file-system "$work"
    fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

apt_helper=/usr/lib/apt/apt-helper
[ ! -x $apt_helper ] || $apt_helper download-file "$mirror/dists/$SUITE/Release" "$work/Release" >/dev/null 2>&1 ||
    skip "the Debian archive cannot be reached (no network?)"

# --- The bare root -------------------------------------------------------------------------------------------------
architecture=$(dpkg --print-architecture)
tarball=$cache/$SUITE-$architecture-$(echo "$PACKAGES" | tr ',' '+').tar
mkdir -p "$cache" "$root"
if [ ! -s "$tarball" ]; then
    say "making a bare Debian ($SUITE, $architecture) with $PACKAGES ..."
    debootstrap --variant=minbase --include="$PACKAGES" "$SUITE" "$root" "$mirror" >"$work/debootstrap.log" 2>&1 || {
        tail -n 20 "$work/debootstrap.log" >&2
        say "debootstrap failed"
        exit 1
    }
    rm -rf "$root"/var/cache/apt/archives/*.deb
    tar -C "$root" -cf "$tarball.part.$$" . && mv "$tarball.part.$$" "$tarball"
else
    say "using the bare root kept in $tarball"
    tar -C "$root" -xf "$tarball"
fi

# --- This machine's way to the network -----------------------------------------------------------------------------
copy_in() { # a file of this machine, to the same place in the root
    [ -f "$1" ] || return 0
    mkdir -p "$root$(dirname "$1")"
    cp -L "$1" "$root$1"
}
bind_in() { # a folder or file of this machine, to the same place in the root, read-only
    case $1 in / | /usr | /etc | /bin | /lib | /home | /root | /tmp) return 0 ;; esac
    [ -e "$1" ] && [ ! -e "$root$1" ] || return 0
    if [ -d "$1" ]; then mkdir -p "$root$1"; else copy_in "$1"; return 0; fi
    mount --bind "$1" "$root$1" && mount -o remount,bind,ro "$root$1"
}
copy_in /etc/resolv.conf
copy_in /etc/hosts
copy_in /etc/ssl/certs/ca-certificates.crt
copy_in /etc/pip.conf
for place in "${XDG_CONFIG_HOME:-${HOME:-/root}/.config}/pip/pip.conf" "${HOME:-/root}/.pip/pip.conf"; do
    if [ -f "$place" ]; then mkdir -p "$root/root/.config/pip" && cp -L "$place" "$root/root/.config/pip/pip.conf"; fi
done
echo "deb $mirror $SUITE main" >"$root/etc/apt/sources.list"
apt-config dump Acquire | grep -i -e '^Acquire::[a-z]*::Proxy ' -e '^Acquire::Check-' >"$root/etc/apt/apt.conf.d/90host" || true

# What apt and pip are told by the environment, and the certificates and local package folders that this names.
kept=$(env | grep -E -i '^(pip_[a-z_]+|https?_proxy|no_proxy|ftp_proxy|all_proxy|ssl_cert_file|requests_ca_bundle|curl_ca_bundle)=' || true)
pip_settings=$(python3 -m pip config list 2>/dev/null || true)
for value in $(printf '%s\n%s\n' "$pip_settings" "$kept" | sed -e "s/^[^=]*=//" -e "s/^'//" -e "s/'\$//" -e 's/\\n/ /g'); do
    case $value in
        file:///*) index=${value#file://}; bind_in "$(dirname "${index%/}")" ;;  # an index's links lead out of it
        /*) bind_in "${value%/}" ;;
    esac
done

# --- proc, sys, dev: of its own, and no more than needed -------------------------------------------------------------
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys" 2>/dev/null || true
mount -t tmpfs -o mode=755,size=1m tmpfs "$root/dev"
for node in null zero full random urandom tty; do
    touch "$root/dev/$node" && mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts" && ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for number in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${number%%:*}" "$root/dev/${number##*:}"; done

# --- The checkout, and the commands ----------------------------------------------------------------------------------
mkdir -p "$root/root/ProcessedPiRecorder"
git -c safe.directory='*' -C "$repo" archive HEAD | tar -C "$root/root/ProcessedPiRecorder" -xf -
say "in the bare root: $command"
started=$(date +%s)
{
    echo 'set -e'
    # Quoted for the shell that reads it.
    printf '%s\n' "$kept" | sed -n "/=/{s/'/'\\\\''/g; s/^\([^=]*\)=\(.*\)\$/export \1='\2'/p}"
    echo 'cd /root/ProcessedPiRecorder'
    echo "$command"
} >"$root/root/run.sh"
status=0
chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb CI="${CI:-}" \
    sh /root/run.sh </dev/null || status=$?
if [ -n "${PPR_FRESH_MACHINE_OUTPUT:-}" ] && [ -d "$root/root/ProcessedPiRecorder/demo-output" ]; then
    cp -r "$root/root/ProcessedPiRecorder/demo-output" "$PPR_FRESH_MACHINE_OUTPUT"
fi
say "ended with status $status after $(($(date +%s) - started)) s"
exit $status

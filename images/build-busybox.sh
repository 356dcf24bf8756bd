#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# build-busybox.sh BUILD OUTFILE: the initramfs' busybox, static against musl, from Debian's source
# package. Debian's own busybox-static is five times the size, for it can do everything.
#
# What it can do is in busybox.config beside this file: a name there that busybox does not know, or
# does not take, is an error. The binary is the same for the same sources: no build date in it.
# BUILD/uapi has the kernel's headers; MUSL_CC chooses the compiler, JOBS the number of jobs.
set -eu

[ $# -eq 2 ] || { echo "usage: build-busybox.sh BUILD OUTFILE" >&2; exit 2; }
mkdir -p "$1"
build=$(cd "$1" && pwd)
out=$2
here=$(cd "$(dirname "$0")" && pwd)
config=$here/busybox.config
src=$build/src/busybox

"$here/debian-source.sh" busybox "$src"
work=$(mktemp -d "$build/src/.busybox.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# Not the caller's make: its flags and variables (V, O, CFLAGS) mean other things to busybox.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL V CFLAGS CPPFLAGS LDFLAGS
export KCONFIG_NOTIMESTAMP=1 LC_ALL=C
run() {
	make -C "$src" O="$work" HOSTCC=gcc SKIP_STRIP=n \
		CC="${MUSL_CC:-musl-gcc} -isystem $build/uapi -ffile-prefix-map=$src=busybox" \
		"$@" >>"$work/log" 2>&1 || {
		tail -n 40 "$work/log" >&2
		echo "build-busybox.sh: make $* failed (see above)" >&2
		exit 1
	}
}

# Every question answered no, but for ours. (allnoconfig would not do: it forgets KCONFIG_ALLCONFIG,
# and leaves what is below a no to its default, mostly yes.)
run allyesconfig
sed -n 's/^\(CONFIG_[A-Z0-9_]*\)=.*/\1/p' "$config" >"$work/ours"
grep -vwFf "$work/ours" "$work/.config" | sed 's/^\(CONFIG_[A-Z0-9_]*\)=y$/# \1 is not set/' |
	cat - "$config" >"$work/merged"
mv "$work/merged" "$work/.config"
yes '' | run oldconfig
grep '^CONFIG_' "$config" | while IFS= read -r option; do
	grep -qxF "$option" "$work/.config" || {
		echo "build-busybox.sh: busybox does not take $option of $config:" \
			"no such option, or something that it needs is missing" >&2
		exit 1
	}
done
run -j"${JOBS:-$(nproc)}" busybox

mkdir -p "$(dirname "$out")"
cp "$work/busybox" "$out.new"
mv "$out.new" "$out"

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# debian-source.sh PKG DESTDIR: the source package PKG of the release this machine runs, patched
# as Debian builds it, in DESTDIR. Fetched through the machine's own package sources (see apt.sh,
# which keeps its state beside DESTDIR), without root.
#
# When DESTDIR is there it is taken as it is and nothing is fetched; it appears by rename, so it is
# whole or absent.
set -eu

[ $# -eq 2 ] || { echo "usage: debian-source.sh PKG DESTDIR" >&2; exit 2; }
package=$1 dest=$2
[ ! -d "$dest" ] || exit 0

here=$(cd "$(dirname "$0")" && pwd)
parent=$(dirname "$dest")
mkdir -p "$parent"
parent=$(cd "$parent" && pwd)
work=$(mktemp -d "$parent/.source.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

if ! {
	cd "$work" &&
		"$here/apt.sh" "$parent/.apt" apt-get -q source --download-only "$package" &&
		dpkg-source -x ./*.dsc tree
} >"$work/log" 2>&1 </dev/null; then
	cat "$work/log" >&2
	echo "debian-source.sh: cannot fetch Debian's source package $package (see above);" \
		"if its lists are out of date, remove $parent/.apt and try again" >&2
	exit 1
fi
# Another run may have been quicker: then its tree is as good.
mv -T "$work/tree" "$parent/$(basename "$dest")" 2>/dev/null || [ -d "$dest" ]

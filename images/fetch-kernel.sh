#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# fetch-kernel.sh BUILD [SUITE]: Debian's own current amd64 kernel, unmodified, unpacked and not
# installed: BUILD/kernel/vmlinuz and BUILD/kernel/modules (-> lib/modules/VERSION, with
# modules.dep). It is what the demo and the QEMU tests boot. No root is needed. With a SUITE it is
# that release's ("bullseye", "trixie"), in BUILD/kernel-SUITE.
#
# When the folder is there it is taken as it is; it appears by rename, so it is whole or absent.
# Remove it to get a newer kernel.
set -eu

[ $# -eq 1 ] || [ $# -eq 2 ] || { echo "usage: fetch-kernel.sh BUILD [SUITE]" >&2; exit 2; }
suite=${2:-}
name=kernel${suite:+-$suite}
[ ! -d "$1/$name" ] || exit 0
mkdir -p "$1/src"
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin:/sbin # depmod, for who is not root

work=$(mktemp -d "$build/src/.kernel.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

fail() {
	cat "$work/log" >&2
	echo "fetch-kernel.sh: cannot $* (see above)" >&2
	exit 1
}

own=$build/src/.apt
apt() {
	if [ -z "$suite" ]; then
		"$here/apt.sh" "$own" "$@" 2>>"$work/log" </dev/null
	else
		APT_CONFIG=$own-$suite/apt.conf "$@" 2>>"$work/log" </dev/null
	fi
}

# The same sources and ways as for this machine's release, with the other one's name.
use_suite() {
	other=$own-$suite
	# shellcheck disable=SC2016
	ours=$("$here/apt.sh" "$own" sh -c '. /etc/os-release && echo "$VERSION_CODENAME"')
	mkdir -p "$other/sources.d" "$other/state/lists/partial" "$other/cache/archives/partial"
	for file in "$own"/sources.d/*; do
		sed "/^deb-src/d; s/^Types:.*/Types: deb/; s/\<$ours\>/$suite/g" "$file" \
			>"$other/sources.d/$(basename "$file")"
	done
	sed "s,\"/.*/\(sources.d\|state\|cache\)\",\"$other/\1\"," "$own/apt.conf" >"$other/apt.conf"
	apt apt-get -q update >>"$work/log" || : # one that fails need not matter
}

# The metapackage depends on nothing but the current image, by name.
cd "$work"
[ -z "$suite" ] || use_suite
package=$(apt apt-cache depends linux-image-amd64:amd64 |
	sed -n 's/^ *Depends: \(linux-image-[0-9][^: ]*\).*/\1/p' | head -n 1)
[ -n "$package" ] || fail "find out what linux-image-amd64${suite:+ of $suite} depends on"
apt apt-get -q download "$package:amd64" >>"$work/log" || fail "download $package"
dpkg-deb -x ./"$package"_*.deb tree 2>>log || fail "unpack $package"

cd tree
[ -d lib/modules ] || ln -s usr/lib lib # since trixie
version=$(ls lib/modules)
depmod -b . "$version" 2>>../log || fail "make modules.dep of $version"
ln -s "boot/vmlinuz-$version" vmlinuz
ln -s "lib/modules/$version" modules
if ! [ -s vmlinuz ] || ! [ -s modules/modules.dep ]; then
	fail "find a kernel and its modules in $package"
fi
mv -T "$work/tree" "$build/$name" 2>/dev/null || [ -d "$build/$name" ]

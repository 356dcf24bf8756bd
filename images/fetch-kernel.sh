#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# fetch-kernel.sh BUILD: Debian's own current amd64 kernel, unmodified, unpacked and not installed:
# BUILD/kernel/vmlinuz and BUILD/kernel/modules (-> lib/modules/VERSION, with modules.dep). It is
# what the demo and the QEMU tests boot. No root is needed.
#
# When BUILD/kernel is there it is taken as it is; it appears by rename, so it is whole or absent.
# Remove it to get a newer kernel.
set -eu

[ $# -eq 1 ] || { echo "usage: fetch-kernel.sh BUILD" >&2; exit 2; }
[ ! -d "$1/kernel" ] || exit 0
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

apt() {
	"$here/apt.sh" "$build/src/.apt" "$@" 2>>"$work/log" </dev/null
}

# The metapackage depends on nothing but the current image, by name.
cd "$work"
package=$(apt apt-cache depends linux-image-amd64:amd64 |
	sed -n 's/^ *Depends: \(linux-image-[0-9][^: ]*\).*/\1/p' | head -n 1)
[ -n "$package" ] || fail "find out what linux-image-amd64 depends on"
apt apt-get -q download "$package:amd64" >>"$work/log" || fail "download $package"
dpkg-deb -x ./"$package"_*.deb tree 2>>log || fail "unpack $package"

cd tree
version=$(ls lib/modules)
depmod -b . "$version" 2>>../log || fail "make modules.dep of $version"
ln -s "boot/vmlinuz-$version" vmlinuz
ln -s "lib/modules/$version" modules
if ! [ -s vmlinuz ] || ! [ -s modules/modules.dep ]; then
	fail "find a kernel and its modules in $package"
fi
mv -T "$work/tree" "$build/kernel" 2>/dev/null || [ -d "$build/kernel" ]

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# fetch-kernel.sh BUILD [i386|5.10|6.12]: Debian's own kernel, unmodified, unpacked and not
# installed: the current amd64 one in BUILD/kernel, or another one in BUILD/kernel-i386 (32-bit with
# PAE, of this machine's release), BUILD/kernel-5.10 or BUILD/kernel-6.12 (amd64, of the release
# that has it). In each folder: vmlinuz (-> boot/vmlinuz-VERSION) and modules (->
# lib/modules/VERSION, with modules.dep). It is what the demo and the QEMU tests boot. No root is
# needed.
#
# When the folder is there it is taken as it is; it appears by rename, so it is whole or absent.
# Remove it to get a newer kernel.
set -eu

usage() {
	echo "usage: fetch-kernel.sh BUILD [i386|5.10|6.12]" >&2
	exit 2
}
[ $# -eq 1 ] || [ $# -eq 2 ] || usage
which=${2:-}
case $which in
'') suite='' meta=linux-image-amd64 arch=amd64 ;;
i386) suite='' meta=linux-image-686-pae arch=i386 ;;
5.10) suite=bullseye meta=linux-image-amd64 arch=amd64 ;;
6.12) suite=trixie meta=linux-image-amd64 arch=amd64 ;;
*) usage ;;
esac
name=kernel${which:+-$which}
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

apt() {
	if [ -n "$suite" ]; then
		"$here/apt.sh" --suite "$suite" "$build/src/.apt-$suite" "$@"
	elif [ "$arch" != "$(dpkg --print-architecture)" ]; then
		"$here/apt.sh" --arch "$arch" "$build/src/.apt-$arch" "$@"
	else
		"$here/apt.sh" "$build/src/.apt" "$@"
	fi 2>>"$work/log" </dev/null
}

# The metapackage depends on nothing but the current image, by name.
cd "$work"
package=$(apt apt-cache depends "$meta:$arch" |
	sed -n 's/^ *Depends: \(linux-image-[0-9][^: ]*\).*/\1/p' | head -n 1)
[ -n "$package" ] || fail "find out what $meta${suite:+ of $suite} depends on"
apt apt-get -q download "$package:$arch" >>"$work/log" || fail "download $package"
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

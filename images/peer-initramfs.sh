#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# peer-initramfs.sh BUILD initramfs-tools|dracut: what others boot an NBD root with, for
# `make bench-boot`: BUILD/bench-boot/PEER/ with an initramfs for the kernel of BUILD/kernel, made
# by Debian's own tool, and the versions of what went in. Made in a Debian of its own, which
# is thrown away.
#
#	initramfs-tools   default: as it comes; list: MODULES=list, with the network cards that
#	                  "nbdroot initramfs --drivers" gets in the benchmark
#	dracut            default: --no-hostonly, its nbd and network-legacy modules. The backend that
#	                  Debian 12's dracut takes by itself (systemd-networkd) never calls the handler
#	                  of an NBD root: such a machine does not boot at all
#
# Works as root, and without by means of a user namespace, as demo-root.sh.
# When the folder is there nothing is done; it appears by rename, so it is whole or absent.
set -eu

usage() {
	echo "usage: peer-initramfs.sh BUILD initramfs-tools|dracut" >&2
	exit 2
}
[ $# -eq 2 ] || usage
peer=$2
case $peer in
initramfs-tools) include=initramfs-tools,nbd-client,busybox,zstd,e2fsprogs,udev,kmod ;;
dracut) include=dracut,dracut-network,nbd-client,isc-dhcp-client,iputils-arping,iproute2
	include=$include,zstd,e2fsprogs,udev,kmod,procps,systemd-sysv,cpio ;;
*) usage ;;
esac
[ ! -d "$1/bench-boot/$peer" ] || exit 0
mkdir -p "$1/src" "$1/bench-boot"
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin:/sbin

work=$(mktemp -d "$build/src/.peer.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

fail() {
	cat "$work/log" >&2
	echo "peer-initramfs.sh: cannot $* (see above)" >&2
	exit 1
}

apt=$build/src/.apt
# shellcheck disable=SC2016
codename=$("$here/apt.sh" "$apt" sh -c '. /etc/os-release && echo "$VERSION_CODENAME"')
version=$(basename "$(readlink "$build/kernel/modules")")

# The kernel as its package would have put it there; files named in mmdebstrap's hooks may not be
# readable there, so it goes in as an archive.
tar -C "$build/kernel" --exclude='lib/modules/*/build' --exclude='lib/modules/*/source' \
	-cf "$work/kernel.tar" lib/modules "boot/config-$version" 2>"$work/log" ||
	fail "read the kernel in $build/kernel (make kernel first)"

# What happens in the new Debian ($1), for kernel $2.
# shellcheck disable=SC2016
make_initramfs_tools='
set -eu
chroot "$1" mkinitramfs -o /out/default "$2"
chroot "$1" cp -a /etc/initramfs-tools /tmp/list
sed -i "s/^MODULES=.*/MODULES=list/" "$1/tmp/list/initramfs.conf"
printf "%s\n" virtio_pci virtio_net e1000 e1000e r8169 nbd ext4 >>"$1/tmp/list/modules"
chroot "$1" mkinitramfs -d /tmp/list -o /out/list "$2"
'
# shellcheck disable=SC2016
make_dracut='
set -eu
chroot "$1" dracut --no-hostonly --add "nbd network-legacy" --kver "$2" /out/default
'
case $peer in
initramfs-tools) make=$make_initramfs_tools ;;
dracut) make=$make_dracut ;;
esac
# shellcheck disable=SC2016
make="$make"'
chroot "$1" dpkg-query -W initramfs-tools dracut nbd-client busybox isc-dhcp-client systemd udev \
	>"$1/out/versions" 2>/dev/null || :
tar -C "$1/out" -cf "$1/out.tar" .
'

printf '%s\n' "$make" >"$work/make"
mmdebstrap --quiet --mode=auto --variant=minbase --format=null \
	--include="$include" --aptopt="$apt/acquire.conf" \
	--customize-hook="mkdir -p \"\$1/out\"" \
	--customize-hook="tar-in '$work/kernel.tar' /" \
	--customize-hook="upload '$work/make' /make" \
	--customize-hook="sh \"\$1/make\" \"\$1\" '$version'" \
	--customize-hook="download /out.tar '$work/out.tar'" \
	"$codename" - "$apt"/sources.d/* >"$work/log" 2>&1 </dev/null ||
	fail "make the initramfs of $peer"

mkdir "$work/out"
tar -xf "$work/out.tar" -C "$work/out" --no-same-owner
chmod -R u+rw "$work/out"
[ -s "$work/out/default" ] || fail "find the initramfs that $peer made"
mv -T "$work/out" "$build/bench-boot/$peer" 2>/dev/null || [ -d "$build/bench-boot/$peer" ]

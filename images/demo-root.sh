#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# demo-root.sh BUILD [sysvinit|managers]: BUILD/demo-root.img, the root of the demo's diskless machine:
# Debian with systemd, udev and rpm in an ext4 file system. Stands for a distribution that knows
# nothing of nbdroot; so nothing of ours is in it, and the network is left as the initramfs set it
# up. For tests, with the word sysvinit: BUILD/sysvinit-root.img, a smaller one with that init; with
# the word managers: BUILD/managers-root.img, with five network managers, none of which is enabled.
#
# Made for a short boot and for a test to talk to: root logs in on ttyS0 by itself, without a
# password. Never serve it where others can reach it.
# Works as root, and without by means of a user namespace (package uidmap, ranges in /etc/subuid).
# When the image is there nothing is done; it appears by rename, so it is whole or absent.
set -eu

case $#-${2:-} in
1-) name=demo-root include=systemd-sysv,udev,rpm,procps,kmod,iproute2 size=1536M ;;
2-sysvinit) name=sysvinit-root include=sysvinit-core,udev,procps,kmod,iproute2 size=768M ;;
2-managers) name=managers-root size=1536M include=systemd-sysv,udev,rpm,procps,kmod,iproute2
	include=$include,dbus,network-manager,ifupdown,isc-dhcp-client,dhcpcd,connman ;;
*) echo "usage: demo-root.sh BUILD [sysvinit|managers]" >&2; exit 2 ;;
esac
[ ! -e "$1/$name.img" ] || exit 0
mkdir -p "$1/src"
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin:/sbin # mke2fs, for who is not root

work=$(mktemp -d "$build/src/.demo-root.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

fail() {
	cat "$work/log" >&2
	echo "demo-root.sh: cannot $* (see above)" >&2
	exit 1
}

# mmdebstrap has an APT of its own inside the new root; it gets the machine's sources and proxies.
apt=$build/src/.apt
# shellcheck disable=SC2016
codename=$("$here/apt.sh" "$apt" sh -c '. /etc/os-release && echo "$VERSION_CODENAME"')

# What happens in the new root ($1), besides installing. Runs where the mode of mmdebstrap allows
# it, perhaps without access to BUILD: so it is handed over as text.
# shellcheck disable=SC2016
customize='
set -eu
root=$1
cd "$root"
chroot "$root" passwd -q -d root
echo demo >etc/hostname
printf "127.0.0.1 localhost demo\n" >etc/hosts
: >etc/fstab
: >etc/machine-id
rm -f etc/resolv.conf etc/apt/apt.conf.d/99mmdebstrap

: >etc/motd
if [ ! -x bin/systemctl ]; then
	sed -i "/^[1-6]:.*getty/d" etc/inittab
	echo "S0:2345:respawn:/sbin/agetty --autologin root --noclear --keep-baud 115200 ttyS0 vt220" \
		>>etc/inittab
	exit 0
fi

getty=etc/systemd/system/serial-getty@ttyS0.service.d
mkdir -p "$getty" etc/systemd/journald.conf.d etc/systemd/system.conf.d
printf "%s\n" "[Service]" "ExecStart=" \
	"ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200 - vt220" \
	>"$getty/autologin.conf"
printf "%s\n" "[Journal]" "Storage=volatile" "RuntimeMaxUse=8M" \
	>etc/systemd/journald.conf.d/demo.conf
rm -rf var/log/journal
# What a test reads from the console: no marks around what is pasted.
echo "set enable-bracketed-paste off" >>etc/inputrc

for unit in NetworkManager NetworkManager-wait-online connman connman-wait-online dhcpcd networking \
	ifupdown-wait-online; do
	rm -f etc/systemd/system/*.wants/$unit.service
done

# Nothing that a machine which lives for a minute needs; each costs a second of emulation.
chroot "$root" systemctl -q set-default multi-user.target
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
	e2scrub_reap.service fstrim.timer systemd-tmpfiles-clean.timer \
	getty@tty1.service getty-static.service systemd-logind.service systemd-hwdb-update.service \
	systemd-journal-catalog-update.service systemd-journal-flush.service \
	systemd-machine-id-commit.service systemd-pstore.service systemd-random-seed.service \
	systemd-sysusers.service systemd-update-utmp.service systemd-update-utmp-runlevel.service \
	systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-modules-load.service \
	kmod-static-nodes.service dev-hugepages.mount dev-mqueue.mount \
	sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
	sys-fs-fuse-connections.mount modprobe@.service \
	systemd-ask-password-console.path systemd-ask-password-wall.path; do
	ln -sf /dev/null "etc/systemd/system/$unit"
done

# The rpm database comes from elsewhere: here is only its mount point, where rpm looks for it.
test "$(chroot "$root" rpm --eval %_dbpath)" = /var/lib/rpm || {
	mkdir -p etc/rpm
	echo "%_dbpath /var/lib/rpm" >etc/rpm/macros
}
rm -rf var/lib/rpm
mkdir -m 755 var/lib/rpm
'

mmdebstrap --quiet --mode=auto --variant=minbase --format=tar \
	--include="$include" \
	--aptopt="$apt/acquire.conf" \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
	--customize-hook="$customize" \
	"$codename" "$work/root.tar" "$apt"/sources.d/* >"$work/log" 2>&1 </dev/null ||
	fail "build the demo's root with mmdebstrap"

# As root of this machine or of a namespace in which the files have their owners. No device nodes:
# a namespace cannot make them, and every kernel brings devtmpfs.
# shellcheck disable=SC2016
fill='
set -eu
mkdir "$1/root"
trap "rm -rf \"$1/root\"" EXIT
tar --numeric-owner --exclude="./dev/*" -xpf "$1/root.tar" -C "$1/root"
mke2fs -q -t ext4 -b 4096 -N 49152 -J size=16 -L nbdroot-demo \
	-E lazy_itable_init=0,lazy_journal_init=0 -d "$1/root" "$1/root.img" "$2"
'
as_root=
[ "$(id -u)" = 0 ] || as_root="unshare --user --map-root-user --map-auto"
$as_root sh -c "$fill" sh "$work" "$size" >"$work/log" 2>&1 || fail "fill the demo's root image"
mv "$work/root.img" "$build/$name.img"

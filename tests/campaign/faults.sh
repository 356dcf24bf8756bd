#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The faults that happen inside the campaign's emulated machine. Runs from memory, with the
# initramfs's own busybox: the root is away meanwhile.
#
#	faults.sh address CARD USECONDS                 CARD loses its address and gets it back
#	faults.sh client DEVICE USECONDS URI FALLBACK   its nbdclient is killed, another adopts it
set -eu
PATH=/run/initramfs/bin
busybox=/run/initramfs/bin/busybox

# It may be back before: nbdroot itself looks after it.
address() {
	address=$($busybox ip -o -f inet addr show dev "$1" | $busybox sed 's/.*inet //; s/ .*//')
	gateway=$($busybox ip route show | $busybox sed -n 's/^default via \([^ ]*\).*/\1/p')
	$busybox ip addr flush dev "$1"
	$busybox usleep "$2"
	$busybox ip addr replace "$address" dev "$1"
	[ -z "$gateway" ] || $busybox ip route replace default via "$gateway" dev "$1"
}

client() {
	# out of the console's control group, with which it would be ended at the shutdown
	echo $$ >/sys/fs/cgroup/cgroup.procs
	pid=$(nbdclient status --json "/dev/$1" | $busybox sed 's/.*"pid": *//; s/[^0-9].*//')
	kill -9 "$pid"
	while [ -d "/proc/$pid" ]; do $busybox usleep 10000; done
	$busybox usleep "$2"
	exec nbdclient attach "$3" --fallback "$4" --device "/dev/$1"
}

"$@"

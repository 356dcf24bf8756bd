#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# load.sh PACKAGE SLOTS: the load of the campaign's emulated machine, until /run/campaign-stop is
# there. Writers and readers as in the fast lane, and rpm transactions, each acknowledged when rpm
# has said that it is done and the caches are written. The second serial line is a file of the
# host's; what stands there outlives the machine.
set -u

package=$1 slots=$2
log=/dev/ttyS1
stty -F $log raw -echo

say() {
	echo "rpm $* $(date +%s.%N)" >$log
}

transaction() {
	kind=$1
	shift
	say "$kind" begin
	if "$@" && sync; then
		say "$kind" "done"
	else
		say "$kind" failed
		exit 1
	fi
}

# Each a process group of its own, to be ended whole.
for name in red blue; do
	setsid /root/guest overwrite /root/$name $log $name "$slots" &
done
setsid /root/guest probe /dev/nbd0 $log &

while [ ! -e /run/campaign-stop ]; do
	transaction install rpm -i --force-debian --nodeps "$package"
	transaction erase rpm -e --nodeps nbdroot-hello
done
pkill -f '^/root/guest '
wait

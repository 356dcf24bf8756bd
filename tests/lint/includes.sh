#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The dependency rules of CONTRIBUTING.md: who may include whom, and one file for each outside
# world. Prints each line that breaks a rule; exits 1 if there was one.
set -eu
cd "$(dirname "$0")/../.."
broken=0

# forbid WHAT PATTERN FILE...: no file may have an include line that matches.
forbid() {
	what=$1
	pattern=$2
	shift 2
	[ $# -gt 0 ] || return 0
	if grep -nE "^#include [<\"]($pattern)" /dev/null "$@"; then
		echo "  ^ $what" >&2
		broken=1
	fi
}

# only_in FILE PATTERN: no other C file of the programs may include it.
only_in() {
	file=$1
	# shellcheck disable=SC2046
	forbid "only $file may include this" "$2" \
		$(find nbdclient init server-tools base proto -name '*.[ch]' ! -path "$file")
}

forbid "proto/ includes C standard headers and itself only" \
	'(base|nbdclient|init|server-tools|tests|sys|linux|net|netinet|unistd|fcntl|poll|errno)' proto/*.[ch]
forbid "base/ includes libc and itself only" '(proto|nbdclient|init|server-tools|tests|linux)/' \
	base/*.[ch]
forbid "init/ may include base/ only" '(proto|nbdclient|server-tools|tests)/' init/*.[ch]
forbid "nbdclient/ may include base/ and proto/ only" '(init|server-tools|tests)/' nbdclient/*.[ch]
forbid "the server's tools may include base/ and proto/ only" '(init|nbdclient|tests)/' \
	server-tools/*/*.[ch]
forbid "a program does not include its neighbour" 'server-tools/nbdroot/' \
	server-tools/nbdserve/*.[ch]
forbid "a program does not include its neighbour" '(server-tools/nbdserve|proto)/' \
	server-tools/nbdroot/*.[ch]

only_in nbdclient/kernel.c 'linux/(nbd|genetlink)'
only_in init/modules.c 'libkmod'
only_in server-tools/nbdroot/ext3.c 'ext2fs/'
only_in server-tools/nbdserve/ring.c 'liburing'
only_in server-tools/nbdserve/config-ini.c 'ini\.h'
only_in server-tools/nbdserve/sandbox-calls.c 'seccomp\.h'
only_in server-tools/nbdserve/sandbox.c 'linux/landlock'
# <linux/nbd.h> and proto/nbd.h give some names different values
# shellcheck disable=SC2046
forbid "the protocol's constants are in proto/nbd.h" 'linux/nbd\.h' \
	$(find . -name '*.[ch]' -not -path './build/*')

exit $broken

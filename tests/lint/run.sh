#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# make lint: each check in turn, all of them even when one fails; exits 1 if any did.
# shellcheck disable=SC2317 # the functions are called through check
set -eu
cd "$(dirname "$0")/../.."
failed=0

check() {
	name=$1
	shift
	if "$@" >/tmp/nbdroot-lint.$$ 2>&1; then
		echo "  ok    $name"
	else
		failed=1
		cat /tmp/nbdroot-lint.$$
		echo "  FAIL  $name"
	fi
	rm -f /tmp/nbdroot-lint.$$
}

files() { git ls-files -- "$@" | while read -r f; do [ ! -e "$f" ] || echo "$f"; done; }
c_files=$(files '*.c' '*.h')
programs=$(files 'base/*.c' 'proto/*.c' 'nbdclient/*.c' 'init/*.c' 'server-tools/*.c')
scripts=$(files '*.sh' 'images/udhcpc.script' '.ci/run')
# __FILE__: a string that needs no quotes on its way through the shell
defines="-D_GNU_SOURCE -DNBDROOT_VERSION=__FILE__ -DNBDROOT_LIBDIR=__FILE__"
flags="-std=gnu17 -I. $defines $(pkg-config --cflags libkmod)"

too_long() {
	# shellcheck disable=SC2086
	wc -l $c_files | awk '$1 > 700 && $2 != "total" { print; bad = 1 } END { exit bad }'
}
no_leftovers() {
	# shellcheck disable=SC2086
	! grep -nE "\b(TODO|FIXME|XXX)\b" $c_files
}
no_hosts() {
	# Where packages come from is the machine's business: no registry is named here.
	! git grep -nIE 'https?://[a-z.]*(debian|npm|pypi)[a-z.]*' -- ':!LICENSE'
}
warnings() {
	# shellcheck disable=SC2086
	gcc $flags -fsyntax-only -Werror -Wall -Wextra -Wshadow -Wvla -Wswitch-enum -Wformat=2 \
		-Wstrict-prototypes -Wmissing-prototypes $programs
}
analyzer() {
	for f in proto/*.c base/*.c; do
		# shellcheck disable=SC2086
		gcc $flags -fanalyzer -Werror -O1 -c -o /dev/null "$f" || return 1
	done
}

# shellcheck disable=SC2086
{
	check "clang-format" clang-format --dry-run --Werror $c_files
	check "shellcheck" shellcheck $scripts
	check "include rules" tests/lint/includes.sh
	check "no file over 700 lines" too_long
	check "no leftovers" no_leftovers
	check "no package host is named" no_hosts
	check "no warnings" warnings
	check "gcc -fanalyzer (proto, base)" analyzer
	check "cppcheck" cppcheck --quiet --std=c11 --error-exitcode=1 --suppress=memleak --include=tests/lint/cppcheck-macros.h -j2 \
		--enable=warning,portability -I. $defines $programs
	check "clang-tidy" clang-tidy --quiet $programs -- $flags
}
exit $failed

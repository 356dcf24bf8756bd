#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# install-packages.sh [build]: installs what is missing of the list in `packages` beside this file, as
# root or with a sudo that asks for no password; with the word "build", only of its first part, what
# building needs (a server that is in use wants no other servers). Says nothing when nothing is missing.
#
# Refuses to ask questions: where it may not install, it prints the command to type and fails.
set -eu

list=$(dirname "$0")/packages
part=
# shellcheck disable=SC2016 # the $ is sed's
[ "${1-}" != build ] || part='/^# the demo/,$d;'

missing() {
	# dpkg-query complains of packages it has never heard of: they are missing too.
	# shellcheck disable=SC2046
	set -- $(sed "$part"'s/#.*//' "$list")
	installed=" $(dpkg-query -W -f '${db:Status-Status} ${Package} ' "$@" 2>/dev/null || :)"
	for package in "$@"; do
		case $installed in
		*" installed $package "*) ;;
		*) printf '%s ' "$package" ;;
		esac
	done
}

need=$(missing)
[ -n "$need" ] || exit 0

run=
if [ "$(id -u)" != 0 ]; then
	run="sudo -n"
	$run true 2>/dev/null || {
		cat >&2 <<-END
			install-packages.sh: these Debian packages are missing, and installing them needs root: type
			    sudo apt-get update && sudo apt-get install --no-install-recommends $need
		END
		exit 1
	}
fi

install() {
	# shellcheck disable=SC2086
	$run env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $need
}

# Lists that are absent or a day old name versions that the mirror has no more.
echo "installing: $need"
fresh=$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mtime -1 2>/dev/null)
if [ -z "$fresh" ] || ! install; then
	$run apt-get -q update
	install || {
		echo "install-packages.sh: cannot install $need(see above)" >&2
		exit 1
	}
fi

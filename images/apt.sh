#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# apt.sh [--suite SUITE] [--arch ARCH] DIR COMMAND [ARG...]: runs an apt command (apt-get,
# apt-cache, ...) with an APT of its own in DIR: lists, cache and configuration live there, so no
# root is needed and the machine's own APT state is neither read nor changed. With a SUITE
# ("bullseye") packages are that release's, with an ARCH ("i386") there are that architecture's too
# (PACKAGE:i386); both have binary packages only, and want a DIR for themselves.
#
# Where packages come from is the machine's business: DIR/sources.d is derived from its own package
# sources, cut down to the suites of the release it runs (third-party repositories drop out) and
# asking for source packages too. Mirrors, Signed-By and proxies stay as the machine has them.
# Refuses to guess: when nothing is left it says so. Lists older than a day are fetched anew.
# What other tools may use: DIR/sources.d (the sources) and DIR/acquire.conf (proxies and the like).
set -eu

die() {
	echo "apt.sh: $*" >&2
	exit 1
}

suite='' arch=''
while [ $# -ge 2 ]; do
	case $1 in
	--suite) suite=$2 ;;
	--arch) arch=$2 ;;
	*) break ;;
	esac
	shift 2
done
[ $# -ge 2 ] || {
	echo "usage: apt.sh [--suite SUITE] [--arch ARCH] DIR COMMAND [ARG...]" >&2
	exit 2
}
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift

# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
[ -n "$codename" ] || die "/etc/os-release has no VERSION_CODENAME: this needs a Debian release"

# Classic lines: "deb [options] URI suite component...". deb822: stanzas of fields, copied whole
# but for Types and Suites, for Signed-By may be a key of many lines.
one_line() {
	awk -v ok="$1" '
	$1 != "deb" { next }
	{
		options = ""
		rest = $0
		sub(/^[ \t]*deb[ \t]+/, "", rest)
		if (match(rest, /^\[[^]]*\][ \t]*/)) {
			options = substr(rest, 1, RLENGTH) " "
			rest = substr(rest, RLENGTH + 1)
		}
		sub(/#.*/, "", rest)
		n = split(rest, field, /[ \t]+/)
		if (field[1] ~ /^cdrom:/ || field[2] !~ ok || rest !~ /[ \t]main([ \t]|$)/)
			next
		print "deb " options rest
		print "deb-src " options rest
	}' "$2"
}

deb822() {
	awk -v ok="$1" '
	function flush(	i) {
		if (suites != "" && has_main) {
			for (i = 1; i <= n; i++)
				print line[i]
			print "Types: deb deb-src\nSuites:" suites "\n"
		}
		n = 0
		suites = ""
		has_main = 0
		name = ""
	}
	/^[ \t]*$/ { flush(); next }
	/^#/ { next }
	{
		value = $0
		if ($0 !~ /^[ \t]/) {
			name = tolower($0)
			sub(/:.*/, "", name)
			sub(/^[^:]*:/, "", value)
		}
		count = split(value, word)
		for (i = 1; i <= count; i++) {
			if (name == "suites" && word[i] ~ ok)
				suites = suites " " word[i]
			if (name == "components" && word[i] == "main")
				has_main = 1
		}
		if (name != "suites" && name != "types")
			line[++n] = $0
	}
	END { flush() }' "$2"
}

derive_sources() {
	ok="^$codename(-updates|-security|/updates)?\$"
	mkdir -p "$dir/sources.d"
	rm -f "$dir"/sources.d/*
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ -r "$file" ] || continue
		# two files may have one name: /etc/apt/sources.list and one in sources.list.d
		one_line "$ok" "$file" >>"$dir/sources.d/$(basename "$file" .list).list"
	done
	for file in /etc/apt/sources.list.d/*.sources; do
		[ -r "$file" ] || continue
		deb822 "$ok" "$file" >"$dir/sources.d/$(basename "$file")"
	done
	find "$dir/sources.d" -type f -empty -delete
	[ -n "$(ls "$dir/sources.d")" ] ||
		die "no package source in /etc/apt names the suite $codename with component main;" \
			"add one (see sources.list(5)) and try again"
	[ -z "$suite$arch" ] || change_sources
}

# The same mirrors and ways for another release or another architecture. What says that a source
# is for this machine's architecture only must go.
change_sources() {
	for file in "$dir"/sources.d/*; do
		sed -i "/^deb-src/d; s/^Types:.*/Types: deb/
			s/\<$codename\>/${suite:-$codename}/g
			/^[Aa]rchitectures:/d; s/^\(deb \[[^]]*\)arch=[^] ]*/\1/; s/^deb \[ *\] */deb /" \
			"$file"
	done
}

# Of the machine's configuration only how to fetch is taken over: hooks and paths are not ours.
# As root, APT would fetch as user _apt, who may not be able to enter DIR; signatures are checked
# either way.
derive_conf() {
	mkdir -p "$dir/state/lists/partial" "$dir/cache/archives/partial"
	apt-config dump | grep '^Acquire::' | grep -v '^Acquire::IndexTargets' >"$dir/acquire.conf" || :
	{
		cat "$dir/acquire.conf"
		cat <<-END
			Dir::Etc::main "/dev/null";
			Dir::Etc::parts "/dev/null";
			Dir::Etc::sourcelist "/dev/null";
			Dir::Etc::sourceparts "$dir/sources.d";
			Dir::State "$dir/state";
			Dir::Cache "$dir/cache";
			Dir::Cache::pkgcache "";
			Dir::Cache::srcpkgcache "";
			Acquire::GzipIndexes "true";
			Acquire::Languages "none";
			APT::Sandbox::User "";
			APT::Architectures { "$(dpkg --print-architecture)"; ${arch:+\"$arch\";} };
		END
	} >"$dir/apt.conf"
}

update() {
	derive_sources
	derive_conf
	# One repository that fails need not matter; that none answered does.
	good=yes
	APT_CONFIG=$dir/apt.conf apt-get -q update >"$dir/update.log" 2>&1 || good=
	kind=Sources
	[ -z "$suite$arch" ] || kind=Packages
	for list in "$dir"/state/lists/*_"$kind"*; do
		[ -e "$list" ] || {
			cat "$dir/update.log" >&2
			die "no package list could be fetched (see above); is the network up?"
		}
	done
	[ -z "$good" ] || touch "$dir/updated" # else the next run asks again
}

# Two recipes may run at the same time (make -j).
exec 9>"$dir/lock"
flock 9
if [ -z "$(find "$dir/updated" -mtime -1 2>/dev/null)" ]; then
	update
fi
exec 9>&-

APT_CONFIG=$dir/apt.conf exec "$@"

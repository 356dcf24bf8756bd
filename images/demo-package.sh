#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# demo-package.sh BUILD: BUILD/demo-package/nbdroot-hello-1.0-1.noarch.rpm, a small real package
# for the demo to install while its server is killed: some hundred files, so that the transaction
# takes a few seconds, and a scriptlet. No root needed; rpmbuild's state stays under BUILD.
#
# When the package is there nothing is done; its folder appears by rename, whole or absent.
set -eu

[ $# -eq 1 ] || { echo "usage: demo-package.sh BUILD" >&2; exit 2; }
[ ! -d "$1/demo-package" ] || exit 0
mkdir -p "$1/src"
build=$(cd "$1" && pwd)

work=$(mktemp -d "$build/src/.demo-package.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

cat >"$work/hello.spec" <<'END'
Name: nbdroot-hello
Version: 1.0
Release: 1
Summary: Six hundred small files that a diskless machine installs
License: GPL-2.0-or-later
BuildArch: noarch

%description
Says hello from a machine whose rpm database lives on a network block device.

%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/usr/share/nbdroot-hello
printf '#!/bin/sh\necho "hello from $(hostname)"\n' >%{buildroot}/usr/bin/nbdroot-hello
chmod 755 %{buildroot}/usr/bin/nbdroot-hello
for i in $(seq -w 1 600); do
	yes "nbdroot-hello, file $i" | head -n 150 >%{buildroot}/usr/share/nbdroot-hello/$i
done

%post
sync
echo "nbdroot-hello: installed"

%files
/usr/bin/nbdroot-hello
/usr/share/nbdroot-hello
END

# HOME: rpm's own defaults (database, macros) look there.
export HOME="$work" LC_ALL=C SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-1700000000}"
rpmbuild -bb --target noarch \
	--define "_topdir $work/rpmbuild" --define "_dbpath $work/rpmdb" \
	--define "_tmppath $work" --define "_rpmdir $work/out" \
	--define "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm" \
	--define "_buildhost nbdroot" --define "use_source_date_epoch_as_buildtime 1" \
	--define "clamp_mtime_to_source_date_epoch 1" --define "_binary_payload w6.gzdio" \
	"$work/hello.spec" >"$work/log" 2>&1 </dev/null || {
	cat "$work/log" >&2
	echo "demo-package.sh: rpmbuild failed (see above)" >&2
	exit 1
}
mv -T "$work/out" "$build/demo-package" 2>/dev/null || [ -d "$build/demo-package" ]

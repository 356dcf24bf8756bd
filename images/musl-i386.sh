#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# musl-i386.sh BUILD: BUILD/musl-i386/gcc, which compiles as musl-gcc does, but static programs for
# 32-bit x86 machines: this machine's gcc with -m32, Debian's musl for i386, and the 32-bit libgcc
# of the same gcc. The packages are fetched and unpacked below BUILD, not installed: no foreign
# architecture has to be added to this machine, and gcc-multilib, which cannot be installed beside
# Debian's cross compilers, is not needed. No root is needed either.
#
# For any i686 (a Pentium Pro or later), which is what Debian's own i386 kernels want. The result
# is no position-independent code: on this processor that costs a tenth in size and speed.
set -eu

[ $# -eq 1 ] || { echo "usage: musl-i386.sh BUILD" >&2; exit 2; }
mkdir -p "$1/src" "$1/musl-i386"
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
out=$build/musl-i386
cc=${CC:-gcc}

work=$(mktemp -d "$build/src/.musl-i386.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

fail() {
	[ ! -e "$work/log" ] || cat "$work/log" >&2
	echo "musl-i386.sh: cannot $*" >&2
	exit 1
}

# $cc may be "ccache gcc".
# shellcheck disable=SC2086
version=$($cc -dumpversion | sed 's/\..*//')
libgcc=lib32gcc-$version-dev
(cd "$work" && "$here/apt.sh" --arch i386 "$build/src/.apt-i386" \
	apt-get -q download musl-dev:i386 "$libgcc") >"$work/log" 2>&1 </dev/null ||
	fail "fetch Debian's musl-dev:i386 and $libgcc (see above). Has this machine's mirror the" \
		"architecture i386, and is $cc Debian's own gcc? Who has no 32-bit machines to boot does" \
		"without: make WITH_I386=no"
for deb in "$work"/*.deb; do
	dpkg-deb -x "$deb" "$work/root" 2>>"$work/log" || fail "unpack $deb (see above)"
done
rm -rf "$out/root"
mv "$work/root" "$out/root"

musl=$out/root/usr/lib/i386-linux-musl
gcc=$(find "$out/root/usr/lib/gcc" -path '*/32/libgcc.a')
gcc=${gcc%/libgcc.a}
if ! [ -e "$musl/libc.a" ] || [ -z "$gcc" ]; then
	fail "find libc.a and libgcc.a in what was fetched"
fi

# What musl-gcc.specs has, for this place; nothing but static programs.
cat >"$out/specs" <<-END
	%rename cpp_options old_cpp_options

	*cpp_options:
	-nostdinc -isystem $out/root/usr/include/i386-linux-musl -isystem include%s %(old_cpp_options)

	*cc1:
	%(cc1_cpu) -nostdinc -isystem $out/root/usr/include/i386-linux-musl -isystem include%s

	*link_libgcc:
	-L$musl -L$gcc

	*libgcc:
	$gcc/libgcc.a

	*startfile:
	$musl/crt1.o $musl/crti.o $gcc/crtbeginT.o

	*endfile:
	$gcc/crtend.o $musl/crtn.o

	*link:
	-m elf_i386 -nostdlib -static

	*esp_link:


	*esp_options:


	*esp_cpp_options:


END
{
	echo "#!/bin/sh"
	echo "exec $cc -m32 -march=i686 -mtune=generic -fcf-protection=none -fno-pie -no-pie" \
		"-static \"\$@\" -specs $out/specs"
} >"$out/gcc.new"
chmod 755 "$out/gcc.new"
echo 'int main(void) { return 0; }' >"$work/try.c"
"$out/gcc.new" -o "$work/try" "$work/try.c" 2>"$work/log" || fail "compile for i386 (see above)"
mv "$out/gcc.new" "$out/gcc"

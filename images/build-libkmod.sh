#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# build-libkmod.sh BUILD OUTDIR: OUTDIR/libkmod.a and OUTDIR/include/libkmod.h, for musl, from
# Debian's source package kmod. Debian has no musl build of it, and init must be static.
#
# Without compression libraries (modules are unpacked when the initramfs is packed) and without
# openssl (only modinfo's signature lines need it). The dozen files are compiled here, not by
# kmod's own autotools: the config.h below is all that configure would find out.
# BUILD/uapi has the kernel's headers; MUSL_CC chooses the compiler.
set -eu

[ $# -eq 2 ] || { echo "usage: build-libkmod.sh BUILD OUTDIR" >&2; exit 2; }
build=$1 out=$2
here=$(dirname "$0")
cc=${MUSL_CC:-musl-gcc}
src=$build/src/kmod

"$here/debian-source.sh" kmod "$src"
mkdir -p "$out/include"
work=$(mktemp -d "$out/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

cat >"$work/config.h" <<'END'
#define ENABLE_LOGGING 1
#define HAVE_DECL_BE32TOH 1
#define HAVE_DECL_STRNDUPA 0
#define HAVE_LINUX_MODULE_H 1
#define HAVE_NORETURN 1
#define HAVE_SECURE_GETENV 1
#define HAVE_STATIC_ASSERT 1
#define HAVE_STRUCT_STAT_ST_MTIM 1
#define HAVE___BUILTIN_UADDLL_OVERFLOW 1
#define HAVE___BUILTIN_UADDL_OVERFLOW 1
#define KMOD_FEATURES "-ZSTD -XZ -ZLIB -LIBCRYPTO"
#define PACKAGE "kmod"
#define SYSCONFDIR "/etc"
END

for file in array hash scratchbuf strbuf util \
	libkmod libkmod-builtin libkmod-config libkmod-elf libkmod-file libkmod-index \
	libkmod-list libkmod-module libkmod-signature; do
	case $file in
	libkmod*) dir=libkmod ;;
	*) dir=shared ;;
	esac
	"$cc" -std=gnu11 -Os -g -ffunction-sections -fdata-sections -fstack-protector-strong \
		-D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -include "$work/config.h" \
		-ffile-prefix-map="$PWD=." -ffile-prefix-map="$src=kmod" -ffile-prefix-map="$work=kmod" \
		-I"$src" -isystem "$build/uapi" -c -o "$work/$file.o" "$src/$dir/$file.c"
done

# D: no dates or owners in the archive. The library comes last, for make looks at its date.
ar rcsD "$work/libkmod.a" "$work"/*.o
cp "$src/libkmod/libkmod.h" "$out/include/libkmod.h"
mv "$work/libkmod.a" "$out/libkmod.a"

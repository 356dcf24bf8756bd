/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The little of ELF that an initramfs is about: for which machine a program or a module is,
 * whether a program needs others, and what a module says of itself (.modinfo: "depends=...",
 * "firmware=...", each ended by a zero). Both classes, little-endian only. Pure, and trusts no
 * byte: every offset is checked against the size before it is used.
 */
#ifndef NBDROOT_ELF_H
#define NBDROOT_ELF_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum elf_machine {
	ELF_NONE,  /* nothing is known */
	ELF_I386,  /* runs on 32-bit and on 64-bit x86 kernels */
	ELF_AMD64, /* runs on 64-bit ones only */
	ELF_OTHER,
};

/* "i386", "amd64" (Debian's names), "another"; for a person. */
const char *elf_machine_name(enum elf_machine machine);
/* The reverse; ELF_NONE: no such name. */
enum elf_machine elf_machine_of_name(const char *name);

struct elf {
	enum elf_machine machine;
	unsigned number;        /* e_machine, for ELF_OTHER */
	bool is_module;         /* or another object file */
	bool is_static;         /* a program without an interpreter and without libraries */
	size_t end_of_segments; /* of a program; what comes after is for debuggers */
	const char *info;       /* .modinfo, NULL: has none */
	size_t info_size;
};

/* 0, or -ENOEXEC: not ELF, or not whole. Points into data. */
int elf_read(const void *data, size_t size, struct elf *out) _must_check_;

/*
 * The next value of "key=" in .modinfo, *at being where to look (0 at first); NULL: no more.
 * Strings that have no end do not exist.
 */
const char *elf_info(const struct elf *e, const char *key, size_t *at);

/*
 * Takes from a static program what is not loaded: symbols, debugging information. Returns its
 * new size, which may be the old one.
 */
size_t elf_trim(void *data, size_t size);

#endif

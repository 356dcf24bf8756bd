/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One kernel's modules for an initramfs: read from its tree, chosen (kernel-choose.h), unpacked,
 * with the indexes that libkmod reads (depmod.h) and the firmware that they name (firmware.h).
 * Nothing is stripped from a module: that would break its signature.
 */
#ifndef NBDROOT_KERNEL_TREE_H
#define NBDROOT_KERNEL_TREE_H

#include "elf.h"
#include "firmware.h"
#include "modules.h"
#include "pack.h"

struct kernel {
	const char *path; /* the caller's: DIR/lib/modules/VERSION */
	char *version;
	char *dep, *softdep, *alias, *builtin; /* depmod's texts */
	struct modules modules;
	enum elf_machine machine; /* ELF_NONE: a tree without modules */
	/* from here on: what kernel_add() has done */
	char *skipped; /* "e1000 (built in), r8169 (not in this tree)", or NULL */
	char *dark;    /* names of modules none of whose firmware was found, or NULL */
	size_t count;
	size_t size_bytes; /* of the modules, unpacked */
};

/* The version that a tree's path ends in, a malloced string, or NULL with errno. */
char *kernel_version(const char *path);

/* Reads the tree's texts. 0 or negative errno, already reported. */
int kernel_open(struct kernel *k, const char *path) _must_check_;
void kernel_deinit(struct kernel *k);

/*
 * Adds its modules and their firmware. drivers is the list of --drivers, its elements separated
 * by commas. 0 or negative errno, already reported.
 */
int kernel_add(struct pack *p, struct kernel *k, const char *drivers,
	       struct firmware *fw) _must_check_;

/* Adds a word to a list "one, two" that starts as NULL. 0 or -ENOMEM. */
int kernel_list_add(char **list, const char *word) _must_check_;

/*
 * Reads a module (path: of the tree), unpacked, for the caller to free. *plain: the length of path
 * up to ".ko". 0 or negative errno, already reported.
 */
int kernel_read_module(const char *path, void **data, size_t *size, size_t *plain) _must_check_;

#endif

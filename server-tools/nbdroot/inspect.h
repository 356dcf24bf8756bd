/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an initramfs is made of, as far as a diskless machine cares: kernels with their modules,
 * programs, firmware. Collected from an archive (archive.h), ours or another tool's; told by
 * inspect-list.c, judged by inspect-check.c. Prints nothing itself.
 */
#ifndef NBDROOT_INSPECT_H
#define NBDROOT_INSPECT_H

#include "archive.h"
#include "elf.h"

#include <stdio.h>

struct inspect_module {
	char *name;       /* with '_' */
	const char *path; /* below lib/modules/VERSION, the archive's */
	size_t size;      /* in the archive */
	enum elf_machine machine;
	bool is_broken; /* it cannot be read */
	char *info;     /* .modinfo: see elf_info() */
	size_t info_size;
};

struct inspect_kernel {
	char *version;
	char folder[16];                /* "lib/modules", "usr/lib/modules" */
	struct inspect_module *modules; /* by name */
	size_t n_modules;
	size_t size_bytes; /* of the modules, in the archive */
	enum elf_machine machine;
};

struct inspect_program {
	const char *path; /* "init", "bin/busybox" */
	const struct archive_file *file;
	enum elf_machine machine; /* ELF_NONE: a script, or no program */
	bool is_static;
	char *version; /* NULL: it does not tell */
};

enum { INSPECT_PROGRAMS = 4 };

struct inspection {
	const char *path;
	size_t size;
	struct archive archive;
	struct inspect_kernel *kernels;
	size_t n_kernels;
	struct inspect_program programs[INSPECT_PROGRAMS]; /* those that are there */
	size_t n_programs;
	size_t n_firmware;
	size_t firmware_bytes;
	/* Of etc/nbdroot.initramfs; NULL: another tool made the archive. */
	char *made_by, *drivers;
	void *data; /* the file's content */
};

/* Reads the file. 0 or negative errno, already reported. */
int inspect_open(struct inspection *in, const char *path) _must_check_;
void inspect_close(struct inspection *in);

/* Reads from bytes that must live as long. 0 or -ENOMEM. */
int inspect_read(struct inspection *in, const uint8_t *data, size_t size) _must_check_;

/* A module of that name, with '-' and '_' alike, or NULL. */
const struct inspect_module *inspect_find_module(const struct inspect_kernel *k, const char *name);

/* As elf_info(). */
const char *inspect_info(const struct inspect_module *m, const char *key, size_t *at);

/* Whether a kernel that looks for this firmware finds it. */
bool inspect_has_firmware(const struct inspection *in, const struct inspect_kernel *k,
			  const char *name);

/* What a file below lib/firmware is called by drivers; NULL: it is none. */
const char *inspect_firmware_name(const struct archive_file *f);

bool inspect_is_network_driver(const struct inspect_module *m);

/* For a person: text with '?' for what a terminal could take for an order; malloced or NULL. */
char *inspect_clean(const char *text);

/* Both print to stdout and return an exit status. */
int inspect_list(const struct inspection *in, bool as_json) _must_check_;
int inspect_check(const struct inspection *in, bool as_json) _must_check_;

#endif

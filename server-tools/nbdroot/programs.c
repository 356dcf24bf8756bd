/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See programs.h. */
#include "programs.h"

#include "base/log.h"
#include "infile.h"
#include "kernel-config.h"

#include <libgen.h>
#include <stdio.h>
#include <string.h>

#ifndef NBDROOT_LIBDIR
#define NBDROOT_LIBDIR "/usr/local/lib/nbdroot"
#endif

#ifdef __i386__
static const enum elf_machine programs_ours = ELF_I386;
#else
static const enum elf_machine programs_ours = ELF_AMD64;
#endif

/* Where Debian's e2fsck-static has it. */
static const char programs_fsck[] = "/sbin/e2fsck.static";

static bool programs_are_in(const char *folder)
{
	static const char *const names[] = { "init", "busybox" };
	char path[PATH_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		int n = snprintf(path, sizeof(path), "%s/%s", folder, names[i]);

		if (n >= (int)sizeof(path) || access(path, F_OK) < 0)
			return false;
	}
	return true;
}

/*
 * Beside our own program when that is in a build folder; else where it was installed, which is
 * found from the program's own place (PREFIX/sbin), so that a moved installation works too.
 */
static int programs_find_folder(char out[static PATH_MAX])
{
	static const char *const places[] = { "", "/../lib/nbdroot" };
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (length > 0) {
		const char *folder;

		self[length] = '\0';
		folder = dirname(self);
		for (size_t i = 0; i < ARRAY_SIZE(places); i++)
			if (snprintf(out, PATH_MAX, "%s%s", folder, places[i]) < PATH_MAX &&
			    programs_are_in(out))
				return 0;
	}
	if (programs_are_in(NBDROOT_LIBDIR)) {
		snprintf(out, PATH_MAX, "%s", NBDROOT_LIBDIR);
		return 0;
	}
	log_error("init and busybox are neither beside nbdroot nor in " NBDROOT_LIBDIR
		  " (install them, or say with --program-dir where they are)");
	return -ENOENT;
}

/* ---- for which machine -------------------------------------------------------------------- */

/* The kernels must be able to run the programs. */
static int programs_check_kernels(enum elf_machine machine, const struct kernel *kernels, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct kernel *k = &kernels[i];

		if (machine == ELF_AMD64 && k->machine == ELF_I386) {
			log_error("--arch amd64: kernel %s is a 32-bit one and cannot run 64-bit "
				  "programs (--arch i386 makes one archive for both kinds)",
				  k->version);
			return -EINVAL;
		}
		if (machine == ELF_I386 && k->machine == ELF_AMD64 &&
		    kernel_config(k->path, "IA32_EMULATION") == KERNEL_CONFIG_NO) {
			log_error("kernel %s cannot run 32-bit programs (it was built without "
				  "CONFIG_IA32_EMULATION); make an archive of its own for it, with "
				  "--arch amd64",
				  k->version);
			return -EINVAL;
		}
	}
	return 0;
}

static enum elf_machine programs_choose(const struct kernel *kernels, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (kernels[i].machine == ELF_I386)
			return ELF_I386;
	return programs_ours;
}

/* Of the init in this folder; ELF_NONE: there is none, or a script of somebody. */
static enum elf_machine programs_machine_in(const char *folder)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_free_ void *data = NULL;
	size_t size;
	struct elf e;

	if (asprintf(&path, "%s/init", folder) < 0 ||
	    infile_read(path, PACK_FILE_MAX, &data, &size) < 0)
		return ELF_NONE;
	return elf_read(data, size, &e) < 0 ? ELF_NONE : e.machine;
}

int programs_find(struct programs *g, enum elf_machine wanted, const char *given,
		  const struct kernel *kernels, size_t n_kernels)
{
	enum elf_machine there;
	int r = 0;

	g->machine = wanted != ELF_NONE ? wanted : programs_choose(kernels, n_kernels);
	r = programs_check_kernels(g->machine, kernels, n_kernels);
	if (r == 0 && !given)
		r = programs_find_folder(g->scripts);
	if (r < 0)
		return r;
	if (given && snprintf(g->scripts, PATH_MAX, "%s", given) >= PATH_MAX)
		return -ENAMETOOLONG;
	there = programs_machine_in(g->scripts);
	/* What is there not at all is reported by who opens it. */
	if (there == g->machine || (there == ELF_NONE && g->machine == programs_ours)) {
		snprintf(g->folder, PATH_MAX, "%s", g->scripts);
		return 0;
	}
	if (snprintf(g->folder, PATH_MAX, "%s/%s", g->scripts, elf_machine_name(g->machine)) >=
	    PATH_MAX)
		return -ENAMETOOLONG;
	if (programs_machine_in(g->folder) == g->machine)
		return 0;
	log_error("%s/init: not there, or not for %s (build it with make, or say with "
		  "--program-dir where the folder %s with init, nbdclient and busybox is)",
		  g->folder, elf_machine_name(g->machine), elf_machine_name(g->machine));
	return -ENOENT;
}

/* ---- e2fsck ------------------------------------------------------------------------------- */

int programs_add_fsck(const struct programs *g, struct pack *p, const char *path)
{
	_cleanup_free_ void *data = NULL;
	bool is_auto = strcmp(path, "auto") == 0;
	size_t size;
	struct elf e;
	int r;

	if (is_auto)
		path = programs_fsck;
	r = infile_read(path, PACK_FILE_MAX, &data, &size);
	if (r < 0) {
		log_error("--fsck %s: cannot be read: %s%s", path, strerror(-r),
			  is_auto && r == -ENOENT ? " (install the package e2fsck-static)" : "");
		return r;
	}
	if (elf_read(data, size, &e) < 0 || e.is_module) {
		log_error("--fsck %s: no program (it is no ELF file, or not all of one)", path);
		return -ENOEXEC;
	}
	if (!e.is_static) {
		log_error("--fsck %s: needs shared libraries, which an initramfs has not (Debian's "
			  "package e2fsck-static has one that does not)",
			  path);
		return -ENOEXEC;
	}
	if (e.machine != g->machine && !(e.machine == ELF_I386 && g->machine == ELF_AMD64)) {
		log_error("--fsck %s: for %s, and this archive is for %s (give it one that runs "
			  "there, of e2fsck-static:%s)",
			  path, elf_machine_name(e.machine), elf_machine_name(g->machine),
			  elf_machine_name(g->machine));
		return -ENOEXEC;
	}
	return pack_add_program(p, path, "sbin/e2fsck");
}

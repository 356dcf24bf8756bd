/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See pack.h. */
#include "pack.h"

#include "base/log.h"
#include "elf.h"
#include "infile.h"
#include "run.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { PACK_APPLETS_MAX = 65536 }; /* of busybox --list */

int pack_add(struct pack *p, const char *name, mode_t mode, void *data, size_t size)
{
	/* Grows at the powers of two. */
	if ((p->count & (p->count - 1)) == 0) {
		size_t room = p->count ? p->count * 2 : 1;
		struct pack_entry *grown = realloc(p->list, room * sizeof(*grown));

		if (!grown)
			goto failed;
		p->list = grown;
	}
	p->list[p->count] = (struct pack_entry){
		.name = strdup(name),
		.mode = mode,
		.data = data,
		.size = size,
	};
	if (!p->list[p->count].name)
		goto failed;
	p->count++;
	return 0;
failed:
	free(data);
	return -ENOMEM;
}

static int pack_add_link(struct pack *p, const char *name, const char *target)
{
	char *copy = strdup(target);

	return copy ? pack_add(p, name, S_IFLNK | 0777, copy, strlen(target)) : -ENOMEM;
}

void pack_deinit(struct pack *p)
{
	for (size_t i = 0; i < p->count; i++) {
		free(p->list[i].name);
		free(p->list[i].data);
	}
	free(p->list);
	*p = (struct pack){ 0 };
}

const struct pack_entry *pack_find(const struct pack *p, const char *name)
{
	for (size_t i = 0; i < p->count; i++)
		if (strcmp(p->list[i].name, name) == 0)
			return &p->list[i];
	return NULL;
}

int pack_add_program(struct pack *p, const char *path, const char *name)
{
	void *data = NULL;
	size_t size = 0;
	int r;

	r = infile_read(path, PACK_FILE_MAX, &data, &size);
	if (r == 0)
		r = pack_add(p, name, S_IFREG | 0755, data, elf_trim(data, size));
	if (r == -ENOENT)
		log_error("%s: not there (build it with make, or say with --program-dir where "
			  "init, nbdclient, busybox and udhcpc.script are)",
			  path);
	else if (r < 0)
		log_error("%s: cannot be packed: %s", path, strerror(-r));
	return r;
}

/* busybox knows best which commands it has. */
static int pack_add_applets(struct pack *p, const char *folder)
{
	_cleanup_free_ char *busybox = NULL;
	_cleanup_free_ char *list = NULL;
	int r;

	if (asprintf(&busybox, "%s/busybox", folder) < 0)
		return -ENOMEM;
	const char *const command[] = { busybox, "--list", NULL };

	r = run_capture(command, PACK_APPLETS_MAX, &list);
	if (r != 0) {
		log_error("%s --list: failed: %s (it must be a program that this machine can run)",
			  busybox, r < 0 ? strerror(-r) : "it did not end well");
		return r < 0 ? r : -ENOEXEC;
	}
	for (char *save, *name = strtok_r(list, "\n", &save); name;
	     name = strtok_r(NULL, "\n", &save)) {
		_cleanup_free_ char *link = NULL;

		if (strcmp(name, "busybox") == 0)
			continue;
		if (strchr(name, '/') || asprintf(&link, "bin/%s", name) < 0) {
			log_error("%s --list: not a command's name: %s", busybox, name);
			return -EINVAL;
		}
		r = pack_add_link(p, link, "busybox");
		if (r < 0)
			return r;
	}
	return 0;
}

int pack_add_base(struct pack *p, const char *folder, const char *script_folder)
{
	static const struct {
		const char *name;
		mode_t mode;
	} folders[] = {
		{ "bin", 0755 }, { "dev", 0755 },     { "etc", 0755 },
		{ "lib", 0755 }, { "newroot", 0755 }, { "proc", 0555 },
		{ "run", 0755 }, { "sys", 0555 },     { "tmp", 01777 },
	};
	static const char *const programs[][2] = {
		{ "init", "init" },
		{ "nbdclient", "bin/nbdclient" },
		{ "busybox", "bin/busybox" },
		{ "udhcpc.script", "etc/udhcpc.script" },
	};
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		r = pack_add(p, folders[i].name, S_IFDIR | folders[i].mode, NULL, 0);
		if (r < 0)
			return r;
	}
	/* The kernel opens it for init before anybody can mount a devtmpfs. */
	r = pack_add(p, "dev/console", S_IFCHR | 0600, NULL, 0);
	if (r < 0)
		return r;
	p->list[p->count - 1].device_major = 5;
	p->list[p->count - 1].device_minor = 1;
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		bool is_script = strchr(programs[i][0], '.') != NULL;
		_cleanup_free_ char *path = NULL;

		if (asprintf(&path, "%s/%s", is_script ? script_folder : folder, programs[i][0]) <
		    0)
			return -ENOMEM;
		r = pack_add_program(p, path, programs[i][1]);
		if (r < 0)
			return r;
	}
	/* Both are built alike, and this machine may not be able to run the other one. */
	return pack_add_applets(p, script_folder);
}

/* ---- the archive -------------------------------------------------------------------------- */

static int pack_compare(const void *a, const void *b)
{
	return strcmp(((const struct pack_entry *)a)->name, ((const struct pack_entry *)b)->name);
}

static void pack_sort(struct pack *p)
{
	qsort(p->list, p->count, sizeof(*p->list), pack_compare);
}

static int pack_has(const struct pack *p, size_t count, const char *name)
{
	const struct pack_entry key = { .name = (char *)(uintptr_t)name };

	return bsearch(&key, p->list, count, sizeof(*p->list), pack_compare) != NULL;
}

/* The kernel does not make the directories that a name goes through. */
static int pack_add_parents(struct pack *p)
{
	size_t given = p->count;

	for (size_t i = 0; i < given; i++) {
		for (size_t n = strlen(p->list[i].name); n > 0; n--) {
			_cleanup_free_ char *parent = NULL;
			int r;

			if (p->list[i].name[n] != '/')
				continue;
			parent = strndup(p->list[i].name, n);
			if (!parent)
				return -ENOMEM;
			if (pack_has(p, given, parent))
				break;
			r = pack_add(p, parent, S_IFDIR | 0755, NULL, 0);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

int pack_archive(struct pack *p, struct cpio *c)
{
	int r;

	pack_sort(p);
	for (size_t i = 1; i < p->count; i++) {
		if (strcmp(p->list[i - 1].name, p->list[i].name) == 0) {
			log_error("/%s: comes twice", p->list[i].name);
			return -EEXIST;
		}
	}
	r = pack_add_parents(p);
	if (r < 0)
		return r;
	pack_sort(p);
	for (size_t i = 0; i < p->count; i++) {
		const struct pack_entry *e = &p->list[i];
		const struct cpio_entry out = { e->name, e->mode,         e->data,
						e->size, e->device_major, e->device_minor };

		/* A new directory is named once for each file in it. */
		if (i > 0 && strcmp(p->list[i - 1].name, e->name) == 0)
			continue;
		r = cpio_add(c, &out);
		if (r < 0)
			return r;
	}
	return cpio_end(c);
}

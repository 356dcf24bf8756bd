/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See modules.h. */
#include "modules.h"

#include "base/fd.h"
#include "base/log.h"

#include <dirent.h>
#include <libkmod.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

/*
 * With nbds_max=0 the driver makes a device when nbdclient connects it, so that nobody can have
 * it open before; with max_part=0 nothing looks for partitions in a file system's first blocks.
 */
#define NBD_OPTIONS "nbds_max=0 max_part=0"

enum { SEEN_MAX = 4096 };

static struct {
	struct kmod_ctx *ctx;
	uint64_t seen[SEEN_MAX]; /* hashes of the aliases that were tried; 0: free */
	size_t seen_count;
	char loaded[512]; /* names since the last line about them */
	size_t loaded_count;
} state;

static void log_kmod(void *data, int priority, const char *file, int line, const char *fn,
		     const char *format, va_list args)
{
	char text[512];

	(void)data, (void)file, (void)line, (void)fn;
	vsnprintf(text, sizeof(text), format, args);
	text[strcspn(text, "\n")] = '\0';
	log_line(priority <= LOG_LEVEL_ERROR ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG, "modules: %s",
		 text);
}

static bool open_tree(void)
{
	struct utsname u;
	char path[256];

	if (state.ctx != NULL)
		return true;
	uname(&u);
	snprintf(path, sizeof(path), "/lib/modules/%s/modules.dep.bin", u.release);
	if (access(path, R_OK) != 0)
		return false;
	*strrchr(path, '/') = '\0';
	state.ctx = kmod_new(path, NULL);
	if (state.ctx == NULL)
		return false;
	kmod_set_log_fn(state.ctx, log_kmod, NULL);
	kmod_load_resources(state.ctx);
	return true;
}

/* Called by libkmod for each module right before it goes in. */
static void note_loaded(struct kmod_module *mod, bool is_install, const char *options)
{
	size_t used = strlen(state.loaded);

	(void)is_install, (void)options;
	snprintf(state.loaded + used, sizeof(state.loaded) - used, "%s%s", used > 0 ? ", " : "",
		 kmod_module_get_name(mod));
	state.loaded_count++;
}

static void log_loaded(void)
{
	if (state.loaded_count > 0)
		log_info("modules: %s", state.loaded);
	state.loaded[0] = '\0';
	state.loaded_count = 0;
}

static int load(const char *name, const char *options, unsigned int flags)
{
	struct kmod_list *list = NULL, *item;
	int r, result = MODULES_E_ABSENT;

	if (!open_tree())
		return MODULES_E_ABSENT;
	r = kmod_module_new_from_lookup(state.ctx, name, &list);
	if (r < 0)
		return r;
	kmod_list_foreach(item, list)
	{
		struct kmod_module *mod = kmod_module_get_module(item);

		r = kmod_module_probe_insert_module(mod, flags, options, NULL, NULL, note_loaded);
		if (r >= 0 || r == -EEXIST) { /* > 0: blacklisted, somebody's wish */
			result = 0;
		} else {
			/* -ENODEV is a driver's way to say that it is not needed here. */
			log_line(r == -ENODEV ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN,
				 "modules: cannot load %s: %s (going on without it)",
				 kmod_module_get_name(mod), strerror(-r));
			if (result != 0)
				result = r;
		}
		kmod_module_unref(mod);
	}
	kmod_module_unref_list(list);
	return result;
}

int modules_load(const char *name, const char *options)
{
	int r = load(name, options, 0);

	log_loaded();
	return r;
}

/* FNV-1a; the set only saves work, so that a collision costs one alias in 2^64. */
static bool is_new_alias(const char *alias)
{
	uint64_t hash = UINT64_C(14695981039346656037);

	for (const char *p = alias; *p != '\0'; p++)
		hash = (hash ^ (unsigned char)*p) * UINT64_C(1099511628211);
	if (hash == 0)
		hash = 1;
	for (size_t i = hash % SEEN_MAX;; i = (i + 1) % SEEN_MAX) {
		if (state.seen[i] == hash)
			return false;
		if (state.seen[i] == 0) {
			if (state.seen_count == SEEN_MAX / 2)
				return true; /* full: work twice rather than miss one */
			state.seen[i] = hash;
			state.seen_count++;
			return true;
		}
	}
}

static size_t coldplug_bus(const char *bus)
{
	char path[512], alias[512];
	struct dirent *d;
	size_t fresh = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/bus/%s/devices", bus);
	dir = opendir(path);
	if (dir == NULL)
		return 0;
	while ((d = readdir(dir)) != NULL) {
		if (d->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/sys/bus/%s/devices/%s/modalias", bus, d->d_name);
		if (fd_read_file(path, alias, sizeof(alias)) <= 0 || !is_new_alias(alias))
			continue;
		fresh++;
		if (load(alias, NULL, KMOD_PROBE_APPLY_BLACKLIST) < 0)
			log_debug("modules: nothing for %s", alias);
	}
	closedir(dir);
	return fresh;
}

void modules_coldplug(void)
{
	size_t fresh;

	if (!open_tree())
		return;
	do {
		DIR *dir = opendir("/sys/bus");
		struct dirent *d;

		fresh = 0;
		while (dir != NULL && (d = readdir(dir)) != NULL)
			if (d->d_name[0] != '.')
				fresh += coldplug_bus(d->d_name);
		if (dir != NULL)
			closedir(dir);
	} while (fresh > 0 && state.seen_count < SEEN_MAX / 2);
	log_loaded();
}

/* Whether a file of /proc has the word at the end of one of its lines. */
static bool has_line_ending_in(const char *path, const char *word)
{
	char line[256];
	bool is_found = false;
	FILE *f = fopen(path, "re");

	while (f != NULL && !is_found && fgets(line, sizeof(line), f) != NULL) {
		char *last = line + strcspn(line, "\n");

		*last = '\0';
		while (last > line && last[-1] != ' ' && last[-1] != '\t')
			last--;
		is_found = strcmp(last, word) == 0;
	}
	if (f != NULL)
		fclose(f);
	return is_found;
}

bool modules_have_filesystem(const char *fstype)
{
	char alias[64];

	if (has_line_ending_in("/proc/filesystems", fstype))
		return true;
	snprintf(alias, sizeof(alias), "fs-%s", fstype);
	if (modules_load(alias, NULL) != 0)
		return false;
	return has_line_ending_in("/proc/filesystems", fstype);
}

static void list_trees(char *out, size_t size)
{
	DIR *dir = opendir("/lib/modules");
	struct dirent *d;
	size_t used = 0;

	snprintf(out, size, "none");
	while (dir != NULL && (d = readdir(dir)) != NULL) {
		if (d->d_name[0] == '.' || used >= size)
			continue;
		used += (size_t)snprintf(out + used, size - used, "%s%s", used > 0 ? ", " : "",
					 d->d_name);
	}
	if (dir != NULL)
		closedir(dir);
}

int modules_up(struct boot *b)
{
	bool has_tree = open_tree();
	struct utsname u;
	char trees[256];
	int r = 0;

	uname(&u);
	if (has_tree) {
		modules_coldplug();
		/* Built into most kernels; where it is not, DHCP needs it. */
		if (load("af_packet", NULL, 0) < 0)
			log_debug("modules: no af_packet");
		if (load("fs-ext4", NULL, 0) < 0)
			log_debug("modules: no ext4");
	}
	if (!has_line_ending_in("/proc/devices", "nbd"))
		r = load("nbd", NBD_OPTIONS, 0);
	log_loaded();

	if (has_line_ending_in("/proc/devices", "nbd")) {
		if (!has_tree)
			log_info("modules: none for kernel %s in this initramfs; going on with "
				 "what the kernel has built in",
				 u.release);
		return 0;
	}
	if (!has_tree) {
		list_trees(trees, sizeof(trees));
		return lastwords_leave(&b->words, NULL,
				       "kernel %s has no nbd driver built in, and this initramfs "
				       "holds modules for: %s",
				       u.release, trees);
	}
	if (r == MODULES_E_ABSENT)
		return lastwords_leave(&b->words, NULL,
				       "the module tree of kernel %s in this initramfs has no nbd "
				       "driver",
				       u.release);
	return lastwords_leave(&b->words, NULL, "the nbd driver cannot be loaded: %s",
			       r < 0 ? strerror(-r) : "it was loaded, but gives no device");
}

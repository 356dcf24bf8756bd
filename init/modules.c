/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See modules.h. */
#include "modules.h"
#include "uevent.h"
#include "wait.h"

#include "base/fd.h"
#include "base/log.h"

#include <dirent.h>
#include <fcntl.h>
#include <libkmod.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/*
 * With nbds_max=0 the driver makes a device when nbdclient connects it, so that nobody can have
 * it open before; with max_part=0 nothing looks for partitions in a file system's first blocks.
 */
#define NBD_OPTIONS "nbds_max=0 max_part=0"

enum {
	SEEN_MAX = 4096,
	BATCH_MAX = 2 * UEVENT_MAX, /* aliases that are loaded by one child */
	LOOK_MS = 1000,
};

static struct {
	struct kmod_ctx *ctx;
	uint64_t seen[SEEN_MAX]; /* hashes of the aliases that were tried; 0: free */
	size_t seen_count;
	char loaded[512]; /* names since the last line about them */
	size_t loaded_count;

	int uevent_fd; /* 0: not opened yet; -1: cannot be */
	/* The child that loads in the background says when each of these is done. */
	bool has_child;
	int child_fd;
	unsigned int child_done;
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

/*
 * Whether it is, or leads to, a network card that is worth loading first: the class of PCI devices,
 * and the cards of virtual machines. USB tells no class before its driver does; it comes with the
 * rest, and by uevents.
 */
static bool is_network_alias(const char *alias)
{
	static const char *const starts[] = { "virtio:d00000001v",
					      "vmbus:f8615163df3e46c5913ff2d2f965ed0e", "xen:vif" };
	const char *class = strncmp(alias, "pci:", 4) == 0 ? strstr(alias, "bc") : NULL;

	if (class != NULL)
		return strncmp(class, "bc02", 4) == 0;
	for (size_t i = 0; i < ARRAY_SIZE(starts); i++)
		if (strncmp(alias, starts[i], strlen(starts[i])) == 0)
			return true;
	return false;
}

/* True: it was not tried before. */
static bool load_alias(const char *alias)
{
	if (!is_new_alias(alias))
		return false;
	if (load(alias, NULL, KMOD_PROBE_APPLY_BLACKLIST) < 0)
		log_debug("modules: nothing for %s", alias);
	return true;
}

static int is_visible(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

/*
 * In the order of their names, as events would come: of a USB card's interfaces the first one
 * tells its class, and a driver that knows only the second must not get at it before.
 */
static size_t coldplug_bus(const char *bus, bool network_only)
{
	char path[512], alias[512];
	struct dirent **list;
	size_t fresh = 0;
	int count;

	snprintf(path, sizeof(path), "/sys/bus/%s/devices", bus);
	count = scandir(path, &list, is_visible, versionsort);
	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "/sys/bus/%s/devices/%s/modalias", bus,
			 list[i]->d_name);
		if (fd_read_file(path, alias, sizeof(alias)) > 0 &&
		    (!network_only || is_network_alias(alias)))
			fresh += load_alias(alias);
		free(list[i]);
	}
	if (count >= 0)
		free(list);
	return fresh;
}

/* Until no new device appears. */
static void coldplug(bool network_only)
{
	size_t fresh;

	do {
		DIR *dir = opendir("/sys/bus");
		struct dirent *d;

		fresh = 0;
		while (dir != NULL && (d = readdir(dir)) != NULL)
			if (d->d_name[0] != '.')
				fresh += coldplug_bus(d->d_name, network_only);
		if (dir != NULL)
			closedir(dir);
	} while (fresh > 0 && state.seen_count < SEEN_MAX / 2);
}

int modules_uevent_fd(void)
{
	return state.uevent_fd > 0 ? state.uevent_fd : -1;
}

/* Aliases, each ended by a NUL; and whatever else there is. */
static void load_batch(const char *batch, size_t size, bool has_lost_some)
{
	for (const char *alias = batch; alias < batch + size; alias += strlen(alias) + 1)
		if (load(alias, NULL, KMOD_PROBE_APPLY_BLACKLIST) < 0)
			log_debug("modules: nothing for %s", alias);
	if (has_lost_some)
		coldplug(false);
	log_loaded();
}

/*
 * A driver's probe may take as long as it likes, for a GPU's firmware, say: who waits for a card
 * does not wait for that, nor does the card's driver wait for another's.
 */
static void load_in_child(const char *batch, size_t size, bool has_lost_some)
{
	pid_t pid;

	if (size == 0 && !has_lost_some)
		return;
	pid = fork();
	if (pid == 0) {
		load_batch(batch, size, has_lost_some);
		_exit(0);
	}
	if (pid < 0)
		load_batch(batch, size, has_lost_some);
}

void modules_on_uevents(void)
{
	static char batch[BATCH_MAX];
	char data[UEVENT_MAX];
	bool has_lost_some = false;
	size_t used = 0;
	struct uevent e;

	while (state.uevent_fd > 0 && uevent_read(state.uevent_fd, data, sizeof(data), &e)) {
		size_t size;

		if (!open_tree())
			continue;
		if (e.action == NULL)
			has_lost_some = true;
		if (e.action == NULL || strcmp(e.action, "add") != 0 || e.modalias == NULL ||
		    !is_new_alias(e.modalias))
			continue;
		size = strlen(e.modalias) + 1;
		if (size > sizeof(batch) - used) { /* UEVENT_MAX is less than half of it */
			load_in_child(batch, used, false);
			used = 0;
		}
		memcpy(batch + used, e.modalias, size);
		used += size;
	}
	load_in_child(batch, used, has_lost_some);
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

/* What the child loads first, in this order. */
enum { CHILD_NBD = 1, CHILD_FILESYSTEMS = 2 };

/*
 * Until it has done that, or has ended: it may be loading just what we want. A driver that does not
 * come back is beyond help, but a person can read which wait this is.
 */
static void wait_for_child(unsigned int what)
{
	struct wait w;
	char byte;

	wait_start(&w);
	while (state.has_child && state.child_done < what) {
		struct pollfd p = { .fd = state.child_fd, .events = POLLIN };
		ssize_t n;

		if (poll(&p, 1, LOOK_MS) <= 0) {
			wait_say(&w, "modules",
				 what == CHILD_NBD ? "the nbd driver" : "file systems", "loading",
				 "the kernel's messages above may say what keeps them");
			continue;
		}
		n = read(state.child_fd, &byte, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n > 0) {
			state.child_done++;
			continue;
		}
		close(state.child_fd);
		state.has_child = false;
	}
}

bool modules_have_filesystem(const char *fstype)
{
	char alias[64];

	if (has_line_ending_in("/proc/filesystems", fstype))
		return true;
	wait_for_child(CHILD_FILESYSTEMS);
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

static bool has_nbd(void)
{
	return has_line_ending_in("/proc/devices", "nbd");
}

/* Whether the tree has a module of this name. */
static bool is_known(const char *name)
{
	struct kmod_list *list = NULL;
	bool is_there = open_tree() && kmod_module_new_from_lookup(state.ctx, name, &list) >= 0 &&
			list != NULL;

	kmod_module_unref_list(list);
	return is_there;
}

static int load_nbd(void)
{
	return has_nbd() ? 0 : load("nbd", NBD_OPTIONS, 0);
}

/* Whether there will be a network block device, as far as the command line tells. */
static bool needs_nbd(const struct cmdline *c)
{
	return c->root.kind != ROOT_NFS || c->mounts_count > 0 || c->rpmdb.uri != NULL ||
	       c->overlay == CMDLINE_OVERLAY_DEVICE;
}

static void say_done(int fd)
{
	if (write(fd, "\n", 1) < 0)
		log_debug("modules: %s", strerror(errno));
}

static void load_the_rest(const struct cmdline *c, int done_fd)
{
	static const char *const nfs[] = { "fs-nfs", "nfsv3", "nfsv4" };

	if (load_nbd() != 0)
		log_debug("modules: no nbd");
	say_done(done_fd);
	(void)nice(10); /* on one processor, the network goes first */
	for (size_t i = 0; c->root.kind == ROOT_NFS && i < ARRAY_SIZE(nfs); i++)
		if (load(nfs[i], NULL, 0) < 0)
			log_debug("modules: no %s", nfs[i]);
	if (needs_nbd(c) && load("fs-ext4", NULL, 0) < 0)
		log_debug("modules: no ext4");
	if (c->overlay != CMDLINE_OVERLAY_NONE && load("fs-overlay", NULL, 0) < 0)
		log_debug("modules: no overlay");
	say_done(done_fd);
	log_loaded();
	/* USB hosts and what is behind slow buses: their cards are news to our parent. */
	coldplug(false);
	log_loaded();
}

/* Two processors load twice as fast, and on one the network's waits are used. */
static void start_child(const struct cmdline *c)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) != 0) {
		log_debug("modules: no pipe: %s", strerror(errno));
		return;
	}
	pid = fork();
	if (pid == 0) {
		close(ends[0]);
		load_the_rest(c, ends[1]);
		_exit(0);
	}
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		return;
	}
	state.has_child = true;
	state.child_fd = ends[0];
}

int modules_wait_for_nbd(struct boot *b)
{
	int r = 0;

	wait_for_child(CHILD_NBD);
	if (!has_nbd())
		r = load_nbd(); /* for the reason */
	log_loaded();
	if (has_nbd())
		return 0;
	return lastwords_leave_final(
		&b->words,
		"is it the nbd driver of exactly this kernel? The kernel's messages "
		"above say more; build the initramfs again",
		"the nbd driver cannot be loaded: %s",
		r < 0 ? strerror(-r) : "it was loaded, but gives no device");
}

int modules_up(struct boot *b)
{
	bool has_tree = open_tree();
	struct utsname u;
	char trees[256];

	uname(&u);
	if (needs_nbd(&b->cmdline) && b->cmdline.root.kind != ROOT_DHCP && !has_nbd() &&
	    !is_known("nbd")) {
		if (has_tree)
			return lastwords_leave(
				&b->words, NULL,
				"the module tree of kernel %s in this initramfs has no "
				"nbd driver",
				u.release);
		list_trees(trees, sizeof(trees));
		return lastwords_leave(&b->words, NULL,
				       "kernel %s has no nbd driver built in, and this initramfs "
				       "holds modules for: %s",
				       u.release, trees);
	}
	if (state.uevent_fd == 0) { /* before the first look, so that nothing falls between */
		state.uevent_fd = uevent_listen();
		if (state.uevent_fd < 0)
			log_warn("modules: no news of devices that appear later: %s",
				 strerror(-state.uevent_fd));
	}
	if (!has_tree) {
		log_info("modules: none for kernel %s in this initramfs; going on with what the "
			 "kernel has built in",
			 u.release);
		return 0;
	}
	start_child(&b->cmdline);
	coldplug(state.has_child); /* without one, all of them */
	/* Built into most kernels; where it is not, the DHCP client needs it. */
	if (load("af_packet", NULL, 0) < 0)
		log_debug("modules: no af_packet");
	log_loaded();
	return 0;
}

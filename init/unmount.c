/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See unmount.h. An overlay keeps its halves alive although nobody sees them: so it goes first, and
 * what is mounted of the halves stays until then, to make them read-only when it will not go.
 */
#include "unmount.h"
#include "boot.h"
#include "mountinfo.h"
#include "proc.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define OLD_ROOT "/oldroot"
/* Where the halves are taken to, out of a /run that is in the way of the overlay. */
#define HALVES "/halves"

enum {
	SYNC_S = 15,
	UNMOUNTS_S = 45, /* all of them */
	UNMOUNT_S = 15,  /* one of them: a journal's last commit on a slow server */
	VIEW_S = 5,      /* one of what has nothing to lose */
	ROUNDS_MAX = 4,
};

static uint64_t started_ns;
static bool is_alone;

void unmount_begin(bool is_init)
{
	started_ns = clock_now_ns();
	is_alone = is_init;
}

uint64_t unmount_deadline(unsigned int from_start_s, unsigned int from_now_s)
{
	uint64_t start = started_ns + from_start_s * CLOCK_NS_PER_S;
	uint64_t now = clock_now_ns() + from_now_s * CLOCK_NS_PER_S;

	return start < now ? start : now;
}

/* ---- what is mounted ------------------------------------------------------------------------ */

enum kind {
	KIND_VIEW,    /* memory and kernel views: nothing to lose */
	KIND_STORE,   /* something may be unwritten */
	KIND_OVERLAY, /* of the root */
	KIND_HALF,    /* of that overlay */
};

struct mount_entry {
	char *line; /* which the others point into */
	const char *where, *device;
	enum kind kind;
	bool is_nfs;
};

struct mounts {
	struct mount_entry *list;
	size_t count;
};

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool is_half(const char *where)
{
	if (starts(where, HALVES "/"))
		return true;
	where += starts(where, OLD_ROOT "/") ? strlen(OLD_ROOT) : 0;
	return strcmp(where, BOOT_LOWER) == 0 || strcmp(where, BOOT_UPPER) == 0;
}

static bool is_nfs(const char *type)
{
	return strcmp(type, "nfs") == 0 || strcmp(type, "nfs4") == 0;
}

/* -1: not our business. */
static int kind_of(const char *where, const char *type, const char *device)
{
	if (strcmp(type, "overlay") == 0 &&
	    (strcmp(where, "/") == 0 || strcmp(where, OLD_ROOT) == 0))
		return KIND_OVERLAY;
	if (starts(device, "/dev/nbd") || is_nfs(type))
		return is_half(where) ? KIND_HALF : KIND_STORE;
	return starts(where, OLD_ROOT) ? KIND_VIEW : -1;
}

static bool add_mount(struct mounts *m, char *line)
{
	struct mount_entry *longer;
	struct mountinfo info;
	int kind = mountinfo_parse(line, &info) ? kind_of(info.where, info.type, info.source) : -1;

	if (kind < 0) {
		free(line);
		return true;
	}
	longer = reallocarray(m->list, m->count + 1, sizeof(*m->list));
	if (longer == NULL) {
		free(line);
		return false;
	}
	m->list = longer;
	m->list[m->count++] = (struct mount_entry){ .line = line,
						    .where = info.where,
						    .device = info.source,
						    .kind = (enum kind)kind,
						    .is_nfs = is_nfs(info.type) };
	return true;
}

static void free_mounts(struct mounts *m)
{
	for (size_t i = 0; i < m->count; i++)
		free(m->list[i].line);
	free(m->list);
	*m = (struct mounts){ 0 };
}

/* In the order of mounting. False, in words: there are more. */
static bool read_mounts(struct mounts *out)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	bool is_whole = f != NULL;

	*out = (struct mounts){ 0 };
	while (is_whole) {
		char *line = NULL;
		size_t size = 0;

		errno = 0;
		if (getline(&line, &size, f) < 0) {
			is_whole = errno == 0;
			free(line);
			break;
		}
		is_whole = add_mount(out, line);
	}
	if (!is_whole)
		log_error("shutdown: what is mounted cannot be read: %s (going on with what is "
			  "known)",
			  strerror(errno));
	if (f != NULL)
		fclose(f);
	return is_whole;
}

/* ---- one action ----------------------------------------------------------------------------- */

enum action {
	ACTION_UMOUNT,
	ACTION_DETACH,
	ACTION_BIND,
	ACTION_READ_ONLY,
	ACTION_SYNC,
};

/* Never by PID 1 itself: on a root whose server is away, any path may be the one that sleeps. */
static int act(enum action what, const char *where, const char *to)
{
	switch (what) {
	case ACTION_UMOUNT: return umount2(where, UMOUNT_NOFOLLOW);
	case ACTION_DETACH: return umount2(where, UMOUNT_NOFOLLOW | MNT_DETACH);
	case ACTION_BIND: return mount(where, to, NULL, MS_BIND, NULL);
	case ACTION_READ_ONLY: return mount(NULL, where, NULL, MS_REMOUNT | MS_RDONLY, NULL);
	case ACTION_SYNC: sync(); return 0;
	}
	return -1;
}

/*
 * Runs one in a child: 0 done; positive: the errno of the call; negative: it has not ended,
 * -ETIMEDOUT, or the errno of why there is no such child.
 */
static int bounded(enum action what, const char *where, const char *to, uint64_t until_ns)
{
	pid_t pid = fork();
	int status, r;

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		r = act(what, where, to);
		_exit(r == 0 ? 0 : errno); /* at most 133 */
	}
	r = proc_wait(pid, until_ns, &status);
	if (r < 0)
		return r; /* in the kernel, where no signal reaches it */
	return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

/* Of what bounded() returned. */
static const char *reason(int r)
{
	if (r == -ETIMEDOUT)
		return "no answer from its server";
	return strerror(r < 0 ? -r : r);
}

bool unmount_sync(void)
{
	return bounded(ACTION_SYNC, "", NULL, unmount_deadline(UNMOUNTS_S, SYNC_S)) == 0;
}

/* ---- all of them ---------------------------------------------------------------------------- */

/*
 * The halves lie below the overlay's own /run, which has to go first. systemd 252 has made them
 * read-only by now; who relies on that loses a clean end when another does not.
 */
static void rescue_halves(void)
{
	struct mounts mounts;
	char path[32];

	(void)read_mounts(&mounts);
	for (size_t i = 0; i < mounts.count; i++) {
		const struct mount_entry *m = &mounts.list[i];
		int r;

		if (m->kind != KIND_HALF || !starts(m->where, OLD_ROOT))
			continue;
		snprintf(path, sizeof(path), HALVES "/%zu", i);
		mkdir(HALVES, 0755);
		mkdir(path, 0755);
		r = bounded(ACTION_BIND, m->where, path, unmount_deadline(UNMOUNTS_S, VIEW_S));
		if (r == 0)
			r = bounded(ACTION_DETACH, m->where, NULL,
				    unmount_deadline(UNMOUNTS_S, VIEW_S));
		if (r != 0)
			log_warn("shutdown: %s: cannot be moved out of the way: %s (leaving it "
				 "there)",
				 m->where, reason(r));
	}
	free_mounts(&mounts);
}

static bool has_overlay(const struct mounts *mounts)
{
	for (size_t i = 0; i < mounts->count; i++)
		if (mounts->list[i].kind == KIND_OVERLAY)
			return true;
	return false;
}

/* What else lies on a root with an overlay: nothing to lose, but in its way. */
static bool detach_views(const struct mounts *mounts)
{
	bool has_changed = false;

	for (size_t i = mounts->count; i-- > 0;) {
		const struct mount_entry *m = &mounts->list[i];
		int r;

		if (m->kind != KIND_VIEW)
			continue;
		r = bounded(ACTION_DETACH, m->where, NULL, unmount_deadline(UNMOUNTS_S, VIEW_S));
		has_changed |= r == 0;
		if (r < 0) {
			log_warn("shutdown: %s: cannot be taken away: %s (going on without)",
				 m->where, reason(r));
			break; /* nor can the others, and they all take their time */
		}
	}
	return has_changed;
}

/*
 * One round over what is there, the last mounted first; what something can be lost of goes before
 * the views.
 */
static bool unmount_round(const struct mounts *mounts, bool *is_hung)
{
	bool keeps_halves = has_overlay(mounts), has_changed = false;

	for (size_t i = mounts->count; i-- > 0;) {
		const struct mount_entry *m = &mounts->list[i];
		int r;

		if (m->kind == KIND_VIEW || (m->kind == KIND_HALF && keeps_halves))
			continue; /* the next round's */
		r = bounded(ACTION_UMOUNT, m->where, NULL, unmount_deadline(UNMOUNTS_S, UNMOUNT_S));
		has_changed |= r == 0;
		if (r < 0) {
			log_error("shutdown: %s (%s): cannot be unmounted: %s (what was not "
				  "written yet is lost)",
				  m->where, m->device, reason(r));
			*is_hung = true;
		}
	}
	return detach_views(mounts) || has_changed;
}

bool unmount_all(bool *in_use)
{
	struct mounts mounts;
	bool is_clean = true, is_hung = false, has_changed = true;

	if (is_alone)
		rescue_halves();
	for (int round = 0; round < ROUNDS_MAX && has_changed && !is_hung; round++) {
		(void)read_mounts(&mounts);
		has_changed = unmount_round(&mounts, &is_hung);
		free_mounts(&mounts);
	}
	is_clean = read_mounts(&mounts);
	/* The last mounted first, but an overlay before its halves. */
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = mounts.count; i-- > 0;) {
			const struct mount_entry *m = &mounts.list[i];
			int r;

			if (m->kind == KIND_VIEW || (m->kind == KIND_HALF) != (pass == 1))
				continue;
			/* No journal is left open on NFS: what is written is whole. */
			r = bounded(m->is_nfs ? ACTION_SYNC : ACTION_READ_ONLY, m->where, NULL,
				    unmount_deadline(UNMOUNTS_S, UNMOUNT_S));
			if (r != 0)
				log_warn("shutdown: %s (%s) is still in use (and cannot be made "
					 "read-only: %s)",
					 m->where, m->device, reason(r));
			else
				log_warn("shutdown: %s (%s) is still in use (%s)", m->where,
					 m->device,
					 m->is_nfs ? "everything is written"
						   : "made read-only instead: everything is "
						     "written");
			is_clean = is_clean && r == 0;
			*in_use = true;
		}
	}
	free_mounts(&mounts);
	return is_clean && !is_hung;
}

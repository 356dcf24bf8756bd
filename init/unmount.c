/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See unmount.h. An overlay keeps its halves alive although nobody sees them: so it goes first, and
 * what is mounted of the halves stays until then, to make them read-only when it will not go.
 */
#include "unmount.h"
#include "boot.h"
#include "proc.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
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
	MOUNTS_MAX = 256,
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
	char where[192];
	char device[64];
	enum kind kind;
	bool is_nfs;
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

/* Reads mountinfo, see proc(5): the mount point is the fifth field, the type behind " - ". */
static size_t read_mounts(struct mount_entry out[static MOUNTS_MAX])
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[1024], type[32];
	size_t count = 0;

	while (f != NULL && count < MOUNTS_MAX && fgets(line, sizeof(line), f) != NULL) {
		struct mount_entry *m = &out[count];
		char *source = strstr(line, " - ");
		int kind;

		if (source == NULL || sscanf(line, "%*s %*s %*s %*s %191s", m->where) != 1 ||
		    sscanf(source, " - %31s %63s", type, m->device) != 2)
			continue;
		kind = kind_of(m->where, type, m->device);
		if (kind < 0)
			continue;
		m->kind = (enum kind)kind;
		m->is_nfs = is_nfs(type);
		count++;
	}
	if (f != NULL)
		fclose(f);
	return count;
}

/* ---- one action ----------------------------------------------------------------------------- */

enum action {
	ACTION_UMOUNT,
	ACTION_READ_ONLY,
	ACTION_SYNC,
};

/* Runs one in a child: 0 done, else an errno; ETIMEDOUT when it hangs. */
static int bounded(enum action what, const char *where, uint64_t until_ns)
{
	pid_t pid = fork();
	int status, r = 0;

	if (pid < 0)
		return errno;
	if (pid == 0) {
		switch (what) {
		case ACTION_UMOUNT: r = umount2(where, UMOUNT_NOFOLLOW); break;
		case ACTION_READ_ONLY:
			r = mount(NULL, where, NULL, MS_REMOUNT | MS_RDONLY, NULL);
			break;
		case ACTION_SYNC: sync(); break;
		}
		_exit(r == 0 ? 0 : errno & 0x7f);
	}
	if (proc_wait(pid, until_ns, &status) != 0)
		return ETIMEDOUT; /* in the kernel, where no signal reaches it */
	return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

bool unmount_sync(void)
{
	return bounded(ACTION_SYNC, "", unmount_deadline(UNMOUNTS_S, SYNC_S)) != ETIMEDOUT;
}

/* ---- all of them ---------------------------------------------------------------------------- */

/*
 * The halves lie below the overlay's own /run, which has to go first. systemd 252 has made them
 * read-only by now; who relies on that loses a clean end when another does not.
 */
static void rescue_halves(void)
{
	static struct mount_entry mounts[MOUNTS_MAX];
	size_t count = read_mounts(mounts);
	char path[32];

	for (size_t i = 0; i < count; i++) {
		if (mounts[i].kind != KIND_HALF || !starts(mounts[i].where, OLD_ROOT))
			continue;
		snprintf(path, sizeof(path), HALVES "/%zu", i);
		mkdir(HALVES, 0755);
		mkdir(path, 0755);
		if (mount(mounts[i].where, path, NULL, MS_BIND, NULL) == 0)
			(void)umount2(mounts[i].where, MNT_DETACH);
	}
}

static bool has_overlay(const struct mount_entry *mounts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (mounts[i].kind == KIND_OVERLAY)
			return true;
	return false;
}

/* One round over what is there, the last mounted first. */
static void unmount_round(const struct mount_entry *mounts, size_t count, bool *has_changed,
			  bool *is_hung)
{
	bool keeps_halves = has_overlay(mounts, count);

	for (size_t i = count; i-- > 0;) {
		const struct mount_entry *m = &mounts[i];
		int r;

		if (m->kind == KIND_VIEW) {
			*has_changed |= umount2(m->where, MNT_DETACH) == 0;
			continue;
		}
		if (m->kind == KIND_HALF && keeps_halves)
			continue; /* the next round's */
		r = bounded(ACTION_UMOUNT, m->where, unmount_deadline(UNMOUNTS_S, UNMOUNT_S));
		*has_changed |= r == 0;
		if (r == ETIMEDOUT) {
			log_error("shutdown: %s (%s): cannot be unmounted: no answer from its "
				  "server (what was not written yet is lost)",
				  m->where, m->device);
			*is_hung = true;
		}
	}
}

bool unmount_all(bool *in_use)
{
	static struct mount_entry mounts[MOUNTS_MAX];
	size_t count = 0;
	bool is_clean = true, is_hung = false;

	if (is_alone)
		rescue_halves();
	for (int round = 0; round < ROUNDS_MAX; round++) {
		bool has_changed = false;

		count = read_mounts(mounts);
		unmount_round(mounts, count, &has_changed, &is_hung);
		if (!has_changed || is_hung)
			break;
	}
	count = read_mounts(mounts);
	/* The last mounted first, but an overlay before its halves. */
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = count; i-- > 0;) {
			const struct mount_entry *m = &mounts[i];
			int r;

			if (m->kind == KIND_VIEW || (m->kind == KIND_HALF) != (pass == 1))
				continue;
			/* No journal is left open on NFS: what is written is whole. */
			r = bounded(m->is_nfs ? ACTION_SYNC : ACTION_READ_ONLY, m->where,
				    unmount_deadline(UNMOUNTS_S, UNMOUNT_S));
			log_warn("shutdown: %s (%s) is still in use (%s)", m->where, m->device,
				 r != 0      ? "and cannot be made read-only"
				 : m->is_nfs ? "everything is written"
					     : "made read-only instead: everything is written");
			is_clean = is_clean && r == 0;
			*in_use = true;
		}
	}
	return is_clean && !is_hung;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See nfs.h. */
#include "nfs.h"
#include "modules.h"
#include "nfs-try.h"
#include "proc.h"
#include "root-ask.h"
#include "wait.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>

enum {
	LOOK_MS = 200,
	AGAIN_MS = 1000,
	/*
	 * A mount that takes longer is begun anew: the kernel looks ever more seldom whether a
	 * server is back. A mountd that asks a silent name server who we are takes half a minute.
	 */
	MOUNT_S = 90,
	KILLED_S = 5,
};

/* One wait, from the first try to the last. */
struct waiting {
	struct wait wait;
	char ended[NFS_WHY_MAX + NFS_ADDRESS_MAX]; /* how the last try did */
};

static void say(struct waiting *w, const struct nfs_try *t, const char *state)
{
	char what[32 + NFS_ADDRESS_MAX];

	snprintf(what, sizeof(what), "the NFS server %.*s", NFS_ADDRESS_MAX - 1,
		 t->address[0] != '\0' ? t->address : t->server);
	wait_say(&w->wait, "root", what, state, NULL);
}

/* That one more try has failed is news only if it did so in another way. */
static void say_ended(struct waiting *w, const struct nfs_try *t)
{
	char ended[sizeof(w->ended)];

	snprintf(ended, sizeof(ended), "%s %s", t->address, t->why);
	if (strcmp(ended, w->ended) != 0)
		wait_has_changed(&w->wait);
	memcpy(w->ended, ended, sizeof(ended));
	say(w, t, t->why);
}

static bool is_out_of_patience(const struct boot *b, const struct waiting *w)
{
	return b->cmdline.wants_shell && wait_s(&w->wait) >= BOOT_PATIENCE_S;
}

/* ---- one try -------------------------------------------------------------------------------- */

/* A child that was killed may have mounted all the same. */
static void unmount_leftover(const char *where)
{
	struct stat here, parent;
	char path[BOOT_PATH_MAX];

	snprintf(path, sizeof(path), "%s/..", where);
	if (lstat(where, &here) == 0 && stat(path, &parent) == 0 && here.st_dev != parent.st_dev)
		(void)umount2(where, MNT_DETACH);
}

static const char *stage_words(const struct nfs_try *t)
{
	switch (t->stage) {
	case NFS_RESOLVING: return "looking its name up";
	case NFS_CONNECTING: return "connecting";
	case NFS_MOUNTING: return "asked to mount";
	}
	return "";
}

/* Lets a child try once, and says meanwhile what it waits for. */
static int try_once(struct boot *b, struct nfs_try *t, struct waiting *w)
{
	uint64_t until_ns = clock_now_ns() + MOUNT_S * CLOCK_NS_PER_S;
	pid_t pid = fork();
	int status, r;

	if (pid < 0)
		return lastwords_leave(&b->words, NULL, "no process for the NFS mount: %s",
				       strerror(errno));
	if (pid == 0) {
		nfs_try(t);
		_exit(0);
	}
	do {
		bool is_killed = false;

		r = proc_wait(pid, clock_now_ns() + LOOK_MS * CLOCK_NS_PER_MS, &status);
		if (r == -ETIMEDOUT && t->end == NFS_RUNNING)
			say(w, t, stage_words(t));
		if (r == -ETIMEDOUT && (clock_now_ns() >= until_ns || is_out_of_patience(b, w))) {
			kill(pid, SIGKILL); /* which NFS heeds, but for where it does not */
			r = proc_wait(pid, clock_now_ns() + KILLED_S * CLOCK_NS_PER_S, &status);
			is_killed = r == 0;
		}
		if (is_killed && t->end == NFS_RUNNING) {
			unmount_leftover(t->where);
			snprintf(t->why, sizeof(t->why), "no answer");
			t->end = NFS_ABSENT;
		}
	} while (r == -ETIMEDOUT);
	if (t->end == NFS_RUNNING)
		return lastwords_leave(&b->words, NULL,
				       "the process of the NFS mount has ended: "
				       "%s",
				       r == 0 ? proc_status_text(status) : strerror(-r));
	return 0;
}

/* ---- what a refusal means ------------------------------------------------------------------- */

static bool has_error(const struct nfs_try *t, int error)
{
	for (size_t i = 0; i < t->plan.versions_count; i++)
		if (t->errors[i] == error)
			return true;
	return false;
}

static const char *refusal_hint(const struct nfs_try *t)
{
	if (has_error(t, EACCES) || has_error(t, EPERM))
		return "let this machine mount it: an entry for its address or network in the "
		       "server's /etc/exports, then exportfs -ra there; is the path right?";
	if (has_error(t, ENOENT))
		return "is the path right, and exported to this machine (/etc/exports, exportfs "
		       "-ra)? To version 4, what a machine may not have is not there, and paths "
		       "begin at the server's pseudo-root (fsid=0), if it has one";
	if (has_error(t, EINVAL))
		return "look at the NFS options of the root, nfs(5) has them all: the kernel does "
		       "not take them";
	if (has_error(t, EPROTONOSUPPORT))
		return "switch one of these versions on at the server, or name one that it has: "
		       "vers=3";
	return NULL;
}

static int leave_refusal(struct boot *b, const struct nfs_try *t)
{
	char list[200] = "";
	bool is_bad_options = true;
	size_t used = 0;

	for (size_t i = 0; i < t->plan.versions_count; i++) {
		if (t->errors[i] == 0 || used >= sizeof(list))
			continue;
		is_bad_options = is_bad_options && t->errors[i] == EINVAL;
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%sversion %s: %s",
					 used > 0 ? "; " : "", t->plan.versions[i],
					 strerror(t->errors[i]));
	}
	if (is_bad_options) {
		(void)lastwords_leave(&b->words, refusal_hint(t),
				      "the kernel does not mount %s with these options: %s",
				      b->root_name, list);
		b->words.is_final = !root_is_by_dhcp(b);
		return LASTWORDS_FAILED;
	}
	return lastwords_leave(&b->words, refusal_hint(t),
			       "the NFS server does not let %s be mounted by %s: %s", b->root_name,
			       t->client, list);
}

/* ---- the mount ------------------------------------------------------------------------------ */

/*
 * Versions whose module is neither here nor in the kernel: their names go. Nobody else can load
 * them: the kernel would ask /sbin/modprobe.
 */
static int load_modules(struct boot *b, struct nfs_plan *plan)
{
	bool has_v3, has_v4;
	size_t count = 0;

	if (!modules_have_filesystem("nfs"))
		return lastwords_leave_final(
			&b->words,
			"build the initramfs with NFS (nbdroot initramfs --check "
			"says what is missing)",
			"this kernel and initramfs have no nfs file system");
	has_v3 = modules_load("nfsv3", NULL) == 0 || access("/sys/module/nfsv3", F_OK) == 0;
	has_v4 = modules_load("nfsv4", NULL) == 0 || access("/sys/module/nfsv4", F_OK) == 0 ||
		 modules_have_filesystem("nfs4");
	/* Built in, version 3 shows itself nowhere. */
	has_v3 = has_v3 || access("/sys/module/nfs/sections", F_OK) != 0;
	for (size_t i = 0; i < plan->versions_count; i++)
		if (plan->versions[i][0] == '3' ? has_v3 : has_v4)
			plan->versions[count++] = plan->versions[i];
	plan->versions_count = count;
	if (count > 0)
		return 0;
	return lastwords_leave_final(&b->words,
				     "build the initramfs with nfsv3 and nfsv4 (nbdroot initramfs "
				     "--check says what is missing), or name another version",
				     "this kernel and initramfs lack the wanted version of NFS");
}

/*
 * To version 4 a client is its host name and this. Two machines of one name, and without DHCP names
 * all are "(none)", would take each other for one that has rebooted, and lose their files.
 */
static void name_client(const struct boot *b)
{
	char path[] = "/sys/module/nfs/parameters/nfs4_unique_id", text[80];

	if (b->net.mac[0] == '\0' || fd_read_file(path, text, sizeof(text)) > 0)
		return;
	snprintf(text, sizeof(text), "nbdroot-%s", b->net.mac);
	if (fd_write_file(path, text) < 0)
		log_debug("root: %s cannot be set", path);
}

/* Until it is mounted or refused. t is in memory that the children share. */
static int mount_it(struct boot *b, struct nfs_try *t)
{
	struct waiting w = { .ended = "" };
	const struct nfs_try fresh = *t;

	wait_start(&w.wait);
	for (;;) {
		*t = fresh;
		if (try_once(b, t, &w) != 0)
			return LASTWORDS_FAILED;
		if (t->end == NFS_MOUNTED)
			return 0;
		if (t->end == NFS_REFUSED)
			return leave_refusal(b, t);
		if (is_out_of_patience(b, &w))
			return lastwords_leave(&b->words, NULL, "NFS server %s: %s after %u s",
					       t->address[0] != '\0' ? t->address : t->server,
					       t->why, wait_s(&w.wait));
		if (root_has_moved(b))
			return ROOT_E_MOVED;
		say_ended(&w, t);
		proc_sleep_ms(AGAIN_MS);
	}
}

int nfs_mount_root(struct boot *b, const char *where, unsigned long flags)
{
	const struct root_spec *root = &b->root;
	char server[ROOT_SPEC_SERVER_MAX];
	const char *problem;
	struct statfs fs;
	struct nfs_try *t;
	int r;

	t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (t == MAP_FAILED)
		return lastwords_leave(&b->words, NULL, "no memory for the NFS mount");
	snprintf(server, sizeof(server), "%s", root->server + (root->server[0] == '['));
	server[strcspn(server, "]")] = '\0';
	*t = (struct nfs_try){ .server = server,
			       .source = b->root_name,
			       .where = where,
			       .client = b->net.address[0] != '\0' ? b->net.address : "0.0.0.0" };

	r = 0;
	if (nfs_options_plan(root->options, root->is_nfs4, flags, &t->plan, &problem) != 0) {
		r = lastwords_leave(&b->words,
				    "correct the options behind the root's path, or rootflags=",
				    "NFS root %s, options \"%.100s\": %s", b->root_name,
				    root->options, problem);
		b->words.is_final = !root_is_by_dhcp(b);
	}
	if (r == 0)
		r = load_modules(b, &t->plan);
	if (r == 0) {
		name_client(b);
		r = mount_it(b, t);
	}
	if (r == 0) {
		bool is_ro = statfs(where, &fs) == 0 && (fs.f_flags & MS_RDONLY) != 0;

		log_info("root: %s (NFS version %s, %s)", b->root_name, t->version,
			 is_ro ? "read-only" : "read-write");
	}
	munmap(t, sizeof(*t));
	return r;
}

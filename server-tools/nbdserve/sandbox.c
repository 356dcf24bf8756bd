/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See sandbox.h. The system calls are in sandbox-calls.c. */
#include "sandbox.h"

#include "base/log.h"
#include "pattern.h"
#include "sandbox-internal.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/landlock.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* ---- the user ----------------------------------------------------------------------------- */

static int cannot_become(const char *user, int r, const char *hint)
{
	log_error("cannot become the user %s: %s%s", user, strerror(-r), hint);
	return r;
}

/* With the user's groups: a group "disk" may be what lets it open block devices at a reload. */
static int become(const char *user)
{
	const struct passwd *pw;

	errno = 0;
	pw = getpwnam(user);
	if (!pw)
		return cannot_become(user, errno ? -errno : -ENOENT,
				     "; create it (useradd --system), or take user= out");
	if (geteuid() == pw->pw_uid && getuid() == pw->pw_uid)
		return 0; /* started as this user already */
	if (geteuid() != 0)
		return cannot_become(user, -EPERM, "; start the server as root or as that user");
	if (initgroups(user, pw->pw_gid) < 0 || setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) < 0 ||
	    setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) < 0)
		return cannot_become(user, -errno, "");
	if (pw->pw_uid != 0 && setresuid(0, 0, 0) == 0)
		return cannot_become(user, -EPERM, ": the way back to root is still open");
	return 0;
}

/* ---- Landlock ----------------------------------------------------------------------------- */

/* Newer than the kernel headers that this may be built with. */
#define FS_TRUNCATE (UINT64_C(1) << 14)         /* ABI 3 */
#define FS_IOCTL_DEV (UINT64_C(1) << 15)        /* ABI 5 */
#define NET_CONNECT_TCP (UINT64_C(1) << 1)      /* ABI 4 */
#define SCOPE_SIGNAL (UINT64_C(1) << 1)         /* ABI 6 */
#define FS_ABI_1 (LANDLOCK_ACCESS_FS_REFER - 1) /* all that came before it */

#define FILE_RIGHTS                                                                                \
	(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE |                               \
	 LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV)

/* Images are never created, cut or removed by the server, only read and written. */
#define TO_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | FS_IOCTL_DEV)
#define TO_WRITE (TO_READ | LANDLOCK_ACCESS_FS_WRITE_FILE)
/* Sockets are made again when a reload or a successor wants them, and removed at the end. */
#define FOR_SOCKETS                                                                                \
	(LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE |                           \
	 LANDLOCK_ACCESS_FS_READ_DIR)

/* struct landlock_ruleset_attr as of ABI 6; an older kernel wants zeroes where it knows nothing. */
struct ruleset_attr {
	uint64_t handled_access_fs, handled_access_net, scoped;
};

struct ruleset {
	int fd; /* -1: there is no Landlock */
	long abi;
	uint64_t fs;
	char last_path[PATH_MAX]; /* a thousand images of one folder are one rule */
	uint64_t last_rights;
};

static void begin_ruleset(struct ruleset *rs)
{
	struct ruleset_attr attr;

	*rs = (struct ruleset){ .fd = -1 };
	rs->abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (rs->abi < 1) {
		log_warn("sandbox: this kernel has no Landlock (%s): the server can open all files "
			 "that its user can",
			 strerror(errno));
		return;
	}
	rs->fs = FS_ABI_1;
	if (rs->abi >= 2)
		rs->fs |= LANDLOCK_ACCESS_FS_REFER;
	if (rs->abi >= 3)
		rs->fs |= FS_TRUNCATE;
	if (rs->abi >= 5)
		rs->fs |= FS_IOCTL_DEV;
	attr = (struct ruleset_attr){
		.handled_access_fs = rs->fs,
		.handled_access_net = rs->abi >= 4 ? NET_CONNECT_TCP : 0, /* it only listens */
		.scoped = rs->abi >= 6 ? SCOPE_SIGNAL : 0,
	};
	rs->fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (rs->fd < 0)
		log_warn("sandbox: Landlock refuses our rules: %s", strerror(errno));
}

/* Allows the rights to a file, or to all that is beneath a folder. */
static void allow(struct ruleset *rs, const char *path, uint64_t rights)
{
	_cleanup_close_ int fd = -1;
	struct landlock_path_beneath_attr rule;
	struct stat st;

	if (rs->fd < 0 || (rs->last_rights == rights && strcmp(rs->last_path, path) == 0))
		return;
	snprintf(rs->last_path, sizeof(rs->last_path), "%s", path);
	rs->last_rights = rights;

	fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		log_warn("sandbox: cannot find %s: %s (what appears there later can only be used "
			 "when the server has been started again)",
			 path, strerror(errno));
		return;
	}
	rights &= rs->fs;
	if (!S_ISDIR(st.st_mode))
		rights &= FILE_RIGHTS;
	rule = (struct landlock_path_beneath_attr){ .allowed_access = rights, .parent_fd = fd };
	if (syscall(SYS_landlock_add_rule, rs->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		log_warn("sandbox: Landlock refuses a rule for %s: %s", path, strerror(errno));
}

static void allow_folder_of(struct ruleset *rs, const char *path, uint64_t rights)
{
	char folder[PATH_MAX];

	if (pattern_directory(path, folder, sizeof(folder)) < 0)
		log_warn("sandbox: the path is too long: %s", path);
	else
		allow(rs, folder, rights);
}

/*
 * The folder, for a reload may find another file under the same name (a rename put it there).
 * Of a device its node alone: its folder, /dev, has all other disks in it.
 */
static void allow_image(struct ruleset *rs, const struct config_export *e)
{
	uint64_t rights = e->is_read_only ? TO_READ : TO_WRITE;
	struct stat st;

	if (!e->is_pattern && stat(e->path, &st) == 0 && S_ISBLK(st.st_mode))
		allow(rs, e->path, rights);
	else
		allow_folder_of(rs, e->path, rights);
}

static void allow_what_is_configured(struct ruleset *rs, const struct config *c,
				     const char *const *config_paths, size_t n_config_paths)
{
	allow(rs, "/dev/null", TO_WRITE); /* a daemon lets go of its terminal after this */
	for (size_t i = 0; i < c->n_list; i++)
		allow_image(rs, &c->list[i]);
	for (size_t i = 0; i < c->n_directories; i++)
		allow(rs, c->directories[i], TO_WRITE);
	for (size_t i = 0; i < n_config_paths; i++)
		allow_folder_of(rs, config_paths[i], TO_READ);
	for (size_t i = 0; i < c->n_unix_paths; i++)
		allow_folder_of(rs, c->unix_paths[i], FOR_SOCKETS);
	if (c->control)
		allow_folder_of(rs, c->control, FOR_SOCKETS);
	if (SANDBOX_SANITIZER) { /* whose reports look at the process and run a program */
		allow(rs, "/proc", TO_READ);
		allow(rs, "/usr", TO_READ | LANDLOCK_ACCESS_FS_EXECUTE);
	}
}

static bool enforce(struct ruleset *rs)
{
	bool is_on = rs->fd >= 0 && syscall(SYS_landlock_restrict_self, rs->fd, 0) == 0;

	if (rs->fd >= 0 && !is_on)
		log_warn("sandbox: Landlock does not start: %s", strerror(errno));
	if (rs->fd >= 0)
		close(rs->fd);
	return is_on;
}

/* ---- all of it ---------------------------------------------------------------------------- */

/* Each thread is a folder there. ThreadSanitizer has a thread of its own. */
static bool has_threads(void)
{
	struct stat st;

	return !SANDBOX_SANITIZER && stat("/proc/self/task", &st) == 0 && st.st_nlink > 3;
}

int sandbox_enter(const struct config *c, const char *const *config_paths, size_t n_config_paths)
{
	char landlock[32] = "no Landlock";
	struct ruleset rs;
	bool has_filter;
	int r;

	if (has_threads()) {
		log_error("sandbox: there are threads already, which would stay outside (this is a "
			  "mistake in nbdserve)");
		return -EBUSY;
	}
	/* As the user who started us, who may see more folders on the way to an image. */
	begin_ruleset(&rs);
	allow_what_is_configured(&rs, c, config_paths, n_config_paths);

	r = c->user ? become(c->user) : 0;
	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		r = -errno;
		log_error("sandbox: PR_SET_NO_NEW_PRIVS: %s", strerror(errno));
	}
	if (r < 0) {
		if (rs.fd >= 0)
			close(rs.fd);
		return r;
	}
	if (enforce(&rs))
		snprintf(landlock, sizeof(landlock), "Landlock (ABI %ld)", rs.abi);
	has_filter = sandbox_limit_calls();
	log_info("sandbox: uid %lu, %s, %s", (unsigned long)getuid(), landlock,
		 has_filter ? "seccomp" : "no seccomp");
	return 0;
}

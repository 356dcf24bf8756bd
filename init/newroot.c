/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See newroot.h. */
#include "newroot.h"
#include "blockfs.h"
#include "hold.h"
#include "proc.h"
#include "runtime-net.h"
#include "runtime-units.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* ---- questions to the new root -------------------------------------------------------------- */

enum question {
	Q_IS_PROGRAM,     /* an executable file */
	Q_IS_FOLDER,      /* a directory, symlinks followed */
	Q_MAKE_FOLDER,    /* make it, with its parents, if it is not there */
	Q_IS_REAL_FOLDER, /* a directory, and not a symlink to one */
};

static int make_folders(const char *path)
{
	char part[BOOT_PATH_MAX];

	for (const char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
		size_t size = slash != NULL ? (size_t)(slash - path) : strlen(path);

		if (size >= sizeof(part))
			return -ENAMETOOLONG;
		memcpy(part, path, size);
		part[size] = '\0';
		if (mkdir(part, 0755) != 0 && errno != EEXIST)
			return -errno;
		if (slash == NULL)
			return 0;
	}
}

static int answer(enum question q, const char *path, char real[static PATH_MAX])
{
	struct stat st;

	if (q == Q_MAKE_FOLDER) {
		int r = make_folders(path);

		if (r < 0)
			return r;
	}
	if (realpath(path, real) == NULL || stat(real, &st) != 0)
		return -errno;
	switch (q) {
	case Q_IS_PROGRAM:
		if (!S_ISREG(st.st_mode))
			return -ENOENT;
		return access(real, X_OK) == 0 ? 0 : -errno;
	case Q_IS_REAL_FOLDER:
		if (lstat(path, &st) != 0)
			return -errno;
		return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
	case Q_IS_FOLDER:
	case Q_MAKE_FOLDER: return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
	}
	return -EINVAL;
}

/*
 * Asks in a child that lives in the new root, so that its absolute symlinks mean what they say.
 * real: where the path leads, seen from the new root. 0 or negative errno.
 */
static int ask(enum question q, const char *path, char real[static PATH_MAX])
{
	struct {
		int result;
		char real[PATH_MAX];
	} reply = { .result = -EIO };
	int ends[2], status, r;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) != 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		r = -errno;
		close(ends[0]);
		close(ends[1]);
		return r;
	}
	if (pid == 0) {
		if (chroot(BOOT_NEWROOT) != 0 || chdir("/") != 0)
			reply.result = -errno;
		else
			reply.result = answer(q, path, reply.real);
		_exit(fd_write_all(ends[1], &reply, sizeof(reply)) == 0 ? 0 : 1);
	}
	close(ends[1]);
	r = fd_read_all(ends[0], &reply, sizeof(reply));
	close(ends[0]);
	if (proc_wait(pid, CLOCK_NEVER, &status) != 0 || r < 0)
		return r < 0 ? r : -ECHILD;
	memcpy(real, reply.real, PATH_MAX);
	return reply.result;
}

/* ---- mounting ------------------------------------------------------------------------------- */

static int find_init(struct boot *b)
{
	static const char *const usual[] = { "/sbin/init", "/etc/init", "/bin/init", "/bin/sh" };
	char real[PATH_MAX];
	int r;

	if (b->cmdline.init != NULL) {
		r = ask(Q_IS_PROGRAM, b->cmdline.init, real);
		if (r < 0)
			return lastwords_leave(&b->words,
					       "correct init= on the kernel command line, or leave "
					       "it out",
					       "init=%s: not a program in the root: %s",
					       b->cmdline.init, strerror(-r));
		snprintf(b->real_init, sizeof(b->real_init), "%s", b->cmdline.init);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(usual); i++) {
		if (ask(Q_IS_PROGRAM, usual[i], real) < 0)
			continue;
		snprintf(b->real_init, sizeof(b->real_init), "%s", usual[i]);
		return 0;
	}
	return lastwords_leave(
		&b->words,
		"is it the right export? Look at the image on the server: it must "
		"hold a whole system",
		"the root (%s) has none of /sbin/init, /etc/init, /bin/init, /bin/sh",
		b->devices[0].uri);
}

static int mount_root(struct boot *b)
{
	struct boot_device *d = &b->devices[0];
	struct blockfs_mounted m;
	int r;

	mkdir(BOOT_NEWROOT, 0755);
	r = blockfs_mount("/dev/nbd0", BOOT_NEWROOT, d->fstype, d->options,
			  b->cmdline.is_rw ? 0 : MS_RDONLY, &m, &b->words);
	if (r != 0)
		return r;
	d->is_mounted = true;
	log_info("root: /dev/nbd0 (%s, %s)", m.type, m.is_ro ? "read-only" : "read-write");
	return 0;
}

static bool is_root_writable(void)
{
	struct statfs s;

	return statfs(BOOT_NEWROOT, &s) == 0 && (s.f_flags & MS_RDONLY) == 0;
}

/* One of the extra mounts; the mount point is resolved inside the root. */
static int mount_extra(struct boot *b, size_t index)
{
	struct boot_device *d = &b->devices[index];
	char node[32], real[PATH_MAX], where[PATH_MAX + sizeof(BOOT_NEWROOT)];
	const char *point = d->mount_point;
	struct blockfs_mounted m;
	int r;

	if (strcmp(point, "?") == 0) /* rpmdb= without a mount point: where this system has it */
		point = ask(Q_IS_REAL_FOLDER, "/usr/lib/sysimage/rpm", real) == 0
				? "/usr/lib/sysimage"
				: "/var/lib/rpm";

	r = ask(is_root_writable() ? Q_MAKE_FOLDER : Q_IS_FOLDER, point, real);
	if (r < 0)
		return lastwords_leave(
			&b->words,
			"make the directory in the image of the root; with \"rw\" on "
			"the kernel command line, init makes it",
			"%s: no mount point for %s in the root%s: %s", point, d->uri,
			is_root_writable() ? "" : ", which is mounted read-only", strerror(-r));
	snprintf(node, sizeof(node), "/dev/nbd%zu", index);
	snprintf(where, sizeof(where), "%s%s", BOOT_NEWROOT, real);
	r = blockfs_mount(node, where, d->fstype, d->options, 0, &m, &b->words);
	if (r != 0)
		return r;
	d->is_mounted = true;
	log_info("%s: %s (%s, %s)", real, node, m.type, m.is_ro ? "read-only" : "read-write");
	return 0;
}

int newroot_mount(struct boot *b)
{
	int r = 0;

	if (!b->devices[0].is_mounted)
		r = mount_root(b);
	if (r == 0)
		r = find_init(b);
	if (r != 0 && b->devices[0].is_mounted && b->devices_count > 0 &&
	    umount2(BOOT_NEWROOT, 0) == 0)
		b->devices[0].is_mounted = false; /* looked at anew by the next try */
	for (size_t i = 1; r == 0 && i < b->devices_count; i++)
		if (!b->devices[i].is_mounted)
			r = mount_extra(b, i);
	return r;
}

/* ---- entering it ---------------------------------------------------------------------------- */

static const char *const moved[] = { "/dev", "/proc", "/sys", "/run" };

/* Frees the memory of the initramfs: everything on this one file system below dir. */
static void empty_folder(int dir_fd, dev_t device)
{
	DIR *dir = fdopendir(dir_fd);
	struct dirent *d;

	if (dir == NULL) {
		close(dir_fd);
		return;
	}
	while ((d = readdir(dir)) != NULL) {
		struct stat st;

		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 ||
		    fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
		    st.st_dev != device)
			continue;
		if (S_ISDIR(st.st_mode)) {
			int fd = openat(dirfd(dir), d->d_name,
					O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			if (fd >= 0)
				empty_folder(fd, device);
			unlinkat(dirfd(dir), d->d_name, AT_REMOVEDIR);
		} else {
			unlinkat(dirfd(dir), d->d_name, 0);
		}
	}
	closedir(dir);
}

/* Only ever what came out of an initramfs: never a disk that somebody booted with our init. */
static void empty_initramfs(int old_root)
{
	struct statfs fs;
	struct stat st;
	int fd;

	if (fstatfs(old_root, &fs) != 0 || fstat(old_root, &st) != 0 ||
	    (fs.f_type != RAMFS_MAGIC && fs.f_type != TMPFS_MAGIC))
		return;
	fd = fcntl(old_root, F_DUPFD_CLOEXEC, 3);
	if (fd >= 0)
		empty_folder(fd, st.st_dev);
}

/* All four must be there before the first is moved: then the step can still be tried again. */
static int check_moves(struct boot *b)
{
	char real[PATH_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(moved); i++) {
		int r = ask(is_root_writable() ? Q_MAKE_FOLDER : Q_IS_FOLDER, moved[i], real);

		if (r < 0 || strcmp(real, moved[i]) != 0)
			return lastwords_leave(&b->words,
					       "make the directory in the image of the root",
					       "%s: not a directory in the root: %s", moved[i],
					       r < 0 ? strerror(-r) : "a symlink");
	}
	return 0;
}

/* ---- from here on a failure cannot be tried again: the initramfs is being left -------------- */

int newroot_exec(struct boot *b)
{
	/* What the kernel gives to an init that it starts itself. */
	static const char *const environment[] = { "HOME=/", "TERM=linux", NULL };
	_cleanup_close_ int old_root = -1;
	char path[64], real[PATH_MAX];
	int r = check_moves(b);

	if (r != 0)
		return r;
	old_root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (old_root < 0)
		return lastwords_leave(&b->words, NULL, "/: cannot be opened: %s", strerror(errno));
	log_info("boot: starting %s of the root", b->real_init);
	runtime_net_write(b);
	if (ask(Q_IS_PROGRAM, b->real_init, real) == 0)
		runtime_units_write(real);

	for (size_t i = 0; i < ARRAY_SIZE(moved); i++) {
		snprintf(path, sizeof(path), "%s%s", BOOT_NEWROOT, moved[i]);
		if (mount(moved[i], path, NULL, MS_MOVE, NULL) != 0)
			return lastwords_leave(&b->words, NULL, "%s: cannot be moved to %s: %s",
					       moved[i], path, strerror(errno));
	}
	if (chdir(BOOT_NEWROOT) != 0)
		return lastwords_leave(&b->words, NULL, "%s: %s", BOOT_NEWROOT, strerror(errno));
	empty_initramfs(old_root);
	if (mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 || chdir("/") != 0)
		return lastwords_leave(&b->words, NULL, "the root cannot be made /: %s",
				       strerror(errno));
	hold_start();
	b->argv[0] = b->real_init;
	proc_restore();
	execve(b->real_init, b->argv, (char *const *)environment);
	r = -errno;
	proc_setup();
	return lastwords_leave(&b->words, "is the root of the machine's architecture, and whole?",
			       "%s of the root cannot be executed: %s", b->real_init, strerror(-r));
}

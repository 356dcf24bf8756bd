/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See newroot.h. */
#include "newroot.h"
#include "ask.h"
#include "attach.h"
#include "blockfs.h"
#include "fsck.h"
#include "hold.h"
#include "nfs.h"
#include "overlay.h"
#include "proc.h"
#include "root-ask.h"
#include "runtime-host.h"
#include "runtime-net.h"
#include "runtime-units.h"

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

enum { ARGS_MAX = 64 }; /* the kernel passes 32 */

static const char *const moved[] = { "/dev", "/proc", "/sys", "/run" };

/* ---- mounting ------------------------------------------------------------------------------- */

static int find_init(struct boot *b)
{
	static const char *const usual[] = { "/sbin/init", "/etc/init", "/bin/init", "/bin/sh" };
	char real[PATH_MAX];
	const char *failed = NULL;
	int r, failure = 0;

	if (b->cmdline.init != NULL) {
		r = ask(ASK_IS_PROGRAM, b->cmdline.init, real);
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
		r = ask(ASK_IS_PROGRAM, usual[i], real);
		if (r < 0) {
			if (r != -ENOENT && r != -ENOTDIR && failure == 0) {
				failed = usual[i];
				failure = r;
			}
			continue;
		}
		if (failure < 0)
			log_warn("root: %s: %s (starting %s in its place, as the kernel would)",
				 failed, blockfs_error(-failure), usual[i]);
		snprintf(b->real_init, sizeof(b->real_init), "%s", usual[i]);
		return 0;
	}
	if (failure < 0)
		return lastwords_leave(
			&b->words,
			failure == -EACCES && b->root.kind == ROOT_NFS
				? "may this machine's root user read it? On the server: "
				  "no_root_squash in /etc/exports, and the file's mode"
				: NULL,
			"%s of the root (%s): %s", failed, b->root_name, blockfs_error(-failure));
	return lastwords_leave(
		&b->words,
		"is it the right export? Look at the image on the server: it must "
		"hold a whole system",
		"the root (%s) has none of /sbin/init, /etc/init, /bin/init, /bin/sh",
		b->root_name);
}

/* The root that the command line means: all of it, or the lower half. */
static int mount_plain(struct boot *b, const char *where, unsigned long flags)
{
	struct boot_device *d = &b->devices[0];
	struct blockfs_mounted m;
	int r;

	if (b->root.kind == ROOT_NFS)
		return nfs_mount_root(b, where, flags);
	/* Other machines may have the lower half, too: not even its journal is replayed here. */
	if (b->cmdline.overlay != CMDLINE_OVERLAY_NONE) {
		r = blockfs_make_read_only("/dev/nbd0");
		if (r < 0)
			return lastwords_leave(
				&b->words, NULL,
				"/dev/nbd0: cannot be made read-only, and others may "
				"share it: %s",
				strerror(-r));
	}
	r = fsck_device(b, "/dev/nbd0");
	if (r == 0)
		r = blockfs_mount("/dev/nbd0", where, d->fstype, d->options, flags, &m, &b->words);
	if (r != 0) { /* which export it is, and its options, may have come by DHCP */
		b->words.is_final = b->words.is_final && !root_is_by_dhcp(b);
		return r;
	}
	d->is_mounted = true;
	log_info("root: /dev/nbd0 (%s, %s)", m.type, m.is_ro ? "read-only" : "read-write");
	return 0;
}

/* The device that takes the writes of an overlay; *out NULL: memory does. */
static int mount_upper(struct boot *b, const struct boot_device **out)
{
	struct blockfs_mounted m;
	char node[32];
	size_t i = 0;
	int r;

	*out = NULL;
	if (b->cmdline.overlay != CMDLINE_OVERLAY_DEVICE)
		return 0;
	while (b->devices[i].role != BOOT_IS_UPPER)
		i++;

	struct boot_device *d = &b->devices[i];

	snprintf(node, sizeof(node), "/dev/nbd%zu", i);
	r = fsck_device(b, node);
	if (r == 0)
		r = blockfs_mount(node, BOOT_UPPER, d->fstype, d->options, 0, &m, &b->words);
	if (r != 0)
		return r;
	d->is_mounted = true;
	log_info("overlay: %s (%s, %s)", node, m.type, m.is_ro ? "read-only" : "read-write");
	*out = d;
	return 0;
}

/* What was mounted of the root is looked at anew by the next try. */
static void unmount_root(struct boot *b)
{
	(void)umount2(BOOT_NEWROOT, 0);
	if (b->cmdline.overlay != CMDLINE_OVERLAY_NONE) {
		(void)umount2(BOOT_UPPER, 0);
		(void)umount2(BOOT_LOWER, 0);
	}
	for (size_t i = 0; i < b->devices_count; i++)
		if (b->devices[i].role != BOOT_IS_EXTRA)
			b->devices[i].is_mounted = false;
	b->is_root_mounted = false;
}

static int mount_root(struct boot *b)
{
	const struct boot_device *upper;
	int r;

	mkdir(BOOT_NEWROOT, 0755);
	if (b->cmdline.overlay == CMDLINE_OVERLAY_NONE) {
		r = mount_plain(b, BOOT_NEWROOT, b->cmdline.is_rw ? 0 : MS_RDONLY);
	} else {
		mkdir(BOOT_LOWER, 0755);
		mkdir(BOOT_UPPER, 0755);
		r = mount_plain(b, BOOT_LOWER, MS_RDONLY);
		if (r == 0)
			r = mount_upper(b, &upper);
		if (r == 0)
			r = overlay_mount(b, upper, BOOT_NEWROOT);
	}
	b->is_root_mounted = r == 0;
	return r;
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
		point = ask(ASK_IS_REAL_FOLDER, "/usr/lib/sysimage/rpm", real) == 0
				? "/usr/lib/sysimage"
				: "/var/lib/rpm";

	r = ask(is_root_writable() ? ASK_MAKE_FOLDER : ASK_IS_FOLDER, point, real);
	if (r < 0) {
		(void)lastwords_leave(&b->words,
				      "make the directory in the image of the root; with \"rw\" on "
				      "the kernel command line, init makes it",
				      "%s: no mount point for %s in the root%s: %s", point, d->uri,
				      is_root_writable() ? "" : ", which is mounted read-only",
				      strerror(-r));
		/* A folder of an NFS server may get one; a device that is mounted stays as it is.
		 */
		b->words.is_final = b->root.kind == ROOT_NBD;
		return LASTWORDS_FAILED;
	}
	snprintf(node, sizeof(node), "/dev/nbd%zu", index);
	snprintf(where, sizeof(where), "%s%s", BOOT_NEWROOT, real);
	r = fsck_device(b, node);
	if (r == 0)
		r = blockfs_mount(node, where, d->fstype, d->options, 0, &m, &b->words);
	if (r != 0)
		return r;
	d->is_mounted = true;
	log_info("%s: %s (%s, %s)", real, node, m.type, m.is_ro ? "read-only" : "read-write");
	return 0;
}

/* Looked at while the root can still be let go, and be looked at anew by the next try. */
static int check_moves(struct boot *b)
{
	char real[PATH_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(moved); i++) {
		int r = ask(is_root_writable() ? ASK_MAKE_FOLDER : ASK_IS_FOLDER, moved[i], real);

		if (r < 0 || strcmp(real, moved[i]) != 0)
			return lastwords_leave(&b->words,
					       "make the directory in the image of the root",
					       "%s: not a directory in the root: %s", moved[i],
					       r < 0 ? strerror(-r) : "a symlink");
	}
	return 0;
}

int newroot_mount(struct boot *b)
{
	int r;

	if (b->is_root_refused)
		(void)root_ask(b); /* a root by DHCP may be another by now */
	do {
		r = b->root_name[0] == '\0' ? attach_root_anew(b) : 0;
		/* Once: what is mounted in it is in the way of letting it go. */
		if (r == 0 && !b->is_root_mounted) {
			r = mount_root(b);
			if (r == 0)
				r = find_init(b);
			if (r == 0)
				r = check_moves(b);
		}
		b->is_root_refused = r != 0;
		if (r != 0)
			unmount_root(b);
	} while (r == ROOT_E_MOVED);
	for (size_t i = 0; r == 0 && i < b->devices_count; i++)
		if (b->devices[i].role == BOOT_IS_EXTRA && !b->devices[i].is_mounted)
			r = mount_extra(b, i);
	return r;
}

/* ---- entering it ---------------------------------------------------------------------------- */

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

/* systemd(1), --machine-id: for a root that has no /etc/machine-id to mount one on. */
static void add_machine_id(struct boot *b, const char *real)
{
	static char *longer[ARGS_MAX + 2];
	static char option[sizeof("--machine-id=") + MACHINE_ID_TEXT];
	const char *slash = strrchr(real, '/');
	size_t n = 0;

	if (b->machine_id[0] == '\0' || slash == NULL || strcmp(slash + 1, "systemd") != 0)
		return;
	while (n < ARGS_MAX && b->argv[n] != NULL) {
		longer[n] = b->argv[n];
		n++;
	}
	snprintf(option, sizeof(option), "--machine-id=%s", b->machine_id);
	longer[n++] = option;
	longer[n] = NULL;
	b->argv = longer;
	log_info("machine id: %s", b->machine_id);
	b->machine_id[0] = '\0'; /* once, should the step be tried again */
}

/* ---- from here on a failure cannot be tried again: the initramfs is being left -------------- */

int newroot_exec(struct boot *b)
{
	/* What the kernel gives to an init that it starts itself. */
	static const char *const environment[] = { "HOME=/", "TERM=linux", NULL };
	_cleanup_close_ int old_root = -1;
	char path[64], real[PATH_MAX];
	int r;

	old_root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (old_root < 0)
		return lastwords_leave(&b->words, NULL, "/: cannot be opened: %s", strerror(errno));
	log_info("boot: starting %s of the root", b->real_init);
	runtime_net_write(b);
	runtime_host_write(b);
	if (ask(ASK_IS_PROGRAM, b->real_init, real) == 0) {
		runtime_units_write(real);
		add_machine_id(b, real);
	}

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

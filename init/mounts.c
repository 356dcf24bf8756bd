/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See mounts.h. */
#include "mounts.h"

#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static int kmsg_fd = -1;

int mounts_kmsg_fd(void)
{
	return kmsg_fd;
}

static const struct {
	const char *type, *where;
	unsigned long flags;
	const char *options;
	bool is_needed;
} early[] = {
	{ "devtmpfs", "/dev", MS_NOSUID, "mode=0755", true },
	{ "proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, true },
	{ "sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, true },
	{ "tmpfs", "/run", MS_NOSUID | MS_NODEV | MS_STRICTATIME, "mode=0755", true },
	{ "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666", false },
};

/* The kernel opened /dev/console for us only if the archive had one; now devtmpfs does. */
static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);

	if (fd < 0)
		fd = open("/dev/null", O_RDWR);
	if (fd < 0)
		return;
	for (int i = 0; i <= 2; i++)
		if (fd != i)
			dup2(fd, i);
	if (fd > 2)
		close(fd);
}

static void open_kmsg(void)
{
	if (kmsg_fd >= 0)
		return;
	kmsg_fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (kmsg_fd >= 0)
		log_set_fd(kmsg_fd, 1);
	/* The default, "ratelimit", drops lines of a boot that has much to say. */
	if (fd_write_file("/proc/sys/kernel/printk_devkmsg", "on\n") < 0)
		log_debug("log: /proc/sys/kernel/printk_devkmsg cannot be set");
}

int mounts_early(struct boot *b)
{
	umask(022);
	for (size_t i = 0; i < ARRAY_SIZE(early); i++) {
		mkdir(early[i].where, 0755);
		/* -EBUSY: already there, which is what we want. */
		if (mount(early[i].type, early[i].where, early[i].type, early[i].flags,
			  early[i].options) == 0 ||
		    errno == EBUSY || !early[i].is_needed)
			continue;
		open_console();
		return lastwords_leave(&b->words, NULL, "%s: cannot mount %s: %s", early[i].where,
				       early[i].type, strerror(errno));
	}
	open_console();
	open_kmsg();
	return 0;
}

static int copy_file(const char *from, const char *to)
{
	_cleanup_close_ int in = open(from, O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int out = -1;
	char buffer[16384];
	ssize_t n;
	int r;

	if (in < 0)
		return -errno;
	out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	if (out < 0)
		return -errno;
	while ((n = read(in, buffer, sizeof(buffer))) > 0) {
		r = fd_write_all(out, buffer, (size_t)n);
		if (r < 0)
			return r;
	}
	return n < 0 ? -errno : 0;
}

static int fill_keep(struct boot *b)
{
	/* The exit path needs the empty ones: systemd-shutdown mounts things there. */
	static const char *const folders[] = { "bin", "sbin", "etc", "dev",     "proc",
					       "sys", "run",  "tmp", "oldroot", "nbdroot" };
	static const struct {
		const char *from, *to;
		bool is_needed;
	} files[] = {
		{ "/bin/nbdclient", BOOT_KEEP "/bin/nbdclient", true },
		{ "/bin/busybox", BOOT_KEEP "/bin/busybox", true },
		{ "/etc/udhcpc.script", BOOT_KEEP "/etc/udhcpc.script", true },
		{ "/init", BOOT_KEEP "/shutdown", true },
	};
	static const char *const applets[] = { "sh",     "ip",    "ls",     "cat", "mount",
					       "umount", "mv",    "rm",     "ps",  "dmesg",
					       "cp",     "mkdir", "udhcpc", "ln",  "sleep" };
	char path[BOOT_PATH_MAX];

	mkdir(BOOT_KEEP, 0755);
	/* Not noexec, and with device nodes when the exit path opens its own. */
	if (mount("tmpfs", BOOT_KEEP, "tmpfs", MS_NOSUID, "mode=0755,size=32m") != 0)
		return lastwords_leave(&b->words, NULL, "%s: cannot mount a tmpfs: %s", BOOT_KEEP,
				       strerror(errno));
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		snprintf(path, sizeof(path), "%s/%s", BOOT_KEEP, folders[i]);
		mkdir(path, 0755);
	}
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		int r = copy_file(files[i].from, files[i].to);

		if (r < 0 && files[i].is_needed)
			return lastwords_leave(&b->words, NULL, "%s: cannot copy it to %s: %s",
					       files[i].from, files[i].to, strerror(-r));
	}
	for (size_t i = 0; i < ARRAY_SIZE(applets); i++) {
		snprintf(path, sizeof(path), BOOT_KEEP "/bin/%s", applets[i]);
		if (symlink("busybox", path) != 0 && errno != EEXIST)
			log_warn("%s: cannot make the link: %s", path, strerror(errno));
	}
	/* Nodes of its own, for a shell or a script that runs with this tmpfs as its root. */
	mknod(BOOT_KEEP "/dev/null", S_IFCHR | 0666, makedev(1, 3));
	mknod(BOOT_KEEP "/dev/console", S_IFCHR | 0600, makedev(5, 1));

	if (symlink("initramfs" BOOT_STATE_INSIDE, BOOT_STATE) != 0 && errno != EEXIST)
		return lastwords_leave(&b->words, NULL, "%s: cannot make the link: %s", BOOT_STATE,
				       strerror(errno));
	/* The resolver of nbdclient reads what the DHCP script or ip= leaves there. */
	unlink("/etc/resolv.conf");
	if (symlink(BOOT_STATE "/resolv.conf", "/etc/resolv.conf") != 0)
		log_warn("/etc/resolv.conf: cannot make the link: %s", strerror(errno));
	return 0;
}

int mounts_keep(struct boot *b)
{
	int r = fill_keep(b);

	if (r != 0) /* the next try begins with an empty one, not with one on top of this */
		(void)umount2(BOOT_KEEP, MNT_DETACH);
	return r;
}

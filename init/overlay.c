/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See overlay.h. */
#include "overlay.h"
#include "modules.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>

/* The one is what the other's directory of changes is called; the kernel wants the second. */
#define CHANGES BOOT_UPPER "/upper"
#define WORK BOOT_UPPER "/work"

enum { XATTR_MAX = 4096 };

/*
 * A directory that both halves have shows the upper one's owner, mode and labels: so / would be
 * ours, where SELinux has its label in an extended attribute.
 */
static void copy_attributes(const char *from, const char *to)
{
	static char names[XATTR_MAX], value[XATTR_MAX];
	struct stat st;
	ssize_t size = listxattr(from, names, sizeof(names));

	if (stat(from, &st) != 0 || chown(to, st.st_uid, st.st_gid) != 0 ||
	    chmod(to, st.st_mode & 07777) != 0)
		log_warn("root: owner and mode of / could not be copied: %s", strerror(errno));
	for (const char *name = names; size > 0 && name < names + size; name += strlen(name) + 1) {
		ssize_t n = getxattr(from, name, value, sizeof(value));

		if (n < 0 || strncmp(name, "trusted.overlay.", 16) == 0 ||
		    strncmp(name, "system.", 7) == 0)
			continue;
		if (setxattr(to, name, value, (size_t)n, 0) != 0)
			log_debug("root: attribute %s of / could not be copied: %s", name,
				  strerror(errno));
	}
}

static int mount_tmpfs(struct boot *b)
{
	const char *options = b->cmdline.upper.options; /* size=, or none: half of the memory */
	char text[64];

	snprintf(text, sizeof(text), "mode=0755%s%s", options != NULL ? "," : "",
		 options != NULL ? options : "");
	if (mount("tmpfs", BOOT_UPPER, "tmpfs", 0, text) == 0)
		return 0;
	return lastwords_leave_final(
		&b->words, "look at nbdroot.overlay=, and at the machine's memory",
		"no memory for the overlay (tmpfs, %s): %s", text, strerror(errno));
}

static int make_folders(struct boot *b, const struct boot_device *upper)
{
	if (mkdir(CHANGES, 0755) == 0)
		copy_attributes(BOOT_LOWER, CHANGES);
	else if (errno != EEXIST)
		return lastwords_leave(
			&b->words,
			"is its export writable, and is there room in it? An overlay cannot "
			"write to what is read-only",
			"the overlay's %s%s: no directory can be made in it: %s",
			upper != NULL ? "device " : "memory", upper != NULL ? upper->uri : "",
			strerror(errno));
	if (mkdir(WORK, 0755) != 0 && errno != EEXIST)
		return lastwords_leave(&b->words, NULL, WORK ": cannot be made: %s",
				       strerror(errno));
	return 0;
}

int overlay_mount(struct boot *b, const struct boot_device *upper, const char *where)
{
#define HALVES "lowerdir=" BOOT_LOWER ",upperdir=" CHANGES ",workdir=" WORK
	/*
	 * redirect_dir: a directory of the lower half can be renamed, which rpm --rebuilddb and
	 * others want to. xino: a file keeps its inode number when it is first written to. Kernels
	 * before 4.17 know neither.
	 */
	static const char *const options[] = { HALVES ",redirect_dir=on,xino=auto", HALVES };
	int error = EINVAL;

	if (!modules_have_filesystem("overlay"))
		return lastwords_leave_final(
			&b->words,
			"build the initramfs with overlay (nbdroot initramfs "
			"--check says what is missing)",
			"this kernel and initramfs have no overlay file system");
	if (upper == NULL && mount_tmpfs(b) != 0)
		return LASTWORDS_FAILED;
	if (make_folders(b, upper) != 0)
		return LASTWORDS_FAILED;
	for (size_t i = 0; i < ARRAY_SIZE(options) && error == EINVAL; i++)
		error = mount("overlay", where, "overlay", 0, options[i]) == 0 ? 0 : errno;
	if (error != 0)
		return lastwords_leave(&b->words,
				       "the kernel's messages above may say more; the file system "
				       "of the overlay's "
				       "device must be ext3, ext4, xfs or btrfs",
				       "the overlay cannot be mounted: %s", strerror(error));
	log_info("root: read-only; what is written goes to %s",
		 upper != NULL ? upper->uri : "memory, and is gone after the next boot");
	return 0;
}

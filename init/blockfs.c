/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See blockfs.h. */
#include "blockfs.h"
#include "modules.h"

#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

int blockfs_read_head(const char *device, uint8_t head[static BLOCKFS_HEAD_MAX], size_t *size,
		      struct lastwords *w)
{
	_cleanup_close_ int fd = open(device, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return lastwords_leave(w, NULL, "%s: cannot be opened: %s", device,
				       strerror(errno));
	n = pread(fd, head, BLOCKFS_HEAD_MAX, 0);
	if (n < 0)
		return lastwords_leave(w, NULL, "%s: cannot be read: %s", device, strerror(errno));
	*size = (size_t)n;
	return 0;
}

static int look(const char *device, char type[static BLOCKFS_TYPE_MAX], struct lastwords *w)
{
	static uint8_t head[BLOCKFS_HEAD_MAX];
	const char *found;
	size_t size = 0;

	if (blockfs_read_head(device, head, &size, w) != 0)
		return LASTWORDS_FAILED;
	found = blockfs_type(head, size);
	if (found == NULL)
		return lastwords_leave(
			w,
			"is it the right export? A file system of another kind is named by "
			"rootfstype= or behind the mount point; a disk image with partitions is "
			"not supported",
			"%s: holds no known file system (ext2/3/4, xfs, btrfs, squashfs, erofs)",
			device);
	snprintf(type, BLOCKFS_TYPE_MAX, "%s", found);
	return 0;
}

const char *blockfs_error(int error)
{
	return error == EUCLEAN ? "the file system is damaged" : strerror(error);
}

int blockfs_make_read_only(const char *device)
{
	_cleanup_close_ int fd = open(device, O_RDONLY | O_CLOEXEC);
	int yes = 1;

	if (fd < 0)
		return -errno;
	return ioctl(fd, BLKROSET, &yes) == 0 ? 0 : -errno;
}

int blockfs_mount(const char *device, const char *where, const char *fstype, const char *options,
		  unsigned long flags, struct blockfs_mounted *out, struct lastwords *w)
{
	char data[BLOCKFS_DATA_MAX];
	int r;

	if (blockfs_options(options, &flags, data) < 0)
		return lastwords_leave_final(w, NULL, "%s: the mount options are too long", device);
	if (fstype != NULL && strcmp(fstype, "auto") != 0)
		snprintf(out->type, sizeof(out->type), "%s", fstype);
	else if ((r = look(device, out->type, w)) != 0)
		return r;
	if (!modules_have_filesystem(out->type))
		return lastwords_leave_final(
			w,
			"build the initramfs with the module (nbdroot initramfs), or "
			"use another file system",
			"%s: this kernel and initramfs have no %s file system", device, out->type);

	r = mount(device, where, out->type, flags, data) == 0 ? 0 : -errno;
	if ((r == -EROFS || r == -EACCES) && (flags & MS_RDONLY) == 0) {
		log_warn("%s: the server's export is read-only (mounting it so)", device);
		flags |= MS_RDONLY;
		r = mount(device, where, out->type, flags, data) == 0 ? 0 : -errno;
	}
	if (r == -EROFS && strncmp(out->type, "ext", 3) == 0) {
		size_t used = strlen(data);

		snprintf(data + used, sizeof(data) - used, "%snoload", used > 0 ? "," : "");
		r = mount(device, where, out->type, flags, data) == 0 ? 0 : -errno;
		if (r == 0)
			log_warn("%s: was not cleanly unmounted, and its journal cannot be "
				 "replayed on what is read-only (mounted without; check the image "
				 "on the server)",
				 device);
	}
	if (r < 0)
		return lastwords_leave(w, NULL, "%s: cannot be mounted as %s%s%s: %s", device,
				       out->type, data[0] != '\0' ? " with options " : "", data,
				       blockfs_error(-r));
	out->is_ro = (flags & MS_RDONLY) != 0;
	return 0;
}

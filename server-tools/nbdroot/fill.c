/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See fill.h. */
#include "fill.h"

#include "base/fd.h"
#include "base/log.h"
#include "interrupt.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { FILL_CHUNK = 256 * EXT3_BLOCK }; /* read and written at a time */

struct fill {
	struct ext3 *fs;
	char *buffer; /* FILL_CHUNK bytes */
};

static int fill_error(const char *path, int r)
{
	if (r == -ESTALE)
		log_error("%s: changed while it was copied (keep the directory still, run again)",
			  path);
	else if (r != -EINTR || !interrupt_pending())
		log_error("%s: cannot be copied into the image: %s", path, ext3_strerror(r));
	return r;
}

/* Copies bytes from..to, which are data; from is at a block's start. */
static int fill_copy(struct fill *c, struct ext3_file *f, int fd, uint64_t from, uint64_t to)
{
	while (from < to) {
		size_t want = to - from < FILL_CHUNK ? (size_t)(to - from) : FILL_CHUNK;
		size_t blocks = (want + EXT3_BLOCK - 1) / EXT3_BLOCK;
		int r;

		if (interrupt_pending())
			return -EINTR;
		memset(c->buffer + want, 0, blocks * EXT3_BLOCK - want);
		r = fd_pread_all(fd, c->buffer, want, (off_t)from);
		if (r < 0)
			return r;
		r = ext3_file_write(f, from / EXT3_BLOCK, c->buffer, (uint32_t)blocks);
		if (r != 0)
			return r;
		from += want;
	}
	return 0;
}

/* Copies what is not a hole. */
static int fill_content(struct fill *c, struct ext3_file *f, int fd, uint64_t size)
{
	uint64_t done = 0; /* a block's start, or the end */

	while (done < size) {
		off_t data = lseek(fd, (off_t)done, SEEK_DATA), hole;
		uint64_t from, to;
		int r;

		if (data < 0 && errno == ENXIO)
			return 0;
		if (data < 0)
			return -errno;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		from = (uint64_t)data / EXT3_BLOCK * EXT3_BLOCK;
		to = ((uint64_t)hole + EXT3_BLOCK - 1) / EXT3_BLOCK * EXT3_BLOCK;
		if (to > size)
			to = size;
		r = fill_copy(c, f, fd, from, to);
		if (r != 0)
			return r;
		done = to;
	}
	return 0;
}

/* Nobody has changed the file since the tree was read: no image is better than a mixture. */
static bool is_unchanged(const struct tree_node *n, int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	       (uint64_t)st.st_size == n->size_bytes && st.st_ino == n->host_inode &&
	       st.st_dev == n->host_device && st.st_mtim.tv_sec == n->host_mtime.tv_sec &&
	       st.st_mtim.tv_nsec == n->host_mtime.tv_nsec &&
	       st.st_ctim.tv_sec == n->host_ctime.tv_sec &&
	       st.st_ctim.tv_nsec == n->host_ctime.tv_nsec;
}

static int fill_file(struct fill *c, struct tree_node *n, int dir_fd)
{
	_cleanup_close_ int fd = -1;
	struct ext3_file *f;
	int r;

	fd = openat(dir_fd, n->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!is_unchanged(n, fd))
		return -ESTALE;
	r = ext3_file_begin(c->fs, n->inode, &f);
	if (r != 0)
		return r;
	r = fill_content(c, f, fd, n->size_bytes);
	if (r == 0 && !is_unchanged(n, fd))
		r = -ESTALE;
	if (r != 0) {
		ext3_file_abandon(f);
		return r == -ENODATA ? -ESTALE : r; /* it became shorter */
	}
	return ext3_file_end(f, &n->attr, n->size_bytes);
}

static int fill_directory(struct fill *c, struct tree_node *dir, uint32_t parent, int fd,
			  const char *path);

static int fill_node(struct fill *c, struct tree_node *dir, struct tree_node *n, int dir_fd,
		     const char *path)
{
	_cleanup_close_ int fd = -1;
	int r;

	if (n->same_as) {
		n->inode = n->same_as->inode;
		return 0;
	}
	r = ext3_new_inode(c->fs, dir->inode, n->attr.mode, &n->inode);
	if (r != 0)
		return fill_error(path, r);
	if (S_ISDIR(n->attr.mode)) {
		/* One without children need not be there at all: lost+found, mount points. */
		if (n->n_children > 0) {
			fd = openat(dir_fd, n->name,
				    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (fd < 0)
				return fill_error(path, -errno);
		}
		return fill_directory(c, n, dir->inode, fd, path);
	}
	if (S_ISREG(n->attr.mode))
		r = fill_file(c, n, dir_fd);
	else if (S_ISLNK(n->attr.mode))
		r = ext3_symlink(c->fs, n->inode, &n->attr, n->target);
	else
		r = ext3_special(c->fs, n->inode, &n->attr);
	if (r == 0)
		r = ext3_set_xattrs(c->fs, n->inode, n->xattrs, n->n_xattrs);
	return r != 0 ? fill_error(path, r) : 0;
}

/* The children first, then the directory itself, which needs to know their inodes. */
static int fill_directory(struct fill *c, struct tree_node *dir, uint32_t parent, int fd,
			  const char *path)
{
	_cleanup_free_ struct ext3_entry *entries = calloc(dir->n_children + 1, sizeof(*entries));
	int r;

	if (!entries)
		return fill_error(path, -ENOMEM);
	for (size_t i = 0; i < dir->n_children; i++) {
		_cleanup_free_ char *below = NULL;
		struct tree_node *n = dir->children[i];

		if (interrupt_pending())
			return -EINTR;
		if (asprintf(&below, "%s/%s", path, n->name) < 0)
			return fill_error(path, -ENOMEM);
		r = fill_node(c, dir, n, fd, below);
		if (r != 0)
			return r;
		entries[i] = (struct ext3_entry){ n->name, n->inode, n->attr.mode };
		if (n->same_as)
			entries[i].mode = n->same_as->attr.mode;
	}
	r = ext3_directory(c->fs, dir->inode, parent, &dir->attr, entries, dir->n_children,
			   dir->min_blocks);
	if (r == 0)
		r = ext3_set_xattrs(c->fs, dir->inode, dir->xattrs, dir->n_xattrs);
	return r != 0 ? fill_error(path, r) : 0;
}

int fill_image(struct ext3 *fs, struct tree *t, const char *path)
{
	_cleanup_free_ char *buffer = malloc(FILL_CHUNK);
	_cleanup_close_ int fd = -1;
	struct fill c = { .fs = fs, .buffer = buffer };

	if (!buffer)
		return fill_error(path ? path : "/", -ENOMEM);
	if (path) {
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return fill_error(path, -errno);
	}
	t->top->inode = EXT3_ROOT_INODE;
	return fill_directory(&c, t->top, EXT3_ROOT_INODE, fd, path ? path : "");
}

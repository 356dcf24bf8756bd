/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See tree.h. */
#include "tree.h"

#include "base/log.h"
#include "blockmap.h"
#include "interrupt.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

enum {
	TREE_XATTR_MAX = 65536,      /* the kernel's own limit of a value and of a list */
	TREE_INODE_ROOM = 256 - 160, /* of a 256-byte inode, what its fields leave */
	TREE_LOST_FOUND_BLOCKS = 4,  /* as mke2fs: e2fsck must not need to allocate */
};

static int tree_error(const char *path, const char *what, int r)
{
	if (r != -EINTR || !interrupt_pending())
		log_error("%s: %s: %s", path, what, strerror(-r));
	return r;
}

/* ---- nodes ------------------------------------------------------------------------------- */

static void tree_free_node(struct tree_node *n)
{
	if (!n)
		return;
	for (size_t i = 0; i < n->n_children; i++)
		tree_free_node(n->children[i]);
	for (size_t i = 0; i < n->n_xattrs; i++) {
		free(n->xattrs[i].name);
		free(n->xattrs[i].value);
	}
	free(n->xattrs);
	free(n->children);
	free(n->target);
	free(n->name);
	free(n);
}

static void tree_cleanup_node(struct tree_node **n)
{
	tree_free_node(*n);
}
#define _cleanup_node_ _cleanup_(tree_cleanup_node)

static struct tree_node *tree_new_node(const char *name)
{
	struct tree_node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->name = strdup(name);
	if (!n->name) {
		free(n);
		return NULL;
	}
	n->attr.links = 1;
	return n;
}

static int tree_add_child(struct tree_node *dir, struct tree_node *child)
{
	/* Grows at the powers of two. */
	if ((dir->n_children & (dir->n_children - 1)) == 0) {
		size_t room = dir->n_children ? dir->n_children * 2 : 1;
		struct tree_node **grown = reallocarray(dir->children, room, sizeof(void *));

		if (!grown)
			return -ENOMEM;
		dir->children = grown;
	}
	dir->children[dir->n_children++] = child;
	if (S_ISDIR(child->attr.mode))
		dir->attr.links++;
	return 0;
}

static int tree_compare_names(const void *a, const void *b)
{
	return strcmp((*(struct tree_node *const *)a)->name, (*(struct tree_node *const *)b)->name);
}

static int tree_compare_hosts(const void *a, const void *b)
{
	const struct tree_node *x = a, *y = b;

	if (x->host_device != y->host_device)
		return x->host_device < y->host_device ? -1 : 1;
	if (x->host_inode != y->host_inode)
		return x->host_inode < y->host_inode ? -1 : 1;
	return 0;
}

/* ---- what it takes ------------------------------------------------------------------------ */

static void tree_count_directory(struct tree *t, const struct tree_node *dir)
{
	struct ext3_layout l = { 0 };
	struct blockmap_cost cost = { 0 };
	uint32_t blocks;

	ext3_layout_add(&l, 1);
	ext3_layout_add(&l, 2);
	for (size_t i = 0; i < dir->n_children; i++)
		ext3_layout_add(&l, strlen(dir->children[i]->name));
	blocks = l.blocks > dir->min_blocks ? l.blocks : dir->min_blocks;
	if (blockmap_cost_add(&cost, 0, blocks) == 0)
		t->blocks += cost.blocks;
	t->inodes++;
}

/* Counts a file's blocks, without its holes. */
static int tree_count_file(struct tree *t, int fd, uint64_t size)
{
	struct blockmap_cost cost = { 0 };
	uint64_t next = 0; /* first block not yet counted */
	off_t at = 0;
	int r;

	while ((uint64_t)at < size) {
		off_t data = lseek(fd, at, SEEK_DATA), hole;
		uint64_t first, end;

		if (data < 0 && errno == ENXIO)
			break;
		if (data < 0)
			return -errno;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		first = (uint64_t)data / EXT3_BLOCK;
		end = ((uint64_t)hole + EXT3_BLOCK - 1) / EXT3_BLOCK;
		if (first < next)
			first = next;
		if (end > first) {
			r = blockmap_cost_add(&cost, first, end - first);
			if (r < 0)
				return r;
			next = end;
		}
		at = hole;
	}
	t->blocks += cost.blocks;
	return 0;
}

/* ---- reading ----------------------------------------------------------------------------- */

static int tree_compare_xattrs(const void *a, const void *b)
{
	return strcmp(((const struct ext3_xattr *)a)->name, ((const struct ext3_xattr *)b)->name);
}

/* The attributes of the inode that fd, perhaps an O_PATH one, stands for. */
static int tree_read_xattrs(struct tree *t, struct tree_node *n, int fd, const char *path)
{
	_cleanup_free_ char *list = malloc(TREE_XATTR_MAX);
	_cleanup_free_ char *value = malloc(TREE_XATTR_MAX);
	char self[64];
	size_t room = 0, used = 0;
	ssize_t length;

	if (!list || !value)
		return -ENOMEM;
	/* fgetxattr(2) refuses O_PATH; this way leads to the same inode, a symlink too. */
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	length = listxattr(self, list, TREE_XATTR_MAX);
	if (length < 0)
		return errno == ENOTSUP ? 0 : -errno;
	for (char *name = list; name < list + length; name += strlen(name) + 1)
		room += ext3_xattr_is_known(name);
	if (room == 0)
		return 0;
	n->xattrs = calloc(room, sizeof(*n->xattrs));
	if (!n->xattrs)
		return -ENOMEM;
	for (char *name = list; name < list + length; name += strlen(name) + 1) {
		struct ext3_xattr *x = &n->xattrs[n->n_xattrs];
		ssize_t size;

		if (!ext3_xattr_is_known(name)) {
			log_warn("%s: extended attribute %s left out: ext3 has no place for it",
				 path, name);
			continue;
		}
		size = getxattr(self, name, value, TREE_XATTR_MAX);
		if (size < 0)
			return -errno;
		x->name = strdup(name);
		x->value = malloc((size_t)size + 1);
		n->n_xattrs++;
		if (!x->name || !x->value)
			return -ENOMEM;
		memcpy(x->value, value, (size_t)size);
		x->size = (size_t)size;
		used += 16 + strlen(name) + 3 + x->size + 3; /* at most; names lose their prefix */
	}
	qsort(n->xattrs, n->n_xattrs, sizeof(*n->xattrs), tree_compare_xattrs);
	if (used > TREE_INODE_ROOM)
		t->blocks++;
	return 0;
}

static void tree_take_stat(const struct tree *t, struct tree_node *n, const struct stat *st)
{
	n->attr.mode = st->st_mode;
	n->attr.uid = st->st_uid;
	n->attr.gid = st->st_gid;
	n->attr.links = S_ISDIR(st->st_mode) ? 2 : 1;
	n->attr.mtime_s = st->st_mtim.tv_sec;
	n->attr.mtime_ns = (uint32_t)st->st_mtim.tv_nsec;
	if (t->has_max_mtime && n->attr.mtime_s >= t->max_mtime_s) {
		n->attr.mtime_s = t->max_mtime_s;
		n->attr.mtime_ns = 0;
	}
	n->attr.device_major = major(st->st_rdev);
	n->attr.device_minor = minor(st->st_rdev);
	n->host_device = st->st_dev;
	n->host_inode = st->st_ino;
	n->host_mtime = st->st_mtim;
	n->host_ctime = st->st_ctim;
	n->size_bytes = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
}

static int tree_read_link(struct tree *t, struct tree_node *n, int fd)
{
	char target[PATH_MAX];
	ssize_t length = readlinkat(fd, "", target, sizeof(target));

	if (length < 0)
		return -errno;
	if ((size_t)length >= EXT3_BLOCK)
		return -ENAMETOOLONG;
	n->target = strndup(target, (size_t)length);
	if (!n->target)
		return -ENOMEM;
	if (length >= EXT3_FAST_LINK)
		t->blocks++;
	return 0;
}

static int tree_read_directory(struct tree *t, struct tree_node *dir, int fd, const char *path,
			       uint64_t device);

/* Is it one more name of an inode that is already there? */
static int tree_find_link(struct tree *t, struct tree_node *n, const struct stat *st)
{
	struct tree_node **found;

	if (S_ISDIR(st->st_mode) || st->st_nlink < 2)
		return 0;
	found = tsearch(n, &t->links, tree_compare_hosts);
	if (!found)
		return -ENOMEM;
	if (*found == n)
		return 0;
	if ((*found)->attr.links == EXT3_LINKS_MAX)
		return -EMLINK;
	(*found)->attr.links++;
	n->same_as = *found;
	return 0;
}

/* Reads what the name in the directory stands for, into a node that dir then owns. */
static int tree_read_node(struct tree *t, struct tree_node *dir, int dir_fd, const char *name,
			  const char *path, uint64_t device)
{
	_cleanup_close_ int fd = -1;
	struct tree_node *n;
	struct stat st;
	int r;

	fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return tree_error(path, "cannot be read", -errno);
	n = tree_new_node(name);
	if (!n)
		return tree_error(path, "cannot be read", -ENOMEM);
	tree_take_stat(t, n, &st);
	r = tree_add_child(dir, n);
	if (r < 0) {
		tree_free_node(n);
		return tree_error(path, "cannot be read", r);
	}
	r = tree_find_link(t, n, &st);
	if (r < 0)
		return tree_error(path, "cannot be linked", r);
	if (n->same_as)
		return 0;
	if (!S_ISDIR(st.st_mode))
		t->inodes++;
	r = tree_read_xattrs(t, n, fd, path);
	if (r < 0)
		return tree_error(path, "its extended attributes cannot be read", r);
	if (S_ISLNK(st.st_mode)) {
		r = tree_read_link(t, n, fd);
		return r < 0 ? tree_error(path, "cannot be read", r) : 0;
	}
	if (S_ISDIR(st.st_mode) && n->host_device != device) {
		log_info("%s: another file system is mounted there: taken as an empty directory",
			 path);
		tree_count_directory(t, n);
		return 0;
	}
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return 0;

	close(steal_fd(&fd));
	fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return tree_error(path, "cannot be read", -errno);
	if (S_ISDIR(st.st_mode))
		return tree_read_directory(t, n, fd, path, device);
	r = tree_count_file(t, fd, n->size_bytes);
	return r < 0 ? tree_error(path, "cannot be read", r) : 0;
}

static int tree_is_name(const struct dirent *d)
{
	return strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
}

static int tree_compare_dirents(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name); /* bytes, not the locale's order */
}

static int tree_read_directory(struct tree *t, struct tree_node *dir, int fd, const char *path,
			       uint64_t device)
{
	struct dirent **names = NULL;
	int n = scandirat(fd, ".", &names, tree_is_name, tree_compare_dirents);
	int r = 0;

	if (n < 0)
		return tree_error(path, "cannot be read", -errno);
	for (int i = 0; i < n && r == 0; i++) {
		_cleanup_free_ char *below = NULL;

		if (interrupt_pending())
			r = -EINTR;
		else if (asprintf(&below, "%s/%s", path, names[i]->d_name) < 0)
			r = tree_error(path, "cannot be read", -ENOMEM);
		else
			r = tree_read_node(t, dir, fd, names[i]->d_name, below, device);
	}
	for (int i = 0; i < n; i++)
		free(names[i]);
	free(names);
	if (r < 0)
		return r;
	if (dir->attr.links > EXT3_LINKS_MAX)
		return tree_error(path, "has more directories than ext3 can hold", -EMLINK);
	if (dir->name[0] != '\0')
		tree_count_directory(t, dir);
	return 0;
}

/* ---- the whole --------------------------------------------------------------------------- */

static struct tree_node *tree_new_directory(const char *name, uint32_t mode, int64_t now_s)
{
	struct tree_node *n = tree_new_node(name);

	if (!n)
		return NULL;
	n->attr.mode = S_IFDIR | mode;
	n->attr.links = 2;
	n->attr.mtime_s = now_s;
	return n;
}

/* Sees to lost+found, sorts again and counts what the top takes. */
static int tree_finish_top(struct tree *t, struct tree_node *top, int64_t now_s)
{
	_cleanup_node_ struct tree_node *lost = NULL;

	for (size_t i = 0; i < top->n_children; i++) {
		struct tree_node *n = top->children[i];

		if (strcmp(n->name, "lost+found") != 0)
			continue;
		if (!S_ISDIR(n->attr.mode))
			return -ENOTDIR;
		if (n->min_blocks == 0)
			t->blocks += TREE_LOST_FOUND_BLOCKS - 1; /* at most so many more */
		n->min_blocks = TREE_LOST_FOUND_BLOCKS;
		tree_count_directory(t, top);
		return 0;
	}
	lost = tree_new_directory("lost+found", 0700, now_s);
	if (!lost)
		return -ENOMEM;
	lost->min_blocks = TREE_LOST_FOUND_BLOCKS;
	tree_count_directory(t, lost);
	if (tree_add_child(top, lost) < 0)
		return -ENOMEM;
	steal_ptr(&lost);
	qsort(top->children, top->n_children, sizeof(void *), tree_compare_names);
	tree_count_directory(t, top);
	return 0;
}

int tree_init(struct tree *t, int64_t now_s)
{
	*t = (struct tree){ .top = tree_new_directory("", 0755, now_s) };
	if (!t->top)
		return -ENOMEM;
	return tree_finish_top(t, t->top, now_s);
}

static void tree_keep(void *unused)
{
	(void)unused; /* the nodes are the tree's own */
}

int tree_read(struct tree *t, const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_node_ struct tree_node *top = tree_new_node("");
	int64_t now_s = t->top->attr.mtime_s;
	struct rlimit files;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return tree_error(path, "cannot be read", -errno);
	if (!top)
		return tree_error(path, "cannot be read", -ENOMEM);
	/* Two descriptors for each level of a deep tree. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	t->blocks = t->inodes = 0;
	tree_take_stat(t, top, &st);
	r = tree_read_xattrs(t, top, fd, path);
	if (r < 0)
		return tree_error(path, "its extended attributes cannot be read", r);
	r = tree_read_directory(t, top, fd, path, st.st_dev);
	if (t->links)
		tdestroy(t->links, tree_keep);
	t->links = NULL;
	if (r < 0)
		return r;
	r = tree_finish_top(t, top, now_s);
	if (r == -ENOTDIR)
		log_error("%s/lost+found: not a directory: rename it, e2fsck needs that name",
			  path);
	else if (r < 0)
		tree_error(path, "cannot be read", r);
	if (r < 0)
		return r;
	tree_free_node(t->top);
	t->top = steal_ptr(&top);
	return 0;
}

void tree_deinit(struct tree *t)
{
	tree_free_node(t->top);
	t->top = NULL;
}

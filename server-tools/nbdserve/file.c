/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A store (store.h) that is a plain file or a block device. The lock is an open file description
 * lock on the whole file: it goes when the last descriptor does, whatever killed its holder, and
 * QEMU's tools respect it. A block device that is written to is opened with O_EXCL as well,
 * which refuses one that is mounted.
 */
#include "store.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

enum { ZERO_CHUNK = 256 * 1024 };

struct store {
	int fd;
	uint64_t size;
	bool is_block;
	struct store_id id;
};

/* One device may have several nodes. */
static struct store_id id_of(const struct stat *st)
{
	if (S_ISBLK(st->st_mode))
		return (struct store_id){ .dev = st->st_rdev };
	return (struct store_id){ .dev = st->st_dev, .ino = st->st_ino };
}

static int pause_for_lock(const char *path, uint64_t start_ns, uint64_t deadline_ns, bool *is_said)
{
	uint64_t now = clock_now_ns();

	if (now >= deadline_ns)
		return -EBUSY;
	if (!*is_said && now >= start_ns + CLOCK_NS_PER_S) {
		log_warn("%s: another process has it open; waiting up to %u s for it to let go",
			 path, (unsigned)((deadline_ns - now) / CLOCK_NS_PER_S + 1));
		*is_said = true;
	}
	nanosleep(&(struct timespec){ .tv_nsec = 20 * 1000 * 1000 }, NULL);
	return 0;
}

static int open_and_lock(const char *path, const struct stat *st, bool is_read_only, int *out)
{
	int flags = O_CLOEXEC | O_NOCTTY | (is_read_only ? O_RDONLY : O_RDWR);
	struct flock lock = { .l_type = is_read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
	_cleanup_close_ int fd = -1;
	struct stat opened, there;

	if (S_ISBLK(st->st_mode) && !is_read_only)
		flags |= O_EXCL; /* fails while the kernel uses it: mounted, part of an array */
	fd = open(path, flags);
	if (fd < 0)
		return -errno;
	if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
		return errno == EACCES || errno == EAGAIN ? -EBUSY : -errno;
	/* Replaced while we waited for its lock: writes into this one would never be found again.
	 */
	if (fstat(fd, &opened) < 0 || stat(path, &there) < 0)
		return -errno;
	if (opened.st_dev != there.st_dev || opened.st_ino != there.st_ino)
		return -EBUSY;
	*out = steal_fd(&fd);
	return 0;
}

static int wait_for_lock(const char *path, const struct stat *st, bool is_read_only,
			 uint64_t deadline_ns, int *out)
{
	uint64_t start_ns = clock_now_ns();
	bool is_said = false;
	int r;

	while ((r = open_and_lock(path, st, is_read_only, out)) == -EBUSY) {
		r = pause_for_lock(path, start_ns, deadline_ns, &is_said);
		if (r < 0)
			break;
	}
	if (r == -EBUSY)
		log_error("cannot serve %s: another server or program holds it%s; stop that one, "
			  "or serve another image",
			  path,
			  is_read_only ? " for writing" : " (a writable export needs it alone)");
	else if (r < 0)
		log_error("cannot open %s for %s: %s; check the path and its permissions", path,
			  is_read_only ? "reading" : "reading and writing", strerror(-r));
	return r;
}

int store_open(const char *path, bool is_read_only, uint64_t deadline_ns, struct store **out)
{
	_cleanup_free_ struct store *s = calloc(1, sizeof(*s));
	_cleanup_close_ int fd = -1;
	struct stat st;
	int r;

	if (!s)
		return -ENOMEM;
	/* Looked at before it is opened: opening a FIFO or a tape has effects. */
	if (stat(path, &st) < 0) {
		r = -errno;
		log_error("cannot serve %s: %s; check the path", path, strerror(-r));
		return r;
	}
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		log_error("cannot serve %s: it is %s; an image is a file or a block device", path,
			  S_ISDIR(st.st_mode) ? "a directory" : "not a file");
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	}
	r = wait_for_lock(path, &st, is_read_only, deadline_ns, &fd);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(fd, BLKGETSIZE64, &s->size) < 0) {
			r = -errno;
			log_error("cannot serve %s: its size is unknown: %s", path, strerror(-r));
			return r;
		}
	} else {
		s->size = (uint64_t)st.st_size;
	}
	s->is_block = S_ISBLK(st.st_mode);
	s->id = id_of(&st);
	s->fd = steal_fd(&fd);
	*out = steal_ptr(&s);
	return 0;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	close(s->fd);
	free(s);
}

uint64_t store_size(const struct store *s)
{
	return s->size;
}

bool store_reaches(const struct store *s, uint64_t end)
{
	struct stat st;

	return s->is_block || (fstat(s->fd, &st) == 0 && (uint64_t)st.st_size >= end);
}

int store_fd(const struct store *s)
{
	return s->fd;
}

bool store_has_quick_writes(const struct store *s)
{
	struct statfs fs;

	if (s->is_block)
		return true;
	if (fstatfs(s->fd, &fs) < 0)
		return false;
	switch ((unsigned long)fs.f_type) {
	case EXT4_SUPER_MAGIC:
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
	case F2FS_SUPER_MAGIC:
	case TMPFS_MAGIC: return true;
	default: return false;
	}
}

struct store_id store_id(const struct store *s)
{
	return s->id;
}

int store_id_of_path(const char *path, struct store_id *id)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	*id = id_of(&st);
	return 0;
}

/* The superblock of ext2, ext3 and ext4: at 1024; the magic at 56 of it, the UUID at 104. */
bool store_content_id(struct store *s, uint8_t id[static 16])
{
	uint8_t super[120];

	if (store_read(s, super, sizeof(super), 1024) < 0 || super[56] != 0x53 || super[57] != 0xef)
		return false;
	memcpy(id, super + 104, 16);
	return true;
}

int store_read(struct store *s, void *data, size_t size, uint64_t offset)
{
	return fd_pread_all(s->fd, data, size, (off_t)offset);
}

int store_write(struct store *s, const void *data, size_t size, uint64_t offset)
{
	return fd_pwrite_all(s->fd, data, size, (off_t)offset);
}

static int allocate(struct store *s, int mode, uint64_t offset, uint64_t size)
{
	int r;

	do
		r = fallocate(s->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/*
 * "This file system or device cannot do that": EINVAL is a block device's word for a range that
 * is not a multiple of its sectors, ENODEV that of a file that is no file (see fallocate(2)).
 */
static bool is_unsupported(int r)
{
	return r == -EOPNOTSUPP || r == -ENOSYS || r == -EINVAL || r == -ENODEV;
}

int store_trim(struct store *s, uint64_t offset, uint64_t size)
{
	int r;

	if (size == 0) /* which fallocate(2) refuses */
		return 0;
	r = allocate(s, FALLOC_FL_PUNCH_HOLE, offset, size);
	return is_unsupported(r) ? 0 : r;
}

static int write_zeroes(struct store *s, uint64_t offset, uint64_t size, const atomic_bool *cancel)
{
	static const uint8_t zeroes[ZERO_CHUNK];

	while (size > 0) {
		size_t n = size < sizeof(zeroes) ? (size_t)size : sizeof(zeroes);
		int r;

		if (atomic_load(cancel))
			return -ECANCELED;
		r = store_write(s, zeroes, n, offset);
		if (r < 0)
			return r;
		offset += n;
		size -= n;
	}
	return 0;
}

int store_zero(struct store *s, uint64_t offset, uint64_t size, bool keep_allocated,
	       bool must_be_fast, const atomic_bool *cancel)
{
	int r;

	if (size == 0)
		return 0;
	r = allocate(s, keep_allocated ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE, offset, size);
	if (is_unsupported(r) && !keep_allocated)
		r = allocate(s, FALLOC_FL_ZERO_RANGE, offset, size);
	if (!is_unsupported(r))
		return r;
	return must_be_fast ? -ENOTSUP : write_zeroes(s, offset, size, cancel);
}

int store_prefetch(struct store *s, uint64_t offset, uint64_t size)
{
	return -posix_fadvise(s->fd, (off_t)offset, (off_t)size, POSIX_FADV_WILLNEED);
}

void store_extent(struct store *s, uint64_t offset, uint64_t end, uint64_t *size, bool *is_hole)
{
	/* The file position is nobody's: all reads and writes name their offset. */
	off_t data = s->is_block ? (off_t)offset : lseek(s->fd, (off_t)offset, SEEK_DATA);
	off_t hole;

	*is_hole = false;
	*size = end - offset;
	if (data < 0 && errno == ENXIO) { /* no data from here to the end of the file */
		*is_hole = true;
		return;
	}
	if (data < 0 || s->is_block)
		return;
	if ((uint64_t)data > offset) {
		*is_hole = true;
		if ((uint64_t)data < end)
			*size = (uint64_t)data - offset;
		return;
	}
	hole = lseek(s->fd, (off_t)offset, SEEK_HOLE);
	if (hole >= 0 && (uint64_t)hole > offset && (uint64_t)hole < end)
		*size = (uint64_t)hole - offset;
}

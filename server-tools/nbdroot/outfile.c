/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See outfile.h. */
#include "outfile.h"

#include "base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

bool outfile_is_locked(int fd, bool only_writers)
{
	struct flock lock = { .l_type = only_writers ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK)
		return true;
	if (flock(fd, (only_writers ? LOCK_SH : LOCK_EX) | LOCK_NB) < 0)
		return errno == EWOULDBLOCK;
	flock(fd, LOCK_UN);
	return false;
}

/* Against those who look with flock() and those who look with fcntl(). 0 or negative errno. */
static int outfile_lock(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_SETLK, &lock) < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	return 0;
}

/* May the file at o->path be replaced? 1: it is there and may; 0: there is none. */
static int outfile_check_old(struct outfile *o, struct stat *st)
{
	_cleanup_close_ int fd = -1;

	if (lstat(o->path, st) < 0) {
		int r = -errno;

		if (r == -ENOENT)
			return 0;
		log_error("%s: cannot be created: %s", o->path, strerror(-r));
		return r;
	}
	if (!S_ISREG(st->st_mode)) {
		log_error("%s: exists and is not a regular file: not replaced; give another path",
			  o->path);
		return -EEXIST;
	}
	if (!o->may_replace) {
		log_error("%s: exists: not replaced; give --force to replace it", o->path);
		return -EEXIST;
	}
	/*
	 * Held until the new file is in its place: a server that opened the old one meanwhile would
	 * go on writing into a file that nobody finds again.
	 */
	fd = open(o->path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		int r = -errno;

		log_error("%s: cannot be locked in order to replace it: %s", o->path, strerror(-r));
		return r;
	}
	if (outfile_is_locked(fd, false) || outfile_lock(fd) < 0) {
		log_error("%s: in use (locked by another process, a server perhaps): not "
			  "replaced; stop its export first",
			  o->path);
		return -EBUSY;
	}
	o->old_fd = steal_fd(&fd);
	return 1;
}

/* The path still names the file that we hold the lock of, or still names none. */
static int outfile_check_unchanged(const struct outfile *o)
{
	struct stat held, there;

	if (o->old_fd < 0)
		return 0;
	if (fstat(o->old_fd, &held) == 0 && lstat(o->path, &there) == 0 &&
	    held.st_dev == there.st_dev && held.st_ino == there.st_ino)
		return 0;
	log_error("%s: was replaced by somebody else meanwhile: left alone", o->path);
	return -EBUSY;
}

int outfile_open(struct outfile *o, const char *path, mode_t mode, bool may_replace)
{
	struct stat old;
	size_t length = strlen(path);
	int r, has_old;

	*o = (struct outfile){ .path = path, .fd = -1, .old_fd = -1, .may_replace = may_replace };
	if (length == 0 || path[length - 1] == '/') {
		log_error("\"%s\": not a file's name", path);
		return -EINVAL;
	}
	has_old = outfile_check_old(o, &old);
	if (has_old < 0)
		return has_old;

	if (asprintf(&o->temp, "%s.XXXXXX", path) < 0) {
		o->temp = NULL;
		log_error("%s: out of memory", path);
		return -ENOMEM;
	}
	o->fd = mkostemp(o->temp, O_CLOEXEC);
	if (o->fd < 0) {
		r = -errno;
		log_error("%s: cannot create a file beside it: %s", path, strerror(-r));
		free(o->temp);
		o->temp = NULL;
		return r;
	}
	if (has_old && fchown(o->fd, old.st_uid, old.st_gid) < 0)
		log_warn("%s: the new file is yours, not its former owner's: %s", path,
			 strerror(errno));
	if (fchmod(o->fd, has_old ? old.st_mode & 0777 : mode) < 0) {
		r = -errno;
		log_error("%s: cannot set its mode: %s", o->temp, strerror(-r));
		return r;
	}
	return 0;
}

/* A rename lives in the directory: only its fsync makes it last through a power cut. */
static int outfile_sync_folder(const char *path)
{
	_cleanup_free_ char *folder = strdup(path);
	_cleanup_close_ int fd = -1;
	char *slash;

	if (!folder)
		return -ENOMEM;
	slash = strrchr(folder, '/');
	if (slash)
		slash[slash == folder] = '\0';
	fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}

int outfile_commit(struct outfile *o)
{
	int r = 0;

	if (fsync(o->fd) < 0) {
		r = -errno;
		log_error("%s: cannot be written to disk: %s (nothing was created)", o->temp,
			  strerror(-r));
		return r;
	}
	r = outfile_check_unchanged(o);
	if (r < 0)
		return r;
	if (o->old_fd >= 0) {
		if (rename(o->temp, o->path) < 0)
			r = -errno;
	} else if (renameat2(AT_FDCWD, o->temp, AT_FDCWD, o->path, RENAME_NOREPLACE) < 0) {
		r = -errno;
		/* File systems without the flag (NFS): link(2) does not replace either. */
		if (r == -EINVAL || r == -ENOSYS)
			r = link(o->temp, o->path) < 0 ? -errno : unlink(o->temp) < 0 ? -errno : 0;
	}
	if (r == -EEXIST) {
		log_error("%s: appeared meanwhile: not replaced; give --force to replace it",
			  o->path);
		return r;
	}
	if (r < 0) {
		log_error("%s: cannot be put into its place: %s", o->path, strerror(-r));
		return r;
	}
	free(o->temp);
	o->temp = NULL;
	r = outfile_sync_folder(o->path);
	if (r < 0)
		log_error("%s: is there, but its directory cannot be synced: %s", o->path,
			  strerror(-r));
	return r;
}

void outfile_deinit(struct outfile *o)
{
	if (o->temp) {
		unlink(o->temp);
		free(o->temp);
		o->temp = NULL;
	}
	if (o->fd >= 0)
		close(o->fd);
	o->fd = -1;
	if (o->old_fd >= 0)
		close(o->old_fd);
	o->old_fd = -1;
}

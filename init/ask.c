/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See ask.h. */
#include "ask.h"
#include "boot.h"
#include "wait.h"

#include "base/fd.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

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

static int answer(enum ask_question q, const char *path, char real[static PATH_MAX])
{
	struct stat st;

	if (q == ASK_MAKE_FOLDER) {
		int r = make_folders(path);

		if (r < 0)
			return r;
	}
	if (q == ASK_LINK) {
		ssize_t n = readlink(path, real, PATH_MAX - 1);

		real[n > 0 ? n : 0] = '\0';
		return n < 0 ? -errno : 0;
	}
	if (realpath(path, real) == NULL || stat(real, &st) != 0)
		return -errno;
	switch (q) {
	case ASK_IS_PROGRAM:
		if (!S_ISREG(st.st_mode))
			return -ENOENT;
		return access(real, X_OK) == 0 ? 0 : -errno;
	case ASK_IS_FILE: return S_ISREG(st.st_mode) ? 0 : -EINVAL;
	case ASK_IS_REAL_FOLDER:
		if (lstat(path, &st) != 0)
			return -errno;
		return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
	case ASK_IS_FOLDER:
	case ASK_MAKE_FOLDER: return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
	case ASK_LINK: break;
	}
	return -EINVAL;
}

int ask(enum ask_question q, const char *path, char real[static PATH_MAX])
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
	/* What it says fits into the pipe: it can end before it is heard. */
	r = wait_for_process(pid, &status, "root", "the root's file system", path,
			     "is its server there?");
	if (r == 0)
		r = fd_read_all(ends[0], &reply, sizeof(reply));
	close(ends[0]);
	if (r < 0)
		return r;
	memcpy(real, reply.real, PATH_MAX);
	return reply.result;
}

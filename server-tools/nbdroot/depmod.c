/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See depmod.h. */
#include "depmod.h"

#include "base/fd.h"
#include "base/log.h"
#include "run.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int depmod_init(struct depmod *d, const char *version)
{
	const char *tmp = getenv("TMPDIR");
	_cleanup_free_ char *folder = NULL;

	*d = (struct depmod){ .version = version };
	if (asprintf(&folder, "%s/nbdroot.XXXXXX", tmp && tmp[0] ? tmp : "/tmp") < 0)
		return -ENOMEM;
	if (!mkdtemp(folder)) {
		int r = -errno;

		log_error("%s: cannot be created: %s (TMPDIR says where)", folder, strerror(-r));
		return r;
	}
	d->folder = steal_ptr(&folder);
	if (asprintf(&d->modules, "%s/lib/modules/%s", d->folder, version) < 0)
		return -ENOMEM;
	return 0;
}

static int depmod_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void depmod_deinit(struct depmod *d)
{
	if (d->folder)
		nftw(d->folder, depmod_remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(d->folder);
	free(d->modules);
	*d = (struct depmod){ 0 };
}

static int depmod_make_folders(char *path)
{
	for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return 0;
}

int depmod_put(const struct depmod *d, const char *name, const void *data, size_t size)
{
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *path = NULL;
	int r;

	if (asprintf(&path, "%s/%s", d->modules, name) < 0)
		return -ENOMEM;
	r = depmod_make_folders(path);
	if (r == 0) {
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		r = fd < 0 ? -errno : fd_write_all(fd, data, size);
	}
	if (r < 0)
		log_error("%s: cannot be written: %s", path, strerror(-r));
	return r;
}

int depmod_run(const struct depmod *d, const char *tree)
{
	_cleanup_free_ char *config = NULL;
	int r;

	if (asprintf(&config, "%s/depmod.d", d->folder) < 0)
		return -ENOMEM;
	if (mkdir(config, 0700) < 0)
		return -errno;
	const char *const command[] = { "depmod", "-b", d->folder, "-C", config, d->version, NULL };

	r = run_program(command);
	if (r == 0)
		return 0;
	if (r == RUN_E_MISSING)
		log_error("%s: cannot be indexed: depmod is not installed (install kmod)", tree);
	else if (r < 0)
		log_error("%s: cannot be indexed: depmod cannot be run: %s", tree, strerror(-r));
	else
		log_error("%s: cannot be indexed: depmod failed (it says why above)", tree);
	return r < 0 ? r : -EIO;
}

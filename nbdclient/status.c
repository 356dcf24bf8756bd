/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See status.h. */
#include "status.h"

#include "base/fd.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define STATUS_FOLDER "/run/nbdclient"

enum {
	STATUS_PAGE_SIZE = 4096,
	STATUS_MAGIC = 0x6e627233, /* "nbr3": changes with struct status */
	STATUS_READ_TRIES = 1000,
	STATUS_LOCK_TRIES = 20,
};

/* Two slots: a writer that is killed half way leaves the valid one as it was. */
struct status_page {
	uint32_t magic;
	_Atomic uint32_t sequence; /* slot[sequence % 2] is valid */
	struct status slot[2];
};

_Static_assert(sizeof(struct status_page) <= STATUS_PAGE_SIZE, "status fits in a page");

static void page_path(int index, char out[static 64])
{
	snprintf(out, 64, STATUS_FOLDER "/nbd%d", index);
}

/* A reader holds the lock, shared, for a moment in order to see whether it is taken. */
static int take_lock(int fd)
{
	const struct timespec moment = { .tv_nsec = 10 * 1000 * 1000 };

	for (int i = 0; i < STATUS_LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK)
			return -errno;
		nanosleep(&moment, NULL);
	}
	return STATUS_E_ATTENDED;
}

int status_open(int index, struct status_page **page, struct status *before)
{
	_cleanup_close_ int fd = -1;
	struct status_page *p;
	char path[64];
	int r;

	memset(before, 0, sizeof(*before));
	page_path(index, path);
	if (mkdir(STATUS_FOLDER, 0755) < 0 && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return -errno;
	r = take_lock(fd);
	if (r != 0)
		return r;
	if (ftruncate(fd, STATUS_PAGE_SIZE) < 0)
		return -errno;
	p = mmap(NULL, STATUS_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	if (p->magic == STATUS_MAGIC)
		*before = p->slot[atomic_load(&p->sequence) % 2];
	else
		memset(p, 0, sizeof(*p));
	p->magic = STATUS_MAGIC;
	steal_fd(&fd); /* stays open: the lock is this process's sign of life */
	*page = p;
	return 0;
}

void status_publish(struct status_page *page, const struct status *now)
{
	uint32_t sequence = atomic_load(&page->sequence) + 1;

	page->slot[sequence % 2] = *now;
	atomic_store(&page->sequence, sequence);
}

void status_remove(int index)
{
	char path[64];

	page_path(index, path);
	(void)unlink(path);
}

int status_read(int index, struct status *out, bool *is_attended)
{
	_cleanup_close_ int fd = -1;
	struct status_page page;
	char path[64];
	uint32_t sequence;
	int r;

	page_path(index, path);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	*is_attended = flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;

	for (int i = 0; i < STATUS_READ_TRIES; i++) {
		r = fd_pread_all(fd, &page, sizeof(page), 0);
		if (r < 0)
			return r == -ENODATA ? -ENOENT : r;
		sequence = page.sequence;
		r = fd_pread_all(fd, &page, sizeof(page), 0);
		if (r < 0)
			return r;
		if (page.magic != STATUS_MAGIC)
			return -EPROTO;
		if (page.sequence == sequence) {
			*out = page.slot[sequence % 2];
			return 0;
		}
	}
	return -EBUSY;
}

int status_read_label(int index, char out[static KERNEL_BACKEND_MAX])
{
	struct status st;
	bool is_attended;
	int r = kernel_read_backend(index, out);

	if (r != -ENOENT)
		return r < 0 ? r : 0;
	r = status_read(index, &st, &is_attended);
	if (r == 0)
		snprintf(out, KERNEL_BACKEND_MAX, "%s", st.uri);
	return r;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk that fails or stalls when the test says so, loaded with LD_PRELOAD in front of libc's
 * pwrite, fdatasync and fallocate. The folder $FAULTY_DISK is the control panel: each call adds a
 * byte to count-CALL, then waits for as long as freeze-CALL exists, then fails with the errno
 * that is in fail-CALL. The product knows nothing of it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Returns the errno to fail with, or 0. */
static int fault(const char *call)
{
	const char *folder = getenv("FAULTY_DISK");
	char path[512], text[16];
	ssize_t n;
	int fd;

	if (!folder)
		return 0;
	snprintf(path, sizeof(path), "%s/count-%s", folder, call);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (fd < 0 || write(fd, "x", 1) != 1)
		abort();
	close(fd);
	snprintf(path, sizeof(path), "%s/freeze-%s", folder, call);
	while (access(path, F_OK) == 0)
		usleep(1000);
	snprintf(path, sizeof(path), "%s/fail-%s", folder, call);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	return atoi(text);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL_IF_TOLD(call)                                                                         \
	do {                                                                                       \
		int error = fault(call);                                                           \
		if (error) {                                                                       \
			errno = error;                                                             \
			return -1;                                                                 \
		}                                                                                  \
	} while (0)

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
	FAIL_IF_TOLD("pwrite");
	return REAL(pwrite64)(fd, data, size, offset);
}

int fdatasync(int fd)
{
	FAIL_IF_TOLD("fdatasync");
	return REAL(fdatasync)(fd);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
	FAIL_IF_TOLD("fallocate");
	return REAL(fallocate64)(fd, mode, offset, size);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See alive.h. */
#include "alive.h"

#include "base/fd.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>

enum { INHERITED_FDS_MAX = 64 };

/* The answer of the read that is under way; -1: none is. */
static int answer_fd = -1;

static _Noreturn void read_head(int index, int out_fd)
{
	static uint8_t buffer[IDENTITY_HEAD_SIZE] __attribute__((aligned(4096)));
	char path[32];
	int fd;

	/* It may outlive us by an outage: nobody may wait for the end of our pipes. */
	for (fd = 0; fd < INHERITED_FDS_MAX; fd++)
		if (fd != out_fd)
			close(fd);
	snprintf(path, sizeof(path), "/dev/nbd%d", index);
	fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0 || fd_pread_all(fd, buffer, sizeof(buffer), 0) < 0)
		_exit(1);
	_exit(fd_write_all(out_fd, buffer, sizeof(buffer)) < 0);
}

static int start_read(int index)
{
	int fds[2];
	pid_t child;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	signal(SIGCHLD, SIG_IGN); /* nobody waits for it */
	child = fork();
	if (child == 0)
		read_head(index, fds[1]);
	close(fds[1]);
	if (child < 0) {
		close(fds[0]);
		return -EAGAIN;
	}
	answer_fd = fds[0];
	return 0;
}

bool alive_check(int index, int wait_ms, uint8_t head[static IDENTITY_HEAD_SIZE])
{
	struct pollfd pfd = { .events = POLLIN };
	bool is_answered;

	if (answer_fd < 0 && start_read(index) < 0)
		return false;
	pfd.fd = answer_fd;
	if (poll(&pfd, 1, wait_ms) != 1)
		return false;
	is_answered = fd_read_all(answer_fd, head, IDENTITY_HEAD_SIZE) == 0;
	close(answer_fd);
	answer_fd = -1;
	return is_answered;
}

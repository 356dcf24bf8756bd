/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See probe.h. */
#include "probe.h"

#include "base/fd.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum { INHERITED_FDS_MAX = 64 };

struct answer {
	int result; /* 0 or negative errno */
	uint8_t head[IDENTITY_HEAD_SIZE];
};

static int read_head(int dev_fd, int index, uint8_t *head)
{
	_cleanup_close_ int fd = -1;
	char name[16];

	snprintf(name, sizeof(name), "nbd%d", index);
	fd = openat(dev_fd, name, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fd_pread_all(fd, head, IDENTITY_HEAD_SIZE, 0);
}

/* Signals are for nbdclient; this one goes when the socket ends, or by SIGKILL. */
static _Noreturn void serve(int asked_fd)
{
	static uint8_t head[IDENTITY_HEAD_SIZE] __attribute__((aligned(4096)));
	static struct answer answer;
	sigset_t all;
	int dev_fd, index;

	sigfillset(&all);
	(void)sigprocmask(SIG_BLOCK, &all, NULL);
	/* It may outlive us by an outage: nobody may wait for the end of our pipes. */
	for (int fd = 0; fd < INHERITED_FDS_MAX; fd++)
		if (fd != asked_fd)
			close(fd);
	/* devtmpfs itself: the way to it leads through the root, which may be away. */
	dev_fd = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
	(void)chdir("/");
	(void)mlockall(MCL_CURRENT | MCL_FUTURE);
	while (recv(asked_fd, &index, sizeof(index), 0) == sizeof(index)) {
		answer.result = read_head(dev_fd, index, head);
		memcpy(answer.head, head, sizeof(head));
		if (send(asked_fd, &answer, sizeof(answer), MSG_NOSIGNAL) < 0)
			break;
	}
	_exit(0);
}

int probe_start(struct probe *p)
{
	int fds[2], r;
	pid_t child;

	*p = (struct probe){ .fd = -1 };
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	signal(SIGCHLD, SIG_IGN); /* nobody waits for it */
	child = fork();
	if (child == 0)
		serve(fds[1]);
	r = child < 0 ? -errno : 0;
	close(fds[1]);
	if (r < 0)
		close(fds[0]);
	else
		p->fd = fds[0];
	return r;
}

void probe_end(struct probe *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	p->is_busy = false;
}

void probe_ask(struct probe *p, int index)
{
	if (p->fd < 0 || p->is_busy)
		return;
	if (send(p->fd, &index, sizeof(index), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		probe_end(p);
	else
		p->is_busy = true;
}

int probe_answer(struct probe *p, uint8_t head[static IDENTITY_HEAD_SIZE])
{
	struct answer answer;
	ssize_t n;

	if (p->fd < 0)
		return -ECHILD;
	n = recv(p->fd, &answer, sizeof(answer), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n != sizeof(answer)) { /* somebody has killed it */
		probe_end(p);
		return -ECHILD;
	}
	p->is_busy = false;
	if (answer.result < 0)
		return answer.result;
	memcpy(head, answer.head, sizeof(answer.head));
	return 1;
}

int probe_wait(struct probe *p, int index, int wait_ms, uint8_t head[static IDENTITY_HEAD_SIZE])
{
	struct pollfd pfd;

	probe_ask(p, index);
	pfd = (struct pollfd){ .fd = p->fd, .events = POLLIN };
	if (p->fd >= 0 && poll(&pfd, 1, wait_ms) != 1)
		return 0;
	return probe_answer(p, head);
}

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

struct question {
	int index;
	unsigned timer_ms; /* to set; 0: read */
};

struct answer {
	int result; /* of a read: 0 or negative errno */
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

/* What comes of it is seen in the file; without it, the kernel log says more than it need. */
static void set_timer(int sys_fd, const struct question *q)
{
	_cleanup_close_ int fd = -1;
	char name[40], text[16];
	int n = snprintf(text, sizeof(text), "%u", q->timer_ms);

	snprintf(name, sizeof(name), "nbd%d/queue/io_timeout", q->index);
	fd = openat(sys_fd, name, O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		(void)pwrite(fd, text, (size_t)n, 0);
}

/* Signals are for nbdclient; this one goes when the socket ends, or by SIGKILL. */
static _Noreturn void serve(int asked_fd)
{
	static uint8_t head[IDENTITY_HEAD_SIZE] __attribute__((aligned(4096)));
	static struct answer answer;
	sigset_t all;
	struct question q;
	int dev_fd, sys_fd;

	sigfillset(&all);
	(void)sigprocmask(SIG_BLOCK, &all, NULL);
	/* It may outlive us by an outage: nobody may wait for the end of our pipes. */
	for (int fd = 0; fd < INHERITED_FDS_MAX; fd++)
		if (fd != asked_fd)
			close(fd);
	/* The file systems themselves: the way to them leads through the root, which may be away.
	 */
	dev_fd = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
	sys_fd = open("/sys/block", O_PATH | O_DIRECTORY | O_CLOEXEC);
	(void)chdir("/");
	(void)mlockall(MCL_CURRENT | MCL_FUTURE);
	while (recv(asked_fd, &q, sizeof(q), 0) == sizeof(q)) {
		if (q.timer_ms > 0) {
			set_timer(sys_fd, &q);
			continue;
		}
		answer.result = read_head(dev_fd, q.index, head);
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
		*p = (struct probe){ .fd = fds[0], .pid = child };
	return r;
}

void probe_end(struct probe *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	p->is_busy = false;
}

static void ask(struct probe *p, const struct question *q)
{
	/* A queue that is full is that of a process which has been stuck for long. */
	if (p->fd >= 0 && send(p->fd, q, sizeof(*q), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
	    errno != EAGAIN)
		probe_end(p);
}

void probe_ask(struct probe *p, int index)
{
	if (p->is_busy)
		return;
	ask(p, &(struct question){ .index = index });
	p->is_busy = p->fd >= 0;
}

void probe_set_timer(struct probe *p, int index, unsigned ms)
{
	ask(p, &(struct question){ .index = index, .timer_ms = ms });
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

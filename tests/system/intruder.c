/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Somebody who has taken over a worker thread of the server, loaded with LD_PRELOAD: every
 * thread begins with what an intruder would try, and says on stderr what came of it. The product
 * knows nothing of it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

struct start {
	void *(*run)(void *);
	void *arg;
};

static void say(const char *what, long result)
{
	dprintf(STDERR_FILENO, "intruder: %s: %s\n", what,
		result >= 0 ? "success" : strerrorname_np(errno));
}

static void *intrude(void *p)
{
	struct start start = *(struct start *)p;
	const char *secret = getenv("INTRUDER_SECRET");
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long child;

	free(p);
	say("open /etc/passwd", open("/etc/passwd", O_RDONLY | O_CLOEXEC));
	say("open a secret", open(secret ? secret : "", O_RDONLY | O_CLOEXEC));
	say("netlink", socket(AF_NETLINK, SOCK_RAW, 0));
	say("kill", syscall(SYS_kill, getppid(), 0));
	say("code", mprotect(page, 4096, PROT_READ | PROT_EXEC));
	say("setuid", syscall(SYS_setresuid, 0, 0, 0));
	child = syscall(SYS_clone, 17 /* SIGCHLD */, NULL, NULL, NULL, NULL);
	if (child == 0)
		_exit(0);
	say("fork", child);
	if (getenv("INTRUDER_EXECUTES")) {
		char *args[] = { "true", NULL };

		execv("/bin/true", args);
	}
	return start.run(start.arg);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
	__typeof__(&pthread_create) real =
		(__typeof__(&pthread_create))dlsym(RTLD_NEXT, "pthread_create");
	struct start *start = malloc(sizeof(*start));

	if (!start)
		return ENOMEM;
	*start = (struct start){ run, arg };
	return real(thread, attr, intrude, start);
}

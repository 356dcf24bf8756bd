/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See proc.h. */
#include "proc.h"

#include "base/clock.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

static const char *const child_environment[] = { "PATH=/bin:/sbin:/usr/bin:/usr/sbin", "TERM=linux",
						 "HOME=/", NULL };

void proc_setup(void)
{
	sigset_t set;

	signal(SIGCHLD, SIG_DFL); /* ignored, there is nothing to wait for (ECHILD) */
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_SETMASK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

void proc_restore(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
}

static void take_terminal(const char *terminal)
{
	int fd;

	setsid();
	fd = open(terminal, O_RDWR);
	if (fd < 0)
		fd = open("/dev/console", O_RDWR);
	if (fd < 0)
		return;
	ioctl(fd, TIOCSCTTY, 1);
	for (int i = 0; i <= 2; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
}

pid_t proc_spawn(const char *file, const char *const argv[], const struct proc_options *o)
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid > 0)
		return pid;

	proc_restore();
	if (o->terminal != NULL)
		take_terminal(o->terminal);
	if (o->is_daemon) {
		int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

		setsid();
		dup2(fd, STDIN_FILENO);
		dup2(fd, STDERR_FILENO);
	}
	if (o->stdout_fd > 0)
		dup2(o->stdout_fd, STDOUT_FILENO);
	if (o->stderr_fd > 0)
		dup2(o->stderr_fd, STDERR_FILENO);
	if (o->root != NULL && (chroot(o->root) != 0 || chdir("/") != 0))
		_exit(126);
	execve(file, (char *const *)argv, (char *const *)child_environment);
	dprintf(STDERR_FILENO, "%s: cannot be executed: %s\n", file, strerror(errno));
	_exit(127);
}

int proc_wait(pid_t pid, uint64_t deadline_ns, int *status)
{
	for (;;) {
		pid_t got = waitpid(pid, status, WNOHANG);
		uint64_t now = clock_now_ns();
		struct timespec left;
		sigset_t set;

		if (got == pid)
			return 0;
		if (got < 0 && errno != EINTR)
			return -errno;
		if (now >= deadline_ns)
			return -ETIMEDOUT;

		/* Everybody else who may have died; pid stays for the waitpid above. */
		for (;;) {
			siginfo_t info = { 0 };

			if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
			    info.si_pid == 0 || info.si_pid == pid)
				break;
			waitpid(info.si_pid, NULL, WNOHANG);
		}
		sigemptyset(&set);
		sigaddset(&set, SIGCHLD);
		left = (struct timespec){ .tv_sec = 1 };
		if (deadline_ns - now < CLOCK_NS_PER_S)
			left = (struct timespec){ .tv_nsec = (long)(deadline_ns - now) };
		sigtimedwait(&set, NULL, &left);
	}
}

void proc_sleep_ms(unsigned int ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

bool proc_has_ended(pid_t pid)
{
	waitpid(pid, NULL, WNOHANG);
	return kill(pid, 0) != 0;
}

const char *proc_status_text(int status)
{
	static char text[32];

	if (WIFSIGNALED(status))
		snprintf(text, sizeof(text), "killed by signal %d", WTERMSIG(status));
	else
		snprintf(text, sizeof(text), "exit status %d", WEXITSTATUS(status));
	return text;
}

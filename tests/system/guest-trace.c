/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 *	guest trace PID FILE        which system calls a process makes, all its threads
 *
 * Writes the numbers of the calls to FILE, each once, in the order of their first use, until it
 * gets SIGTERM. Whoever is traced goes on as ever; its signals are passed on.
 */
#include "guest-trace.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

enum { CALLS_MAX = 1024 };

static void note(pid_t thread, FILE *out)
{
	static bool is_known[CALLS_MAX];
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, thread, NULL, &regs) < 0 || regs.orig_rax >= CALLS_MAX ||
	    is_known[regs.orig_rax])
		return;
	is_known[regs.orig_rax] = true;
	fprintf(out, "%llu\n", (unsigned long long)regs.orig_rax);
	fflush(out);
}

static int seize_all(const char *pid)
{
	char path[64];
	struct dirent *d;
	int count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/task", pid);
	dir = opendir(path);
	while (dir && (d = readdir(dir))) {
		pid_t thread = atoi(d->d_name);

		if (thread <= 0)
			continue;
		if (ptrace(PTRACE_SEIZE, thread, NULL, (void *)PTRACE_O_TRACESYSGOOD) < 0 ||
		    ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) < 0)
			return -1;
		count++;
	}
	if (dir)
		closedir(dir);
	return count;
}

int guest_trace(const char *pid, const char *path)
{
	FILE *out = fopen(path, "w");
	int status;
	pid_t thread;

	if (!out || seize_all(pid) <= 0) {
		perror("guest trace");
		return 1;
	}
	while ((thread = waitpid(-1, &status, __WALL)) > 0) {
		int sig = WSTOPSIG(status);

		if (!WIFSTOPPED(status))
			continue;
		if (sig == (SIGTRAP | 0x80)) {
			note(thread, out);
			sig = 0;
		} else if (status >> 16) { /* a stop of ptrace's own */
			sig = 0;
		}
		ptrace(PTRACE_SYSCALL, thread, NULL, (void *)(long)sig);
	}
	return 0;
}

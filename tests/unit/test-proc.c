/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Children, waited for with a time limit. */
#include "init/proc.h"
#include "tests/unit/tap.h"

#include "base/clock.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LONG_S = 60 };

static pid_t start(unsigned int sleep_s, int status)
{
	pid_t pid = fork();

	if (pid == 0) {
		sleep(sleep_s);
		_exit(status);
	}
	return pid;
}

TEST(child_is_waited_for_although_whoever_started_us_ignored_his)
{
	int status = 0;
	pid_t pid;

	signal(SIGCHLD, SIG_IGN);
	proc_setup();
	pid = start(0, 3);
	CHECK(pid > 0);
	CHECK_EQ(proc_wait(pid, clock_now_ns() + LONG_S * CLOCK_NS_PER_S, &status), 0);
	CHECK_EQ(WEXITSTATUS(status), 3);
	CHECK_EQ(proc_wait(pid, clock_now_ns() + LONG_S * CLOCK_NS_PER_S, &status), -ECHILD);
}

TEST(child_that_takes_longer_than_it_may_is_told_from_one_that_is_not_there)
{
	int status = 0;
	pid_t pid;

	proc_setup();
	pid = start(LONG_S, 0);
	CHECK(pid > 0);
	CHECK_EQ(proc_wait(pid, clock_now_ns() + CLOCK_NS_PER_S / 20, &status), -ETIMEDOUT);
	kill(pid, SIGKILL);
	CHECK_EQ(proc_wait(pid, CLOCK_NEVER, &status), 0);
	CHECK_EQ(WTERMSIG(status), SIGKILL);
}

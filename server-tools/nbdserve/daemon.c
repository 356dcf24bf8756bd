/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See daemon.h. */
#include "daemon.h"

#include "operate.h"

#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

int daemon_begin(void)
{
	int report[2], status;
	pid_t pid;
	char byte;

	if (pipe2(report, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		log_error("cannot become a daemon: %s", strerror(errno));
		exit(EXIT_FAILED);
	}
	if (pid == 0) {
		close(report[0]);
		setsid();
		return report[1];
	}
	close(report[1]);
	if (fd_read_all(report[0], &byte, 1) == 0)
		_exit(EXIT_DONE);
	/* The child said on stderr what is wrong, unless a signal ended it. */
	if (waitpid(pid, &status, 0) == pid && WIFSIGNALED(status))
		log_error("the daemon was killed by signal %d while it started", WTERMSIG(status));
	_exit(EXIT_FAILED);
}

/*
 * The system log takes datagrams of the form "<priority>text" (RFC 3164, section 4.3.3), which
 * is what log_set_fd() makes for a kernel log. Not blocking: a stuck syslogd stops no disk.
 */
static int syslog_socket(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0)
		return -1;
	return steal_fd(&fd);
}

void daemon_prepare(struct daemon_log *log)
{
	log->null = open("/dev/null", O_RDWR | O_CLOEXEC);
	log->syslog = syslog_socket();
	if (log->syslog < 0)
		log_warn("there is no system log at /dev/log, so nothing more will be logged when "
			 "the server is in the background (use --foreground and keep its stderr)");
}

void daemon_end(int report, const struct daemon_log *log)
{
	if (log->syslog >= 0)
		log_set_fd(log->syslog, 1);
	if (chdir("/") < 0)
		log_warn("cannot change to /: %s", strerror(errno));
	if (fd_write_all(report, "\n", 1) < 0)
		log_warn("the process that started the daemon is gone");
	close(report);
	if (log->null >= 0) {
		dup2(log->null, STDIN_FILENO);
		dup2(log->null, STDOUT_FILENO);
		dup2(log->null, STDERR_FILENO);
	}
}

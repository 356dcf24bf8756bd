/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See run.h. */
#include "run.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* In the child: becomes the program, or tells the parent through the pipe why not. */
static void run_become(const char *const argv[], int stdout_fd, int failure_fd)
{
	const char *path = getenv("PATH");
	char *all;
	int error;

	if (asprintf(&all, "%s:/usr/sbin:/usr/bin:/sbin:/bin", path ? path : "/usr/bin") >= 0)
		setenv("PATH", all, 1);
	if (stdout_fd < 0 || dup2(stdout_fd, STDOUT_FILENO) >= 0)
		execvp(argv[0], (char *const *)argv);
	error = errno;
	if (write(failure_fd, &error, sizeof(error)) < 0)
		_exit(126);
	_exit(127);
}

static int run_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Starts argv. Returns its pid, RUN_E_MISSING as -ENOENT, or negative errno. */
static pid_t run_start(const char *const argv[], int stdout_fd)
{
	_cleanup_close_ int read_end = -1;
	_cleanup_close_ int write_end = -1;
	int pipe_fd[2], error = 0;
	ssize_t n;
	pid_t pid;

	if (pipe2(pipe_fd, O_CLOEXEC) < 0)
		return -errno;
	read_end = pipe_fd[0];
	write_end = pipe_fd[1];
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		run_become(argv, stdout_fd, write_end);
	close(steal_fd(&write_end));
	do
		n = read(read_end, &error, sizeof(error));
	while (n < 0 && errno == EINTR);
	if (n != sizeof(error))
		return pid;
	run_wait(pid);
	return -error;
}

int run_program(const char *const argv[])
{
	pid_t pid = run_start(argv, -1);

	if (pid < 0)
		return pid == -ENOENT ? RUN_E_MISSING : (int)pid;
	return run_wait(pid);
}

int run_capture(const char *const argv[], size_t max, char **out)
{
	_cleanup_close_ int read_end = -1;
	_cleanup_free_ char *text = malloc(max + 1);
	int pipe_fd[2], status;
	size_t used = 0;
	ssize_t n;
	pid_t pid;

	if (!text)
		return -ENOMEM;
	if (pipe2(pipe_fd, O_CLOEXEC) < 0)
		return -errno;
	read_end = pipe_fd[0];
	pid = run_start(argv, pipe_fd[1]);
	close(pipe_fd[1]);
	if (pid < 0)
		return pid == -ENOENT ? RUN_E_MISSING : (int)pid;
	do {
		n = read(read_end, text + used, max + 1 - used);
		used += n > 0 ? (size_t)n : 0;
	} while ((n > 0 && used <= max) || (n < 0 && errno == EINTR));
	/* A program that has more to say gets SIGPIPE rather than waits for ever. */
	close(steal_fd(&read_end));
	status = run_wait(pid);
	if (used > max)
		return -EFBIG;
	text[used] = '\0';
	*out = steal_ptr(&text);
	return status;
}

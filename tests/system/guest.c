/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The test guest's own program, static: what a shell cannot do exactly.
 *
 *	guest agent TTY             run commands from the test, many at a time
 *	guest write FILE LOG        write records and fsync each one, for ever
 *	guest verify FILE LOG       every record that was acknowledged is there
 *	guest trace PID FILE        see guest-trace.c
 *	guest overwrite FILE LOG NAME SLOTS, guest probe DEVICE LOG
 *	                            see guest-load.c
 *
 * LOG must be on a tmpfs: it is what survives the fault. Times are CLOCK_REALTIME, which the
 * guest shares with the host.
 */
#include "guest.h"
#include "guest-load.h"
#include "guest-trace.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum {
	RECORD_SIZE = 4096,
	SLOTS = 2048, /* records go round in a file of 8 MiB */
	JOBS = 16,
	OUTPUT_MAX = 1 << 20,
	COMMAND_MAX = 4096,
};

struct record {
	uint64_t magic, sequence;
	uint64_t filler[RECORD_SIZE / 8 - 2];
};

#define RECORD_MAGIC UINT64_C(0x6e6264726f6f7431)

double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

_Noreturn void die(const char *what)
{
	perror(what);
	exit(1);
}

static void fill(struct record *r, uint64_t sequence)
{
	r->magic = RECORD_MAGIC;
	r->sequence = sequence;
	for (size_t i = 0; i < RECORD_SIZE / 8 - 2; i++)
		r->filler[i] = sequence * 0x9e3779b97f4a7c15 + i;
}

/*
 * The log: one line "sequence start end" for each acknowledged record. Those that took over 50 ms
 * stand in /tmp/guest-write.slow too, for the log of a long test is too long to be fetched.
 */
static int write_records(const char *path, const char *log_path)
{
	FILE *slow = fopen("/tmp/guest-write.slow", "a");
	int fd = open(path, O_RDWR | O_CREAT, 0644);
	FILE *log = fopen(log_path, "a"), *pid_file = fopen("/tmp/guest-write.pid", "w");
	static struct record r;

	if (fd < 0 || !log || !pid_file || !slow)
		die(fd < 0 ? path : log_path);
	fprintf(pid_file, "%d\n", (int)getpid());
	fclose(pid_file);
	for (uint64_t sequence = 1;; sequence++) {
		double start = now(), end;

		fill(&r, sequence);
		if (pwrite(fd, &r, sizeof(r), (off_t)(sequence % SLOTS) * RECORD_SIZE) != sizeof(r))
			die("write");
		if (fsync(fd) < 0)
			die("fsync");
		end = now();
		fprintf(log, "%" PRIu64 " %.6f %.6f\n", sequence, start, end);
		fflush(log);
		if (end - start > 0.05) {
			fprintf(slow, "%.6f %.6f\n", start, end);
			fflush(slow);
		}
	}
}

static int verify(const char *path, const char *log_path)
{
	static uint64_t acked[SLOTS];
	static struct record r, expected;
	uint64_t sequence, count = 0, lost = 0;
	int fd = open(path, O_RDONLY);
	FILE *log = fopen(log_path, "r");
	char line[128];

	if (fd < 0 || !log)
		die(fd < 0 ? path : log_path);
	while (fgets(line, sizeof(line), log)) {
		/* a line that was cut short by a kill was not acknowledged to anybody */
		if (!strchr(line, '\n') || sscanf(line, "%" SCNu64, &sequence) != 1)
			continue;
		acked[sequence % SLOTS] = sequence;
		count++;
	}
	for (uint64_t slot = 0; slot < SLOTS; slot++) {
		if (!acked[slot])
			continue;
		if (pread(fd, &r, sizeof(r), (off_t)slot * RECORD_SIZE) != sizeof(r))
			die("read");
		/* A later record, written but not acknowledged, may be there whole. */
		fill(&expected, r.sequence);
		if (r.sequence < acked[slot] || r.sequence % SLOTS != slot ||
		    memcmp(&r, &expected, sizeof(r)) != 0) {
			printf("slot %" PRIu64 ": record %" PRIu64 " is lost, there is %" PRIu64
			       "\n",
			       slot, acked[slot], r.sequence);
			lost++;
		}
	}
	printf("%" PRIu64 " acknowledged, %" PRIu64 " lost\n", count, lost);
	return lost != 0;
}

struct job {
	pid_t pid; /* 0: free */
	int fd;
	char id[32];
	char *output;
	size_t used;
};

static void start_job(struct job *jobs, char *line)
{
	char *command = strchr(line, ' ');
	struct job *j = jobs;
	int fds[2];

	while (j < jobs + JOBS && j->pid)
		j++;
	if (!command || j == jobs + JOBS || pipe(fds) < 0)
		die("job");
	*command++ = '\0';
	snprintf(j->id, sizeof(j->id), "%.31s", line);
	j->used = 0;
	j->output = malloc(OUTPUT_MAX);
	j->fd = fds[0];
	fcntl(fds[0], F_SETFD, FD_CLOEXEC);
	j->pid = fork();
	if (j->pid == 0) {
		int null = open("/dev/null", O_RDONLY);

		setsid();
		dup2(null, 0);
		dup2(fds[1], 1);
		dup2(fds[1], 2);
		close(fds[1]);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
}

static void write_all(int fd, const char *p, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, p, size);

		if (n < 0)
			die("tty");
		p += n;
		size -= (size_t)n;
	}
}

/*
 * A job is over when its shell has exited, even if something that it left in the background still
 * has its output open.
 */
static void end_job(struct job *j, int tty, int status)
{
	char head[80];
	ssize_t n;

	fcntl(j->fd, F_SETFL, O_NONBLOCK);
	while (j->used < OUTPUT_MAX &&
	       (n = read(j->fd, j->output + j->used, OUTPUT_MAX - j->used)) > 0)
		j->used += (size_t)n;
	n = snprintf(head, sizeof(head), "@%s %d %zu\n", j->id,
		     WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), j->used);
	write_all(tty, head, (size_t)n);
	write_all(tty, j->output, j->used);
	free(j->output);
	close(j->fd);
	j->pid = 0;
}

static int agent(const char *path)
{
	static struct job jobs[JOBS];
	static char line[COMMAND_MAX];
	int tty = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct termios raw;
	size_t used = 0;

	if (tty < 0 || tcgetattr(tty, &raw) < 0)
		die(path);
	cfmakeraw(&raw);
	tcsetattr(tty, TCSANOW, &raw);
	write_all(tty, "@ready 0 0\n", 11);
	for (;;) {
		struct pollfd pfd[JOBS + 1] = { { .fd = tty, .events = POLLIN } };
		int status;
		pid_t pid;

		for (int i = 0; i < JOBS; i++) {
			bool is_open = jobs[i].pid && jobs[i].used < OUTPUT_MAX;

			pfd[i + 1].fd = is_open ? jobs[i].fd : -1;
			pfd[i + 1].events = POLLIN;
		}
		poll(pfd, JOBS + 1, 20);
		for (int i = 0; i < JOBS; i++) {
			struct job *j = &jobs[i];
			ssize_t n;

			if (!(pfd[i + 1].revents & POLLIN))
				continue;
			n = read(j->fd, j->output + j->used, OUTPUT_MAX - j->used);
			j->used += n > 0 ? (size_t)n : 0;
		}
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			for (int i = 0; i < JOBS; i++)
				if (jobs[i].pid == pid)
					end_job(&jobs[i], tty, status);
		if (pfd[0].revents & POLLIN) {
			char c;

			while (read(tty, &c, 1) == 1) {
				if (c != '\n' && used < sizeof(line) - 1) {
					line[used++] = c;
					continue;
				}
				line[used] = '\0';
				used = 0;
				start_job(jobs, line);
				break;
			}
		}
	}
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "agent") == 0)
		return agent(argv[2]);
	if (argc == 4 && strcmp(argv[1], "write") == 0)
		return write_records(argv[2], argv[3]);
	if (argc == 4 && strcmp(argv[1], "verify") == 0)
		return verify(argv[2], argv[3]);
	if (argc == 4 && strcmp(argv[1], "trace") == 0)
		return guest_trace(argv[2], argv[3]);
	if (argc == 6 && strcmp(argv[1], "overwrite") == 0)
		return guest_overwrite(argv[2], argv[3], argv[4], strtoull(argv[5], NULL, 10));
	if (argc == 4 && strcmp(argv[1], "probe") == 0)
		return guest_probe(argv[2], argv[3]);
	fprintf(stderr, "usage: guest agent TTY | write FILE LOG | verify FILE LOG | "
			"trace PID FILE | overwrite FILE LOG NAME SLOTS | probe DEVICE LOG\n");
	return 2;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two commands of the test guest, for the campaign. What they log, a line each:
 *
 *	NAME ack SEQUENCE START END     the record is written and fsynced
 *	NAME wrong SEQUENCE FOUND       it was acknowledged, and FOUND stands in its place
 *	probe slow START END            one read took over 20 ms
 *
 * A record is 4096 bytes, 512 words in the machine's order: the sequence, a number made of NAME,
 * and then words that follow from both, so that no half of a record looks like a whole one.
 */
#include "guest-load.h"
#include "guest.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	BLOCK = 4096,
	WORDS = BLOCK / 8,
	PROBES = 4,
	PAUSE_US = 80000, /* of a probe, at most */
	LINE_MAX_BYTES = 160,
};

/* tests/campaign/check.py knows this too. */
static void make_record(uint64_t words[WORDS], const char *name, uint64_t sequence)
{
	words[0] = sequence;
	words[1] = 0;
	for (const char *p = name; *p; p++)
		words[1] = words[1] * 256 + (unsigned char)*p;
	for (uint64_t i = 2; i < WORDS; i++)
		words[i] = (sequence * 0x9e3779b97f4a7c15 ^ words[1]) + i;
}

static int open_or_die(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		die(path);
	return fd;
}

/* One line, whole, although several processes write there. */
__attribute__((format(printf, 2, 3))) static void say(int log, const char *fmt, ...)
{
	char line[LINE_MAX_BYTES];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (write(log, line, (size_t)n) != n)
		die("log");
}

/*
 * Before a place is used again it is read from the device, past the page cache: there must be the
 * record of one round ago, for that one was acknowledged. So an old write that comes late is seen
 * even if it would be overwritten again before the end.
 */
int guest_overwrite(const char *path, const char *log_path, const char *name, uint64_t slots)
{
	static _Alignas(BLOCK) uint64_t record[WORDS], found[WORDS];
	static uint64_t expected[WORDS];
	int fd = open_or_die(path, O_RDWR | O_CREAT);
	int direct = open_or_die(path, O_RDONLY | O_DIRECT);
	int log = open_or_die(log_path, O_WRONLY | O_NOCTTY);

	for (uint64_t sequence = 1; slots > 0; sequence++) {
		off_t at = (off_t)(sequence % slots) * BLOCK;
		double start;

		if (sequence > slots) {
			make_record(expected, name, sequence - slots);
			if (pread(direct, found, BLOCK, at) != BLOCK)
				die("read");
			if (memcmp(found, expected, BLOCK) != 0)
				say(log, "%s wrong %" PRIu64 " %" PRIu64 "\n", name,
				    sequence - slots, found[0]);
		}
		make_record(record, name, sequence);
		start = now();
		if (pwrite(fd, record, BLOCK, at) != BLOCK)
			die("write");
		if (fsync(fd) < 0)
			die("fsync");
		say(log, "%s ack %" PRIu64 " %.6f %.6f\n", name, sequence, start, now());
	}
	return 1;
}

/* Several processes, so that in each outage some of their reads are new. */
int guest_probe(const char *path, const char *log_path)
{
	static _Alignas(BLOCK) char block[BLOCK];
	int fd = open_or_die(path, O_RDONLY | O_DIRECT);
	int log = open_or_die(log_path, O_WRONLY | O_NOCTTY);
	off_t blocks = lseek(fd, 0, SEEK_END) / BLOCK;
	unsigned random;

	for (int i = 1; i < PROBES && fork() > 0; i++)
		;
	random = (unsigned)getpid();
	while (blocks > 0) {
		double start, end;

		usleep((useconds_t)rand_r(&random) % PAUSE_US);
		start = now();
		if (pread(fd, block, BLOCK, rand_r(&random) % blocks * BLOCK) != BLOCK)
			die("probe");
		end = now();
		if (end - start > 0.02)
			say(log, "probe slow %.6f %.6f\n", start, end);
	}
	return 1;
}

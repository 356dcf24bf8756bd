/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The whole server but its listeners: loops, connections, leases, jobs and commits, in each of its
 * engines (NBDROOT_FUZZ_ENGINE=epoll or io_uring for one of them), with clients at the other ends
 * of socketpairs. With the first byte's highest bit set, the rest is what one client sends after
 * the greeting. Else it is a program for up to four clients at a time: see enum op.
 *
 * A stream that ends in order is answered whole and then closed; a reply is well-formed, to a
 * request that is waiting for one, with the error that nbd_request_check() demands or none; what is
 * read is what was written, also by a connection that took over from another; and when all are
 * gone nothing is left of them: no memory, lease, reference or descriptor.
 */
#include "serve-client.h"

#include "base/log.h"
#include "proto/wire.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	BUDGET = 1024 * 1024, /* bytes of one program's data, as a rule */
	BIG_BUDGET = 40 * 1024 * 1024,
	SCARCE_MEMORY = 1024 * 1024,
	OPTIONS = 900,
};

/* The first byte of the input */
enum { IS_RAW = 128, IS_REPEATED = 32, IS_BIG = 1, IS_SCARCE = 2 };

/* The low five bits; the two above them choose the client. 0 to 8 are the protocol's commands. */
enum op {
	OP_RAW = 9,   /* count, bytes */
	OP_BAD_MAGIC, /* and all that follows is lost */
	OP_ANY,       /* a command of any number: two bytes, then as the others */
	OP_WAIT,      /* for all replies */
	OP_SEND,      /* what was said till now, and give the server the time to look at it */
	OP_OPEN,      /* three bytes: struct client */
	OP_CUT,       /* an administrator disconnects its export, or one that negotiates */
	OP_END,       /* as the client is to end */
	OP_REPEAT,    /* count: the last command */
};

static struct machine {
	struct exports exports;
	struct server server;
	int images[EXPORTS];
	char folder[128];
} machines[2];
static unsigned n_machines;

static struct machine *now;

/* ---- the server --------------------------------------------------------------------------- */

static int make_image(const char *path, unsigned export)
{
	static uint8_t island[65536];
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	must(fd >= 0 && ftruncate(fd, IMAGE_SIZE) == 0);
	if (export != EXPORT_RO)
		return fd;
	for (off_t at = 0; at < 4 * 1024 * 1024; at += 3 * (off_t)sizeof(island)) {
		for (size_t i = 0; i < sizeof(island); i++)
			island[i] = image_read_only_byte((uint64_t)at + i);
		must(pwrite(fd, island, sizeof(island), at) == sizeof(island));
	}
	return fd;
}

static void image_path(const struct machine *of, unsigned export, char *out, size_t size)
{
	const char *slash = strchr(export_names[export], '/');

	snprintf(out, size, "%s/%s.img", of->folder, slash ? slash + 1 : export_names[export]);
}

static void stop_machines(void)
{
	for (unsigned i = 0; i < n_machines; i++) {
		char path[160];

		now = &machines[i];
		play.server = &now->server;
		must(server_stop(play.server));
		exports_close(&now->exports);
		for (unsigned e = 0; e < EXPORTS; e++) {
			image_path(now, e, path, sizeof(path));
			unlink(path);
			close(now->images[e]);
		}
		rmdir(now->folder);
	}
	n_machines = 0;
}

static void start_machine(struct machine *of, const char *engine)
{
	static const char *const options[] = { "", ",ro", ",durability=flush" };
	const char *tmp = getenv("TMPDIR");
	struct config config = { 0 };
	char err[CONFIG_ERROR_MAX], path[160], text[400];

	snprintf(of->folder, sizeof(of->folder), "%.80s/fuzz-serve-XXXXXX", tmp ? tmp : "/dev/shm");
	must(mkdtemp(of->folder));
	for (unsigned e = 0; e < EXPORTS; e++) {
		image_path(of, e, path, sizeof(path));
		of->images[e] = make_image(path, e);
		snprintf(text, sizeof(text), "%s=%s%s", export_names[e], path,
			 e < EXPORT_MANY_A ? options[e] : "");
		must(e >= EXPORT_MANY_A || config_add_export(&config, text, err) == 0);
	}
	snprintf(text, sizeof(text), "many/{n}=%s/{n}.img", of->folder);
	must(config_add_export(&config, text, err) == 0);
	must(config_set_engine(&config, engine, err) == 0);
	must(config_set_threads(&config, "1", err) == 0);
	must(config_check(&config, err) == 0);
	config.half_open_max = HALF_OPEN;
	must(server_init(&of->server, &of->exports, &config) == 0);
	must(exports_open(&of->exports, &config, of->server.n_loops, false) == 0);
	must(server_start(&of->server) == 0);
	config_deinit(&config);
}

static void start_machines(void)
{
	const char *only = getenv("NBDROOT_FUZZ_ENGINE");
	char why[128];

	signal(SIGPIPE, SIG_IGN); /* as nbdserve does: sendfile(2) has no MSG_NOSIGNAL */
	log_init("fuzz-serve");
	log_set_level(LOG_LEVEL_DEBUG); /* lines are put together, and go nowhere */
	log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC), 0);
	if (!only || strcmp(only, "epoll") == 0)
		start_machine(&machines[n_machines++], "epoll");
	if ((!only && ring_is_usable(why, sizeof(why))) || (only && strcmp(only, "io_uring") == 0))
		start_machine(&machines[n_machines++], "io_uring");
	must(n_machines > 0);
	atexit(stop_machines);
}

/* ---- a program ---------------------------------------------------------------------------- */
static struct served *served_of(unsigned export)
{
	struct served *s;

	TAILQ_FOREACH (s, &now->exports.all, link)
		if (strcmp(s->config.name, export_names[export]) == 0)
			return s;
	return NULL;
}

static void cut(struct client *c)
{
	struct client *other;

	if (c->export < EXPORT_MANY_A && c->admitted > 0) {
		server_disconnect_export(play.server, served_of(c->export),
					 "an administrator says so");
		for (other = play.clients; other < play.clients + play.n_clients; other++)
			other->is_cut |= other->export == c->export;
	} else {
		server_drop_oldest(play.server);
		for (other = play.clients; other < play.clients + play.n_clients; other++)
			other->is_cut |= other->admitted == 0;
	}
}

static uint64_t offset_of(unsigned code)
{
	static const uint64_t places[] = { 0,
					   1,
					   511,
					   4096,
					   65535,
					   65536,
					   IMAGE_SIZE / 2,
					   IMAGE_SIZE - 4096,
					   IMAGE_SIZE - 1,
					   IMAGE_SIZE,
					   IMAGE_SIZE + 1,
					   INT64_MAX,
					   UINT64_MAX - 4095,
					   UINT64_MAX };

	return code < ARRAY_SIZE(places) ? places[code] : (uint64_t)(code - 14) * 4096;
}

static uint64_t length_of(unsigned code, bool is_extended)
{
	static const uint64_t sizes[] = {
		0,
		1,
		511,
		4096,
		16383,
		16384,
		16385,
		32767,
		32768,
		32769,
		65408,
		65536,
		131072,
		262144,
		262145,
		1 << 20,
		(1 << 20) + 1,
		(2 << 20) + 1,
		32 << 20,
		(32 << 20) + 1,
		IMAGE_SIZE,
		UINT32_MAX,
		1ull << 40,
		UINT64_MAX,
	};
	uint64_t length = code < ARRAY_SIZE(sizes) ? sizes[code] : (uint64_t)(code - 23) * 512;

	return is_extended || length <= UINT32_MAX ? length : 4096;
}

/* Flags, offset, length. */
static void command(struct client *c, uint16_t type, uint8_t flags, uint8_t offset, uint8_t length)
{
	struct nbd_request req = {
		.type = type,
		.flags = flags & 63,
		.cookie = play.seq << 8 | 0x77,
		.offset = offset_of(offset),
		.length = length_of(length, c->wire.extended),
	};
	bool is_large = type == NBD_CMD_READ ||
			(type == NBD_CMD_WRITE_ZEROES && flags & NBD_CMD_FLAG_NO_HOLE);

	if (flags & 64)
		req.flags |= 1 << 9;
	if (c->wire.extended && type == NBD_CMD_WRITE && !(flags & 128))
		req.flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
	if (is_large && req.length <= IMAGE_SIZE && req.length > play.budget)
		req.length = 4096;
	if (is_large && req.length <= IMAGE_SIZE)
		play.budget -= req.length < play.budget ? (size_t)req.length : play.budget;
	client_request(c, &req);
}

static void run_program(struct wire_reader *r)
{
	uint8_t last[3] = { 0, 16, 3 };
	uint16_t last_type = NBD_CMD_READ;

	while (wire_left(r) > 0 && !r->bad) {
		uint8_t word = wire_u8(r);
		unsigned op = word & 31, slot = word >> 5 & 3, count;
		struct client *c = play.slots[slot];
		uint8_t args[3];

		if (op == OP_OPEN || (!c && op <= OP_ANY)) {
			for (unsigned i = 0; i < 3; i++)
				args[i] = op == OP_OPEN ? wire_u8(r) : 0;
			c = client_open(slot, args[0], args[1], args[2]);
		}
		if (!c || op == OP_OPEN)
			continue;
		switch (op) {
		case OP_RAW:
			count = wire_u8(r);
			count = count < wire_left(r) ? count : (unsigned)wire_left(r);
			client_say(c, wire_bytes(r, count), count);
			break;
		case OP_BAD_MAGIC: {
			static const uint8_t wrong[NBD_EXTENDED_REQUEST_SIZE] = "no magic";

			client_say(c, wrong, nbd_request_head_size(&c->wire));
			break;
		}
		case OP_WAIT: client_wait(c); break;
		case OP_SEND:
			client_send(c);
			client_pause(c);
			break;
		case OP_CUT: cut(c); break;
		case OP_END: client_end(c); break;
		case OP_REPEAT:
			for (count = wire_u8(r); count > 0; count--)
				command(c, last_type, last[0], last[1], last[2]);
			break;
		default:
			if (op > OP_REPEAT)
				break;
			last_type = op == OP_ANY ? wire_u16(r) : (uint16_t)op;
			for (unsigned i = 0; i < 3; i++)
				last[i] = wire_u8(r);
			command(c, last_type, last[0], last[1], last[2]);
		}
	}
}

/* ---- afterwards --------------------------------------------------------------------------- */

static void is_left_clean(struct served *s, void *arg)
{
	(void)arg;
	must(!s->is_instance && s->refs == 1 && s->connections == 0 && s->held == 0);
	must(TAILQ_EMPTY(&s->lease.holders) && TAILQ_EMPTY(&s->lease.waiters));
	must(STAILQ_EMPTY(&s->commit.waiting) && STAILQ_EMPTY(&s->commit.covered));
	must(commit_error(&s->commit) == 0);
	lease_deinit(&s->lease); /* it remembers who was there; the next input has to be alone */
	lease_init(&s->lease);
}

static void check_clean(void)
{
	struct server *sv = play.server;
	struct timespec until;
	uint64_t deadline_ns = clock_now_ns() + DEADLINE_S * CLOCK_NS_PER_S;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += DEADLINE_S;
	pthread_mutex_lock(&sv->lock);
	while (!TAILQ_EMPTY(&sv->all))
		if (pthread_cond_timedwait(&sv->changed, &sv->lock, &until) == ETIMEDOUT)
			fail("a connection is left: state %d, %u jobs, %u operations, \"%s\"",
			     TAILQ_FIRST(&sv->all)->state, TAILQ_FIRST(&sv->all)->n_jobs,
			     TAILQ_FIRST(&sv->all)->n_ops, TAILQ_FIRST(&sv->all)->reason);
	must(sv->n_half_open == 0 && TAILQ_EMPTY(&sv->half_open));
	pthread_mutex_unlock(&sv->lock);
	while (atomic_load(&sv->loops[0].n_conns) > 0) {
		must(clock_now_ns() < deadline_ns);
		sched_yield();
	}
	must(atomic_load(&sv->memory.used) == 0);
	exports_visit(&now->exports, is_left_clean, NULL);
}

static void empty_images(void)
{
	struct stat st;

	for (unsigned e = 0; e < EXPORTS; e++)
		if (e != EXPORT_RO && fstat(now->images[e], &st) == 0 && st.st_blocks > 0)
			must(fallocate(now->images[e], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				       0, IMAGE_SIZE) == 0);
}

static void run(const uint8_t *data, size_t size)
{
	struct wire_reader r = wire_reader(data, size);
	uint8_t first = wire_u8(&r);
	unsigned i;

	play.n_clients = 0;
	play.seq = 0;
	image_forget_changes();
	play.budget = first & IS_BIG ? BIG_BUDGET : BUDGET;
	play.server->memory.limit = first & IS_SCARCE ? SCARCE_MEMORY : 256 * 1024 * 1024;
	if (first & IS_RAW) {
		struct client *c = client_open_raw(first);

		client_say(c, r.p, wire_left(&r));
		/* the options, without the flags before them, once more and once more */
		for (i = 0; i < OPTIONS && first & IS_REPEATED && wire_left(&r) > 4; i++)
			client_say(c, r.p + 4, wire_left(&r) - 4);
		client_send(c);
	} else {
		run_program(&r);
	}
	for (i = 0; i < CLIENTS; i++)
		if (play.slots[i])
			client_end(play.slots[i]);
	check_clean();
	empty_images();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int before, after;

	if (n_machines == 0)
		start_machines();
	for (unsigned i = 0; i < n_machines && size > 0; i++) {
		now = &machines[i];
		play.server = &now->server;
		before = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
		close(before);
		run(data, size);
		after = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
		close(after);
		must(before == after);
	}
	return 0;
}

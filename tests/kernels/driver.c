/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel's nbd driver does with requests that are in flight when their connection dies,
 * measured inside a guest: both ends of each connection are in this process, so there is one clock
 * and no network. It speaks to the driver by the product's own kernel.c; what it decides for
 * itself is when a connection dies and when the next one comes.
 *
 *	driver recover WAY IO_TIMEOUT_MS OUTAGE_MS REQUESTS DEVICES ROUNDS
 *	driver noise CASE IO_TIMEOUT_MS REQUESTS SECONDS
 *
 *	driver freeze
 *
 * WAY: "plain", no request timeout at any time and this queue/io_timeout; "product", what nbdclient
 * does: impatient from the loss to just before the new socket, and the shortest timer (the number
 * is of no meaning then). CASE: a WAY during an outage, or "stall-WAY", a server that answers
 * nothing for SECONDS over a connection that lives. "freeze" writes to the queue's io_timeout while
 * a request is in flight on a dead connection. Prints a line for each fact.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "nbdclient/kernel.h"
#include "proto/nbd.h"
#include "proto/reply.h"
#include "proto/request.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum {
	REQUESTS_MAX = 64,
	DEVICES_MAX = 8,
	READ_SIZE = 4096,
	SETTLE_MS = 120,         /* as SESSION_SETTLE_NS */
	PATIENCE_MS = 70 * 1000, /* after this a request hangs */
	AGE_MAX_MS = 1200,       /* of a request when its connection dies: any part of its timer */
};

static const char backend[] = "nbd://driver/under-test";

struct unit; /* one device, its server and those who read from it */

struct reader {
	struct unit *unit;
	unsigned number;
	pthread_t thread;
};

struct unit {
	int index;
	bool is_product;
	unsigned io_timeout_ms, requests;
	struct kernel kernel;
	struct kernel_files files;
	unsigned random;
	int client_fd, server_fd; /* the present connection's ends */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned ready;          /* readers that have the device open */
	unsigned round, pending; /* reads of this round that are not done */
	unsigned errors;
	uint64_t done_ns[REQUESTS_MAX];
	struct reader readers[REQUESTS_MAX];
	bool is_holding;
	unsigned received; /* requests, since the last connection or round began */
	uint64_t held[4 * REQUESTS_MAX];
	unsigned n_held;

	/* results */
	unsigned losses, extra_dead, sent_twice, hung;
};

static _Noreturn void die(const char *what, int r)
{
	fprintf(stderr, "driver: %s: %s\n", what, strerror(r < 0 ? -r : r));
	exit(1);
}

static void must(int r, const char *what)
{
	if (r != 0)
		die(what, r > 0 ? ENODEV : r);
}

static void sleep_ms(unsigned ms)
{
	const struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

static void sleep_until(uint64_t at_ns)
{
	const struct timespec t = { .tv_sec = (time_t)(at_ns / CLOCK_NS_PER_S),
				    .tv_nsec = (long)(at_ns % CLOCK_NS_PER_S) };

	clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &t, NULL);
}

/* ---- the server --------------------------------------------------------------------------- */

static void answer(int fd, uint64_t cookie)
{
	static const uint8_t data[READ_SIZE];
	uint8_t reply[NBD_SIMPLE_REPLY_SIZE + READ_SIZE];

	nbd_simple_reply_encode(&(struct nbd_simple_reply){ .cookie = cookie }, reply);
	memcpy(reply + NBD_SIMPLE_REPLY_SIZE, data, sizeof(data));
	(void)send(fd, reply, sizeof(reply), MSG_NOSIGNAL);
}

struct connection {
	struct unit *unit;
	int fd;
};

static void *serve(void *argument)
{
	struct connection c = *(struct connection *)argument;
	uint8_t head[NBD_REQUEST_SIZE];
	struct nbd_request request;

	free(argument);
	while (fd_read_all(c.fd, head, sizeof(head)) == 0 && nbd_request_decode(&request, head) &&
	       request.type == NBD_CMD_READ && request.length == READ_SIZE) {
		bool is_held;

		pthread_mutex_lock(&c.unit->lock);
		is_held = c.unit->is_holding;
		c.unit->received++;
		if (is_held && c.unit->n_held < ARRAY_SIZE(c.unit->held))
			c.unit->held[c.unit->n_held++] = request.cookie;
		pthread_cond_broadcast(&c.unit->changed);
		pthread_mutex_unlock(&c.unit->lock);
		if (!is_held)
			answer(c.fd, request.cookie);
	}
	close(c.fd);
	return NULL;
}

/* A connection over loopback, with a thread of the server at its end. */
static void make_connection(struct unit *u)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	struct connection *c = malloc(sizeof(*c));
	socklen_t size = sizeof(addr);
	const int on = 1;
	pthread_t thread;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	u->client_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!c || bind(listener, (struct sockaddr *)&addr, size) < 0 || listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&addr, &size) < 0 ||
	    connect(u->client_fd, (struct sockaddr *)&addr, size) < 0)
		die("connect", errno);
	u->server_fd = accept(listener, NULL, NULL);
	close(listener);
	if (u->server_fd < 0)
		die("accept", errno);
	setsockopt(u->client_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(u->server_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	*c = (struct connection){ u, dup(u->server_fd) };
	if (pthread_create(&thread, NULL, serve, c) != 0)
		die("thread", errno);
	pthread_detach(thread);
}

/* ---- who reads ---------------------------------------------------------------------------- */

static void *read_rounds(void *argument)
{
	struct reader *me = argument;
	struct unit *u = me->unit;
	unsigned round = 0;
	char path[32];
	void *data;
	int fd;

	snprintf(path, sizeof(path), "/dev/nbd%d", u->index);
	fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0 || posix_memalign(&data, READ_SIZE, READ_SIZE) != 0)
		die(path, errno);
	pthread_mutex_lock(&u->lock);
	u->ready++;
	pthread_cond_broadcast(&u->changed);
	pthread_mutex_unlock(&u->lock);
	for (;;) {
		off_t offset;
		bool is_good;

		pthread_mutex_lock(&u->lock);
		while (u->round == round)
			pthread_cond_wait(&u->changed, &u->lock);
		round = u->round;
		pthread_mutex_unlock(&u->lock);
		/* never side by side: each read is a request of its own */
		offset = ((off_t)me->number << 20) + (off_t)(round % 100) * 2 * READ_SIZE;
		is_good = pread(fd, data, READ_SIZE, offset) == READ_SIZE;
		pthread_mutex_lock(&u->lock);
		u->done_ns[me->number] = clock_now_ns();
		u->errors += !is_good;
		u->pending--;
		pthread_cond_broadcast(&u->changed);
		pthread_mutex_unlock(&u->lock);
	}
	return NULL;
}

/* Waits until *count has reached at least (or, downwards, at most) the target. */
static bool wait_count(struct unit *u, const unsigned *count, unsigned target, bool is_down)
{
	uint64_t end_ns = clock_now_ns() + PATIENCE_MS * CLOCK_NS_PER_MS;
	bool is_there = false;

	while (!is_there && clock_now_ns() < end_ns) {
		struct timespec until;

		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec++;
		pthread_mutex_lock(&u->lock);
		is_there = is_down ? *count <= target : *count >= target;
		if (!is_there)
			pthread_cond_timedwait(&u->changed, &u->lock, &until);
		is_there = is_down ? *count <= target : *count >= target;
		pthread_mutex_unlock(&u->lock);
	}
	return is_there;
}

/* Waits for what is in flight on many kernels: that is what "freeze" is about. */
static int write_io_timeout(const struct unit *u, unsigned ms)
{
	char path[64], text[16];

	snprintf(path, sizeof(path), "/sys/block/nbd%d/queue/io_timeout", u->index);
	snprintf(text, sizeof(text), "%u", ms);
	return fd_write_file(path, text);
}

static void be_patient(struct unit *u)
{
	bool is_short = false;

	must(kernel_be_patient(&u->kernel, u->index, backend, &u->files, &is_short), "patience");
	if (!is_short)
		die("the timer cannot be made short by a message", EOPNOTSUPP);
}

static void attach(struct unit *u)
{
	const struct kernel_device dev = {
		.size_bytes = (uint64_t)(REQUESTS_MAX + 1) << 20,
		.block_size_bytes = 512,
		.flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH,
		.backend = backend,
	};

	pthread_mutex_init(&u->lock, NULL);
	pthread_cond_init(&u->changed, NULL);
	must(kernel_open(&u->kernel), "kernel_open");
	make_connection(u);
	must(kernel_connect(&u->kernel, u->client_fd, &dev, &u->index), "CONNECT");
	kernel_open_files(u->index, &u->files);
	if (u->is_product)
		be_patient(u);
	else
		must(write_io_timeout(u, u->io_timeout_ms), "io_timeout");
	for (unsigned i = 0; i < u->requests; i++) {
		u->readers[i] = (struct reader){ .unit = u, .number = i };
		if (pthread_create(&u->readers[i].thread, NULL, read_rounds, &u->readers[i]) != 0)
			die("thread", errno);
	}
	/* The first open reads what it hopes are partitions; only then it is the readers' alone. */
	if (!wait_count(u, &u->ready, u->requests, false))
		die("the device does not open", ETIMEDOUT);
}

/* Puts this round's requests in flight: the server has them and does not answer. */
static void issue(struct unit *u)
{
	pthread_mutex_lock(&u->lock);
	u->is_holding = true;
	u->n_held = 0;
	u->received = 0;
	u->pending = u->requests;
	u->round++;
	pthread_cond_broadcast(&u->changed);
	pthread_mutex_unlock(&u->lock);
	if (!wait_count(u, &u->received, u->requests, false))
		die("the driver sends no requests", ETIMEDOUT);
}

/* How many LINK_DEADs of this device there are; waits for the first one. */
static unsigned count_dead(struct unit *u, int wait_ms)
{
	unsigned count = 0;
	uint64_t end_ns = clock_now_ns() + (uint64_t)wait_ms * CLOCK_NS_PER_MS;
	int index, r;

	for (;;) {
		struct pollfd pfd = { .fd = u->kernel.events_fd, .events = POLLIN };

		while ((r = kernel_next_dead(&u->kernel, &index)) == 1)
			count += index == u->index;
		if (count > 0 || clock_now_ns() >= end_ns)
			return count;
		(void)poll(&pfd, 1, clock_poll_ms(clock_now_ns(), end_ns));
	}
}

static void lose(struct unit *u)
{
	unsigned count;

	u->extra_dead += count_dead(u, 0);
	u->losses++;
	shutdown(u->server_fd, SHUT_RDWR);
	close(u->server_fd);
	count = count_dead(u, 5000);
	if (count != 1)
		die(count == 0 ? "no LINK_DEAD" : "LINK_DEAD twice at once", EPROTO);
	shutdown(u->client_fd, SHUT_RDWR);
	if (u->is_product)
		must(kernel_be_impatient(&u->kernel, u->index, backend), "impatience");
}

/* Returns when the driver was asked to take the new socket. */
static uint64_t give_socket(struct unit *u)
{
	int old_fd = u->client_fd;
	uint64_t at_ns;

	pthread_mutex_lock(&u->lock);
	u->is_holding = false;
	u->received = 0;
	pthread_mutex_unlock(&u->lock);
	make_connection(u);
	if (u->is_product)
		be_patient(u);
	at_ns = clock_now_ns();
	must(kernel_reconfigure(&u->kernel, u->index, u->client_fd, backend), "the socket");
	close(old_fd);
	return at_ns;
}

/* ---- recover ------------------------------------------------------------------------------ */

static struct unit units[DEVICES_MAX];
static unsigned outage_ms, rounds;

static void *run_rounds(void *argument)
{
	struct unit *u = argument;

	attach(u);
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t lost_ns, at_ns;

		issue(u);
		sleep_ms((unsigned)rand_r(&u->random) % AGE_MAX_MS);
		lose(u);
		lost_ns = clock_now_ns();
		sleep_until(lost_ns +
			    (outage_ms > SETTLE_MS ? outage_ms : SETTLE_MS) * CLOCK_NS_PER_MS);
		at_ns = give_socket(u);
		if (!wait_count(u, &u->pending, 0, true)) {
			u->hung++;
			break;
		}
		pthread_mutex_lock(&u->lock);
		if (u->received > u->requests)
			u->sent_twice += u->received - u->requests;
		for (unsigned k = 0; k < u->requests; k++)
			printf("done %.1f\n", ((double)u->done_ns[k] - (double)at_ns) / 1e6);
		fflush(stdout);
		pthread_mutex_unlock(&u->lock);
	}
	/* A new socket that is marked dead late would show by now. */
	sleep_ms(1500);
	u->extra_dead += count_dead(u, 0);
	return NULL;
}

static int recover(unsigned io_timeout_ms, unsigned requests, unsigned devices, bool is_product)
{
	unsigned losses = 0, extra_dead = 0, errors = 0, twice = 0, hung = 0;
	pthread_t threads[DEVICES_MAX];

	for (unsigned i = 0; i < devices; i++) {
		units[i].index = (int)i;
		units[i].random = i + 1;
		units[i].is_product = is_product;
		units[i].io_timeout_ms = io_timeout_ms;
		units[i].requests = requests;
		if (pthread_create(&threads[i], NULL, run_rounds, &units[i]) != 0)
			die("thread", errno);
	}
	for (unsigned i = 0; i < devices; i++) {
		struct unit *u = &units[i];

		pthread_join(threads[i], NULL);
		losses += u->losses;
		extra_dead += u->extra_dead;
		errors += u->errors;
		twice += u->sent_twice;
		hung += u->hung;
		must(kernel_disconnect(&u->kernel, u->index), "DISCONNECT");
	}
	printf("total losses=%u extra_dead=%u io_errors=%u sent_twice=%u hung=%u\n", losses,
	       extra_dead, errors, twice, hung);
	return 0;
}

/* ---- noise -------------------------------------------------------------------------------- */

static struct {
	int fd;
	unsigned stuck, timed_out;
} kernel_log;

static void read_kernel_log(void)
{
	char record[2048];
	ssize_t n;

	while ((n = read(kernel_log.fd, record, sizeof(record) - 1)) > 0 || errno == EPIPE) {
		record[n > 0 ? n : 0] = '\0';
		kernel_log.stuck += strstr(record, "Possible stuck request") != NULL;
		kernel_log.timed_out += strstr(record, "Connection timed out") != NULL;
		errno = 0;
	}
}

static int noise(const char *what, unsigned io_timeout_ms, unsigned requests, unsigned seconds)
{
	struct unit *u = &units[0];
	bool is_stall = strncmp(what, "stall", 5) == 0;
	uint64_t end_ns;
	unsigned dead, sent;

	kernel_log.fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (kernel_log.fd < 0)
		die("/dev/kmsg", errno);
	u->is_product = strstr(what, "product") != NULL;
	u->io_timeout_ms = io_timeout_ms;
	u->requests = requests;
	attach(u);
	issue(u);
	lseek(kernel_log.fd, 0, SEEK_END);
	if (!is_stall)
		lose(u);
	end_ns = clock_now_ns() + seconds * CLOCK_NS_PER_S;
	while (clock_now_ns() < end_ns) {
		sleep_ms(50);
		read_kernel_log();
	}
	dead = count_dead(u, 0);
	pthread_mutex_lock(&u->lock);
	sent = u->received;
	u->is_holding = false;
	for (unsigned i = 0; is_stall && i < u->n_held; i++)
		answer(u->server_fd, u->held[i]);
	pthread_mutex_unlock(&u->lock);
	if (!is_stall)
		(void)give_socket(u);
	printf("lines stuck=%u timed_out=%u dead=%u sent=%u", kernel_log.stuck,
	       kernel_log.timed_out, dead, sent);
	printf(" done=%d io_errors=%u\n", wait_count(u, &u->pending, 0, true), u->errors);
	must(kernel_disconnect(&u->kernel, u->index), "DISCONNECT");
	return 0;
}

/* ---- freeze ------------------------------------------------------------------------------- */

static void *write_in_vain(void *argument)
{
	must(write_io_timeout(argument, 200), "io_timeout");
	return NULL;
}

static int freeze(void)
{
	struct unit *u = &units[0];
	struct timespec until;
	pthread_t thread;
	int r;

	u->io_timeout_ms = 100;
	u->requests = 1;
	attach(u);
	issue(u);
	lose(u);
	if (pthread_create(&thread, NULL, write_in_vain, u) != 0)
		die("thread", errno);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 10;
	r = pthread_timedjoin_np(thread, NULL, &until);
	(void)give_socket(u);
	if (!wait_count(u, &u->pending, 0, true))
		die("the read does not end", ETIMEDOUT);
	if (r != 0)
		pthread_join(thread, NULL);
	printf("%s\n", r == 0 ? "returns" : "waits for the new socket");
	must(kernel_disconnect(&u->kernel, u->index), "DISCONNECT");
	return 0;
}

static unsigned number(const char *text, unsigned max)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end || n == 0 || n > max)
		die(text, ERANGE);
	return (unsigned)n;
}

int main(int argc, char **argv)
{
	log_init("driver");
	if (argc == 8 && strcmp(argv[1], "recover") == 0) {
		outage_ms = number(argv[4], 3600 * 1000);
		rounds = number(argv[7], 1000000);
		return recover(number(argv[3], 1000000), number(argv[5], REQUESTS_MAX),
			       number(argv[6], DEVICES_MAX), strcmp(argv[2], "product") == 0);
	}
	if (argc == 6 && strcmp(argv[1], "noise") == 0)
		return noise(argv[2], number(argv[3], 1000000), number(argv[4], REQUESTS_MAX),
			     number(argv[5], 3600));
	if (argc == 2 && strcmp(argv[1], "freeze") == 0)
		return freeze();
	fprintf(stderr, "usage: driver recover WAY IO_TIMEOUT_MS OUTAGE_MS REQUESTS DEVICES ROUNDS "
			"| noise CASE IO_TIMEOUT_MS REQUESTS SECONDS | freeze\n");
	return 2;
}

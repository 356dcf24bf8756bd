/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A room full of clients, without their kernels: each is a process with the product's own loop
 * (client.c, session.c, try.c, dial.c, negotiate.c, ...) and a machine, a session and an export of
 * its own. Only link.c is another one, below: the connection that the driver would get is kept, and
 * read from by a request of the client's own, at once and then now and then.
 *
 *	fleet COUNT HOST:PORT
 *
 * Client i is the machine 02-00-00-00-xx-yy and uses the export clients/02-00-00-00-xx-yy/root.
 * On each line from standard input it prints one with what is known by then; at its end, it ends.
 */
#include "base/fd.h"
#include "base/log.h"
#include "nbdclient/client.h"
#include "nbdclient/link.h"
#include "nbdclient/uri.h"
#include "proto/request.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum {
	COUNT_MAX = 0xffff,
	READ_SIZE = 512,
	ANSWER_MS = 5000,
	READ_EVERY_MS = 2000,
};

/* What a client says of itself, in memory that all share. */
struct report {
	_Atomic uint64_t back_ns; /* when its last connection had answered a read; 0: it has none */
	_Atomic uint64_t tries;   /* in all outages together */
	_Atomic uint32_t reads, errors;
};

static struct report *mine;

/* ---- in link.c's place -------------------------------------------------------------------- */

/* 1: answered; 0: the connection is dead, or nobody answers. */
static bool read_something(int fd)
{
	const struct nbd_request request = { .type = NBD_CMD_READ, .length = READ_SIZE };
	uint8_t out[NBD_REQUEST_SIZE], in[NBD_SIMPLE_REPLY_SIZE + READ_SIZE];
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	struct nbd_simple_reply reply;
	size_t have = 0;

	nbd_request_encode(&request, out);
	if (send(fd, out, sizeof(out), MSG_NOSIGNAL) != sizeof(out))
		return false;
	while (have < sizeof(in)) {
		ssize_t n;

		if (poll(&pfd, 1, ANSWER_MS) <= 0)
			return false;
		n = recv(fd, in + have, sizeof(in) - have, 0);
		if (n <= 0)
			return false;
		have += (size_t)n;
		if (have < NBD_SIMPLE_REPLY_SIZE)
			continue;
		if (!nbd_simple_reply_decode(&reply, in) || reply.error != NBD_OK) {
			mine->errors++;
			return false;
		}
	}
	mine->reads++;
	return true;
}

int link_hand(struct client *c, unsigned which)
{
	c->address = &c->addresses.address[which];
	if (!c->has_first)
		c->first = c->negotiate.identity;
	c->has_first = true;
	c->index = 0;
	return EV_HANDED;
}

void link_is_up(struct client *c, unsigned which)
{
	const struct nbd_hsc *hsc = &c->negotiate.hsc;

	c->link_fd = steal_fd(&c->fds[which]);
	c->epoch = epoch_of(hsc->has_session_reply ? &hsc->session_reply : NULL);
	mine->tries += session_tries(&c->session);
	if (read_something(c->link_fd))
		mine->back_ns = clock_now_ns();
	c->next_watch_ns = clock_now_ns() + READ_EVERY_MS * CLOCK_NS_PER_MS;
}

bool link_was_useful(const struct client *c)
{
	(void)c;
	return true; /* each is read over at once */
}

bool link_is_exchangeable(const struct client *c)
{
	(void)c;
	return false;
}

void link_adopt(struct client *c, bool is_alive)
{
	(void)c;
	(void)is_alive;
}

void link_cut(struct client *c)
{
	mine->back_ns = 0;
	if (c->link_fd >= 0)
		close(c->link_fd);
	c->link_fd = -1;
}

void link_disconnect(struct client *c)
{
	link_cut(c);
	c->exit_status = 0;
}

void link_watch(struct client *c, uint64_t now_ns)
{
	if (c->session.link != LINK_UP || now_ns < c->next_watch_ns)
		return;
	c->next_watch_ns = now_ns + READ_EVERY_MS * CLOCK_NS_PER_MS;
	if (!read_something(c->link_fd))
		client_link_dead(c, "no answer");
}

uint64_t link_deadline(const struct client *c)
{
	return c->session.link == LINK_UP ? c->next_watch_ns : CLOCK_NEVER;
}

void link_on_probe(struct client *c)
{
	(void)c;
}

void link_on_network(struct client *c, unsigned changes)
{
	(void)c;
	(void)changes;
}

/* ---- the room ----------------------------------------------------------------------------- */

static _Noreturn void be_client(const char *server, unsigned number)
{
	static struct client client;
	static struct uri uri;
	struct client *c = &client;
	char text[URI_TEXT_MAX], machine[24];
	const char *why = "";

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(machine, sizeof(machine), "02-00-00-00-%02x-%02x", number >> 8, number & 0xff);
	memcpy(c->who.machine, machine, sizeof(machine));
	snprintf(c->who.host, sizeof(c->who.host), "client-%u", number);
	snprintf(text, sizeof(text), "nbd://%.200s/clients/%s/root", server, machine);
	if (getrandom(c->who.id, sizeof(c->who.id), 0) != sizeof(c->who.id) ||
	    uri_parse(&uri, text, &why) < 0 || dial_resolve(&c->addresses, &uri, &why) < 0) {
		log_error("%s: %s", text, why);
		_exit(1);
	}
	c->uri = &uri;
	c->index = KERNEL_INDEX_ANY;
	c->kernel.events_fd = -1; /* there is no driver to hear of */
	c->probe.fd = -1;
	c->down = (struct way_down){ .watch_fd = -1, .keys_fd = -1, .memory_fd = -1 };
	c->connect_deadline_ns = CLOCK_NEVER;
	if (client_init(c) < 0)
		_exit(1);
	_exit(client_run(c, false));
}

static int by_time(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* "up N tries N reads N errors N first NS median NS last NS", the times CLOCK_BOOTTIME. */
static void say(const struct report *reports, unsigned count)
{
	static uint64_t back_ns[COUNT_MAX];
	uint64_t tries = 0, reads = 0, errors = 0;
	unsigned up = 0;

	for (unsigned i = 0; i < count; i++) {
		uint64_t at_ns = reports[i].back_ns;

		tries += reports[i].tries;
		reads += reports[i].reads;
		errors += reports[i].errors;
		if (at_ns)
			back_ns[up++] = at_ns;
	}
	qsort(back_ns, up, sizeof(back_ns[0]), by_time);
	printf("up %u tries %" PRIu64 " reads %" PRIu64 " errors %" PRIu64, up, tries, reads,
	       errors);
	printf(" first %" PRIu64 " median %" PRIu64 " last %" PRIu64 "\n", up ? back_ns[0] : 0,
	       up ? back_ns[up / 2] : 0, up ? back_ns[up - 1] : 0);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static pid_t children[COUNT_MAX];
	unsigned count = argc == 3 ? (unsigned)atoi(argv[1]) : 0;
	struct report *reports;
	struct rusage usage;
	char line[64];

	log_init("fleet");
	log_set_level(LOG_LEVEL_ERROR);
	if (count == 0 || count > COUNT_MAX) {
		log_error("usage: fleet COUNT HOST:PORT");
		return 2;
	}
	reports = mmap(NULL, count * sizeof(*reports), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (reports == MAP_FAILED)
		return 1;
	for (unsigned i = 0; i < count; i++) {
		mine = &reports[i];
		children[i] = fork();
		if (children[i] == 0)
			be_client(argv[2], i);
		if (children[i] < 0) {
			log_error("client %u: %s", i, strerror(errno));
			return 1;
		}
	}
	while (fgets(line, sizeof(line), stdin))
		say(reports, count);
	for (unsigned i = 0; i < count; i++) {
		kill(children[i], SIGKILL);
		(void)waitpid(children[i], NULL, 0);
	}
	if (getrusage(RUSAGE_CHILDREN, &usage) == 0)
		printf("cpu %.2f\n",
		       (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
			       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See server.h. */
#include "server.h"

#include "thread.h"

#include "base/fd.h"
#include "base/hash.h"
#include "base/log.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* ---- the log, when strangers knock -------------------------------------------------------- */

void server_count(struct server *sv, uint64_t *counter)
{
	pthread_mutex_lock(&sv->lock);
	(*counter)++;
	pthread_mutex_unlock(&sv->lock);
}

void server_log_stranger(struct server *sv, const struct conn *c, const char *fmt, ...)
{
	uint64_t now = clock_now_ns();
	unsigned unlogged = 0;
	bool may_log;
	char text[512];
	va_list ap;

	pthread_mutex_lock(&sv->lock);
	if (now - sv->logging_since_ns >= CLOCK_NS_PER_S) {
		unlogged = sv->n_unlogged;
		sv->logging_since_ns = now;
		sv->n_logged = 0;
		sv->n_unlogged = 0;
	}
	may_log = sv->n_logged < SERVER_STRANGERS_LOGGED;
	if (may_log)
		sv->n_logged++;
	else
		sv->n_unlogged++;
	pthread_mutex_unlock(&sv->lock);

	if (unlogged > 0)
		log_warn("%u more lines about clients that were not let in were left out",
			 unlogged);
	if (!may_log)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_warn("%s: %s", c->peer.text, text);
}

/* ---- half-open accounting ----------------------------------------------------------------- */

static unsigned *half_open_of(struct server *sv, const struct address *a)
{
	uint32_t hash = hash_bytes(a->scope, a->bytes, sizeof(a->bytes));

	return &sv->n_half_open_of[hash % SERVER_ADDRESS_BUCKETS];
}

/* All three with the lock held. */

static void half_open_add(struct server *sv, struct conn *c)
{
	TAILQ_INSERT_TAIL(&sv->half_open, c, half_open_link);
	c->is_half_open = true;
	sv->n_half_open++;
	(*half_open_of(sv, &c->peer.address))++;
}

static void half_open_remove(struct server *sv, struct conn *c)
{
	if (!c->is_half_open)
		return;
	TAILQ_REMOVE(&sv->half_open, c, half_open_link);
	c->is_half_open = false;
	sv->n_half_open--;
	(*half_open_of(sv, &c->peer.address))--;
}

/* The oldest one, or of one address only; false when there is none. */
static bool push_out_oldest(struct server *sv, const struct address *of)
{
	struct conn *c;

	TAILQ_FOREACH (c, &sv->half_open, half_open_link) {
		if (of && !address_is_same(&c->peer.address, of))
			continue;
		half_open_remove(sv, c);
		sv->dropped_half_open++;
		atomic_store(&c->is_pushed_out, true);
		shutdown(c->fd, SHUT_RDWR);
		return true;
	}
	return false;
}

void server_set_half_open(struct server *sv, struct conn *c, bool is_half_open)
{
	pthread_mutex_lock(&sv->lock);
	if (is_half_open && !atomic_load(&c->is_pushed_out) && !c->is_half_open)
		half_open_add(sv, c);
	else if (!is_half_open)
		half_open_remove(sv, c);
	pthread_mutex_unlock(&sv->lock);
}

void server_publish(struct server *sv, struct conn *c)
{
	pthread_mutex_lock(&sv->lock);
	half_open_remove(sv, c);
	c->listed = c->served;
	pthread_mutex_lock(&c->listed->lock);
	c->listed->connections++;
	pthread_mutex_unlock(&c->listed->lock);
	pthread_mutex_unlock(&sv->lock);
}

void server_remove(struct server *sv, struct conn *c)
{
	pthread_mutex_lock(&sv->lock);
	half_open_remove(sv, c);
	TAILQ_REMOVE(&sv->all, c, server_link);
	if (c->listed) {
		pthread_mutex_lock(&c->listed->lock);
		stats_add(&c->listed->closed, &c->stats);
		c->listed->connections--;
		pthread_mutex_unlock(&c->listed->lock);
	}
	c->listed = NULL;
	close(c->fd); /* not before: others shut it down while they hold the lock */
	pthread_cond_broadcast(&sv->changed);
	pthread_mutex_unlock(&sv->lock);
}

bool server_drop_oldest(struct server *sv)
{
	bool is_dropped;

	pthread_mutex_lock(&sv->lock);
	is_dropped = push_out_oldest(sv, NULL);
	pthread_mutex_unlock(&sv->lock);
	return is_dropped;
}

/* ---- new connections ---------------------------------------------------------------------- */

static unsigned count_address(const struct server *sv, const struct address *a)
{
	const struct conn *c;
	unsigned n = 0;

	TAILQ_FOREACH (c, &sv->all, server_link)
		n += address_is_same(&c->peer.address, a);
	return n;
}

static struct loop *least_busy(struct server *sv)
{
	struct loop *best = &sv->loops[0];

	for (unsigned i = 1; i < sv->n_loops; i++)
		if (atomic_load(&sv->loops[i].n_conns) < atomic_load(&best->n_conns))
			best = &sv->loops[i];
	return best;
}

static void begin(struct task *t)
{
	struct conn *c = container_of(t, struct conn, begin);

	conn_start(c);
}

void server_add(struct server *sv, int fd)
{
	_cleanup_close_ int owned = fd;
	_cleanup_free_ struct conn *c = calloc(1, sizeof(*c));
	bool is_local, is_one_too_many = false;

	if (!c) {
		log_error("a client is turned away: out of memory");
		return;
	}
	if (peer_of_socket(fd, &c->peer) < 0)
		return; /* it is gone already */
	is_local = c->peer.address.family == ADDRESS_UNIX;
	c->server = sv;
	c->fd = fd;
	c->begin.run = begin;
	c->accepted_ns = clock_now_ns();

	pthread_mutex_lock(&sv->lock);
	if (sv->per_address_max > 0 && !is_local &&
	    count_address(sv, &c->peer.address) >= sv->per_address_max) {
		is_one_too_many = true;
		sv->refused++;
	} else {
		sv->accepted++;
		if (sv->n_half_open >= sv->half_open_max)
			push_out_oldest(sv, NULL);
		else if (!is_local &&
			 *half_open_of(sv, &c->peer.address) >= sv->half_open_address_max)
			push_out_oldest(sv, &c->peer.address);
		c->id = ++sv->next_id;
		c->loop = least_busy(sv);
		c->user.loop = c->loop;
		c->user.fd = fd;
		atomic_fetch_add(&c->loop->n_conns, 1);
		TAILQ_INSERT_TAIL(&sv->all, c, server_link);
		half_open_add(sv, c);
	}
	pthread_mutex_unlock(&sv->lock);
	if (is_one_too_many) {
		server_log_stranger(sv, c,
				    "turned away: %u connections from its address are there "
				    "already",
				    sv->per_address_max);
		return;
	}
	(void)steal_fd(&owned); /* the connection's now, as it is the loop's */
	loop_post(c->loop, &c->begin);
	(void)steal_ptr(&c);
}

/* Those of an export, or without one the one with that id. */
static unsigned cut_off(struct server *sv, const struct served *s, uint64_t id, const char *reason)
{
	struct conn *c;
	unsigned n = 0;

	pthread_mutex_lock(&sv->lock);
	TAILQ_FOREACH (c, &sv->all, server_link)
		if (s ? c->listed == s : c->id == id) {
			lease_user_cut(&c->user, reason);
			n++;
		}
	pthread_mutex_unlock(&sv->lock);
	return n;
}

unsigned server_disconnect(struct server *sv, uint64_t id, const char *reason)
{
	return cut_off(sv, NULL, id, reason);
}

unsigned server_disconnect_export(struct server *sv, const struct served *s, const char *reason)
{
	return cut_off(sv, s, 0, reason);
}

/* ---- start and stop ----------------------------------------------------------------------- */

static const struct engine *choose_engine(const struct config *config)
{
	char why[128];

	if (config->engine == CONFIG_ENGINE_EPOLL)
		return &engine_epoll;
	if (ring_is_usable(why, sizeof(why)))
		return &engine_io_uring;
	if (config->engine == CONFIG_ENGINE_IO_URING) {
		log_error("io_uring cannot be used here: %s; leave --engine out, or say epoll",
			  why);
		return NULL;
	}
	log_info("io_uring cannot be used here: %s (going on with epoll)", why);
	return &engine_epoll;
}

static unsigned count_cpus(void)
{
	cpu_set_t set;

	/* Those that we may run on: taskset and containers count. */
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	return (unsigned)CPU_COUNT(&set);
}

/* /proc/sys/kernel/random/boot_id: "f0e1..-..." */
static void read_boot_id(uint8_t out[static 16])
{
	char text[64];
	unsigned n = 0, byte;

	if (fd_read_file("/proc/sys/kernel/random/boot_id", text, sizeof(text)) < 0)
		return;
	for (const char *p = text; n < 16 && *p && p[1]; p++) {
		if (*p == '-')
			continue;
		if (sscanf(p, "%2x", &byte) != 1)
			return;
		out[n++] = (uint8_t)byte;
		p++;
	}
}

/* Half of the descriptors are for clients that have chosen, whoever else comes. */
static unsigned limit_half_open(unsigned wanted)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur / 2 >= wanted)
		return wanted;
	return limit.rlim_cur < 4 ? 1 : (unsigned)limit.rlim_cur / 2;
}

int server_init(struct server *sv, struct exports *exports, const struct config *config)
{
	unsigned n = config->threads > 0 ? config->threads : count_cpus();

	*sv = (struct server){
		.exports = exports,
		.engine = choose_engine(config),
		.n_loops = n > CONFIG_THREADS_MAX ? CONFIG_THREADS_MAX : n,
		.memory.limit = config->memory,
		.half_open_max = limit_half_open(config->half_open_max),
		.half_open_address_max = config->half_open_address_max,
		.per_address_max = config->per_address_max,
	};
	if (!sv->engine)
		return -1;
	TAILQ_INIT(&sv->all);
	TAILQ_INIT(&sv->half_open);
	pthread_mutex_init(&sv->lock, NULL);
	thread_cond_init(&sv->changed);
	pool_init(&sv->pool);
	read_boot_id(sv->boot_id);
	sv->loops = calloc(sv->n_loops, sizeof(*sv->loops));
	if (!sv->loops)
		log_error("out of memory");
	return sv->loops ? 0 : -1;
}

int server_start(struct server *sv)
{
	for (; sv->n_started < sv->n_loops; sv->n_started++) {
		int r = loop_start(&sv->loops[sv->n_started], sv->engine, sv->n_started, &sv->pool,
				   &sv->memory, count_cpus() > 1);

		if (r < 0) {
			log_error("cannot start a thread with %s: %s", sv->engine->name,
				  strerror(-r));
			return -1;
		}
	}
	log_info("serving with %s, %u thread%s", sv->engine->name, sv->n_loops,
		 sv->n_loops == 1 ? "" : "s");
	return 0;
}

struct stop {
	struct task task;
	struct loop *loop;
};

static void leave_all(struct task *t)
{
	struct loop *l = ((struct stop *)t)->loop;
	struct conn *c;

	TAILQ_FOREACH (c, &l->conns, link)
		if (!c->is_finished) {
			if (c->state < CONN_SERVING) /* a client that is told nothing tries again */
				conn_close(c, "the server stops");
			else
				conn_leave(c, "the server stops");
		}
}

bool server_stop(struct server *sv)
{
	/* static: a loop that is stuck comes to its own when this has given up and returned */
	static struct stop stops[CONFIG_THREADS_MAX];
	struct timespec until;
	bool is_empty;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += SERVER_STOP_S;
	for (unsigned i = 0; i < sv->n_loops; i++) {
		stops[i] = (struct stop){ .task.run = leave_all, .loop = &sv->loops[i] };
		loop_post(&sv->loops[i], &stops[i].task);
	}
	pthread_mutex_lock(&sv->lock);
	while (!TAILQ_EMPTY(&sv->all))
		if (pthread_cond_timedwait(&sv->changed, &sv->lock, &until) == ETIMEDOUT)
			break;
	is_empty = TAILQ_EMPTY(&sv->all);
	pthread_mutex_unlock(&sv->lock);
	if (!is_empty)
		return false;
	for (unsigned i = 0; i < sv->n_loops; i++)
		loop_end(&sv->loops[i]);
	pool_deinit(&sv->pool);
	free(sv->loops);
	sv->loops = NULL;
	sv->n_loops = 0;
	pthread_cond_destroy(&sv->changed);
	pthread_mutex_destroy(&sv->lock);
	return true;
}

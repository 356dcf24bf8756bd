/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See client.h. */
#include "client.h"

#include "alive.h"
#include "base/log.h"
#include "proto/names.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>

enum {
	WATCH_INTERVAL_MS = 1000, /* how often the link's silence is looked at */
	LOG_AGAIN_S = 60,         /* a failure that lasts is said again after this long */
	KERNEL_BLOCK_SIZE = 512,  /* the smallest the driver allows: any file system mounts on it */
};

/* No event of the session; there is nothing to tell it now. */
enum { EV_NONE = -1 };

static uint32_t chance(struct client *c)
{
	/* xorshift32: the jitter needs no better, and getrandom() may not block a dead root */
	c->random ^= c->random << 13;
	c->random ^= c->random >> 17;
	c->random ^= c->random << 5;
	return c->random;
}

static const char *server(const struct client *c)
{
	return c->address ? c->address->text : "(none yet)";
}

static void publish(struct client *c)
{
	const struct session *s = &c->session;
	struct status st = {
		.pid = getpid(),
		.state = s->state,
		.since_ns = s->since_ns,
		.lost_ns = s->lost_ns,
		.longest_ns = s->longest_ns,
		.last_back_ns = s->last_back_ns,
		.losses = s->losses,
		.tries = s->backoff.tries,
		.has_first = c->has_first,
		.first = c->first,
		.generation = c->who.generation,
		.is_known = c->is_known,
	};

	if (!c->page)
		return;
	snprintf(st.uri, sizeof(st.uri), "%s", c->uri->text);
	snprintf(st.server, sizeof(st.server), "%s", server(c));
	memcpy(st.session_id, c->who.id, sizeof(st.session_id));
	snprintf(st.machine, sizeof(st.machine), "%s", c->who.machine);
	snprintf(st.last_error, sizeof(st.last_error), "%.*s", STATUS_ERROR_MAX - 1, c->why);
	status_publish(c->page, &st);
}

static void set_why(struct client *c, const char *fmt, ...) _printf_(2, 3);
static void set_why(struct client *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->why, sizeof(c->why), fmt, ap);
	va_end(ap);
}

/*
 * FNV-1a: to know a text again without keeping it. Numbers count up from try to try ("in use since
 * 12 s"), so they are not part of it.
 */
static uint64_t hash_of(const char *text)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *text; text++)
		if (*text < '0' || *text > '9')
			h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	return h;
}

/*
 * The same failure of the same address again is not news, until a minute has passed. Addresses
 * are tried in turn: with one memory for all, each try would be news.
 */
static bool is_news(struct client *c, uint64_t now)
{
	size_t i = c->address ? (size_t)(c->address - c->addresses.address) : 0;
	uint64_t hash = hash_of(c->why);

	if (c->said[i].hash == hash && now - c->said[i].at_ns < LOG_AGAIN_S * CLOCK_NS_PER_S)
		return false;
	c->said[i].hash = hash;
	c->said[i].at_ns = now;
	return true;
}

static void log_failure(struct client *c, uint64_t now)
{
	const struct session *s = &c->session;

	if (!is_news(c, now))
		return;
	if (s->was_attached)
		log_warn("%s: %s (trying for %" PRIu64 " s now, for ever if need be; what uses the "
			 "device waits)",
			 c->name, c->why, (now - s->lost_ns) / CLOCK_NS_PER_S);
	else
		log_warn("%s: %s (waiting for it, %" PRIu64 " s so far)", c->name, c->why,
			 (now - s->lost_ns) / CLOCK_NS_PER_S);
}

/*
 * A failure of one try. Before the first attach, what will not get better by waiting ends the
 * program; after it, nothing does.
 */
static int failed(struct client *c, bool is_final)
{
	uint64_t now = clock_now_ns();

	if (is_final && !c->session.was_attached) {
		log_error("%s (nothing is attached)", c->why);
		c->exit_status = 1;
	} else {
		log_failure(c, now);
	}
	return EV_FAILED;
}

static void drop(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

static int do_dial(struct client *c)
{
	int r = dial_start(&c->addresses, &c->address);

	if (r < 0) {
		set_why(c, "cannot reach server %s: %s", server(c), strerror(-r));
		return failed(c, false);
	}
	c->fd = r;
	return EV_NONE;
}

static int on_dialled(struct client *c)
{
	int r = dial_finish(c->fd);

	if (r < 0) {
		set_why(c, "cannot reach server %s: %s", server(c), strerror(-r));
		return failed(c, false);
	}
	return EV_CONNECTED;
}

/* Compares what was negotiated with the first session; without one, takes it as the first. */
static int compare(struct client *c)
{
	char difference[IDENTITY_WHY_MAX];

	if (!c->has_first || identity_same(&c->first, &c->negotiate.identity, difference))
		return EV_SAME;
	set_why(c,
		"REFUSED: export \"%.200s\" at %s is not the one that is attached: %s (the device "
		"waits; bring the right image back, or detach with --force and attach anew)",
		c->uri->export_name, server(c), difference);
	if (is_news(c, clock_now_ns()))
		log_error("%s: %s", c->name, c->why);
	return EV_DIFFERENT;
}

static int on_negotiating(struct client *c)
{
	const bool is_checking = c->session.state == SESSION_CHECKING;
	int r = negotiate_step(&c->negotiate, c->fd);

	switch (r) {
	case NEGOTIATE_MORE: return EV_NONE;
	case NEGOTIATE_DONE: return is_checking ? compare(c) : EV_AGREED;
	case NEGOTIATE_E_FINAL:
	case NEGOTIATE_E_LATER:
		set_why(c, "server %s, export \"%.200s\": %.250s", server(c), c->uri->export_name,
			c->negotiate.why);
		return failed(c, r == NEGOTIATE_E_FINAL);
	default:
		set_why(c, "server %s broke the connection in the %s: %s", server(c),
			is_checking ? "first read" : "handshake", strerror(-r));
		return failed(c, false);
	}
}

static int do_check(struct client *c)
{
	const struct nbd_export_info *info = &c->negotiate.identity.info;

	if (!(info->flags & (NBD_FLAG_SEND_FLUSH | NBD_FLAG_READ_ONLY)) && !c->has_first)
		log_warn(
			"%s: export \"%s\" is writable but the server offers no flush: what it has "
			"acknowledged may be lost in a power cut (use another server, or its "
			"flush option)",
			c->name, c->uri->export_name);
	if (info->size < KERNEL_BLOCK_SIZE || info->block_min > 4096) {
		set_why(c,
			"export \"%.200s\" cannot be a disk: its size is %" PRIu64
			" bytes and its smallest block %u (at least 512 and at most 4096 are "
			"needed)",
			c->uri->export_name, info->size, info->block_min);
		return failed(c, true);
	}
	if (!negotiate_start_head(&c->negotiate))
		return compare(c);
	return on_negotiating(c);
}

static void set_name(struct client *c)
{
	snprintf(c->name, sizeof(c->name), "nbd%d", c->index);
}

static int first_connect(struct client *c)
{
	const struct nbd_export_info *info = &c->negotiate.identity.info;
	struct kernel_device dev = {
		.size_bytes = info->size - info->size % KERNEL_BLOCK_SIZE,
		.block_size_bytes =
			info->block_min > KERNEL_BLOCK_SIZE ? info->block_min : KERNEL_BLOCK_SIZE,
		.flags = info->flags,
		.backend = c->backend,
	};
	struct status before;
	int r = kernel_connect(&c->kernel, c->fd, &dev, &c->index);

	if (r == KERNEL_E_BUSY && c->index >= 0 && kernel_is_attached(c->index)) {
		set_why(c, "/dev/nbd%d is attached already (nbdclient status says to what)",
			c->index);
		return failed(c, true);
	}
	if (r == KERNEL_E_BUSY) {
		set_why(c, "/dev/nbd%d: somebody has the device open (udev, for a moment?)",
			c->index);
		return failed(c, false);
	}
	if (r < 0) {
		set_why(c, "the kernel does not take the connection: %s", strerror(-r));
		return failed(c, true);
	}
	set_name(c);
	/* Before the first request: larger ones would be answered with errors. */
	r = kernel_limit_request(c->index, info->block_max);
	if (r < 0) {
		set_why(c, "the kernel's requests cannot be limited to the server's %u bytes: %s",
			info->block_max, strerror(-r));
		if (kernel_disconnect(&c->kernel, c->index) < 0)
			log_warn("%s: stays attached", c->name);
		return failed(c, true);
	}
	r = kernel_set_io_timeout(c->index, CLIENT_IO_TIMEOUT_MS);
	if (r < 0)
		log_warn("%s: cannot set queue/io_timeout: %s (after an outage, requests that were "
			 "in flight take 30 s to go on)",
			 c->name, strerror(-r));
	c->first = c->negotiate.identity;
	c->has_first = true;
	if (!c->page) {
		r = status_open(c->index, &c->page, &before);
		if (r != 0)
			log_warn("%s: no status page in /run/nbdclient: %s (going on without)",
				 c->name, r < 0 ? strerror(-r) : "in use");
	}
	return EV_HANDED;
}

/*
 * After a reconfiguration of an adopted device: is the new socket in use? The driver drops it
 * without a word while its old one lives, and of that we have no copy to shut down. False: try
 * again, until the old one is dead or answers.
 */
static bool is_taken(struct client *c, uint64_t received_before)
{
	uint8_t head[IDENTITY_HEAD_SIZE];

	if (!alive_check(c->index, CLIENT_ALIVE_WAIT_MS, head)) {
		set_why(c, "the kernel keeps its old connection, which does not answer");
		return false;
	}
	/* The device answers, but not through our socket: its old link was only slow. */
	if (c->address->addr.ss_family != AF_UNIX && dial_received(c->fd) == received_before)
		drop(c);
	return true;
}

static int reconnect(struct client *c)
{
	uint64_t received = dial_received(c->fd);
	int r = kernel_reconfigure(&c->kernel, c->index, c->fd, c->backend);

	if (r == 0 && c->is_adopted && !is_taken(c, received))
		return failed(c, false);
	if (r == 0) {
		/* A file system made since then, or mounted since, is what to look for now. */
		if (c->negotiate.identity.has_uuid) {
			c->first.has_uuid = true;
			memcpy(c->first.uuid, c->negotiate.identity.uuid, sizeof(c->first.uuid));
			c->first.mount_time_s = c->negotiate.identity.mount_time_s;
			c->first.mount_count = c->negotiate.identity.mount_count;
		}
		return EV_HANDED;
	}
	if (!kernel_is_attached(c->index)) {
		log_error("%s: somebody else has disconnected the device (ending)", c->name);
		c->exit_status = 1;
		return EV_FAILED;
	}
	set_why(c, "the kernel does not take the new connection: %s", strerror(-r));
	return failed(c, false);
}

static void after_attach(struct client *c)
{
	const struct session *s = &c->session;
	uint64_t now = clock_now_ns();
	char flags[120];

	c->link_fd = steal_fd(&c->fd);
	c->is_known = c->negotiate.hsc.has_session_reply;
	c->next_watch_ns = now;
	memset(c->said, 0, sizeof(c->said));
	c->why[0] = '\0';
	if (s->losses > 0 || c->is_adopted)
		log_info("%s: server %s is back after %" PRIu64 ".%" PRIu64
			 " s; the device goes on",
			 c->name, server(c), (now - s->lost_ns) / CLOCK_NS_PER_S,
			 (now - s->lost_ns) / (CLOCK_NS_PER_S / 10) % 10);
	else
		log_info("%s: attached export \"%s\" of server %s: %" PRIu64 " bytes, %s", c->name,
			 c->uri->export_name, server(c), c->first.info.size,
			 nbd_flags_text(c->first.info.flags, flags, sizeof(flags)));
	c->is_adopted = false;
	if (c->on_attached)
		c->on_attached(c);
	c->on_attached = NULL;
}

/* The link is lost: frees whatever of the driver is stuck in a send on it. */
static void cut(struct client *c)
{
	if (c->link_fd < 0)
		return;
	(void)shutdown(c->link_fd, SHUT_RDWR);
	if (c->old_fd >= 0)
		close(c->old_fd);
	c->old_fd = steal_fd(&c->link_fd);
}

static void disconnect(struct client *c)
{
	int r;

	drop(c);
	r = kernel_disconnect(&c->kernel, c->index);
	if (r < 0)
		log_error("%s: cannot disconnect: %s", c->name, strerror(-r));
	else
		log_info("%s: detached", c->name);
	status_remove(c->index);
	c->exit_status = r < 0;
}

/* Does what the session says; what comes of it at once is the next event. */
static int perform(struct client *c, enum session_todo todo)
{
	switch (todo) {
	case DO_NOTHING: break;
	case DO_DIAL: return do_dial(c);
	case DO_NEGOTIATE:
		c->who.generation++;
		negotiate_start(&c->negotiate, NBD_HSC_GOAL_GO, c->uri->export_name, &c->who);
		return on_negotiating(c);
	case DO_CHECK: return do_check(c);
	case DO_HAND: return c->session.was_attached ? reconnect(c) : first_connect(c);
	case DO_DROP: drop(c); break;
	case DO_CUT_DIAL: cut(c); return do_dial(c);
	case DO_DISCONNECT: disconnect(c); break;
	}
	return EV_NONE;
}

static void step(struct client *c, int ev)
{
	while (ev != EV_NONE && c->exit_status < 0) {
		enum session_state before = c->session.state;
		enum session_todo todo;

		todo = session_step(&c->session, (enum session_event)ev, clock_now_ns(), chance(c));
		if (c->session.state == SESSION_ATTACHED && before != SESSION_ATTACHED &&
		    ev == EV_HANDED)
			after_attach(c);
		ev = perform(c, todo);
	}
	publish(c);
}

static void on_link_dead(struct client *c, const char *how)
{
	if (c->session.state == SESSION_ATTACHED) {
		set_why(c, "lost server %s: %s", server(c), how);
		(void)is_news(c, clock_now_ns());
		log_warn("%s: %s (reconnecting; what uses the device waits until it is back)",
			 c->name, c->why);
	}
	step(c, EV_LINK_DEAD);
}

static void on_netlink(struct client *c)
{
	int index, r;

	while ((r = kernel_next_dead(&c->kernel, &index)) == 1)
		if (index == c->index)
			on_link_dead(c, "the connection is dead");
	/*
	 * With messages lost, ours may be among them: our copy of the socket tells. An adopted
	 * device has none; there, better one reconnection too many.
	 */
	if (r == -ENOBUFS && c->session.state == SESSION_ATTACHED && c->link_fd < 0)
		on_link_dead(c, "the kernel's messages were lost");
}

/* What a signal asks for. Only nbdclient detach's SIGUSR1 and SIGUSR2 end a resident client. */
static void on_signal(struct client *c)
{
	struct signalfd_siginfo si;

	if (read(c->signal_fd, &si, sizeof(si)) != sizeof(si))
		return;
	if (!c->session.was_attached) {
		log_error("%s: stopped by a signal before it was attached", c->name);
		c->exit_status = 1;
	} else if (si.ssi_signo == SIGUSR1 || si.ssi_signo == SIGUSR2) {
		/* By force: a driver that is stuck in a send would not let DISCONNECT in. */
		if (si.ssi_signo == SIGUSR2)
			cut(c);
		step(c, EV_DETACH);
	} else {
		log_info("%s: goes on in spite of signal %u (nbdclient detach ends it)", c->name,
			 si.ssi_signo);
	}
}

static void on_deadline(struct client *c)
{
	switch (c->session.state) {
	case SESSION_DIALLING:
		set_why(c, "cannot reach server %s: no answer", server(c));
		log_failure(c, clock_now_ns());
		break;
	case SESSION_NEGOTIATING:
	case SESSION_CHECKING:
		set_why(c, "server %s accepts connections but does not answer", server(c));
		log_failure(c, clock_now_ns());
		break;
	case SESSION_WAITING:
	case SESSION_READY:
	case SESSION_ATTACHED:
	case SESSION_REFUSED:
	case SESSION_DETACHING: break;
	}
	step(c, EV_DEADLINE);
}

static short socket_events(const struct client *c)
{
	switch (c->session.state) {
	case SESSION_DIALLING: return POLLOUT;
	case SESSION_NEGOTIATING:
	case SESSION_CHECKING: return negotiate_events(&c->negotiate);
	case SESSION_WAITING:
	case SESSION_READY:
	case SESSION_ATTACHED:
	case SESSION_REFUSED:
	case SESSION_DETACHING: break;
	}
	return 0;
}

static void on_socket(struct client *c)
{
	switch (c->session.state) {
	case SESSION_DIALLING: step(c, on_dialled(c)); break;
	case SESSION_NEGOTIATING:
	case SESSION_CHECKING: step(c, on_negotiating(c)); break;
	case SESSION_READY: /* it died while the driver's old one was settling */
		set_why(c, "server %s broke the connection", server(c));
		step(c, failed(c, false));
		break;
	case SESSION_WAITING:
	case SESSION_ATTACHED:
	case SESSION_REFUSED:
	case SESSION_DETACHING: break;
	}
}

static uint64_t next_deadline(const struct client *c)
{
	uint64_t deadline = c->session.deadline_ns;

	if (c->session.state == SESSION_ATTACHED && c->link_fd >= 0 && c->next_watch_ns < deadline)
		deadline = c->next_watch_ns;
	if (!c->session.was_attached && c->connect_deadline_ns < deadline)
		deadline = c->connect_deadline_ns;
	return deadline;
}

static void watch_link(struct client *c, uint64_t now)
{
	if (c->session.state != SESSION_ATTACHED || c->link_fd < 0 || now < c->next_watch_ns)
		return;
	c->next_watch_ns = now + WATCH_INTERVAL_MS * CLOCK_NS_PER_MS;
	if (c->old_fd >= 0 && now - c->session.since_ns > 5 * CLOCK_NS_PER_S) {
		close(c->old_fd);
		c->old_fd = -1;
	}
	if (dial_is_silent(c->link_fd))
		on_link_dead(c, "its network is silent");
}

int client_init(struct client *c)
{
	sigset_t signals;

	c->fd = -1;
	c->link_fd = -1;
	c->old_fd = -1;
	c->exit_status = -1;
	if (getrandom(&c->random, sizeof(c->random), GRND_NONBLOCK) != sizeof(c->random))
		c->random = (uint32_t)clock_now_ns() ^ (uint32_t)getpid();
	c->random |= 1;
	if (c->index == KERNEL_INDEX_ANY)
		snprintf(c->name, sizeof(c->name), "nbd");
	else
		set_name(c);

	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGUSR2);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
		return -errno;
	c->signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
	return c->signal_fd < 0 ? -errno : 0;
}

static void poll_once(struct client *c)
{
	enum { PFD_SIGNAL, PFD_NETLINK, PFD_SOCKET, PFD_LINK, PFD_COUNT };
	struct pollfd pfd[PFD_COUNT] = {
		[PFD_SIGNAL] = { .fd = c->signal_fd, .events = POLLIN },
		[PFD_NETLINK] = { .fd = c->kernel.events_fd, .events = POLLIN },
		[PFD_SOCKET] = { .fd = c->fd, .events = socket_events(c) },
		/* Data on it is the driver's: only its end is ours to see. */
		[PFD_LINK] = { .fd = c->link_fd, .events = POLLRDHUP },
	};
	uint64_t now = clock_now_ns();

	if (poll(pfd, PFD_COUNT, clock_poll_ms(now, next_deadline(c))) < 0)
		return; /* EINTR: nothing of pfd is valid */
	now = clock_now_ns();

	/* One at a time: what one event does may have made the others void. */
	if (pfd[PFD_SIGNAL].revents) {
		on_signal(c);
	} else if (pfd[PFD_NETLINK].revents) {
		on_netlink(c);
	} else if (pfd[PFD_LINK].revents) {
		on_link_dead(c, "it closed the connection");
	} else if (pfd[PFD_SOCKET].revents) {
		on_socket(c);
	} else if (now >= c->session.deadline_ns) {
		on_deadline(c);
	} else if (!c->session.was_attached && now >= c->connect_deadline_ns) {
		log_error("%s (gave up after --connect-timeout; nothing is attached)",
			  c->why[0] ? c->why : "the server did not answer");
		c->exit_status = 1;
	}
	watch_link(c, now);
}

int client_run(struct client *c, bool is_alive)
{
	session_init(&c->session, clock_now_ns());
	c->session.was_attached = c->is_adopted;
	if (is_alive) {
		c->is_adopted = false;
		step(c, EV_ADOPTED);
		log_info("%s: adopted; its link is alive", c->name);
		if (c->on_attached)
			c->on_attached(c);
		c->on_attached = NULL;
	} else {
		step(c, EV_START);
	}
	while (c->exit_status < 0)
		poll_once(c);
	return c->exit_status;
}

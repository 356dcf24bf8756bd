/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See client.h. */
#include "client.h"

#include "base/log.h"
#include "link.h"
#include "network.h"
#include "try.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>

static uint32_t chance(struct client *c)
{
	/* xorshift32: the jitter needs no better, and getrandom() may not block a dead root */
	c->random ^= c->random << 13;
	c->random ^= c->random >> 17;
	c->random ^= c->random << 5;
	return c->random;
}

void client_publish(struct client *c)
{
	const struct session *s = &c->session;
	struct status st = {
		.pid = getpid(),
		.state = s->shown,
		.since_ns = s->since_ns,
		.lost_ns = s->lost_ns,
		.longest_ns = s->longest_ns,
		.last_back_ns = s->last_back_ns,
		.losses = s->losses,
		.tries = session_tries(s),
		.has_first = c->has_first,
		.first = c->first,
		.generation = c->who.generation,
		.epoch = c->epoch,
	};
	bool is_verdict = s->shown == SESSION_HELD || s->shown == SESSION_REFUSED;

	if (!c->page)
		return;
	snprintf(st.uri, sizeof(st.uri), "%s", c->uri->text);
	snprintf(st.server, sizeof(st.server), "%s", client_server(c));
	memcpy(st.session_id, c->who.id, sizeof(st.session_id));
	snprintf(st.machine, sizeof(st.machine), "%s", c->who.machine);
	snprintf(st.last_error, sizeof(st.last_error), "%.*s", STATUS_ERROR_MAX - 1,
		 is_verdict ? c->verdict : c->why);
	status_publish(c->page, &st);
}

void client_drop(struct client *c, unsigned which)
{
	if (c->fds[which] >= 0)
		close(c->fds[which]);
	c->fds[which] = -1;
}

/* All but one; SESSION_NOBODY: all. */
static void drop_others(struct client *c, int but)
{
	for (unsigned i = 0; i < c->addresses.count; i++)
		if ((int)i != but)
			client_drop(c, i);
}

/* Does what the session says; what comes of it at once is the next event. */
static int perform(struct client *c, enum session_todo todo, unsigned which)
{
	switch (todo) {
	case DO_NOTHING: break;
	case DO_DIAL: return try_dial(c, which);
	case DO_NEGOTIATE: return try_negotiate(c, which);
	case DO_CHECK: return try_check(c, which);
	case DO_SETTLE: drop_others(c, (int)which); break;
	case DO_HAND: drop_others(c, (int)which); return link_hand(c, which);
	case DO_DROP: client_drop(c, which); break;
	case DO_CUT: link_cut(c); break;
	case DO_DISCONNECT:
		drop_others(c, SESSION_NOBODY);
		link_disconnect(c);
		break;
	}
	return EV_NONE;
}

static void step(struct client *c, int ev, unsigned which)
{
	while (ev != EV_NONE && c->exit_status < 0) {
		enum session_todo todo = session_step(&c->session, (enum session_event)ev, which,
						      clock_now_ns(), chance(c));

		if (ev == EV_HANDED)
			link_is_up(c, which);
		ev = perform(c, todo, which);
	}
	client_publish(c);
}

void client_step(struct client *c, enum session_event ev)
{
	step(c, (int)ev, 0);
}

void client_link_dead(struct client *c, const char *how)
{
	if (session_state_is_up(c->session.shown)) {
		session_note_use(&c->session, link_was_useful(c));
		if (c->session.futile == 0)
			memset(c->said, 0, sizeof(c->said));
		client_set_why(c, "lost server %s: %s", client_server(c), how);
		(void)client_is_news(c, clock_now_ns());
		log_warn("%s: %s (reconnecting; what uses the device waits until it is back)",
			 c->name, c->why);
	}
	client_step(c, EV_LINK_DEAD);
}

static void on_netlink(struct client *c)
{
	int index, r;

	while ((r = kernel_next_dead(&c->kernel, &index)) == 1)
		if (index == c->index)
			client_link_dead(c, "the connection is dead");
	/*
	 * With messages lost, ours may be among them: our copy of the socket tells. An adopted
	 * device has none; there, better one reconnection too many.
	 */
	if (r == -ENOBUFS && c->session.link == LINK_UP && c->link_fd < 0)
		client_link_dead(c, "the kernel's messages were lost");
}

static void resume(struct client *c)
{
	if (c->session.shown != SESSION_HELD) {
		log_info("%s: nothing is held; there is nothing to resume", c->name);
		return;
	}
	c->takes_risk = true;
	client_step(c, EV_RESUME);
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
			link_cut(c);
		client_step(c, EV_DETACH);
	} else if ((int)si.ssi_signo == SIGRTMIN) {
		resume(c);
	} else if (!way_down_on_signal(c, &si)) {
		log_info("%s: goes on in spite of signal %u (nbdclient detach ends it)", c->name,
			 si.ssi_signo);
	}
}

/* One thing at a time: what one does may have made the others void. */
static void on_due(struct client *c, uint64_t now_ns)
{
	int which = session_due(&c->session, now_ns);

	if (which == SESSION_NOBODY)
		return;
	try_on_deadline(c, (unsigned)which);
	step(c, EV_DUE, (unsigned)which);
}

static void min_deadline(uint64_t *deadline_ns, uint64_t other_ns)
{
	if (other_ns < *deadline_ns)
		*deadline_ns = other_ns;
}

static uint64_t next_deadline(const struct client *c)
{
	uint64_t deadline_ns = session_deadline(&c->session);

	min_deadline(&deadline_ns, link_deadline(c));
	min_deadline(&deadline_ns, way_down_deadline(c));
	if (!c->session.was_attached)
		min_deadline(&deadline_ns, c->connect_deadline_ns);
	return deadline_ns;
}

int client_init(struct client *c)
{
	sigset_t signals;

	for (unsigned i = 0; i < DIAL_ADDRESSES_MAX; i++)
		c->fds[i] = -1;
	c->link_fd = -1;
	c->old_fd = -1;
	c->files = (struct kernel_files){ -1, -1 };
	c->exit_status = -1;
	if (getrandom(&c->random, sizeof(c->random), GRND_NONBLOCK) != sizeof(c->random))
		c->random = (uint32_t)clock_now_ns() ^ (uint32_t)getpid();
	c->random |= 1;
	if (c->index == KERNEL_INDEX_ANY)
		snprintf(c->name, sizeof(c->name), "nbd");
	else
		snprintf(c->name, sizeof(c->name), "nbd%d", c->index);
	c->network_fd = network_open();
	if (c->network_fd < 0)
		log_warn("%s: the kernel does not tell of network changes: %s (after one, it takes "
			 "longer to reconnect)",
			 c->name, strerror(-c->network_fd));

	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGUSR2);
	sigaddset(&signals, SIGRTMIN);
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
	enum { PFD_SIGNAL, PFD_NETLINK, PFD_LINK, PFD_NETWORK, PFD_PROBE, PFD_DOWN, PFD_TRIES };
	struct pollfd pfd[PFD_TRIES + DIAL_ADDRESSES_MAX] = {
		[PFD_SIGNAL] = { .fd = c->signal_fd, .events = POLLIN },
		[PFD_NETLINK] = { .fd = c->kernel.events_fd, .events = POLLIN },
		/* Data on it is the driver's: only its end is ours to see. */
		[PFD_LINK] = { .fd = c->link_fd, .events = POLLRDHUP },
		[PFD_NETWORK] = { .fd = c->network_fd, .events = POLLIN },
		[PFD_PROBE] = { .fd = c->probe.fd, .events = POLLIN },
		[PFD_DOWN] = { .fd = c->down.watch_fd, .events = POLLIN },
	};
	const unsigned tries = c->addresses.count;
	uint64_t now_ns = clock_now_ns();
	unsigned which = 0;

	for (unsigned i = 0; i < tries; i++)
		pfd[PFD_TRIES + i] = (struct pollfd){ .fd = c->fds[i], .events = try_events(c, i) };
	if (poll(pfd, PFD_TRIES + tries, clock_poll_ms(now_ns, next_deadline(c))) < 0)
		return; /* EINTR: nothing of pfd is valid */
	now_ns = clock_now_ns();
	while (which < tries && !pfd[PFD_TRIES + which].revents)
		which++;

	/* One at a time: what one event does may have made the others void. */
	if (pfd[PFD_SIGNAL].revents) {
		on_signal(c);
	} else if (pfd[PFD_NETLINK].revents) {
		on_netlink(c);
	} else if (pfd[PFD_LINK].revents) {
		client_link_dead(c, "it closed the connection");
	} else if (pfd[PFD_NETWORK].revents) {
		link_on_network(c, network_read(c->network_fd));
	} else if (pfd[PFD_PROBE].revents) {
		link_on_probe(c);
	} else if (pfd[PFD_DOWN].revents) {
		way_down_on_watch(c);
	} else if (which < tries) {
		step(c, try_on_socket(c, which), which);
	} else if (!c->session.was_attached && now_ns >= c->connect_deadline_ns) {
		log_error("%s (gave up after --connect-timeout; nothing is attached)",
			  c->why[0] ? c->why : "the server did not answer");
		c->exit_status = 1;
	} else {
		on_due(c, now_ns);
	}
	link_watch(c, now_ns);
	way_down_look(c, now_ns);
}

int client_run(struct client *c, bool is_alive)
{
	session_init(&c->session, c->addresses.count, clock_now_ns());
	c->session.was_attached = c->is_adopted;
	if (c->address) /* of an earlier instance */
		c->session.preferred = (unsigned)(c->address - c->addresses.address);
	if (c->is_adopted)
		link_adopt(c, is_alive);
	/*
	 * An adopted link is not ours to watch or to cut: we have no copy of its socket. A server
	 * that can fence gives us one of our own, and ends the other.
	 */
	if (is_alive)
		client_step(c, link_is_exchangeable(c) ? EV_EXCHANGE : EV_ADOPTED);
	else
		client_step(c, EV_START);
	while (c->exit_status < 0)
		poll_once(c);
	return c->exit_status;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See link.h. */
#include "link.h"

#include "base/log.h"
#include "guard.h"
#include "network.h"
#include "proto/names.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum {
	WATCH_INTERVAL_MS = 1000, /* how often the link's silence is looked at */
	OLD_FD_S = 5,             /* how long the driver may be inside the old socket */
	STALL_S = 10,             /* without an answer: suspect */
	VERIFY_MS = 3000,         /* for the driver to send anything over its new socket */
	ADDRESS_BACK_MS = 1000,   /* for a lost address to come back before its link is given up */
	LOOK_S = 30,              /* between looks at the superblock */
	EXCHANGE_MS = 300,        /* for the driver to notice that its old socket has been ended */
	QUIET_MS = 2000,          /* for what a server that cannot fence has received to be done */
};

static uint64_t ms(uint64_t n)
{
	return n * CLOCK_NS_PER_MS;
}

static bool is_unix(const struct client *c)
{
	return c->address->addr.ss_family == AF_UNIX;
}

static bool is_up(const struct client *c)
{
	return session_state_is_up(c->session.shown);
}

/* ---- handing over ------------------------------------------------------------------------- */

static int configure(struct client *c, int fd)
{
	const struct nbd_export_info *info = &c->negotiate.identity.info;
	struct kernel_device dev = {
		.size_bytes = info->size - info->size % LINK_BLOCK_SIZE,
		.block_size_bytes =
			info->block_min > LINK_BLOCK_SIZE ? info->block_min : LINK_BLOCK_SIZE,
		.flags = info->flags,
		.backend = c->backend,
	};
	int r = kernel_connect(&c->kernel, fd, &dev, &c->index);

	if (r == KERNEL_E_BUSY && c->index >= 0 && kernel_is_attached(c->index)) {
		client_set_why(c, "/dev/nbd%d is attached already (nbdclient status says to what)",
			       c->index);
		return client_failed(c, true);
	}
	if (r == KERNEL_E_BUSY) {
		client_set_why(c, "/dev/nbd%d: somebody has the device open (udev, for a moment?)",
			       c->index);
		return client_failed(c, false);
	}
	if (r < 0) {
		client_set_why(c, "the kernel does not take the connection: %s", strerror(-r));
		return client_failed(c, true);
	}
	snprintf(c->name, sizeof(c->name), "nbd%d", c->index);
	/* Before the first request: larger ones would be answered with errors. */
	r = kernel_limit_request(c->index, info->block_max);
	if (r < 0) {
		client_set_why(
			c, "the kernel's requests cannot be limited to the server's %u bytes: %s",
			info->block_max, strerror(-r));
		if (kernel_disconnect(&c->kernel, c->index) < 0)
			log_warn("%s: stays attached", c->name);
		return client_failed(c, true);
	}
	return EV_HANDED;
}

static int be_patient(struct client *c)
{
	bool is_short;
	int r = kernel_be_patient(&c->kernel, c->index, c->backend, &c->files, &is_short);

	if (r == 0 && !is_short && !c->has_warned) {
		c->has_warned = true;
		log_warn("%s: this kernel's driver does not let its timer be shortened (after an "
			 "outage, requests that were in flight take up to 30 s to go on)",
			 c->name);
	}
	return r;
}

static int connect_first(struct client *c, unsigned which)
{
	struct status before;
	int r = configure(c, c->fds[which]);

	if (r != EV_HANDED)
		return r;
	kernel_open_files(c->index, &c->files);
	r = be_patient(c);
	if (r < 0)
		log_warn("%s: the driver's timer cannot be set: %s (after an outage, requests that "
			 "were in flight take 30 s to go on)",
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

/* Two commands: a socket never shares its message with anything that may have to wait for it. */
static int replace_socket(struct client *c, int fd)
{
	int r;

	if (c->old_fd >= 0) /* again: the driver may have been in recvmsg() the first time */
		dial_reset(c->old_fd);
	guard_begin(c->old_fd);
	r = be_patient(c);
	if (r == 0)
		r = kernel_reconfigure(&c->kernel, c->index, fd, c->backend);
	if (guard_end())
		log_info("%s: the kernel was stuck in a send to the last server; freed", c->name);
	return r;
}

static int reconnect(struct client *c, unsigned which)
{
	int r;

	c->sent_before = dial_sent(c->fds[which]);
	c->received_before = dial_received(c->fds[which]);
	r = replace_socket(c, c->fds[which]);
	if (r == 0) {
		/* A file system made since then, or mounted since, is what to look for now. */
		if (c->negotiate.identity.has_uuid)
			identity_take_head(&c->first, &c->negotiate.identity);
		/* No error proves nothing: the driver drops a socket that it has no use for. */
		probe_ask(&c->probe, c->index);
		c->is_unverified = c->probe.fd >= 0;
		c->verify_by_ns = is_unix(c) ? CLOCK_NEVER : clock_now_ns() + ms(VERIFY_MS);
		return EV_HANDED;
	}
	if (!kernel_is_attached(c->index)) {
		log_error("%s: somebody else has disconnected the device (ending)", c->name);
		c->exit_status = 1;
		return EV_FAILED;
	}
	client_set_why(c, "the kernel does not take the new connection: %s", strerror(-r));
	return client_failed(c, false);
}

int link_hand(struct client *c, unsigned which)
{
	c->address = &c->addresses.address[which];
	return c->session.was_attached ? reconnect(c, which) : connect_first(c, which);
}

static void watch_from_now(struct client *c)
{
	uint64_t now_ns = clock_now_ns();
	bool has_more;

	c->next_watch_ns = now_ns + ms(WATCH_INTERVAL_MS);
	c->check_address_ns = CLOCK_NEVER;
	c->progress_ns = now_ns;
	(void)kernel_read_progress(&c->files, &c->completed, &has_more);
	c->why[0] = '\0';
}

static void call_on_attached(struct client *c)
{
	client_publish(c); /* whoever waits for us asks for the status next */
	if (c->on_attached)
		c->on_attached(c);
	c->on_attached = NULL;
}

static void verified(struct client *c)
{
	/* Shortest would be called stuck whatever is in flight for a moment, once a second. */
	probe_set_timer(&c->probe, c->index, LINK_IO_TIMEOUT_MS);
	c->is_unverified = false;
	c->is_adopted = false;
	call_on_attached(c);
}

bool link_was_useful(const struct client *c)
{
	return c->link_fd < 0 || is_unix(c) || dial_received(c->link_fd) > c->received_before;
}

void link_is_up(struct client *c, unsigned which)
{
	const struct nbd_hsc *hsc = &c->negotiate.hsc;
	const struct session *s = &c->session;
	uint64_t now_ns = clock_now_ns(), outage_ns = now_ns - s->lost_ns;
	char flags[120];

	c->link_fd = steal_fd(&c->fds[which]);
	c->last_epoch = c->epoch;
	c->epoch = epoch_of(hsc->has_session_reply ? &hsc->session_reply : NULL);
	c->takes_risk = false;
	session_quiet(&c->session, c->epoch.is_known ? 0 : ms(QUIET_MS));
	watch_from_now(c);
	if (c->is_adopted && s->losses == 0 && c->is_alive)
		log_info("%s: has a connection of its own to server %s", c->name, client_server(c));
	else if (s->losses > 0 || c->is_adopted)
		log_info("%s: server %s is back after %" PRIu64 ".%" PRIu64
			 " s; the device goes on",
			 c->name, client_server(c), outage_ns / CLOCK_NS_PER_S,
			 outage_ns / (CLOCK_NS_PER_S / 10) % 10);
	else
		log_info("%s: attached export \"%s\" of server %s: %" PRIu64 " bytes, %s", c->name,
			 c->uri->export_name, client_server(c), c->first.info.size,
			 nbd_flags_text(c->first.info.flags, flags, sizeof(flags)));
	if (!c->is_unverified) /* else when the device has answered */
		verified(c);
}

bool link_is_exchangeable(const struct client *c)
{
	return c->epoch.is_known && c->was_at;
}

void link_adopt(struct client *c, bool is_alive)
{
	kernel_open_files(c->index, &c->files);
	/* The server ends a living link when it lets us in, and the driver has to see that first.
	 */
	session_quiet(&c->session, !c->epoch.is_known ? ms(QUIET_MS)
				   : is_alive         ? ms(EXCHANGE_MS)
						      : 0);
	c->is_alive = is_alive;
	if (!is_alive)
		return;
	/* An instance that was killed in an outage may have left it impatient. */
	if (be_patient(c) < 0)
		log_warn("%s: the driver's timer cannot be set", c->name);
	watch_from_now(c);
	log_info("%s: adopted; its link is alive%s", c->name,
		 link_is_exchangeable(c) ? ", and is exchanged for one of our own" : "");
	if (!link_is_exchangeable(c)) /* else there will be a second socket beside it, then one */
		verified(c);
}

/* ---- letting go --------------------------------------------------------------------------- */

/*
 * The old link of an adopted device neither answers nor ends. A server that fences has ended it at
 * its side when it let us in: it is half open, and the driver's timer may kill it. Of any other
 * server it may be slow and alive.
 */
static void end_adopted(struct client *c)
{
	if (c->epoch.is_known && c->address == c->was_at &&
	    kernel_be_impatient(&c->kernel, c->index, c->backend) < 0)
		log_debug("%s: its old connection stays until TCP ends it", c->name);
}

void link_cut(struct client *c)
{
	c->is_unverified = false;
	if (c->link_fd < 0)
		return;
	(void)shutdown(c->link_fd, SHUT_RDWR);
	dial_reset(c->link_fd);
	if (c->is_adopted) { /* the driver may have another one still, of which we have no copy */
		close(c->link_fd);
		c->link_fd = -1;
		end_adopted(c);
		return;
	}
	if (c->old_fd >= 0)
		close(c->old_fd);
	c->old_fd = steal_fd(&c->link_fd);
	guard_begin(c->old_fd);
	/* They leave the dead socket when their timer runs out, and wait for the next one. */
	if (kernel_be_impatient(&c->kernel, c->index, c->backend) < 0)
		log_debug("%s: what was in flight waits for its own timer", c->name);
	(void)guard_end();
}

void link_disconnect(struct client *c)
{
	int r;

	guard_begin(c->link_fd >= 0 ? c->link_fd : c->old_fd);
	r = kernel_disconnect(&c->kernel, c->index);
	(void)guard_end();
	if (r < 0)
		log_error("%s: cannot disconnect: %s", c->name, strerror(-r));
	else
		log_info("%s: detached", c->name);
	status_remove(c->index);
	c->exit_status = r < 0;
}

/* ---- watching ----------------------------------------------------------------------------- */

/* The driver has a new socket, it said. Does it use it? */
static void verify(struct client *c, uint64_t now_ns)
{
	if (!c->is_unverified)
		return;
	if (dial_sent(c->link_fd) > c->sent_before) {
		verified(c);
	} else if (now_ns >= c->verify_by_ns) {
		if (c->is_adopted) /* for the driver's timer to end what it has */
			session_quiet(&c->session, ms(VERIFY_MS));
		client_link_dead(c, "the kernel does not use the new connection");
	}
}

/* Of a device without an answer: is it the server, or is there nothing to answer? */
static void watch_progress(struct client *c, uint64_t now_ns)
{
	uint64_t completed;
	bool has_more;

	if (!kernel_read_progress(&c->files, &completed, &has_more))
		return;
	if (completed != c->completed || !has_more) {
		c->completed = completed;
		c->progress_ns = now_ns;
		if (c->session.link == LINK_SUSPECT) {
			log_info("%s: server %s answers again", c->name, client_server(c));
			client_step(c, EV_ANSWERED);
		}
	} else if (c->session.link == LINK_UP && now_ns - c->progress_ns >= ms(STALL_S * 1000)) {
		client_set_why(
			c,
			"server %s has answered no request for %d s%s (waiting for it: it may "
			"be slow; look at the server)",
			client_server(c), STALL_S,
			c->link_fd < 0 ? "" : ", though its network does");
		log_warn("%s: %s", c->name, c->why);
		client_step(c, EV_STALLED);
	}
	/* Once written to, its superblock may be another: a mount, a new file system. */
	if (c->completed != c->looked_at && now_ns >= c->next_look_ns && !c->is_unverified &&
	    c->session.link == LINK_UP) {
		c->next_look_ns = now_ns + ms(LOOK_S * 1000);
		c->looked_at = c->completed + 1; /* and the look itself */
		probe_ask(&c->probe, c->index);
	}
}

void link_watch(struct client *c, uint64_t now_ns)
{
	if (!is_up(c))
		return;
	if (now_ns >= c->check_address_ns) {
		c->check_address_ns = CLOCK_NEVER;
		if (c->link_fd >= 0 && !dial_has_address(c->link_fd)) {
			client_link_dead(c, "its address here is gone");
			return;
		}
	}
	verify(c, now_ns);
	if (!is_up(c) || now_ns < c->next_watch_ns)
		return;
	c->next_watch_ns = now_ns + ms(WATCH_INTERVAL_MS);
	if (c->old_fd >= 0 && now_ns - c->session.since_ns > OLD_FD_S * CLOCK_NS_PER_S) {
		close(c->old_fd);
		c->old_fd = -1;
	}
	if (is_up(c) && c->link_fd >= 0 && dial_is_silent(c->link_fd))
		client_link_dead(c, "its network is silent");
	if (is_up(c))
		watch_progress(c, now_ns);
}

uint64_t link_deadline(const struct client *c)
{
	uint64_t deadline_ns = c->next_watch_ns;

	if (!is_up(c))
		return CLOCK_NEVER;
	if (c->check_address_ns < deadline_ns)
		deadline_ns = c->check_address_ns;
	if (c->is_unverified && c->verify_by_ns < deadline_ns)
		deadline_ns = c->verify_by_ns;
	return deadline_ns;
}

void link_on_probe(struct client *c)
{
	uint8_t head[IDENTITY_HEAD_SIZE];
	int r = probe_answer(&c->probe, head);

	if (r < 0) {
		log_warn("%s: %s (going on without test reads)", c->name,
			 r == -ECHILD ? "somebody has ended its process for them" : strerror(-r));
		if (c->is_unverified) /* nothing makes an idle driver use its socket now */
			verified(c);
	}
	if (r <= 0 || !is_up(c))
		return;
	identity_read_head(&c->first, head);
	if (!c->is_unverified)
		return;
	/* The device answers, but not through our socket: its old link was only slow. */
	if (!is_unix(c) && dial_sent(c->link_fd) == c->sent_before) {
		if (!c->is_adopted) { /* an answer of the last link that comes late */
			probe_ask(&c->probe, c->index);
			return;
		}
		log_info("%s: its old connection was only slow; staying with it", c->name);
		close(c->link_fd);
		c->link_fd = -1;
		c->address = c->was_at;
		c->epoch = c->last_epoch;
	}
	verified(c);
}

void link_on_network(struct client *c, unsigned changes)
{
	if (changes & NETWORK_WENT && is_up(c))
		c->check_address_ns = clock_now_ns() + ms(ADDRESS_BACK_MS);
	if (!(changes & NETWORK_CAME))
		return;
	/* TCP itself would wait for its next repetition, which may be far away. */
	if (is_up(c) && c->link_fd >= 0 && dial_is_in_trouble(c->link_fd))
		client_link_dead(c, "its network was away");
	client_step(c, EV_NETWORK);
}

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
	QUIET_MS = 2000,          /* for what a server that cannot fence has received to be done */
};

static uint64_t ms(uint64_t n)
{
	return n * CLOCK_NS_PER_MS;
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

static void open_files(struct client *c)
{
	int r;

	kernel_open_files(c->index, &c->files);
	r = kernel_set_io_timeout(&c->files, LINK_IO_TIMEOUT_MS);
	if (r < 0)
		log_warn("%s: cannot set queue/io_timeout: %s (after an outage, requests that were "
			 "in flight take 30 s to go on)",
			 c->name, strerror(-r));
}

static int connect_first(struct client *c, unsigned which)
{
	struct status before;
	int r = configure(c, c->fds[which]);

	if (r != EV_HANDED)
		return r;
	open_files(c);
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

/* Three commands: a socket never shares its message with anything that may have to wait for it. */
static int replace_socket(struct client *c, int fd)
{
	int r;

	guard_begin(c->old_fd);
	r = kernel_set_timeout(&c->kernel, c->index, c->backend, 0);
	/* Setting the driver's timeout has set this one, too; requests begin with what it is now.
	 */
	if (r == 0 && kernel_set_io_timeout(&c->files, LINK_IO_TIMEOUT_MS) < 0)
		log_debug("%s: queue/io_timeout stays 30 s", c->name);
	if (r == 0)
		r = kernel_reconfigure(&c->kernel, c->index, fd, c->backend);
	if (guard_end())
		log_info("%s: the kernel was stuck in a send to the last server; freed", c->name);
	return r;
}

static int reconnect(struct client *c, unsigned which)
{
	int r;

	if (c->files.io_timeout_fd < 0) /* adopted */
		open_files(c);
	c->sent_before = dial_sent(c->fds[which]);
	r = replace_socket(c, c->fds[which]);
	if (r == 0) {
		/* A file system made since then, or mounted since, is what to look for now. */
		if (c->negotiate.identity.has_uuid)
			identity_take_head(&c->first, &c->negotiate.identity);
		/* No error proves nothing: the driver drops a socket that it has no use for. */
		c->is_unverified = true;
		c->verify_by_ns = clock_now_ns() + ms(VERIFY_MS);
		probe_ask(&c->probe, c->index);
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
	memset(c->said, 0, sizeof(c->said));
	c->why[0] = '\0';
}

static void call_on_attached(struct client *c)
{
	if (c->on_attached)
		c->on_attached(c);
	c->on_attached = NULL;
}

void link_is_up(struct client *c, unsigned which)
{
	const struct nbd_hsc *hsc = &c->negotiate.hsc;
	const struct session *s = &c->session;
	uint64_t now_ns = clock_now_ns(), outage_ns = now_ns - s->lost_ns;
	char flags[120];

	c->link_fd = steal_fd(&c->fds[which]);
	c->epoch = epoch_of(hsc->has_session_reply ? &hsc->session_reply : NULL);
	c->takes_risk = false;
	session_quiet(&c->session, c->epoch.is_known ? 0 : ms(QUIET_MS));
	watch_from_now(c);
	if (s->losses > 0 || c->is_adopted)
		log_info("%s: server %s is back after %" PRIu64 ".%" PRIu64
			 " s; the device goes on",
			 c->name, client_server(c), outage_ns / CLOCK_NS_PER_S,
			 outage_ns / (CLOCK_NS_PER_S / 10) % 10);
	else
		log_info("%s: attached export \"%s\" of server %s: %" PRIu64 " bytes, %s", c->name,
			 c->uri->export_name, client_server(c), c->first.info.size,
			 nbd_flags_text(c->first.info.flags, flags, sizeof(flags)));
	if (!c->is_adopted) /* else when the device has answered */
		call_on_attached(c);
}

void link_is_adopted(struct client *c)
{
	c->is_adopted = false;
	open_files(c);
	watch_from_now(c);
	log_info("%s: adopted; its link is alive", c->name);
	call_on_attached(c);
}

/* ---- letting go --------------------------------------------------------------------------- */

void link_cut(struct client *c)
{
	c->is_unverified = false;
	if (c->link_fd < 0)
		return;
	(void)shutdown(c->link_fd, SHUT_RDWR);
	if (c->is_adopted) { /* the driver may have another one still, which may be only slow */
		close(c->link_fd);
		c->link_fd = -1;
		return;
	}
	if (c->old_fd >= 0)
		close(c->old_fd);
	c->old_fd = steal_fd(&c->link_fd);
	guard_begin(c->old_fd);
	/* They leave the dead socket when their timer runs out, and wait for the next one. */
	if (kernel_set_timeout(&c->kernel, c->index, c->backend, 1) < 0)
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

static bool is_up(const struct client *c)
{
	return c->session.link == LINK_UP || c->session.link == LINK_SUSPECT;
}

static void verified(struct client *c)
{
	c->is_unverified = false;
	c->is_adopted = false;
	call_on_attached(c);
}

/* The driver has a new socket, it said. Does it use it? */
static void verify(struct client *c, uint64_t now_ns)
{
	if (!c->is_unverified)
		return;
	if (dial_sent(c->link_fd) > c->sent_before)
		verified(c);
	else if (now_ns >= c->verify_by_ns && c->address->addr.ss_family != AF_UNIX)
		client_link_dead(c, "the kernel does not use the new connection");
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
		client_set_why(c,
			       "server %s has answered no request for %d s, though its network "
			       "does (waiting for it: it may be slow; look at the server)",
			       client_server(c), STALL_S);
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
	if (c->is_unverified && now_ns >= c->verify_by_ns)
		verify(c, now_ns);
	if (!is_up(c) || now_ns < c->next_watch_ns)
		return;
	c->next_watch_ns = now_ns + ms(WATCH_INTERVAL_MS);
	verify(c, now_ns);
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

	if (r == -ECHILD)
		log_warn("%s: somebody has ended its process for test reads (going on without)",
			 c->name);
	if (r <= 0 || !is_up(c))
		return;
	identity_read_head(&c->first, head);
	if (!c->is_unverified)
		return;
	/* The device answers, but not through our socket: its old link was only slow. */
	if (c->address->addr.ss_family != AF_UNIX && dial_sent(c->link_fd) == c->sent_before) {
		log_info("%s: its old connection was only slow; staying with it", c->name);
		close(c->link_fd);
		c->link_fd = -1;
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

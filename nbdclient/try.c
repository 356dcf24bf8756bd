/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See try.h. */
#include "try.h"

#include "base/log.h"
#include "link.h"

#include <inttypes.h>
#include <poll.h>
#include <string.h>

static int failed(struct client *c, unsigned which, bool is_final)
{
	c->address = &c->addresses.address[which];
	c->final_tries |= is_final ? 1u << which : 0;
	/* Another address may have what this one does not. */
	return client_failed(c, is_final && c->final_tries == (1u << c->addresses.count) - 1);
}

static const char *server(const struct client *c, unsigned which)
{
	return c->addresses.address[which].text;
}

static int unreachable(struct client *c, unsigned which, int r)
{
	client_set_why(c, CLIENT_UNREACHABLE "%s: %s", server(c, which), strerror(-r));
	return failed(c, which, false);
}

int try_dial(struct client *c, unsigned which)
{
	int r = dial_start(&c->addresses.address[which]);

	if (r < 0)
		return unreachable(c, which, r);
	c->fds[which] = r;
	return EV_NONE;
}

int try_negotiate(struct client *c, unsigned which)
{
	c->who.generation++;
	negotiate_start(&c->negotiate, NBD_HSC_GOAL_GO, c->uri->export_name, &c->who);
	return try_on_socket(c, which);
}

/* Not to be gone on with: says why, once, and to whom it matters. */
static int turned_down(struct client *c, unsigned which, enum session_event ev, const char *why)
{
	c->address = &c->addresses.address[which];
	if (ev == EV_UNSAFE)
		client_set_why(c,
			       "HELD at %s: %s. The file system may be damaged if it goes on: save "
			       "what you can, mount it read-only, and restart this machine; or "
			       "take the risk: nbdclient resume /dev/%s",
			       server(c, which), why, c->name);
	else
		client_set_why(c,
			       "REFUSED: export \"%.200s\" at %s is not the one that is attached: "
			       "%s (the device waits; bring the right image back, or detach with "
			       "--force and attach anew)",
			       c->uri->export_name, server(c, which), why);
	memcpy(c->verdict, c->why, sizeof(c->verdict));
	if (client_is_news(c, clock_now_ns()))
		log_error("%s: %s", c->name, c->why);
	return ev;
}

/* Compares what was negotiated with what the device is; without a device, takes it as that. */
static int compare(struct client *c, unsigned which)
{
	const struct nbd_hsc *hsc = &c->negotiate.hsc;
	struct epoch now = epoch_of(hsc->has_session_reply ? &hsc->session_reply : NULL);
	char why[IDENTITY_WHY_MAX];

	if (!c->has_first)
		return EV_SAME;
	if (!identity_same(&c->first, &c->negotiate.identity, why))
		return turned_down(c, which, EV_DIFFERENT, why);
	switch (epoch_compare(&c->epoch, &now, &c->first, why)) {
	case EPOCH_SAME: break;
	case EPOCH_DIFFERENT: return turned_down(c, which, EV_DIFFERENT, why);
	case EPOCH_UNSAFE:
		if (!c->takes_risk)
			return turned_down(c, which, EV_UNSAFE, why);
		log_warn("%s: goes on although %s, as it was told to", c->name, why);
	}
	return EV_SAME;
}

static bool is_checking(const struct client *c, unsigned which)
{
	return c->session.tries[which].state == TRY_CHECKING;
}

static int on_negotiating(struct client *c, unsigned which)
{
	int r = negotiate_step(&c->negotiate, c->fds[which]);

	switch (r) {
	case NEGOTIATE_MORE: return EV_NONE;
	case NEGOTIATE_DONE: return is_checking(c, which) ? compare(c, which) : EV_AGREED;
	case NEGOTIATE_E_FINAL:
	case NEGOTIATE_E_LATER:
		client_set_why(c, "server %s, export \"%.200s\": %.250s", server(c, which),
			       c->uri->export_name, c->negotiate.why);
		return failed(c, which, r == NEGOTIATE_E_FINAL);
	default:
		client_set_why(c, "server %s broke the connection in the %s: %s", server(c, which),
			       is_checking(c, which) ? "first read" : "handshake", strerror(-r));
		return failed(c, which, false);
	}
}

int try_check(struct client *c, unsigned which)
{
	const struct nbd_export_info *info = &c->negotiate.identity.info;

	if (!(info->flags & (NBD_FLAG_SEND_FLUSH | NBD_FLAG_READ_ONLY)) && !c->has_first)
		log_warn(
			"%s: export \"%s\" is writable but the server offers no flush: what it has "
			"acknowledged may be lost in a power cut (use another server, or its "
			"flush option)",
			c->name, c->uri->export_name);
	if (info->size < LINK_BLOCK_SIZE || info->block_min > LINK_BLOCK_SIZE_MAX) {
		client_set_why(c,
			       "export \"%.200s\" cannot be a disk: its size is %" PRIu64
			       " bytes and its smallest block %u (at least 512 and at most 4096 "
			       "are needed)",
			       c->uri->export_name, info->size, info->block_min);
		return failed(c, which, true);
	}
	if (!negotiate_start_head(&c->negotiate))
		return compare(c, which);
	return on_negotiating(c, which);
}

int try_on_socket(struct client *c, unsigned which)
{
	int r;

	switch (c->session.tries[which].state) {
	case TRY_DIALLING:
		r = dial_finish(c->fds[which]);
		return r < 0 ? unreachable(c, which, r) : EV_CONNECTED;
	case TRY_NEGOTIATING:
	case TRY_CHECKING: return on_negotiating(c, which);
	case TRY_CONNECTED: /* it broke while another one was being asked */
	case TRY_READY:     /* or while the driver's old one was settling */
		client_set_why(c, "server %s broke the connection", server(c, which));
		return failed(c, which, false);
	case TRY_IDLE: break;
	}
	return EV_NONE;
}

short try_events(const struct client *c, unsigned which)
{
	switch (c->session.tries[which].state) {
	case TRY_DIALLING: return POLLOUT;
	case TRY_NEGOTIATING:
	case TRY_CHECKING: return negotiate_events(&c->negotiate);
	case TRY_CONNECTED:
	case TRY_READY: return POLLRDHUP; /* a server speaks first, so POLLIN is no news */
	case TRY_IDLE: break;
	}
	return 0;
}

void try_on_deadline(struct client *c, unsigned which)
{
	switch (c->session.tries[which].state) {
	case TRY_DIALLING:
		client_set_why(c, CLIENT_UNREACHABLE "%s: no answer", server(c, which));
		break;
	case TRY_NEGOTIATING:
	case TRY_CHECKING:
		client_set_why(c, "server %s accepts connections but does not answer",
			       server(c, which));
		break;
	case TRY_IDLE:
	case TRY_CONNECTED:
	case TRY_READY: return;
	}
	(void)failed(c, which, false);
}

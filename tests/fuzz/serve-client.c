/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a client says, and its life from open to end (see serve-client.h). */
#include "serve-client.h"

#include "proto/wire.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

const char *const export_names[] = { "rw",     "ro",        "flush",   "many/a",
				     "many/b", "many/none", "nothing", "" };

struct play play;

void fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "fuzz-serve, %s: ", play.server ? play.server->engine->name : "start");
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	abort();
}

/* ---- who takes over from whom, as in lease.h ---------------------------------------------- */

bool client_is_writing(const struct client *c)
{
	return c->export < EXPORTS && c->export != EXPORT_RO;
}

bool client_is_rival(const struct client *a, const struct client *b)
{
	if (a == b || a->export != b->export || !client_is_writing(a))
		return false;
	return !a->has_session || !b->has_session || a->session != b->session ||
	       a->machine != b->machine || a->generation != b->generation || a->slot == b->slot;
}

/* ---- what is sent ------------------------------------------------------------------------- */

static void put(struct client *c, const void *data, size_t size)
{
	if (size == 0)
		return;
	if (c->tx_room - c->tx_size < size) {
		c->tx_room = 2 * (c->tx_size + size) + 256;
		c->tx = realloc(c->tx, c->tx_room);
		must(c->tx);
	}
	if (data)
		memcpy(c->tx + c->tx_size, data, size);
	else
		memset(c->tx + c->tx_size, 0, size);
	c->tx_size += size;
}

static void request_is_complete(struct client *c)
{
	c->asked[c->n_asked - 1].is_whole = true;
}

/* Raw bytes may say one twice. */
static bool has_cookie(const struct client *c, uint64_t cookie)
{
	for (unsigned i = 0; i < c->n_asked; i++)
		if (!c->asked[i].is_answered && c->asked[i].req.cookie == cookie)
			return true;
	return false;
}

/* A head has been sent: what the server has to make of it. */
static void understand(struct client *c)
{
	struct nbd_request req;
	bool is_right = c->wire.extended ? nbd_extended_request_decode(&req, c->asking)
					 : nbd_request_decode(&req, c->asking);

	c->asking_have = 0;
	if (!is_right) {
		c->is_broken = true;
		return;
	}
	if (req.type == NBD_CMD_DISC) {
		c->is_over = true;
		return;
	}
	c->payload_left = nbd_request_payload(&req, &c->wire);
	if (c->n_asked == ASKED || has_cookie(c, req.cookie)) { /* cannot be checked */
		c->is_raw = true;
		c->rx = RX_ANYTHING;
	}
	if (c->payload_left > NBD_DEFAULT_BLOCK_MAX || c->is_raw) {
		c->is_broken = true;
		return;
	}
	c->asked[c->n_asked] = (struct asked){ .req = req, .sent = ++play.seq };
	c->asked[c->n_asked++].change = image_change(c, &req);
	if (c->payload_left == 0)
		request_is_complete(c);
}

/* Bytes of the transmission phase. */
void client_say(struct client *c, const uint8_t *data, size_t size)
{
	put(c, data, size);
	if (c->is_raw)
		return;
	while (size > 0 && !c->is_broken && !c->is_over) {
		size_t want = nbd_request_head_size(&c->wire) - c->asking_have;
		size_t n = c->payload_left > 0
				   ? c->payload_left < size ? (size_t)c->payload_left : size
			   : want < size ? want
					 : size;

		if (c->payload_left > 0) {
			c->payload_left -= n;
			if (c->payload_left == 0)
				request_is_complete(c);
		} else {
			memcpy(c->asking + c->asking_have, data, n);
			c->asking_have += n;
			if (c->asking_have == nbd_request_head_size(&c->wire))
				understand(c);
		}
		data += n;
		size -= n;
	}
}

void client_request(struct client *c, const struct nbd_request *req)
{
	uint8_t head[NBD_EXTENDED_REQUEST_SIZE], data[16 * 1024];
	uint64_t left = nbd_request_payload(req, &c->wire);
	uint8_t value = (uint8_t)(1 + play.seq % 255);
	unsigned before = c->n_asked;

	if (c->wire.extended)
		nbd_extended_request_encode(req, head);
	else
		nbd_request_encode(req, head);
	client_say(c, head, nbd_request_head_size(&c->wire));
	if (left > play.budget || left > NBD_DEFAULT_BLOCK_MAX)
		return; /* the server closes, or is to wait for the rest in vain */
	play.budget -= (size_t)left;
	if (c->n_asked > before && c->asked[before].change && req->type == NBD_CMD_WRITE)
		image_set_value(c->asked[before].change, value);
	memset(data, value, left < sizeof(data) ? (size_t)left : sizeof(data));
	for (size_t n; left > 0; left -= n) {
		n = left < sizeof(data) ? (size_t)left : sizeof(data);
		client_say(c, data, n);
	}
}

static void put_option(struct client *c, uint32_t option, const void *data, size_t size)
{
	uint8_t head[16];
	struct wire_writer w = wire_writer(head, sizeof(head));

	wire_put_u64(&w, UINT64_C(0x49484156454f5054)); /* IHAVEOPT */
	wire_put_u32(&w, option);
	wire_put_u32(&w, (uint32_t)size);
	put(c, head, sizeof(head));
	put(c, data, size);
}

static void put_session(struct client *c, const char *name)
{
	struct nbd_session s = { .slot = c->slot, .generation = c->generation };
	uint8_t data[NBD_SESSION_MAX];

	memset(s.id, 1 + (int)c->session, sizeof(s.id));
	snprintf(s.machine, sizeof(s.machine), "machine%u", c->machine);
	put_option(c, NBD_OPT_X_NBDROOT_SESSION, data, nbd_session_encode(data, &s, name));
}

static void put_handshake(struct client *c, const char *name)
{
	uint8_t data[128];
	struct wire_writer w = wire_writer(data, sizeof(data));
	size_t size = strlen(name);

	wire_put_u32(&w, NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES);
	put(c, data, wire_used(&w));
	if (c->mode == 1 || c->mode == 3)
		put_option(c, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	if (c->mode == 2)
		put_option(c, NBD_OPT_EXTENDED_HEADERS, NULL, 0);
	if (c->has_session)
		put_session(c, name);
	if (c->mode == 1 || c->mode == 2) {
		w = wire_writer(data, sizeof(data));
		wire_put_u32(&w, (uint32_t)size);
		wire_put_bytes(&w, name, size);
		wire_put_u32(&w, 1);
		wire_put_u32(&w, strlen(NBD_META_BASE_ALLOCATION));
		wire_put_bytes(&w, NBD_META_BASE_ALLOCATION, strlen(NBD_META_BASE_ALLOCATION));
		put_option(c, NBD_OPT_SET_META_CONTEXT, data, wire_used(&w));
	}
	if (c->uses_name) {
		put_option(c, NBD_OPT_EXPORT_NAME, name, size);
		return;
	}
	w = wire_writer(data, sizeof(data));
	wire_put_u32(&w, (uint32_t)size);
	wire_put_bytes(&w, name, size);
	wire_put_u16(&w, 0);
	put_option(c, NBD_OPT_GO, data, wire_used(&w));
}

/* ---- clients ------------------------------------------------------------------------------ */

/* Takes what there is. Returns whether there was anything. */
static bool receive(struct client *c)
{
	static uint8_t data[256 * 1024];
	ssize_t n = recv(c->fd, data, sizeof(data), MSG_DONTWAIT);

	if (n > 0)
		client_hear(c, data, (size_t)n);
	else if (n == 0 || errno != EAGAIN)
		client_hear_end(c);
	return n >= 0 || errno != EAGAIN;
}

/* Gives the server the time to take what was sent, so that it comes in pieces. */
void client_pause(struct client *c)
{
	int unread = 1;

	if (c->is_at_eof || c->pauses++ > 40)
		return;
	for (unsigned i = 0; i < 200 && unread > 0; i++) {
		sched_yield();
		if (ioctl(c->fd, SIOCOUTQ, &unread) < 0)
			return;
	}
}

static bool is_sent(const struct client *c)
{
	return c->is_at_eof || c->tx_sent == c->tx_size;
}

static bool transmit(struct client *c)
{
	size_t n = c->tx_size - c->tx_sent;
	ssize_t sent;

	n = c->segment > 0 && c->pauses < 40 && n > c->segment ? c->segment : n;
	sent = send(c->fd, c->tx + c->tx_sent, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent > 0) {
		c->tx_sent += (size_t)sent;
		if (c->segment > 0)
			client_pause(c);
	} else if (sent < 0 && errno != EAGAIN) { /* what was answered before is there still */
		while (!c->is_at_eof)
			(void)receive(c);
	}
	return sent > 0 || c->is_at_eof;
}

/* Sends and receives what is possible now. Returns whether anything was. */
static bool move(struct client *s)
{
	bool has_moved = false;

	if (!is_sent(s))
		has_moved |= transmit(s);
	if (!s->is_at_eof && (!s->is_lazy || is_sent(s)))
		has_moved |= receive(s);
	return has_moved;
}

/* All clients go on until it is enough for c. */
static void pump(struct client *c, bool (*is_enough)(const struct client *c))
{
	uint64_t moved = clock_now_ns();

	while (!is_enough(c)) {
		struct pollfd pfd[CLIENTS];
		bool has_moved = false;
		nfds_t n = 0;

		for (unsigned i = 0; i < CLIENTS; i++) {
			struct client *s = play.slots[i];

			if (!s || s->is_at_eof)
				continue;
			has_moved |= move(s);
			if (!s->is_at_eof)
				pfd[n++] = (struct pollfd){
					.fd = s->fd,
					.events = (short)(is_sent(s) ? POLLIN : POLLIN | POLLOUT),
				};
		}
		if (has_moved) {
			moved = clock_now_ns();
			continue;
		}
		/* The server takes no more before it has been listened to. */
		for (unsigned i = 0; i < CLIENTS; i++)
			if (play.slots[i])
				play.slots[i]->is_lazy = false;
		(void)poll(pfd, n, 200);
		if (clock_now_ns() - moved > DEADLINE_S * CLOCK_NS_PER_S)
			fail("nothing has happened for %d s: %zu of %zu bytes sent, %u of %u "
			     "requests answered, rx %d",
			     DEADLINE_S, c->tx_sent, c->tx_size, c->n_answered, c->n_asked, c->rx);
	}
}

static bool has_all(const struct client *c)
{
	unsigned whole = 0;

	if (c->is_at_eof)
		return true;
	if (!is_sent(c))
		return false;
	if (c->is_raw || c->is_refused || c->is_broken || c->is_over)
		return true;
	for (unsigned i = 0; i < c->n_asked; i++)
		whole += c->asked[i].is_whole;
	return c->admitted > 0 && c->n_answered == whole;
}

static bool is_settled(const struct client *c)
{
	return c->is_at_eof || (is_sent(c) && (c->is_raw || c->is_refused || c->admitted > 0));
}

static bool is_gone(const struct client *c)
{
	return c->is_at_eof;
}

void client_end(struct client *c)
{
	struct nbd_request goodbye = { .type = NBD_CMD_DISC };

	if (!c->is_open)
		return;
	if (c->ending != END_AT_ONCE) {
		bool is_polite;

		pump(c, is_settled);
		is_polite = c->ending == END_GOODBYE && c->admitted > 0 && !c->is_broken &&
			    !c->is_over && c->asking_have == 0 && c->payload_left == 0;
		if (is_polite)
			client_request(c, &goodbye);
		else if (c->ending == END_INSIDE && c->admitted > 0)
			client_say(c, (const uint8_t *)"\x25\x60\x95\x13", 4);
		pump(c, is_sent);
		if (!is_polite)
			shutdown(c->fd, SHUT_WR);
		pump(c, is_gone);
	}
	close(c->fd);
	c->is_open = false;
	free(c->tx);
	c->tx = NULL;
	for (unsigned i = 0; i < CLIENTS; i++)
		if (play.slots[i] == c)
			play.slots[i] = NULL;
}

static struct client *new_client(void)
{
	struct client *c = &play.clients[play.n_clients++];
	int pair[2];

	*c = (struct client){ .is_open = true, .opened = ++play.seq };
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	c->fd = pair[0];
	client_expect_greeting(c);
	server_add(play.server, pair[1]);
	return c;
}

/* The last three bits of a size: 0 for all at once. */
static size_t segment_of(unsigned bits)
{
	static const size_t sizes[] = { 0, 1, 7, 28, 100, 4096, 65500, 500000 };

	return sizes[bits & 7];
}

struct client *client_open(unsigned slot, uint8_t first, uint8_t second, uint8_t third)
{
	struct client *c, *other;
	unsigned waiting = 0;

	if (play.slots[slot])
		client_end(play.slots[slot]);
	if (play.n_clients == OPENED)
		return NULL;
	play.slots[slot] = c = new_client();
	c->mode = first & 3;
	c->export = first >> 2 & 7;
	c->has_session = first & 32;
	c->is_pipelined = first & 64;
	c->uses_name = first & 128 && c->mode == 0 && !c->has_session;
	c->session = second & 3;
	c->slot = second >> 2 & 3;
	c->generation = second >> 4 & 3;
	c->machine = second >> 6 & 3;
	c->segment = segment_of(third);
	c->is_lazy = third & 8;
	c->ending = third >> 4 & 3;
	c->wire.structured = c->mode > 0;
	c->wire.extended = c->mode == 2;
	c->wire.has_base_allocation = c->mode == 1 || c->mode == 2;
	for (other = play.clients; other < c; other++) {
		waiting += other->admitted == 0;
		if (!client_is_rival(other, c))
			continue;
		if (other->admitted == 0 && other->is_open)
			c->is_cut = true;
		other->is_cut = true;
	}
	for (other = play.clients; other <= c && waiting >= HALF_OPEN; other++)
		other->is_cut |= other->admitted == 0;
	put_handshake(c, export_names[c->export]);
	if (!c->is_pipelined)
		pump(c, is_settled);
	return c;
}

struct client *client_open_raw(uint8_t bits)
{
	struct client *c = play.slots[0] = new_client();

	c->is_raw = true;
	c->segment = segment_of(bits);
	c->is_lazy = bits & 8;
	c->ending = bits & 16 ? END_AT_ONCE : END_HALF;
	return c;
}

void client_send(struct client *c)
{
	pump(c, is_sent);
}

void client_wait(struct client *c)
{
	pump(c, has_all);
}

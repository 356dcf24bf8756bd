/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The clients of fuzz-serve.c: what each of them says and hears, and what there may be on the
 * images that they read. They check everything that the server says and end the program when it is
 * not as it has to be; they know nothing of its insides but server_add().
 */
#ifndef FUZZ_SERVE_CLIENT_H
#define FUZZ_SERVE_CLIENT_H

#include "server-tools/nbdserve/server.h"

#include "proto/reply.h"

enum {
	CLIENTS = 4, /* at a time */
	OPENED = 12, /* in all */
	ASKED = 700,
	HALF_OPEN = 3, /* that many may negotiate at a time */
	WHOLE_OPTION = 64,
	DEADLINE_S = 20, /* on a busy machine, with a sanitizer */
	IMAGE_SIZE = 34 * 1024 * 1024 - 300,
};

enum { EXPORT_RW, EXPORT_RO, EXPORT_FLUSH, EXPORT_MANY_A, EXPORT_MANY_B, EXPORTS };

/* Of the exports, then some that there are not. */
extern const char *const export_names[8];

struct change;

struct asked {
	struct nbd_request req;
	uint64_t sent, covered;
	bool is_whole, is_answered;
	struct change *change;
};

struct client {
	int fd;
	bool is_open;
	/* the first byte of OP_OPEN */
	unsigned mode, export;
	bool has_session;
	/* the second */
	unsigned session, slot, generation, machine;
	/* the third */
	size_t segment;
	bool is_lazy, is_pipelined, uses_name;
	enum { END_GOODBYE, END_HALF, END_AT_ONCE, END_INSIDE } ending;

	struct nbd_mode wire;
	struct nbd_export_info info;
	bool is_raw, is_refused, is_cut, is_at_eof;
	uint64_t opened, admitted; /* when; 0: not yet */

	/* what is sent, and what the server has to make of it */
	uint8_t *tx;
	size_t tx_size, tx_room, tx_sent;
	unsigned pauses;
	bool is_broken, is_over;
	uint8_t asking[NBD_EXTENDED_REQUEST_SIZE];
	size_t asking_have;
	uint64_t payload_left;
	struct asked asked[ASKED];
	unsigned n_asked, n_answered;

	/* what is received */
	enum {
		RX_GREETING,
		RX_OPTION,
		RX_OPTION_DATA,
		RX_NAME,
		RX_REPLY,
		RX_READ_OFFSET,
		RX_READ,
		RX_ERROR,
		RX_WORDS,
		RX_STATUS,
		RX_EXTENT,
		RX_ANYTHING,
	} rx;
	uint8_t in[WHOLE_OPTION];
	size_t have, need; /* of in */
	uint64_t left;     /* of what is not kept */
	uint64_t at;       /* of the export, of data that comes */
	struct asked *now; /* whose answer comes */
	uint32_t option, option_reply;
	uint64_t extents_left, extent_at;
	bool is_done;
};

/* One input's play on one server. */
extern struct play {
	struct server *server;
	struct client clients[OPENED], *slots[CLIENTS];
	unsigned n_clients;
	uint64_t seq;  /* of all that is said and heard */
	size_t budget; /* bytes of payload that may be sent still */
} play;

_printf_(1, 2) _Noreturn void fail(const char *fmt, ...);

#define must(is_true)                                                                              \
	do                                                                                         \
		if (!(is_true))                                                                    \
			fail("%s:%d: %s is not so", __FILE__, __LINE__, #is_true);                 \
	while (0)

/* ---- serve-client.c ------------------------------------------------------------------------ */

/* Opens one, as three bytes say (struct client); NULL: there have been enough. */
struct client *client_open(unsigned slot, uint8_t first, uint8_t second, uint8_t third);
/* One that says whatever it is told to, without a handshake of its own. */
struct client *client_open_raw(uint8_t bits);
/* Says goodbye, or whatever its end is, and waits for the server's. */
void client_end(struct client *c);

void client_say(struct client *c, const uint8_t *data, size_t size);
void client_request(struct client *c, const struct nbd_request *req);
/* All of them go on until c has sent everything, or has been answered everything too. */
void client_send(struct client *c);
void client_wait(struct client *c);
/* Gives the server the time to take what was sent, so that it comes in pieces. */
void client_pause(struct client *c);

/* Whether two connections cannot both have the export that they ask for. */
bool client_is_rival(const struct client *a, const struct client *b);
bool client_is_writing(const struct client *c);

/* ---- serve-hear.c -------------------------------------------------------------------------- */

void client_expect_greeting(struct client *c);
/* Bytes have come. */
void client_hear(struct client *c, const uint8_t *data, size_t size);
/* Nothing more will. */
void client_hear_end(struct client *c);

/* ---- serve-image.c ------------------------------------------------------------------------- */

uint8_t image_read_only_byte(uint64_t offset);
void image_forget_changes(void);
/* A request that was said; NULL for one that changes nothing. */
struct change *image_change(const struct client *c, const struct nbd_request *req);
void image_set_value(struct change *change, uint8_t value);
void image_change_ended(struct change *change, bool is_done);
/* c has the export: of those before it nothing is under way any more. */
void image_fence(const struct client *c);
/* What the answer to c->now says is at c->at. */
void image_check(const struct client *c, const uint8_t *data, size_t size);

#endif

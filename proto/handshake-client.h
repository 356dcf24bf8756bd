/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The client's side of the fixed newstyle negotiation: bytes in, bytes out, no I/O. The machine
 * says how many bytes it wants next and never wants one that could belong to the transmission
 * phase, so that a socket can be given to the kernel when it is done. NBD_OPT_STRUCTURED_REPLY
 * and NBD_OPT_EXTENDED_HEADERS are never sent, for the kernel's driver speaks neither. The one
 * other option that may be sent is our own, NBD_OPT_X_NBDROOT_SESSION, which every server that
 * does not know it refuses without harm.
 *
 *	nbd_hsc_init(h, goal, name);
 *	loop: send nbd_hsc_output(); read at most nbd_hsc_want() bytes; nbd_hsc_feed() them
 *	until it returns something other than NBD_HSC_MORE (and NBD_HSC_EXPORT when listing).
 *
 * Follows "Fixed newstyle negotiation" and "Option types" of doc/proto.md, and docs/extension.md.
 */
#ifndef PROTO_HANDSHAKE_CLIENT_H
#define PROTO_HANDSHAKE_CLIENT_H

#include "nbd.h"
#include "session.h"

#include <stdbool.h>
#include <stddef.h>

enum nbd_hsc_goal {
	NBD_HSC_GOAL_GO,   /* enter transmission with an export */
	NBD_HSC_GOAL_INFO, /* what an export is, without using it */
	NBD_HSC_GOAL_LIST, /* the names of the exports */
};

enum nbd_hsc_result {
	NBD_HSC_MORE,   /* go on */
	NBD_HSC_EXPORT, /* listing: text and text2 hold an export's name and description; go on */
	NBD_HSC_DONE,   /* info is valid; with NBD_HSC_GOAL_GO the transmission phase has begun */
	/* what follows ends the negotiation */
	NBD_HSC_E_NOT_NBD,   /* the first bytes are not NBD's */
	NBD_HSC_E_OLDSTYLE,  /* a server from before 2010: no export names, not supported */
	NBD_HSC_E_MALFORMED, /* a length or field that the specification does not allow */
	NBD_HSC_E_REFUSED,   /* rep_error says why, text holds the server's own words or is empty */
};

enum {
	/* The largest reply that we have a use for is NBD_REP_SERVER: a name and a description. */
	NBD_HSC_DATA_MAX = 4 + 2 * NBD_STRING_MAX,
	/* Client flags, the longest option, an abort. */
	NBD_HSC_OUT_MAX = 4 + 16 + NBD_SESSION_MAX + 16,
};

struct nbd_hsc {
	/* results */
	struct nbd_export_info info;
	bool has_block_size;   /* the server said NBD_INFO_BLOCK_SIZE; else info has the defaults */
	bool used_export_name; /* the server knew no NBD_OPT_GO */
	uint32_t rep_error;    /* NBD_REP_ERR_*, with NBD_HSC_E_REFUSED */
	bool has_session_reply; /* the server knows sessions; else it is some other server */
	struct nbd_session_reply session_reply;
	char text[NBD_STRING_MAX + 1];
	char text2[NBD_STRING_MAX + 1];

	/* private */
	enum nbd_hsc_goal goal;
	enum {
		NBD_HSC_GREETING,
		NBD_HSC_REPLY_HEAD,
		NBD_HSC_REPLY_DATA,
		NBD_HSC_EXPORT_NAME_REPLY,
		NBD_HSC_ENDED,
	} state;
	char name[NBD_STRING_MAX + 1];
	bool has_session; /* to send */
	struct nbd_session session;
	uint16_t server_flags;
	bool has_export_info;
	uint32_t option, reply;
	size_t have, want;
	size_t out_used, out_sent;
	uint8_t in[NBD_HSC_DATA_MAX];
	uint8_t out[NBD_HSC_OUT_MAX];
};

/*
 * Starts a negotiation. name is the export's name, "" for the default one; not used when
 * listing. False: the name is longer than NBD_STRING_MAX.
 */
bool nbd_hsc_init(struct nbd_hsc *h, enum nbd_hsc_goal goal, const char *name);

/*
 * Makes it say the session before NBD_OPT_GO; to be called before the first byte is fed, with
 * NBD_HSC_GOAL_GO. A server that does not know sessions changes nothing. One that refuses this
 * one ends the negotiation with NBD_HSC_E_REFUSED: text and session_reply.holder say who holds
 * the export. False: the session is not one that could be sent (nbd_session_encode()).
 */
bool nbd_hsc_set_session(struct nbd_hsc *h, const struct nbd_session *session);

/* How many bytes to read next; 0 when the negotiation has ended. */
size_t nbd_hsc_want(const struct nbd_hsc *h);

/*
 * Takes size bytes, at most nbd_hsc_want(). All output must have been sent before, for a reply to
 * what was not sent would be answered into the same buffer.
 */
enum nbd_hsc_result nbd_hsc_feed(struct nbd_hsc *h, const void *data, size_t size);

/* What is to be sent now: *size bytes, 0 for nothing. To be asked after init and each feed. */
const uint8_t *nbd_hsc_output(const struct nbd_hsc *h, size_t *size);

/* That many bytes of it were sent. */
void nbd_hsc_sent(struct nbd_hsc *h, size_t size);

/* What a result means, for a person; for NBD_HSC_E_REFUSED see also rep_error and text. */
const char *nbd_hsc_result_text(enum nbd_hsc_result result);

#endif

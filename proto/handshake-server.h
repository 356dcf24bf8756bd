/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The server's side of the fixed newstyle negotiation: bytes in, bytes out, no I/O and no
 * knowledge of which exports there are: it asks its caller. Nothing is allocated; a length that
 * is too large is skipped up to a limit and answered, or ends the connection. It never wants a
 * byte that could belong to the transmission phase. No TLS: NBD_OPT_STARTTLS is not supported.
 *
 *	nbd_hss_init(h);
 *	loop: send nbd_hss_output(); read at most nbd_hss_want() bytes; nbd_hss_feed() them;
 *	answer what it asks.
 *
 * Follows "Fixed newstyle negotiation", "Option types" and "Metadata querying" of doc/proto.md,
 * its extension EXTENDED_HEADERS, and docs/extension.md.
 */
#ifndef PROTO_HANDSHAKE_SERVER_H
#define PROTO_HANDSHAKE_SERVER_H

#include "nbd.h"
#include "session.h"

#include <stdbool.h>
#include <stddef.h>

enum nbd_hss_event {
	NBD_HSS_MORE,       /* go on */
	NBD_HSS_ASK_EXPORT, /* answer with nbd_hss_accept() or nbd_hss_refuse() */
	NBD_HSS_ASK_LIST, /* answer with nbd_hss_list() for each export, then nbd_hss_list_end() */
	NBD_HSS_ASK_META, /* is there this export? nbd_hss_meta_ok() or nbd_hss_refuse() */
	NBD_HSS_ASK_SESSION, /* answer with nbd_hss_session() or nbd_hss_refuse() */
	NBD_HSS_DONE,        /* send the output; then the transmission phase begins */
	NBD_HSS_CLOSE, /* send the output; then close: the client said goodbye or was refused */
	/* what follows ends the connection at once; nothing more is to be sent */
	NBD_HSS_E_CLIENT_FLAGS, /* an unknown client flag ("MUST close the TCP connection") */
	NBD_HSS_E_MAGIC,        /* an option that does not begin with NBD_IHAVEOPT */
	NBD_HSS_E_TOO_LONG,     /* an option longer than NBD_HSS_SKIP_MAX */
	NBD_HSS_E_TOO_MANY,     /* more than NBD_HSS_OPTIONS_MAX options */
};

enum {
	/* Room for a session, the longest of names with it, and for what grows onto it later; and
	 * for any name with 256 information requests or a dozen queries, of which four and two
	 * would make sense. */
	NBD_HSS_DATA_MAX = 4 + NBD_STRING_MAX + 2 + 512,
	/* A longer option is read and thrown away; one over this would be a denial of service. */
	NBD_HSS_SKIP_MAX = 2 * 1024 * 1024,
	/* Enough for nbdinfo --list on a large server, not for ever. */
	NBD_HSS_OPTIONS_MAX = 4096,
	/* An answer to GO: three information replies, one with a name, and an acknowledgement. */
	NBD_HSS_OUT_MAX = (20 + 12) + (20 + 14) + (20 + 2 + NBD_STRING_MAX) + 20,
	/* An error's words, or a listed export. */
	NBD_HSS_TEXT_MAX = 512,
};

struct nbd_hss {
	/* with NBD_HSS_ASK_*: which option asked, for which export, a string of name_size */
	uint32_t option;
	char name[NBD_STRING_MAX + 1];
	size_t name_size;

	/* with NBD_HSS_ASK_SESSION, and while has_session: what the client says of itself */
	struct nbd_session session;
	bool has_session; /* it was answered, and is of the export that GO will ask for */

	/* with NBD_HSS_DONE: how to speak from now on */
	struct nbd_mode mode;

	/* private */
	enum {
		NBD_HSS_CLIENT_FLAGS,
		NBD_HSS_OPTION_HEAD,
		NBD_HSS_OPTION_DATA,
		NBD_HSS_SKIPPING,
		NBD_HSS_ASKED,
		NBD_HSS_ENDED,
	} state;
	bool no_zeroes;
	bool wants_name, wants_block_size;
	bool wants_context; /* the query that is being asked about finds base:allocation */
	bool has_context;   /* base:allocation was set, for the export in bound */
	char bound[NBD_STRING_MAX + 1];
	size_t bound_size;
	uint32_t options;
	size_t have, want, skip_left;
	size_t out_used, out_sent;
	uint8_t in[NBD_HSS_DATA_MAX];
	uint8_t out[NBD_HSS_OUT_MAX];
};

/* Starts; the greeting is in the output. */
void nbd_hss_init(struct nbd_hss *h);

/* How many bytes to read next; 0 while a question is open and at the end. */
size_t nbd_hss_want(const struct nbd_hss *h);

/*
 * Takes size bytes, at most nbd_hss_want(). All output must have been sent before, also that of
 * each nbd_hss_list(): a client that does not read its answers must not be read from.
 */
enum nbd_hss_event nbd_hss_feed(struct nbd_hss *h, const void *data, size_t size);

/* What is to be sent now: *size bytes, 0 for nothing. */
const uint8_t *nbd_hss_output(const struct nbd_hss *h, size_t *size);

/* That many bytes of it were sent. */
void nbd_hss_sent(struct nbd_hss *h, size_t size);

/*
 * Yes: here is the export; of its flags those are told that the mode allows, nbd_mode_flags().
 * Returns NBD_HSS_DONE, or NBD_HSS_MORE after NBD_OPT_INFO.
 */
enum nbd_hss_event nbd_hss_accept(struct nbd_hss *h, const struct nbd_export_info *info);

/*
 * No: error is NBD_REP_ERR_*, text is for a person and cut at NBD_HSS_TEXT_MAX. Returns
 * NBD_HSS_MORE, or NBD_HSS_CLOSE after NBD_OPT_EXPORT_NAME, which has no way to say no.
 */
enum nbd_hss_event nbd_hss_refuse(struct nbd_hss *h, uint32_t error, const char *text);

/*
 * One export of the list, name of at most NBD_STRING_MAX bytes; the output has to be sent before
 * the next call. Then nbd_hss_list_end(), which returns NBD_HSS_MORE.
 */
void nbd_hss_list(struct nbd_hss *h, const char *name);
enum nbd_hss_event nbd_hss_list_end(struct nbd_hss *h);

/* Yes, there is that export: its metadata contexts are listed or set. Returns NBD_HSS_MORE. */
enum nbd_hss_event nbd_hss_meta_ok(struct nbd_hss *h);

/*
 * The answer to a session: welcome, or refused with its holder's name. In both cases the session
 * stays known, and the GO that follows asks with it; what counts is the answer to that. Returns
 * NBD_HSS_MORE.
 */
enum nbd_hss_event nbd_hss_session(struct nbd_hss *h, const struct nbd_session_reply *reply);

/* What an event means, for a log line. */
const char *nbd_hss_event_text(enum nbd_hss_event event);

#endif

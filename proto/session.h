/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The data of NBD_OPT_X_NBDROOT_SESSION and of its reply: by which a server knows whose
 * connection it has, and a client which server and image it has. docs/extension.md says what both
 * sides do with it; this file only encodes and decodes. Nothing that it lets through can forge a
 * log line, and nothing is secret or proves anything.
 */
#ifndef PROTO_SESSION_H
#define PROTO_SESSION_H

#include "nbd.h"

#include <stddef.h>

enum {
	NBD_SESSION_VERSION = 1,
	NBD_SESSION_ID_SIZE = 16,
	NBD_SESSION_MACHINE_MAX = 64,
	NBD_SESSION_HOST_MAX = 255,
	NBD_SESSION_HOLDER_MAX = 512,
	/* The longest data that this version writes; a longer one is from a later version. */
	NBD_SESSION_MAX = 36 + NBD_STRING_MAX + NBD_SESSION_MACHINE_MAX + NBD_SESSION_HOST_MAX,
	NBD_SESSION_REPLY_MAX = 48 + NBD_SESSION_HOLDER_MAX,
};

/* What a client says of itself. */
struct nbd_session {
	uint8_t id[NBD_SESSION_ID_SIZE]; /* new at each boot of the machine, never all zero */
	uint32_t slot;                   /* which of the device's connections this one is */
	uint64_t generation;             /* of the session's connections, goes up */
	char machine[NBD_SESSION_MACHINE_MAX + 1]; /* stays the same over boots; never empty */
	char host[NBD_SESSION_HOST_MAX + 1];       /* for people; may be empty */
};

enum nbd_durability {
	NBD_DURABILITY_WRITE = 0, /* what was acknowledged is on stable storage */
	NBD_DURABILITY_FLUSH = 1, /* what was flushed is */
};

/* What a server says of itself and of the export. */
struct nbd_session_reply {
	uint8_t boot_id[NBD_SESSION_ID_SIZE];  /* of the server's host */
	uint8_t image_id[NBD_SESSION_ID_SIZE]; /* all zero: it has none */
	uint64_t generation;                   /* of the image */
	enum nbd_durability durability;
	bool is_refused;                         /* the export is held by another */
	char holder[NBD_SESSION_HOLDER_MAX + 1]; /* by whom, for people; empty unless refused */
};

/*
 * Writes the option's data for an export of that name, at most NBD_STRING_MAX bytes long. Returns
 * its size, or 0 when nbd_session_decode() would not take it.
 */
size_t nbd_session_encode(uint8_t out[static NBD_SESSION_MAX], const struct nbd_session *session,
			  const char *name);

/*
 * False: too short, a version that never was, an id of zeroes, or a string that is not UTF-8 or
 * has control characters. What follows the fields that this version knows is passed over. *name
 * points into data, for *name_size bytes without a NUL behind them, and is not looked at.
 */
bool nbd_session_decode(struct nbd_session *session, const uint8_t **name, size_t *name_size,
			const void *data, size_t size);

/* The same for the reply's data. A holder that is not fit to be shown is left out. */
size_t nbd_session_reply_encode(uint8_t out[static NBD_SESSION_REPLY_MAX],
				const struct nbd_session_reply *reply);
bool nbd_session_reply_decode(struct nbd_session_reply *reply, const void *data, size_t size);

/* UTF-8 without control characters (U+0000 to U+001F, U+007F to U+009F). */
bool nbd_is_plain_text(const void *data, size_t size);

#endif

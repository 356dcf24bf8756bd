/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the server says of itself at each connection (docs/extension.md), and what a change of it
 * means. The epoch is the time for which what a server has acknowledged is there: with
 * durability=flush it ends when the server's machine loses its memory, and writes that were
 * acknowledged and not flushed yet are gone, though the file system above believes in them. Pure.
 */
#ifndef NBDCLIENT_EPOCH_H
#define NBDCLIENT_EPOCH_H

#include "base/cleanup.h"
#include "identity.h"
#include "proto/session.h"

enum { EPOCH_WHY_MAX = IDENTITY_WHY_MAX };

struct epoch {
	bool is_known; /* the server has said it */
	uint8_t boot_id[NBD_SESSION_ID_SIZE];
	uint8_t image_id[NBD_SESSION_ID_SIZE]; /* all zero: not known */
	uint64_t image_generation;             /* 0: not counted */
	enum nbd_durability durability;
};

/* From a handshake's session reply; NULL when there was none. */
struct epoch epoch_of(const struct nbd_session_reply *reply);

enum epoch_verdict {
	EPOCH_SAME,      /* go on */
	EPOCH_DIFFERENT, /* it is another image */
	EPOCH_UNSAFE,    /* written data may be missing from it */
};

/*
 * Whether a device may go on where it was, with before the epoch of its last link and first what
 * it was attached to. Otherwise why says what is wrong, for a person.
 */
enum epoch_verdict epoch_compare(const struct epoch *before, const struct epoch *now,
				 const struct identity *first,
				 char why[static EPOCH_WHY_MAX]) _must_check_;

#endif

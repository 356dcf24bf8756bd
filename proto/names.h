/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers of the protocol as words, for log lines. Never NULL. */
#ifndef PROTO_NAMES_H
#define PROTO_NAMES_H

#include <stdint.h>

/* "NBD_OPT_GO", or "unknown option" */
const char *nbd_opt_name(uint32_t option);

/* "NBD_REP_ERR_UNKNOWN", or "unknown reply" */
const char *nbd_rep_name(uint32_t reply);

/* What an option error means, in words for a person: "there is no such export" */
const char *nbd_rep_meaning(uint32_t reply);

/* "NBD_CMD_READ", or "unknown command" */
const char *nbd_cmd_name(uint16_t type);

/*
 * The transmission flags of an export as words, separated by spaces, into out; cut at out_size.
 * Returns out.
 */
const char *nbd_flags_text(uint16_t flags, char *out, unsigned out_size);

#endif

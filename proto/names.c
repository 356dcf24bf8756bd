/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See names.h. */
#include "names.h"

#include "nbd.h"

#include <string.h>

const char *nbd_opt_name(uint32_t option)
{
	switch (option) {
	case NBD_OPT_EXPORT_NAME: return "NBD_OPT_EXPORT_NAME";
	case NBD_OPT_ABORT: return "NBD_OPT_ABORT";
	case NBD_OPT_LIST: return "NBD_OPT_LIST";
	case NBD_OPT_PEEK_EXPORT: return "NBD_OPT_PEEK_EXPORT";
	case NBD_OPT_STARTTLS: return "NBD_OPT_STARTTLS";
	case NBD_OPT_INFO: return "NBD_OPT_INFO";
	case NBD_OPT_GO: return "NBD_OPT_GO";
	case NBD_OPT_STRUCTURED_REPLY: return "NBD_OPT_STRUCTURED_REPLY";
	case NBD_OPT_LIST_META_CONTEXT: return "NBD_OPT_LIST_META_CONTEXT";
	case NBD_OPT_SET_META_CONTEXT: return "NBD_OPT_SET_META_CONTEXT";
	case NBD_OPT_EXTENDED_HEADERS: return "NBD_OPT_EXTENDED_HEADERS";
	case NBD_OPT_X_NBDROOT_SESSION: return "NBD_OPT_X_NBDROOT_SESSION";
	default: return "unknown option";
	}
}

const char *nbd_rep_name(uint32_t reply)
{
	switch (reply) {
	case NBD_REP_ACK: return "NBD_REP_ACK";
	case NBD_REP_SERVER: return "NBD_REP_SERVER";
	case NBD_REP_INFO: return "NBD_REP_INFO";
	case NBD_REP_META_CONTEXT: return "NBD_REP_META_CONTEXT";
	case NBD_REP_X_NBDROOT_SESSION: return "NBD_REP_X_NBDROOT_SESSION";
	case NBD_REP_ERR_UNSUP: return "NBD_REP_ERR_UNSUP";
	case NBD_REP_ERR_POLICY: return "NBD_REP_ERR_POLICY";
	case NBD_REP_ERR_INVALID: return "NBD_REP_ERR_INVALID";
	case NBD_REP_ERR_PLATFORM: return "NBD_REP_ERR_PLATFORM";
	case NBD_REP_ERR_TLS_REQD: return "NBD_REP_ERR_TLS_REQD";
	case NBD_REP_ERR_UNKNOWN: return "NBD_REP_ERR_UNKNOWN";
	case NBD_REP_ERR_SHUTDOWN: return "NBD_REP_ERR_SHUTDOWN";
	case NBD_REP_ERR_BLOCK_SIZE_REQD: return "NBD_REP_ERR_BLOCK_SIZE_REQD";
	case NBD_REP_ERR_TOO_BIG: return "NBD_REP_ERR_TOO_BIG";
	case NBD_REP_ERR_EXT_HEADER_REQD: return "NBD_REP_ERR_EXT_HEADER_REQD";
	default: return "unknown reply";
	}
}

const char *nbd_rep_meaning(uint32_t reply)
{
	switch (reply) {
	case NBD_REP_ERR_UNSUP: return "the server does not support this";
	case NBD_REP_ERR_POLICY: return "the server's policy forbids it";
	case NBD_REP_ERR_INVALID: return "the server calls the request invalid";
	case NBD_REP_ERR_PLATFORM: return "the server's platform does not support it";
	case NBD_REP_ERR_TLS_REQD: return "the server demands TLS";
	case NBD_REP_ERR_UNKNOWN: return "the server has no such export";
	case NBD_REP_ERR_SHUTDOWN: return "the server is shutting down";
	case NBD_REP_ERR_BLOCK_SIZE_REQD: return "the server demands a block size negotiation";
	case NBD_REP_ERR_TOO_BIG: return "the server calls the request too big";
	case NBD_REP_ERR_EXT_HEADER_REQD: return "the server demands extended headers";
	default: return "the server gives an unknown error";
	}
}

const char *nbd_cmd_name(uint16_t type)
{
	switch (type) {
	case NBD_CMD_READ: return "NBD_CMD_READ";
	case NBD_CMD_WRITE: return "NBD_CMD_WRITE";
	case NBD_CMD_DISC: return "NBD_CMD_DISC";
	case NBD_CMD_FLUSH: return "NBD_CMD_FLUSH";
	case NBD_CMD_TRIM: return "NBD_CMD_TRIM";
	case NBD_CMD_CACHE: return "NBD_CMD_CACHE";
	case NBD_CMD_WRITE_ZEROES: return "NBD_CMD_WRITE_ZEROES";
	case NBD_CMD_BLOCK_STATUS: return "NBD_CMD_BLOCK_STATUS";
	case NBD_CMD_RESIZE: return "NBD_CMD_RESIZE";
	default: return "unknown command";
	}
}

const char *nbd_flags_text(uint16_t flags, char *out, unsigned out_size)
{
	static const struct {
		uint16_t flag;
		const char *word;
	} words[] = {
		{ NBD_FLAG_READ_ONLY, "read-only" },
		{ NBD_FLAG_SEND_FLUSH, "flush" },
		{ NBD_FLAG_SEND_FUA, "fua" },
		{ NBD_FLAG_ROTATIONAL, "rotational" },
		{ NBD_FLAG_SEND_TRIM, "trim" },
		{ NBD_FLAG_SEND_WRITE_ZEROES, "write-zeroes" },
		{ NBD_FLAG_SEND_DF, "df" },
		{ NBD_FLAG_CAN_MULTI_CONN, "multi-conn" },
		{ NBD_FLAG_SEND_RESIZE, "resize" },
		{ NBD_FLAG_SEND_CACHE, "cache" },
		{ NBD_FLAG_SEND_FAST_ZERO, "fast-zero" },
		{ NBD_FLAG_BLOCK_STATUS_PAYLOAD, "block-status-payload" },
	};
	size_t used = 0;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t length = strlen(words[i].word);

		if (!(flags & words[i].flag) || used + length + 2 > out_size)
			continue;
		if (used > 0)
			out[used++] = ' ';
		memcpy(out + used, words[i].word, length);
		used += length;
	}
	out[used] = '\0';
	return out;
}

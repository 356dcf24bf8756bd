/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The client's negotiation against a server that says anything. An input is: a byte that chooses
 * goal, name and whether a session is said, a byte that seeds the splits, then what the server
 * says. Besides the sanitizers, what must hold at every step is checked here.
 */
#include "proto/handshake-client.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_true)
{
	if (!is_true)
		abort();
}

static void check_result(const struct nbd_hsc *h, enum nbd_hsc_result result)
{
	must((result > NBD_HSC_EXPORT) == (nbd_hsc_want(h) == 0));
	must(nbd_hsc_want(h) <= NBD_HSC_DATA_MAX);
	must(memchr(h->text, '\0', sizeof(h->text)) != NULL);
	must(memchr(h->text2, '\0', sizeof(h->text2)) != NULL);
	must(h->info.size <= INT64_MAX || result == NBD_HSC_E_MALFORMED);
	must(h->info.block_min >= 1 && h->info.block_min <= 65536);
	must(h->info.block_max >= h->info.block_min);
	must((h->rep_error != 0) == (result == NBD_HSC_E_REFUSED));
	if (h->has_session_reply)
		must(nbd_is_plain_text(h->session_reply.holder, strlen(h->session_reply.holder)));
	if (h->has_session_reply && h->session_reply.is_refused)
		must(result != NBD_HSC_DONE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = { "", "disk" };
	static char long_name[NBD_STRING_MAX + 1];
	static const struct nbd_session session = { .id = { 1 }, .machine = "m", .host = "h" };
	static struct nbd_hsc h;
	enum nbd_hsc_result result = NBD_HSC_MORE;
	uint8_t split;

	if (size < 2)
		return 0;
	memset(long_name, 'n', NBD_STRING_MAX);
	must(nbd_hsc_init(&h, (enum nbd_hsc_goal)(data[0] % 3),
			  data[0] / 3 % 3 < 2 ? names[data[0] / 3 % 3] : long_name));
	if (data[0] / 9 % 2 && data[0] % 3 == NBD_HSC_GOAL_GO)
		must(nbd_hsc_set_session(&h, &session));
	split = data[1];
	data += 2;
	size -= 2;
	while (size > 0 && result <= NBD_HSC_EXPORT) {
		size_t n = nbd_hsc_want(&h), out_size;

		if (n > size)
			n = size;
		if (split) { /* 0: as large pieces as there can be */
			split = (uint8_t)(split * 5 + 1);
			if (n > split % 32u + 1u)
				n = split % 32u + 1u;
		}
		result = nbd_hsc_feed(&h, data, n);
		check_result(&h, result);
		data += n;
		size -= n;
		nbd_hsc_output(&h, &out_size);
		must(out_size <= NBD_HSC_OUT_MAX);
		nbd_hsc_sent(&h, out_size);
	}
	must(nbd_hsc_result_text(result) != NULL);
	return 0;
}

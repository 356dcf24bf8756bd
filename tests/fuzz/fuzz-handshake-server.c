/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The server's negotiation against a client that says anything. An input is: a byte that seeds
 * the splits, a byte of which two bits at a time answer the questions (accept, refuse, refuse at
 * length, by turns), then what the client says. Besides the sanitizers, what must hold at every
 * step is checked here.
 */
#include "proto/handshake-server.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_true)
{
	if (!is_true)
		abort();
}

static char long_text[NBD_STRING_MAX + 1];

static void send_all(struct nbd_hss *h)
{
	size_t size;

	nbd_hss_output(h, &size);
	must(size <= NBD_HSS_OUT_MAX);
	nbd_hss_sent(h, size);
}

static enum nbd_hss_event answer(struct nbd_hss *h, enum nbd_hss_event event, unsigned choice)
{
	static const struct nbd_export_info info = { 1 << 20, 1, 512, 4096, 1 << 25 };

	must(nbd_hss_want(h) == 0);
	must(nbd_hss_feed(h, "", 0) == NBD_HSS_MORE);
	if (event == NBD_HSS_ASK_LIST) {
		if (choice == 3)
			return nbd_hss_refuse(h, NBD_REP_ERR_POLICY, "not for you");
		for (unsigned i = 0; i < choice; i++) {
			nbd_hss_list(h, i ? long_text : "disk");
			send_all(h);
		}
		return nbd_hss_list_end(h);
	}
	must(h->name_size <= NBD_STRING_MAX && strlen(h->name) == h->name_size);
	if (choice >= 2)
		return nbd_hss_refuse(h, NBD_REP_ERR_UNKNOWN, choice == 2 ? "" : long_text);
	return nbd_hss_accept(h, &info);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct nbd_hss h;
	enum nbd_hss_event event = NBD_HSS_MORE;
	uint8_t split, answers;

	if (size < 2)
		return 0;
	memset(long_text, 0xc3, NBD_STRING_MAX);
	split = data[0];
	answers = data[1];
	data += 2;
	size -= 2;
	nbd_hss_init(&h);
	send_all(&h);
	while (size > 0 && event == NBD_HSS_MORE) {
		size_t n = nbd_hss_want(&h);

		if (n > size)
			n = size;
		if (split) { /* 0: as large pieces as there can be */
			split = (uint8_t)(split * 5 + 1);
			if (n > split % 32u + 1u)
				n = split % 32u + 1u;
		}
		event = nbd_hss_feed(&h, data, n);
		data += n;
		size -= n;
		if (event == NBD_HSS_ASK_EXPORT || event == NBD_HSS_ASK_LIST) {
			event = answer(&h, event, answers & 3);
			answers = (uint8_t)(answers >> 2 | answers << 6);
		}
		send_all(&h);
		must((event == NBD_HSS_MORE) == (nbd_hss_want(&h) > 0));
		must(nbd_hss_want(&h) <= NBD_HSS_DATA_MAX);
	}
	must(nbd_hss_event_text(event) != NULL);
	return 0;
}

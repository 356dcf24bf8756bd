/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as what comes in on the metrics address: a request that has an end, and one that
 * fills the buffer, is answered with one whole answer of HTTP, and the connection closes.
 */
#include "server-tools/nbdserve/metrics.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_true)
{
	if (!is_true)
		abort();
}

static int no_memory(void *ctx, struct report *out)
{
	(void)ctx;
	(void)out;
	return -1; /* the figures themselves have nothing to do with the request */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct metrics m;
	struct service_conn c = { .fd = -1, .in_size = size };
	unsigned status = 0;
	size_t used;

	if (size == 0 || size > METRICS_HEAD_MAX)
		return 0;
	service_init(&m.service, -1);
	m.report = no_memory;
	c.in = malloc(size);
	if (!c.in)
		return 0;
	memcpy(c.in, data, size);
	used = take_request(&m, &c);
	must(used == 0 ? !c.out && size < METRICS_HEAD_MAX : used == size && c.out);
	if (used > 0) {
		must(c.afterwards == SERVICE_CLOSES && c.out_size > 0);
		must(sscanf(c.out, "HTTP/1.1 %u ", &status) == 1 && status >= 400);
		must(strstr(c.out, "\r\n\r\n") != NULL);
	}
	free(c.out);
	free(c.in);
	return 0;
}

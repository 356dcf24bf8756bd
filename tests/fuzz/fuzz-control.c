/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as what comes in on the control socket. Each line is answered with one line of JSON;
 * what reaches the functions behind it are names that a C string can hold; and any string that
 * was read is the same after it was written and read again.
 */
#include "server-tools/nbdserve/control.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_true)
{
	if (!is_true)
		abort();
}

static int on_report(void *ctx, struct report *out)
{
	(void)ctx;
	return report_add_client(out) ? 0 : -1;
}

static int on_disconnect(void *ctx, uint64_t id, char *err)
{
	(void)ctx;
	snprintf(err, CONTROL_ERROR_MAX, "no connection %llu", (unsigned long long)id);
	return id % 2 ? -1 : 0;
}

static int on_name(void *ctx, const char *name, char *err)
{
	(void)ctx;
	must(strlen(name) < CONTROL_NAME_MAX);
	for (const char *p = name; *p; p += json_utf8_length(p))
		must(json_utf8_length(p) > 0);
	snprintf(err, CONTROL_ERROR_MAX, "no export \"%.200s\"", name); /* may cut a character */
	return strlen(name) % 2 ? -1 : 0;
}

static int on_disconnect_export(void *ctx, const char *name, size_t *count, char *err)
{
	*count = 0;
	return on_name(ctx, name, err);
}

static int on_reload(void *ctx, char *err)
{
	(void)ctx;
	(void)err;
	return 0;
}

static int on_handover(void *ctx, int fds[static CONTROL_FDS_MAX], size_t *count, char *err)
{
	(void)ctx;
	(void)err;
	fds[0] = STDIN_FILENO;
	*count = 0;
	return 0;
}

/* One line of an answer; forgotten as if it had been sent. */
static void check_answer(struct service_conn *c)
{
	static struct json_token tokens[1000];
	const struct json_token *ok;
	ssize_t n;

	must(c->out && c->out_size > 0 && c->out[c->out_size - 1] == '\n');
	must(!memchr(c->out, '\n', c->out_size - 1));
	n = json_parse(c->out, c->out_size, tokens, ARRAY_SIZE(tokens));
	must(n > 0 && n <= (ssize_t)ARRAY_SIZE(tokens));
	ok = json_get(c->out, tokens, "ok");
	must(ok && (ok->type == JSON_TRUE || ok->type == JSON_FALSE));
	must((json_get(c->out, tokens, "error") != NULL) == (ok->type == JSON_FALSE));
	free(c->out);
	c->out = NULL;
	c->out_size = 0;
	c->afterwards = SERVICE_GOES_ON;
}

static void check_lines(const uint8_t *data, size_t size)
{
	static const struct control_ops ops = {
		.report = on_report,
		.disconnect = on_disconnect,
		.disconnect_export = on_disconnect_export,
		.release = on_name,
		.reload = on_reload,
		.handover = on_handover,
	};
	static struct control control;
	struct service_conn c = { .fd = -1, .in_size = size };
	size_t used;

	if (size > CONTROL_REQUEST_MAX)
		return;
	service_init(&control.service, -1);
	control.ops = &ops;
	c.in = malloc(size + 1);
	if (!c.in)
		return;
	memcpy(c.in, data, size);
	while (c.in_size > 0 && (used = take_request(&control, &c)) > 0) {
		must(used <= c.in_size);
		check_answer(&c);
		c.in_size -= used;
		memmove(c.in, c.in + used, c.in_size);
	}
	free(c.in);
}

/* Spans end where the next token begins, and strings survive being written. */
static void check_tokens(const char *text, size_t size)
{
	static struct json_token tokens[1000], again;
	static char first[4096], second[4096], written[6 * 4096 + 3];
	ssize_t n = json_parse(text, size, tokens, ARRAY_SIZE(tokens));
	FILE *out;

	must(n < 0 || n == json_parse(text, size, NULL, 0));
	for (ssize_t i = 0; i < n && n <= (ssize_t)ARRAY_SIZE(tokens); i++) {
		must(tokens[i].span > 0 && tokens[i].span <= n - i);
		must(tokens[i].start <= size && tokens[i].size <= size - tokens[i].start);
		if (json_string(text, &tokens[i], first, sizeof(first)) < 0)
			continue;
		out = fmemopen(written, sizeof(written), "w");
		if (!out)
			continue;
		json_put_string(out, first);
		fclose(out);
		must(json_parse(written, strlen(written), &again, 1) == 1);
		must(json_string(written, &again, second, sizeof(second)) >= 0);
		must(strcmp(first, second) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	log_init("fuzz-control");
	check_lines(data, size);
	check_tokens((const char *)data, size);
	return 0;
}

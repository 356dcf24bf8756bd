/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See metrics.h. The syntax of a request line is that of RFC 9112, section 3. */
#include "metrics.h"

#include "base/clock.h"
#include "base/parse.h"

#include <fcntl.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

enum { METRICS_BACKLOG = 32, METRICS_ADDRESS_MAX = 96 };

struct metrics {
	struct service service;
	int (*report)(void *ctx, struct report *out);
	void *ctx;
	char address[METRICS_ADDRESS_MAX];
};

/* ---- requests ------------------------------------------------------------------------------ */

/* Where the head ends, after its empty line; NULL: not yet. Lines may end without the CR. */
static const char *head_end(const char *in, size_t size)
{
	const char *end = in + size;

	for (const char *p = in; (p = memchr(p, '\n', (size_t)(end - p))); p++) {
		if (end - p > 1 && p[1] == '\n')
			return p + 2;
		if (end - p > 2 && p[1] == '\r' && p[2] == '\n')
			return p + 3;
	}
	return NULL;
}

/* What to answer: 0 for the figures, or a status. *is_head: nothing after the answer's head. */
static unsigned check_request(const char *in, size_t size, bool *is_head)
{
	const char *end = memchr(in, '\n', size);
	const char *space = end ? memchr(in, ' ', (size_t)(end - in)) : NULL;
	size_t method, target;
	const char *space2;

	if (!space)
		return 400;
	method = (size_t)(space - in);
	space2 = memchr(space + 1, ' ', (size_t)(end - space - 1));
	/* HTTP/1.0 or 1.1, then the end of the line */
	if (!space2 || end - space2 < 9 || memcmp(space2 + 1, "HTTP/1.", 7) != 0)
		return 400;
	target = (size_t)(space2 - space - 1);
	for (const char *p = space + 1; p < space2; p++) /* a query changes nothing */
		if (*p == '?') {
			target = (size_t)(p - space - 1);
			break;
		}
	*is_head = method == 4 && memcmp(in, "HEAD", 4) == 0;
	if (!*is_head && (method != 3 || memcmp(in, "GET", 3) != 0))
		return 405;
	return target == 8 && memcmp(space + 1, "/metrics", 8) == 0 ? 0 : 404;
}

static const char *status_words(unsigned status)
{
	switch (status) {
	case 200: return "OK";
	case 400: return "Bad Request";
	case 404: return "Not Found";
	case 405: return "Method Not Allowed";
	case 431: return "Request Header Fields Too Large";
	}
	return "Service Unavailable";
}

/* Head and body as the connection's reply; no memory for it: the connection just closes. */
static void reply(struct service_conn *c, unsigned status, const char *body, size_t size,
		  bool is_head)
{
	char *text;
	size_t total;
	FILE *out = service_stream(&text, &total);

	c->afterwards = SERVICE_CLOSES;
	if (!out) {
		service_reply(c, NULL, 0);
		return;
	}
	fprintf(out,
		"HTTP/1.1 %u %s\r\n"
		"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
		"Content-Length: %zu\r\n"
		"%sConnection: close\r\n\r\n",
		status, status_words(status), size, status == 405 ? "Allow: GET, HEAD\r\n" : "");
	if (!is_head)
		fwrite(body, 1, size, out);
	(void)service_stream_end(out, &text);
	service_reply(c, text, total);
}

static void reply_status(struct service_conn *c, unsigned status, bool is_head)
{
	char body[128];
	int size = snprintf(body, sizeof(body), "%u %s; the figures are at /metrics\n", status,
			    status_words(status));

	reply(c, status, body, (size_t)size, is_head);
}

static void reply_figures(struct metrics *m, struct service_conn *c, bool is_head)
{
	struct report report = { 0 };
	char *text;
	size_t size;
	FILE *out = service_stream(&text, &size);
	bool is_filled = m->report(m->ctx, &report) == 0, is_whole;

	if (out && is_filled)
		report_prometheus(out, &report);
	report_free(&report);
	is_whole = service_stream_end(out, &text) && is_filled;
	if (is_whole && service_has_room(&m->service, size))
		reply(c, 200, text, size, is_head);
	else
		reply_status(c, 503, is_head);
	free(text);
}

static size_t take_request(void *ctx, struct service_conn *c)
{
	const char *end = head_end(c->in, c->in_size);
	struct metrics *m = ctx;
	bool is_head = false;
	unsigned status;

	if (!end && c->in_size < METRICS_HEAD_MAX)
		return 0;
	status = end ? check_request(c->in, (size_t)(end - c->in), &is_head) : 431;
	if (status == 0)
		reply_figures(m, c, is_head);
	else
		reply_status(c, status, is_head);
	return c->in_size;
}

/* ---- the address --------------------------------------------------------------------------- */

static int fail(const char *address, const char *why, char *err)
{
	snprintf(err, METRICS_ERROR_MAX, "metrics address \"%.100s\": %s", address, why);
	return -1;
}

/* "HOST:PORT", "[V6]:PORT", ":PORT"; the port must be said, for there is no standard one. */
static int split(const char *address, char *host, size_t host_size, char *port, size_t port_size,
		 char *err)
{
	static const char want[] = "not ADDRESS:PORT, [ADDRESS]:PORT or :PORT";
	const char *colon = strrchr(address, ':'), *begin = address, *end = colon;
	uint64_t number;

	if (!colon || parse_u64(colon + 1, UINT16_MAX, &number) < 0)
		return fail(address, want, err);
	if (end > begin && *begin == '[') {
		if (*--end != ']' || end == begin)
			return fail(address, want, err);
		begin++;
	} else if (memchr(begin, ':', (size_t)(end - begin))) {
		return fail(address, "an IPv6 address stands in brackets: [::1]:9109", err);
	}
	if ((size_t)(end - begin) >= host_size)
		return fail(address, want, err);
	memcpy(host, begin, (size_t)(end - begin));
	host[end - begin] = '\0';
	snprintf(port, port_size, "%u", (unsigned)number);
	return 0;
}

static int listen_at(const char *address, char *err)
{
	const struct addrinfo hints = {
		.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM,
	};
	char host[METRICS_ADDRESS_MAX], port[8];
	_cleanup_close_ int fd = -1;
	struct addrinfo *found;
	int on = 1, r;

	if (split(address, host, sizeof(host), port, sizeof(port), err) < 0)
		return -1;
	/* ":PORT" is all addresses: those of IPv6 sockets are IPv4's too, where there is IPv6 */
	r = getaddrinfo(host[0] ? host : "::", port, &hints, &found);
	if (r != 0)
		return fail(address, gai_strerror(r), err);
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 && !host[0]) {
		freeaddrinfo(found);
		r = getaddrinfo("0.0.0.0", port, &hints, &found);
		if (r != 0)
			return fail(address, gai_strerror(r), err);
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	}
	r = fd < 0 ? errno : 0;
	if (r == 0) {
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		if (bind(fd, found->ai_addr, found->ai_addrlen) < 0 ||
		    listen(fd, METRICS_BACKLOG) < 0)
			r = errno;
	}
	freeaddrinfo(found);
	return r == 0 ? steal_fd(&fd) : fail(address, strerror(r), err);
}

/* As it is now: a port of 0 has become a number. */
static void name_address(struct metrics *m)
{
	struct sockaddr_storage at = { 0 };
	socklen_t size = sizeof(at);
	char host[64], port[8];

	if (getsockname(m->service.listener, (struct sockaddr *)&at, &size) == 0 &&
	    getnameinfo((struct sockaddr *)&at, size, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		snprintf(m->address, sizeof(m->address),
			 at.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

struct metrics *metrics_open(const char *address, int (*report)(void *ctx, struct report *out),
			     void *ctx, char *err)
{
	_cleanup_free_ struct metrics *m = calloc(1, sizeof(*m));
	int fd;

	if (!m) {
		(void)fail(address, "out of memory", err);
		return NULL;
	}
	fd = listen_at(address, err);
	if (fd < 0)
		return NULL;
	service_init(&m->service, fd);
	m->service.request_max = METRICS_HEAD_MAX;
	m->service.timeout_ns = METRICS_TIMEOUT_S * CLOCK_NS_PER_S;
	m->service.request = take_request;
	m->service.ctx = m;
	m->report = report;
	m->ctx = ctx;
	name_address(m);
	return steal_ptr(&m);
}

void metrics_close(struct metrics *m)
{
	if (!m)
		return;
	service_deinit(&m->service);
	free(m);
}

const char *metrics_address(const struct metrics *m)
{
	return m->address;
}

size_t metrics_poll(const struct metrics *m, struct pollfd *pfd)
{
	return service_poll(&m->service, pfd);
}

uint64_t metrics_deadline(const struct metrics *m)
{
	return service_deadline(&m->service);
}

void metrics_handle(struct metrics *m, const struct pollfd *pfd, uint64_t now_ns)
{
	service_handle(&m->service, pfd, now_ns);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The metrics address over real sockets: what it answers, and who does not get an answer. */
#include "server-tools/nbdserve/metrics.h"
#include "tests/unit/tap.h"

#include "tests/unit/service-pump.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static struct metrics *metrics;
static char answer[1024 * 1024];
static bool has_memory;

static int fake_report(void *ctx, struct report *out)
{
	struct report_export *e = report_add_export(out);

	(void)ctx;
	out->server.version = "1";
	out->server.engine = "epoll";
	e->name = "root";
	return has_memory ? 0 : -1;
}

static void pump(void)
{
	struct pollfd pfd[SERVICE_POLL_MAX];
	size_t n = metrics_poll(metrics, pfd);

	if (poll(pfd, n, 5) >= 0)
		metrics_handle(metrics, pfd, pump_now_ns);
}

static int begin(void)
{
	char err[METRICS_ERROR_MAX];

	has_memory = true;
	metrics = metrics_open("127.0.0.1:0", fake_report, NULL, err);
	return metrics ? 0 : -1;
}

static int dial(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	at.sin_port = htons((uint16_t)atoi(strrchr(metrics_address(metrics), ':') + 1));
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* The whole answer, up to the end of the connection; "" without one. */
static const char *ask(const char *request)
{
	_cleanup_close_ int fd = dial();

	if (pump_send(fd, request) < 0 || pump_read(fd, answer, sizeof(answer), false) < 0)
		return "";
	return answer;
}

static unsigned status_of(const char *text)
{
	unsigned status = 0;

	return sscanf(text, "HTTP/1.1 %u ", &status) == 1 ? status : 0;
}

static const char *body_of(const char *text)
{
	const char *end = strstr(text, "\r\n\r\n");

	return end ? end + 4 : "(no body)";
}

TEST(figures_are_answered_and_the_connection_ends)
{
	size_t length = 0;

	CHECK_EQ(begin(), 0);
	CHECK_EQ(status_of(ask("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n")), 200);
	CHECK(strstr(answer, "\r\nContent-Type: text/plain; version=0.0.4"));
	CHECK(strstr(answer, "\r\nConnection: close\r\n"));
	CHECK_EQ(sscanf(strstr(answer, "Content-Length:"), "Content-Length: %zu", &length), 1);
	CHECK_EQ(length, strlen(body_of(answer)));
	CHECK(strstr(body_of(answer), "\nnbdserve_export_size_bytes{export=\"root\"} 0\n"));
	metrics_close(metrics);
}

TEST(anything_else_is_an_error_of_http)
{
	static const struct {
		const char *request;
		unsigned status;
	} cases[] = {
		{ "GET /metrics HTTP/1.0\r\n\r\n", 200 },
		{ "GET /metrics HTTP/1.0\n\n", 200 },
		{ "GET /metrics?x=y HTTP/1.1\r\nHost: x\r\n\r\n", 200 },
		{ "GET / HTTP/1.1\r\n\r\n", 404 },
		{ "GET /metricsx HTTP/1.1\r\n\r\n", 404 },
		{ "GET /metric HTTP/1.1\r\n\r\n", 404 },
		{ "GET /../etc/passwd HTTP/1.1\r\n\r\n", 404 },
		{ "POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405 },
		{ "GETS /metrics HTTP/1.1\r\n\r\n", 405 },
		{ "GET /metrics\r\n\r\n", 400 },
		{ "GET /metrics HTTP/2\r\n\r\n", 400 },
		{ "GET /metrics FTP/1.10\r\n\r\n", 400 },
		{ "nonsense\r\n\r\n", 400 },
		{ "\r\n\r\n", 400 },
		{ "  \r\n\r\n", 400 },
	};

	CHECK_EQ(begin(), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		unsigned status = status_of(ask(cases[i].request));

		if (status != cases[i].status)
			printf("# %s", cases[i].request);
		CHECK_EQ(status, cases[i].status);
	}
	metrics_close(metrics);
}

TEST(head_is_answered_without_a_body)
{
	CHECK_EQ(begin(), 0);
	CHECK_EQ(status_of(ask("HEAD /metrics HTTP/1.1\r\n\r\n")), 200);
	CHECK_STR(body_of(answer), "");
	metrics_close(metrics);
}

TEST(want_of_memory_is_an_error_that_passes)
{
	CHECK_EQ(begin(), 0);
	has_memory = false;
	CHECK_EQ(status_of(ask("GET /metrics HTTP/1.1\r\n\r\n")), 503);
	has_memory = true;
	CHECK_EQ(status_of(ask("GET /metrics HTTP/1.1\r\n\r\n")), 200);
	metrics_close(metrics);
}

TEST(head_over_its_limit_is_refused)
{
	static char much[METRICS_HEAD_MAX + 1];

	CHECK_EQ(begin(), 0);
	memset(much, 'x', sizeof(much) - 1);
	CHECK_EQ(status_of(ask(much)), 431);
	memcpy(much, "GET /metrics HTTP/1.1\r\nX: ", 26);
	memcpy(much + sizeof(much) - 5, "\r\n\r\n", 4); /* exactly the limit */
	CHECK_EQ(status_of(ask(much)), 200);
	metrics_close(metrics);
}

TEST(client_that_trickles_is_cut_off_after_its_time)
{
	_cleanup_close_ int slow = -1;

	CHECK_EQ(begin(), 0);
	slow = dial();
	for (int second = 0; second < METRICS_TIMEOUT_S; second++) {
		CHECK_EQ(pump_send(slow, "G"), 0);
		CHECK(!pump_is_closed(slow));
		CHECK_EQ(status_of(ask("GET /metrics HTTP/1.1\r\n\r\n")), 200);
		pump_now_ns += CLOCK_NS_PER_S;
	}
	CHECK(pump_is_closed(slow));
	metrics_close(metrics);
}

TEST(silent_clients_in_any_number_do_not_keep_others_out)
{
	int silent[3 * SERVICE_CONNS];

	CHECK_EQ(begin(), 0);
	for (size_t i = 0; i < ARRAY_SIZE(silent); i++) {
		silent[i] = dial();
		pump();
	}
	CHECK_EQ(status_of(ask("GET /metrics HTTP/1.1\r\n\r\n")), 200);
	for (size_t i = 0; i < ARRAY_SIZE(silent); i++)
		close(silent[i]);
	metrics_close(metrics);
}

TEST(addresses_are_taken_or_refused_with_the_reason)
{
	static const char *const bad[] = {
		"",
		"9109",
		"127.0.0.1",
		"127.0.0.1:",
		"127.0.0.1:x",
		"127.0.0.1:65536",
		"::1:9109",
		"[::1]",
		"[::1:9109",
		"]:9109",
		"[]x:1",

		"127.0.0.1:-1",
	};
	static const char *const good[] = { "127.0.0.1:0", ":0", "[::1]:0" };
	char err[METRICS_ERROR_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		err[0] = '\0';
		metrics = metrics_open(bad[i], fake_report, NULL, err);
		if (metrics)
			printf("# \"%s\" is taken\n", bad[i]);
		CHECK(!metrics && strstr(err, "metrics address \""));
	}
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		metrics = metrics_open(good[i], fake_report, NULL, err);
		if (!metrics && strstr(err, "Cannot assign")) /* a machine without IPv6 */
			continue;
		CHECK(metrics != NULL);
		metrics_close(metrics);
	}
}

TEST(address_in_use_is_said)
{
	struct metrics *second;
	char err[METRICS_ERROR_MAX];

	CHECK_EQ(begin(), 0);
	second = metrics_open(metrics_address(metrics), fake_report, NULL, err);
	CHECK(!second);
	CHECK(strstr(err, "Address already in use"));
	metrics_close(metrics);
}

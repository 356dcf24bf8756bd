/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket over real sockets, with functions behind it that remember their calls. The
 * take-over has a file of its own.
 */
#include "base/json.h"
#include "base/log.h"
#include "server-tools/nbdserve/control.h"
#include "tests/unit/tap.h"

#include "tests/unit/service-pump.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

enum { MANY_CLIENTS = 5000 };

static struct control *control;
static char folder[64], path[96], called[8192], answer[8 * 1024 * 1024];
static bool fails;

/* ---- what stands behind it ----------------------------------------------------------------- */

static int outcome(char *err)
{
	if (!fails)
		return 0;
	snprintf(err, CONTROL_ERROR_MAX, "no export \"a\" here");
	return -1;
}

static int fake_report(void *ctx, struct report *out)
{
	(void)ctx;
	out->server.version = "1";
	out->server.engine = "epoll";
	for (int i = 0; i < MANY_CLIENTS; i++) {
		struct report_client *c = report_add_client(out);

		c->id = (uint64_t)i;
	}
	return fails ? -1 : 0;
}

static int fake_disconnect(void *ctx, uint64_t id, char *err)
{
	(void)ctx;
	snprintf(called, sizeof(called), "disconnect %llu", (unsigned long long)id);
	return outcome(err);
}

static int fake_disconnect_export(void *ctx, const char *name, size_t *count, char *err)
{
	(void)ctx;
	snprintf(called, sizeof(called), "disconnect export %s", name);
	*count = 3;
	return outcome(err);
}

static int fake_release(void *ctx, const char *name, char *err)
{
	(void)ctx;
	snprintf(called, sizeof(called), "release %s", name);
	return outcome(err);
}

static int fake_reload(void *ctx, char *err)
{
	(void)ctx;
	snprintf(called, sizeof(called), "reload");
	return outcome(err);
}

static int fake_handover(void *ctx, int fds[static CONTROL_FDS_MAX], size_t *count, char *err)
{
	(void)ctx;
	(void)fds;
	*count = 0;
	return outcome(err);
}

static const struct control_ops ops = {
	.report = fake_report,
	.disconnect = fake_disconnect,
	.disconnect_export = fake_disconnect_export,
	.release = fake_release,
	.reload = fake_reload,
	.handover = fake_handover,
};

/* ---- both ends ----------------------------------------------------------------------------- */

static void pump(void)
{
	struct pollfd pfd[SERVICE_POLL_MAX];
	size_t n = control_poll(control, pfd);

	if (poll(pfd, n, 5) >= 0)
		(void)!control_handle(control, pfd, pump_now_ns);
}

/* A server in a folder of its own. 0 or -1. */
static int begin(void)
{
	char err[CONTROL_ERROR_MAX];

	log_init("test-control");
	fails = false;
	called[0] = '\0';
	strcpy(folder, "/tmp/test-control.XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/run/control", folder);
	control = control_open(path, false, &ops, NULL, err);
	return control ? 0 : -1;
}

static void end(void)
{
	control_close(control);
	control = NULL;
	(void)unlink(path);
	snprintf(path, sizeof(path), "%s/run", folder);
	(void)rmdir(path);
	(void)rmdir(folder);
}

static int dial(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(un.sun_path, path);
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* What the server answers to one request; "" for nothing. */
static const char *ask(int fd, const char *request)
{
	if (pump_send(fd, request) < 0 || pump_read(fd, answer, sizeof(answer), true) < 0)
		return "";
	return answer;
}

static bool is_refusal(const char *text)
{
	return strncmp(text, "{\"ok\":false,\"error\":\"", 21) == 0;
}

/* ---- requests and answers ------------------------------------------------------------------ */

TEST(only_the_owner_may_connect_to_the_file)
{
	struct stat st;

	CHECK_EQ(begin(), 0);
	CHECK_EQ(lstat(path, &st), 0);
	CHECK_EQ(st.st_mode, S_IFSOCK | 0600);
	end();
	CHECK_EQ(lstat(path, &st), -1);
}

TEST(reports_have_the_parts_that_were_asked_for)
{
	static struct json_token tokens[MANY_CLIENTS * 64];
	static const struct {
		const char *command;
		bool has_server, has_exports, has_clients;
	} cases[] = {
		{ "status", true, true, true },
		{ "exports", false, true, false },
		{ "clients", false, false, true },
	};
	char request[64];

	CHECK_EQ(begin(), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_close_ int fd = dial();
		ssize_t n;

		snprintf(request, sizeof(request), "{\"command\":\"%s\"}\n", cases[i].command);
		CHECK(ask(fd, request)[0]);
		n = json_parse(answer, strlen(answer), tokens, ARRAY_SIZE(tokens));
		CHECK(n > 0 && n <= (ssize_t)ARRAY_SIZE(tokens));
		CHECK_EQ(json_get(answer, tokens, "ok")->type, JSON_TRUE);
		CHECK_EQ(json_get(answer, tokens, "server") != NULL, cases[i].has_server);
		CHECK_EQ(json_get(answer, tokens, "exports") != NULL, cases[i].has_exports);
		CHECK_EQ(json_get(answer, tokens, "clients") != NULL, cases[i].has_clients);
	}
	end();
}

TEST(orders_reach_their_function_with_what_they_name)
{
	static const struct {
		const char *request, *called, *answer;
	} cases[] = {
		{ "{\"command\":\"disconnect\",\"id\":18446744073709551615}\n",
		  "disconnect 18446744073709551615", "{\"ok\":true,\"disconnected\":1}\n" },
		{ " { \"export\" : \"a\\u0062\\\"\" , \"command\":\"disconnect\" } \r\n",
		  "disconnect export ab\"", "{\"ok\":true,\"disconnected\":3}\n" },
		{ "{\"command\":\"release\",\"export\":\"\"}\n", "release ", "{\"ok\":true}\n" },
		{ "{\"command\":\"reload\"}\n", "reload", "{\"ok\":true}\n" },
	};
	_cleanup_close_ int fd = -1;

	CHECK_EQ(begin(), 0);
	fd = dial();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CHECK_STR(ask(fd, cases[i].request), cases[i].answer);
		CHECK_STR(called, cases[i].called);
	}
	end();
}

TEST(failure_is_answered_with_its_reason)
{
	static const char *const requests[] = {
		"{\"command\":\"disconnect\",\"id\":1}\n",
		"{\"command\":\"disconnect\",\"export\":\"a\"}\n",
		"{\"command\":\"release\",\"export\":\"a\"}\n",
		"{\"command\":\"reload\"}\n",
		"{\"command\":\"handover\"}\n",
	};
	_cleanup_close_ int fd = -1;

	CHECK_EQ(begin(), 0);
	fd = dial();
	fails = true;
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
		CHECK_STR(ask(fd, requests[i]),
			  "{\"ok\":false,\"error\":\"no export \\\"a\\\" here\"}\n");
	CHECK(is_refusal(ask(fd, "{\"command\":\"status\"}\n")));
	end();
}

TEST(request_that_is_not_understood_is_refused_and_the_next_one_answered)
{
	static const char *const requests[] = {
		"\n",
		"hello\n",
		"GET / HTTP/1.0\r\n",
		"[]\n",
		"{}\n",
		"{\"command\":\"\"}\n",
		"{\"command\":1}\n",
		"{\"command\":\"nonsense\"}\n",
		"{\"command\":\"reload\",\"command\":\"reload\"}\n",
		"{\"command\":\"reload\",\"id\":1}\n",
		"{\"command\":\"status\",\"export\":\"a\"}\n",
		"{\"command\":\"reload\",\"extra\":1}\n",
		"{\"command\":\"disconnect\"}\n",
		"{\"command\":\"disconnect\",\"id\":1,\"export\":\"a\"}\n",
		"{\"command\":\"disconnect\",\"id\":-1}\n",
		"{\"command\":\"disconnect\",\"id\":1.5}\n",
		"{\"command\":\"disconnect\",\"id\":\"1\"}\n",
		"{\"command\":\"disconnect\",\"id\":18446744073709551616}\n",
		"{\"command\":\"disconnect\",\"id\":1,\"id\":2}\n",
		"{\"command\":\"release\"}\n",
		"{\"command\":\"release\",\"export\":\"a\",\"id\":1}\n",
		"{\"command\":\"release\",\"export\":null}\n",
		"{\"command\":\"release\",\"export\":\"a\\u0000b\"}\n",
		"{\"command\":\"release\",\"export\":[\"a\"]}\n",
		"{\"command\":[[[[[[[[1,2,3,4,5,6,7,8,9,10,11]]]]]]]]}\n",
		"{\"command\":\"reload\"} {\"command\":\"reload\"}\n",
	};
	_cleanup_close_ int fd = -1;

	CHECK_EQ(begin(), 0);
	fd = dial();
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		if (!is_refusal(ask(fd, requests[i])))
			printf("# %s", requests[i]);
		CHECK(is_refusal(answer));
		CHECK_STR(called, "");
	}
	CHECK_STR(ask(fd, "{\"command\":\"reload\"}\n"), "{\"ok\":true}\n");
	end();
}

TEST(longest_name_of_the_protocol_fits_however_it_is_written)
{
	static char request[CONTROL_REQUEST_MAX + 1], name[4096 + 1];
	_cleanup_close_ int fd = -1;
	size_t used;

	CHECK_EQ(begin(), 0);
	fd = dial();
	used = (size_t)sprintf(request, "{\"command\":\"release\",\"export\":\"");
	for (int i = 0; i < 4096; i++)
		used += (size_t)sprintf(request + used, "\\u0061");
	sprintf(request + used, "\"}\n");
	memset(name, 'a', 4096);
	CHECK_STR(ask(fd, request), "{\"ok\":true}\n");
	CHECK_STR(called + strlen("release "), name);
	sprintf(request + used, "a\"}\n");
	CHECK(is_refusal(ask(fd, request)));
	end();
}

TEST(requests_in_pieces_and_in_heaps_are_answered_in_order)
{
	static const char one[] = "{\"command\":\"reload\"}\n";
	_cleanup_close_ int fd = -1;

	CHECK_EQ(begin(), 0);
	fd = dial();
	for (size_t i = 0; i < sizeof(one) - 1; i++) {
		CHECK_EQ(send(fd, one + i, 1, 0), 1);
		pump();
	}
	CHECK(pump_read(fd, answer, sizeof(answer), true) > 0);
	CHECK_STR(answer, "{\"ok\":true}\n");
	CHECK_EQ(pump_send(fd, "{\"command\":\"reload\"}\nx\n{\"command\":\"release\",\"export\":"
			       "\"z\"}\n"),
		 0);
	CHECK_EQ(shutdown(fd, SHUT_WR), 0); /* and then the end */
	CHECK(pump_read(fd, answer, sizeof(answer), false) > 0);
	CHECK(strncmp(answer, "{\"ok\":true}\n{\"ok\":false,", 24) == 0);
	CHECK(strstr(answer, "}\n{\"ok\":true}\n"));
	CHECK_STR(called, "release z");
	end();
}

TEST(request_without_an_end_is_refused_at_its_limit)
{
	static char much[CONTROL_REQUEST_MAX + 100];
	_cleanup_close_ int fd = -1;

	CHECK_EQ(begin(), 0);
	fd = dial();
	memset(much, ' ', sizeof(much) - 1);
	CHECK_EQ(pump_send(fd, much), 0);
	CHECK(pump_read(fd, answer, sizeof(answer), false) > 0); /* to the connection's end */
	CHECK(is_refusal(answer));
	end();
}

/* ---- clients that do not play along -------------------------------------------------------- */

TEST(silent_client_is_dropped_after_its_time)
{
	_cleanup_close_ int fd = -1;

	CHECK_EQ(begin(), 0);
	CHECK(control_deadline(control) == CLOCK_NEVER);
	fd = dial();
	pump();
	CHECK(control_deadline(control) == pump_now_ns + CONTROL_TIMEOUT_S * CLOCK_NS_PER_S);
	pump_now_ns += 9 * CLOCK_NS_PER_S;
	CHECK(!pump_is_closed(fd));
	CHECK_STR(ask(fd, "{\"command\":\"reload\"}\n"), "{\"ok\":true}\n");
	pump_now_ns += 9 * CLOCK_NS_PER_S;
	CHECK(!pump_is_closed(fd));
	pump_now_ns += 1 * CLOCK_NS_PER_S;
	CHECK(pump_is_closed(fd));
	CHECK(control_deadline(control) == CLOCK_NEVER);
	end();
}

TEST(slowest_of_too_many_clients_goes)
{
	int fd[SERVICE_CONNS + 1];

	CHECK_EQ(begin(), 0);
	for (int i = 0; i <= SERVICE_CONNS; i++) {
		pump_now_ns++;
		fd[i] = dial();
		pump();
	}
	CHECK(pump_is_closed(fd[0]));
	CHECK(!pump_is_closed(fd[1]));
	CHECK_STR(ask(fd[SERVICE_CONNS], "{\"command\":\"reload\"}\n"), "{\"ok\":true}\n");
	for (int i = 0; i <= SERVICE_CONNS; i++)
		close(fd[i]);
	end();
}

TEST(client_that_does_not_read_delays_nobody_and_is_dropped)
{
	_cleanup_close_ int deaf = -1, fd = -1;

	CHECK_EQ(begin(), 0);
	deaf = dial();
	CHECK_EQ(pump_send(deaf, "{\"command\":\"clients\"}\n{\"command\":\"clients\"}\n"), 0);
	for (int i = 0; i < 5; i++)
		pump();
	fd = dial();
	CHECK_STR(ask(fd, "{\"command\":\"reload\"}\n"), "{\"ok\":true}\n");
	pump_now_ns += CONTROL_TIMEOUT_S * CLOCK_NS_PER_S;
	CHECK(pump_is_closed(deaf));
	end();
}

TEST(client_that_reads_late_gets_all_of_a_long_answer)
{
	_cleanup_close_ int fd = -1;

	CHECK_EQ(begin(), 0);
	fd = dial();
	CHECK_EQ(pump_send(fd, "{\"command\":\"clients\"}\n"), 0);
	for (int i = 0; i < 5; i++)
		pump();
	CHECK(pump_read(fd, answer, sizeof(answer), true) > MANY_CLIENTS * 100);
	CHECK(strstr(answer, "{\"id\":4999,"));
	end();
}

TEST(answers_that_nobody_reads_have_a_limit_together)
{
	static struct service s;

	service_init(&s, -1);
	CHECK(service_has_room(&s, SERVICE_REPLIES_MAX));
	CHECK(!service_has_room(&s, (size_t)SERVICE_REPLIES_MAX + 1));
	s.conns[3].out_size = 100;
	CHECK(service_has_room(&s, SERVICE_REPLIES_MAX - 100));
	CHECK(!service_has_room(&s, SERVICE_REPLIES_MAX - 99));
}

TEST(want_of_descriptors_is_a_pause_and_not_a_busy_loop)
{
	struct rlimit limit, none_left;
	struct pollfd pfd[SERVICE_POLL_MAX];
	_cleanup_close_ int fd = -1;

	CHECK_EQ(begin(), 0);
	fd = dial();
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none_left = limit;
	none_left.rlim_cur = (rlim_t)fd + 1;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none_left), 0);
	control_poll(control, pfd);
	pfd[0].revents = POLLIN;
	(void)!control_handle(control, pfd, pump_now_ns);
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	control_poll(control, pfd);
	CHECK_EQ(pfd[0].fd, -1);
	CHECK(control_deadline(control) == pump_now_ns + 100 * CLOCK_NS_PER_MS);
	pump_now_ns += 100 * CLOCK_NS_PER_MS;
	CHECK_STR(ask(fd, "{\"command\":\"reload\"}\n"), "{\"ok\":true}\n");
	end();
}

TEST(process_of_another_user_is_refused)
{
	char byte;
	int status;
	pid_t pid;

	CHECK_EQ(begin(), 0);
	if (geteuid() != 0) {
		puts("# not root, so nobody else can be played");
		end();
		return;
	}
	/* the file's mode is the first guard, this is the second */
	CHECK_EQ(chmod(path, 0666), 0);
	CHECK_EQ(chmod(folder, 0755), 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		int fd = setuid(65534) == 0 ? dial() : -1;

		if (fd < 0)
			_exit(2);
		(void)pump_send(fd, "{\"command\":\"reload\"}\n");
		_exit(recv(fd, &byte, 1, 0) == 1);
	}
	while (waitpid(pid, &status, WNOHANG) == 0)
		pump();
	CHECK_EQ(status, 0);
	CHECK_STR(called, "");
	end();
}

/* ---- the place ----------------------------------------------------------------------------- */

TEST(server_that_was_killed_leaves_nothing_in_the_way)
{
	char err[CONTROL_ERROR_MAX];
	pid_t pid;

	CHECK_EQ(begin(), 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(0); /* as a kill: nothing is removed */
	waitpid(pid, NULL, 0);
	control_close(control);
	control = NULL;
	pid = fork();
	if (pid == 0) {
		_exit(control_open(path, false, &ops, NULL, err) ? 0 : 1);
	}
	waitpid(pid, NULL, 0);
	CHECK_EQ(access(path, F_OK), 0);
	control = control_open(path, false, &ops, NULL, err);
	CHECK(control != NULL);
	end();
}

TEST(place_of_a_server_that_lives_is_taken_only_in_a_take_over)
{
	struct control *first, *second;
	char err[CONTROL_ERROR_MAX];

	CHECK_EQ(begin(), 0);
	first = control;
	CHECK(!control_open(path, false, &ops, NULL, err));
	CHECK(strstr(err, "another server listens there"));
	second = control_open(path, true, &ops, NULL, err);
	CHECK(second != NULL);
	control_close(first); /* must not take the successor's file away */
	CHECK_EQ(access(path, F_OK), 0);
	control = second;
	end();
}

TEST(what_is_not_a_socket_is_left_alone)
{
	char err[CONTROL_ERROR_MAX], file[128];
	int fd;

	CHECK_EQ(begin(), 0);
	snprintf(file, sizeof(file), "%s/file", folder);
	fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	close(fd);
	CHECK(!control_open(file, true, &ops, NULL, err));
	CHECK(strstr(err, "something else of that name"));
	CHECK_EQ(unlink(file), 0);
	end();
}

TEST(impossible_paths_are_refused_with_the_reason)
{
	char err[CONTROL_ERROR_MAX], much[200];

	memset(much, 'x', sizeof(much) - 1);
	much[sizeof(much) - 1] = '\0';
	CHECK(!control_open(much, false, &ops, NULL, err));
	CHECK(strstr(err, "107 bytes"));
	CHECK(!control_open("", false, &ops, NULL, err));
	CHECK(!control_open("/nonexistent/folder/control", false, &ops, NULL, err));
	CHECK(strstr(err, "No such file"));
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A server gives its listening sockets to its successor: two processes, real sockets, and false
 * predecessors that send nonsense.
 */
#include "base/clock.h"
#include "base/log.h"
#include "server-tools/nbdserve/control.h"
#include "tests/unit/tap.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

static struct control *control;
static char folder[64], path[96];
static bool fails;
static int listening[CONTROL_FDS_MAX];
static size_t n_listening;
static uint64_t now_ns = CLOCK_NS_PER_S;
static int handled; /* what control_handle() returned last */

static int fake_handover(void *ctx, int fds[static CONTROL_FDS_MAX], size_t *count, char *err)
{
	(void)ctx;
	if (fails) {
		snprintf(err, CONTROL_ERROR_MAX, "not today");
		return -1;
	}
	memcpy(fds, listening, n_listening * sizeof(int));
	*count = n_listening;
	return 0;
}

static const struct control_ops ops = { .handover = fake_handover };

static void pump(void)
{
	struct pollfd pfd[SERVICE_POLL_MAX];
	size_t n = control_poll(control, pfd);

	if (poll(pfd, n, 5) >= 0)
		handled = control_handle(control, pfd, now_ns);
}

/* A server in a folder of its own. 0 or -1. */
static int begin(void)
{
	char err[CONTROL_ERROR_MAX];

	log_init("test-takeover");
	fails = false;
	n_listening = 0;
	strcpy(folder, "/tmp/test-takeover.XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/control", folder);
	control = control_open(path, false, &ops, NULL, err);
	return control ? 0 : -1;
}

static void end(void)
{
	control_close(control);
	control = NULL;
	(void)rmdir(folder);
}

static int listen_somewhere(struct sockaddr_in *at)
{
	socklen_t size = sizeof(*at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	*at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	if (bind(fd, (struct sockaddr *)at, sizeof(*at)) < 0 || listen(fd, 5) < 0 ||
	    getsockname(fd, (struct sockaddr *)at, &size) < 0)
		return -1;
	return fd;
}

/* The old server as a process: hands over once and goes when a byte comes. Exit 0: told once. */
static pid_t run_old_server(int go)
{
	int told = 0;
	char byte;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid != 0)
		return pid;
	while (recv(go, &byte, 1, MSG_DONTWAIT) != 1) {
		pump();
		told += handled == CONTROL_HANDED_OVER;
		now_ns += CLOCK_NS_PER_S; /* no deadline for a successor */
	}
	control_close(control);
	_exit(told == 1 ? 0 : 1);
}

TEST(listening_sockets_go_to_a_successor_that_sees_the_end)
{
	char err[CONTROL_ERROR_MAX] = "";
	struct sockaddr_in at;
	int fds[CONTROL_FDS_MAX], link = -1, go[2], status, client;
	struct pollfd pfd;
	size_t count = 0;
	pid_t pid;

	CHECK_EQ(begin(), 0);
	listening[0] = listen_somewhere(&at);
	listening[1] = listen_somewhere(&at);
	n_listening = 2;
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, go), 0);
	pid = run_old_server(go[1]);
	close(listening[0]);
	close(listening[1]);
	CHECK_EQ(control_take_over(path, fds, &count, &link, err), 0);
	CHECK_EQ(count, 2);
	/* the second one is where a client now comes in */
	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_EQ(connect(client, (struct sockaddr *)&at, sizeof(at)), 0);
	CHECK(accept(fds[1], NULL, NULL) >= 0);
	CHECK(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
	pfd = (struct pollfd){ .fd = link, .events = POLLIN };
	CHECK_EQ(poll(&pfd, 1, 100), 0); /* the old server lives */
	CHECK_EQ(send(go[0], "x", 1, 0), 1);
	CHECK_EQ(poll(&pfd, 1, 10000), 1); /* and is gone */
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	close(link);
	close(client);
	end();
}

TEST(refused_take_over_says_why)
{
	char err[CONTROL_ERROR_MAX] = "";
	int fds[CONTROL_FDS_MAX], link, go[2];
	size_t count;
	pid_t pid;

	CHECK_EQ(begin(), 0);
	fails = true;
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, go), 0);
	pid = run_old_server(go[1]);
	CHECK_EQ(control_take_over(path, fds, &count, &link, err), -1);
	CHECK(strstr(err, "not today"));
	CHECK_EQ(send(go[0], "x", 1, 0), 1);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	/* its process is gone, and the socket's file with it */
	CHECK_EQ(control_take_over(path, fds, &count, &link, err), CONTROL_E_NOBODY);
	CHECK(strstr(err, "cannot connect"));
	end();
}

/* A peer on the control path that is not nbdserve, and sends this with a descriptor. */
static int take_over_from(const char *text, int fd_to_send)
{
	char err[CONTROL_ERROR_MAX], byte;
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fds[CONTROL_FDS_MAX], link, r, listener = socket(AF_UNIX, SOCK_STREAM, 0);
	size_t count;
	pid_t pid;

	snprintf(un.sun_path, sizeof(un.sun_path), "%.90s.other", path);
	if (bind(listener, (struct sockaddr *)&un, sizeof(un)) < 0 || listen(listener, 1) < 0)
		return -2;
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		union {
			char bytes[CMSG_SPACE(sizeof(int))];
			struct cmsghdr aligned;
		} control_data = { 0 };
		struct iovec iov = { (char *)text, strlen(text) };
		struct msghdr msg = { .msg_iov = &iov,
				      .msg_iovlen = 1,
				      .msg_control = control_data.bytes,
				      .msg_controllen = sizeof(control_data.bytes) };
		int fd = accept(listener, NULL, NULL);

		control_data.aligned.cmsg_level = SOL_SOCKET;
		control_data.aligned.cmsg_type = SCM_RIGHTS;
		control_data.aligned.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control_data.aligned), &fd_to_send, sizeof(int));
		(void)!read(fd, &byte, 1);
		_exit(sendmsg(fd, &msg, MSG_NOSIGNAL) < 0);
	}
	r = control_take_over(un.sun_path, fds, &count, &link, err);
	waitpid(pid, NULL, 0);
	close(listener);
	unlink(un.sun_path);
	return r;
}

/* Descriptors that are open in this process. */
static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

TEST(nonsense_of_a_false_predecessor_is_refused_and_leaks_nothing)
{
	static char much[5000];
	static const char *const texts[] = {
		"hello\n",
		"{\"ok\":true}\n",
		"{\"ok\":true,\"sockets\":2}\n",
		"{\"ok\":true,\"sockets\":0}\n",
		"{\"ok\":true,\"sockets\":1",
		"{\"ok\":false,\"sockets\":1}\n",
		"[1]\n",
		much,
	};
	int before;

	memset(much, ' ', sizeof(much) - 1);
	CHECK_EQ(begin(), 0);
	before = count_fds();
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		CHECK_EQ(take_over_from(texts[i], STDERR_FILENO), -1);
		CHECK_EQ(count_fds(), before);
	}
	end();
}

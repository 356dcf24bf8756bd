/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The service manager's side of the protocols: a real datagram socket that hears what it is
 * told, and descriptors as it would have left them for us.
 */
#include "tests/unit/tap.h"

#include "base/log.h"
#include "base/notify.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

static int manager_fd = -1;
static char name[64];

/* Listens under a path or an abstract name, and puts it where the manager would. */
static int listen_as(int is_abstract)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	size_t size;

	if (manager_fd >= 0)
		close(manager_fd);
	log_set_fd(-1, 0);
	snprintf(name, sizeof(name), "%stmp/nbdroot-notify-%d", is_abstract ? "@" : "/",
		 (int)getpid());
	size = strlen(name);
	memcpy(un.sun_path, name, size);
	if (is_abstract)
		un.sun_path[0] = '\0';
	else
		unlink(name);
	/* not at 3 and above, where the protocol wants sockets */
	manager_fd = fcntl(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0), F_DUPFD_CLOEXEC, 100);
	if (bind(manager_fd, (struct sockaddr *)&un,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size)) < 0)
		return -1;
	return setenv("NOTIFY_SOCKET", name, 1);
}

static void end(void)
{
	notify_deinit();
	if (name[0] == '/')
		unlink(name);
}

/* The next message, "" if there is none. */
static const char *heard(void)
{
	static char text[2048];
	ssize_t n = recv(manager_fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static int set_pid(const char *variable, long pid)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", pid);
	return setenv(variable, text, 1);
}

TEST(without_a_manager_nothing_happens)
{
	int first;

	unsetenv("NOTIFY_SOCKET");
	CHECK_EQ(notify_init(), 0);
	notify_ready("x");
	notify_watchdog();
	CHECK_EQ(notify_watchdog_ns(), 0);
	CHECK_EQ(notify_listen_fds(&first), 0);
	CHECK_STR(notify_listen_name(0), "");
	CHECK_STR(notify_listen_name(100000), "");
	end();
}

TEST(the_manager_is_told_what_goes_on)
{
	for (int is_abstract = 0; is_abstract <= 1; is_abstract++) {
		CHECK_EQ(listen_as(is_abstract), 0);
		CHECK_EQ(notify_init(), 0);
		CHECK(getenv("NOTIFY_SOCKET") == NULL);
		notify_ready("serving 3 exports");
		CHECK_STR(heard(), "READY=1\nSTATUS=serving 3 exports");
		notify_status("5 clients");
		CHECK_STR(heard(), "STATUS=5 clients");
		notify_stopping("finishing");
		CHECK_STR(heard(), "STOPPING=1\nSTATUS=finishing");
		notify_watchdog(); /* nobody asked for it */
		CHECK_STR(heard(), "");
		end();
	}
}

TEST(a_reload_says_since_when)
{
	struct timespec now;
	unsigned long long from, usec, to;

	CHECK_EQ(listen_as(0), 0);
	CHECK_EQ(notify_init(), 0);
	clock_gettime(CLOCK_MONOTONIC, &now);
	from = (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000;
	notify_reloading();
	clock_gettime(CLOCK_MONOTONIC, &now);
	to = (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000;
	CHECK_EQ(sscanf(heard(), "RELOADING=1\nMONOTONIC_USEC=%llu", &usec), 1);
	CHECK(usec >= from && usec <= to);
	end();
}

TEST(a_status_is_one_variable_of_one_line)
{
	char text[2000];

	CHECK_EQ(listen_as(0), 0);
	CHECK_EQ(notify_init(), 0);
	notify_status("a\nMAINPID=1");
	CHECK_STR(heard(), "STATUS=a");
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	notify_ready(text);
	CHECK(strncmp(heard(), "READY=1\nSTATUS=xxx", 18) == 0);
	end();
}

TEST(a_watchdog_is_fed_twice_as_often_as_it_asks)
{
	CHECK_EQ(listen_as(0), 0);
	setenv("WATCHDOG_USEC", "30000000", 1);
	set_pid("WATCHDOG_PID", getpid());
	CHECK_EQ(notify_init(), 0);
	CHECK_EQ(notify_watchdog_ns(), 15000000000);
	CHECK(getenv("WATCHDOG_USEC") == NULL && getenv("WATCHDOG_PID") == NULL);
	notify_watchdog();
	CHECK_STR(heard(), "WATCHDOG=1");
	end();
}

TEST(a_watchdog_of_another_process_or_without_sense_is_not_ours)
{
	CHECK_EQ(listen_as(0), 0);
	setenv("WATCHDOG_USEC", "30000000", 1);
	set_pid("WATCHDOG_PID", getppid());
	CHECK_EQ(notify_init(), 0);
	CHECK_EQ(notify_watchdog_ns(), 0);
	end();

	CHECK_EQ(listen_as(0), 0);
	setenv("WATCHDOG_USEC", "18446744073709551615", 1);
	CHECK_EQ(notify_init(), 0);
	CHECK_EQ(notify_watchdog_ns(), 0);
	end();
}

TEST(a_manager_that_cannot_be_reached_is_an_error_that_stops_nobody)
{
	char long_name[200];

	log_set_fd(-1, 0);
	setenv("NOTIFY_SOCKET", "/nowhere/notify", 1);
	CHECK_EQ(notify_init(), -ENOENT);
	notify_ready("x");
	end();
	setenv("NOTIFY_SOCKET", "vsock:2:1234", 1);
	CHECK_EQ(notify_init(), -EINVAL);
	end();
	memset(long_name, '/', sizeof(long_name));
	long_name[sizeof(long_name) - 1] = '\0';
	setenv("NOTIFY_SOCKET", long_name, 1);
	CHECK_EQ(notify_init(), -EINVAL);
	end();
}

/* ---- sockets ------------------------------------------------------------------------------ */

/* Opens so many descriptors at 3 and above, and closes the next one. */
static void leave_fds(int count)
{
	int null = fcntl(open("/dev/null", O_RDWR), F_DUPFD, 200);

	for (int i = 0; i < count; i++)
		dup2(null, 3 + i);
	close(3 + count);
	close(null);
}

TEST(sockets_of_the_manager_are_taken_with_their_names)
{
	int first;

	log_set_fd(-1, 0);
	leave_fds(3);
	setenv("LISTEN_FDS", "3", 1);
	set_pid("LISTEN_PID", getpid());
	setenv("LISTEN_FDNAMES", "nbd::control", 1);
	CHECK_EQ(notify_init(), 0);
	CHECK_EQ(notify_listen_fds(&first), 3);
	CHECK_EQ(first, 3);
	CHECK_STR(notify_listen_name(0), "nbd");
	CHECK_STR(notify_listen_name(1), "");
	CHECK_STR(notify_listen_name(2), "control");
	CHECK_STR(notify_listen_name(3), "");
	CHECK_EQ(fcntl(5, F_GETFD), FD_CLOEXEC);
	CHECK(!getenv("LISTEN_FDS") && !getenv("LISTEN_PID") && !getenv("LISTEN_FDNAMES"));
	end();
}

TEST(sockets_of_another_process_are_not_taken)
{
	int first;

	log_set_fd(-1, 0);
	leave_fds(1);
	setenv("LISTEN_FDS", "1", 1);
	set_pid("LISTEN_PID", getppid());
	CHECK_EQ(notify_init(), 0);
	CHECK_EQ(notify_listen_fds(&first), 0);
	end();
	setenv("LISTEN_FDS", "1", 1);
	CHECK_EQ(notify_init(), 0);
	CHECK_EQ(notify_listen_fds(&first), 0);
	end();
}

TEST(sockets_that_are_promised_but_not_open_are_not_believed)
{
	int first;

	log_set_fd(-1, 0);
	leave_fds(2);
	setenv("LISTEN_FDS", "3", 1);
	set_pid("LISTEN_PID", getpid());
	CHECK_EQ(notify_init(), 0);
	CHECK_EQ(notify_listen_fds(&first), 0);
	end();
	setenv("LISTEN_FDS", "-1", 1);
	set_pid("LISTEN_PID", getpid());
	CHECK_EQ(notify_init(), 0);
	CHECK_EQ(notify_listen_fds(&first), 0);
	end();
}

TEST(names_without_end_are_left_out)
{
	static char names[10000];
	int first;

	log_set_fd(-1, 0);
	leave_fds(1);
	memset(names, 'n', sizeof(names) - 1);
	setenv("LISTEN_FDS", "1", 1);
	set_pid("LISTEN_PID", getpid());
	setenv("LISTEN_FDNAMES", names, 1);
	CHECK_EQ(notify_init(), 0);
	CHECK_EQ(notify_listen_fds(&first), 1);
	CHECK_STR(notify_listen_name(0), "");
	end();
}

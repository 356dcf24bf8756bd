/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbdserve: exports files and block devices over the NBD protocol. This file is the command
 * line, becoming a daemon, and the loop that accepts; what happens to a connection is conn.c's.
 */
#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"
#include "conn.h"
#include "listen.h"

#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct options {
	struct config config;
	bool is_foreground;
	int ready_fd; /* -1: none */
};

static const char help[] =
	"Usage: nbdserve [OPTION]... --export NAME=PATH[,opt]...\n"
	"Exports files and block devices over the NBD protocol.\n"
	"\n"
	"  --export NAME=PATH[,opt]...  serve PATH as NAME (\"\" is the default export); opt is\n"
	"                               ro, durability=write|flush, allow=NETWORK[+NETWORK]...\n"
	"  --config FILE                read exports and addresses from FILE\n"
	"  --listen ADDR:PORT           listen there; [V6]:PORT, :PORT and ADDR alone work too\n"
	"                               (default: all addresses, port 10809)\n"
	"  --unix PATH                  listen on a unix socket\n"
	"  --foreground                 stay in the foreground, log to stderr\n"
	"  --ready-fd N                 write a newline to descriptor N when listening\n"
	"  --help                       show this and exit\n"
	"  --version                    show the version and exit\n"
	"\n"
	"--export, --listen and --unix may be given more than once. See nbdserve(8).\n";

/* ---- the command line --------------------------------------------------------------------- */

static int usage_error(const char *text)
{
	log_error("%s; see nbdserve --help", text);
	return EXIT_USAGE;
}

/* Returns -1 to go on, or an exit status. */
static int parse_options(int argc, char **argv, struct options *o)
{
	enum { CONFIG = 256, LISTEN, UNIX, EXPORT, FOREGROUND, READY_FD, HELP, VERSION };
	static const struct option known[] = {
		{ "config", required_argument, NULL, CONFIG },
		{ "listen", required_argument, NULL, LISTEN },
		{ "unix", required_argument, NULL, UNIX },
		{ "export", required_argument, NULL, EXPORT },
		{ "foreground", no_argument, NULL, FOREGROUND },
		{ "ready-fd", required_argument, NULL, READY_FD },
		{ "help", no_argument, NULL, HELP },
		{ "version", no_argument, NULL, VERSION },
		{ 0 },
	};
	char err[CONFIG_ERROR_MAX];
	uint64_t number;
	int option, r;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		r = 0;
		switch (option) {
		case CONFIG:
			if (config_load(&o->config, optarg, err) < 0) {
				log_error("%s", err);
				return EXIT_FAILED;
			}
			break;
		case LISTEN: r = config_add_listen(&o->config, optarg, err); break;
		case UNIX: r = config_add_unix(&o->config, optarg, err); break;
		case EXPORT: r = config_add_export(&o->config, optarg, err); break;
		case FOREGROUND: o->is_foreground = true; break;
		case READY_FD:
			if (parse_u64(optarg, INT32_MAX, &number) < 0 ||
			    fcntl((int)number, F_GETFD) < 0)
				return usage_error("--ready-fd must be the number of an open "
						   "descriptor");
			o->ready_fd = (int)number;
			break;
		case HELP: fputs(help, stdout); return EXIT_DONE;
		case VERSION: puts("nbdserve " NBDROOT_VERSION); return EXIT_DONE;
		default:
			snprintf(err, sizeof(err), "unknown option or missing value: %s",
				 argv[optind - 1]);
			return usage_error(err);
		}
		if (r < 0)
			return usage_error(err);
	}
	if (optind < argc) {
		snprintf(err, sizeof(err),
			 "what is \"%.100s\"? every argument belongs to an option", argv[optind]);
		return usage_error(err);
	}
	if (config_check(&o->config, err) < 0)
		return usage_error(err);
	return -1;
}

/* ---- becoming a daemon -------------------------------------------------------------------- */

/*
 * Returns the descriptor on which the child reports that it is ready; the parent waits for that
 * and never returns. Must come before any thread.
 */
static int daemon_begin(void)
{
	int report[2], status;
	pid_t pid;
	char byte;

	if (pipe2(report, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		log_error("cannot become a daemon: %s", strerror(errno));
		exit(EXIT_FAILED);
	}
	if (pid == 0) {
		close(report[0]);
		setsid();
		return report[1];
	}
	close(report[1]);
	if (fd_read_all(report[0], &byte, 1) == 0)
		_exit(EXIT_DONE);
	/* The child said on stderr what is wrong, unless a signal ended it. */
	if (waitpid(pid, &status, 0) == pid && WIFSIGNALED(status))
		log_error("the daemon was killed by signal %d while it started", WTERMSIG(status));
	_exit(EXIT_FAILED);
}

/*
 * The system log takes datagrams of the form "<priority>text" (RFC 3164, section 4.3.3), which
 * is what log_set_fd() makes for a kernel log. Not blocking: a stuck syslogd stops no disk.
 */
static int syslog_socket(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0)
		return -1;
	return steal_fd(&fd);
}

/* Lets go of the terminal and of the parent, which may be waiting for the end of its pipe. */
static void daemon_end(int report)
{
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int log_fd = syslog_socket();

	if (chdir("/") < 0)
		log_warn("cannot change to /: %s", strerror(errno));
	if (log_fd >= 0)
		log_set_fd(log_fd, 1);
	else
		log_warn("there is no system log at /dev/log, so nothing more will be logged (use "
			 "--foreground and keep its stderr)");
	if (fd_write_all(report, "\n", 1) < 0)
		log_warn("the process that started the daemon is gone");
	close(report);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
	}
}

/* ---- serving ------------------------------------------------------------------------------ */

static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warn("cannot raise the limit on open files: %s", strerror(errno));
}

/* A descriptor that is readable when we are told to stop. Before any thread, which inherits it. */
static int stop_signals(bool is_foreground)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	if (!is_foreground)
		signal(SIGHUP, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static void accept_all(struct server *sv, int listener)
{
	int fd;

	while ((fd = listen_accept(listener)) >= 0)
		server_add(sv, fd);
	if (fd == -EAGAIN)
		return;
	/* Most likely no descriptor is left: poll() would report the same at once, for ever. */
	log_warn("cannot accept a client: %s (%s)", strerror(-fd),
		 server_drop_oldest(sv) ? "dropping the client that has been negotiating longest"
					: "trying again");
	nanosleep(&(struct timespec){ .tv_nsec = 100 * 1000 * 1000 }, NULL);
}

static void accept_until_told(struct server *sv, const struct listeners *l, int signals)
{
	struct pollfd pfd[LISTEN_MAX + 1];

	for (size_t i = 0; i < l->count; i++)
		pfd[i] = (struct pollfd){ .fd = l->fd[i], .events = POLLIN };
	pfd[l->count] = (struct pollfd){ .fd = signals, .events = POLLIN };
	for (;;) {
		if (poll(pfd, l->count + 1, -1) < 0)
			continue; /* EINTR */
		if (pfd[l->count].revents)
			return;
		for (size_t i = 0; i < l->count; i++)
			if (pfd[i].revents)
				accept_all(sv, l->fd[i]);
	}
}

static int serve(struct options *o)
{
	struct exports exports;
	struct listeners listeners = { 0 };
	struct server server;
	int report = -1, signals;

	if (!o->is_foreground)
		report = daemon_begin();
	raise_file_limit();
	/* Large payloads go back to the system when they are done, whatever sizes came before. */
	mallopt(M_MMAP_THRESHOLD, 1024 * 1024);
	signals = stop_signals(o->is_foreground);
	if (signals < 0) {
		log_error("cannot watch for signals: %s", strerror(errno));
		return EXIT_FAILED;
	}
	if (exports_open(&exports, &o->config) < 0 || listen_open(&listeners, &o->config) < 0) {
		listen_close(&listeners);
		exports_close(&exports);
		return EXIT_FAILED;
	}
	if (o->ready_fd >= 0) {
		if (fd_write_all(o->ready_fd, "\n", 1) < 0)
			log_warn("nobody reads descriptor %d, where readiness is told",
				 o->ready_fd);
		close(o->ready_fd);
	}
	if (report >= 0)
		daemon_end(report);

	server_init(&server, &exports);
	accept_until_told(&server, &listeners, signals);
	log_info("told to stop: requests in flight are finished first");
	listen_close(&listeners);
	if (!server_stop(&server)) {
		/* Their threads still use all of this; what they write was never acknowledged. */
		log_warn("some requests had not ended after %d s; stopping anyway", CONN_STOP_S);
		_exit(EXIT_DONE);
	}
	exports_close(&exports);
	close(signals);
	return EXIT_DONE;
}

int main(int argc, char **argv)
{
	struct options o = { .ready_fd = -1 };
	int status;

	log_init("nbdserve");
	status = parse_options(argc, argv, &o);
	if (status < 0)
		status = serve(&o);
	config_deinit(&o.config);
	return status;
}

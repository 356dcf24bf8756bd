/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See operate.h. */
#include "operate.h"

#include "control.h"
#include "daemon.h"
#include "listen.h"
#include "metrics.h"
#include "sandbox.h"
#include "server.h"
#include "snapshot.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/notify.h"

#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

/* How long clients of a removed export may take to leave before its image is opened anew. */
#define RELOAD_WAIT_NS (2 * CLOCK_NS_PER_S)

/* Clients that are accepted before something else has its turn. */
enum { ACCEPT_MAX = 64 };

/* A task that each loop runs now and then, to show that it still does. */
struct ping {
	struct task task;
	atomic_bool is_back;
};

struct operation {
	struct options *o;
	struct exports exports;
	struct server server;
	struct listeners listeners;
	struct control *control;
	struct metrics *metrics;
	int signals;
	time_t started;
	uint64_t watchdog_ns; /* when the service manager is told next */
	struct ping pings[CONFIG_THREADS_MAX];
	bool is_handed_over;
};

/* ---- what an operator may ask for --------------------------------------------------------- */

static int on_report(void *ctx, struct report *out)
{
	struct operation *op = ctx;

	return snapshot_take(&op->server, op->started, op->is_handed_over, out);
}

static int on_disconnect(void *ctx, uint64_t id, char *err)
{
	struct operation *op = ctx;

	if (server_disconnect(&op->server, id, "an administrator disconnected it") > 0)
		return 0;
	snprintf(err, CONTROL_ERROR_MAX, "there is no client with the number %llu",
		 (unsigned long long)id);
	return -1;
}

static struct served *find(struct operation *op, const char *name, char *err)
{
	bool is_pattern;
	struct served *s = exports_find(&op->exports, name, strlen(name), &is_pattern);

	if (!s)
		snprintf(err, CONTROL_ERROR_MAX, "there is no export \"%.100s\"%s", name,
			 is_pattern ? " in use" : "");
	return s;
}

static int on_disconnect_export(void *ctx, const char *name, size_t *count, char *err)
{
	struct operation *op = ctx;
	struct served *s = find(op, name, err);

	if (!s)
		return -1;
	*count = server_disconnect_export(&op->server, s, "an administrator disconnected it");
	served_put(s);
	return 0;
}

static int on_release(void *ctx, const char *name, char *err)
{
	struct operation *op = ctx;
	struct served *s = find(op, name, err);

	if (!s)
		return -1;
	log_warn("export \"%s\": released by an administrator%s", s->config.name,
		 commit_error(&s->commit) < 0 ? "; writes are accepted again" : "");
	server_disconnect_export(&op->server, s, "an administrator released the export");
	commit_clear_error(&s->commit);
	served_put(s);
	return 0;
}

static int on_reload(void *ctx, char *err)
{
	struct operation *op = ctx;
	struct options fresh = { .ready_fd = -1 };
	struct served *removed, *next;
	int r;

	notify_reloading();
	if (options_parse(&fresh, op->o->argc, op->o->argv, err) >= 0) {
		log_error("cannot reload: %s (going on as before)", err);
		options_deinit(&fresh);
		notify_ready("serving; the last reload failed");
		return -1;
	}
	exports_reload_keep(&op->exports, &fresh.config, &removed);
	for (; removed; removed = next) {
		next = removed->next_by_name;
		server_disconnect_export(&op->server, removed, "the export was removed or changed");
		served_put(removed);
	}
	r = exports_reload_open(&op->exports, &fresh.config, clock_now_ns() + RELOAD_WAIT_NS, err);
	options_deinit(&fresh);
	if (r < 0)
		log_warn("reloaded, but not all exports could be opened: %s", err);
	else
		log_info("reloaded");
	notify_ready("serving");
	return r;
}

static int on_handover(void *ctx, int fds[static CONTROL_FDS_MAX], size_t *count, char *err)
{
	struct operation *op = ctx;

	(void)err;
	_Static_assert((int)LISTEN_MAX <= (int)CONTROL_FDS_MAX, "all sockets can be given");
	memcpy(fds, op->listeners.fd, op->listeners.count * sizeof(*fds));
	*count = op->listeners.count;
	return 0;
}

static const struct control_ops control_ops = {
	.report = on_report,
	.disconnect = on_disconnect,
	.disconnect_export = on_disconnect_export,
	.release = on_release,
	.reload = on_reload,
	.handover = on_handover,
};

/* ---- start -------------------------------------------------------------------------------- */

static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warn("cannot raise the limit on open files: %s", strerror(errno));
}

/* A descriptor that is readable when we are told something. Before any thread inherits it. */
static int open_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static int adopt(struct listeners *l, const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (listen_adopt(l, fds[i]) < 0)
			return -1;
	return 0;
}

/*
 * The sockets of the server before us, when we take over; those that a service manager has
 * opened; else those of the configuration.
 */
static int open_listeners(struct operation *op, const int *fds, size_t n)
{
	int first;

	if (n > 0)
		return adopt(&op->listeners, fds, n);
	n = notify_listen_fds(&first);
	for (size_t i = 0; i < n; i++)
		if (listen_adopt(&op->listeners, first + (int)i) < 0)
			return -1;
	return n > 0 ? 0 : listen_open(&op->listeners, &op->o->config);
}

/* The old server ends its clients' requests and lets go of the images. */
static void await_end(int link, size_t n)
{
	struct pollfd pfd = { .fd = link, .events = POLLIN };

	log_info("took %zu listening socket%s over; waiting for the old server to end its clients' "
		 "requests",
		 n, n == 1 ? "" : "s");
	if (poll(&pfd, 1, (SERVER_STOP_S + 5) * 1000) <= 0)
		log_warn("the old server has not ended");
}

static int take_over(struct operation *op, int fds[static CONTROL_FDS_MAX], size_t *n, int *link)
{
	char err[CONTROL_ERROR_MAX];
	int r;

	if (!op->o->config.control) {
		log_error("--take-over needs --control PATH, where the present server is asked");
		return -1;
	}
	r = control_take_over(op->o->config.control, fds, n, link, err);
	if (r < 0) {
		log_error("%s", err);
		return -1;
	}
	if (r == CONTROL_E_NOBODY)
		log_info("there is no server to take over from; starting anew");
	else
		await_end(*link, *n);
	return 0;
}

/* Everything that needs a path or a privilege. 0 or -1, logged. */
static int open_all(struct operation *op)
{
	const struct config *c = &op->o->config;
	int fds[CONTROL_FDS_MAX];
	_cleanup_close_ int link = -1;
	char err[CONTROL_ERROR_MAX];
	size_t n = 0;

	if (server_init(&op->server, &op->exports, c) < 0)
		return -1;
	/* First everything that can be seen to fail: afterwards there is no other server. */
	if (op->o->is_takeover && (exports_check(c) < 0 || take_over(op, fds, &n, &link) < 0))
		return -1;
	if (exports_open(&op->exports, c, op->server.n_loops, n > 0) < 0 ||
	    open_listeners(op, fds, n) < 0)
		return -1;
	if (c->control) {
		op->control = control_open(c->control, n > 0, &control_ops, op, err);
		if (!op->control) {
			log_error("%s", err);
			return -1;
		}
	}
	if (c->metrics) {
		op->metrics = metrics_open(c->metrics, on_report, op, err);
		if (!op->metrics) {
			log_error("%s", err);
			return -1;
		}
		log_info("figures for Prometheus at http://%s/metrics",
			 metrics_address(op->metrics));
	}
	return 0;
}

/* ---- the main loop ------------------------------------------------------------------------ */

static void accept_all(struct server *sv, int listener)
{
	int fd = 0;

	/* No more than that, for others want something of this thread too. */
	for (unsigned i = 0; i < ACCEPT_MAX && fd >= 0; i++) {
		fd = listen_accept(listener);
		if (fd >= 0)
			server_add(sv, fd);
	}
	if (fd >= 0 || fd == -EAGAIN)
		return;
	/* Most likely no descriptor is left: poll() would report the same at once, for ever. */
	log_warn("cannot accept a client: %s (%s)", strerror(-fd),
		 server_drop_oldest(sv) ? "dropping the client that has been negotiating longest"
					: "trying again");
	nanosleep(&(struct timespec){ .tv_nsec = 2 * 1000 * 1000 }, NULL);
}

static void on_ping(struct task *t)
{
	atomic_store(&((struct ping *)t)->is_back, true);
}

/* Tells the service manager that we live, when every loop does. */
static void watch_loops(struct operation *op, uint64_t now)
{
	uint64_t interval_ns = notify_watchdog_ns();
	bool all_are_back = true;

	if (interval_ns == 0 || now < op->watchdog_ns)
		return;
	op->watchdog_ns = now + interval_ns;
	for (unsigned i = 0; i < op->server.n_loops; i++)
		all_are_back &= atomic_load(&op->pings[i].is_back);
	if (!all_are_back)
		return;
	notify_watchdog();
	for (unsigned i = 0; i < op->server.n_loops; i++) {
		atomic_store(&op->pings[i].is_back, false);
		op->pings[i].task.run = on_ping;
		loop_post(&op->server.loops[i], &op->pings[i].task);
	}
}

/* Returns whether to stop. */
static bool on_signal(struct operation *op)
{
	struct signalfd_siginfo info;
	char err[CONFIG_ERROR_MAX];

	if (read(op->signals, &info, sizeof(info)) != sizeof(info))
		return false;
	if (info.ssi_signo != SIGHUP)
		return true;
	(void)!on_reload(op, err); /* it has said what is wrong */
	return false;
}

static uint64_t earliest(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void run(struct operation *op)
{
	enum { POLL_MAX = 1 + LISTEN_MAX + 2 * SERVICE_POLL_MAX };
	struct pollfd pfd[POLL_MAX];

	for (unsigned i = 0; i < op->server.n_loops; i++)
		atomic_store(&op->pings[i].is_back, true);
	for (;;) {
		uint64_t now = clock_now_ns(), deadline_ns = CLOCK_NEVER;
		size_t n = 0, control_at, metrics_at;

		watch_loops(op, now);
		if (notify_watchdog_ns() > 0)
			deadline_ns = op->watchdog_ns;
		pfd[n++] = (struct pollfd){ .fd = op->signals, .events = POLLIN };
		for (size_t i = 0; i < op->listeners.count; i++)
			pfd[n++] = (struct pollfd){ .fd = op->listeners.fd[i], .events = POLLIN };
		control_at = n;
		if (op->control) {
			n += control_poll(op->control, pfd + n);
			deadline_ns = earliest(deadline_ns, control_deadline(op->control));
		}
		metrics_at = n;
		if (op->metrics) {
			n += metrics_poll(op->metrics, pfd + n);
			deadline_ns = earliest(deadline_ns, metrics_deadline(op->metrics));
		}
		if (poll(pfd, n, clock_poll_ms(now, deadline_ns)) < 0)
			continue; /* EINTR */
		if (pfd[0].revents && on_signal(op))
			return;
		for (size_t i = 0; i < op->listeners.count; i++)
			if (pfd[1 + i].revents)
				accept_all(&op->server, op->listeners.fd[i]);
		if (op->control && control_handle(op->control, pfd + control_at, clock_now_ns()) ==
					   CONTROL_HANDED_OVER) {
			op->is_handed_over = true;
			return;
		}
		if (op->metrics)
			metrics_handle(op->metrics, pfd + metrics_at, clock_now_ns());
	}
}

static int stop(struct operation *op)
{
	log_info("%s: requests in flight are finished first",
		 op->is_handed_over ? "a new server takes over" : "told to stop");
	notify_stopping(op->is_handed_over ? "handed over to a new server" : "stopping");
	listen_close(&op->listeners, op->is_handed_over);
	if (op->metrics)
		metrics_close(op->metrics);
	if (!server_stop(&op->server)) {
		/* Their threads still use all of this; what they write was never acknowledged. */
		log_warn("some requests had not ended after %d s; stopping anyway", SERVER_STOP_S);
		if (op->control)
			control_close(op->control);
		_exit(EXIT_DONE);
	}
	exports_close(&op->exports);
	if (op->control)
		control_close(op->control);
	close(op->signals);
	notify_deinit();
	return EXIT_DONE;
}

int operate(struct options *o)
{
	static struct operation op;
	struct daemon_log daemon_log = { -1, -1 };
	int report = -1;

	op = (struct operation){ .o = o, .started = time(NULL) };
	if (notify_init() < 0)
		log_warn("the service manager cannot be reached, so it will not know that the "
			 "server is ready");
	if (!o->is_foreground)
		report = daemon_begin();
	raise_file_limit();
	/* Large payloads go back to the system when they are done, whatever sizes came before. */
	mallopt(M_MMAP_THRESHOLD, 4 * 1024 * 1024);
	op.signals = open_signals();
	if (op.signals < 0) {
		log_error("cannot watch for signals: %s", strerror(errno));
		return EXIT_FAILED;
	}
	if (open_all(&op) < 0) {
		listen_close(&op.listeners, false);
		return EXIT_FAILED;
	}
	if (report >= 0)
		daemon_prepare(&daemon_log);
	if (sandbox_enter(&o->config, (const char *const *)o->config_paths, o->n_config_paths) <
		    0 ||
	    server_start(&op.server) < 0) {
		listen_close(&op.listeners, false);
		return EXIT_FAILED;
	}
	if (o->ready_fd >= 0) {
		if (fd_write_all(o->ready_fd, "\n", 1) < 0)
			log_warn("nobody reads descriptor %d, where readiness is told",
				 o->ready_fd);
		close(o->ready_fd);
	}
	if (report >= 0)
		daemon_end(report, &daemon_log);
	notify_ready("serving");
	run(&op);
	return stop(&op);
}

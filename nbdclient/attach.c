/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See attach.h. */
#include "attach.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/notify.h"
#include "client.h"
#include "guard.h"
#include "link.h"
#include "resident.h"
#include "whoami.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

enum {
	RESOLVE_AGAIN_MS = 1000, /* while a name cannot be resolved */
};

/* Large, and needed from beginning to end: not on the stack, not on a heap. */
static struct client client;

/* What an earlier instance has left of the device's status. */
static struct status before;

static struct {
	int ready_fd;  /* --ready-fd; -1 */
	int parent_fd; /* to the process that a person or init waits for; -1 in the foreground */
	int kmsg_fd;   /* -1: there is none */
} tell = { -1, -1, -1 };

/* The line where the policy changes: from here on this process stays, whatever happens. */
static void on_attached(struct client *c)
{
	const int fds[] = { tell.ready_fd, tell.parent_fd };

	(void)c;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		if (fds[i] < 0)
			continue;
		if (fd_write_all(fds[i], "\n", 1) < 0)
			log_debug("nobody waits for the readiness byte any more");
		close(fds[i]);
	}
	notify_ready("attached; nbdclient status tells more");
	notify_deinit();
	if (tell.parent_fd >= 0)
		resident_detach_stdio(tell.kmsg_fd >= 0 ? tell.kmsg_fd : STDERR_FILENO);
}

/* Waits for the child: 0 when it has attached, else the child's exit status. */
static int wait_for_child(pid_t child, int fd)
{
	char byte;
	int status;

	if (fd_read_all(fd, &byte, 1) == 0)
		return 0;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return 1;
	if (!WIFEXITED(status))
		log_error("it was killed by signal %d before it had attached", WTERMSIG(status));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static volatile sig_atomic_t background;

/* Who gives up on us means the one that attaches. If it has done that by now, it stays. */
static void pass_on(int number)
{
	(void)number;
	kill((pid_t)background, SIGTERM);
}

static void pass_on_signals(pid_t child)
{
	const struct sigaction action = { .sa_handler = pass_on, .sa_flags = SA_RESTART };

	background = child;
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
}

/* The parent stays until the device is attached; returns in the child only, or with -errno. */
static int go_to_background(int *exit_status)
{
	sigset_t stops, before_fork;
	int fds[2];
	pid_t child;

	*exit_status = -1;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	sigemptyset(&stops);
	sigaddset(&stops, SIGTERM);
	sigaddset(&stops, SIGINT);
	sigprocmask(SIG_BLOCK, &stops, &before_fork);
	child = fork();
	if (child > 0)
		pass_on_signals(child);
	sigprocmask(SIG_SETMASK, &before_fork, NULL);
	if (child < 0)
		return -errno;
	if (child > 0) {
		close(fds[1]);
		*exit_status = wait_for_child(child, fds[0]);
		return 0;
	}
	close(fds[0]);
	tell.parent_fd = fds[1];
	setsid();
	return 0;
}

/*
 * The index of an attached device with this label: one that an earlier instance left, or one that
 * is attended; -ENOENT without.
 */
static int find_device(const char *backend)
{
	char other[KERNEL_BACKEND_MAX];
	int found = -ENOENT;
	struct dirent *d;
	DIR *dir = opendir("/sys/block");

	while (dir && (d = readdir(dir))) {
		int index = kernel_parse_device(d->d_name);

		if (index >= 0 && kernel_is_attached(index) &&
		    status_read_label(index, other) >= 0 && strcmp(other, backend) == 0) {
			found = index;
			break;
		}
	}
	if (dir)
		closedir(dir);
	return found;
}

/* What the export was at first, from the earlier instance's page or, failing that, from /sys. */
static void recall_identity(struct client *c)
{
	char path[64], text[8];

	c->has_first = true;
	if (strcmp(before.uri, c->uri->text) == 0)
		c->epoch = before.epoch;
	if (before.has_first && strcmp(before.uri, c->uri->text) == 0) {
		c->first = before.first;
		return;
	}
	log_warn("nbd%d: no record of the first session in /run/nbdclient (flags, and without a "
		 "live "
		 "link the file system, cannot be compared)",
		 c->index);
	memset(&c->first, 0, sizeof(c->first));
	c->first.info.size = kernel_read_size(c->index);
	c->first.info.block_min = 4096;
	snprintf(path, sizeof(path), "/sys/block/nbd%d/ro", c->index);
	if (fd_read_file(path, text, sizeof(text)) > 0 && text[0] == '1')
		c->first.info.flags = NBD_FLAG_READ_ONLY;
}

/*
 * Finds out whether there is a device to adopt. 0 with c->is_adopted; 1 after saying why it
 * cannot be; negative errno.
 */
static int look_for_device(struct client *c, bool *alive)
{
	uint8_t head[IDENTITY_HEAD_SIZE];
	char other[KERNEL_BACKEND_MAX];
	int r;

	if (c->index == KERNEL_INDEX_ANY) {
		r = find_device(c->backend);
		if (r < 0)
			return 0;
		c->index = r;
	} else if (!kernel_is_attached(c->index)) {
		return 0;
	} else if (status_read_label(c->index, other) < 0 || strcmp(other, c->backend) != 0) {
		log_error("/dev/nbd%d is attached already, to \"%s\" (choose another --device, or "
			  "detach it first)",
			  c->index, status_read_label(c->index, other) < 0 ? "?" : other);
		return 1;
	}

	r = status_open(c->index, &c->page, &before);
	if (r == STATUS_E_ATTENDED) {
		log_error("/dev/nbd%d is attached to \"%s\" already and looked after by another "
			  "nbdclient (nbdclient status tells more)",
			  c->index, c->backend);
		return 1;
	}
	if (r < 0)
		return r;
	recall_identity(c);
	/* One that fences is asked for a new link whether this one answers or not. */
	*alive = probe_wait(&c->probe, c->index,
			    c->epoch.is_known ? LINK_ANSWER_SHORT_MS : LINK_ANSWER_WAIT_MS,
			    head) == 1;
	if (*alive) /* a file system may have been made since */
		identity_read_head(&c->first, head);
	c->is_adopted = true;
	return 0;
}

/* What an adopted device's server knows of us, and where it was. */
static void take_after(struct client *c)
{
	if (!c->is_adopted)
		return;
	/* With the network away, a card would be chosen that the server does not know. */
	if (before.machine[0])
		memcpy(c->who.machine, before.machine, sizeof(c->who.machine));
	for (unsigned i = 0; i < c->addresses.count; i++)
		if (strcmp(c->addresses.address[i].text, before.server) == 0)
			c->was_at = c->address = &c->addresses.address[i];
}

/* Resolves until it works, or the time for connecting is over. 0, or 1 after saying why. */
static int resolve(struct client *c, const struct uri *u)
{
	const struct timespec pause = { .tv_sec = RESOLVE_AGAIN_MS / 1000 };
	const char *why = "", *said = NULL;

	for (;;) {
		int r = dial_resolve(&c->addresses, u, &why);

		if (r == 0)
			return 0;
		if (r == -ENOSPC) {
			log_warn("server \"%s\": %s (using the first %d)", u->host, why,
				 DIAL_ADDRESSES_MAX);
			return 0;
		}
		if (r != -ENOENT || clock_now_ns() >= c->connect_deadline_ns) {
			log_error("cannot find server \"%s\": %s (check the name, or give an "
				  "address)",
				  u->host, why);
			return 1;
		}
		if (!said || strcmp(said, why) != 0)
			log_warn("cannot find server \"%s\": %s (trying again)", u->host, why);
		said = why;
		nanosleep(&pause, NULL);
	}
}

static int attach(const struct options *o, char *argv0)
{
	struct client *c = &client;
	bool alive = false;
	int r;

	c->uri = &o->uri;
	c->index = o->index;
	c->on_attached = on_attached;
	c->connect_deadline_ns = CLOCK_NEVER;
	if (o->connect_timeout_s > 0)
		c->connect_deadline_ns = clock_now_ns() + o->connect_timeout_s * CLOCK_NS_PER_S;
	snprintf(c->backend, sizeof(c->backend), "%s", o->uri.text);
	way_down_open(&c->down, o->on_shutdown, o->outage_s);

	r = kernel_open(&c->kernel);
	if (r == KERNEL_E_NO_DRIVER) {
		log_error("the kernel's nbd driver is not there (load it: modprobe nbd)");
		return 1;
	}
	if (r < 0) {
		log_error("cannot talk to the kernel's nbd driver: %s", strerror(-r));
		return 1;
	}
	resident_mark(argv0);
	if (probe_start(&c->probe) < 0)
		log_warn("no process for test reads (going on without)");
	r = look_for_device(c, &alive);
	if (r == 0) {
		c->session.shown = SESSION_RESOLVING;
		client_publish(c);
		r = resolve(c, &o->uri);
	}
	for (unsigned i = 0; i < o->fallbacks && r == 0; i++) {
		if (strcmp(o->fallback[i].export_name, o->uri.export_name) != 0) {
			log_error("fallback \"%s\" names another export (it must be the same)",
				  o->fallback[i].text);
			return 1;
		}
		r = resolve(c, &o->fallback[i]);
	}
	if (r > 0)
		return 1;
	whoami_init(&c->who, &c->addresses);
	take_after(c);
	if (r == 0)
		r = guard_start();
	if (r == 0)
		r = resident_lock();
	if (r == 0)
		r = client_init(c);
	if (r < 0) {
		log_error("cannot become resident: %s (is this root? nbdclient locks itself in "
			  "memory)",
			  strerror(-r));
		return 1;
	}
	way_down_spare(c->probe.pid);
	r = client_run(c, alive);
	way_down_close(c);
	return r;
}

int attach_run(const struct options *o, char *argv0)
{
	int exit_status, r;

	if (!o->foreground) {
		r = go_to_background(&exit_status);
		if (r < 0) {
			log_error("cannot go to the background: %s", strerror(-r));
			return 1;
		}
		if (exit_status >= 0)
			return exit_status;
	}
	/* A service's main process is the one that stays: in the background it is not us. */
	if (o->foreground && notify_init() < 0)
		log_warn("the service manager that waits for this process cannot be told anything");
	tell.ready_fd = o->ready_fd;
	tell.kmsg_fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	return attach(o, argv0);
}

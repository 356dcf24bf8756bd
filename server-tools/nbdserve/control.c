/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See control.h. */
#include "control.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum {
	CONTROL_BACKLOG = 64,
	CONTROL_TOKENS_MAX = 16,
	CONTROL_NAME_MAX = 4096 + 1, /* the longest name of the protocol */
};

struct control {
	struct service service;
	const struct control_ops *ops;
	void *ctx;
	char *path;       /* absolute, for a daemon changes its folder; NULL: unknown */
	struct stat file; /* ours, as long as device and inode are these */
	bool is_handed_over;
};

/* ---- requests ------------------------------------------------------------------------------ */

/* What a request may say; what it does not is absent. */
struct order {
	char command[32];
	bool has_id, has_name;
	uint64_t id;
	char name[CONTROL_NAME_MAX];
};

static int bad(char *err, const char *words)
{
	snprintf(err, CONTROL_ERROR_MAX, "%s (see docs/control.md)", words);
	return -1;
}

static int read_member(struct order *o, const char *text, const struct json_token *key, char *err)
{
	const struct json_token *value = key + 1;
	char name[32];

	if (json_string(text, key, name, sizeof(name)) < 0)
		name[0] = '\0';
	if (strcmp(name, "command") == 0) {
		if (o->command[0])
			return bad(err, "\"command\" stands there twice");
		if (json_string(text, value, o->command, sizeof(o->command)) <= 0)
			return bad(err, "\"command\" is not the name of a command");
	} else if (strcmp(name, "id") == 0) {
		if (o->has_id || json_u64(text, value, UINT64_MAX, &o->id) < 0)
			return bad(err, "\"id\" is not one number of a connection");
		o->has_id = true;
	} else if (strcmp(name, "export") == 0) {
		if (o->has_name || json_string(text, value, o->name, sizeof(o->name)) < 0)
			return bad(err, "\"export\" is not one name of an export");
		o->has_name = true;
	} else {
		return bad(err, "a member is none of \"command\", \"id\" and \"export\"");
	}
	return 0;
}

static int read_order(struct order *o, const char *text, size_t size, char *err)
{
	struct json_token tokens[CONTROL_TOKENS_MAX];
	ssize_t n = json_parse(text, size, tokens, ARRAY_SIZE(tokens));

	memset(o, 0, sizeof(*o));
	if (n < 0)
		return bad(err, "the request is not JSON");
	if (n > CONTROL_TOKENS_MAX || tokens[0].type != JSON_OBJECT)
		return bad(err, "the request is not an object with a few members");
	for (const struct json_token *t = tokens + 1; t < tokens + n; t += 1 + t[1].span)
		if (read_member(o, text, t, err) < 0)
			return -1;
	if (!o->command[0])
		return bad(err, "the request has no \"command\"");
	return 0;
}

/* ---- answers ------------------------------------------------------------------------------- */

struct reply {
	FILE *out;
	char *text;
	size_t size;
};

static void reply_begin(struct reply *r)
{
	r->out = service_stream(&r->text, &r->size);
}

/* Closes the stream and gives the connection its text, or nothing when memory was short. */
static void reply_end(struct reply *r, struct service *s, struct service_conn *c)
{
	static const char too_much[] =
		"{\"ok\":false,\"error\":\"too many long answers are waiting "
		"to be read; ask again in a moment\"}\n";

	if (service_stream_end(r->out, &r->text) && !service_has_room(s, r->size)) {
		free(r->text);
		r->text = strdup(too_much);
		r->size = sizeof(too_much) - 1;
	}
	service_reply(c, r->text, r->size);
}

static void answer_error(struct service *s, struct service_conn *c, const char *err)
{
	struct reply r;

	reply_begin(&r);
	if (r.out) {
		fputs("{\"ok\":false,\"error\":", r.out);
		json_put_string(r.out, err);
		fputs("}\n", r.out);
	}
	reply_end(&r, s, c);
}

/* {"ok":true} with one more member, or none when name is NULL. */
static void answer_done(struct service *s, struct service_conn *c, const char *name, size_t value)
{
	struct reply r;

	reply_begin(&r);
	if (r.out && name)
		fprintf(r.out, "{\"ok\":true,\"%s\":%zu}\n", name, value);
	else if (r.out)
		fputs("{\"ok\":true}\n", r.out);
	reply_end(&r, s, c);
}

static void answer_report(struct control *ctl, struct service_conn *c, unsigned parts)
{
	struct report report = { 0 };
	struct reply r;

	if (ctl->ops->report(ctl->ctx, &report) < 0) {
		report_free(&report);
		answer_error(&ctl->service, c, "out of memory for a report; ask again");
		return;
	}
	reply_begin(&r);
	if (r.out) {
		fputs("{\"ok\":true,", r.out);
		report_json(r.out, &report, parts);
		fputs("}\n", r.out);
	}
	report_free(&report);
	reply_end(&r, &ctl->service, c);
}

/* Copies of the listening sockets go with the answer; the peer's end is the proof that it left. */
static int hand_over(struct control *ctl, struct service_conn *c, char *err)
{
	int fds[CONTROL_FDS_MAX];
	size_t count = 0;

	if (ctl->ops->handover(ctl->ctx, fds, &count, err) < 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);

		if (fd < 0) {
			snprintf(err, CONTROL_ERROR_MAX, "cannot copy a listening socket: %s",
				 strerror(errno));
			while (c->n_fds > 0)
				close(c->fds[--c->n_fds]);
			return -1;
		}
		c->fds[c->n_fds++] = fd;
	}
	c->afterwards = SERVICE_STAYS;
	answer_done(&ctl->service, c, "sockets", count);
	return 0;
}

/* ---- commands ------------------------------------------------------------------------------ */

static int disconnect(struct control *ctl, struct service_conn *c, const struct order *o, char *err)
{
	size_t count = 1;
	int r;

	if (o->has_id == o->has_name)
		return bad(err, "disconnect wants either an \"id\" or an \"export\"");
	if (o->has_id)
		r = ctl->ops->disconnect(ctl->ctx, o->id, err);
	else
		r = ctl->ops->disconnect_export(ctl->ctx, o->name, &count, err);
	if (r == 0)
		answer_done(&ctl->service, c, "disconnected", count);
	return r;
}

static int release(struct control *ctl, struct service_conn *c, const struct order *o, char *err)
{
	if (!o->has_name || o->has_id)
		return bad(err, "release wants an \"export\", and nothing else");
	if (ctl->ops->release(ctl->ctx, o->name, err) < 0)
		return -1;
	answer_done(&ctl->service, c, NULL, 0);
	return 0;
}

/* Answers the order itself, or returns -1 with the reason to answer with. */
static int obey(struct control *ctl, struct service_conn *c, const struct order *o, char *err)
{
	static const struct {
		const char *command;
		unsigned parts;
	} reports[] = {
		{ "status", REPORT_ALL },
		{ "exports", REPORT_EXPORTS },
		{ "clients", REPORT_CLIENTS },
	};

	if (strcmp(o->command, "disconnect") == 0)
		return disconnect(ctl, c, o, err);
	if (strcmp(o->command, "release") == 0)
		return release(ctl, c, o, err);
	if (o->has_id || o->has_name)
		return bad(err, "only disconnect and release take an \"id\" or an \"export\"");
	for (size_t i = 0; i < ARRAY_SIZE(reports); i++)
		if (strcmp(o->command, reports[i].command) == 0) {
			answer_report(ctl, c, reports[i].parts);
			return 0;
		}
	if (strcmp(o->command, "reload") == 0) {
		if (ctl->ops->reload(ctl->ctx, err) < 0)
			return -1;
		answer_done(&ctl->service, c, NULL, 0);
		return 0;
	}
	if (strcmp(o->command, "handover") == 0)
		return hand_over(ctl, c, err);
	return bad(err, "there is no such command");
}

/* One line of in is one request. */
static size_t take_request(void *ctx, struct service_conn *c)
{
	struct control *ctl = ctx;
	const char *end = memchr(c->in, '\n', c->in_size);
	char err[CONTROL_ERROR_MAX] = "";
	struct order o;
	size_t size;

	if (!end) {
		if (c->in_size < CONTROL_REQUEST_MAX)
			return 0;
		answer_error(&ctl->service, c, "the request is over 32768 bytes long");
		c->afterwards = SERVICE_CLOSES;
		return c->in_size;
	}
	size = (size_t)(end - c->in);
	if (read_order(&o, c->in, size, err) < 0 || obey(ctl, c, &o, err) < 0)
		answer_error(&ctl->service, c, err);
	return size + 1;
}

/* ---- the socket ---------------------------------------------------------------------------- */

bool control_is_trusted(int fd)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) == 0 &&
	       (cred.uid == 0 || cred.uid == geteuid());
}

static bool refuses(int fd)
{
	if (control_is_trusted(fd))
		return false;
	log_warn("control: a process of another user was refused (only root and the server's own "
		 "user may give orders)");
	return true;
}

static int set_address(const char *path, struct sockaddr_un *un, char *err)
{
	*un = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (path[0] == '\0' || strlen(path) >= sizeof(un->sun_path)) {
		snprintf(err, CONTROL_ERROR_MAX,
			 "control socket \"%.200s\": a path has 1 to %zu bytes", path,
			 sizeof(un->sun_path) - 1);
		return -1;
	}
	memcpy(un->sun_path, path, strlen(path) + 1);
	return 0;
}

static int socket_error(const char *path, const char *what, int error, char *err)
{
	snprintf(err, CONTROL_ERROR_MAX, "control socket %.200s: cannot %s: %s", path, what,
		 strerror(error));
	return -1;
}

/* Makes the last folder of the path if it is missing: /run is empty after each boot. */
static void make_folder(const char *path)
{
	_cleanup_free_ char *folder = strdup(path);
	char *slash = folder ? strrchr(folder, '/') : NULL;

	if (!slash || slash == folder)
		return;
	*slash = '\0';
	(void)mkdir(folder, 0755); /* if it did not work, bind() says so */
}

/* Removes what nobody listens on any more. 0, or -1: somebody does, or it is not a socket. */
static int clear_place(const struct sockaddr_un *un, bool is_takeover, char *err)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (lstat(un->sun_path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode)) {
		snprintf(err, CONTROL_ERROR_MAX,
			 "control socket %.200s: there is something else of that name; remove it, "
			 "or choose another path",
			 un->sun_path);
		return -1;
	}
	if (!is_takeover) {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (fd < 0)
			return socket_error(un->sun_path, "make a socket", errno, err);
		if (connect(fd, (const struct sockaddr *)un, sizeof(*un)) == 0 ||
		    errno != ECONNREFUSED) {
			snprintf(err, CONTROL_ERROR_MAX,
				 "control socket %.200s: another server listens there; stop it, "
				 "take over from it with --take-over, or choose another path",
				 un->sun_path);
			return -1;
		}
	}
	if (unlink(un->sun_path) < 0 && errno != ENOENT)
		return socket_error(un->sun_path, "remove the old socket", errno, err);
	return 0;
}

/* Returns a listening socket of mode 0600 from its first moment, or -1. */
static int listen_at(const struct sockaddr_un *un, char *err)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return socket_error(un->sun_path, "make a socket", errno, err);
	/* The file gets the mode of the socket, less the umask, which other threads share. */
	if (fchmod(fd, 0600) < 0)
		return socket_error(un->sun_path, "set its mode", errno, err);
	if (bind(fd, (const struct sockaddr *)un, sizeof(*un)) < 0)
		return socket_error(un->sun_path, "bind to it", errno, err);
	if (listen(fd, CONTROL_BACKLOG) < 0)
		return socket_error(un->sun_path, "listen on it", errno, err);
	return steal_fd(&fd);
}

struct control *control_open(const char *path, bool is_takeover, const struct control_ops *ops,
			     void *ctx, char *err)
{
	_cleanup_free_ struct control *c = calloc(1, sizeof(*c));
	struct sockaddr_un un;
	int fd;

	if (!c) {
		snprintf(err, CONTROL_ERROR_MAX, "control socket %.200s: out of memory", path);
		return NULL;
	}
	if (set_address(path, &un, err) < 0)
		return NULL;
	make_folder(path);
	if (clear_place(&un, is_takeover, err) < 0)
		return NULL;
	fd = listen_at(&un, err);
	if (fd < 0)
		return NULL;
	c->path = realpath(un.sun_path, NULL);
	if (c->path && lstat(c->path, &c->file) < 0)
		memset(&c->file, 0, sizeof(c->file)); /* no file is that */
	service_init(&c->service, fd);
	c->service.request_max = CONTROL_REQUEST_MAX;
	c->service.timeout_ns = CONTROL_TIMEOUT_S * CLOCK_NS_PER_S;
	c->service.refuses = refuses;
	c->service.request = take_request;
	c->service.ctx = c;
	c->ops = ops;
	c->ctx = ctx;
	return steal_ptr(&c);
}

void control_close(struct control *c)
{
	struct stat st;

	if (!c)
		return;
	if (c->path && lstat(c->path, &st) == 0 && st.st_dev == c->file.st_dev &&
	    st.st_ino == c->file.st_ino)
		(void)unlink(c->path);
	service_deinit(&c->service);
	free(c->path);
	free(c);
}

size_t control_poll(const struct control *c, struct pollfd *pfd)
{
	return service_poll(&c->service, pfd);
}

uint64_t control_deadline(const struct control *c)
{
	return service_deadline(&c->service);
}

int control_handle(struct control *c, const struct pollfd *pfd, uint64_t now_ns)
{
	service_handle(&c->service, pfd, now_ns);
	for (size_t i = 0; i < SERVICE_CONNS && !c->is_handed_over; i++)
		if (c->service.conns[i].fd >= 0 && c->service.conns[i].is_at_rest) {
			c->is_handed_over = true;
			return CONTROL_HANDED_OVER;
		}
	return 0;
}

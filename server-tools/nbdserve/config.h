/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What to serve, where and how, from the command line and from an INI file:
 *
 *	[server]
 *	listen = 192.0.2.1:10809
 *	allow = 10.0.0.0/8
 *	[export root]
 *	path = /srv/root.img
 *	ro = yes
 *	[export clients/{mac}/root]
 *	path = /srv/nbd/{mac}-root.img
 *
 * Parsing only: nothing is opened here but the INI file itself. What it does not understand is
 * an error with file and line, never skipped: a misspelt "allow" must not open an export.
 */
#ifndef NBDSERVE_CONFIG_H
#define NBDSERVE_CONFIG_H

#include "address.h"

enum config_durability {
	CONFIG_DURABILITY_WRITE, /* a write is answered when it is on stable storage */
	CONFIG_DURABILITY_FLUSH, /* only a flush is */
};

/* What a writable export does when the disk below its image is full or failing. */
enum config_on_full {
	CONFIG_ON_FULL_HOLD,  /* requests wait until an operator has made room */
	CONFIG_ON_FULL_ERROR, /* the client is told at once */
};

enum config_engine { CONFIG_ENGINE_AUTO, CONFIG_ENGINE_IO_URING, CONFIG_ENGINE_EPOLL };

struct config_export {
	char *name; /* "" is the default export */
	char *path;
	bool is_pattern; /* name and path have {words}, see pattern.h */
	bool is_read_only;
	enum config_durability durability;
	enum config_on_full on_full;
	/* Use config_export_allows(). The networks that are admitted, none of them: nobody. */
	bool has_allow; /* false: everybody is admitted */
	struct cidr *allow;
	size_t n_allow;
};

/* A number that is 0 here has its default after config_check(), where 0 does not mean itself. */
struct config {
	struct config_export *list;
	size_t n_list;
	char **listens; /* "10.0.0.1:10809", ":10809", "[::1]:10809" */
	size_t n_listens;
	char **unix_paths;
	size_t n_unix_paths;

	char *control; /* a unix socket's path; NULL: none */
	char *metrics; /* "ADDR:PORT", as config_split_listen() takes it; NULL: off */
	enum config_engine engine;
	unsigned threads;               /* 0: one for each CPU */
	uint64_t memory;                /* bytes of requests in flight, of all clients together */
	unsigned half_open_max;         /* connections that have not chosen an export yet */
	unsigned half_open_address_max; /* of these, from one address: half */
	unsigned per_address_max;       /* connections from one address; 0: no limit */
	char *user;                     /* whom to become after start; NULL: nobody else */
	bool is_log_json;
	char **directories; /* where a reload may find images that no export names yet */
	size_t n_directories;

	/* For exports without rules of their own; config_check() has given it to them. */
	bool has_allow;
	struct cidr *allow;
	size_t n_allow;
};

enum {
	CONFIG_ERROR_MAX = 512,
	CONFIG_THREADS_MAX = 64,
};

/* All of type int return 0, or -1 with one line of words in err (of CONFIG_ERROR_MAX bytes). */

/* An --export argument: NAME=PATH[,opt]... */
int config_add_export(struct config *c, const char *text, char *err) _must_check_;

/* A setting of the whole server; the command line's options have the same names. */
int config_add_listen(struct config *c, const char *text, char *err) _must_check_;
int config_add_unix(struct config *c, const char *text, char *err) _must_check_;
int config_add_directory(struct config *c, const char *text, char *err) _must_check_;
int config_add_allow(struct config *c, const char *text, char *err) _must_check_;
int config_set_control(struct config *c, const char *text, char *err) _must_check_;
int config_set_metrics(struct config *c, const char *text, char *err) _must_check_;
int config_set_engine(struct config *c, const char *text, char *err) _must_check_;
int config_set_threads(struct config *c, const char *text, char *err) _must_check_;
int config_set_memory(struct config *c, const char *text, char *err) _must_check_;
int config_set_half_open(struct config *c, const char *text, char *err) _must_check_;
int config_set_per_address(struct config *c, const char *text, char *err) _must_check_;
int config_set_user(struct config *c, const char *text, char *err) _must_check_;
int config_set_log_format(struct config *c, const char *text, char *err) _must_check_;

/* An INI file's text of size bytes; name is for messages. */
int config_parse(struct config *c, const char *name, const char *text, size_t size,
		 char *err) _must_check_;
int config_load(struct config *c, const char *path, char *err) _must_check_;

/*
 * After all has been added: refuses two exports of one name, or nothing to serve; fills in
 * defaults, and the server's allow rules where an export has none.
 */
int config_check(struct config *c, char *err) _must_check_;

/* Whether the export's rules admit a client. Clients of unix sockets always are. */
bool config_export_allows(const struct config_export *e, const struct address *client);

/* Whether the images of two, whichever they are, are served alike: at most who may use them
 * differs. */
bool config_export_is_served_alike(const struct config_export *a, const struct config_export *b);

/* Whether two are one image served alike, so that a reload may keep it open: at most the rules
 * of admission differ. The names are not compared. */
bool config_export_same_image(const struct config_export *a, const struct config_export *b);

/*
 * Takes "HOST:PORT", "[V6]:PORT", ":PORT", "HOST", "V6" or "" apart; host is empty for all
 * addresses, port is NBD_DEFAULT_PORT where none is given.
 */
int config_split_listen(const char *text, char *host, size_t host_size, char *port,
			size_t port_size, char *err) _must_check_;

void config_export_deinit(struct config_export *e);
void config_deinit(struct config *c);

#endif

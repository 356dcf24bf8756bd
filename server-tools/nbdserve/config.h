/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What to serve and where, from the command line and from a small INI file:
 *
 *	[server]
 *	listen = 192.0.2.1:10809
 *	unix = /run/nbdserve.sock
 *	[export root]
 *	path = /srv/root.img
 *	ro = yes
 *	durability = write
 *	allow = 10.0.0.0/8+fd00::/8
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

struct config_export {
	char *name; /* "" is the default export */
	char *path;
	bool is_read_only;
	enum config_durability durability;
	struct cidr *allow; /* none: everybody */
	size_t n_allow;
};

struct config {
	struct config_export *list;
	size_t n_list;
	char **listens; /* "10.0.0.1:10809", ":10809", "[::1]:10809" */
	size_t n_listens;
	char **unix_paths;
	size_t n_unix_paths;
};

enum { CONFIG_ERROR_MAX = 512 };

/* All return 0, or -1 with one line of words in err (of CONFIG_ERROR_MAX bytes). */

/* An --export argument: NAME=PATH[,opt]... */
int config_add_export(struct config *c, const char *text, char *err) _must_check_;
int config_add_listen(struct config *c, const char *text, char *err) _must_check_;
int config_add_unix(struct config *c, const char *text, char *err) _must_check_;

/* An INI file's text of size bytes; name is for messages. */
int config_parse(struct config *c, const char *name, const char *text, size_t size,
		 char *err) _must_check_;
int config_load(struct config *c, const char *path, char *err) _must_check_;

/* After all has been added: two exports of one name, or nothing to serve. */
int config_check(const struct config *c, char *err) _must_check_;

/*
 * Takes "HOST:PORT", "[V6]:PORT", ":PORT", "HOST", "V6" or "" apart; host is empty for all
 * addresses, port is NBD_DEFAULT_PORT where none is given.
 */
int config_split_listen(const char *text, char *host, size_t host_size, char *port,
			size_t port_size, char *err) _must_check_;

void config_deinit(struct config *c);

#endif

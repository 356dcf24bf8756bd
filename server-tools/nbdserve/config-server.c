/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See config.h. Here: the settings of the whole server, one function each. */
#include "config.h"

#include "base/parse.h"
#include "config-internal.h"
#include "proto/nbd.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

enum {
	LEAST_MEMORY_MIB = 64,
	MOST_CONNECTIONS = 1000 * 1000,
	USER_NAME_MAX = 32, /* useradd(8) */
};

static int add_string(char ***list, size_t *n, const char *text, char *err)
{
	char **bigger = reallocarray(*list, *n + 1, sizeof(**list));

	if (!bigger)
		return config_out_of_memory(err);
	*list = bigger;
	bigger[*n] = strdup(text);
	if (!bigger[*n])
		return config_out_of_memory(err);
	(*n)++;
	return 0;
}

static int set_string(char **out, const char *text, char *err)
{
	free(*out);
	*out = strdup(text);
	return *out ? 0 : config_out_of_memory(err);
}

static int set_number(unsigned *out, const char *what, const char *text, unsigned least,
		      unsigned most, char *err)
{
	uint64_t number;

	if (parse_u64(text, most, &number) < 0 || number < least)
		return config_fail(err, "%s must be a number from %u to %u, not \"%.100s\"", what,
				   least, most, text);
	*out = (unsigned)number;
	return 0;
}

/* ---- addresses ---------------------------------------------------------------------------- */

static int split_address(const char *text, const char *default_port, char *host, size_t host_size,
			 char *port, size_t port_size, char *err)
{
	const char *host_end, *port_start = NULL;
	uint64_t number;

	if (*text == '[') {
		text++;
		host_end = strchr(text, ']');
		if (!host_end || (host_end[1] != '\0' && host_end[1] != ':'))
			return config_fail(err, "\"[%.200s\" is not [ADDRESS]:PORT", text);
		if (host_end[1] == ':')
			port_start = host_end + 2;
	} else {
		host_end = strchr(text, ':');
		if (host_end && strchr(host_end + 1, ':'))
			host_end = NULL; /* two colons: a bare IPv6 address */
		if (host_end)
			port_start = host_end + 1;
		else
			host_end = text + strlen(text);
	}

	if ((size_t)(host_end - text) >= host_size)
		return config_fail(err, "the address \"%.100s...\" is too long", text);
	memcpy(host, text, (size_t)(host_end - text));
	host[host_end - text] = '\0';
	if (strcmp(host, "*") == 0)
		host[0] = '\0';

	if (!port_start)
		port_start = default_port;
	if (!port_start)
		return config_fail(err, "\"%.200s\" has no port: ADDRESS:PORT is needed", text);
	if (parse_u64(port_start, 65535, &number) < 0)
		return config_fail(err, "\"%.100s\" is not a port: a number from 0 (any) to 65535",
				   port_start);
	snprintf(port, port_size, "%u", (unsigned)number);
	return 0;
}

int config_split_listen(const char *text, char *host, size_t host_size, char *port,
			size_t port_size, char *err)
{
	return split_address(text, NBD_DEFAULT_PORT, host, host_size, port, port_size, err);
}

int config_add_listen(struct config *c, const char *text, char *err)
{
	char host[256], port[8], why[CONFIG_ERROR_MAX];

	if (config_split_listen(text, host, sizeof(host), port, sizeof(port), why) < 0)
		return config_fail(err, "listen: %.400s", why);
	return add_string(&c->listens, &c->n_listens, text, err);
}

/* No default port: the one of NBD would be wrong, and no other is ours. */
int config_set_metrics(struct config *c, const char *text, char *err)
{
	char host[256], port[8], why[CONFIG_ERROR_MAX];

	if (split_address(text, NULL, host, sizeof(host), port, sizeof(port), why) < 0)
		return config_fail(err, "metrics: %.400s", why);
	return set_string(&c->metrics, text, err);
}

static int check_socket_path(const char *what, const char *text, char *err)
{
	const size_t most = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;

	if (*text == '\0' || strlen(text) > most)
		return config_fail(err,
				   "%s: a socket's path has 1 to %zu bytes; \"%.200s\" has %zu",
				   what, most, text, strlen(text));
	return 0;
}

int config_add_unix(struct config *c, const char *text, char *err)
{
	if (check_socket_path("unix", text, err) < 0)
		return -1;
	return add_string(&c->unix_paths, &c->n_unix_paths, text, err);
}

int config_set_control(struct config *c, const char *text, char *err)
{
	if (check_socket_path("control", text, err) < 0)
		return -1;
	return set_string(&c->control, text, err);
}

/* ---- who may come, and how many ----------------------------------------------------------- */

int config_add_allow(struct config *c, const char *text, char *err)
{
	return config_add_rules(&c->allow, &c->n_allow, &c->has_allow, text, err);
}

int config_set_half_open(struct config *c, const char *text, char *err)
{
	return set_number(&c->half_open_max, "half-open", text, 1, MOST_CONNECTIONS, err);
}

int config_set_per_address(struct config *c, const char *text, char *err)
{
	return set_number(&c->per_address_max, "per-address", text, 0, MOST_CONNECTIONS, err);
}

/* ---- how ---------------------------------------------------------------------------------- */

int config_set_engine(struct config *c, const char *text, char *err)
{
	if (strcmp(text, "auto") == 0)
		c->engine = CONFIG_ENGINE_AUTO;
	else if (strcmp(text, "io_uring") == 0)
		c->engine = CONFIG_ENGINE_IO_URING;
	else if (strcmp(text, "epoll") == 0)
		c->engine = CONFIG_ENGINE_EPOLL;
	else
		return config_fail(err,
				   "engine must be \"auto\", \"io_uring\" or \"epoll\", not "
				   "\"%.100s\"",
				   text);
	return 0;
}

int config_set_threads(struct config *c, const char *text, char *err)
{
	return set_number(&c->threads, "threads", text, 0, CONFIG_THREADS_MAX, err);
}

int config_set_memory(struct config *c, const char *text, char *err)
{
	uint64_t bytes;

	if (parse_size(text, &bytes) < 0)
		return config_fail(err, "memory must be a size such as 256M, not \"%.100s\"", text);
	if (bytes < (uint64_t)LEAST_MEMORY_MIB * 1024 * 1024)
		return config_fail(err, "memory must be at least %dM, not \"%.100s\"",
				   LEAST_MEMORY_MIB, text);
	c->memory = bytes;
	return 0;
}

/* Whether there is such a user is found out when it is needed, not here. */
int config_set_user(struct config *c, const char *text, char *err)
{
	size_t size = strlen(text);
	bool is_fine = size > 0 && size <= USER_NAME_MAX && *text != '-';

	for (const char *p = text; *p != '\0'; p++)
		is_fine = is_fine && isgraph((unsigned char)*p) && *p != ':' && *p != '/';
	if (!is_fine)
		return config_fail(err, "user: \"%.100s\" is not the name of a user", text);
	return set_string(&c->user, text, err);
}

int config_set_log_format(struct config *c, const char *text, char *err)
{
	if (strcmp(text, "text") != 0 && strcmp(text, "json") != 0)
		return config_fail(err, "log-format must be \"text\" or \"json\", not \"%.100s\"",
				   text);
	c->is_log_json = *text == 'j';
	return 0;
}

int config_add_directory(struct config *c, const char *text, char *err)
{
	if (*text != '/')
		return config_fail(err, "directory: \"%.200s\" does not begin with \"/\"", text);
	return add_string(&c->directories, &c->n_directories, text, err);
}

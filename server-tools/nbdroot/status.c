/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See status.h. */
#include "status.h"

#include "ask.h"
#include "base/log.h"
#include "base/parse.h"
#include "status-print.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { EXIT_USAGE = 2 };

static const char status_usage[] =
	"usage: nbdroot status [--json] [--socket PATH]\n"
	"       nbdroot reload [--socket PATH]\n"
	"       nbdroot client list [--json] [--socket PATH]\n"
	"       nbdroot client disconnect ID|EXPORT [--export] [--socket PATH]\n"
	"       nbdroot client release EXPORT [--socket PATH]\n";

static const char status_help[] =
	"\n"
	"status: tell how a running nbdserve is: the server, its exports, its clients.\n"
	"reload: let it read its configuration again.\n"
	"client list: tell its clients.\n"
	"client disconnect: cut a connection, or all those to an export.\n"
	"client release: take an export from the client that holds it, cutting its connections,\n"
	"and let an export that a failed sync has latched be flushed again.\n"
	"  --json         print what the server answers, one JSON object (docs/control.md)\n"
	"  --socket PATH  the server's control socket (default: " ASK_DEFAULT_SOCKET ")\n"
	"  --export       the argument is the name of an export, though it is a number\n"
	"\n"
	"Exit: 0 done, 1 failed, 2 wrong usage.\n";

struct status_options {
	const char *socket;
	bool as_json, is_export;
	const char *argument; /* NULL: none is wanted */
};

/* -1: go on; else an exit status. command is for messages. */
static int take_options(int argc, char *argv[], const char *command, const char *allowed,
			const char *wanted, struct status_options *o)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "export", no_argument, NULL, 'e' },
		{ "socket", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	*o = (struct status_options){ .socket = ASK_DEFAULT_SOCKET };
	while ((option = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
		if (option == 'h') {
			printf("%s%s", status_usage, status_help);
			return 0;
		}
		if (option == '?')
			return EXIT_USAGE;
		if (option == 's') {
			o->socket = optarg;
			continue;
		}
		if (!strchr(allowed, option)) {
			log_error("%s: takes no --%s (see nbdroot %s --help)", command,
				  option == 'j' ? "json" : "export", command);
			return EXIT_USAGE;
		}
		o->as_json |= option == 'j';
		o->is_export |= option == 'e';
	}
	if (optind + (wanted != NULL) != argc) {
		log_error("%s: wants %s (see nbdroot %s --help)", command,
			  wanted ? wanted : "no argument", command);
		return EXIT_USAGE;
	}
	o->argument = wanted ? argv[optind] : NULL;
	return -1;
}

/* The answer, as JSON or as print has it. Returns an exit status. */
static int show(const struct status_options *o, const char *request,
		int (*print)(const struct answer *a))
{
	struct answer a;
	int r = 0;

	if (ask(o->socket, request, &a) < 0)
		return 1;
	if (o->as_json) {
		fwrite(a.text, 1, a.size, stdout);
		putchar('\n');
	} else {
		r = print(&a);
	}
	answer_free(&a);
	if (r == 0 && fflush(stdout) != 0) {
		log_error("cannot write to standard output: %s", strerror(errno));
		r = -1;
	}
	return r < 0 ? 1 : 0;
}

int status_main(int argc, char *argv[])
{
	struct status_options o;
	int r = take_options(argc, argv, "status", "j", NULL, &o);

	return r >= 0 ? r : show(&o, "{\"command\":\"status\"}", status_print);
}

static int print_nothing(const struct answer *a)
{
	(void)a;
	return 0;
}

int reload_main(int argc, char *argv[])
{
	struct status_options o;
	int r = take_options(argc, argv, "reload", "", NULL, &o);

	return r >= 0 ? r : show(&o, "{\"command\":\"reload\"}", print_nothing);
}

/* ---- clients ------------------------------------------------------------------------------- */

static int list_main(int argc, char *argv[])
{
	struct status_options o;
	int r = take_options(argc, argv, "client list", "j", NULL, &o);

	return r >= 0 ? r : show(&o, "{\"command\":\"clients\"}", status_print_clients);
}

/* An order about an export, to be freed; NULL without memory, which has been logged. */
static char *export_request(const char *command, const char *name)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	bool is_whole = false;

	if (out) {
		fprintf(out, "{\"command\":\"%s\",\"export\":", command);
		json_put_string(out, name);
		fputc('}', out);
		is_whole = !ferror(out);
		if (fclose(out) != 0)
			is_whole = false;
	}
	if (is_whole)
		return text;
	free(text);
	log_error("out of memory");
	return NULL;
}

static int print_disconnected(const struct answer *a)
{
	uint64_t n = answer_number(a, a->root, "disconnected");

	printf("disconnected: %" PRIu64 " connection%s\n", n, n == 1 ? "" : "s");
	return 0;
}

static int disconnect_main(int argc, char *argv[])
{
	_cleanup_free_ char *request = NULL;
	struct status_options o;
	uint64_t id;
	int r = take_options(argc, argv, "client disconnect", "e", "one ID or EXPORT", &o);

	if (r >= 0)
		return r;
	if (o.is_export || parse_u64(o.argument, UINT64_MAX, &id) < 0)
		request = export_request("disconnect", o.argument);
	else if (asprintf(&request, "{\"command\":\"disconnect\",\"id\":%" PRIu64 "}", id) < 0)
		request = NULL;
	return request ? show(&o, request, print_disconnected) : 1;
}

static int release_main(int argc, char *argv[])
{
	_cleanup_free_ char *request = NULL;
	struct status_options o;
	int r = take_options(argc, argv, "client release", "", "one EXPORT", &o);

	if (r >= 0)
		return r;
	request = export_request("release", o.argument);
	return request ? show(&o, request, print_nothing) : 1;
}

int client_main(int argc, char *argv[])
{
	static const struct {
		const char *name;
		int (*run)(int argc, char *argv[]);
	} commands[] = {
		{ "list", list_main },
		{ "disconnect", disconnect_main },
		{ "release", release_main },
	};

	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		printf("%s%s", status_usage, status_help);
		return 0;
	}
	for (size_t i = 0; argc > 1 && i < ARRAY_SIZE(commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	log_error("client: wants list, disconnect or release (see nbdroot client --help)");
	return EXIT_USAGE;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbdserve: exports files and block devices over the NBD protocol. This file is the command
 * line; what the server does with it is operate.c's.
 */
#include "operate.h"

#include "base/log.h"
#include "base/parse.h"

#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static const char help[] =
	"Usage: nbdserve [OPTION]... --export NAME=PATH[,opt]...\n"
	"Exports files and block devices over the NBD protocol.\n"
	"\n"
	"  --export NAME=PATH[,opt]...  serve PATH as NAME (\"\" is the default export); opt is\n"
	"                               ro, durability=write|flush, on-full=hold|error,\n"
	"                               allow=NETWORK[+NETWORK]...\n"
	"  --config FILE                read exports and settings from FILE\n"
	"  --listen ADDR:PORT           listen there; [V6]:PORT, :PORT and ADDR alone work too\n"
	"                               (default: all addresses, port 10809)\n"
	"  --unix PATH                  listen on a unix socket\n"
	"  --control PATH               take orders on a unix socket (nbdroot status, reload, "
	"...)\n"
	"  --metrics ADDR:PORT          show figures for Prometheus there (default: nowhere)\n"
	"  --engine auto|io_uring|epoll how to wait for sockets and files (default: auto)\n"
	"  --threads N                  serve with N threads (default: one for each CPU)\n"
	"  --memory SIZE                hold so much of requests at most (default: 256M)\n"
	"  --user NAME                  become NAME when all is open\n"
	"  --log-format text|json       how log lines look (default: text)\n"
	"  --take-over                  replace the server that runs behind --control\n"
	"  --foreground                 stay in the foreground, log to stderr\n"
	"  --ready-fd N                 write a newline to descriptor N when listening\n"
	"  --help                       show this and exit\n"
	"  --version                    show the version and exit\n"
	"\n"
	"--export, --config, --listen and --unix may be given more than once. See nbdserve(8).\n";

enum {
	CONFIG = 256,
	LISTEN,
	UNIX,
	EXPORT,
	CONTROL,
	METRICS,
	ENGINE,
	THREADS,
	MEMORY,
	USER,
	LOG_FORMAT,
	TAKE_OVER,
	FOREGROUND,
	READY_FD,
	HELP,
	VERSION,
};

static const struct option known[] = {
	{ "config", required_argument, NULL, CONFIG },
	{ "listen", required_argument, NULL, LISTEN },
	{ "unix", required_argument, NULL, UNIX },
	{ "export", required_argument, NULL, EXPORT },
	{ "control", required_argument, NULL, CONTROL },
	{ "metrics", required_argument, NULL, METRICS },
	{ "engine", required_argument, NULL, ENGINE },
	{ "threads", required_argument, NULL, THREADS },
	{ "memory", required_argument, NULL, MEMORY },
	{ "user", required_argument, NULL, USER },
	{ "log-format", required_argument, NULL, LOG_FORMAT },
	{ "take-over", no_argument, NULL, TAKE_OVER },
	{ "foreground", no_argument, NULL, FOREGROUND },
	{ "ready-fd", required_argument, NULL, READY_FD },
	{ "help", no_argument, NULL, HELP },
	{ "version", no_argument, NULL, VERSION },
	{ 0 },
};

/* The folder in which the program was started: a daemon leaves it. */
static char start_folder[PATH_MAX];

/* Makes an allocated path absolute. False without memory. */
static bool make_absolute(char **path)
{
	char *absolute;

	if (!*path || **path == '/' || start_folder[0] == '\0')
		return true;
	if (asprintf(&absolute, "%s/%s", start_folder, *path) < 0)
		return false;
	free(*path);
	*path = absolute;
	return true;
}

static bool make_all_absolute(struct config *c)
{
	bool is_done = make_absolute(&c->control);

	for (size_t i = 0; i < c->n_list; i++)
		is_done &= make_absolute(&c->list[i].path);
	for (size_t i = 0; i < c->n_directories; i++)
		is_done &= make_absolute(&c->directories[i]);
	return is_done;
}

static int load_config(struct options *o, const char *path, char *err)
{
	char *copy = strdup(path);

	if (o->n_config_paths == OPTIONS_CONFIGS_MAX) {
		free(copy);
		snprintf(err, CONFIG_ERROR_MAX, "--config may be given %d times",
			 OPTIONS_CONFIGS_MAX);
		return -1;
	}
	if (!copy || !make_absolute(&copy)) {
		free(copy);
		snprintf(err, CONFIG_ERROR_MAX, "out of memory");
		return -1;
	}
	o->config_paths[o->n_config_paths++] = copy;
	return config_load(&o->config, copy, err);
}

static int set_ready_fd(struct options *o, const char *text, char *err)
{
	uint64_t number;

	if (parse_u64(text, INT32_MAX, &number) < 0 || fcntl((int)number, F_GETFD) < 0) {
		snprintf(err, CONFIG_ERROR_MAX,
			 "--ready-fd must be the number of an open "
			 "descriptor");
		return -1;
	}
	o->ready_fd = (int)number;
	return 0;
}

/* The files first: what the command line says of the server is the last word. */
static int load_configs(struct options *o, int argc, char **argv, char *err)
{
	int option;

	opterr = 0;
	optind = 0; /* glibc's word for "from the start", for a reload */
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
		if (option == CONFIG && load_config(o, optarg, err) < 0)
			return -1;
	return 0;
}

int options_parse(struct options *o, int argc, char **argv, char err[static CONFIG_ERROR_MAX])
{
	bool is_reload = start_folder[0] != '\0';
	int option, r;

	err[0] = '\0';
	if (!is_reload && !getcwd(start_folder, sizeof(start_folder)))
		start_folder[0] = '\0';
	o->argc = argc;
	o->argv = argv;
	if (load_configs(o, argc, argv, err) < 0)
		return EXIT_FAILED;
	optind = 0;
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		r = 0;
		switch (option) {
		case CONFIG: break;
		case LISTEN: r = config_add_listen(&o->config, optarg, err); break;
		case UNIX: r = config_add_unix(&o->config, optarg, err); break;
		case EXPORT: r = config_add_export(&o->config, optarg, err); break;
		case CONTROL: r = config_set_control(&o->config, optarg, err); break;
		case METRICS: r = config_set_metrics(&o->config, optarg, err); break;
		case ENGINE: r = config_set_engine(&o->config, optarg, err); break;
		case THREADS: r = config_set_threads(&o->config, optarg, err); break;
		case MEMORY: r = config_set_memory(&o->config, optarg, err); break;
		case USER: r = config_set_user(&o->config, optarg, err); break;
		case LOG_FORMAT: r = config_set_log_format(&o->config, optarg, err); break;
		case TAKE_OVER: o->is_takeover = true; break;
		case FOREGROUND: o->is_foreground = true; break;
		case READY_FD: r = is_reload ? 0 : set_ready_fd(o, optarg, err); break;
		case HELP: fputs(help, stdout); return EXIT_DONE;
		case VERSION: puts("nbdserve " NBDROOT_VERSION); return EXIT_DONE;
		default:
			snprintf(err, CONFIG_ERROR_MAX, "unknown option or missing value: %.200s",
				 argv[optind - 1]);
			r = -1;
		}
		if (r < 0)
			return EXIT_USAGE;
	}
	if (optind < argc) {
		snprintf(err, CONFIG_ERROR_MAX,
			 "what is \"%.100s\"? every argument belongs to an option", argv[optind]);
		return EXIT_USAGE;
	}
	if (config_check(&o->config, err) < 0)
		return EXIT_USAGE;
	if (!make_all_absolute(&o->config)) {
		snprintf(err, CONFIG_ERROR_MAX, "out of memory");
		return EXIT_FAILED;
	}
	return -1;
}

void options_deinit(struct options *o)
{
	for (size_t i = 0; i < o->n_config_paths; i++)
		free(o->config_paths[i]);
	config_deinit(&o->config);
}

int main(int argc, char **argv)
{
	struct options o = { .ready_fd = -1 };
	char err[CONFIG_ERROR_MAX];
	int status;

	log_init("nbdserve");
	status = options_parse(&o, argc, argv, err);
	if (status < 0) {
		log_set_json(o.config.is_log_json);
		status = operate(&o);
	} else if (err[0] != '\0') {
		log_error("%s%s", err, status == EXIT_USAGE ? "; see nbdserve --help" : "");
	}
	options_deinit(&o);
	return status;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbdload: load for NBD servers, for `make bench-server`, which runs the same load against
 * several servers. This file is its command line and its output; see dial.c for the connections
 * and load.c for the load. It is not a general tool (fio has an nbd engine): it does the few
 * patterns that are compared, as cheaply as it can, and refuses everything else.
 */
#include "dial.h"
#include "load.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/parse.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* nbd-server has a backlog of 10, and a client that overflows it waits for ever. */
enum { DIAL_AT_ONCE = 8 };

enum mode { MODE_LOAD, MODE_CONNECT, MODE_IDLE, MODE_SILENT };

static const char help[] =
	"Usage: nbdload --target HOST:PORT|PATH [OPTION]...\n"
	"Puts load on an NBD server and prints one line of JSON.\n"
	"\n"
	"  --target HOST:PORT|PATH  the server: TCP, or a unix socket's path (with a slash)\n"
	"  --name NAME              the export (default: the default export)\n"
	"  --numbered               connection I uses the export NAME followed by I\n"
	"  --sources N              TCP to 127.0.0.1: come from N addresses, 127.1.0.0 and up\n"
	"  --timeout S              for all connections to be made (default 30)\n"
	"\n"
	"  --pattern P              sr256k sw256k rr4k_q1 rr4k_q32 rw4k_q1 rw4k_q32 wf4k_q1:\n"
	"                           sequential or random, read or write or write+flush,\n"
	"                           block size, queue depth (sequential: 8)\n"
	"  --depth N                another queue depth than the pattern's\n"
	"  --connections N          connections (default 1)\n"
	"  --span SIZE              use the first SIZE bytes of the export (default 1G)\n"
	"  --duration MS            measured time (default 1000)\n"
	"  --warmup MS              time before it that is not measured (default 100)\n"
	"  --seed N                 of the offsets (default 1)\n"
	"  --hold                   after printing, keep the connections until standard input\n"
	"                           ends: a server's processes can be looked at meanwhile\n"
	"\n"
	"in the place of --pattern:\n"
	"  --connect N              N full handshakes one after another, then N at once\n"
	"  --idle N                 hold N connections after the handshake; prints \"ready\",\n"
	"                           and ends when standard input does\n"
	"  --silent N               the same with N connections that never send a byte\n"
	"  --help                   show this and exit\n";

static const struct pattern {
	const char *name;
	enum load_kind kind;
	bool is_random;
	unsigned block, depth;
} patterns[] = {
	{ "sr256k", LOAD_READ, false, 256 * 1024, 8 },
	{ "sw256k", LOAD_WRITE, false, 256 * 1024, 8 },
	{ "rr4k_q1", LOAD_READ, true, 4096, 1 },
	{ "rr4k_q32", LOAD_READ, true, 4096, 32 },
	{ "rw4k_q1", LOAD_WRITE, true, 4096, 1 },
	{ "rw4k_q32", LOAD_WRITE, true, 4096, 32 },
	{ "wf4k_q1", LOAD_WRITE_FLUSH, true, 4096, 1 },
};

struct options {
	enum mode mode;
	struct dial_target target;
	const struct pattern *pattern;
	struct load_plan plan;
	bool does_hold;
	unsigned count; /* of connections */
};

/* ---- the command line --------------------------------------------------------------------- */

static int usage_error(const char *option, const char *text)
{
	log_error("%s: %s; see nbdload --help", option, text);
	return EXIT_USAGE;
}

static int parse_count(const char *text, unsigned max, unsigned *out)
{
	uint64_t number;

	if (parse_u64(text, max, &number) < 0 || number == 0)
		return -1;
	*out = (unsigned)number;
	return 0;
}

static int parse_ms(const char *text, uint64_t *out_ns)
{
	if (parse_u64(text, 3600000, out_ns) < 0)
		return -1;
	*out_ns *= CLOCK_NS_PER_MS;
	return 0;
}

static const struct pattern *find_pattern(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++)
		if (strcmp(patterns[i].name, name) == 0)
			return &patterns[i];
	return NULL;
}

/* Returns -1 to go on, or an exit status. */
static int parse_options(int argc, char **argv, struct options *o)
{
	enum {
		TARGET = 256,
		NAME,
		NUMBERED,
		SOURCES,
		TIMEOUT,
		PATTERN,
		DEPTH,
		CONNECTIONS,
		SPAN,
		DURATION,
		WARMUP,
		SEED,
		HOLD,
		CONNECT,
		IDLE,
		SILENT,
		HELP,
	};
	static const struct option known[] = {
		{ "target", required_argument, NULL, TARGET },
		{ "name", required_argument, NULL, NAME },
		{ "numbered", no_argument, NULL, NUMBERED },
		{ "sources", required_argument, NULL, SOURCES },
		{ "timeout", required_argument, NULL, TIMEOUT },
		{ "pattern", required_argument, NULL, PATTERN },
		{ "depth", required_argument, NULL, DEPTH },
		{ "connections", required_argument, NULL, CONNECTIONS },
		{ "span", required_argument, NULL, SPAN },
		{ "duration", required_argument, NULL, DURATION },
		{ "warmup", required_argument, NULL, WARMUP },
		{ "seed", required_argument, NULL, SEED },
		{ "hold", no_argument, NULL, HOLD },
		{ "connect", required_argument, NULL, CONNECT },
		{ "idle", required_argument, NULL, IDLE },
		{ "silent", required_argument, NULL, SILENT },
		{ "help", no_argument, NULL, HELP },
		{ 0 },
	};
	unsigned depth = 0;
	int option, r;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		r = 0;
		switch (option) {
		case TARGET:
			if (dial_parse(&o->target, optarg) < 0)
				return EXIT_USAGE;
			break;
		case NAME: o->target.name = optarg; break;
		case NUMBERED: o->target.is_numbered = true; break;
		case SOURCES: r = parse_count(optarg, 65536, &o->target.sources); break;
		case TIMEOUT: r = parse_count(optarg, 3600, &o->target.timeout_s); break;
		case PATTERN:
			o->pattern = find_pattern(optarg);
			r = o->pattern == NULL ? -1 : 0;
			break;
		case DEPTH: r = parse_count(optarg, LOAD_DEPTH_MAX, &depth); break;
		case CONNECTIONS: r = parse_count(optarg, 65536, &o->count); break;
		case SPAN: r = parse_size(optarg, &o->plan.span); break;
		case DURATION: r = parse_ms(optarg, &o->plan.duration_ns); break;
		case WARMUP: r = parse_ms(optarg, &o->plan.warmup_ns); break;
		case SEED: r = parse_u64(optarg, UINT64_MAX, &o->plan.seed); break;
		case HOLD: o->does_hold = true; break;
		case CONNECT:
		case IDLE:
		case SILENT:
			o->mode = option == CONNECT ? MODE_CONNECT
				  : option == IDLE  ? MODE_IDLE
						    : MODE_SILENT;
			r = parse_count(optarg, 65536, &o->count);
			break;
		case HELP: fputs(help, stdout); return EXIT_DONE;
		default: return EXIT_USAGE;
		}
		if (r < 0)
			return usage_error(optarg, "not a value that the option takes");
	}
	if (optind < argc)
		return usage_error(argv[optind], "every argument belongs to an option");
	if (o->target.address_size == 0)
		return usage_error("--target", "is missing");
	if ((o->mode == MODE_LOAD) != (o->pattern != NULL))
		return usage_error("--pattern", "or one of --connect, --idle, --silent is needed");
	if (o->pattern == NULL)
		return -1;
	o->plan.kind = o->pattern->kind;
	o->plan.is_random = o->pattern->is_random;
	o->plan.block = o->pattern->block;
	o->plan.depth = depth > 0 ? depth : o->pattern->depth;
	if (o->plan.span < o->plan.block)
		return usage_error("--span", "is less than a block");
	return -1;
}

/* ---- what it does ------------------------------------------------------------------------- */

/* All count connections, or -1: a load with fewer would be another load. */
static int dial_all(const struct options *o, int *fds, struct nbd_export_info *info)
{
	int done = dial_many(&o->target, o->count, DIAL_AT_ONCE, fds, info);

	if (done < 0)
		return -1;
	if ((unsigned)done < o->count) {
		log_error("only %d of %u connections came through in %u s", done, o->count,
			  o->target.timeout_s);
		return -1;
	}
	return 0;
}

static int check_export(const struct options *o, const struct nbd_export_info *info)
{
	if (info->size < o->plan.span) {
		log_error("the export has %llu bytes, fewer than --span",
			  (unsigned long long)info->size);
		return -1;
	}
	if (o->plan.kind != LOAD_READ && (info->flags & NBD_FLAG_READ_ONLY)) {
		log_error("the export is read-only");
		return -1;
	}
	if (o->plan.kind == LOAD_WRITE_FLUSH && !(info->flags & NBD_FLAG_SEND_FLUSH)) {
		log_error("the server does not offer NBD_CMD_FLUSH");
		return -1;
	}
	return 0;
}

/* Shows what was printed, and waits for the end of standard input. */
static int hold(void)
{
	char byte;

	if (fflush(stdout) != 0)
		return EXIT_FAILED;
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return EXIT_DONE;
}

static int run_load(const struct options *o, int *fds)
{
	_cleanup_free_ struct load_result *r = calloc(1, sizeof(*r));
	struct nbd_export_info info;
	double seconds;
	int status = EXIT_DONE;

	if (r == NULL || dial_all(o, fds, &info) < 0 || check_export(o, &info) < 0 ||
	    load_run(&o->plan, fds, o->count, r) < 0)
		return EXIT_FAILED;
	seconds = (double)r->elapsed_ns / (double)CLOCK_NS_PER_S;
	printf("{\"pattern\": \"%s\", \"connections\": %u, \"depth\": %u, \"seconds\": %.3f, "
	       "\"ops\": %llu, \"ops_all\": %llu, \"ops_s\": %.1f, \"mib_s\": %.2f, "
	       "\"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}\n",
	       o->pattern->name, o->count, o->plan.depth, seconds, (unsigned long long)r->ops,
	       (unsigned long long)r->ops_all, (double)r->ops / seconds,
	       (double)r->ops * o->plan.block / seconds / (1024 * 1024),
	       (double)histogram_quantile_ns(&r->latency, 500) / 1000,
	       (double)histogram_quantile_ns(&r->latency, 990) / 1000,
	       (double)r->latency.max_ns / 1000);
	if (o->does_hold)
		status = hold();
	for (unsigned i = 0; i < o->count; i++)
		dial_hang_up(fds[i]);
	return status;
}

static void print_handshakes(const struct options *o, const char *label, unsigned done,
			     uint64_t begin_ns)
{
	double seconds = (double)(clock_now_ns() - begin_ns) / (double)CLOCK_NS_PER_S;

	printf("\"%s\": {\"wanted\": %u, \"done\": %u, \"seconds\": %.4f, \"per_s\": %.1f}", label,
	       o->count, done, seconds, done / seconds);
}

/*
 * First one after another, each closed before the next, then all at the same time, held until the
 * last is through. A server that is too slow gets as far as it gets in the time.
 */
static int run_connect(const struct options *o, int *fds)
{
	uint64_t begin_ns = clock_now_ns(), limit_ns = o->target.timeout_s * CLOCK_NS_PER_S;
	struct nbd_export_info info;
	unsigned serial = 0;
	int at_once = 1;

	while (serial < o->count && at_once == 1 && clock_now_ns() - begin_ns < limit_ns) {
		at_once = dial_many(&o->target, 1, 1, fds, &info);
		if (at_once < 0)
			return EXIT_FAILED;
		if (at_once == 1) {
			dial_hang_up(fds[0]);
			serial++;
		}
	}
	printf("{");
	print_handshakes(o, "serial", serial, begin_ns);
	begin_ns = clock_now_ns();
	at_once = dial_many(&o->target, o->count, o->count, fds, &info);
	if (at_once < 0)
		return EXIT_FAILED;
	printf(", ");
	print_handshakes(o, "at_once", (unsigned)at_once, begin_ns);
	printf("}\n");
	for (unsigned i = 0; i < o->count; i++)
		if (fds[i] >= 0)
			dial_hang_up(fds[i]);
	return EXIT_DONE;
}

static int run_hold(const struct options *o, int *fds)
{
	struct nbd_export_info info;

	if (o->mode == MODE_IDLE && dial_all(o, fds, &info) < 0)
		return EXIT_FAILED;
	for (unsigned i = 0; o->mode == MODE_SILENT && i < o->count; i++) {
		fds[i] = dial_socket(&o->target, i);
		if (fds[i] < 0) {
			log_error("connection %u: %s", i, strerror(-fds[i]));
			return EXIT_FAILED;
		}
	}
	puts("ready");
	return hold();
}

int main(int argc, char **argv)
{
	struct options o = {
		.target = { .name = "", .timeout_s = 30 },
		.plan = { .span = UINT64_C(1) << 30,
			  .seed = 1,
			  .warmup_ns = 100 * CLOCK_NS_PER_MS,
			  .duration_ns = CLOCK_NS_PER_S },
		.count = 1,
	};
	_cleanup_free_ int *fds = NULL;
	struct rlimit limit;
	int r;

	log_init("nbdload");
	r = parse_options(argc, argv, &o);
	if (r >= 0)
		return r;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			log_warn("cannot raise the limit of open files: %s", strerror(errno));
	}
	fds = calloc(o.count, sizeof(*fds));
	if (fds == NULL) {
		log_error("out of memory");
		return EXIT_FAILED;
	}
	switch (o.mode) {
	case MODE_LOAD: r = run_load(&o, fds); break;
	case MODE_CONNECT: r = run_connect(&o, fds); break;
	case MODE_IDLE:
	case MODE_SILENT: r = run_hold(&o, fds); break;
	}
	return fflush(stdout) != 0 ? EXIT_FAILED : r;
}

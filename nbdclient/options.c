/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See options.h. */
#include "options.h"

#include "base/log.h"
#include "base/parse.h"
#include "kernel.h"

#include <getopt.h>
#include <limits.h>
#include <string.h>

const char options_help[] =
	"nbdclient - attach NBD exports and keep them attached\n"
	"\n"
	"Usage:\n"
	"  nbdclient attach URI [options]     attach an export to /dev/nbdN; look after it\n"
	"      --device /dev/nbdN             this device, not the first free one\n"
	"      --fallback URI                 another server of the same storage (repeatable)\n"
	"      --connect-timeout S            give up when it is not attached in S seconds\n"
	"                                     (default: wait for ever; after attaching there is\n"
	"                                     no limit)\n"
	"      --outage wait|reboot:S         when it is lost for S seconds, restart the machine\n"
	"                                     without writing what is left (default: wait)\n"
	"      --on-shutdown wait|detach|end  when the machine is shut down and the server stays\n"
	"                                     away for 30 s, let go of the device or, for a root,\n"
	"                                     end the machine (default: wait)\n"
	"      --connections N                connections to use; 1 is all that there is\n"
	"      --foreground                   stay in the foreground and log to stderr\n"
	"      --ready-fd N                   write a newline to descriptor N when attached\n"
	"  nbdclient detach DEVICE            let go of a device\n"
	"      --force                        even if it is in use or its server is away\n"
	"  nbdclient resume DEVICE            go on with a device that is held, at the risk of a\n"
	"                                     damaged file system (status says why it is held)\n"
	"  nbdclient status [DEVICE]          what is attached, and how it is\n"
	"      --json                         the same for programs\n"
	"  nbdclient info URI [--json]        what a server says of an export\n"
	"  nbdclient list URI [--json]        which exports a server has\n"
	"  nbdclient --help | --version\n"
	"\n"
	"URI: nbd://host[:port]/export or nbd+unix:///export?socket=PATH\n"
	"Exit status: 0 done, 1 failed, 2 usage. See nbdclient(8).\n";

enum {
	OPT_DEVICE = 256,
	OPT_FALLBACK,
	OPT_CONNECT_TIMEOUT,
	OPT_CONNECTIONS,
	OPT_OUTAGE,
	OPT_ON_SHUTDOWN,
	OPT_FOREGROUND,
	OPT_READY_FD,
	OPT_FORCE,
	OPT_JSON,
	OPT_HELP,
	OPT_VERSION,
};

static const struct option long_options[] = {
	{ "device", required_argument, NULL, OPT_DEVICE },
	{ "fallback", required_argument, NULL, OPT_FALLBACK },
	{ "connect-timeout", required_argument, NULL, OPT_CONNECT_TIMEOUT },
	{ "connections", required_argument, NULL, OPT_CONNECTIONS },
	{ "outage", required_argument, NULL, OPT_OUTAGE },
	{ "on-shutdown", required_argument, NULL, OPT_ON_SHUTDOWN },
	{ "foreground", no_argument, NULL, OPT_FOREGROUND },
	{ "ready-fd", required_argument, NULL, OPT_READY_FD },
	{ "force", no_argument, NULL, OPT_FORCE },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ NULL, 0, NULL, 0 },
};

static const struct {
	const char *name;
	enum options_command command;
	bool needs_argument, takes_argument;
	int options[8]; /* OPT_*, that it takes */
} commands[] = {
	{ "attach",
	  OPTIONS_ATTACH,
	  true,
	  true,
	  { OPT_DEVICE, OPT_FALLBACK, OPT_CONNECT_TIMEOUT, OPT_CONNECTIONS, OPT_OUTAGE,
	    OPT_ON_SHUTDOWN, OPT_FOREGROUND, OPT_READY_FD } },
	{ "detach", OPTIONS_DETACH, true, true, { OPT_FORCE } },
	{ "resume", OPTIONS_RESUME, true, true, { 0 } },
	{ "status", OPTIONS_STATUS, false, true, { OPT_JSON } },
	{ "info", OPTIONS_INFO, true, true, { OPT_JSON } },
	{ "list", OPTIONS_LIST, true, true, { OPT_JSON } },
};

static int usage(const char *what, const char *value, const char *why)
{
	log_error("%s%s%s%s%s (nbdclient --help says more)", what, value ? " \"" : "",
		  value ? value : "", value ? "\": " : ": ", why);
	return OPTIONS_E_USAGE;
}

static int take_uri(struct uri *out, const char *text)
{
	const char *why;

	return uri_parse(out, text, &why) < 0 ? usage("URI", text, why) : 0;
}

static int take_device(struct options *o, const char *text)
{
	o->index = kernel_parse_device(text);
	return o->index < 0 ? usage("device", text, "not of the form /dev/nbdN") : 0;
}

static int take_number(unsigned *out, const char *what, const char *text, uint64_t max)
{
	uint64_t v;

	if (parse_u64(text, max, &v) < 0)
		return usage(what, text, "not a number, or too large");
	*out = (unsigned)v;
	return 0;
}

static int take_outage(struct options *o, const char *text)
{
	int r;

	if (strcmp(text, "wait") == 0) {
		o->outage_s = 0;
		return 0;
	}
	if (strncmp(text, "reboot:", 7) != 0)
		return usage("--outage", text, "wait, or reboot:SECONDS");
	r = take_number(&o->outage_s, "--outage", text + 7, INT_MAX);
	if (r == 0 && o->outage_s == 0)
		return usage("--outage", text, "0 seconds: every outage would be too long");
	return r;
}

static int take_on_shutdown(struct options *o, const char *text)
{
	if (strcmp(text, "wait") == 0)
		o->on_shutdown = ENDING_WAITS;
	else if (strcmp(text, "detach") == 0)
		o->on_shutdown = ENDING_LETS_GO;
	else if (strcmp(text, "end") == 0)
		o->on_shutdown = ENDING_ENDS;
	else
		return usage("--on-shutdown", text, "wait, detach or end");
	return 0;
}

static int take_option(struct options *o, int opt, const char *value)
{
	unsigned number;
	int r = 0;

	switch (opt) {
	case OPT_DEVICE: return take_device(o, value);
	case OPT_FALLBACK:
		if (o->fallbacks == OPTIONS_FALLBACKS_MAX)
			return usage("--fallback", value, "there are eight already");
		return take_uri(&o->fallback[o->fallbacks++], value);
	case OPT_CONNECT_TIMEOUT:
		return take_number(&o->connect_timeout_s, "--connect-timeout", value,
				   INT_MAX / 1000);
	case OPT_CONNECTIONS:
		r = take_number(&number, "--connections", value, 16);
		if (r == 0 && number != 1)
			return usage("--connections", value,
				     "only 1 is supported: more would not recover any faster");
		return r;
	case OPT_READY_FD:
		r = take_number(&number, "--ready-fd", value, INT_MAX);
		if (r == 0)
			o->ready_fd = (int)number;
		return r;
	case OPT_OUTAGE: return take_outage(o, value);
	case OPT_ON_SHUTDOWN: return take_on_shutdown(o, value);
	case OPT_FOREGROUND: o->foreground = true; break;
	case OPT_FORCE: o->force = true; break;
	case OPT_JSON: o->json = true; break;
	default: break;
	}
	return r;
}

static int take_argument(struct options *o, const char *text)
{
	if (o->command == OPTIONS_DETACH || o->command == OPTIONS_RESUME ||
	    o->command == OPTIONS_STATUS)
		return take_device(o, text);
	return take_uri(&o->uri, text);
}

int options_parse(struct options *o, int argc, char **argv)
{
	size_t command = 0;
	uint64_t given = 0; /* bit OPT_* - 256 */
	int opt, r;

	memset(o, 0, sizeof(*o));
	o->index = -1;
	o->ready_fd = -1;

	opterr = 0;
	optind = 0; /* as if for the first time, for tests */
	while ((opt = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
		if (opt == OPT_HELP || opt == OPT_VERSION) {
			o->command = opt == OPT_HELP ? OPTIONS_HELP : OPTIONS_VERSION;
			return 0;
		}
		if (opt == ':')
			return usage("option", argv[optind - 1], "it needs a value");
		if (opt == '?')
			return usage("option", argv[optind - 1],
				     "unknown, or a value it cannot have");
		given |= UINT64_C(1) << (opt - 256);
		r = take_option(o, opt, optarg);
		if (r != 0)
			return r;
	}

	if (optind == argc)
		return usage("no command", NULL, "attach, detach, resume, status, info or list");
	while (command < ARRAY_SIZE(commands) && strcmp(commands[command].name, argv[optind]) != 0)
		command++;
	if (command == ARRAY_SIZE(commands))
		return usage("command", argv[optind],
			     "not one of attach, detach, resume, status, info, list");
	o->command = commands[command].command;
	optind++;

	for (size_t i = 0; i < ARRAY_SIZE(commands[command].options); i++)
		if (commands[command].options[i])
			given &= ~(UINT64_C(1) << (commands[command].options[i] - 256));
	for (size_t i = 0; long_options[i].name; i++)
		if (given & UINT64_C(1) << (long_options[i].val - 256))
			return usage("option", long_options[i].name, "not one of this command's");

	if (optind == argc) {
		if (commands[command].needs_argument)
			return usage(commands[command].name, NULL, "it needs an argument");
		return 0;
	}
	if (optind + 1 < argc)
		return usage("argument", argv[optind + 1], "one too many");
	return take_argument(o, argv[optind]);
}

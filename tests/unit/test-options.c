/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nbdclient's command line. */
#include "base/log.h"
#include "nbdclient/options.h"
#include "tests/unit/tap.h"

#include <fcntl.h>
#include <unistd.h>

static struct options o;

/* Splits at spaces; messages go to /dev/null. */
static int parse(const char *line)
{
	static char copy[2048], *argv[32];
	int argc = 0, quiet = open("/dev/null", O_WRONLY), r;

	log_set_fd(quiet, 0);
	snprintf(copy, sizeof(copy), "%s", line);
	for (char *p = strtok(copy, " "); p; p = strtok(NULL, " "))
		argv[argc++] = p;
	argv[argc] = NULL;
	r = options_parse(&o, argc, argv);
	close(quiet);
	return r;
}

TEST(attach_takes_its_options_in_any_order)
{
	CHECK_EQ(parse("nbdclient attach --device /dev/nbd3 nbd://h/x --ready-fd 5 "
		       "--connect-timeout 60 --foreground --fallback nbd://h2/x "
		       "--fallback nbd://h3:9/x --connections 1"),
		 0);
	CHECK_EQ(o.command, OPTIONS_ATTACH);
	CHECK_EQ(o.index, 3);
	CHECK_EQ(o.ready_fd, 5);
	CHECK_EQ(o.connect_timeout_s, 60);
	CHECK(o.foreground);
	CHECK_EQ(o.fallbacks, 2);
	CHECK_STR(o.fallback[1].host, "h3");
	CHECK_STR(o.uri.text, "nbd://h/x");
}

TEST(attach_has_defaults)
{
	CHECK_EQ(parse("nbdclient attach nbd://h/x"), 0);
	CHECK_EQ(o.index, -1);
	CHECK_EQ(o.ready_fd, -1);
	CHECK_EQ(o.connect_timeout_s, 0);
	CHECK(!o.foreground);
}

TEST(outage_is_waited_for_or_ends_in_a_restart)
{
	CHECK_EQ(parse("nbdclient attach nbd://h/x"), 0);
	CHECK_EQ(o.outage_s, 0);
	CHECK_EQ(o.on_shutdown, ENDING_WAITS);
	CHECK_EQ(parse("nbdclient attach nbd://h/x --outage reboot:600 --on-shutdown end"), 0);
	CHECK_EQ(o.outage_s, 600);
	CHECK_EQ(o.on_shutdown, ENDING_ENDS);
	CHECK_EQ(parse("nbdclient attach nbd://h/x --outage reboot:6 --outage wait "
		       "--on-shutdown detach"),
		 0);
	CHECK_EQ(o.outage_s, 0);
	CHECK_EQ(o.on_shutdown, ENDING_LETS_GO);
	CHECK_EQ(parse("nbdclient attach nbd://h/x --outage reboot"), OPTIONS_E_USAGE);
	CHECK_EQ(parse("nbdclient attach nbd://h/x --outage reboot:"), OPTIONS_E_USAGE);
	CHECK_EQ(parse("nbdclient attach nbd://h/x --outage reboot:0"), OPTIONS_E_USAGE);
	CHECK_EQ(parse("nbdclient attach nbd://h/x --outage reboot:5m"), OPTIONS_E_USAGE);
	CHECK_EQ(parse("nbdclient attach nbd://h/x --outage 600"), OPTIONS_E_USAGE);
	CHECK_EQ(parse("nbdclient attach nbd://h/x --on-shutdown restart"), OPTIONS_E_USAGE);
	CHECK_EQ(parse("nbdclient status --outage wait"), OPTIONS_E_USAGE);
}

TEST(device_is_a_whole_nbd_device)
{
	CHECK_EQ(parse("nbdclient detach /dev/nbd12"), 0);
	CHECK_EQ(o.index, 12);
	CHECK_EQ(parse("nbdclient detach nbd0"), 0);
	CHECK_EQ(o.index, 0);
	CHECK_EQ(parse("nbdclient detach /dev/nbd0p1"), OPTIONS_E_USAGE);
	CHECK_EQ(parse("nbdclient detach /dev/nbd"), OPTIONS_E_USAGE);
	CHECK_EQ(parse("nbdclient detach /dev/sda"), OPTIONS_E_USAGE);
	CHECK_EQ(parse("nbdclient detach /dev/nbd99999999999"), OPTIONS_E_USAGE);
}

TEST(status_has_an_optional_device)
{
	CHECK_EQ(parse("nbdclient status"), 0);
	CHECK_EQ(o.index, -1);
	CHECK_EQ(parse("nbdclient status --json /dev/nbd1"), 0);
	CHECK(o.json);
	CHECK_EQ(o.index, 1);
}

TEST(help_and_version_need_no_command)
{
	CHECK_EQ(parse("nbdclient --help"), 0);
	CHECK_EQ(o.command, OPTIONS_HELP);
	CHECK_EQ(parse("nbdclient attach --version"), 0);
	CHECK_EQ(o.command, OPTIONS_VERSION);
}

TEST(nonsense_is_a_usage_error)
{
	static const char *const bad[] = {
		"nbdclient",
		"nbdclient mount nbd://h/x",
		"nbdclient attach",
		"nbdclient attach nbd://h/x nbd://h/y",
		"nbdclient attach x",
		"nbdclient attach nbd://h/x --json",
		"nbdclient attach nbd://h/x --force",
		"nbdclient attach nbd://h/x --device",
		"nbdclient attach nbd://h/x --device /dev/sda",
		"nbdclient attach nbd://h/x --nonsense",
		"nbdclient attach nbd://h/x --connections 2",
		"nbdclient attach nbd://h/x --connections 0",
		"nbdclient attach nbd://h/x --connect-timeout -1",
		"nbdclient attach nbd://h/x --connect-timeout 1s",
		"nbdclient attach nbd://h/x --ready-fd x",
		"nbdclient attach nbd://h/x --fallback y",
		"nbdclient attach nbd://h/x --foreground=yes",
		"nbdclient detach",
		"nbdclient detach /dev/nbd0 --json",
		"nbdclient info",
		"nbdclient info nbd://h/x --device /dev/nbd0",
		"nbdclient list --json",
		"nbdclient status /dev/nbd0 --force",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		printf("# %s\n", bad[i]);
		CHECK_EQ(parse(bad[i]), OPTIONS_E_USAGE);
	}
}

TEST(nine_fallbacks_are_one_too_many)
{
	char line[1024] = "nbdclient attach nbd://h/x";

	for (int i = 0; i < 8; i++)
		strcat(line, " --fallback nbd://h/x");
	CHECK_EQ(parse(line), 0);
	strcat(line, " --fallback nbd://h/x");
	CHECK_EQ(parse(line), OPTIONS_E_USAGE);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of nbdclient. Knows what the words mean, does nothing of what they say. */
#ifndef NBDCLIENT_OPTIONS_H
#define NBDCLIENT_OPTIONS_H

#include "ending.h"
#include "uri.h"

enum options_command {
	OPTIONS_ATTACH,
	OPTIONS_DETACH,
	OPTIONS_RESUME,
	OPTIONS_STATUS,
	OPTIONS_INFO,
	OPTIONS_LIST,
	OPTIONS_HELP,
	OPTIONS_VERSION,
};

enum {
	OPTIONS_E_USAGE = 2, /* said on stderr; the exit status for it */
	OPTIONS_FALLBACKS_MAX = 8,
};

struct options {
	enum options_command command;
	struct uri uri;
	struct uri fallback[OPTIONS_FALLBACKS_MAX];
	unsigned fallbacks;
	int index; /* of --device or DEVICE; -1 for any, or all */
	bool foreground, json, force;
	int ready_fd;               /* -1: none */
	unsigned connect_timeout_s; /* 0: for ever */
	unsigned outage_s;          /* restart the machine after so long; 0: never */
	enum ending_role on_shutdown;
};

/* 0, or OPTIONS_E_USAGE after saying on stderr what is wrong. Allocates nothing. */
int options_parse(struct options *o, int argc, char **argv) _must_check_;

extern const char options_help[];

#endif

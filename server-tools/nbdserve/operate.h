/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The server from its start to its end: opens what it needs, locks itself up, starts the threads,
 * then accepts clients and listens to its operator (signals, the control socket, a service
 * manager, a successor) until it is told to stop.
 */
#ifndef NBDSERVE_OPERATE_H
#define NBDSERVE_OPERATE_H

#include "config.h"

enum { OPTIONS_CONFIGS_MAX = 16 };

struct options {
	struct config config;
	int argc; /* for a reload, which reads all of it again */
	char **argv;
	char *config_paths[OPTIONS_CONFIGS_MAX]; /* absolute */
	size_t n_config_paths;
	bool is_foreground;
	bool is_takeover; /* --take-over: the listening sockets are those of the present server */
	int ready_fd;     /* -1: none */
};

/*
 * Reads the command line and the files that it names; a reload does so again. Relative paths are
 * meant in the folder in which the program was started. Returns -1 to go on, or an exit status;
 * err has words then, or is empty when there is nothing to say. In main.c.
 */
int options_parse(struct options *o, int argc, char **argv, char err[static CONFIG_ERROR_MAX]);

void options_deinit(struct options *o);

/* Runs until it is told to stop. Returns an exit status. */
int operate(struct options *o);

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

#endif

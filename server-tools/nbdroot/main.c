/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbdroot, the admin's command: makes and checks images, packs the initramfs. Each subcommand is
 * a file of its own; here is only the choice between them. Talks to no network and no daemon.
 */
#include "base/log.h"
#include "image.h"
#include "initramfs.h"
#include "interrupt.h"

#include <stdio.h>
#include <string.h>

static const char main_usage[] =
	"usage: nbdroot image create|info|check ...\n"
	"       nbdroot initramfs -o FILE [--modules DIR/lib/modules/VERSION]... ...\n";

static const char main_help[] =
	"\n"
	"  image       make, describe and check file-system images for diskless clients\n"
	"  initramfs   pack the initramfs that such a client boots\n"
	"  --version   print the version\n"
	"\n"
	"`nbdroot COMMAND --help` tells the options of a command; nbdroot(8) tells all.\n";

int main(int argc, char *argv[])
{
	int status;

	log_init("nbdroot");
	if (argc < 2) {
		fputs(main_usage, stderr);
		return 2;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		printf("%s%s", main_usage, main_help);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0) {
		puts("nbdroot " NBDROOT_VERSION);
		return 0;
	}
	interrupt_install();
	if (strcmp(argv[1], "image") == 0) {
		status = image_main(argc - 1, argv + 1);
	} else if (strcmp(argv[1], "initramfs") == 0) {
		status = initramfs_main(argc - 1, argv + 1);
	} else {
		log_error("%s: no such command (see nbdroot --help)", argv[1]);
		return 2;
	}
	interrupt_die_if_pending();
	return status;
}

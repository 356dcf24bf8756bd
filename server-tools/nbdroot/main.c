/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbdroot, the admin's command: makes and checks images, packs the initramfs, writes the netboot
 * tree, looks after a running server over its control socket. Each subcommand is a file of its own;
 * here is only the choice between them. Talks to no network.
 */
#include "base/log.h"
#include "image.h"
#include "initramfs.h"
#include "interrupt.h"
#include "netboot.h"
#include "status.h"

#include <stdio.h>
#include <string.h>

static const char main_usage[] =
	"usage: nbdroot image create|info|check ...\n"
	"       nbdroot initramfs -o FILE [--modules DIR/lib/modules/VERSION]... ...\n"
	"       nbdroot netboot --config FILE -o DIR ...\n"
	"       nbdroot status|reload ...\n"
	"       nbdroot client list|disconnect|release ...\n";

static const char main_help[] =
	"\n"
	"  image       make, describe and check file-system images for diskless clients\n"
	"  initramfs   pack the initramfs that such a client boots\n"
	"  netboot     write what TFTP and DHCP servers need to boot them\n"
	"  status      tell how a running nbdserve is: itself, its exports, its clients\n"
	"  reload      let it read its configuration again\n"
	"  client      list its clients, disconnect them, release what one holds\n"
	"  --version   print the version\n"
	"\n"
	"`nbdroot COMMAND --help` tells the options of a command; nbdroot(8) tells all.\n";

int main(int argc, char *argv[])
{
	static const struct {
		const char *name;
		int (*run)(int argc, char *argv[]);
	} commands[] = {
		{ "image", image_main },     { "initramfs", initramfs_main },
		{ "netboot", netboot_main }, { "status", status_main },
		{ "reload", reload_main },   { "client", client_main },
	};
	int (*run)(int argc, char *argv[]) = NULL;
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
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			run = commands[i].run;
	if (!run) {
		log_error("%s: no such command (see nbdroot --help)", argv[1]);
		return 2;
	}
	status = run(argc - 1, argv + 1);
	interrupt_die_if_pending();
	return status;
}

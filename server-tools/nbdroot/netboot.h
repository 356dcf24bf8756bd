/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbdroot netboot: from one short file to a folder that TFTP and HTTP servers serve and a dnsmasq
 * configuration. Serves nothing itself, starts nothing, and writes nowhere but into that folder.
 */
#ifndef NBDROOT_NETBOOT_H
#define NBDROOT_NETBOOT_H

int netboot_main(int argc, char *argv[]);

#endif

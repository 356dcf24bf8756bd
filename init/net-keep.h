/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The resident that keeps the boot card what the boot made it, for a root hangs on it: init's own
 * program, started as "@nbdroot-net INTERFACE dhcp|static". It runs the DHCP client and starts it
 * again when it dies, and gives the card back its link, address and routes when somebody has taken
 * them and has put nothing in their place. An address that somebody else gave is left alone.
 */
#ifndef INIT_NET_KEEP_H
#define INIT_NET_KEEP_H

#define NET_KEEP_NAME "@nbdroot-net"

/*
 * The rest of the process' life. options (NULL ends them): lower=CARD below a VLAN, host=NAME for
 * the DHCP server, mtu=NUMBER whatever DHCP says. Returns an exit status only when it cannot begin.
 */
int net_keep_run(const char *interface, const char *how, char *const options[]);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The network of the boot: the right card, its address, the machine's name. Waits for ever for
 * cards, links and DHCP answers, and says what it is waiting for. Never trusts a name such as
 * eth0 alone: which card gets it is chance.
 */
#ifndef INIT_NET_H
#define INIT_NET_H

#include "boot.h"

/* The step. Fills b->net. */
int net_up(struct boot *b) _must_check_;

#endif

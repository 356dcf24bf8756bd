/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who this machine is, for a server that wants to know (docs/extension.md): the address of its
 * network card, which stays the same over boots, its host name, and an id that is new with each
 * nbdclient. Found out once, before anything is attached, for it allocates and may read a file.
 * Nothing of it is secret and nothing of it is a proof.
 */
#ifndef NBDCLIENT_WHOAMI_H
#define NBDCLIENT_WHOAMI_H

#include "dial.h"
#include "proto/session.h"

#include <ifaddrs.h>

/*
 * Makes a session of slot 0 and generation 0: the first connection is to be generation 1. Cannot
 * fail: what is not known is left out, or made up from the id.
 */
void whoami_init(struct nbd_session *session, const struct dial_list *servers);

/*
 * The address, as "52-54-00-12-34-56", of the Ethernet card among these that has the address
 * local; without one (local may be NULL), of the first by number. False: there is none.
 */
bool whoami_card(const struct ifaddrs *cards, const struct sockaddr *local,
		 char machine[static NBD_SESSION_MACHINE_MAX + 1]);

/* A host name as it may be shown: "?" for what is not printable ASCII, "" for Linux's "(none)". */
void whoami_clean_host(char *host);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commands that only ask: a server (info, list), or this machine (status). Nothing here is
 * resident; each returns the program's exit status.
 */
#ifndef NBDCLIENT_QUERY_H
#define NBDCLIENT_QUERY_H

#include "options.h"

int query_info(const struct options *o);
int query_list(const struct options *o);
int query_status(const struct options *o);

#endif

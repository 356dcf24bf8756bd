/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * {mac}, {ip}, {hostname} and {uuid} in URIs and paths, so that one boot entry serves a fleet.
 * Pure. Refuses unknown names, values that this machine does not have, and values that could
 * leave the place they are put in (a host name from DHCP such as "../x").
 */
#ifndef INIT_SUBSTITUTE_H
#define INIT_SUBSTITUTE_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>

enum { SUBSTITUTE_E_BAD = 1 /* problem says why */ };

/* Absent values are NULL or "". */
struct substitute_values {
	const char *mac, *ip, *hostname, *uuid;
};

int substitute(const char *text, const struct substitute_values *v, char *out, size_t out_size,
	       char *problem, size_t problem_size) _must_check_;

#endif

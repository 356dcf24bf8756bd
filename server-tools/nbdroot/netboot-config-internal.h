/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What netboot-config.c and netboot-values.c share: see netboot-config.h. */
#ifndef NBDROOT_NETBOOT_CONFIG_INTERNAL_H
#define NBDROOT_NETBOOT_CONFIG_INTERNAL_H

#include "netboot-config.h"

enum { NETBOOT_WHY_MAX = 400 };

/* Writes words to why and returns -1. */
int netboot_fail(char *why, const char *fmt, ...) _printf_(2, 3);

/*
 * A setting of a section. text is trimmed and not empty. 0, or -1 with words in why (of
 * NETBOOT_WHY_MAX bytes), which begin with the reason.
 */
int netboot_set_server(struct netboot_config *c, const char *key, const char *text,
		       char *why) _must_check_;
int netboot_set_entry(struct netboot_entry *e, const char *key, const char *text,
		      char *why) _must_check_;
int netboot_set_client(struct netboot_client *k, const char *key, const char *text,
		       char *why) _must_check_;

/* "52:54:00:12:34:56", or with dashes. 0 or -1. */
int netboot_parse_mac(const char *text, uint8_t out[static 6]) _must_check_;

/* A name that may stand in any of the files: letters, digits, "-" and "_". */
bool netboot_is_name(const char *text);

#endif

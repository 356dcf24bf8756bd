/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What cmdline.c and cmdline-net.c share; nobody else includes it. */
#ifndef INIT_CMDLINE_INTERNAL_H
#define INIT_CMDLINE_INTERNAL_H

#include "cmdline.h"

/* Keeps the first problem. */
void cmdline_problem(struct cmdline *c, const char *fmt, ...) _printf_(2, 3);

void cmdline_parse_ip(struct cmdline *c, char *value);
void cmdline_parse_bootif(struct cmdline *c, const char *value);
void cmdline_parse_vlan(struct cmdline *c, char *value);
void cmdline_parse_nameserver(struct cmdline *c, const char *value);

#endif

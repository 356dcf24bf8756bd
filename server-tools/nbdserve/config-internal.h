/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the configuration share and nobody else needs: see config.h. */
#ifndef NBDSERVE_CONFIG_INTERNAL_H
#define NBDSERVE_CONFIG_INTERNAL_H

#include "config.h"

/* Writes words to err and returns -1. */
int config_fail(char *err, const char *fmt, ...) _printf_(2, 3);
int config_out_of_memory(char *err);

/* "10.0.0.0/8+fd00::/8", "all" or "none", added to a list of rules. */
int config_add_rules(struct cidr **list, size_t *n, bool *has_allow, const char *text,
		     char *err) _must_check_;

/* An export's section: begins with its name, has settings, and is complete when it ends. */
int config_begin_export(struct config *c, const char *name, char *err) _must_check_;
int config_set_export(struct config_export *e, const char *key, const char *value,
		      char *err) _must_check_;
int config_end_export(struct config_export *e, char *err) _must_check_;

#endif

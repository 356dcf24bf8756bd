/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Firmware that drivers ask for and that is not there. The kernel loads it by itself, from
 * /lib/firmware of the initramfs; what it does not find, it says in its log, and a card without its
 * firmware does not come up.
 */
#ifndef INIT_FIRMWARE_H
#define INIT_FIRMWARE_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>

enum { FIRMWARE_NAME_MAX = 128, FIRMWARE_WORDS_MAX = 512 };

/* Whether a record of the kernel's log names a file that was not found. */
bool firmware_parse(const char *record, char name[static FIRMWARE_NAME_MAX]);

/* Which files are missing, and what to do, for whom no card comes up; "" when none is. */
void firmware_missing(char words[static FIRMWARE_WORDS_MAX]);

/*
 * What a person may look at, and, when files are missing, these as well: they may be those of
 * another device (a graphics card, regulatory.db).
 */
void firmware_add(const char *hint, const char *words, char *out, size_t out_size);

#endif

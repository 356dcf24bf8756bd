/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine id (machine-id(5)) for a machine that has no disk to keep a random one on: derived from
 * what is its own, so that it is the same at every boot. Pure.
 */
#ifndef INIT_MACHINE_ID_H
#define INIT_MACHINE_ID_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	MACHINE_ID_TEXT = 33, /* 32 digits */
	MACHINE_ID_E_NONE = 1,
};

struct machine_id_card {
	uint8_t mac[6]; /* its own, not one that it was given */
	bool is_usb;
};

/*
 * Of a machine's cards, the one whose address stands for it: the lowest, of those that are not
 * plugged into USB if there is one. Not the card that the boot went by, which is chance where
 * several could. NULL: there is none.
 */
const struct machine_id_card *machine_id_choose(const struct machine_id_card *cards, size_t count);

/*
 * uuid: of SMBIOS, lower case; mac: with dashes. Either may be "". 0, or MACHINE_ID_E_NONE: both
 * are.
 */
int machine_id_derive(const char *uuid, const char *mac,
		      char out[static MACHINE_ID_TEXT]) _must_check_;

/* For a test against its authors' values. */
void machine_id_siphash(const uint8_t key[static 16], const void *data, size_t size,
			uint8_t out[static 16]);

/* Whether the text of an /etc/machine-id leaves it to the boot to find one. */
bool machine_id_is_open(const char *text);

#endif

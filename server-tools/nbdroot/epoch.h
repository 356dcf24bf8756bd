/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SOURCE_DATE_EPOCH (reproducible-builds.org): the one clock of what must come out the same. */
#ifndef NBDROOT_EPOCH_H
#define NBDROOT_EPOCH_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * *is_set tells whether the variable is there, *seconds what it says (0 when it is not).
 * -EINVAL, already reported, when it is no number of 32 bits.
 */
int epoch_read(bool *is_set, uint32_t *seconds) _must_check_;

#endif

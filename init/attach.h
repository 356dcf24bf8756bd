/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Attaches the network block devices: starts nbdclient for each, waits for it, and tells what
 * it says. init and nbdclient meet through argv, exit status and stderr, nothing else; this
 * file never looks into the protocol.
 */
#ifndef INIT_ATTACH_H
#define INIT_ATTACH_H

#include "boot.h"

/* The step: fills b->devices (placeholders replaced) and attaches them in order. */
int attach_all(struct boot *b) _must_check_;

/* After that, when b->root_name is "": finds the root again, and attaches it in the old one's
 * place. */
int attach_root_anew(struct boot *b) _must_check_;

#endif

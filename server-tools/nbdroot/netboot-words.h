/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Words of a kernel command line as a boot menu may hold them: what PXELINUX, GRUB and iPXE all
 * pass on unchanged, and what our init understands. The rules of init's own reader are repeated
 * here only as far as shapes go, so that a slip is found on the server and not on a screen in
 * another room.
 */
#ifndef NBDROOT_NETBOOT_WORDS_H
#define NBDROOT_NETBOOT_WORDS_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>

enum { WORDS_WHY_MAX = 320 };

/* All of them: 0, or -1 with the reason, and what to do, in why (of WORDS_WHY_MAX bytes). */

/* The value of root=. With dhcp, *is_dhcp is set. */
int words_check_root(const char *text, bool *is_dhcp, char *why) _must_check_;

/* What DHCP option 17 may hold for root=dhcp. */
int words_check_root_path(const char *text, char *why) _must_check_;

/* The value of rpmdb=. */
int words_check_rpmdb(const char *text, char *why) _must_check_;

/* Further words, separated by blanks. */
int words_check_append(const char *text, char *why) _must_check_;

/* The next word at *text, which goes behind it; its length in *size. NULL: there is none. */
const char *words_next(const char **text, size_t *size);

/* Whether text has a placeholder, so that each machine gets a device of its own. */
bool words_has_placeholder(const char *text);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Questions about paths in the new root, asked in a child that has it as its root directory, so
 * that its absolute symlinks mean what they say and lead nowhere else.
 */
#ifndef INIT_ASK_H
#define INIT_ASK_H

#include "base/cleanup.h"

#include <limits.h>

enum ask_question {
	ASK_IS_PROGRAM,     /* an executable file */
	ASK_IS_FILE,        /* a regular file, symlinks followed */
	ASK_IS_FOLDER,      /* a directory, symlinks followed */
	ASK_MAKE_FOLDER,    /* make it, with its parents, if it is not there */
	ASK_IS_REAL_FOLDER, /* a directory, and not a symlink to one */
	ASK_LINK,           /* a symlink, which may lead nowhere; real is its text */
};

/* real: where the path leads, seen from the new root. 0 or negative errno. */
int ask(enum ask_question q, const char *path, char real[static PATH_MAX]) _must_check_;

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a process without which the root is gone asks to be left alone. Children inherit the first
 * two, over exec too. Locking in memory is not here, for that is not inherited.
 */
#ifndef BASE_SPARE_H
#define BASE_SPARE_H

#include "cleanup.h"

/*
 * Where sysvinit's killall5 looks up whom to spare: files with a process id in each line, made by
 * fd_create_file().
 */
#define SPARE_FOLDER "/run/sendsigs.omit.d"

/* 0 or negative errno. */
int spare_from_oom_killer(void) _must_check_;

/* PR_SET_IO_FLUSHER. The same; 0 on a kernel before 5.6, too, which knows no such thing. */
int spare_be_io_flusher(void) _must_check_;

#endif

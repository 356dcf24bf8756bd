/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptors: reads and writes that do not stop half way, and files that appear whole. */
#ifndef BASE_FD_H
#define BASE_FD_H

#include "cleanup.h"

#include <stdint.h>
#include <sys/types.h>

/* Writes all of it, whatever the kernel takes at a time. 0, or negative errno. */
int fd_write_all(int fd, const void *data, size_t size) _must_check_;

/* Reads exactly size bytes. 0, negative errno, or -ENODATA when the end came first. */
int fd_read_all(int fd, void *data, size_t size) _must_check_;

/* The same at an offset; the file position is not used. */
int fd_pwrite_all(int fd, const void *data, size_t size, off_t offset) _must_check_;
int fd_pread_all(int fd, void *data, size_t size, off_t offset) _must_check_;

/*
 * Reads a small file (of /proc or /sys, say) into out as a string without its last newline.
 * Returns its length, or negative errno; -EFBIG when it does not fit in out_size.
 */
int fd_read_file(const char *path, char *out, size_t out_size) _must_check_;

/* Writes text to an existing file (of /proc or /sys) in one write(2). 0 or negative errno. */
int fd_write_file(const char *path, const char *text) _must_check_;

/* Makes a file with this text, and the folders that lead to it (absolute). 0 or negative errno. */
int fd_create_file(const char *path, const char *text) _must_check_;

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The load of the campaign's machines (tests/campaign/), of which every request can be judged
 * afterwards. LOG is a console whose other end is a file of the host's: it outlives the machine.
 */
#ifndef TESTS_SYSTEM_GUEST_LOAD_H
#define TESTS_SYSTEM_GUEST_LOAD_H

#include <stdint.h>

/* Writes records round and round in so many places of FILE and fsyncs each; never returns 0. */
int guest_overwrite(const char *path, const char *log_path, const char *name, uint64_t slots);

/* Reads single blocks of DEVICE, several at a time, and logs what took long; never returns 0. */
int guest_probe(const char *path, const char *log_path);

#endif

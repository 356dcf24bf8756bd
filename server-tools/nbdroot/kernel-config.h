/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a kernel was built with, where its package tells: the file config in its module tree, or
 * boot/config-VERSION beside lib.
 */
#ifndef NBDROOT_KERNEL_CONFIG_H
#define NBDROOT_KERNEL_CONFIG_H

enum kernel_config {
	KERNEL_CONFIG_UNKNOWN, /* there is no such file */
	KERNEL_CONFIG_YES,
	KERNEL_CONFIG_NO, /* or as a module */
};

/* path: DIR/lib/modules/VERSION; option: "RD_ZSTD". */
enum kernel_config kernel_config(const char *path, const char *option);

#endif

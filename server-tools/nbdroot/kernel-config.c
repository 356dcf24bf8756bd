/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See kernel-config.h. */
#include "kernel-config.h"

#include "base/cleanup.h"

#include <stdio.h>
#include <string.h>

static FILE *kernel_config_open(const char *path)
{
	/* The latter where lib is a link to usr/lib. */
	static const char *const places[] = { "config", "../../../boot/config-",
					      "../../../../boot/config-" };
	_cleanup_free_ char *whole = realpath(path, NULL);
	FILE *file = NULL;

	for (size_t i = 0; whole && i < ARRAY_SIZE(places) && !file; i++) {
		_cleanup_free_ char *name = NULL;

		if (asprintf(&name, "%s/%s%s", whole, places[i],
			     i == 0 ? "" : strrchr(whole, '/') + 1) < 0)
			return NULL;
		file = fopen(name, "re");
	}
	return file;
}

enum kernel_config kernel_config(const char *path, const char *option)
{
	FILE *file = kernel_config_open(path);
	enum kernel_config answer = KERNEL_CONFIG_NO;
	char line[256], yes[64];

	if (!file)
		return KERNEL_CONFIG_UNKNOWN;
	snprintf(yes, sizeof(yes), "CONFIG_%s=y\n", option);
	while (answer == KERNEL_CONFIG_NO && fgets(line, sizeof(line), file))
		if (strcmp(line, yes) == 0)
			answer = KERNEL_CONFIG_YES;
	fclose(file);
	return answer;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See firmware.h. */
#include "firmware.h"

#include "base/fd.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { NAMES_MAX = 3, RECORD_MAX = 8192 /* what one read(2) of /dev/kmsg may give */ };

bool firmware_parse(const char *record, char name[static FIRMWARE_NAME_MAX])
{
	/* The kernel's own words, and Debian's. */
	static const struct {
		const char *before, *after;
	} forms[] = { { "Direct firmware load for ", " failed with error " },
		      { "firmware: failed to load ", " (-" } };

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		const char *at = strstr(record, forms[i].before), *end;

		if (at == NULL)
			continue;
		at += strlen(forms[i].before);
		end = strstr(at, forms[i].after);
		if (end == NULL || end == at || end - at >= FIRMWARE_NAME_MAX)
			continue;
		memcpy(name, at, (size_t)(end - at));
		name[end - at] = '\0';
		return true;
	}
	return false;
}

void firmware_missing(char words[static FIRMWARE_WORDS_MAX])
{
	_cleanup_close_ int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char record[RECORD_MAX + 1], names[NAMES_MAX][FIRMWARE_NAME_MAX];
	size_t count = 0, used;

	words[0] = '\0';
	while (fd >= 0 && count < NAMES_MAX) {
		ssize_t n = read(fd, record, RECORD_MAX);
		size_t i = 0;

		if (n < 0 && errno == EPIPE) /* overwritten meanwhile: go on with the oldest */
			continue;
		if (n <= 0)
			break;
		record[n] = '\0';
		if (!firmware_parse(record, names[count]))
			continue;
		while (i < count && strcmp(names[i], names[count]) != 0)
			i++;
		count += i == count;
	}
	if (count == 0)
		return;
	used = (size_t)snprintf(words, FIRMWARE_WORDS_MAX,
				"a driver asks for firmware that this "
				"initramfs lacks:");
	for (size_t i = 0; i < count; i++)
		used += (size_t)snprintf(words + used, FIRMWARE_WORDS_MAX - used, "%s %s",
					 i > 0 ? "," : "", names[i]);
	snprintf(words + used, FIRMWARE_WORDS_MAX - used, "; see --firmware of nbdroot initramfs");
}

void firmware_add(const char *hint, const char *words, char *out, size_t out_size)
{
	snprintf(out, out_size, "%s%s%s", hint, words[0] != '\0' ? "; or: " : "", words);
}

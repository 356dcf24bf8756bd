/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See values.h. */
#include "values.h"

#include "base/fd.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

void values_read(const struct boot *b, struct values *out)
{
	char *uuid = out->uuid;

	snprintf(out->mac, sizeof(out->mac), "%s", b->net.mac);
	for (char *p = out->mac; *p != '\0'; p++)
		if (*p == ':')
			*p = '-';
	if (fd_read_file("/sys/class/dmi/id/product_uuid", uuid, sizeof(out->uuid)) < 0)
		uuid[0] = '\0';
	for (char *p = uuid; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	/* What firmware writers leave in when they were not given a number. */
	if (strspn(uuid, "0-") == strlen(uuid) || strspn(uuid, "f-") == strlen(uuid))
		uuid[0] = '\0';
	out->v = (struct substitute_values){
		.mac = out->mac, .ip = b->net.address, .hostname = b->net.hostname, .uuid = uuid
	};
}

int values_substitute(struct boot *b, const struct values *values, const char *text, char *out,
		      size_t out_size)
{
	char problem[LASTWORDS_MAX];

	if (substitute(text, &values->v, out, out_size, problem, sizeof(problem)) == 0)
		return 0;
	return lastwords_leave_final(
		&b->words,
		"correct the kernel command line, or give the machine what it lacks "
		"(a host name by DHCP or ip=, a UUID by firmware)",
		"%s", problem);
}

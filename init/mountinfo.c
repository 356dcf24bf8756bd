/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See mountinfo.h. */
#include "mountinfo.h"

#include <string.h>

enum { BEFORE_WHERE = 4 /* number, parent, device numbers, root */ };

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

static void decode(char *text)
{
	char *to = text;

	while (*text != '\0') {
		if (text[0] == '\\' && is_octal(text[1]) && is_octal(text[2]) &&
		    is_octal(text[3])) {
			*to++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + text[3] - '0');
			text += 4;
		} else {
			*to++ = *text++;
		}
	}
	*to = '\0';
}

bool mountinfo_parse(char *line, struct mountinfo *out)
{
	char *rest = line, *at;

	line[strcspn(line, "\n")] = '\0';
	for (int i = 0; i < BEFORE_WHERE; i++)
		if (strsep(&rest, " ") == NULL)
			return false;
	out->where = strsep(&rest, " ");
	if (rest == NULL)
		return false;
	/* Behind the options come none or more fields, then "-". */
	do
		at = strsep(&rest, " ");
	while (at != NULL && strcmp(at, "-") != 0);
	if (rest == NULL)
		return false;
	out->type = strsep(&rest, " ");
	out->source = strsep(&rest, " "); /* may be empty */
	if (out->source == NULL || *out->where == '\0' || *out->type == '\0')
		return false;
	decode(out->where);
	decode(out->type);
	decode(out->source);
	return true;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See epoch.h. */
#include "epoch.h"

#include "base/log.h"
#include "base/parse.h"

int epoch_read(bool *is_set, uint32_t *seconds)
{
	const char *text = getenv("SOURCE_DATE_EPOCH");
	uint64_t value = 0;

	*is_set = text != NULL;
	if (text && parse_u64(text, UINT32_MAX, &value) < 0) {
		log_error("SOURCE_DATE_EPOCH=\"%s\": not a number of seconds up to 2^32-1 (unset "
			  "it or correct it)",
			  text);
		return -EINVAL;
	}
	*seconds = (uint32_t)value;
	return 0;
}

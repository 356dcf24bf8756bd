/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a program or a module: what is found lies within them, every value of .modinfo has
 * an end, and a program that was trimmed is the same program, no larger, with nothing left to trim.
 */
#include "server-tools/nbdroot/elf.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_true)
{
	if (!is_true)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);
	struct elf e, trimmed;
	const char *value;
	size_t at = 0, less;

	if (!copy)
		return 0;
	if (size > 0)
		memcpy(copy, data, size);
	less = elf_trim(copy, size);
	must(less <= size);
	if (elf_read(data, size, &e) < 0 || e.is_module) {
		must(less == size);
	} else {
		must(e.end_of_segments <= size);
		must(elf_read(copy, less, &trimmed) == 0);
		must(trimmed.machine == e.machine && trimmed.is_static == e.is_static &&
		     trimmed.end_of_segments == e.end_of_segments);
		must(elf_trim(copy, less) == less);
	}
	while ((value = elf_info(&e, "depends", &at)))
		must(value + strlen(value) < (const char *)data + size);
	must(e.info_size == 0 || at == e.info_size);
	free(copy);
	return 0;
}

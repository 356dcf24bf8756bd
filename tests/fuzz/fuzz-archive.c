/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as an initramfs: parts, cpio entries, links, modules and what they say of themselves.
 * What is found lies within the bytes, names are sorted and each is there once, and every file is
 * found by its name.
 */
#include "server-tools/nbdroot/inspect.c"

#include "server-tools/nbdroot/interrupt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Compressing asks; nobody compresses here. */
int interrupt_pending(void)
{
	return 0;
}

static void must(bool is_true)
{
	if (!is_true)
		abort();
}

static void check_files(const struct archive *a)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < a->n_files; i++) {
		const struct archive_file *f = &a->files[i];

		must(i == 0 || strcmp(a->files[i - 1].name, f->name) < 0);
		/* for a sanitizer: the first and the last byte are there */
		if (f->size > 0)
			sum ^= f->data[0] ^ f->data[f->size - 1];
		if (S_ISREG(f->mode) && f->name[0] && !strstr(f->name, ".") &&
		    !strstr(f->name, "//") && f->name[strlen(f->name) - 1] != '/') {
			const struct archive_file *found = archive_find(a, f->name);

			/* or another one, where one of its folders is a link */
			must(found == f || strchr(f->name, '/'));
		}
	}
	must(sum == 0 || sum != 0);
}

static void check_kernel(const struct inspection *in, const struct inspect_kernel *k)
{
	for (size_t i = 0; i < k->n_modules; i++) {
		const struct inspect_module *m = &k->modules[i];
		const char *name;
		size_t at = 0;

		must(strlen(m->name) > 255 || inspect_find_module(k, m->name));
		while ((name = inspect_info(m, "firmware", &at)))
			must(inspect_has_firmware(in, k, name) || strlen(name) < m->info_size);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct inspection in = { .path = "fuzz" };

	if (inspect_read(&in, data, size) == 0) {
		check_files(&in.archive);
		for (size_t i = 0; i < in.n_kernels; i++)
			check_kernel(&in, &in.kernels[i]);
	}
	inspect_close(&in);
	return 0;
}

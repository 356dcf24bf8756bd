/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs a fuzz target over the files named on the command line, as a test in the Test Anything
 * Protocol: the corpus is replayed by `make check` with any compiler. A finding ends the program,
 * and with it the test; a file that cannot be read is a failed test.
 */
#include "base/cleanup.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The whole file in a block of exactly its size, so that a sanitizer sees its end. */
static int run_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data = NULL;
	long size = -1;
	int r = -1;

	if (!file)
		return -1;
	if (fseek(file, 0, SEEK_END) == 0)
		size = ftell(file);
	if (size >= 0 && fseek(file, 0, SEEK_SET) == 0)
		data = malloc(size > 0 ? (size_t)size : 1);
	if (data && fread(data, 1, (size_t)size, file) == (size_t)size) {
		LLVMFuzzerTestOneInput(data, (size_t)size);
		r = 0;
	}
	free(data);
	fclose(file);
	return r;
}

int main(int argc, char **argv)
{
	int failures = 0;

	if (argc < 2) {
		fprintf(stderr, "usage: %s FILE...\n", argv[0]);
		return 2;
	}
	printf("1..%d\n", argc - 1);
	for (int i = 1; i < argc; i++) {
		const char *slash = strrchr(argv[i], '/');
		int r;

		/* before the run: a finding must not take the name of its file with it */
		printf("# %s\n", argv[i]);
		fflush(stdout);
		r = run_file(argv[i]);
		if (r < 0)
			printf("# %s: cannot be read: %s\n", argv[i], strerror(errno));
		printf("%sok %d - %s\n", r < 0 ? "not " : "", i, slash ? slash + 1 : argv[i]);
		failures += r < 0;
	}
	return failures != 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nbdroot initramfs --list: what is inside, as tables for people or as JSON. See inspect.h. */
#include "inspect.h"

#include "base/json.h"
#include "base/log.h"
#include "table.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

enum { LIST_WIDTH = 79 };

static size_t list_count_network(const struct inspect_kernel *k)
{
	size_t n = 0;

	for (size_t i = 0; i < k->n_modules; i++)
		n += inspect_is_network_driver(&k->modules[i]);
	return n;
}

/* ---- for people --------------------------------------------------------------------------- */

/* A word of a paragraph; *column: where it stands. */
static void list_word(const char *word, int *column)
{
	_cleanup_free_ char *clean = inspect_clean(word);
	int width = clean ? (int)strlen(clean) : 0;

	if (*column > 0 && *column + 1 + width > LIST_WIDTH) {
		putchar('\n');
		*column = 0;
	}
	printf("%s%s", *column > 0 ? " " : "  ", clean ? clean : "?");
	*column += width + (*column > 0 ? 1 : 2);
}

static void list_modules(const struct inspect_kernel *k)
{
	for (int is_network = 0; is_network < 2; is_network++) {
		int column = 0;
		bool has_any = false;

		for (size_t i = 0; i < k->n_modules; i++) {
			if (inspect_is_network_driver(&k->modules[i]) != is_network)
				continue;
			if (!has_any) {
				_cleanup_free_ char *version = inspect_clean(k->version);

				printf("\n%s: %s\n", version ? version : "?",
				       is_network ? "network drivers" : "other modules");
			}
			has_any = true;
			list_word(k->modules[i].name, &column);
		}
		if (has_any)
			putchar('\n');
	}
}

static void list_firmware(const struct inspection *in)
{
	int column = 0;

	if (in->n_firmware == 0)
		return;
	printf("\nfirmware\n");
	for (size_t i = 0; i < in->archive.n_files; i++) {
		const char *name = inspect_firmware_name(&in->archive.files[i]);

		if (name)
			list_word(name, &column);
	}
	putchar('\n');
}

static int list_parts(const struct inspection *in)
{
	static const char *const heads[] = { ">PART", ">START",    "COMPRESSION",
					     ">SIZE", ">UNPACKED", ">FILES" };
	struct table t = { .heads = heads, .n_columns = ARRAY_SIZE(heads) };

	for (size_t i = 0; i < in->archive.n_parts; i++) {
		const struct archive_part *p = &in->archive.parts[i];

		table_add_number(&t, i + 1);
		table_add_number(&t, p->offset);
		table_add(&t, strdup(p->compression));
		table_add(&t, table_bytes(p->packed));
		table_add(&t, table_bytes(p->unpacked));
		table_add_number(&t, p->entries);
	}
	putchar('\n');
	return table_print(&t);
}

static int list_programs(const struct inspection *in)
{
	static const char *const heads[] = { "PROGRAM", "FOR", "VERSION", ">SIZE" };
	struct table t = { .heads = heads, .n_columns = ARRAY_SIZE(heads) };

	for (size_t i = 0; i < in->n_programs; i++) {
		const struct inspect_program *p = &in->programs[i];

		table_add(&t, strdup(p->path));
		table_add(&t, strdup(elf_machine_name(p->machine)));
		table_add(&t, strdup(p->version ? p->version : "-"));
		table_add(&t, table_bytes(p->file->size));
	}
	putchar('\n');
	return table_print(&t);
}

static int list_kernels(const struct inspection *in)
{
	static const char *const heads[] = { "KERNEL", "FOR", ">MODULES", ">NETWORK", ">SIZE" };
	struct table t = { .heads = heads, .n_columns = ARRAY_SIZE(heads) };

	for (size_t i = 0; i < in->n_kernels; i++) {
		const struct inspect_kernel *k = &in->kernels[i];

		table_add(&t, inspect_clean(k->version));
		table_add(&t, strdup(elf_machine_name(k->machine)));
		table_add_number(&t, k->n_modules);
		table_add_number(&t, list_count_network(k));
		table_add(&t, table_bytes(k->size_bytes));
	}
	putchar('\n');
	return table_print(&t);
}

static int list_for_people(const struct inspection *in)
{
	_cleanup_free_ char *size = table_bytes(in->size);
	_cleanup_free_ char *unpacked = table_bytes(in->archive.unpacked);
	_cleanup_free_ char *firmware = table_bytes(in->firmware_bytes);

	if (!size || !unpacked || !firmware) {
		log_error("%s: out of memory", in->path);
		return -1;
	}
	printf("%s: %s, %s unpacked; ", in->path, size, unpacked);
	if (in->made_by) {
		_cleanup_free_ char *made_by = inspect_clean(in->made_by);
		_cleanup_free_ char *drivers = inspect_clean(in->drivers ? in->drivers : "?");

		printf("made by nbdroot %s, --drivers %s\n", made_by ? made_by : "?",
		       drivers ? drivers : "?");
	} else {
		printf("made by another tool\n");
	}
	if (list_parts(in) < 0 || (in->n_programs > 0 && list_programs(in) < 0) ||
	    (in->n_kernels > 0 && list_kernels(in) < 0))
		return -1;
	printf("\n%zu firmware files (%s)\n", in->n_firmware, firmware);
	for (size_t i = 0; i < in->n_kernels; i++)
		list_modules(&in->kernels[i]);
	list_firmware(in);
	return 0;
}

/* ---- JSON --------------------------------------------------------------------------------- */

/* ,"name":"text", or null. */
static void list_json_text(const char *name, const char *text)
{
	printf(",\"%s\":", name);
	if (text)
		json_put_string(stdout, text);
	else
		printf("null");
}

static void list_json_parts(const struct inspection *in)
{
	printf(",\"parts\":[");
	for (size_t i = 0; i < in->archive.n_parts; i++) {
		const struct archive_part *p = &in->archive.parts[i];

		printf("%s{\"offset\":%zu,\"compression\":\"%s\",\"bytes\":%zu,"
		       "\"unpacked_bytes\":%zu,\"files\":%zu}",
		       i ? "," : "", p->offset, p->compression, p->packed, p->unpacked, p->entries);
	}
	printf("]");
}

static void list_json_programs(const struct inspection *in)
{
	printf(",\"programs\":[");
	for (size_t i = 0; i < in->n_programs; i++) {
		const struct inspect_program *p = &in->programs[i];

		printf("%s{\"path\":\"%s\",\"for\":\"%s\",\"bytes\":%zu", i ? "," : "", p->path,
		       elf_machine_name(p->machine), p->file->size);
		list_json_text("version", p->version);
		printf("}");
	}
	printf("]");
}

static void list_json_modules(const struct inspect_kernel *k)
{
	for (size_t i = 0; i < k->n_modules; i++) {
		const struct inspect_module *m = &k->modules[i];
		const char *firmware;
		size_t at = 0, n = 0;

		printf("%s{\"bytes\":%zu,\"network\":%s", i ? "," : "", m->size,
		       inspect_is_network_driver(m) ? "true" : "false");
		list_json_text("name", m->name);
		list_json_text("path", m->path);
		printf(",\"firmware\":[");
		while ((firmware = inspect_info(m, "firmware", &at))) {
			printf("%s", n++ ? "," : "");
			json_put_string(stdout, firmware);
		}
		printf("]}");
	}
}

static void list_json_kernels(const struct inspection *in)
{
	printf(",\"kernels\":[");
	for (size_t i = 0; i < in->n_kernels; i++) {
		const struct inspect_kernel *k = &in->kernels[i];

		printf("%s{\"for\":\"%s\",\"bytes\":%zu", i ? "," : "",
		       elf_machine_name(k->machine), k->size_bytes);
		list_json_text("version", k->version);
		printf(",\"modules\":[");
		list_json_modules(k);
		printf("]}");
	}
	printf("]");
}

static void list_json_firmware(const struct inspection *in)
{
	size_t n = 0;

	printf(",\"firmware\":[");
	for (size_t i = 0; i < in->archive.n_files; i++) {
		const struct archive_file *f = &in->archive.files[i];
		const char *name = inspect_firmware_name(f);

		if (!name)
			continue;
		printf("%s{\"bytes\":%zu", n++ ? "," : "", f->size);
		list_json_text("name", name);
		printf("}");
	}
	printf("]");
}

static void list_as_json(const struct inspection *in)
{
	printf("{\"file\":");
	json_put_string(stdout, in->path);
	printf(",\"bytes\":%zu,\"unpacked_bytes\":%zu", in->size, in->archive.unpacked);
	list_json_text("nbdroot", in->made_by);
	list_json_text("drivers", in->drivers);
	list_json_text("problem", in->archive.problem);
	list_json_parts(in);
	list_json_programs(in);
	list_json_kernels(in);
	list_json_firmware(in);
	printf("}\n");
}

int inspect_list(const struct inspection *in, bool as_json)
{
	int r = 0;

	if (as_json)
		list_as_json(in);
	else
		r = list_for_people(in);
	if (in->archive.problem)
		log_error("%s: cannot be read to its end: %s", in->path, in->archive.problem);
	return r < 0 || in->archive.problem ? 1 : 0;
}

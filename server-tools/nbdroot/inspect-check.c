/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbdroot initramfs --check: what is missing, and what it means for a machine. An error keeps
 * machines from booting with this archive, or some of them; a note is for who has just that card or
 * wants just that root. What another tool made is not judged by what only our init needs. See
 * inspect.h.
 */
#include "inspect.h"

#include "base/json.h"
#include "base/log.h"

#include <fnmatch.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

struct finding {
	bool is_error;
	const char *kernel; /* the version that it is about; NULL: all */
	char *text;
};

struct check {
	const struct inspection *in;
	struct finding *list;
	size_t count, errors;
	bool is_out_of_memory;
};

_printf_(4, 5) static void check_say(struct check *c, bool is_error, const struct inspect_kernel *k,
				     const char *format, ...)
{
	struct finding *grown = reallocarray(c->list, c->count + 1, sizeof(*grown));
	va_list args;
	char *text;
	int length;

	if (grown)
		c->list = grown;
	va_start(args, format);
	length = vasprintf(&text, format, args);
	va_end(args);
	if (!grown || length < 0) {
		c->is_out_of_memory = true;
		if (length >= 0)
			free(text);
		return;
	}
	grown[c->count++] = (struct finding){ is_error, k ? k->version : NULL, text };
	c->errors += is_error;
}

/* ---- the archive as a whole --------------------------------------------------------------- */

static void check_parts(struct check *c)
{
	const struct archive *a = &c->in->archive;

	if (a->problem)
		check_say(c, true, NULL,
			  "the file cannot be read to its end: %s; a kernel will not either (make "
			  "it, "
			  "or copy it, again)",
			  a->problem);
	if (a->n_parts == 0)
		check_say(c, true, NULL, "the file is empty");
	for (size_t i = 0; i < a->n_parts; i++)
		if (a->parts[i].is_crc64)
			check_say(c, true, NULL,
				  "part %zu is packed by xz with a check that no kernel knows "
				  "(pack it "
				  "with xz --check=crc32)",
				  i + 1);
}

/* The version from which on a kernel unpacks this. */
static bool check_knows(const char *version, const char *compression, const char **since)
{
	static const struct {
		const char *name, *since;
		unsigned major, minor;
	} firsts[] = {
		{ "zstd", "5.9", 5, 9 },
		{ "lz4", "3.11", 3, 11 },
		{ "xz", "2.6.38", 3, 0 },
	};
	unsigned major, minor;

	if (sscanf(version, "%u.%u", &major, &minor) != 2)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(firsts); i++) {
		if (strcmp(compression, firsts[i].name) != 0)
			continue;
		*since = firsts[i].since;
		return major > firsts[i].major ||
		       (major == firsts[i].major && minor >= firsts[i].minor);
	}
	return true;
}

static void check_compression(struct check *c, const struct inspect_kernel *k)
{
	for (size_t i = 0; i < c->in->archive.n_parts; i++) {
		const struct archive_part *p = &c->in->archive.parts[i];
		const char *since;

		if (!check_knows(k->version, p->compression, &since)) {
			check_say(
				c, true, k,
				"it cannot unpack the archive: %s is known since Linux %s (make it "
				"with --compress gzip)",
				p->compression, since);
			return;
		}
	}
}

static const struct inspect_program *check_program(const struct check *c, const char *path)
{
	for (size_t i = 0; i < c->in->n_programs; i++)
		if (strcmp(c->in->programs[i].path, path) == 0)
			return &c->in->programs[i];
	return NULL;
}

static void check_programs(struct check *c)
{
	static const char *const ours[] = { "init", "bin/nbdclient", "bin/busybox" };
	const struct inspect_program *init = check_program(c, "init");
	size_t wanted = c->in->made_by ? ARRAY_SIZE(ours) : 1;

	for (size_t i = 0; i < wanted; i++) {
		const struct inspect_program *p = check_program(c, ours[i]);

		if (!p)
			check_say(c, true, NULL, "/%s is missing%s", ours[i],
				  i == 0 ? ": the kernel would look for a root by itself, and panic"
					 : "");
		else if (!S_ISREG(p->file->mode) || (p->file->mode & 0111) == 0)
			check_say(c, true, NULL, "/%s cannot be executed (mode %04o)", ours[i],
				  p->file->mode & 07777);
		else if (p->machine == ELF_NONE || p->machine == ELF_OTHER)
			check_say(c, true, NULL, "/%s is no program for x86", ours[i]);
		else if (c->in->made_by && !p->is_static)
			check_say(c, true, NULL, "/%s needs shared libraries", ours[i]);
		else if (init && p->machine == ELF_AMD64 && init->machine == ELF_I386)
			check_say(c, true, NULL,
				  "/%s is for 64-bit machines only, and /init for both", ours[i]);
	}
	if (c->in->made_by && !archive_find(&c->in->archive, "etc/udhcpc.script"))
		check_say(c, true, NULL, "/etc/udhcpc.script is missing: no DHCP");
}

/* ---- one kernel --------------------------------------------------------------------------- */

/* Is it in the kernel itself, by the list in the archive? */
static bool check_is_builtin(const struct check *c, const struct inspect_kernel *k,
			     const char *name)
{
	char path[512], line[128];
	const struct archive_file *f;

	if (snprintf(path, sizeof(path), "%s/%s/modules.builtin", k->folder, k->version) >=
		    (int)sizeof(path) ||
	    snprintf(line, sizeof(line), "/%s.ko\n", name) >= (int)sizeof(line))
		return false;
	f = archive_find(&c->in->archive, path);
	/* The last line may lack its end. */
	return f && f->size > 0 &&
	       (memmem(f->data, f->size, line, strlen(line)) ||
		(f->size >= strlen(line) - 1 &&
		 memcmp(f->data + f->size - strlen(line) + 1, line, strlen(line) - 1) == 0));
}

static bool check_has(const struct check *c, const struct inspect_kernel *k, const char *name)
{
	return inspect_find_module(k, name) || check_is_builtin(c, k, name);
}

/* Whether a module of this kernel answers to an alias. */
static bool check_has_alias(const struct inspect_kernel *k, const char *alias)
{
	for (size_t i = 0; i < k->n_modules; i++) {
		const char *pattern;
		size_t at = 0;

		while ((pattern = inspect_info(&k->modules[i], "alias", &at)))
			if (strcmp(pattern, alias) == 0)
				return true;
	}
	return false;
}

static void check_machine(struct check *c, const struct inspect_kernel *k)
{
	const struct inspect_program *init = check_program(c, "init");

	for (size_t i = 0; i < k->n_modules; i++) {
		const struct inspect_module *m = &k->modules[i];

		if (m->is_broken) {
			check_say(c, true, k, "module %s is damaged", m->name);
		} else if (m->machine != ELF_NONE && m->machine != k->machine) {
			check_say(c, true, k, "module %s is for %s, and others are for %s", m->name,
				  elf_machine_name(m->machine), elf_machine_name(k->machine));
			return;
		}
	}
	if (init && init->machine == ELF_AMD64 && k->machine == ELF_I386)
		check_say(c, true, k,
			  "a 32-bit kernel cannot run the 64-bit /init (make it with --arch i386, "
			  "which serves both kinds)");
}

static void check_dependencies(struct check *c, const struct inspect_kernel *k)
{
	for (size_t i = 0; i < k->n_modules; i++) {
		const struct inspect_module *m = &k->modules[i];
		size_t at = 0;
		const char *list = inspect_info(m, "depends", &at);
		_cleanup_free_ char *copy = list ? strdup(list) : NULL;
		char *save = NULL;

		for (char *name = copy ? strtok_r(copy, ",", &save) : NULL; name;
		     name = strtok_r(NULL, ",", &save))
			if (!check_has(c, k, name))
				check_say(c, true, k, "module %s needs %s, which is missing",
					  m->name, name);
	}
}

/* "pre: a b post: c": names or aliases; a cipher may be in the kernel under another name. */
static void check_soft(struct check *c, const struct inspect_kernel *k)
{
	for (size_t i = 0; i < k->n_modules; i++) {
		const struct inspect_module *m = &k->modules[i];
		size_t at = 0;
		const char *text;

		while ((text = inspect_info(m, "softdep", &at))) {
			_cleanup_free_ char *copy = strdup(text);
			char *save = NULL;

			for (char *word = copy ? strtok_r(copy, " \t", &save) : NULL; word;
			     word = strtok_r(NULL, " \t", &save)) {
				const char *plain = strncmp(word, "crypto-", 7) ? word : word + 7;
				char generic[128];

				snprintf(generic, sizeof(generic), "%s_generic", plain);
				if (word[strlen(word) - 1] == ':' || check_has(c, k, word) ||
				    check_has_alias(k, word) || check_has(c, k, generic) ||
				    check_has(c, k, plain))
					continue;
				check_say(c, false, k,
					  "module %s asks for %s when it starts: not here, unless "
					  "the kernel has it built in",
					  m->name, word);
			}
		}
	}
}

static void check_purpose(struct check *c, const struct inspect_kernel *k)
{
	static const struct {
		const char *name, *lost;
		bool is_required; /* by our init */
	} wanted[] = {
		{ "nbd", "no network block device can be attached", true },
		{ "ext4", "no ext4, ext3 or ext2 image can be mounted", true },
		{ "overlay", "no nbdroot.overlay=", false },
		{ "nfsv3", "no NFS root by version 3", false },
		{ "nfsv4", "no NFS root by version 4", false },
		{ "8021q", "no vlan=", false },
		{ "af_packet", "no DHCP", false },
	};
	bool has_network = false;

	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		if (!check_has(c, k, wanted[i].name))
			check_say(c, wanted[i].is_required && c->in->made_by, k,
				  "has no %s module: %s", wanted[i].name, wanted[i].lost);
	for (size_t i = 0; i < k->n_modules && !has_network; i++)
		has_network = inspect_is_network_driver(&k->modules[i]);
	if (!has_network)
		check_say(c, false, k,
			  "has no network driver: only cards that the kernel has built in work");
}

static void check_indexes(struct check *c, const struct inspect_kernel *k)
{
	static const char *const names[] = { "modules.dep.bin", "modules.alias.bin" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char path[512];

		if (snprintf(path, sizeof(path), "%s/%s/%s", k->folder, k->version, names[i]) <
			    (int)sizeof(path) &&
		    !archive_find(&c->in->archive, path))
			check_say(c, true, k, "has no %s: no module can be loaded (run depmod)",
				  names[i]);
	}
}

static void check_firmware(struct check *c, const struct inspect_kernel *k)
{
	for (size_t i = 0; i < k->n_modules; i++) {
		const struct inspect_module *m = &k->modules[i];
		size_t at = 0, named = 0, found = 0;
		const char *name, *first = NULL;

		while ((name = inspect_info(m, "firmware", &at))) {
			if (inspect_has_firmware(c->in, k, name))
				found++;
			else if (!first)
				first = name;
			named++;
		}
		if (named > 0 && found == 0)
			check_say(c, false, k, "module %s: none of its firmware is there (%s%s)",
				  m->name, first, named > 1 ? ", ..." : "");
		else if (found < named)
			check_say(c, false, k,
				  "module %s: %zu of its %zu firmware files %s missing (%s%s)",
				  m->name, named - found, named, named - found > 1 ? "are" : "is",
				  first, named - found > 1 ? ", ..." : "");
	}
}

static void check_kernel(struct check *c, const struct inspect_kernel *k)
{
	check_compression(c, k);
	check_machine(c, k);
	check_purpose(c, k);
	check_indexes(c, k);
	check_dependencies(c, k);
	check_soft(c, k);
	check_firmware(c, k);
}

/* ---- telling ------------------------------------------------------------------------------ */

static void check_print(const struct check *c)
{
	for (int is_error = 1; is_error >= 0; is_error--) {
		for (size_t i = 0; i < c->count; i++) {
			const struct finding *f = &c->list[i];
			_cleanup_free_ char *kernel = f->kernel ? inspect_clean(f->kernel) : NULL;
			_cleanup_free_ char *text = inspect_clean(f->text);

			if (f->is_error == is_error)
				printf("%s: %s%s%s\n", is_error ? "error" : "note",
				       kernel ? kernel : "", kernel ? ": " : "", text ? text : "?");
		}
	}
	if (c->errors > 0)
		printf("%s: machines will not boot with it, or not all (%zu %s)\n", c->in->path,
		       c->errors, c->errors == 1 ? "error" : "errors");
	else
		printf("%s: nothing that a boot needs is missing\n", c->in->path);
}

static void check_print_json(const struct check *c)
{
	printf("{\"file\":");
	json_put_string(stdout, c->in->path);
	printf(",\"ok\":%s,\"findings\":[", c->errors == 0 ? "true" : "false");
	for (size_t i = 0; i < c->count; i++) {
		printf("%s{\"severity\":\"%s\",\"kernel\":", i ? "," : "",
		       c->list[i].is_error ? "error" : "note");
		if (c->list[i].kernel)
			json_put_string(stdout, c->list[i].kernel);
		else
			printf("null");
		printf(",\"text\":");
		json_put_string(stdout, c->list[i].text);
		printf("}");
	}
	printf("]}\n");
}

int inspect_check(const struct inspection *in, bool as_json)
{
	struct check c = { .in = in };

	check_parts(&c);
	/* What was not read is not missing. */
	if (!in->archive.problem) {
		check_programs(&c);
		if (in->n_kernels == 0)
			check_say(
				&c, false, NULL,
				"there are no kernel modules: it boots kernels that have all built "
				"in");
		for (size_t i = 0; i < in->n_kernels; i++)
			check_kernel(&c, &in->kernels[i]);
	}
	if (c.is_out_of_memory)
		log_error("%s: out of memory", in->path);
	else if (as_json)
		check_print_json(&c);
	else
		check_print(&c);
	for (size_t i = 0; i < c.count; i++)
		free(c.list[i].text);
	free(c.list);
	return c.errors > 0 || c.is_out_of_memory ? 1 : 0;
}

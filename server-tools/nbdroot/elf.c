/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See elf.h. */
#include "elf.h"

#include <elf.h>
#include <stdio.h>
#include <string.h>

/* Where the two classes keep what we want to know. */
struct elf_view {
	const uint8_t *data;
	size_t size;
	bool is_64;
	uint64_t segments, sections;
	unsigned segment_size, segment_count, section_size, section_count, names;
};

struct elf_section {
	uint32_t name;
	uint64_t offset, size;
};

struct elf_segment {
	uint32_t type;
	uint64_t offset, size;
};

const char *elf_machine_name(enum elf_machine machine)
{
	switch (machine) {
	case ELF_I386: return "i386";
	case ELF_AMD64: return "amd64";
	case ELF_OTHER: return "another";
	case ELF_NONE: break;
	}
	return "unknown";
}

enum elf_machine elf_machine_of_name(const char *name)
{
	if (strcmp(name, "i386") == 0)
		return ELF_I386;
	return strcmp(name, "amd64") == 0 ? ELF_AMD64 : ELF_NONE;
}

/* Whether size bytes at offset are all there. */
static bool elf_has(const struct elf_view *v, uint64_t offset, uint64_t size)
{
	return offset <= v->size && size <= v->size - offset;
}

static int elf_open(struct elf_view *v, const void *data, size_t size, Elf64_Half *type,
		    Elf64_Half *machine)
{
	const uint8_t *ident = data;

	*v = (struct elf_view){ .data = data, .size = size };
	if (size < EI_NIDENT || memcmp(ident, ELFMAG, SELFMAG) != 0 ||
	    ident[EI_DATA] != ELFDATA2LSB)
		return -ENOEXEC;
	if (ident[EI_CLASS] == ELFCLASS64 && size >= sizeof(Elf64_Ehdr)) {
		Elf64_Ehdr head;

		memcpy(&head, data, sizeof(head));
		v->is_64 = true;
		v->segments = head.e_phoff;
		v->segment_size = head.e_phentsize;
		v->segment_count = head.e_phnum;
		v->sections = head.e_shoff;
		v->section_size = head.e_shentsize;
		v->section_count = head.e_shnum;
		v->names = head.e_shstrndx;
		*type = head.e_type;
		*machine = head.e_machine;
	} else if (ident[EI_CLASS] == ELFCLASS32 && size >= sizeof(Elf32_Ehdr)) {
		Elf32_Ehdr head;

		memcpy(&head, data, sizeof(head));
		v->segments = head.e_phoff;
		v->segment_size = head.e_phentsize;
		v->segment_count = head.e_phnum;
		v->sections = head.e_shoff;
		v->section_size = head.e_shentsize;
		v->section_count = head.e_shnum;
		v->names = head.e_shstrndx;
		*type = head.e_type;
		*machine = head.e_machine;
	} else {
		return -ENOEXEC;
	}
	/* The counts have 16 bits, so that nothing overflows. */
	if (v->segment_count > 0 &&
	    (v->segment_size != (v->is_64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) ||
	     !elf_has(v, v->segments, (uint64_t)v->segment_size * v->segment_count)))
		return -ENOEXEC;
	if (v->section_count > 0 &&
	    (v->section_size != (v->is_64 ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr)) ||
	     !elf_has(v, v->sections, (uint64_t)v->section_size * v->section_count)))
		return -ENOEXEC;
	return 0;
}

static struct elf_segment elf_segment_at(const struct elf_view *v, unsigned i)
{
	const uint8_t *at = v->data + v->segments + (size_t)i * v->segment_size;

	if (v->is_64) {
		Elf64_Phdr p;

		memcpy(&p, at, sizeof(p));
		return (struct elf_segment){ p.p_type, p.p_offset, p.p_filesz };
	}
	Elf32_Phdr p;

	memcpy(&p, at, sizeof(p));
	return (struct elf_segment){ p.p_type, p.p_offset, p.p_filesz };
}

static struct elf_section elf_section_at(const struct elf_view *v, unsigned i)
{
	const uint8_t *at = v->data + v->sections + (size_t)i * v->section_size;

	if (v->is_64) {
		Elf64_Shdr s;

		memcpy(&s, at, sizeof(s));
		return (struct elf_section){ s.sh_name, s.sh_offset, s.sh_size };
	}
	Elf32_Shdr s;

	memcpy(&s, at, sizeof(s));
	return (struct elf_section){ s.sh_name, s.sh_offset, s.sh_size };
}

static void elf_find_info(const struct elf_view *v, struct elf *out)
{
	static const char wanted[] = ".modinfo";
	struct elf_section names;

	if (v->names >= v->section_count)
		return;
	names = elf_section_at(v, v->names);
	if (!elf_has(v, names.offset, names.size))
		return;
	for (unsigned i = 0; i < v->section_count; i++) {
		struct elf_section s = elf_section_at(v, i);

		if (s.name > names.size || names.size - s.name < sizeof(wanted) ||
		    memcmp(v->data + names.offset + s.name, wanted, sizeof(wanted)) != 0 ||
		    !elf_has(v, s.offset, s.size))
			continue;
		out->info = (const char *)v->data + s.offset;
		out->info_size = s.size;
		return;
	}
}

/* 0, or -ENOEXEC for a segment that is not all there. */
static int elf_walk_segments(const struct elf_view *v, struct elf *out)
{
	bool needs_others = false;

	for (unsigned i = 0; i < v->segment_count; i++) {
		struct elf_segment s = elf_segment_at(v, i);

		if (!elf_has(v, s.offset, s.size))
			return -ENOEXEC;
		if (s.type == PT_INTERP)
			needs_others = true;
		if (s.offset + s.size > out->end_of_segments)
			out->end_of_segments = s.offset + s.size;
	}
	out->is_static = !needs_others;
	return 0;
}

int elf_read(const void *data, size_t size, struct elf *out)
{
	struct elf_view v;
	Elf64_Half type, machine;
	int r;

	*out = (struct elf){ 0 };
	r = elf_open(&v, data, size, &type, &machine);
	if (r < 0)
		return r;
	out->number = machine;
	/* x32 programs, which no distribution's kernel runs, are neither. */
	out->machine = machine == EM_386 && !v.is_64     ? ELF_I386
		       : machine == EM_X86_64 && v.is_64 ? ELF_AMD64
							 : ELF_OTHER;
	out->is_module = type == ET_REL;
	if (out->is_module) {
		elf_find_info(&v, out);
		return 0;
	}
	if (type != ET_EXEC && type != ET_DYN)
		return -ENOEXEC;
	return elf_walk_segments(&v, out);
}

const char *elf_info(const struct elf *e, const char *key, size_t *at)
{
	size_t length = strlen(key);

	while (*at < e->info_size) {
		const char *text = e->info + *at;
		const char *end = memchr(text, '\0', e->info_size - *at);

		if (!end)
			break;
		*at += (size_t)(end - text) + 1;
		if ((size_t)(end - text) > length && memcmp(text, key, length) == 0 &&
		    text[length] == '=')
			return text + length + 1;
	}
	*at = e->info_size;
	return NULL;
}

size_t elf_trim(void *data, size_t size)
{
	struct elf_view v;
	Elf64_Half type, machine;
	struct elf e;
	size_t head_size, table_end;

	if (elf_read(data, size, &e) < 0 || e.is_module || !e.is_static ||
	    elf_open(&v, data, size, &type, &machine) < 0)
		return size;
	head_size = v.is_64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr);
	/* The table of segments is needed wherever it stands; usually it follows the head. */
	table_end = v.segments + (size_t)v.segment_size * v.segment_count;
	if (e.end_of_segments < head_size || v.segments < head_size)
		return size; /* a strange one: left as it is */
	if (v.is_64) {
		Elf64_Ehdr head;

		memcpy(&head, data, sizeof(head));
		head.e_shoff = 0;
		head.e_shnum = head.e_shstrndx = 0;
		memcpy(data, &head, sizeof(head));
	} else {
		Elf32_Ehdr head;

		memcpy(&head, data, sizeof(head));
		head.e_shoff = 0;
		head.e_shnum = head.e_shstrndx = 0;
		memcpy(data, &head, sizeof(head));
	}
	return table_end > e.end_of_segments ? table_end : e.end_of_segments;
}

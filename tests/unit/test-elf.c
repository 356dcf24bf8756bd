/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an initramfs wants to know of programs and modules, from heads made here field by field. */
#include "tests/unit/tap.h"

#include "server-tools/nbdroot/elf.h"

#include <elf.h>
#include <errno.h>

enum { PROGRAM_SIZE = 200, PROGRAM_LOADED = 160, INFO_SIZE = 40 };

static const char info[INFO_SIZE] = "depends=a,b\0firmware=x.fw\0firmware=y\0f";

struct program64 {
	Elf64_Ehdr head;
	Elf64_Phdr segment;
	uint8_t rest[PROGRAM_SIZE - sizeof(Elf64_Ehdr) - sizeof(Elf64_Phdr)];
};

static struct program64 program(uint32_t segment_type)
{
	struct program64 p = { 0 };

	memcpy(p.head.e_ident, ELFMAG, SELFMAG);
	p.head.e_ident[EI_CLASS] = ELFCLASS64;
	p.head.e_ident[EI_DATA] = ELFDATA2LSB;
	p.head.e_type = ET_EXEC;
	p.head.e_machine = EM_X86_64;
	p.head.e_phoff = sizeof(p.head);
	p.head.e_phentsize = sizeof(p.segment);
	p.head.e_phnum = 1;
	p.segment.p_type = segment_type;
	p.segment.p_filesz = PROGRAM_LOADED;
	return p;
}

struct module32 {
	Elf32_Ehdr head;
	Elf32_Shdr sections[2];
	char names[16];
	char info[INFO_SIZE];
};

static struct module32 module(void)
{
	struct module32 m = { 0 };

	memcpy(m.head.e_ident, ELFMAG, SELFMAG);
	m.head.e_ident[EI_CLASS] = ELFCLASS32;
	m.head.e_ident[EI_DATA] = ELFDATA2LSB;
	m.head.e_type = ET_REL;
	m.head.e_machine = EM_386;
	m.head.e_shoff = offsetof(struct module32, sections);
	m.head.e_shentsize = sizeof(m.sections[0]);
	m.head.e_shnum = 2;
	m.sections[0].sh_offset = offsetof(struct module32, names);
	m.sections[0].sh_size = sizeof(m.names);
	m.sections[1].sh_name = 3;
	m.sections[1].sh_offset = offsetof(struct module32, info);
	m.sections[1].sh_size = INFO_SIZE;
	memcpy(m.names, "\0a\0.modinfo", 12);
	memcpy(m.info, info, INFO_SIZE);
	return m;
}

TEST(program_is_known_by_its_machine_and_by_whether_it_needs_others)
{
	struct program64 p = program(PT_LOAD);
	struct elf e;

	CHECK_EQ(elf_read(&p, sizeof(p), &e), 0);
	CHECK_EQ(e.machine, ELF_AMD64);
	CHECK(e.is_static && !e.is_module);
	CHECK_EQ(e.end_of_segments, PROGRAM_LOADED);
	p = program(PT_INTERP);
	CHECK_EQ(elf_read(&p, sizeof(p), &e), 0);
	CHECK(!e.is_static);
	p.head.e_machine = EM_AARCH64;
	CHECK_EQ(elf_read(&p, sizeof(p), &e), 0);
	CHECK_EQ(e.machine, ELF_OTHER);
	CHECK_EQ(e.number, EM_AARCH64);
	/* 64-bit instructions with 32-bit pointers (x32) are neither of ours */
	p.head.e_machine = EM_386;
	CHECK_EQ(elf_read(&p, sizeof(p), &e), 0);
	CHECK_EQ(e.machine, ELF_OTHER);
}

TEST(module_tells_what_it_depends_on_and_all_its_firmware)
{
	struct module32 m = module();
	struct elf e;
	size_t at = 0;

	CHECK_EQ(elf_read(&m, sizeof(m), &e), 0);
	CHECK_EQ(e.machine, ELF_I386);
	CHECK(e.is_module);
	CHECK_STR(elf_info(&e, "depends", &at), "a,b");
	CHECK(!elf_info(&e, "depends", &at));
	at = 0;
	CHECK_STR(elf_info(&e, "firmware", &at), "x.fw");
	CHECK_STR(elf_info(&e, "firmware", &at), "y");
	CHECK(!elf_info(&e, "firmware", &at));
	at = 0;
	CHECK(!elf_info(&e, "firm", &at));
}

TEST(value_without_an_end_does_not_exist)
{
	struct module32 m = module();
	struct elf e;
	size_t at = 0;

	memset(m.info + 12, 'x', INFO_SIZE - 12);
	memcpy(m.info + 12, "firmware=", 9);
	CHECK_EQ(elf_read(&m, sizeof(m), &e), 0);
	CHECK(!elf_info(&e, "firmware", &at));
	CHECK_EQ(at, INFO_SIZE);
}

TEST(section_that_reaches_past_the_end_by_one_byte_is_not_there)
{
	struct module32 m = module();
	struct elf e;

	CHECK_EQ(elf_read(&m, sizeof(m), &e), 0);
	CHECK(e.info);
	CHECK_EQ(elf_read(&m, sizeof(m) - 1, &e), 0);
	CHECK(!e.info);
	m.sections[1].sh_size = UINT32_MAX;
	CHECK_EQ(elf_read(&m, sizeof(m), &e), 0);
	CHECK(!e.info);
	m = module();
	m.sections[0].sh_size = 11; /* the name's end is no longer among the names */
	CHECK_EQ(elf_read(&m, sizeof(m), &e), 0);
	CHECK(!e.info);
	m.head.e_shstrndx = 2;
	CHECK_EQ(elf_read(&m, sizeof(m), &e), 0);
	CHECK(!e.info);
}

TEST(tables_and_segments_that_are_not_all_there_are_refused)
{
	struct program64 p = program(PT_LOAD);
	struct elf e;

	CHECK_EQ(elf_read(&p, PROGRAM_LOADED, &e), 0);
	CHECK_EQ(elf_read(&p, PROGRAM_LOADED - 1, &e), -ENOEXEC);
	CHECK_EQ(elf_read(&p, sizeof(p.head) - 1, &e), -ENOEXEC);
	CHECK_EQ(elf_read("", 0, &e), -ENOEXEC);
	p.segment.p_offset = UINT64_MAX - 10;
	CHECK_EQ(elf_read(&p, sizeof(p), &e), -ENOEXEC);
	p = program(PT_LOAD);
	p.head.e_phoff = sizeof(p) - sizeof(p.segment) + 1;
	CHECK_EQ(elf_read(&p, sizeof(p), &e), -ENOEXEC);
	p = program(PT_LOAD);
	p.head.e_phentsize--;
	CHECK_EQ(elf_read(&p, sizeof(p), &e), -ENOEXEC);
	p = program(PT_LOAD);
	p.head.e_ident[EI_DATA] = ELFDATA2MSB;
	CHECK_EQ(elf_read(&p, sizeof(p), &e), -ENOEXEC);
}

TEST(trimmed_program_ends_with_what_is_loaded_and_knows_of_no_sections)
{
	struct program64 p = program(PT_LOAD);
	struct elf e;

	p.head.e_shoff = 170;
	p.head.e_shentsize = sizeof(Elf64_Shdr);
	CHECK_EQ(elf_trim(&p, sizeof(p)), PROGRAM_LOADED);
	CHECK_EQ(p.head.e_shoff, 0);
	CHECK_EQ(elf_read(&p, PROGRAM_LOADED, &e), 0);
	CHECK_EQ(elf_trim(&p, PROGRAM_LOADED), PROGRAM_LOADED);
}

TEST(what_is_no_static_program_is_not_trimmed)
{
	struct program64 p = program(PT_INTERP);
	struct module32 m = module();
	char text[] = "#!/bin/sh\n";

	CHECK_EQ(elf_trim(&p, sizeof(p)), sizeof(p));
	CHECK_EQ(elf_trim(&m, sizeof(m)), sizeof(m));
	CHECK_EQ(elf_trim(text, sizeof(text)), sizeof(text));
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Patterns of export names. A name is whatever a stranger sends; what it expands to must stay
 * in the folder that the administrator wrote down, and no two names may be one writable image.
 */
#include "tests/unit/tap.h"

#include "server-tools/nbdserve/pattern.h"

static char err[512];

static int is_refused(const char *name, const char *path, const char *words)
{
	int r = pattern_check(name, path, false, err, sizeof(err));

	if (r == 0 || !strstr(err, words))
		printf("# %d, \"%s\"\n", r, err);
	return r < 0 && strstr(err, words) != NULL;
}

/* What the name is expanded to, "(no match)", or "(bad pattern)". */
static const char *expand_bytes(const char *pattern, const char *path, const char *name,
				size_t size)
{
	static char out[1024];
	struct pattern_values values;

	if (pattern_check(pattern, path, false, err, sizeof(err)) < 0)
		return "(bad pattern)";
	if (!pattern_match(pattern, name, size, &values))
		return "(no match)";
	if (pattern_expand(path, &values, out, sizeof(out)) < 0)
		return "(too long)";
	return out;
}

static const char *expand(const char *pattern, const char *path, const char *name)
{
	size_t size = strlen(name);
	char *exact = malloc(size + 1); /* the protocol's names end with no NUL */
	const char *out;

	memcpy(exact, name, size);
	exact[size] = 'Z';
	out = expand_bytes(pattern, path, exact, size);
	free(exact);
	return out;
}

TEST(a_name_that_matches_becomes_a_path)
{
	CHECK_STR(expand("clients/{mac}/root", "/srv/nbd/{mac}-root.img",
			 "clients/52-54-00-12-34-56/root"),
		  "/srv/nbd/52-54-00-12-34-56-root.img");
	CHECK_STR(expand("{x}", "/srv/{x}/{x}.img", "a"), "/srv/a/a.img");
	CHECK_STR(expand("pre{x}post/{y}", "/srv/{y}/.{x}.", "preApost/B_c.1-"), "/srv/B_c.1-/.A.");
}

TEST(a_word_is_as_long_as_it_can_be_before_its_literal_end)
{
	CHECK_STR(expand("{x}-root", "/{x}", "a-root-root"), "/a-root");
	CHECK_STR(expand("{x}-root", "/{x}", "-root"), "(no match)");
	CHECK_STR(expand("{x}-root", "/{x}", "a-roo"), "(no match)");
	CHECK_STR(expand("{x}-root", "/{x}", "a-root2"), "(no match)");
	CHECK_STR(expand("{x}/{y}", "/{x}/{y}", "a/b/c"), "(no match)");
	CHECK_STR(expand("{x}/{y}", "/{x}/{y}", "a/"), "(no match)");
	CHECK_STR(expand("{x}/{y}", "/{x}/{y}", "a"), "(no match)");
	CHECK_STR(expand("{x}/end", "/{x}", "a/end/"), "(no match)");
	CHECK_STR(expand("{x}/end", "/{x}", "a/en"), "(no match)");
}

TEST(no_name_leaves_the_folder)
{
	static const char *const hostile[] = {
		"",      ".",      "..",       "../x",     "/etc/passwd", "a/../b", "..a",
		".a",    "-a",     "a/b",      "a\\b",     "a b",         "a\nb",   "\x7f",
		"{x}",   "%2e%2e", "\xc0\xae", "\xc3\xbc", "a:b",         "a*",     "~",
		"$HOME", "a;b",    "a=b",      "\xff\xff",
	};

	for (size_t i = 0; i < ARRAY_SIZE(hostile); i++)
		CHECK_STR(expand("{x}", "/srv/{x}", hostile[i]), "(no match)");
	CHECK_STR(expand_bytes("{x}", "/srv/{x}", "a\0b", 3), "(no match)");
	CHECK_STR(expand_bytes("{x}", "/srv/{x}", "a\0", 2), "(no match)");
	CHECK_STR(expand_bytes("c/{x}/r", "/srv/{x}", "c/../r", 6), "(no match)");
	CHECK_STR(expand_bytes("c/{x}/r", "/srv/{x}", "c/./r", 5), "(no match)");
}

/* Every string of up to four of the characters that make trouble. */
TEST(no_short_string_of_dots_and_slashes_leaves_the_folder)
{
	static const char alphabet[] = { '.', '/', '-', 'a', '\0', '{', '}', ':', '\\' };
	char name[4];
	unsigned matched = 0;

	for (size_t size = 0; size <= 4; size++) {
		size_t count = 1;

		for (size_t i = 0; i < size; i++)
			count *= sizeof(alphabet);
		for (size_t n = 0; n < count; n++) {
			const char *path;

			for (size_t i = 0, rest = n; i < size; i++, rest /= sizeof(alphabet))
				name[i] = alphabet[rest % sizeof(alphabet)];
			path = expand_bytes("{x}", "/s/.{x}/i", name, size);
			if (*path == '(')
				continue;
			matched++;
			CHECK(strncmp(path, "/s/.a", 5) == 0);
			CHECK_STR(strchr(path + 3, '/'), "/i");
		}
	}
	CHECK_EQ(matched, 1 + 3 + 9 + 27); /* an "a", then up to three of . - a */
}

TEST(a_mac_address_has_one_spelling)
{
	static const char *const others[] = {
		"52-54-00-12-34-5",  "52-54-00-12-34-567", "52:54:00:12:34:56",
		"52-54-00-AB-34-56", "52-54-00-12-34-5g",  "525400123456",
		"52-54-00-12-34_56", "x2-54-00-12-34-56",  "",
	};

	CHECK_STR(expand("{mac}", "/{mac}", "52-54-00-ab-cd-ef"), "/52-54-00-ab-cd-ef");
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		CHECK_STR(expand("{mac}", "/{mac}", others[i]), "(no match)");
}

TEST(a_uuid_has_one_spelling)
{
	CHECK_STR(expand("{uuid}", "/{uuid}", "4c4c4544-0042-3510-8056-b7c04f313233"),
		  "/4c4c4544-0042-3510-8056-b7c04f313233");
	CHECK_STR(expand("{uuid}", "/{uuid}", "4C4C4544-0042-3510-8056-B7C04F313233"),
		  "(no match)");
	CHECK_STR(expand("{uuid}", "/{uuid}", "4c4c4544-0042-3510-8056-b7c04f31323"), "(no match)");
	CHECK_STR(expand("{uuid}", "/{uuid}", "4c4c4544000423510-8056-b7c04f313233"), "(no match)");
}

TEST(an_ip_address_has_one_spelling)
{
	static const char *const others[] = {
		"10.0.0",    "10.0.0.256", "010.0.0.1", "10.0.0.1.", "fd00:0::1",
		"[fd00::1]", "FD00::1",    "fd00::1%1", ":",         "a",
	};

	CHECK_STR(expand("c/{ip}/r", "/{ip}.img", "c/10.0.0.5/r"), "/10.0.0.5.img");
	CHECK_STR(expand("c/{ip}/r", "/{ip}.img", "c/fd00::1/r"), "/fd00::1.img");
	CHECK_STR(expand("{ip}", "/{ip}", "::"), "/::");
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		CHECK_STR(expand("{ip}", "/{ip}", others[i]), "(no match)");
}

TEST(a_value_is_no_longer_than_a_file_s_name)
{
	char name[257];

	memset(name, 'a', sizeof(name));
	name[255] = '\0';
	CHECK(*expand("{x}", "/{x}", name) == '/');
	name[255] = 'a';
	name[256] = '\0';
	CHECK_STR(expand("{x}", "/{x}", name), "(no match)");
}

TEST(a_path_that_does_not_fit_is_an_error)
{
	struct pattern_values values;
	char out[8];

	CHECK(pattern_match("{x}", "abcd", 4, &values));
	CHECK_EQ(pattern_expand("/s/{x}", &values, out, 8), 0);
	CHECK_STR(out, "/s/abcd");
	CHECK_EQ(pattern_expand("/s/{x}", &values, out, 7), -ENAMETOOLONG);
	CHECK_EQ(pattern_expand("/s/{x}", &values, out, 1), -ENAMETOOLONG);
	CHECK_EQ(pattern_expand("/s/{x}", &values, out, 0), -ENAMETOOLONG);
}

TEST(patterns_that_are_ambiguous_or_wrong_are_refused_in_words)
{
	CHECK(is_refused("{x}{y}", "/{x}/{y}", "before {y} must stand"));
	CHECK(is_refused("{x}-{y}", "/{x}/{y}", "before {y} must stand"));
	CHECK(is_refused("{ip}:{y}", "/{ip}/{y}", "before {y} must stand"));
	CHECK(is_refused("{x}/{y}", "/{x}-{y}", "path \"/{x}-{y}\": before {y} must stand"));
	CHECK(is_refused("{x}/{x}", "/{x}", "has a word twice"));
	CHECK(is_refused("{x}", "/{y}", "has {y}, which the name \"{x}\" does not"));
	CHECK(is_refused("{x}/{y}", "/{x}", "does not use {y}"));
	CHECK(is_refused("{}", "/{}", "a brace that is not part"));
	CHECK(is_refused("{x", "/{x}", "a brace that is not part"));
	CHECK(is_refused("x}", "/x", "a brace that is not part"));
	CHECK(is_refused("{X}", "/{X}", "a brace that is not part"));
	CHECK(is_refused("{{x}}", "/{x}", "a brace that is not part"));
	CHECK(is_refused("{x}", "{x}", "must begin with \"/\""));
	CHECK(is_refused("{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}", "/", "over 8 words"));
	CHECK_EQ(pattern_check("{x}/{y}", "/{x}+{y}", false, err, sizeof(err)), 0);
}

TEST(many_names_may_be_one_image_if_it_is_read_only)
{
	CHECK_EQ(pattern_check("golden/{x}", "/srv/golden.img", true, err, sizeof(err)), 0);
	CHECK_EQ(pattern_check("golden/{x}", "/srv/golden.img", false, err, sizeof(err)), -1);
}

TEST(the_folder_of_all_images_is_what_stands_before_the_first_word)
{
	static const struct {
		const char *path, *folder;
	} cases[] = {
		{ "/srv/nbd/{mac}-root.img", "/srv/nbd" },
		{ "/srv/nbd/a-{mac}/root.img", "/srv/nbd" },
		{ "/srv/nbd//{mac}", "/srv/nbd" },
		{ "/{mac}", "/" },
		{ "/srv/root.img", "/srv" },
		{ "/root.img", "/" },
		{ "root.img", "." },
		{ "a/root.img", "a" },
	};
	char out[64];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CHECK_EQ(pattern_directory(cases[i].path, out, sizeof(out)), 0);
		CHECK_STR(out, cases[i].folder);
	}
	CHECK_EQ(pattern_directory("/srv/nbd/x", out, 8), -ENAMETOOLONG);
	CHECK_EQ(pattern_directory("/srv/nbd/x", out, 9), 0);
}

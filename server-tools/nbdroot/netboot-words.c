/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See netboot-words.h. */
#include "netboot-words.h"

#include "base/parse.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int fail(char *why, const char *fmt, ...) _printf_(2, 3);
static int fail(char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, WORDS_WHY_MAX, fmt, ap);
	va_end(ap);
	return -1;
}

const char *words_next(const char **text, size_t *size)
{
	const char *word = *text + strspn(*text, " \t");

	*size = strcspn(word, " \t");
	*text = word + *size;
	return *size > 0 ? word : NULL;
}

bool words_has_placeholder(const char *text)
{
	return strchr(text, '{') != NULL;
}

/*
 * What all three boot programs pass on as it is. Quotes and backslashes: GRUB puts backslashes
 * before them, the others do not; "$": GRUB and iPXE have variables.
 */
static int check_characters(const char *text, char *why)
{
	for (const char *p = text; *p != '\0'; p++) {
		unsigned char c = (unsigned char)*p;

		if (c == '\t' || (c >= 0x20 && c < 0x7f && strchr("\"'\\$`", c) == NULL))
			continue;
		if (isprint(c))
			return fail(why,
				    "'%c' cannot stand in a kernel command line that PXELINUX, "
				    "GRUB and "
				    "iPXE are to pass on unchanged (leave it out)",
				    c);
		return fail(why, "byte 0x%02x is not a printable ASCII character (leave it out)",
			    c);
	}
	return 0;
}

static int check_placeholders(const char *text, char *why)
{
	static const char *const known[] = { "{mac}", "{ip}", "{hostname}", "{uuid}" };

	for (const char *p = text; (p = strpbrk(p, "{}")) != NULL;) {
		size_t size = 0;

		for (size_t i = 0; i < ARRAY_SIZE(known); i++)
			if (strncmp(p, known[i], strlen(known[i])) == 0)
				size = strlen(known[i]);
		if (size == 0)
			return fail(
				why,
				"\"%.20s\" is not a placeholder (there are {mac}, {ip}, {hostname} "
				"and {uuid})",
				p);
		p += size;
	}
	return 0;
}

/* One word with nothing in it that a boot program or our init would stumble over. */
static int check_one_word(const char *text, char *why)
{
	if (*text == '\0')
		return fail(why, "it is empty");
	if (strpbrk(text, " \t") != NULL)
		return fail(why, "it has a blank in it (comments have lines of their own; further "
				 "parameters go to append)");
	if (check_characters(text, why) < 0)
		return -1;
	return check_placeholders(text, why);
}

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* 1: nbd://host[:port]/export and its kind; 0: another thing; -1: a URI that names no export. */
static int check_uri(const char *text, char *why)
{
	const char *host, *path;

	if (starts(text, "nbd+unix:") || starts(text, "nbds+unix:"))
		return fail(
			why,
			"%.100s: a unix socket's server is not reached over the network (wanted "
			"nbd://server[:port]/export)",
			text);
	if (!starts(text, "nbd://") && !starts(text, "nbds://"))
		return 0;
	host = strstr(text, "://") + 3;
	path = strchr(host, '/');
	if (*host == '/' || *host == '\0')
		return fail(why,
			    "%.100s: no server between \"//\" and \"/\" (wanted "
			    "nbd://server[:port]/export)",
			    text);
	if (path == NULL)
		return fail(why,
			    "%.100s: no \"/\" and no export after the server (wanted "
			    "nbd://server[:port]/export)",
			    text);
	return 1;
}

/* dracut's nbd:<server>:<port or export>...; what init itself checks is the rest. */
static int check_dracut(const char *text, char *why)
{
	const char *server = text + strlen("nbd:"), *colon = server;

	if (*server == '[')
		colon = strchr(server, ']');
	colon = colon != NULL ? strchr(colon, ':') : NULL;
	if (colon == NULL || colon == server || colon[1] == '\0' || colon[1] == ':')
		return fail(why,
			    "%.100s: wanted nbd:<server>:<port or export>[:<file system>[:<mount "
			    "options>]], or nbd://server[:port]/export",
			    text);
	return 0;
}

int words_check_root(const char *text, bool *is_dhcp, char *why)
{
	int r;

	*is_dhcp = strcmp(text, "dhcp") == 0;
	if (check_one_word(text, why) < 0)
		return -1;
	r = check_uri(text, why);
	if (r != 0)
		return r < 0 ? -1 : 0;
	if (starts(text, "nbd:"))
		return check_dracut(text, why);
	if (*is_dhcp || strcmp(text, "/dev/nfs") == 0)
		return 0;
	if ((starts(text, "nfs:") || starts(text, "nfs4:")) && strchr(text, '/') != NULL)
		return 0;
	return fail(why,
		    "%.100s: not a root on the network (wanted nbd://server[:port]/export, "
		    "nfs:[server:]/path, or dhcp with a root-path)",
		    text);
}

int words_check_root_path(const char *text, char *why)
{
	if (check_one_word(text, why) < 0 || check_uri(text, why) < 0)
		return -1;
	if (strlen(text) > 255)
		return fail(why, "longer than 255 bytes, and a DHCP option holds no more");
	if (strchr(text, '/') == NULL && !starts(text, "nbd:"))
		return fail(
			why,
			"%.100s: not a root on the network (wanted nbd://server[:port]/export or "
			"server:/path)",
			text);
	return 0;
}

/* <uri>[,<mount point>[,...]] */
static int check_device(const char *text, bool must_have_mount_point, char *why)
{
	const char *comma = strchr(text, ',');
	int r = check_uri(text, why);

	if (r < 0)
		return -1;
	if (r == 0)
		return fail(why, "%.100s: wanted nbd://server[:port]/export first", text);
	if (comma == NULL && must_have_mount_point)
		return fail(why,
			    "%.100s: no mount point after the export (wanted "
			    "<uri>,<mount point>[,<file system>[,<options>]])",
			    text);
	if (comma != NULL && comma[1] != '/')
		return fail(why, "\"%.60s\": the mount point must begin with \"/\"", comma + 1);
	return 0;
}

int words_check_rpmdb(const char *text, char *why)
{
	if (check_one_word(text, why) < 0)
		return -1;
	return check_device(text, false, why);
}

/* ---- append ------------------------------------------------------------------------------- */

static int check_mount(const char *value, char *why)
{
	return check_device(value, true, why);
}

static int check_fallback(const char *value, char *why)
{
	if (*value == '\0' || strchr(value, '/') != NULL)
		return fail(why, "\"%.100s\": wanted <host>[:<port>][,...], not a URI", value);
	return 0;
}

static int check_outage(const char *value, char *why)
{
	uint64_t seconds;

	if (strcmp(value, "wait") == 0 ||
	    (starts(value, "reboot:") && parse_u64(value + 7, INT32_MAX, &seconds) == 0 &&
	     seconds > 0))
		return 0;
	return fail(why, "\"%.100s\": wanted wait, or reboot:<seconds>", value);
}

/* ",size=512m" or ",size=50%", or nothing: what init gives to tmpfs. */
static bool is_tmpfs_option(const char *text)
{
	size_t digits;

	if (*text == '\0' || strcmp(text, ",") == 0)
		return true;
	if (!starts(text, ",size="))
		return false;
	text += strlen(",size=");
	digits = strspn(text, "0123456789");
	return digits > 0 && (text[digits] == '\0' || (strchr("kKmMgG%", text[digits]) != NULL &&
						       text[digits + 1] == '\0'));
}

static int check_overlay(const char *value, char *why)
{
	int r = check_uri(value, why);

	if (r < 0)
		return -1;
	if (r > 0 || (starts(value, "tmpfs") && is_tmpfs_option(value + strlen("tmpfs"))))
		return 0;
	return fail(why,
		    "\"%.60s\": wanted tmpfs[,size=<number>, with k, m, g or %% behind it], or "
		    "nbd://<server>/<export>[,<file system>[,<options>]]",
		    value);
}

static int check_fsck(const char *value, char *why)
{
	if (strcmp(value, "auto") != 0 && strcmp(value, "skip") != 0 && strcmp(value, "force") != 0)
		return fail(why, "\"%.100s\": wanted auto, skip or force", value);
	return 0;
}

/* What init knows; tests/system/test_netboot.py compares it with init's own list. */
static const struct {
	const char *name;
	int (*check)(const char *value, char *why);
} parameters[] = {
	{ "nbdroot.mount", check_mount },   { "nbdroot.fallback", check_fallback },
	{ "nbdroot.outage", check_outage }, { "nbdroot.overlay", check_overlay },
	{ "nbdroot.fsck", check_fsck },
};

/* Those that the tool writes itself, and how to say them. */
static const struct {
	const char *name, *advice;
} reserved[] = {
	{ "root", "say root = ... in the entry" },
	{ "rpmdb", "say rpmdb = ... in the entry" },
	{ "initrd", "say initramfs = ... in the entry" },
	{ "BOOTIF", "leave it out: the boot program adds it" },
	{ "BOOT_IMAGE", "leave it out: the boot program adds it" },
};

static int check_ours(const char *name, const char *value, char *why)
{
	for (size_t i = 0; i < ARRAY_SIZE(parameters); i++)
		if (strcmp(name, parameters[i].name) == 0)
			return check_placeholders(value, why) < 0 ? -1
								  : parameters[i].check(value, why);
	return fail(why, "there is no such parameter (there are nbdroot.mount, nbdroot.fallback, "
			 "nbdroot.outage, nbdroot.overlay and nbdroot.fsck)");
}

static int check_word(const char *word, char *why)
{
	static const char *const separators[] = { "||", "&&", ";", "-", "--" };
	char name[64], reason[WORDS_WHY_MAX];
	size_t size = strcspn(word, "=");

	if (word[0] == '#' || word[0] == ';')
		return fail(why,
			    "\"%.60s\" begins no comment here (comments have lines of their own)",
			    word);
	for (size_t i = 0; i < ARRAY_SIZE(separators); i++)
		if (strcmp(word, separators[i]) == 0)
			return fail(why,
				    "\"%s\" means something else to a boot program (leave it out)",
				    word);
	if (size >= sizeof(name))
		return 0;
	memcpy(name, word, size);
	name[size] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(reserved); i++)
		if (strcmp(name, reserved[i].name) == 0 && word[size] == '=')
			return fail(why, "%s= does not belong here (%s)", name, reserved[i].advice);
	if (!starts(name, "nbdroot."))
		return 0;
	if (check_ours(name, word[size] == '=' ? word + size + 1 : "", reason) < 0)
		return fail(why, "%s: %.250s", name, reason);
	return 0;
}

int words_check_append(const char *text, char *why)
{
	size_t size;

	if (check_characters(text, why) < 0)
		return -1;
	for (const char *word; (word = words_next(&text, &size)) != NULL;) {
		_cleanup_free_ char *copy = strndup(word, size);

		if (copy == NULL)
			return fail(why, "out of memory");
		if (check_word(copy, why) < 0)
			return -1;
	}
	return 0;
}

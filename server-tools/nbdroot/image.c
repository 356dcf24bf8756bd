/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See image.h. */
#include "image.h"

#include "base/json.h"
#include "base/log.h"
#include "base/parse.h"
#include "ext3.h"
#include "image-create.h"
#include "outfile.h"
#include "run.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { EXIT_USAGE = 2 };

static const char image_usage[] = "usage: nbdroot image create PATH --size SIZE [--from DIR] "
				  "[--label L] [--uuid U] [--force]\n"
				  "       nbdroot image info PATH [--json]\n"
				  "       nbdroot image check PATH\n";

static const char image_help[] =
	"\n"
	"create: make an ext3 image (4096-byte blocks, journal, no extents), a sparse file.\n"
	"  --size SIZE   its size, a multiple of 4096; K, M, G, T are powers of 1024\n"
	"  --from DIR    fill it with the content of DIR: owners, modes, times, links, device\n"
	"                nodes, extended attributes, holes\n"
	"  --label L     its label, at most 16 bytes\n"
	"  --uuid U      its UUID; random without\n"
	"  --force       replace PATH when it exists and is a regular file not in use\n"
	"  With SOURCE_DATE_EPOCH and --uuid the same input gives the same bytes.\n"
	"info: tell what is known of an ext2, ext3 or ext4 image; --json for programs.\n"
	"check: run e2fsck -fn on the image, which changes nothing; exit 0 when it is clean.\n"
	"\n"
	"Every command takes --help. Exit: 0 done, 1 failed, 2 wrong usage.\n";

/* ---- create ------------------------------------------------------------------------------ */

static int image_bad_option(const char *text)
{
	log_error("%s (see nbdroot image --help)", text);
	return EXIT_USAGE;
}

/* Checks and takes --size. 0 or an exit status. */
static int image_take_size(struct image_create *c, const char *text)
{
	const uint64_t least = (uint64_t)EXT3_MIN_BLOCKS * EXT3_BLOCK;
	const uint64_t most = (uint64_t)UINT32_MAX * EXT3_BLOCK;
	int r = parse_size(text, &c->size_bytes);

	if (r == -EINVAL) {
		log_error("--size %s: not a size: a number, with K, M, G or T if you like", text);
	} else if (r == -ERANGE || c->size_bytes > most) {
		log_error("--size %s: too large: an ext3 with 4096-byte blocks ends below 16 TiB "
			  "(%llu bytes)",
			  text, (unsigned long long)most);
	} else if (c->size_bytes < least) {
		log_error("--size %s: too small: the smallest image, for its journal's sake, is "
			  "%lluM",
			  text, (unsigned long long)least >> 20);
	} else if (c->size_bytes % EXT3_BLOCK != 0) {
		log_error("--size %s: not a multiple of 4096, the block size: %llu would be", text,
			  (unsigned long long)(c->size_bytes / EXT3_BLOCK + 1) * EXT3_BLOCK);
	} else {
		return 0;
	}
	return EXIT_USAGE;
}

static int image_create_main(int argc, char *argv[])
{
	static const struct option options[] = {
		{ "size", required_argument, NULL, 's' },
		{ "from", required_argument, NULL, 'd' },
		{ "label", required_argument, NULL, 'l' },
		{ "uuid", required_argument, NULL, 'u' },
		{ "force", no_argument, NULL, 'f' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct image_create c = { .label = "" };
	int option, r;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
		switch (option) {
		case 's':
			r = image_take_size(&c, optarg);
			if (r != 0)
				return r;
			break;
		case 'd': c.from = optarg; break;
		case 'l':
			c.label = optarg;
			if (strlen(optarg) > EXT3_LABEL_MAX) {
				log_error("--label %s: %zu bytes long: at most %d fit", optarg,
					  strlen(optarg), EXT3_LABEL_MAX);
				return EXIT_USAGE;
			}
			break;
		case 'u':
			c.has_uuid = true;
			if (parse_uuid(optarg, c.uuid) < 0) {
				log_error("--uuid %s: not a UUID like "
					  "01234567-89ab-cdef-0123-456789abcdef",
					  optarg);
				return EXIT_USAGE;
			}
			break;
		case 'f': c.may_replace = true; break;
		case 'h': printf("%s%s", image_usage, image_help); return 0;
		default: return EXIT_USAGE;
		}
	}
	if (optind + 1 != argc)
		return image_bad_option("image create: wants one PATH");
	if (c.size_bytes == 0)
		return image_bad_option("image create: wants --size");
	c.path = argv[optind];
	return image_create(&c) == 0 ? 0 : 1;
}

/* ---- info and check ---------------------------------------------------------------------- */

/* Options of info and check. -1: go on, with *path; else an exit status. */
static int image_take_path(int argc, char *argv[], bool *as_json, const char **path)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	/* Without --json the array starts at --help. */
	const struct option *known = as_json ? options : options + 1;
	int option;

	while ((option = getopt_long(argc, argv, "h", known, NULL)) >= 0) {
		if (option == 'h') {
			printf("%s%s", image_usage, image_help);
			return 0;
		}
		if (option != 'j')
			return EXIT_USAGE;
		*as_json = true;
	}
	if (optind + 1 != argc) {
		log_error("%s: wants one PATH (see nbdroot image --help)", argv[0]);
		return EXIT_USAGE;
	}
	*path = argv[optind];
	return -1;
}

static int image_probe(const char *path, struct ext3_info *info)
{
	int r = ext3_probe(path, info);

	if (r == EXT3_E_NOT_EXT)
		log_error("%s: not an ext2, ext3 or ext4 file system (is it the right file?)",
			  path);
	else if (r != 0)
		log_error("%s: cannot be read: %s", path, ext3_strerror(r));
	return r;
}

static const char *image_state(const struct ext3_info *i)
{
	if (i->has_errors)
		return "has errors";
	if (i->needs_recovery || !i->was_unmounted)
		return "needs recovery";
	return "clean";
}

static const char *image_type(const struct ext3_info *i)
{
	if (i->has_extents)
		return "ext4";
	return i->has_journal ? "ext3" : "ext2";
}

/* Labels and paths are bytes of a file from anywhere: only plain ones are printed as they are. */
static void image_print_text(const char *text)
{
	for (const char *p = text; *p; p++) {
		unsigned char c = (unsigned char)*p;

		if (c < 0x20 || c >= 0x7f)
			printf("\\x%02x", c);
		else
			putchar(c);
	}
}

static void image_print_time(const char *name, int64_t seconds)
{
	time_t t = (time_t)seconds;
	struct tm tm;
	char text[64];

	if (seconds == 0 || !gmtime_r(&t, &tm) ||
	    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
		snprintf(text, sizeof(text), "never");
	printf("%-14s %s\n", name, text);
}

static void image_print_json(const struct ext3_info *i, uint64_t file_bytes, const char *uuid)
{
	printf("{\"type\": \"%s\", \"size\": %llu, \"file_size\": %llu, \"block_size\": %u, "
	       "\"free\": %llu, \"reserved\": %llu, \"inodes\": %u, \"inodes_free\": %u, "
	       "\"inode_size\": %u, \"uuid\": \"%s\", \"label\": ",
	       image_type(i), (unsigned long long)i->blocks * i->block_size,
	       (unsigned long long)file_bytes, i->block_size,
	       (unsigned long long)i->blocks_free * i->block_size,
	       (unsigned long long)i->blocks_reserved * i->block_size, i->inodes, i->inodes_free,
	       i->inode_size, uuid);
	json_put_string(stdout, i->label);
	printf(", \"features\": [");
	for (const char *p = i->features; *p; p += strspn(p, " ")) {
		size_t length = strcspn(p, " ");

		printf("%s\"%.*s\"", p == i->features ? "" : ", ", (int)length, p);
		p += length;
	}
	printf("], \"state\": \"%s\", \"last_mounted\": ", image_state(i));
	json_put_string(stdout, i->last_mounted);
	printf(", \"mounts\": %u, \"created\": %lld, \"mounted\": %lld, \"written\": %lld, "
	       "\"checked\": %lld}\n",
	       i->mounts, (long long)i->created, (long long)i->mounted, (long long)i->written,
	       (long long)i->checked);
}

static void image_print(const struct ext3_info *i, uint64_t file_bytes, const char *uuid)
{
	const unsigned long long size = (unsigned long long)i->blocks * i->block_size;

	printf("type           %s\n", image_type(i));
	printf("size           %llu bytes (%llu MiB)\n", size, size >> 20);
	if (file_bytes != size)
		printf("file size      %llu bytes\n", (unsigned long long)file_bytes);
	printf("free           %llu MiB, %u of %u inodes\n",
	       (unsigned long long)i->blocks_free * i->block_size >> 20, i->inodes_free, i->inodes);
	printf("block size     %u\n", i->block_size);
	printf("label          ");
	image_print_text(i->label);
	printf("\nuuid           %s\n", uuid);
	printf("features       %s\n", i->features);
	printf("state          %s\n", image_state(i));
	printf("last mounted   ");
	image_print_text(i->last_mounted);
	printf("\nmount count    %u\n", i->mounts);
	image_print_time("created", i->created);
	image_print_time("mounted", i->mounted);
	image_print_time("written", i->written);
	image_print_time("checked", i->checked);
}

static int image_info_main(int argc, char *argv[])
{
	char uuid[PARSE_UUID_TEXT];
	struct ext3_info info;
	bool as_json = false;
	const char *path;
	struct stat st;
	int r = image_take_path(argc, argv, &as_json, &path);

	if (r >= 0)
		return r;
	if (image_probe(path, &info) != 0)
		return 1;
	if (stat(path, &st) < 0) {
		log_error("%s: cannot be read: %s", path, strerror(errno));
		return 1;
	}
	parse_format_uuid(info.uuid, uuid);
	if (as_json)
		image_print_json(&info, (uint64_t)st.st_size, uuid);
	else
		image_print(&info, (uint64_t)st.st_size, uuid);
	if (fflush(stdout) != 0) {
		log_error("%s: cannot write to standard output: %s", path, strerror(errno));
		return 1;
	}
	return 0;
}

/* By somebody who may write: a read-only export stays as it is. */
static bool image_is_in_use(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	return ext3_is_mounted(path) || (fd >= 0 && outfile_is_locked(fd, true));
}

static int image_check_verdict(const char *path, const struct ext3_info *info, int status)
{
	if (status == RUN_E_MISSING) {
		log_error("%s: not checked: e2fsck is not installed (install e2fsprogs)", path);
	} else if (status < 0) {
		log_error("%s: not checked: e2fsck cannot be run: %s", path, strerror(-status));
	} else if (status >= 256) {
		log_error("%s: not checked: signal %d ended e2fsck", path, status - 256);
	} else if (status >= 8) {
		log_error("%s: not checked: e2fsck failed with exit status %d (it says why above)",
			  path, status);
	} else if (info->needs_recovery) {
		log_error("%s: was not cleanly unmounted: the client replays the journal when it "
			  "mounts it%s",
			  path,
			  status ? ", and what e2fsck found may be no more than that; to know, "
				   "run e2fsck -f on a copy"
				 : "; apart from that nothing is wrong with it");
	} else if (status != 0) {
		log_error("%s: damaged (see above); repair it with e2fsck -f while nobody uses it",
			  path);
	} else {
		printf("%s: clean\n", path);
		return 0;
	}
	return 1;
}

static int image_check_main(int argc, char *argv[])
{
	const char *path;
	struct ext3_info info;
	int r = image_take_path(argc, argv, NULL, &path);

	if (r >= 0)
		return r;
	if (image_probe(path, &info) != 0)
		return 1;
	if (image_is_in_use(path)) {
		log_error("%s: not checked: it is in use (mounted, or exported by a server), and "
			  "what changes meanwhile looks like damage (stop its user first)",
			  path);
		return 1;
	}
	/* A path may start with "-". */
	const char *const command[] = { "e2fsck", "-f", "-n", "--", path, NULL };

	return image_check_verdict(path, &info, run_program(command));
}

int image_main(int argc, char *argv[])
{
	static char create[] = "nbdroot image create";
	static char info[] = "nbdroot image info";
	static char check[] = "nbdroot image check";
	static const struct {
		char *title; /* what getopt's messages start with */
		int (*run)(int argc, char *argv[]);
	} commands[] = {
		{ create, image_create_main },
		{ info, image_info_main },
		{ check, image_check_main },
	};

	if (argc < 2) {
		fputs(image_usage, stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		printf("%s%s", image_usage, image_help);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(argv[1], strrchr(commands[i].title, ' ') + 1) != 0)
			continue;
		argv[1] = commands[i].title;
		return commands[i].run(argc - 1, argv + 1);
	}
	log_error("image %s: no such command (see nbdroot image --help)", argv[1]);
	return EXIT_USAGE;
}

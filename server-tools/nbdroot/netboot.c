/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See netboot.h. */
#include "netboot.h"

#include "base/log.h"
#include "netboot-config.h"
#include "netboot-files.h"
#include "netboot-text.h"
#include "netboot-tree.h"
#include "netboot-words.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { EXIT_USAGE = 2 };

static const char netboot_usage[] = "usage: nbdroot netboot --config FILE -o DIR [--force]\n"
				    "       nbdroot netboot --config FILE -o DIR --check\n";

static const char netboot_help[] =
	"\n"
	"Writes what machines need to boot over the network: DIR/tftp, for a TFTP and an\n"
	"HTTP server, DIR/dnsmasq.conf, and pieces for other DHCP servers.\n"
	"  --config FILE       what there is to boot, and for whom: see nbdroot(8)\n"
	"  -o, --output DIR    where to; what it does not need any more is removed from there\n"
	"  --force             replace files in DIR that it did not write, or that somebody\n"
	"                      has changed since\n"
	"  --check             write nothing; tell what differs from what would be written\n"
	"\n"
	"Exit: 0 done (--check: nothing differs), 1 failed (something does), 2 wrong usage.\n";

struct netboot {
	const char *config_path;
	const char *output;
	bool is_forced, is_check;
	struct netboot_config config;
	struct netboot_plan plan;
	struct netboot_tree tree;
	char folder[PATH_MAX], source[PATH_MAX];
};

/* ---- what is wanted ----------------------------------------------------------------------- */

/* A text that is being made: written to f, then given to the tree. */
struct text {
	FILE *f;
	char *data;
	size_t size;
};

static int text_open(struct text *t)
{
	*t = (struct text){ 0 };
	t->f = open_memstream(&t->data, &t->size);
	return t->f ? 0 : -ENOMEM;
}

static int text_close(struct netboot *n, struct text *t, const char *name)
{
	if (fclose(t->f) != 0) {
		free(t->data);
		return -ENOMEM;
	}
	return netboot_tree_add_text(&n->tree, name, t->data, t->size);
}

static int add_text(struct netboot *n, const char *name,
		    void (*put)(FILE *f, const struct netboot_plan *p))
{
	struct text t;

	if (text_open(&t) < 0)
		return -ENOMEM;
	put(t.f, &n->plan);
	return text_close(n, &t, name);
}

static int add_menu(struct netboot *n, const char *name, const struct netboot_choice *choice)
{
	struct text t;

	if (text_open(&t) < 0)
		return -ENOMEM;
	netboot_put_pxelinux(t.f, &n->plan, choice);
	return text_close(n, &t, name);
}

static int add_pxelinux(struct netboot *n)
{
	const struct netboot_config *c = &n->config;
	char mac[NETBOOT_MAC_TEXT], name[64];
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->n_clients; i++) {
		if (n->plan.choice_of[i] == 0)
			continue;
		netboot_format_mac(c->clients[i].mac, '-', mac);
		snprintf(name, sizeof(name), "tftp/pxelinux.cfg/01-%s", mac);
		r = add_menu(n, name, &n->plan.choices[n->plan.choice_of[i]]);
	}
	/* Last: a machine of ours must not find the default before its own. */
	return r < 0 ? r : add_menu(n, "tftp/pxelinux.cfg/default", &n->plan.choices[0]);
}

static int add_texts(struct netboot *n)
{
	const struct netboot_config *c = &n->config;
	int r = 0;

	if (c->bios == NETBOOT_LOADER_PXELINUX)
		r = add_pxelinux(n);
	if (r == 0 && c->uefi == NETBOOT_LOADER_GRUB)
		r = add_text(n, "tftp/grub/grub.cfg", netboot_put_grub);
	if (r == 0 && netboot_has_ipxe_script(&n->plan))
		r = add_text(n, "tftp/boot.ipxe", netboot_put_ipxe);
	if (r == 0)
		r = add_text(n, "dnsmasq-boot.conf", netboot_put_dnsmasq_boot);
	if (r == 0)
		r = add_text(n, "dnsmasq.conf", netboot_put_dnsmasq);
	if (r == 0)
		r = add_text(n, "dhcpd.conf.txt", netboot_put_dhcpd);
	if (r == 0)
		r = add_text(n, "kea.json.txt", netboot_put_kea);
	return r;
}

static bool has_overlay(const char *append)
{
	return strstr(append, "nbdroot.overlay=") != NULL;
}

static void warn_of_image(const struct netboot *n, const struct netboot_entry *e, const char *key,
			  const char *image, size_t n_machines)
{
	char who[64] = "every machine without a section of its own";

	if (!image || strncmp(image, "nbd", 3) != 0 || words_has_placeholder(image) ||
	    (n_machines < 2 && e != n->config.default_entry))
		return;
	if (e != n->config.default_entry)
		snprintf(who, sizeof(who), "each of %zu [client]s", n_machines);
	log_warn("%s:%u: [entry %s] %s = %s is one image, and %s boots with it: the second one "
		 "waits for the first (use {mac} in it%s)",
		 n->config_path, e->line, e->name, key, image, who,
		 e == n->config.default_entry ? ", or default = none" : "");
}

/*
 * One image is one machine's: two that mount it at once would destroy it, so the second waits. With
 * an overlay they share the root, but nothing else.
 */
static void warn_of_shared(const struct netboot *n)
{
	const struct netboot_config *c = &n->config;

	for (size_t i = 0; i < c->n_entries; i++) {
		const struct netboot_entry *e = &c->entries[i];
		size_t n_machines = 0, n_roots = 0;

		for (size_t k = 0; k < c->n_clients; k++) {
			n_machines += c->clients[k].entry == e;
			n_roots += c->clients[k].entry == e && !has_overlay(c->clients[k].append);
		}
		if (!has_overlay(e->append) && strcmp(e->root, "dhcp") == 0)
			warn_of_image(n, e, "root-path", e->root_path, n_roots);
		else if (!has_overlay(e->append))
			warn_of_image(n, e, "root", e->root, n_roots);
		warn_of_image(n, e, "rpmdb", e->rpmdb, n_machines);
	}
}

/* A proxy adds to another server's answers, and those have the addresses. */
static void warn_of_unused(const struct netboot *n)
{
	for (size_t i = 0; i < n->config.n_clients; i++) {
		const struct netboot_client *k = &n->config.clients[i];

		if (n->config.dhcp != NETBOOT_DHCP_PROXY || (!k->has_address && !k->name))
			continue;
		log_warn("%s:%u: [client] name and address: with dhcp = proxy another server "
			 "gives them, and dnsmasq does not (say them there, and leave them out "
			 "here)",
			 n->config_path, k->line);
		return; /* once for all */
	}
}

static int check_sizes(const struct netboot *n)
{
	for (size_t i = 0; i < n->plan.n_choices; i++) {
		const struct netboot_choice *c = &n->plan.choices[i];
		size_t size = netboot_cmdline_size(c);

		if (size <= NETBOOT_CMDLINE_MAX)
			continue;
		log_error("%s:%u: [entry %s]: its kernel command line may have %zu bytes, and the "
			  "kernel "
			  "takes %d (shorten append, the entry's or a client's)",
			  n->config_path, c->entry->line, c->entry->name, size,
			  NETBOOT_CMDLINE_MAX);
		return -E2BIG;
	}
	return 0;
}

static int netboot_prepare(struct netboot *n)
{
	char err[NETBOOT_ERROR_MAX];
	int r;

	if (netboot_config_load(&n->config, n->config_path, err) < 0) {
		log_error("%s", err);
		return -EINVAL;
	}
	n->plan = (struct netboot_plan){ .config = &n->config,
					 .source = n->source,
					 .folder = n->folder };
	r = netboot_add_programs(&n->plan, &n->tree);
	if (r == 0)
		r = netboot_add_images(&n->plan, &n->tree);
	if (r == 0)
		r = netboot_plan_choices(&n->plan);
	if (r == 0)
		r = check_sizes(n);
	if (r == 0)
		r = add_texts(n);
	if (r == -ENOMEM)
		log_error("out of memory");
	return r;
}

/* ---- what is told ------------------------------------------------------------------------- */

static void tell_firmware(const struct netboot *n)
{
	static const struct {
		const char *what;
		const char *(*file)(const struct netboot_plan *p);
	} kinds[] = {
		{ "BIOS", netboot_file_bios },
		{ "UEFI", netboot_file_x64 },
		{ "32-bit UEFI", netboot_file_ia32 },
		{ "UEFI by HTTP", netboot_file_http },
	};
	bool is_first = true;

	printf("boots: ");
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const char *file = kinds[i].file(&n->plan);

		if (!file)
			continue;
		printf("%s%s (%s)", is_first ? "" : ", ", kinds[i].what, file);
		is_first = false;
	}
	putchar('\n');
}

static void tell_next(const struct netboot *n, const struct netboot_tree_result *result)
{
	const struct netboot_config *c = &n->config;
	const char *dir = n->folder;
	char server[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &c->server, server, sizeof(server));
	printf("\ndnsmasq of its own: dnsmasq --conf-file=%s/dnsmasq.conf\n"
	       "  as Debian's service: ln -s %s/dnsmasq.conf /etc/dnsmasq.d/nbdroot.conf\n",
	       dir, dir);
	if (result->has_changed_dnsmasq)
		printf("  its files have changed: restart it (systemctl restart dnsmasq)\n");
	printf("another DHCP server instead:\n"
	       "  dnsmasq    conf-file=%s/dnsmasq-boot.conf\n"
	       "  ISC dhcpd  include \"%s/dhcpd.conf.txt\";\n"
	       "  Kea        the members of %s/kea.json.txt\n"
	       "  any        next-server %s, file name by the client's kind (above), see "
	       "nbdroot(8)\n",
	       dir, dir, dir, server);
	if (c->http_port > 0)
		printf("HTTP: serve %s/tftp as http://%s:%u/ with any server of static files\n",
		       dir, server, c->http_port);
}

static int netboot_run(struct netboot *n)
{
	struct netboot_tree_result result;
	int r = netboot_prepare(n);

	if (r < 0)
		return r;
	n->tree.folder = n->folder;
	if (n->is_check) {
		r = netboot_tree_check(&n->tree);
		if (r == 0)
			printf("%s: as %s wants it\n", n->folder, n->config_path);
		else if (r > 0)
			log_error("%s: %d file%s not as %s want%s (nbdroot netboot without --check "
				  "mends "
				  "that)",
				  n->folder, r, r == 1 ? " is" : "s are", n->config_path, "s");
		return r;
	}
	warn_of_shared(n);
	warn_of_unused(n);
	r = netboot_tree_write(&n->tree, n->is_forced, &result);
	if (r < 0)
		return r;
	printf("%s: %zu files written, %zu as they were, %zu removed", n->folder, result.written,
	       result.unchanged, result.removed);
	if (result.kept > 0)
		printf(", %zu to be removed by the first run in an hour", result.kept);
	putchar('\n');
	tell_firmware(n);
	tell_next(n, &result);
	return 0;
}

/* ---- the command line --------------------------------------------------------------------- */

/* Absolute, for it goes into the files that are written; need not exist yet. */
static int make_absolute(const char *path, char out[static PATH_MAX])
{
	char here[PATH_MAX] = "";
	size_t length;
	int n = 0;

	if (!realpath(path, out)) {
		if (errno != ENOENT || (path[0] != '/' && !getcwd(here, sizeof(here))))
			return -errno;
		n = snprintf(out, PATH_MAX, "%s%s%s", here, path[0] == '/' ? "" : "/", path);
	}
	if (n >= PATH_MAX - 256)
		return -ENAMETOOLONG;
	for (length = strlen(out); length > 1 && out[length - 1] == '/'; length--)
		out[length - 1] = '\0';
	/* It stands in other programs' configurations, and not all of them can quote. */
	for (const char *p = out; *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f || strchr("\"'\\#,;", *p) != NULL)
			return -EILSEQ;
	return 0;
}

/* 0 or negative errno, already reported. */
static int take_path(const char *option, const char *path, char out[static PATH_MAX])
{
	int r = make_absolute(path, out);

	if (r == -EILSEQ)
		log_error("%s %s: blanks, quotes, backslashes and any of # , ; cannot stand in the "
			  "files that are written (choose another name)",
			  option, path);
	else if (r < 0)
		log_error("%s %s: %s", option, path, strerror(-r));
	return r;
}

int netboot_main(int argc, char *argv[])
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "output", required_argument, NULL, 'o' },
		{ "force", no_argument, NULL, 'f' },
		{ "check", no_argument, NULL, 'k' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	static char title[] = "nbdroot netboot";
	struct netboot n = { 0 };
	int option, r;

	argv[0] = title; /* what getopt's messages start with */
	while ((option = getopt_long(argc, argv, "o:h", options, NULL)) >= 0) {
		switch (option) {
		case 'c': n.config_path = optarg; break;
		case 'o': n.output = optarg; break;
		case 'f': n.is_forced = true; break;
		case 'k': n.is_check = true; break;
		case 'h': printf("%s%s", netboot_usage, netboot_help); return 0;
		default: return EXIT_USAGE;
		}
	}
	/* An empty name is a shell's variable that is not set, and no folder. */
	if (!n.config_path || *n.config_path == '\0' || !n.output || *n.output == '\0' ||
	    optind != argc || (n.is_check && n.is_forced)) {
		log_error("netboot: wants --config FILE and -o DIR, and no other name (see nbdroot "
			  "netboot "
			  "--help)");
		return EXIT_USAGE;
	}
	r = take_path("-o", n.output, n.folder);
	if (r == 0)
		r = take_path("--config", n.config_path, n.source);
	if (r == 0)
		r = netboot_run(&n);
	netboot_tree_deinit(&n.tree);
	netboot_plan_deinit(&n.plan);
	netboot_config_deinit(&n.config);
	return r == 0 ? 0 : 1;
}

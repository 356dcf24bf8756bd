/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See netboot-text.h: what the boot programs read. None of them asks anything: a machine without a
 * keyboard must boot. When a file does not arrive, each tries again by itself, for ever.
 */
#include "netboot-text.h"

#include "netboot-words.h"

#include <string.h>

enum { RETRY_S = 10 };

static void put_head(FILE *f, const struct netboot_plan *p)
{
	fprintf(f, "# Written by nbdroot netboot from %s: change it there.\n", p->source);
}

/* The words of the kernel command line, each with a blank in front and in these quotes. */
static void put_words(FILE *f, const struct netboot_choice *c, const char *quote)
{
	const char *const texts[] = { c->entry->append, c->append };
	size_t size;

	fprintf(f, " %sroot=%s%s", quote, c->entry->root, quote);
	if (c->entry->rpmdb)
		fprintf(f, " %srpmdb=%s%s", quote, c->entry->rpmdb, quote);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		const char *text = texts[i];

		for (const char *word; (word = words_next(&text, &size)) != NULL;)
			fprintf(f, " %s%.*s%s", quote, (int)size, word, quote);
	}
}

void netboot_put_pxelinux(FILE *f, const struct netboot_plan *p, const struct netboot_choice *c)
{
	put_head(f, p);
	fprintf(f, "PROMPT 0\nTIMEOUT %d\nTOTALTIMEOUT %d\n", RETRY_S * 10, RETRY_S * 10);
	if (!c->entry) {
		fprintf(f, "DEFAULT local\nLABEL local\n\tLOCALBOOT 0\n");
		return;
	}
	fprintf(f, "DEFAULT %s\nLABEL %s\n\tKERNEL %s\n\tINITRD ", c->entry->name, c->entry->name,
		c->image->kernel);
	for (size_t i = 0; i < c->entry->n_initramfs; i++)
		fprintf(f, "%s%s", i > 0 ? "," : "", c->image->initramfs[i]);
	fprintf(f, "\n\tAPPEND");
	put_words(f, c, "");
	fprintf(f, "\n\tIPAPPEND 2\n");
}

/* ---- GRUB --------------------------------------------------------------------------------- */

static void put_grub_choice(FILE *f, const struct netboot_choice *c)
{
	if (!c->entry) {
		fprintf(f, "\techo 'nbdroot: nothing to boot over the network for this "
			   "machine'\n\texit\n");
		return;
	}
	fprintf(f, "\techo 'nbdroot: %s'\n", c->entry->name);
	fprintf(f, "\tif linux '/%s'", c->image->kernel);
	put_words(f, c, "'");
	fprintf(f, " $bootif; then\n\t\tif initrd");
	for (size_t i = 0; i < c->entry->n_initramfs; i++)
		fprintf(f, " '/%s'", c->image->initramfs[i]);
	fprintf(f, "; then\n\t\t\tboot\n\t\tfi\n\tfi\n");
}

void netboot_put_grub(FILE *f, const struct netboot_plan *p)
{
	const struct netboot_config *c = p->config;
	char mac[NETBOOT_MAC_TEXT];

	put_head(f, p);
	fprintf(f,
		"set bootif=\n"
		"if regexp --set=1:m1 --set=2:m2 --set=3:m3 --set=4:m4 --set=5:m5 --set=6:m6 \\\n"
		"\t\t'^(..):(..):(..):(..):(..):(..)$' \"$net_default_mac\"; then\n"
		"\tset bootif=\"BOOTIF=01-$m1-$m2-$m3-$m4-$m5-$m6\"\n"
		"fi\n"
		"set choice=0\n");
	for (size_t i = 0; i < c->n_clients; i++) {
		netboot_format_mac(c->clients[i].mac, ':', mac);
		if (p->choice_of[i] > 0)
			fprintf(f, "if [ \"$net_default_mac\" = %s ]; then set choice=%zu; fi\n",
				mac, p->choice_of[i]);
	}
	for (size_t i = 0; i < p->n_choices; i++) {
		fprintf(f, "%s [ \"$choice\" = %zu ]; then\n", i == 0 ? "if" : "elif", i);
		put_grub_choice(f, &p->choices[i]);
	}
	fprintf(f,
		"fi\n"
		"echo 'nbdroot: the kernel or the initramfs did not come from the server; again in "
		"%d s'\n"
		"sleep %d\n"
		"reboot\n",
		RETRY_S, RETRY_S);
}

/* ---- iPXE --------------------------------------------------------------------------------- */

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void put_ipxe_choice(FILE *f, const struct netboot_choice *c)
{
	if (!c->entry) {
		fprintf(f,
			"echo nbdroot: nothing to boot over the network for this machine\nexit\n");
		return;
	}
	fprintf(f, "echo nbdroot: %s\n", c->entry->name);
	fprintf(f, "kernel ${base}%s", c->image->kernel);
	/* By these names the kernel, an EFI program, finds them. */
	for (size_t i = 0; i < c->entry->n_initramfs; i++)
		fprintf(f, " initrd=%s", base_name(c->image->initramfs[i]));
	put_words(f, c, "");
	fprintf(f, " BOOTIF=01-${netX/mac:hexhyp} || goto again\n");
	for (size_t i = 0; i < c->entry->n_initramfs; i++)
		fprintf(f, "initrd ${base}%s || goto again\n", c->image->initramfs[i]);
	fprintf(f, "boot || goto again\n");
}

void netboot_put_ipxe(FILE *f, const struct netboot_plan *p)
{
	const struct netboot_config *c = p->config;
	const uint8_t *a = (const uint8_t *)&c->server.s_addr;
	char mac[NETBOOT_MAC_TEXT];

	fprintf(f, "#!ipxe\n");
	put_head(f, p);
	if (c->http_port > 0)
		fprintf(f, "set base http://%u.%u.%u.%u:%u/\n", a[0], a[1], a[2], a[3],
			c->http_port);
	else
		fprintf(f, "set base tftp://%u.%u.%u.%u/\n", a[0], a[1], a[2], a[3]);
	fprintf(f, "\n:start\nimgfree\n");
	for (size_t i = 0; i < c->n_clients; i++) {
		netboot_format_mac(c->clients[i].mac, ':', mac);
		if (p->choice_of[i] > 0)
			fprintf(f, "iseq ${netX/mac} %s && goto choice%zu ||\n", mac,
				p->choice_of[i]);
	}
	for (size_t i = 0; i < p->n_choices; i++) {
		fprintf(f, "\n:choice%zu\n", i);
		put_ipxe_choice(f, &p->choices[i]);
	}
	fprintf(f,
		"\n:again\n"
		"echo nbdroot: the kernel or the initramfs did not come from ${base}; again in %d "
		"s\n"
		"sleep %d\n"
		"goto start\n",
		RETRY_S, RETRY_S);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as the configuration of nbdroot netboot: it is read or refused with words, and what is
 * read never ends up as a second line, a quote or a variable in a file that another program reads.
 */
#include "base/json.h"
#include "server-tools/nbdroot/netboot-text.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_true)
{
	if (!is_true)
		abort();
}

static char *make(void (*put)(FILE *f, const struct netboot_plan *p), const struct netboot_plan *p)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		abort();
	put(f, p);
	fclose(f);
	must(strlen(text) == size);
	for (size_t i = 0; i < size; i++)
		must(text[i] == '\n' || text[i] == '\t' || (text[i] >= ' ' && text[i] < 0x7f));
	return text;
}

static size_t count(const char *text, char c)
{
	size_t n = 0;

	for (; *text != '\0'; text++)
		n += *text == c;
	return n;
}

static void check_texts(const struct netboot_plan *p)
{
	static struct json_token tokens[1 << 16];
	char *grub = make(netboot_put_grub, p), *kea = make(netboot_put_kea, p),
	     *ipxe = make(netboot_put_ipxe, p);

	/* GRUB's words: quotes in pairs, and no variable but those of the script itself. */
	for (char *line = strtok(grub, "\n"); line; line = strtok(NULL, "\n")) {
		must(count(line, '\'') % 2 == 0);
		if (strncmp(line, "\tif linux", 9) == 0)
			must(count(line, '$') == 1 && strstr(line, " $bootif; then") != NULL);
	}
	for (char *line = strtok(ipxe, "\n"); line; line = strtok(NULL, "\n"))
		if (strncmp(line, "kernel ", 7) == 0)
			must(count(line, '$') == 2 && strstr(line, "|| goto again") != NULL);
	must(json_parse(kea, strlen(kea), tokens, 1 << 16) > 0);
	free(grub);
	free(kea);
	free(ipxe);
	free(make(netboot_put_dnsmasq, p));
	free(make(netboot_put_dnsmasq_boot, p));
	free(make(netboot_put_dhcpd, p));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct netboot_config c = { 0 };
	char err[NETBOOT_ERROR_MAX] = "";
	struct netboot_plan p = { .config = &c, .source = "fuzz", .folder = "/srv/netboot" };

	if (netboot_config_parse(&c, "fuzz", (const char *)data, size, err) < 0) {
		must(strncmp(err, "fuzz:", 5) == 0 && strchr(err, '\n') == NULL);
		netboot_config_deinit(&c);
		return 0;
	}
	p.images = calloc(c.n_entries, sizeof(*p.images));
	must(p.images != NULL);
	for (size_t i = 0; i < c.n_entries; i++) {
		p.images[i].kernel = strdup("boot/vmlinuz");
		for (size_t k = 0; k < c.entries[i].n_initramfs; k++)
			p.images[i].initramfs[k] = strdup("boot/img");
	}
	p.has_ia32 = size % 2;
	must(netboot_plan_choices(&p) == 0);
	check_texts(&p);
	netboot_plan_deinit(&p);
	netboot_config_deinit(&c);
	return 0;
}

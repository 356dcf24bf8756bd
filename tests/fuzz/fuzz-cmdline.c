/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel command line, and behind the first NUL what a DHCP server says in option 17: whatever
 * is read out of them is a text that ends inside its field, and can be mounted or is refused in
 * words.
 */
#include "init/blockfs-head.c"
#include "init/cmdline-net.c"
#include "init/cmdline.c"
#include "init/nfs-options.c"
#include "init/root-spec.c"
#include "init/substitute.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_true)
{
	if (!is_true)
		abort();
}

static bool ends_inside(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

static bool is_one_line(const char *text)
{
	for (; *text != '\0'; text++)
		if (iscntrl((unsigned char)*text))
			return false;
	return true;
}

static void check_nfs(const struct root_spec *s)
{
	static char text[NFS_TEXT_MAX];
	struct nfs_plan plan;
	const char *problem = NULL;

	must(s->path[0] == '/' || s->path[0] == '\0');
	must(strpbrk(s->server, ",; \"'") == NULL && strpbrk(s->path, ":,") == NULL);
	if (nfs_options_plan(s->options, s->is_nfs4, 0, &plan, &problem) != 0) {
		must(problem != NULL);
		return;
	}
	must(plan.versions_count > 0 && plan.versions_count <= NFS_VERSIONS_MAX);
	for (size_t i = 0; i < plan.versions_count; i++)
		must(nfs_options_text(&plan, plan.versions[i], "192.0.2.1", "192.0.2.2", text) ==
		     0);
}

static void check_root(const struct root_spec *s)
{
	static const struct substitute_values values = { "02-00-00-00-00-17", "192.0.2.2", "pc",
							 "" };
	char out[ROOT_SPEC_URI_MAX], problem[256];

	must(ends_inside(s->uri, sizeof(s->uri)) && ends_inside(s->fstype, sizeof(s->fstype)));
	must(ends_inside(s->server, sizeof(s->server)) && ends_inside(s->path, sizeof(s->path)));
	must(ends_inside(s->options, sizeof(s->options)));
	must((s->kind == ROOT_NBD) == (s->uri[0] != '\0'));
	if (s->kind == ROOT_NBD) {
		must(root_spec_is_nbd_uri(s->uri));
		if (substitute(s->uri, &values, out, sizeof(out), problem, sizeof(problem)) == 0)
			must(ends_inside(out, sizeof(out)));
	} else if (s->kind == ROOT_NFS) {
		check_nfs(s);
	}
}

static void check_mount(const struct cmdline *c, const struct cmdline_mount *m)
{
	static char out[4 * CMDLINE_TEXT_MAX];

	must(root_spec_is_nbd_uri(m->uri));
	for (size_t i = 0; i < c->fallbacks_count; i++) {
		int r = cmdline_fallback_uri(m->uri, c->fallbacks[i], out, sizeof(out));

		must(r == CMDLINE_E_BAD || (r == 0 && root_spec_is_nbd_uri(out)));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct cmdline c;
	static struct root_spec s;
	char *text = malloc(size + 1), *option17, problem[ROOT_SPEC_PROBLEM_MAX];
	int r;

	if (text == NULL)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	r = cmdline_parse(&c, text);
	must(r == 0 || (r == CMDLINE_E_BAD && c.problem[0] != '\0'));
	must(ends_inside(c.problem, sizeof(c.problem)));
	must(c.mounts_count <= CMDLINE_MOUNTS_MAX && c.fallbacks_count <= CMDLINE_FALLBACKS_MAX);
	must(c.store_used <= sizeof(c.store));
	must(r != 0 || c.root.kind != ROOT_NONE);
	check_root(&c.root);
	for (size_t i = 0; i < c.mounts_count; i++) {
		must(c.mounts[i].mount_point[0] == '/');
		check_mount(&c, &c.mounts[i]);
	}
	if (c.rpmdb.uri != NULL)
		check_mount(&c, &c.rpmdb);
	must((c.overlay == CMDLINE_OVERLAY_DEVICE) == (c.upper.uri != NULL));

	option17 = strlen(text) < size ? text + strlen(text) + 1 : text;
	r = root_spec_parse_option17(option17, &s, problem);
	must(r == 0 || (r == ROOT_SPEC_E_BAD && ends_inside(problem, sizeof(problem))));
	must((r == 0) == (s.kind == ROOT_NBD || s.kind == ROOT_NFS));
	must(r != 0 || is_one_line(s.uri[0] != '\0' ? s.uri : s.path));
	check_root(&s);
	free(text);
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See kernel-choose.h. */
#include "kernel-choose.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

/* Without these no client mounts anything, whatever --drivers says. */
static const char *const kernel_required[] = { "nbd", "ext4" };
/*
 * What some of the roots of nbdroot(7) need: an overlay, NFS; tagged networks; and the DHCP
 * client's packet sockets, which most kernels have built in.
 */
static const char *const kernel_helpful[] = { "overlay", "nfsv3", "nfsv4", "8021q", "af_packet" };

/* --drivers all: the network cards, with the chips between a card and its cable ... */
static const char *const kernel_folders[] = {
	"kernel/drivers/net/ethernet/",
	"kernel/drivers/net/phy/",
	"kernel/drivers/net/usb/",
};
/* ... and the cards of virtual machines, which have no folder of their own. */
static const char *const kernel_virtual[] = { "virtio_net", "vmxnet3", "hv_netvsc",
					      "xen_netfront" };
/* What is below another folder was built for this kernel by somebody else. */
static const char kernel_own_folder[] = "kernel/";

static int kernel_skip(struct kernel *k, const char *name, int why)
{
	_cleanup_free_ char *note = NULL;

	if (asprintf(&note, "%s (%s)", name,
		     why == MODULES_E_BUILTIN ? "built in" : "not in this tree") < 0)
		return -ENOMEM;
	return kernel_list_add(&k->skipped, note);
}

/* r of modules_want() and its kin; MODULES_E_BROKEN is reported and becomes -ENOENT. */
static int kernel_unbroken(const struct kernel *k, const char *name, int r)
{
	if (r != MODULES_E_BROKEN)
		return r;
	log_error("%s: %s depends on a module that is not in modules.dep (run depmod -b for this "
		  "tree)",
		  k->path, name);
	return -ENOENT;
}

/* modules_want(), with a broken tree reported. */
static int kernel_want(struct kernel *k, const char *name)
{
	return kernel_unbroken(k, name, modules_want(&k->modules, name));
}

/* ---- --drivers ---------------------------------------------------------------------------- */

/* Whether a file from elsewhere (e1000e or r8168 of DKMS, say) makes network devices. */
static int kernel_is_network_driver(const struct kernel *k, const struct module *it, bool *answer)
{
	static const char *const calls[] = { "register_netdev", "alloc_etherdev_mqs" };
	_cleanup_free_ char *path = NULL;
	_cleanup_free_ void *data = NULL;
	size_t size, plain;
	int r;

	*answer = false;
	if (asprintf(&path, "%s/%.*s", k->path, (int)it->path_length, it->path) < 0)
		return -ENOMEM;
	r = kernel_read_module(path, &data, &size, &plain);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(calls); i++)
		*answer |= memmem(data, size, calls[i], strlen(calls[i]) + 1) != NULL;
	return r;
}

static int kernel_choose_foreign(struct kernel *k)
{
	for (size_t i = 0; i < k->modules.count; i++) {
		const struct module *it = &k->modules.list[i];
		bool is_network;
		int r;

		if (it->is_wanted ||
		    (it->path_length > strlen(kernel_own_folder) &&
		     memcmp(it->path, kernel_own_folder, strlen(kernel_own_folder)) == 0))
			continue;
		r = kernel_is_network_driver(k, it, &is_network);
		if (r == 0 && is_network)
			r = kernel_want(k, it->name);
		if (r < 0)
			return r;
	}
	return 0;
}

static int kernel_choose_all(struct kernel *k)
{
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(kernel_folders); i++) {
		size_t count;

		r = modules_want_folder(&k->modules, kernel_folders[i], &count);
		r = kernel_unbroken(k, kernel_folders[i], r);
		if (r == 0 && count == 0 && i == 0)
			r = kernel_skip(k, "all of drivers/net/ethernet", MODULES_E_MISSING);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < ARRAY_SIZE(kernel_virtual); i++) {
		r = kernel_want(k, kernel_virtual[i]);
		if (r < 0)
			return r;
	}
	return kernel_choose_foreign(k);
}

static int kernel_choose_drivers(struct kernel *k, const char *drivers)
{
	_cleanup_free_ char *list = strdup(drivers);
	int r;

	if (!list)
		return -ENOMEM;
	for (char *save, *name = strtok_r(list, ",", &save); name;
	     name = strtok_r(NULL, ",", &save)) {
		if (strcmp(name, "all") == 0) {
			r = kernel_choose_all(k);
		} else {
			r = kernel_want(k, name);
			if (r == MODULES_E_BUILTIN || r == MODULES_E_MISSING)
				r = kernel_skip(k, name, r);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- all of it ---------------------------------------------------------------------------- */

static int kernel_choose_required(struct kernel *k)
{
	for (size_t i = 0; i < ARRAY_SIZE(kernel_required); i++) {
		const char *name = kernel_required[i];
		int r = kernel_want(k, name);

		if (r == MODULES_E_MISSING) {
			log_error("%s: has no %s module, and the kernel none built in: a client "
				  "cannot mount its root with it (take another kernel, or install "
				  "the package with the rest of its modules)",
				  k->path, name);
			return -ENOENT;
		}
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < ARRAY_SIZE(kernel_helpful); i++) {
		const char *name = kernel_helpful[i];
		int r = kernel_want(k, name);

		if (r == MODULES_E_MISSING)
			r = kernel_skip(k, name, r);
		if (r < 0)
			return r;
	}
	return 0;
}

int kernel_choose(struct kernel *k, const char *drivers)
{
	int r = kernel_choose_required(k);

	if (r == 0)
		r = kernel_choose_drivers(k, drivers);
	if (r == 0)
		r = modules_want_asked(&k->modules);
	return kernel_unbroken(k, "a PHY or bus driver", r);
}

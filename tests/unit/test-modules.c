/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which modules an initramfs needs, by depmod's text files. */
#include "tests/unit/tap.h"

#include "server-tools/nbdroot/modules.h"

static const struct modules_texts tree = {
	.dep = "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/fs/mbcache.ko.xz\n"
	       "kernel/fs/jbd2/jbd2.ko.xz:\n"
	       "kernel/fs/mbcache.ko.xz:\n"
	       "kernel/crypto/crc32c_generic.ko.xz:\n"
	       "kernel/arch/x86/crypto/crc32c-intel.ko.xz:\n"
	       "kernel/drivers/net/ethernet/r8169.ko.xz: kernel/drivers/net/phy/libphy.ko.xz\n"
	       "kernel/drivers/net/ethernet/broken.ko.xz: kernel/drivers/net/phy/gone.ko.xz\n"
	       "kernel/drivers/net/phy/libphy.ko.xz:\n"
	       "kernel/drivers/net/phy/realtek.ko.xz: kernel/drivers/net/phy/libphy.ko.xz\n"
	       "kernel/a.ko.xz:\n"
	       "kernel/b.ko.xz:\n"
	       "extra/last.ko:", /* no newline at the end */
	.softdep = "# comment\n"
		   "softdep ext4 pre: crypto-crc32c\n"
		   "softdep r8169 pre: realtek nosuch\n"
		   "softdep a post: b\n"
		   "softdep b pre: a\n"
		   "softdep\n"
		   "softdep last",
	.alias = "# comment\n"
		 "alias crypto-crc32c crc32c_generic\n"
		 "alias crypto-crc32c crc32c-intel\n"
		 "alias crypto-* \n"
		 "alias\n"
		 "alias pci:v*d[0-9]* a\n",
	.builtin = "kernel/fs/overlayfs/overlay.ko\nkernel/net/af_packet.ko",
};

/* The wanted ones' names, sorted, with a blank after each. */
static const char *wanted(const struct modules *m)
{
	static char text[512];

	text[0] = '\0';
	for (size_t i = 0; i < m->count; i++) {
		if (!m->list[i].is_wanted)
			continue;
		strcat(text, m->list[i].name);
		strcat(text, " ");
	}
	return text;
}

TEST(dependencies_come_along_and_so_does_crc32c_which_is_only_an_alias)
{
	struct modules m;

	CHECK_EQ(modules_init(&m, &tree), 0);
	CHECK_EQ(modules_want(&m, "ext4"), 0);
	CHECK_STR(wanted(&m), "crc32c_generic crc32c_intel ext4 jbd2 mbcache ");
	modules_deinit(&m);
}

TEST(soft_dependency_that_is_not_there_is_no_reason_to_fail)
{
	struct modules m;

	CHECK_EQ(modules_init(&m, &tree), 0);
	CHECK_EQ(modules_want(&m, "r8169"), 0);
	CHECK_STR(wanted(&m), "libphy r8169 realtek ");
	modules_deinit(&m);
}

TEST(circle_of_soft_dependencies_ends)
{
	struct modules m;

	CHECK_EQ(modules_init(&m, &tree), 0);
	CHECK_EQ(modules_want(&m, "b"), 0);
	CHECK_STR(wanted(&m), "a b ");
	modules_deinit(&m);
}

TEST(dash_and_underscore_are_alike_in_names)
{
	struct modules m;

	CHECK_EQ(modules_init(&m, &tree), 0);
	CHECK_EQ(modules_want(&m, "crc32c-generic"), 0);
	CHECK_EQ(modules_want(&m, "crc32c_intel"), 0);
	CHECK_EQ(modules_want(&m, "af-packet"), MODULES_E_BUILTIN);
	CHECK_STR(wanted(&m), "crc32c_generic crc32c_intel ");
	modules_deinit(&m);
}

TEST(builtin_missing_and_broken_are_told_apart)
{
	struct modules m;

	CHECK_EQ(modules_init(&m, &tree), 0);
	CHECK_EQ(modules_want(&m, "overlay"), MODULES_E_BUILTIN);
	CHECK_EQ(modules_want(&m, "e1000"), MODULES_E_MISSING);
	CHECK_EQ(modules_want(&m, ""), MODULES_E_MISSING);
	CHECK_STR(wanted(&m), "");
	CHECK_EQ(modules_want(&m, "broken"), MODULES_E_BROKEN);
	CHECK_EQ(modules_want(&m, "last"), 0);
	modules_deinit(&m);
}

TEST(folder_takes_all_below_it_and_counts_them)
{
	struct modules m;
	size_t count;

	CHECK_EQ(modules_init(&m, &tree), 0);
	CHECK_EQ(modules_want_folder(&m, "kernel/fs/", &count), 0);
	CHECK_EQ(count, 3);
	CHECK_STR(wanted(&m), "crc32c_generic crc32c_intel ext4 jbd2 mbcache ");
	CHECK_EQ(modules_want_folder(&m, "kernel/none/", &count), 0);
	CHECK_EQ(count, 0);
	modules_deinit(&m);
}

TEST(alias_patterns_match_as_the_shell_does)
{
	struct modules_texts text = tree;
	struct modules m;

	text.softdep = "softdep last pre: pci:v12d7x\n";
	CHECK_EQ(modules_init(&m, &text), 0);
	CHECK_EQ(modules_want(&m, "last"), 0);
	CHECK_STR(wanted(&m), "a last ");
	modules_deinit(&m);
}

TEST(paths_that_lead_out_of_the_tree_and_lines_without_sense_do_not_exist)
{
	const struct modules_texts text = {
		.dep = "/lib/abs.ko:\n"
		       "../up.ko:\n"
		       "kernel/../../up2.ko:\n"
		       "kernel//slash.ko:\n"
		       "./dot.ko:\n"
		       "no colon\n"
		       ":\n"
		       "\n"
		       "kernel/plain.txt:\n"
		       "kernel/.ko:\n"
		       "kernel/twice.ko:\n"
		       "kernel/other/twice.ko:\n",
	};
	struct modules m;

	CHECK_EQ(modules_init(&m, &text), 0);
	CHECK_EQ(m.count, 1);
	CHECK_STR(m.list[0].name, "twice");
	modules_deinit(&m);
}

TEST(tree_without_any_text_has_nothing)
{
	const struct modules_texts text = { .dep = "" };
	struct modules m;

	CHECK_EQ(modules_init(&m, &text), 0);
	CHECK_EQ(m.count, 0);
	CHECK_EQ(modules_want(&m, "ext4"), MODULES_E_MISSING);
	modules_deinit(&m);
}

static const struct modules_texts cards = {
	.dep = "kernel/net/open.ko: kernel/net/helper.ko kernel/phy/libphy.ko\n"
	       "kernel/net/sure.ko: kernel/phy/libphy.ko\n"
	       "kernel/net/helper.ko: kernel/phy/libphy.ko\n"
	       "kernel/net/stick.ko:\n"
	       "kernel/net/virtio_net.ko:\n"
	       "kernel/phy/libphy.ko:\n"
	       "kernel/phy/phy-a.ko: kernel/phy/libphy.ko\n"
	       "kernel/phy/phy-b.ko: kernel/phy/libphy.ko\n"
	       "kernel/usb/xhci-pci.ko: kernel/usb/xhci-hcd.ko\n"
	       "kernel/usb/xhci-hcd.ko:\n"
	       "kernel/usb/uhci-hcd.ko:\n"
	       "kernel/virtio/virtio_pci.ko:\n",
	.softdep = "softdep sure pre: phy-b\n",
	.alias = "alias pci:v00001*d* open\n"
		 "alias pci:v00002*d* sure\n"
		 "alias usb:v0001p* stick\n"
		 "alias virtio:d00000001v* virtio_net\n"
		 "alias mdio:0001* phy_a\n"
		 "alias mdio:0002* phy_b\n"
		 "alias pci:v*d*bc0C* xhci_pci\n",
	.builtin = "kernel/usb/ehci-pci.ko\n",
};

/* What stands there after wanting one driver and what it asks for. */
static const char *asked(const char *driver)
{
	struct modules m;
	const char *text = "?";

	if (modules_init(&m, &cards) == 0 && modules_want(&m, driver) == 0 &&
	    modules_want_asked(&m) == 0)
		text = wanted(&m);
	modules_deinit(&m);
	return text;
}

TEST(driver_brings_the_bus_that_its_card_sits_on)
{
	CHECK_STR(asked("stick"), "stick uhci_hcd xhci_hcd xhci_pci ");
	CHECK_STR(asked("virtio_net"), "virtio_net virtio_pci ");
}

TEST(driver_that_uses_phys_brings_all_or_those_that_it_names)
{
	CHECK_STR(asked("open"), "helper libphy open phy_a phy_b ");
	CHECK_STR(asked("sure"), "libphy phy_b sure ");
	/* a library is no driver */
	CHECK_STR(asked("helper"), "helper libphy ");
}

TEST(cipher_is_found_under_the_name_that_newer_kernels_ask_for)
{
	struct modules_texts text = tree;
	struct modules m;

	text.softdep = "softdep last pre: crc32c\n";
	CHECK_EQ(modules_init(&m, &text), 0);
	CHECK_EQ(modules_want(&m, "last"), 0);
	CHECK_STR(wanted(&m), "crc32c_generic crc32c_intel last ");
	modules_deinit(&m);
}

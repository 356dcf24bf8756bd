/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The texts that nbdroot netboot makes. Golden texts of what each boot program reads for one small
 * room; then what must be in them, or must not, for other rooms.
 */
#include "tests/unit/tap.h"

#include "base/json.h"
#include "server-tools/nbdroot/netboot-text.h"

static struct netboot_config config;
static struct netboot_plan plan;
static char *text;

static void forget(void)
{
	netboot_plan_deinit(&plan);
	netboot_config_deinit(&config);
	free(text);
	text = NULL;
}

/* A plan for [netboot] with these lines, and entries and clients below. */
static int set_up(const char *server_lines, const char *rest)
{
	char all[4096], err[NETBOOT_ERROR_MAX];

	forget();
	snprintf(all, sizeof(all),
		 "[netboot]\nserver = 10.0.0.1\n%s"
		 "[entry room]\nkernel = /k\ninitramfs = /i\ninitramfs = /f\nroot = "
		 "nbd://10.0.0.1/root-{mac}\n"
		 "rpmdb = nbd://10.0.0.1/{mac}/rpm\nappend = quiet\tpanic=30\n%s",
		 server_lines, rest);
	if (netboot_config_parse(&config, "n.conf", all, strlen(all), err) < 0) {
		printf("# %s\n", err);
		return -1;
	}
	plan = (struct netboot_plan){ .config = &config,
				      .source = "n.conf",
				      .folder = "/srv/netboot" };
	plan.images = calloc(config.n_entries, sizeof(*plan.images));
	for (size_t i = 0; i < config.n_entries; i++) {
		plan.images[i].kernel = strdup("boot/vmlinuz-6.1.0");
		for (size_t k = 0; k < config.entries[i].n_initramfs; k++)
			plan.images[i].initramfs[k] = strdup(k == 0 ? "boot/i.img" : "boot/f.img");
	}
	return netboot_plan_choices(&plan);
}

static const char *make(void (*put)(FILE *f, const struct netboot_plan *p))
{
	size_t size;
	FILE *f;

	free(text);
	f = open_memstream(&text, &size);
	put(f, &plan);
	fclose(f);
	return text;
}

static const char *make_pxelinux(size_t choice)
{
	size_t size;
	FILE *f;

	free(text);
	f = open_memstream(&text, &size);
	netboot_put_pxelinux(f, &plan, &plan.choices[choice]);
	fclose(f);
	return text;
}

#define RANGE "range = 10.0.0.100,10.0.0.200\n"
#define CLIENT "[client 52:54:00:AB:CD:EF]\nname = pc17\naddress = 10.0.0.17\nappend = debug\n"

TEST(pxelinux_reads_one_entry_with_the_card_behind_it)
{
	CHECK_EQ(set_up(RANGE, CLIENT), 0);
	CHECK_STR(make_pxelinux(plan.choice_of[0]),
		  "# Written by nbdroot netboot from n.conf: change it there.\n"
		  "PROMPT 0\nTIMEOUT 100\nTOTALTIMEOUT 100\nDEFAULT room\nLABEL room\n"
		  "\tKERNEL boot/vmlinuz-6.1.0\n\tINITRD boot/i.img,boot/f.img\n"
		  "\tAPPEND root=nbd://10.0.0.1/root-{mac} rpmdb=nbd://10.0.0.1/{mac}/rpm quiet "
		  "panic=30 "
		  "debug\n\tIPAPPEND 2\n");
	CHECK(strstr(make_pxelinux(0), "debug") == NULL);
}

TEST(grub_reads_quoted_words_and_puts_the_card_behind_them)
{
	CHECK_EQ(set_up(RANGE, ""), 0);
	CHECK_STR(make(netboot_put_grub),
		  "# Written by nbdroot netboot from n.conf: change it there.\n"
		  "set bootif=\n"
		  "if regexp --set=1:m1 --set=2:m2 --set=3:m3 --set=4:m4 --set=5:m5 --set=6:m6 \\\n"
		  "\t\t'^(..):(..):(..):(..):(..):(..)$' \"$net_default_mac\"; then\n"
		  "\tset bootif=\"BOOTIF=01-$m1-$m2-$m3-$m4-$m5-$m6\"\n"
		  "fi\n"
		  "set choice=0\n"
		  "if [ \"$choice\" = 0 ]; then\n"
		  "\techo 'nbdroot: room'\n"
		  "\tif linux '/boot/vmlinuz-6.1.0' 'root=nbd://10.0.0.1/root-{mac}' "
		  "'rpmdb=nbd://10.0.0.1/{mac}/rpm' 'quiet' 'panic=30' $bootif; then\n"
		  "\t\tif initrd '/boot/i.img' '/boot/f.img'; then\n"
		  "\t\t\tboot\n\t\tfi\n\tfi\n"
		  "fi\n"
		  "echo 'nbdroot: the kernel or the initramfs did not come from the server; again "
		  "in 10 s'\n"
		  "sleep 10\nreboot\n");
}

TEST(ipxe_reads_a_script_that_asks_for_everything_where_it_came_from)
{
	CHECK_EQ(set_up(RANGE "http = 8080\n", ""), 0);
	CHECK_STR(make(netboot_put_ipxe),
		  "#!ipxe\n"
		  "# Written by nbdroot netboot from n.conf: change it there.\n"
		  "set base http://10.0.0.1:8080/\n\n"
		  ":start\nimgfree\n\n"
		  ":choice0\necho nbdroot: room\n"
		  "kernel ${base}boot/vmlinuz-6.1.0 initrd=i.img initrd=f.img "
		  "root=nbd://10.0.0.1/root-{mac} "
		  "rpmdb=nbd://10.0.0.1/{mac}/rpm quiet panic=30 BOOTIF=01-${netX/mac:hexhyp} || "
		  "goto again\n"
		  "initrd ${base}boot/i.img || goto again\n"
		  "initrd ${base}boot/f.img || goto again\n"
		  "boot || goto again\n\n"
		  ":again\n"
		  "echo nbdroot: the kernel or the initramfs did not come from ${base}; again in "
		  "10 s\n"
		  "sleep 10\ngoto start\n");
	CHECK_EQ(set_up(RANGE, ""), 0);
	CHECK(strstr(make(netboot_put_ipxe), "set base tftp://10.0.0.1/\n") != NULL);
}

TEST(clients_that_boot_alike_share_a_choice)
{
	CHECK_EQ(set_up(RANGE, CLIENT "[client 52:54:00:00:00:01]\nappend = debug\n"
				      "[client 52:54:00:00:00:02]\nname = plain\n"
				      "[client 52:54:00:00:00:03]\nentry = none\n"),
		 0);
	CHECK_EQ(plan.n_choices, 3);
	CHECK_EQ(plan.choice_of[0], 1);
	CHECK_EQ(plan.choice_of[1], 0);
	CHECK_EQ(plan.choice_of[2], 2);
	CHECK_EQ(plan.choice_of[3], 1);
	CHECK(strstr(make(netboot_put_grub),
		     "if [ \"$net_default_mac\" = 52:54:00:ab:cd:ef ]; then set choice=1; fi\n") !=
	      NULL);
	CHECK(strstr(make(netboot_put_ipxe),
		     "iseq ${netX/mac} 52:54:00:00:00:03 && goto choice2 ||\n") != NULL);
	CHECK(strstr(text, "52:54:00:00:00:02") == NULL);
}

TEST(a_machine_without_an_entry_goes_on_to_its_disk)
{
	CHECK_EQ(set_up(RANGE "default = none\n", ""), 0);
	CHECK(strstr(make_pxelinux(0), "\tLOCALBOOT 0\n") != NULL);
	CHECK(strstr(make(netboot_put_grub), "\texit\n") != NULL);
	CHECK(strstr(make(netboot_put_ipxe), "\nexit\n") != NULL);
}

TEST(the_size_of_a_command_line_is_what_a_boot_program_may_make_of_it)
{
	size_t plain, longer;

	CHECK_EQ(set_up(RANGE, CLIENT), 0);
	plain = netboot_cmdline_size(&plan.choices[0]);
	longer = netboot_cmdline_size(&plan.choices[1]);
	CHECK_EQ(longer - plain, strlen("debug"));
	CHECK(plain >=
	      strlen("BOOT_IMAGE=boot/vmlinuz-6.1.0 root=nbd://10.0.0.1/root-{mac} "
		     "rpmdb=nbd://10.0.0.1/{mac}/rpm quiet panic=30 initrd=boot/i.img,boot/f.img "
		     "BOOTIF=01-52-54-00-12-34-56"));
}

TEST(a_dnsmasq_of_its_own_gives_addresses_and_tells_nobody_of_a_router_that_is_not_there)
{
	CHECK_EQ(set_up(RANGE "interface = eth1\nntp = 10.0.0.2\n", CLIENT), 0);
	make(netboot_put_dnsmasq);
	CHECK(strstr(text, "\nport=0\ninterface=eth1\nbind-dynamic\n") != NULL);
	CHECK(strstr(text, "\ndhcp-range=10.0.0.100,10.0.0.200,12h\n") != NULL);
	CHECK(strstr(text, "\ndhcp-ignore-clid\n") != NULL);
	CHECK(strstr(text, "\ndhcp-option=option:router\ndhcp-option=option:dns-server\n"
			   "dhcp-option=option:ntp-server,10.0.0.2\n") != NULL);
	CHECK(strstr(text, "\ndhcp-host=52:54:00:ab:cd:ef,10.0.0.17,pc17\n") != NULL);
	CHECK(strstr(text, "\nconf-file=/srv/netboot/dnsmasq-boot.conf\n") != NULL);
}

TEST(each_kind_of_firmware_is_given_its_program)
{
	CHECK_EQ(set_up(RANGE "http = yes\n", ""), 0);
	plan.has_ia32 = true;
	make(netboot_put_dnsmasq_boot);
	CHECK(strstr(text, "\nenable-tftp\ntftp-root=/srv/netboot/tftp\n") != NULL);
	CHECK(strstr(text, "\ndhcp-boot=tag:nbdroot-bios,pxelinux.0,,10.0.0.1\n") != NULL);
	CHECK(strstr(text,
		     "\ndhcp-boot=tag:nbdroot-ia32,tag:!nbdroot-ipxe,grubia32.efi,,10.0.0.1\n") !=
	      NULL);
	CHECK(strstr(text,
		     "\ndhcp-boot=tag:nbdroot-x64,tag:!nbdroot-ipxe,shimx64.efi,,10.0.0.1\n") !=
	      NULL);
	CHECK(strstr(text,
		     "\ndhcp-boot=tag:!nbdroot-bios,tag:nbdroot-ipxe,boot.ipxe,,10.0.0.1\n") !=
	      NULL);
	CHECK(strstr(text,
		     "\ndhcp-option-force=tag:nbdroot-http,60,HTTPClient\n"
		     "dhcp-boot=tag:nbdroot-http,\"http://10.0.0.1:80/snponly.efi\"\n") != NULL);
	CHECK(strstr(text, "pxe-service") == NULL);
}

TEST(ipxe_is_never_given_itself_again)
{
	CHECK_EQ(set_up(RANGE "bios = ipxe\nuefi = ipxe\n", ""), 0);
	make(netboot_put_dnsmasq_boot);
	for (const char *p = text; (p = strstr(p, "\ndhcp-boot=")) != NULL; p++) {
		char line[128] = "";

		snprintf(line, sizeof(line), "%.*s", (int)strcspn(p + 1, "\n"), p + 1);
		CHECK(strstr(line, "boot.ipxe") != NULL
			      ? strstr(line, "tag:nbdroot-ipxe") != NULL
			      : strstr(line, "tag:!nbdroot-ipxe") != NULL);
	}
}

TEST(a_card_that_is_ipxe_is_given_a_script_whatever_the_other_firmware_is)
{
	static const char *const uefi[] = { "", "uefi = grub\n", "uefi = ipxe\n" };
	char lines[128];

	for (size_t i = 0; i < ARRAY_SIZE(uefi); i++) {
		snprintf(lines, sizeof(lines), RANGE "http = no\n%s", uefi[i]);
		CHECK_EQ(set_up(lines, ""), 0);
		CHECK(strstr(make(netboot_put_dnsmasq_boot),
			     "\ndhcp-boot=tag:!nbdroot-bios,tag:nbdroot-ipxe,boot.ipxe,,") != NULL);
		CHECK(netboot_has_ipxe_script(&plan));
	}
}

TEST(a_proxy_gives_no_addresses)
{
	CHECK_EQ(set_up("dhcp = proxy\n", CLIENT), 0);
	make(netboot_put_dnsmasq);
	CHECK(strstr(text, "\ndhcp-range=10.0.0.1,proxy\n") != NULL);
	CHECK(strstr(text, "dhcp-host") == NULL && strstr(text, "dhcp-authoritative") == NULL);
	make(netboot_put_dnsmasq_boot);
	CHECK(strstr(text,
		     "\npxe-service=tag:!nbdroot-ipxe,x86PC,\"nbdroot\",pxelinux.0,10.0.0.1\n") !=
	      NULL);
	CHECK(strstr(text,
		     "\npxe-service=tag:!nbdroot-ipxe,BC_EFI,\"nbdroot\",snponly.efi,10.0.0.1\n") !=
	      NULL);
}

TEST(without_dhcp_a_dnsmasq_of_others_still_learns_what_to_boot)
{
	CHECK_EQ(set_up("dhcp = none\n", CLIENT), 0);
	CHECK(strstr(make(netboot_put_dnsmasq), "\ndhcp-range") == NULL);
	CHECK(strstr(text, "\ndhcp-host") == NULL);
	make(netboot_put_dnsmasq_boot);
	CHECK(strstr(text, "\ntftp-root=") != NULL);
	CHECK(strstr(text, "\ndhcp-boot=") != NULL);
	CHECK(strstr(text, "pxelinux.0") != NULL);
	CHECK(strstr(text, "\npxe-service=") == NULL && strstr(text, "\ndhcp-range") == NULL);
}

#define DHCP_ENTRY                                                                                 \
	"[entry told]\nkernel = /k\ninitramfs = /i\nroot = dhcp\nroot-path = nbd:10.0.0.1:r,1\n"

TEST(a_root_path_is_told_to_the_machines_of_its_entry_alone)
{
	CHECK_EQ(set_up(RANGE, DHCP_ENTRY "[client 52:54:00:00:00:01]\nentry = told\n"
					  "[client 52:54:00:00:00:02]\nentry = room\n"),
		 0);
	make(netboot_put_dnsmasq_boot);
	CHECK(strstr(text, "\ndhcp-mac=set:nbdroot-entry-told,52:54:00:00:00:01\n") != NULL);
	CHECK(strstr(text, "nbdroot-entry-told,52:54:00:00:00:02") == NULL);
	CHECK(strstr(text,
		     "\ndhcp-option=tag:nbdroot-entry-told,tag:!nbdroot-ipxe,option:root-path,"
		     "\"nbd:10.0.0.1:r,1\"\n") != NULL);
	CHECK(strstr(text, "tag:!nbdroot-known") == NULL);
	CHECK_EQ(set_up(RANGE "default = told\n",
			DHCP_ENTRY "[client 52:54:00:00:00:02]\nentry = room\n"),
		 0);
	make(netboot_put_dnsmasq_boot);
	CHECK(strstr(text, "\ndhcp-mac=set:nbdroot-known,52:54:00:00:00:02\n") != NULL);
	CHECK(strstr(text,
		     "\ndhcp-option=tag:!nbdroot-known,tag:!nbdroot-ipxe,option:root-path,") !=
	      NULL);
}

TEST(keas_piece_is_json_whatever_the_names)
{
	struct json_token tokens[512];

	CHECK_EQ(set_up(RANGE "http = yes\ndefault = told\n", DHCP_ENTRY CLIENT), 0);
	plan.has_ia32 = true;
	plan.source = "/etc/\"odd\\name\"\n.conf";
	make(netboot_put_kea);
	CHECK(json_parse(text, strlen(text), tokens, 512) > 0);
	CHECK(strstr(text, "\"match-client-id\": false") != NULL);
	CHECK(strstr(text, "option[93].hex == 0x0010)") != NULL);
}

TEST(dhcpds_piece_answers_http_clients_in_kind)
{
	CHECK_EQ(set_up(RANGE "http = yes\n", CLIENT), 0);
	make(netboot_put_dhcpd);
	CHECK(strstr(text, "option vendor-class-identifier \"HTTPClient\";\n"
			   "\tfilename \"http://10.0.0.1:80/snponly.efi\";\n") != NULL);
	CHECK(strstr(text,
		     "\thardware ethernet 52:54:00:ab:cd:ef;\n\tfixed-address 10.0.0.17;\n") !=
	      NULL);
	CHECK(strstr(text, "ignore-client-uids true;\n") != NULL);
	forget();
}

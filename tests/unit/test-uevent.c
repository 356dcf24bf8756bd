/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel's news of devices, and its words about firmware that is missing. */
#include "init/firmware.h"
#include "init/uevent.h"

#include "tests/unit/tap.h"

#define PARSE(text, e) uevent_parse((char[]){ text }, sizeof(text), e)

TEST(a_device_that_was_added_tells_its_alias)
{
	struct uevent e;

	CHECK(PARSE("add@/devices/pci0/usb1/1-1\0ACTION=add\0DEVPATH=/devices/pci0/usb1/1-1\0"
		    "SUBSYSTEM=usb\0MODALIAS=usb:v0525pA4A2\0SEQNUM=7",
		    &e));
	CHECK_STR(e.action, "add");
	CHECK_STR(e.subsystem, "usb");
	CHECK_STR(e.modalias, "usb:v0525pA4A2");
	CHECK(e.firmware == NULL);
}

TEST(what_is_no_message_of_the_kernel_is_refused)
{
	struct uevent e;

	CHECK(!PARSE("libudev\0ACTION=add\0DEVPATH=/x", &e));
	CHECK(!PARSE("add@/x\0ACTION=add", &e));
	CHECK(!uevent_parse((char[]){ "add@/x" }, 0, &e));
	/* without a NUL at its end */
	CHECK(!uevent_parse((char[]){ "add@/x\0ACTION=add\0DEVPATH=/xyz" }, 25, &e));
}

TEST(a_name_that_only_begins_like_one_is_another)
{
	struct uevent e;

	CHECK(PARSE("add@/x\0ACTION=add\0DEVPATH=/x\0MODALIASES=no\0XMODALIAS=no", &e));
	CHECK(e.modalias == NULL);
}

TEST(missing_firmware_is_named_by_every_kernel)
{
	char name[FIRMWARE_NAME_MAX];

	CHECK(firmware_parse("4,1,1,-;tg3 0000:03:00.0: Direct firmware load for tigon/tg3_tso.bin "
			     "failed with error -2\n",
			     name));
	CHECK_STR(name, "tigon/tg3_tso.bin");
	CHECK(firmware_parse("3,1,1,-;bnx2 0000:03:00.0: firmware: failed to load "
			     "bnx2/bnx2-mips-09-6.2.1b.fw (-2)\n",
			     name));
	CHECK_STR(name, "bnx2/bnx2-mips-09-6.2.1b.fw");
}

TEST(missing_firmware_is_said_beside_what_else_there_is_to_look_at)
{
	char out[128];

	firmware_add("is the cable in?", "", out, sizeof(out));
	CHECK_STR(out, "is the cable in?");
	firmware_add("is the cable in?", "a driver asks for regulatory.db", out, sizeof(out));
	CHECK_STR(out, "is the cable in?; or: a driver asks for regulatory.db");
}

TEST(other_words_about_firmware_name_none)
{
	char name[FIRMWARE_NAME_MAX], text[400];

	CHECK(!firmware_parse("6,1,1,-;e100: firmware: direct-loading firmware e100/x.bin\n",
			      name));
	CHECK(!firmware_parse("3,1,1,-;x: firmware: failed to load \n", name));
	CHECK(!firmware_parse("3,1,1,-;x: firmware: failed to load  (-2)\n", name));
	snprintf(text, sizeof(text), "firmware: failed to load %0200d (-2)", 0);
	CHECK(!firmware_parse(text, name));
}

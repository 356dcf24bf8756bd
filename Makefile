# nbdroot: every build, test and check command. `make help` lists them.
#
# Two builds side by side: init and nbdclient are static and use musl, for they live in an
# initramfs and must not need anything from a root that may be away; the server tools use the
# system's libc. Sources are listed by hand: the lists are the architecture.

VERSION := 0.1.0
BUILD ?= build
PREFIX ?= /usr/local
SBINDIR ?= $(PREFIX)/sbin
LIBDIR ?= $(PREFIX)/lib/nbdroot
MANDIR ?= $(PREFIX)/share/man
SYSCONFDIR ?= /etc
SYSTEMDDIR ?= $(PREFIX)/lib
DESTDIR ?=

CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
MUSL_CC ?= musl-gcc
PKG_CONFIG ?= pkg-config
PYTHON ?= /usr/bin/python3

CFLAGS ?= -O2 -g
CPPFLAGS ?=
LDFLAGS ?=
V ?= 0
DEV ?= 0

ifeq ($(V),0)
Q := @
say = @printf '  %-5s %s\n' $(1) $(2)
else
say = @:
endif

WARN := -Wall -Wextra -Wshadow -Wvla -Wswitch-enum -Wundef -Wformat=2 -Wpointer-arith \
	-Wwrite-strings -Wstrict-prototypes -Wmissing-prototypes
ifeq ($(DEV),1)
WARN += -Werror
endif
BASE_CFLAGS := -std=gnu17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I. \
	-DNBDROOT_VERSION='"$(VERSION)"' $(WARN) -ffile-prefix-map=$(CURDIR)=. \
	-fstack-protector-strong -MMD -MP

# ---- what is built ------------------------------------------------------------------------

BASE_SRC := base/backoff.c base/fd.c base/json.c base/log.c base/notify.c base/parse.c base/spare.c
PROTO_SRC := proto/handshake-client.c proto/handshake-server.c proto/meta.c proto/names.c \
	proto/reply.c proto/request.c proto/session.c proto/wire.c

NBDCLIENT_LIB := nbdclient/attach.c nbdclient/client.c nbdclient/detach.c nbdclient/dial.c nbdclient/ending.c nbdclient/epoch.c \
	nbdclient/guard.c nbdclient/identity.c nbdclient/kernel.c nbdclient/link.c nbdclient/negotiate.c \
	nbdclient/network.c nbdclient/options.c nbdclient/probe.c nbdclient/query.c nbdclient/report.c \
	nbdclient/resident.c nbdclient/say.c nbdclient/session.c nbdclient/status.c nbdclient/try.c \
	nbdclient/uri.c nbdclient/way-down.c nbdclient/whoami.c
NBDCLIENT_SRC := nbdclient/main.c $(NBDCLIENT_LIB)

INIT_LIB := init/ask.c init/attach.c init/blockfs.c init/blockfs-head.c init/cmdline.c init/cmdline-net.c \
	init/dhcp.c init/exitrd.c init/firmware.c init/fsck.c init/fsck-plan.c init/hold.c init/lastwords.c \
	init/lease.c init/machine-id.c init/modules.c init/mountinfo.c init/mounts.c init/net.c init/net-card.c init/net-dhcp.c \
	init/net-hunt.c init/net-keep.c init/newroot.c init/nfs.c init/nfs-options.c init/nfs-try.c \
	init/overlay.c init/proc.c init/root-ask.c init/root-find.c init/root-spec.c init/rtnl.c init/runtime-host.c \
	init/runtime-net.c init/runtime-units.c init/substitute.c init/uevent.c init/unmount.c init/values.c \
	init/wait.c
INIT_SRC := init/main.c $(INIT_LIB)

NBDSERVE_LIB := $(addprefix server-tools/nbdserve/, \
	address.c commit.c config.c config-ini.c config-server.c conn.c control.c daemon.c \
	exports.c file.c job.c lease.c listen.c loop.c metrics.c negotiate.c \
	operate.c out.c pattern.c poll.c pool.c reload.c report.c report-prometheus.c ring.c \
	sandbox.c sandbox-calls.c serve.c served.c server.c service.c snapshot.c stats.c \
	takeover.c)
NBDSERVE_SRC := server-tools/nbdserve/main.c $(NBDSERVE_LIB)

NETBOOT_TEXT := $(addprefix server-tools/nbdroot/netboot-,config.c dhcp.c dnsmasq.c menus.c plan.c values.c words.c)
NETBOOT_LIB := $(NETBOOT_TEXT) $(addprefix server-tools/nbdroot/netboot,.c -files.c -tree.c)
NBDROOT_LIB := $(addprefix server-tools/nbdroot/, \
	archive.c ask.c blockmap.c compress.c cpio.c cpio-read.c depmod.c elf.c epoch.c ext3.c \
	fill.c firmware.c image-create.c image.c infile.c initramfs.c inspect.c inspect-check.c \
	inspect-list.c interrupt.c kernel-choose.c kernel-config.c \
	kernel-tree.c modules.c outfile.c pack.c programs.c run.c status.c status-print.c \
	table.c tree.c) $(NETBOOT_LIB)
NBDROOT_SRC := server-tools/nbdroot/main.c $(NBDROOT_LIB)

# Tests of units: each a program, linked with proto/, base/ and what stands behind it.
UNIT_TESTS := test-archive test-backoff test-blockmap test-cmdline test-cmdline-net test-config test-control test-cpio \
	test-dhcp test-elf test-ending test-epoch \
	test-handshake-client test-handshake-meta test-handshake-pair test-handshake-server \
	test-handshake-session test-handshake-session-client test-identity test-json test-lease test-log \
	test-metrics test-modules test-mountinfo test-net-card test-net-dhcp test-notify test-options test-parse test-pattern test-proc test-reply \
	test-request test-roots test-sandbox test-session test-session-data test-stats test-takeover \
	test-uevent test-uri test-whoami test-wire
UNIT_test-cmdline := $(filter init/cmdline% init/root-spec.c init/substitute.c,$(INIT_LIB))
UNIT_test-cmdline-net := $(filter init/cmdline% init/root-spec.c,$(INIT_LIB))
UNIT_test-mountinfo := init/mountinfo.c
UNIT_test-proc := init/proc.c
UNIT_test-roots := $(addprefix init/,blockfs-head.c fsck-plan.c machine-id.c nfs-options.c root-spec.c)
REPORT_SRC := $(addprefix server-tools/nbdserve/,report.c report-prometheus.c service.c stats.c)
UNIT_test-control := server-tools/nbdserve/control.c $(REPORT_SRC)
UNIT_test-metrics := server-tools/nbdserve/metrics.c $(REPORT_SRC)
UNIT_test-stats := $(REPORT_SRC)
UNIT_test-takeover := server-tools/nbdserve/control.c server-tools/nbdserve/takeover.c $(REPORT_SRC)
UNIT_test-config := $(filter server-tools/nbdserve/config% %/address.c %/pattern.c,$(NBDSERVE_LIB))
UNIT_test-pattern := server-tools/nbdserve/pattern.c
UNIT_test-sandbox := $(UNIT_test-config) $(filter %/sandbox.c %/sandbox-calls.c,$(NBDSERVE_LIB))
UNIT_test-archive := $(addprefix server-tools/nbdroot/,archive.c compress.c cpio.c cpio-read.c elf.c infile.c interrupt.c)
UNIT_test-cpio := server-tools/nbdroot/cpio.c server-tools/nbdroot/cpio-read.c
UNIT_test-elf := server-tools/nbdroot/elf.c
UNIT_test-blockmap := server-tools/nbdroot/blockmap.c
UNIT_TESTS += test-netboot-config test-netboot-text
UNIT_test-netboot-config := $(NETBOOT_TEXT)
UNIT_test-netboot-text := $(NETBOOT_TEXT)
UNIT_test-modules := server-tools/nbdroot/modules.c
UNIT_test-dhcp := init/dhcp.c
UNIT_test-ending := nbdclient/ending.c
UNIT_test-epoch := nbdclient/epoch.c
UNIT_test-identity := nbdclient/identity.c
UNIT_test-lease := init/lease.c
UNIT_test-net-dhcp := init/dhcp.c init/net-dhcp.c
UNIT_test-net-card := init/net-card.c init/rtnl.c
UNIT_test-options := nbdclient/options.c nbdclient/uri.c nbdclient/kernel.c
UNIT_test-session := nbdclient/session.c
UNIT_test-uevent := init/firmware.c init/uevent.c
UNIT_test-uri := nbdclient/uri.c
UNIT_test-whoami := nbdclient/whoami.c
FUZZERS := fuzz-archive fuzz-cmdline fuzz-control fuzz-dhcp fuzz-elf fuzz-handshake-client fuzz-handshake-server \
	fuzz-lease fuzz-metrics fuzz-netboot fuzz-request fuzz-serve
# What stands behind a target that includes the source under test.
FUZZ_fuzz-archive := $(filter-out %/cpio.c %/interrupt.c,$(UNIT_test-archive))
FUZZ_fuzz-control := $(REPORT_SRC)
FUZZ_fuzz-metrics := $(REPORT_SRC)
FUZZ_fuzz-netboot := $(NETBOOT_TEXT)
FUZZ_fuzz-serve := $(filter-out %/operate.c,$(NBDSERVE_LIB)) $(wildcard tests/fuzz/serve-*.c)

MAN_PAGES := nbdclient.8 nbdroot.8 nbdserve.8 nbdroot.7

PROGRAMS := $(BUILD)/nbdclient $(BUILD)/init $(BUILD)/nbdserve $(BUILD)/nbdroot

musl_obj = $(patsubst %.c,$(BUILD)/musl/%.o,$(1))
i386_obj = $(patsubst %.c,$(BUILD)/musl-i386/%.o,$(1))
glibc_obj = $(patsubst %.c,$(BUILD)/glibc/%.o,$(1))

# Objects stay: they are what the next build starts from.
.SECONDARY:
.SECONDEXPANSION:

.PHONY: all
all: $(PROGRAMS) $$(BOOT_FILES) man ## build all that is installed: programs, manual pages (the default)

# ---- static, musl -------------------------------------------------------------------------

# musl-gcc does not look where the kernel's headers are, and must not see glibc's, which lie
# beside them: links to just the kernel's folders.
UAPI := $(BUILD)/uapi
MULTIARCH = $(shell $(CC) -print-multiarch)
$(UAPI)/.done:
	$(Q)mkdir -p $(UAPI)
	$(Q)ln -sfn /usr/include/linux $(UAPI)/linux
	$(Q)ln -sfn /usr/include/asm-generic $(UAPI)/asm-generic
	$(Q)ln -sfn /usr/include/$(MULTIARCH)/asm $(UAPI)/asm
	$(Q)touch $@

KMOD := $(BUILD)/musl/kmod
MUSL_FLAGS = -isystem $(UAPI) -isystem $(KMOD)/include

$(BUILD)/musl/proto/%.o: WARN += -Wconversion
$(BUILD)/musl/%.o: %.c $(UAPI)/.done
	$(call say,MUSL,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(MUSL_CC) $(BASE_CFLAGS) $(CPPFLAGS) $(CFLAGS) $(MUSL_FLAGS) -c -o $@ $<

$(BUILD)/nbdclient: $(call musl_obj,$(NBDCLIENT_SRC) $(PROTO_SRC) $(BASE_SRC))
	$(call say,LINK,$@)
	$(Q)$(MUSL_CC) -static $(CFLAGS) $(LDFLAGS) -o $@ $^

$(call musl_obj,init/modules.c): $(KMOD)/libkmod.a
$(BUILD)/init: $(call musl_obj,$(INIT_SRC) $(BASE_SRC)) $(KMOD)/libkmod.a
	$(call say,LINK,$@)
	$(Q)$(MUSL_CC) -static $(CFLAGS) $(LDFLAGS) -o $@ $^

# libkmod and busybox have no musl package: built from Debian's source packages.
$(KMOD)/libkmod.a: images/build-libkmod.sh images/debian-source.sh $(UAPI)/.done
	$(call say,BUILD,libkmod)
	$(Q)images/build-libkmod.sh $(BUILD) $(KMOD)

$(BUILD)/busybox: images/build-busybox.sh images/busybox.config images/debian-source.sh \
		$(UAPI)/.done
	$(call say,BUILD,busybox)
	$(Q)images/build-busybox.sh $(BUILD) $@

include images/i386.mk

# ---- the server's tools, the system's libc -------------------------------------------------

NBDROOT_PKGS := ext2fs e2p com_err zlib liblzma libzstd
NBDROOT_LIBS = $(shell $(PKG_CONFIG) --libs $(NBDROOT_PKGS))

$(BUILD)/glibc/proto/%.o: WARN += -Wconversion
$(BUILD)/glibc/%.o: %.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(BASE_CFLAGS) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

NBDSERVE_PKGS := inih libseccomp liburing
NBDSERVE_LIBS = $(shell $(PKG_CONFIG) --libs $(NBDSERVE_PKGS))
$(BUILD)/nbdserve: $(call glibc_obj,$(NBDSERVE_SRC) $(PROTO_SRC) $(BASE_SRC))
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -pthread -o $@ $^ $(NBDSERVE_LIBS)

# With the paths of this installation in them.
SERVICES := $(addprefix $(BUILD)/,nbdserve.service nbdclient@.service nbdclient.init)
$(SERVICES): $(BUILD)/%: $(wildcard images/nbdserve/*.service images/nbdclient/nbdclient*)
	$(call say,UNIT,$@)
	$(Q)sed 's|@SBINDIR@|$(SBINDIR)|; s|@SYSCONFDIR@|$(SYSCONFDIR)|' $(filter %/$*,$^) >$@

$(call glibc_obj,server-tools/nbdroot/programs.c): BASE_CFLAGS += -DNBDROOT_LIBDIR='"$(LIBDIR)"'
$(BUILD)/nbdroot: $(call glibc_obj,$(NBDROOT_SRC) $(BASE_SRC))
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(NBDROOT_LIBS)

# ---- manual pages -------------------------------------------------------------------------

.PHONY: man
man: $(MAN_PAGES:%=$(BUILD)/man/%) ## build the manual pages
$(BUILD)/man/%: docs/%.scd
	$(call say,MAN,$@)
	$(Q)mkdir -p $(@D)
	$(Q)SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-0} scdoc <$< >$@

# ---- everything a user types --------------------------------------------------------------

.PHONY: help deps build-deps demo check check-unit check-system check-boot check-kernels check-long check-sanitized lint campaign \
	asan tsan install clean
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

deps: ## install the Debian packages that are missing, or say which they are
	$(Q)images/install-packages.sh
build-deps: ## the same for `make` and `make install` alone, without what tests need
	$(Q)images/install-packages.sh build

# What init and nbdclient need beside them; nbdroot initramfs finds it there.
$(BUILD)/udhcpc.script: images/udhcpc.script
	$(Q)install -m 755 $< $@
BOOT_FILES := $(BUILD)/busybox $(BUILD)/udhcpc.script $(I386_PROGRAMS)

# Debian's own kernel, unmodified, and others: kernel-i386, kernel-5.10, kernel-6.12.
$(BUILD)/kernel/.done: images/fetch-kernel.sh
	$(call say,FETCH,$(@D))
	$(Q)images/fetch-kernel.sh $(BUILD)
	$(Q)touch $@
$(BUILD)/kernel-%/.done: images/fetch-kernel.sh
	$(call say,FETCH,$(@D))
	$(Q)images/fetch-kernel.sh $(BUILD) $*
	$(Q)touch $@
# A Debian root with rpm in it.
$(BUILD)/demo-root.img: images/demo-root.sh
	$(call say,ROOT,$@)
	$(Q)images/demo-root.sh $(BUILD)
	$(Q)touch $@
$(BUILD)/sysvinit-root.img $(BUILD)/managers-root.img: $(BUILD)/%-root.img: images/demo-root.sh
	$(call say,ROOT,$@)
	$(Q)images/demo-root.sh $(BUILD) $*
	$(Q)touch $@
$(BUILD)/demo-package/.done: images/demo-package.sh
	$(call say,RPM,$(@D))
	$(Q)images/demo-package.sh $(BUILD)
	$(Q)touch $@

# The disk that fails and remembers, below the server in tests.
$(BUILD)/faultfs: tests/system/faultfs.c $(call glibc_obj,base/fd.c)
	$(call say,CC,$<)
	$(Q)$(CC) $(BASE_CFLAGS) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -pthread -o $@ $(filter %.c %.o,$^) \
		$(shell $(PKG_CONFIG) --cflags --libs fuse3)

# What runs in test guests, and what User-Mode Linux needs on the CPUs of some hosts; the latter
# goes into a program that is not ours, so without sanitizers.
GUEST_FILES := $(BUILD)/guest $(BUILD)/uml-xstate.so
$(BUILD)/uml-xstate.so: tests/system/uml-xstate.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(BASE_CFLAGS) -O2 -shared -fPIC -o $@ $<

# Deps first, then all else in a second make: a fresh machine has not even a compiler.
demo: deps ## boot a diskless machine and kill its server three times
	$(Q)$(MAKE) --no-print-directory demo-run
check: deps ## run every test that fits in a coffee break
	$(Q)$(MAKE) --no-print-directory check-unit check-system check-boot

.PHONY: demo-run
DEMO_FILES := $(PROGRAMS) $(BOOT_FILES) $(BUILD)/kernel/.done $(BUILD)/demo-root.img \
	$(BUILD)/demo-package/.done
demo-run: $(DEMO_FILES)
	$(Q)NBDROOT_BUILD=$(BUILD) $(PYTHON) tests/boot/demo.py

UNIT_PROGRAMS := $(UNIT_TESTS:%=$(BUILD)/unit/%)
REPLAYS := $(FUZZERS:%=$(BUILD)/unit/replay-%)
# What runs in test guests; what tries their kernel's driver; a room full of clients, who have
# another link.c.
guest_SRC := $(addprefix tests/system/guest,.c -load.c -trace.c)
driver_SRC := tests/kernels/driver.c nbdclient/kernel.c $(PROTO_SRC) $(BASE_SRC)
fleet_SRC := tests/system/fleet.c $(filter-out %/link.c,$(NBDCLIENT_LIB)) $(PROTO_SRC) $(BASE_SRC)
$(addprefix $(BUILD)/,guest driver fleet): $(BUILD)/%: $$(call musl_obj,$$($$*_SRC))
	$(call say,LINK,$@)
	$(Q)$(MUSL_CC) -static $(CFLAGS) $(LDFLAGS) -o $@ $^
$(BUILD)/unit/test-%: $(BUILD)/glibc/tests/unit/test-%.o \
		$$(call glibc_obj,$$(UNIT_test-$$*) $$(PROTO_SRC) $$(BASE_SRC))
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -pthread -o $@ $^ \
		$(if $(findstring /nbdserve/,$(UNIT_test-$*)),$(NBDSERVE_LIBS)) \
		$(if $(findstring /compress.c,$(UNIT_test-$*)),$(NBDROOT_LIBS))
$(BUILD)/unit/replay-%: $(call glibc_obj,tests/fuzz/replay.c $(PROTO_SRC) $(BASE_SRC)) \
		$(BUILD)/glibc/tests/fuzz/%.o $$(call glibc_obj,$$(FUZZ_$$*))
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -pthread $(NBDSERVE_LIBS) \
		$(if $(findstring /compress.c,$(FUZZ_$*)),$(NBDROOT_LIBS))

check-unit: $(if $(I386_PROGRAMS),check-unit-i386) $(UNIT_PROGRAMS) $(REPLAYS) ## unit tests, and every input that a fuzzer ever found
	$(Q)prove --exec '' $(UNIT_PROGRAMS)
	$(Q)for f in $(FUZZERS); do \
		prove --exec "$(BUILD)/unit/replay-$$f" tests/fuzz/corpus/$${f#fuzz-}/* || exit 1; \
	done

# As root, with the packages, nothing may be skipped; who is not root cannot mount, for example.
PYTEST = NBDROOT_BUILD=$(BUILD) NBDROOT_NO_SKIP=$(filter 0,$(shell id -u)) $(PYTHON) -m pytest -p no:cacheprovider -q
check-system: $(PROGRAMS) man $(BOOT_FILES) $(GUEST_FILES) $(BUILD)/fleet $(BUILD)/faultfs $(BUILD)/kernel/.done $(BUILD)/kernel-i386/.done $(BUILD)/demo-root.img $(BUILD)/demo-package/.done ## real processes and kernels
	$(Q)$(PYTEST) -n 3 tests/system tests/interop tests/campaign/test_check.py \
		-k "not survive_every_kill and not thousand"
	$(Q)$(PYTEST) -s tests/system/test_failover.py tests/system/test_fleet.py -k "survive_every_kill or thousand"
check-boot: $(DEMO_FILES) $(BUILD)/kernel-i386/.done ## an emulated diskless machine boots while its server is killed
	$(Q)$(PYTEST) -n 2 tests/boot
include tests/long.mk

lint: ## everything that a machine can find fault with
	$(Q)tests/lint/run.sh

install: all $(SERVICES) ## install to DESTDIR and PREFIX
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(LIBDIR) $(DESTDIR)$(MANDIR)/man7 \
		$(DESTDIR)$(MANDIR)/man8
	install -m 755 $(BUILD)/nbdserve $(BUILD)/nbdroot $(BUILD)/nbdclient $(DESTDIR)$(SBINDIR)
	install -m 755 $(BUILD)/init $(BUILD)/nbdclient $(BUILD)/busybox $(BUILD)/udhcpc.script \
		$(DESTDIR)$(LIBDIR)
	$(if $(I386_PROGRAMS),install -D -m 755 -t $(DESTDIR)$(LIBDIR)/i386 $(I386_PROGRAMS))
	install -m 644 $(BUILD)/man/*.8 $(DESTDIR)$(MANDIR)/man8
	install -m 644 $(BUILD)/man/*.7 $(DESTDIR)$(MANDIR)/man7
	install -D -m 644 -t $(DESTDIR)$(SYSTEMDDIR)/systemd/system $(BUILD)/nbdserve.service \
		images/nbdserve/nbdserve.socket $(BUILD)/nbdclient@.service
	install -D -m 755 $(BUILD)/nbdclient.init $(DESTDIR)$(SYSCONFDIR)/init.d/nbdclient
	install -D -m 644 -t $(DESTDIR)$(SYSCONFDIR)/nbdclient images/nbdclient/rpmdb.conf.example
	install -D -m 644 images/nbdserve/nbdserve.sysusers \
		$(DESTDIR)$(SYSTEMDDIR)/sysusers.d/nbdserve.conf
	install -D -m 644 images/nbdserve/nbdserve.tmpfiles \
		$(DESTDIR)$(SYSTEMDDIR)/tmpfiles.d/nbdserve.conf
	install -D -m 644 -t $(DESTDIR)$(SYSCONFDIR)/nbdroot images/netboot/netboot.conf.example
	[ -e $(DESTDIR)$(SYSCONFDIR)/nbdserve.conf ] || install -D -m 644 -t \
		$(DESTDIR)$(SYSCONFDIR) images/nbdserve/nbdserve.conf
	@[ -n "$(DESTDIR)" ] || ! [ -d /run/systemd ] || echo "for nbdserve's user and service, type:" \
		"systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload"

clean: ## remove everything that was built, downloads included
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' -not -path '*/src/*' 2>/dev/null)

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

BASE_SRC := base/backoff.c base/fd.c base/json.c base/log.c base/parse.c
PROTO_SRC := proto/handshake-client.c proto/handshake-server.c proto/names.c proto/request.c \
	proto/wire.c

NBDCLIENT_LIB := nbdclient/attach.c nbdclient/client.c nbdclient/detach.c nbdclient/dial.c \
	nbdclient/identity.c nbdclient/kernel.c nbdclient/negotiate.c nbdclient/options.c \
	nbdclient/query.c nbdclient/report.c nbdclient/resident.c nbdclient/session.c \
	nbdclient/status.c nbdclient/uri.c
NBDCLIENT_SRC := nbdclient/main.c $(NBDCLIENT_LIB)

INIT_LIB := init/attach.c init/cmdline.c init/lastwords.c init/modules.c init/mounts.c \
	init/net.c init/newroot.c
INIT_SRC := init/main.c $(INIT_LIB)

NBDSERVE_LIB := server-tools/nbdserve/config.c server-tools/nbdserve/conn.c \
	server-tools/nbdserve/exports.c server-tools/nbdserve/file.c \
	server-tools/nbdserve/listen.c
NBDSERVE_SRC := server-tools/nbdserve/main.c $(NBDSERVE_LIB)

NBDROOT_LIB := server-tools/nbdroot/cpio.c server-tools/nbdroot/ext3.c \
	server-tools/nbdroot/image.c server-tools/nbdroot/initramfs.c
NBDROOT_SRC := server-tools/nbdroot/main.c $(NBDROOT_LIB)

# Each test of a unit is a program; the objects it is linked with stand behind it.
UNIT_TESTS := test-backoff test-parse test-wire test-handshake-client test-handshake-server \
	test-handshake-pair test-request test-session test-uri test-options test-cmdline \
	test-cpio test-config

PROGRAMS := $(BUILD)/nbdclient $(BUILD)/init $(BUILD)/nbdserve $(BUILD)/nbdroot

musl_obj = $(patsubst %.c,$(BUILD)/musl/%.o,$(1))
glibc_obj = $(patsubst %.c,$(BUILD)/glibc/%.o,$(1))

.PHONY: all
all: $(PROGRAMS) man ## build the four programs and the manual pages (the default)

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

# ---- the server's tools, the system's libc -------------------------------------------------

NBDROOT_PKGS := ext2fs e2p com_err zlib liblzma libzstd
NBDROOT_LIBS = $(shell $(PKG_CONFIG) --libs $(NBDROOT_PKGS))

$(BUILD)/glibc/proto/%.o: WARN += -Wconversion
$(BUILD)/glibc/%.o: %.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(BASE_CFLAGS) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(BUILD)/nbdserve: $(call glibc_obj,$(NBDSERVE_SRC) $(PROTO_SRC) $(BASE_SRC))
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -pthread -o $@ $^

$(BUILD)/nbdroot: $(call glibc_obj,$(NBDROOT_SRC) $(BASE_SRC))
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(NBDROOT_LIBS)

# What runs inside test guests.
$(BUILD)/guest: $(BUILD)/musl/tests/system/guest.o
	$(call say,LINK,$@)
	$(Q)$(MUSL_CC) -static $(CFLAGS) $(LDFLAGS) -o $@ $^

# SPDX-License-Identifier: GPL-2.0-or-later
# init, nbdclient and busybox once more, for 32-bit x86: they run on 64-bit kernels as well. With a
# compiler of their own, see musl-i386.sh. Included by the Makefile, whose names it uses. They come with
# `make` and `make install` unless WITH_I386=no is given; the tests want them.

I386 := $(BUILD)/musl-i386
WITH_I386 ?= yes
ifneq ($(WITH_I386),no)
I386_PROGRAMS := $(addprefix $(BUILD)/i386/,init nbdclient busybox)
endif

$(I386)/gcc: images/musl-i386.sh images/apt.sh
	$(call say,FETCH,$(I386))
	$(Q)CC="$(CC)" images/musl-i386.sh $(BUILD)
$(I386)/proto/%.o: WARN += -Wconversion
$(I386)/%.o: MUSL_FLAGS = -isystem $(UAPI) -isystem $(I386)/kmod/include
$(I386)/%.o: %.c $(UAPI)/.done | $(I386)/gcc
	$(call say,I386,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(I386)/gcc $(BASE_CFLAGS) $(CPPFLAGS) $(CFLAGS) $(MUSL_FLAGS) -c -o $@ $<

$(BUILD)/i386/nbdclient: $(call i386_obj,$(NBDCLIENT_SRC) $(PROTO_SRC) $(BASE_SRC))
$(call i386_obj,init/modules.c): $(I386)/kmod/libkmod.a
$(BUILD)/i386/init: $(call i386_obj,$(INIT_SRC) $(BASE_SRC)) $(I386)/kmod/libkmod.a
$(BUILD)/i386/nbdclient $(BUILD)/i386/init:
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(I386)/gcc $(CFLAGS) $(LDFLAGS) -o $@ $^

$(I386)/kmod/libkmod.a: images/build-libkmod.sh images/debian-source.sh $(UAPI)/.done | $(I386)/gcc
	$(call say,BUILD,i386/libkmod)
	$(Q)MUSL_CC=$(I386)/gcc images/build-libkmod.sh $(BUILD) $(@D)
$(BUILD)/i386/busybox: images/build-busybox.sh images/busybox.config images/debian-source.sh \
		$(UAPI)/.done | $(I386)/gcc
	$(call say,BUILD,i386/busybox)
	$(Q)MUSL_CC=$(abspath $(I386)/gcc) images/build-busybox.sh $(BUILD) $@

# The unit tests of what is built for it, where this machine's kernel runs 32-bit programs.
I386_TESTS := $(addprefix test-,backoff cmdline ending epoch handshake-client handshake-meta \
	handshake-session handshake-session-client identity json notify options parse reply \
	request session session-data uri whoami wire)
I386_UNIT := $(I386_TESTS:%=$(BUILD)/unit/i386/%)
$(BUILD)/unit/i386/test-%: $(I386)/tests/unit/test-%.o \
		$$(call i386_obj,$$(UNIT_test-$$*) $$(PROTO_SRC) $$(BASE_SRC))
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(I386)/gcc $(CFLAGS) $(LDFLAGS) -pthread -o $@ $^
.PHONY: check-unit-i386
check-unit-i386: $(I386_UNIT) $(BUILD)/i386/busybox
	$(Q)if $(BUILD)/i386/busybox true 2>/dev/null; then prove --exec '' $(I386_UNIT); else \
		echo "this kernel runs no 32-bit programs, so their unit tests are left out"; fi

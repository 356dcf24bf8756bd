# SPDX-License-Identifier: GPL-2.0-or-later
# What takes longer than a coffee break, or a machine of its own: long tests, the campaign, other
# kernels, fuzzing, sanitizers, figures. Included by the Makefile, whose names it uses.

check-long: ## kills by the hundred, with strict limits
	$(Q)$(MAKE) --no-print-directory $(PROGRAMS) $(BOOT_FILES) $(GUEST_FILES) $(BUILD)/fleet $(BUILD)/faultfs
	$(Q)NBDROOT_ROUNDS=100 NBDROOT_STRICT=1 $(PYTEST) -s tests/system/test_failover.py \
		-k survive_every_kill
	$(Q)NBDROOT_STRICT=1 $(PYTEST) -s tests/system/test_reconnect.py
	$(Q)NBDROOT_OUTAGE=3600 $(PYTEST) -s tests/system/test_endurance.py -k long_outage
	$(Q)NBDROOT_KILLS=100 $(PYTEST) -s tests/system/test_durability.py -k kills
	$(Q)NBDROOT_LONG=1 $(PYTEST) -n 3 tests/system/test_wire.py -k "peer and is_dropped"
	$(Q)$(PYTEST) tests/campaign/test_campaign.py
	$(Q)$(MAKE) --no-print-directory $(DEMO_FILES) $(BUILD)/sysvinit-root.img $(BUILD)/managers-root.img
	$(Q)NBDROOT_LONG=1 $(PYTEST) -s -n 2 tests/system/test_way_down.py tests/boot/test_way_down.py
	$(Q)NBDROOT_LONG=1 $(PYTEST) -s tests/system/test_fleet.py tests/boot/long_unit.py tests/boot/long_readme.py
	$(Q)NBDROOT_LONG=1 $(PYTEST) -s -n 2 tests/system/test_overlay.py tests/system/test_handover.py -k "sysvinit or dead"
	$(Q)NBDROOT_LONG=1 $(PYTEST) -s -n 2 tests/boot/long_network.py tests/system/test_network.py tests/system/test_network_managers.py
	$(Q)$(MAKE) --no-print-directory $(BUILD)/kernel-i386/.done $(BUILD)/kernel-5.10/.done $(BUILD)/kernel-6.12/.done
	$(Q)NBDROOT_LONG=1 $(PYTEST) -n 2 tests/system/test_initramfs_room.py tests/system/test_initramfs_inspect.py
	$(Q)$(MAKE) --no-print-directory check-matrix
.PHONY: check-matrix
check-matrix: $(DEMO_FILES) $(patsubst %,$(BUILD)/kernel-%/.done,i386 5.10 6.12) ## every firmware, kernel and card: docs/boot.md; 15 minutes
	$(Q)rm -rf $(BUILD)/boot-times
	$(Q)$(PYTEST) -n 2 tests/boot/long_matrix.py $(MATRIX_FLAGS)
	$(Q)$(PYTHON) tests/boot/times.py $(BUILD)/boot-times
CAMPAIGN_FILES = $(PROGRAMS) $(BOOT_FILES) $(GUEST_FILES) $(BUILD)/faultfs $(if $(findstring qemu,$(CAMPAIGN_FLAGS)),$(DEMO_FILES))
campaign: $(CAMPAIGN_FILES) ## machines at work, faults at random, every trial judged: docs/campaign.md; 20 minutes
	$(Q)NBDROOT_BUILD=$(BUILD) $(PYTHON) -B tests/campaign/campaign.py --out $(BUILD)/campaign $(CAMPAIGN_FLAGS)

check-kernels: $(PROGRAMS) $(BUILD)/busybox $(GUEST_FILES) $(BUILD)/driver $(BUILD)/kernel/.done \
		$(BUILD)/kernel-5.10/.done $(BUILD)/kernel-6.12/.done ## what each kernel's driver does; 50 minutes
	$(Q)NBDROOT_BUILD=$(BUILD) $(PYTHON) -B tests/kernels/measure.py $(KERNELS_FLAGS)

fuzz-%: ## fuzz one parser until stopped: fuzz-handshake-client, ...
	$(Q)mkdir -p $(BUILD)/fuzz/$*
	$(Q)clang $(BASE_CFLAGS) -g -O1 -fsanitize=fuzzer,address,undefined -MF /dev/null \
		-o $(BUILD)/fuzz/fuzz-$* tests/fuzz/fuzz-$*.c $(FUZZ_fuzz-$*) $(PROTO_SRC) $(BASE_SRC) -pthread $(NBDSERVE_LIBS) \
		$(if $(findstring /compress.c,$(FUZZ_fuzz-$*)),$(NBDROOT_LIBS))
	$(Q)$(BUILD)/fuzz/fuzz-$* $(FUZZ_FLAGS) $(BUILD)/fuzz/$* tests/fuzz/corpus/$*

# A sanitizer's report in any server's log fails the test, see tests/system/conftest.py.
SERVER_TESTS := $(wildcard $(patsubst %,tests/system/test_%.py,nbdserve* wire proto_musts \
	proto_extended hostile fence durability control sandbox))
sanitized = $(MAKE) --no-print-directory BUILD=$(BUILD)/$@ DEV=1 LDFLAGS="$(1)" \
	CFLAGS="-O1 -g -fno-omit-frame-pointer $(1)" check-sanitized
asan: ## unit and server tests under AddressSanitizer and UndefinedBehaviorSanitizer
	$(Q)$(call sanitized,-fsanitize=address,undefined -fno-sanitize-recover=undefined)
tsan: ## the same under ThreadSanitizer
	$(Q)$(call sanitized,-fsanitize=thread)
check-sanitized: check-unit $(BUILD)/nbdserve $(BUILD)/nbdroot $(BUILD)/faultfs
	$(Q)ASAN_OPTIONS=verify_asan_link_order=0 NBDROOT_BUILD=$(BUILD) $(PYTHON) -m pytest \
		-p no:cacheprovider -q -n 2 $(SERVER_TESTS) -k "not peer"

BENCH_SRC := tests/bench/dial.c tests/bench/load.c tests/bench/nbdload.c
$(BUILD)/bench/nbdload: $(call glibc_obj,$(BENCH_SRC) $(PROTO_SRC) $(BASE_SRC))
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^
.PHONY: bench-server bench-server-quick bench-server-scale
BENCH = NBDROOT_BUILD=$(BUILD) $(PYTHON) -B tests/bench/bench-server.py
bench-server: $(BUILD)/nbdserve $(BUILD)/bench/nbdload ## nbdserve beside other NBD servers; 25 minutes
	$(Q)$(BENCH) $(BENCH_FLAGS)
bench-server-quick: $(BUILD)/nbdserve $(BUILD)/bench/nbdload ## a third of its cells, once; 3 minutes
	$(Q)$(BENCH) --repeat 1 --seconds 0.3 --cells 'one/.*/x(1|64)/' $(BENCH_FLAGS)
bench-server-scale: $(BUILD)/nbdserve $(BUILD)/bench/nbdload ## 5,000 clients, 1,000 exports
	$(Q)$(BENCH) --scale $(BENCH_FLAGS)

# What others boot an NBD root with, and the same things asked of all: docs/bench-boot.md.
$(BUILD)/bench-boot/%/versions: images/peer-initramfs.sh $(BUILD)/kernel/.done
	$(call say,PEER,$(@D))
	$(Q)images/peer-initramfs.sh $(BUILD) $*
	$(Q)touch $@
.PHONY: bench-boot
BENCH_BOOT_FILES = $(PROGRAMS) $(BOOT_FILES) $(BUILD)/guest $(BUILD)/kernel/.done $(BUILD)/demo-root.img \
	$(BUILD)/bench-boot/initramfs-tools/versions $(BUILD)/bench-boot/dracut/versions
bench-boot: $(BENCH_BOOT_FILES) ## our initramfs beside Debian's own, boots and faults; 60 minutes
	$(Q)NBDROOT_BUILD=$(BUILD) $(PYTHON) -B tests/bench/bench-boot.py $(BENCH_BOOT) $(BENCH_BOOT_FLAGS)
.PHONY: bench-rpm
bench-rpm: $(PROGRAMS) $(BOOT_FILES) $(BUILD)/guest $(BUILD)/demo-root.img ## rpm's database on NFS and on ours; 5 minutes
	$(Q)NBDROOT_BUILD=$(BUILD) $(PYTHON) -B tests/bench/rpm-nfs.py $(BENCH_FLAGS)

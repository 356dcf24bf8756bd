# SPDX-License-Identifier: GPL-2.0-or-later
"""
One initramfs for a mixed room: the 32-bit build of init, nbdclient and busybox boots a 64-bit kernel
and, on a processor that knows nothing of 64 bits, a 32-bit one; what it attaches may be larger than
4 GiB, and lives through the death of its server on both.
"""
import os
import time

import machine
import pytest
from machine import lab

KERNELS = {"64-bit": ("kernel", "max"), "32-bit": ("kernel-i386", "pentium3")}
SIZE = 6 << 30  # no 32-bit number of bytes; odd enough in its blocks to be noticed when cut off
BEYOND = (5 << 30) + 4096
ROOT_INIT = """#!/bin/sh
export PATH=/bin:/run/initramfs/bin PS1='root@small:# '
mount -t devtmpfs dev /dev 2>/dev/null
exec setsid cttyhack sh -i
"""


@pytest.fixture(scope="module")
def initramfs(tmp_path_factory):
    """As an admin makes it: both kernels, nothing said about machines."""
    path = tmp_path_factory.mktemp("mixed") / "initrd"
    trees = [lab.BUILD / folder / "modules" for folder, _ in KERNELS.values()]
    text = machine.run(lab.NBDROOT, "initramfs", "-o", path, "--drivers", "e1000", "--compress",
                       "gzip", *[word for tree in trees for word in ("--modules", tree)])
    assert ", for i386;" in text
    return path


@pytest.fixture
def exports(tmp_path):
    """A 32-bit root of busybox alone, and a device with something at its far end."""
    tree = tmp_path / "tree"
    for folder in ("bin", "sbin", "dev", "proc", "sys", "run", "tmp"):
        (tree / folder).mkdir(parents=True)
    (tree / "bin/busybox").write_bytes((lab.BUILD / "i386/busybox").read_bytes())
    (tree / "bin/busybox").chmod(0o755)
    for applet in machine.run(lab.BUILD / "busybox", "--list").split():
        if applet != "busybox":
            os.symlink("busybox", tree / "bin" / applet)
    (tree / "sbin/init").write_text(ROOT_INIT)
    (tree / "sbin/init").chmod(0o755)
    root = tmp_path / "root.img"
    machine.run(lab.NBDROOT, "image", "create", root, "--size", "32M", "--from", tree)
    big = tmp_path / "big.img"
    with open(big, "wb") as f:
        f.truncate(SIZE)
        f.seek(SIZE - 4096)
        f.write(b"the far end".ljust(4096, b"."))
    return {"root": root, "big": big}


class SmallMachine(machine.Console):
    """Straight into a kernel, without firmware and a boot loader: they are tested elsewhere."""

    def __init__(self, kernel, cpu, initramfs, append):
        super().__init__(machine.qemu(
            "256M", "-cpu", cpu, "-kernel", lab.BUILD / kernel / "vmlinuz", "-initrd", initramfs,
            "-append", f"console=ttyS0,115200 {append}", "-netdev", "user,id=net",
            "-device", f"e1000,netdev=net,mac={machine.MAC}"))

    def ask(self, command, timeout=120):
        status, text = self.command(command, timeout)
        assert status == 0, f"{command}: {text}"
        return text


@pytest.fixture
def server(exports):
    srv = lab.Server(None, exports, port=machine.free_port(), address="127.0.0.1")
    srv.start()
    yield srv
    srv.close()


@pytest.mark.parametrize("kind", KERNELS)
def test_the_32_bit_build_boots_both_kernels_from_devices_over_4_gib(kind, initramfs, server,
                                                                     exports):
    kernel, cpu = KERNELS[kind]
    uri = f"nbd://{machine.HOST}:{server.port}"
    box = SmallMachine(kernel, cpu, initramfs, f"root={uri}/root rw")
    try:
        box.wait_for(r"root@small:# $", 240)
        # DHCP by a packet socket, modules of the kernel's own width, the programs of 32 bits
        assert box.ask("uname -m") == {"64-bit": "x86_64", "32-bit": "i686"}[kind]
        assert "/dev/nbd0 / ext" in box.ask("cat /proc/mounts")
        head = "for p in $(pidof nbdclient); do head -c 5 /proc/$p/exe | hexdump -e '5/1 \"%02x\"'"
        assert "7f454c4601" in box.ask(f"{head}; echo; done")
        assert "10.0.2.15" in box.ask("ip addr show")

        device = box.ask(f"nbdclient attach {uri}/big | tail -n 1; nbdclient status")
        assert "nbd1" in device
        assert box.ask("blockdev --getsize64 /dev/nbd1") == str(SIZE)
        assert box.ask("cat /sys/block/nbd1/size") == str(SIZE // 512)
        last = f"dd if=/dev/nbd1 bs=4096 skip={SIZE // 4096 - 1} 2>/dev/null | head -c 11"
        assert box.ask(f"{last}; echo") == "the far end"

        token = box.start_command(
            "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo record $i | dd of=/dev/nbd1 bs=4096 "
            f"seek=$(({BEYOND} / 4096 + i)) conv=sync,fsync 2>/dev/null || exit; usleep 300000; done")
        lab.wait_until(lambda: b"record 2" in at(exports["big"], BEYOND + 2 * 4096), 60,
                       "the second record")
        server.kill()
        time.sleep(2)  # the outage; what it does is waited for below
        server.start()
        status, text = box.finish_command(token)
        assert status == 0, text
        box.wait_for(r"nbd1: server .* is back after", 30)
        for i in range(1, 13):
            assert at(exports["big"], BEYOND + i * 4096).startswith(f"record {i}\n".encode())
        assert box.ask("nbdclient status").count("lost the server 1 time") == 2
        assert not box.io_errors()
        box.type("sync; reboot -f\n")
        box.wait_off(60)
    finally:
        box.close()
    assert exports["big"].stat().st_size == SIZE


def at(path, offset):
    with open(path, "rb") as f:
        f.seek(offset)
        return f.read(4096)

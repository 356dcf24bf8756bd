# SPDX-License-Identifier: GPL-2.0-or-later
"""
What bench-boot.py compares: for each system its initramfs, what its manual wants on the kernel
command line for an NBD root by DHCP, and the words by which it gives up. The root image is one
for all; the Debian in it knows of none of them.
"""
import dataclasses
import os
import pathlib
import re
import subprocess
import sys

from boot_machine import lab

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "campaign"))
import check  # noqa: E402

FOLDER = lab.BUILD / "bench-boot"
DRIVERS = "virtio_net,virtio_pci,e1000,e1000e,r8169"
WRITER, SLOTS = "bench", 2048

# Starts with the word on the kernel command line and then writes a record, fsyncs it and says so,
# for ever. What it says goes to the second serial line.
UNIT = f"""[Unit]
Description=A writer for bench-boot
ConditionKernelCommandLine=bench.writer

[Service]
ExecStart=/bin/sh -c 'stty -F /dev/ttyS1 raw -echo; exec /root/guest overwrite /root/{WRITER} \
/dev/ttyS1 {WRITER} {SLOTS} 2>/dev/ttyS1'
"""


@dataclasses.dataclass(frozen=True)
class System:
    name: str
    initrd: pathlib.Path
    append: str
    is_ours: bool = False

    def sizes(self):
        return {"compressed": self.initrd.stat().st_size, "unpacked": unpacked(self.initrd)}


def systems():
    ip, folder = lab.SERVER_IP, FOLDER
    ours = f"root=nbd://{ip}/root"
    tools = f"root=/dev/nbd0 nbdroot={ip}:10809/root ip=dhcp"
    return [
        System("nbdroot", folder / "nbdroot/default", ours, True),
        System("nbdroot, 5 drivers", folder / "nbdroot/list", ours, True),
        System("initramfs-tools", folder / "initramfs-tools/default", tools),
        System("initramfs-tools, list", folder / "initramfs-tools/list", tools),
        System("dracut", folder / "dracut/default", f"root=nbd:{ip}:root ip=dhcp rd.neednet=1"),
    ]


def run(*argv):
    subprocess.run(list(map(str, argv)), check=True, capture_output=True)


def make_initramfs():
    """Ours; the peers' are made by images/peer-initramfs.sh."""
    (FOLDER / "nbdroot").mkdir(parents=True, exist_ok=True)
    for name, more in (("default", ()), ("list", ("--drivers", DRIVERS))):
        run(lab.NBDROOT, "initramfs", "-o", FOLDER / "nbdroot" / name,
            "--modules", lab.BUILD / "kernel/modules", *more)


def make_root():
    """The demo's root with the writer in it."""
    work = FOLDER / "root.img.new"
    run("cp", "--sparse=always", lab.BUILD / "demo-root.img", work)
    unit = FOLDER / "bench-writer.service"
    unit.write_text(UNIT)
    wants = "/etc/systemd/system/multi-user.target.wants"
    for command in (f"write {lab.BUILD}/guest /root/guest",
                    "set_inode_field /root/guest mode 0100755",
                    f"write {unit} /etc/systemd/system/{unit.name}",
                    f"symlink {wants}/{unit.name} ../{unit.name}"):
        run("debugfs", "-w", "-R", command, work)
    status, text = check.e2fsck("-fn", work)
    names = subprocess.run(["debugfs", "-R", f"ls {wants}", work], check=True, text=True,
                           capture_output=True).stdout
    if status != 0 or unit.name not in names:
        raise RuntimeError(f"the root image could not be made: {text}{names}")
    os.replace(work, FOLDER / "root.img")


def unpacked(path):
    """Bytes of all archives in an initramfs: plain ones, then perhaps one that is compressed."""
    data = path.read_bytes()
    at = 0
    while data[at:at + 6] == b"070701":
        at = _end_of_cpio(data, at)
        while data[at:at + 1] == b"\0":
            at += 1
    rest, total = data[at:], at
    for magic, tool in ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ", "xz")):
        if rest.startswith(magic):
            total += len(subprocess.run([tool, "-dc"], input=rest, check=True,
                                        capture_output=True).stdout)
            rest = b""
    if rest:
        raise RuntimeError(f"{path}: what stands at {at} is no archive")
    return total


def _end_of_cpio(data, at):
    while True:
        size, name_size = int(data[at + 54:at + 62], 16), int(data[at + 94:at + 102], 16)
        name = data[at + 110:at + 110 + name_size - 1]
        at += (110 + name_size + 3) // 4 * 4
        at += (size + 3) // 4 * 4
        if name == b"TRAILER!!!":
            return at


def versions():
    """Of all that is compared, from the packages that were in it."""
    found = {}
    for peer in ("initramfs-tools", "dracut"):
        for line in (FOLDER / peer / "versions").read_text().split("\n"):
            if words := re.match(r"(\S+)\t(\S+)", line):
                found[words.group(1)] = words.group(2)
    found["kernel"] = os.readlink(lab.BUILD / "kernel/modules").rsplit("/", 1)[-1]
    found["qemu"] = subprocess.run(["qemu-system-x86_64", "--version"], check=True, text=True,
                                   capture_output=True).stdout.split("\n")[0]
    return found

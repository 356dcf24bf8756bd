# SPDX-License-Identifier: GPL-2.0-or-later
"""
A room full of machines without disks: a network namespace with a bridge, dnsmasq for DHCP and TFTP,
an HTTP server and nbdserve, and emulated machines on taps that boot as real ones do, by the
firmware and the card that a test names. Their roots are small: busybox, a line that says that it
is there, a shell on the serial console; so a boot is seconds.

Nothing of the machines' traffic leaves the namespace, which goes away with close().
"""
import contextlib
import pathlib
import shutil
import signal
import subprocess
import sys

import machine
from machine import lab

ADDRESS = "10.78.0.1"
FIRST, LAST = "10.78.0.100", "10.78.0.199" # leases
MACS = [f"52:54:00:78:00:{n:02x}" for n in range(1, 9)]
OVMF = pathlib.Path("/usr/share/OVMF")
GRUB = pathlib.Path("/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed")
IPXE = pathlib.Path("/usr/lib/ipxe/snponly.efi")
# which Linux: the folder of images/fetch-kernel.sh
KERNELS = {"5.10": "kernel-5.10", "6.1": "kernel", "6.12": "kernel-6.12", "6.1-i386": "kernel-i386"}
# how a machine comes to its kernel; "kernel": QEMU puts it there
FIRMWARES = ("bios-pxe", "uefi-pxe-grub", "uefi-pxe-ipxe", "uefi-http-ipxe", "kernel")

ROOT_INIT = """#!/bin/sh
export PATH=/bin:/run/initramfs/bin
set -- $(cat /proc/cmdline)
echo "small root: here on $(uname -rm), / is $(grep ' / ' /proc/mounts | tail -n 1)"
while :; do setsid cttyhack sh; done
"""

PXELINUX_CFG = """SERIAL 0 115200
DEFAULT nbdroot
LABEL nbdroot
KERNEL vmlinuz
INITRD initrd
IPAPPEND 2
APPEND {append}
"""

GRUB_CFG = """set timeout=0
menuentry nbdroot {{
    echo "GRUB: loading the kernel"
    linux /vmlinuz {quoted} BOOTIF=01-$net_default_mac
    initrd /initrd
}}
"""

IPXE_CFG = """#!ipxe
kernel vmlinuz initrd=initrd {append} BOOTIF=01-${{netX/mac:hexhyp}}
initrd initrd
boot
"""

DNSMASQ_CONF = """port=0
interface=br0
bind-interfaces
no-ping
dhcp-authoritative
log-dhcp
dhcp-range={first},{last},255.255.255.0,1h
dhcp-range=fd78::,ra-only
enable-ra
enable-tftp
tftp-root={tree}
dhcp-match=set:bios,option:client-arch,0
dhcp-match=set:uefi,option:client-arch,7
dhcp-match=set:http,option:client-arch,16
dhcp-match=set:ipxe,175
dhcp-boot=tag:bios,pxelinux.0
{loader}
"""


def make_root(folder):
    """The small root as an image, with the busybox that fits all x86 kernels if there is one."""
    tree = folder / "small-root"
    for name in ("bin", "sbin", "dev", "proc", "sys", "run", "tmp", "mnt", "etc", "srv", "var/lib/rpm"):
        (tree / name).mkdir(parents=True)
    i386 = lab.BUILD / "i386/busybox"
    shutil.copy(i386 if i386.exists() else lab.BUILD / "busybox", tree / "bin/busybox")
    for applet in machine.run(lab.BUILD / "busybox", "--list").split():
        if applet != "busybox":
            (tree / "bin" / applet).symlink_to("busybox")
    (tree / "sbin/init").write_text(ROOT_INIT)
    (tree / "sbin/init").chmod(0o755)
    image = folder / "small-root.img"
    machine.run(lab.NBDROOT, "image", "create", image, "--size", "64M", "--from", tree)
    return image


class Room(lab.Namespace):
    """loader: who loads the kernel on UEFI machines, "grub" or "ipxe", by "pxe" or "http"."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.tree = folder / "tree"
        (self.tree / "pxelinux.cfg").mkdir(parents=True)
        (self.tree / "grub").mkdir()
        self.processes = []
        self.boxes = []
        self.server = None
        for line in ("link add br0 type bridge forward_delay 0", f"addr add {ADDRESS}/24 dev br0",
                     "addr add fd78::1/64 dev br0 nodad",
                     "link set br0 up"):
            self.run("ip", *line.split())

    def fill(self, kernel, initramfs, append):
        """Puts into the tree what all machines boot."""
        append = f"console=ttyS0,115200 {append}"
        folder = lab.BUILD / KERNELS[kernel]
        for source, name in ((machine.PXELINUX, "pxelinux.0"), (machine.LDLINUX, "ldlinux.c32"),
                             (GRUB, "grub.efi"), (IPXE, "ipxe.efi"), (folder / "vmlinuz", "vmlinuz"),
                             (initramfs, "initrd")):
            shutil.copy(source, self.tree / name)
        for name, text in (("pxelinux.cfg/default", PXELINUX_CFG), ("grub/grub.cfg", GRUB_CFG),
                           ("boot.ipxe", IPXE_CFG)):
            # braces are GRUB's own
            quoted = " ".join(f"'{word}'" for word in append.split())
            (self.tree / name).write_text(text.format(append=append, quoted=quoted))

    def spawn(self, name, *argv):
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes.append(subprocess.Popen(self.inside(*argv), stdin=subprocess.DEVNULL,
                                                   stdout=log, stderr=log))
        return self.processes[-1]

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def start_dhcp(self, firmware="kernel", options=""):
        """dnsmasq; options: more lines for it."""
        how, _, loader = firmware.partition("-")[2].partition("-")
        lines = ""
        where = f"http://{ADDRESS}/" if how == "http" else ""
        if how == "http":
            lines = ("dhcp-option-force=tag:http,60,HTTPClient\ndhcp-ignore=tag:uefi,tag:!ipxe\n"
                     f"dhcp-boot=tag:http,{where}{loader}.efi\n")
        elif loader:
            lines = f"dhcp-boot=tag:uefi,tag:!ipxe,{loader}.efi\n"
        if loader: # iPXE, from the server or in the card's ROM
            lines += f"dhcp-boot=tag:uefi,tag:ipxe,{where}{'boot.ipxe' if loader == 'ipxe' else 'grub.efi'}\n"
        conf = self.folder / "dnsmasq.conf"
        conf.write_text(DNSMASQ_CONF.format(first=FIRST, last=LAST, tree=self.tree, loader=lines + options))
        process = self.spawn("dnsmasq", "dnsmasq", "--keep-in-foreground", f"--conf-file={conf}",
                             "--log-facility=-", "--user=root", "--group=root",
                             f"--dhcp-leasefile={self.folder}/leases", "--pid-file=")
        lab.wait_until(lambda: "sockets bound exclusively" in self.log("dnsmasq"), 20,
                       "dnsmasq to answer: " + self.log("dnsmasq"))
        return process

    def start_http(self):
        self.spawn("http", sys.executable, "-u", "-m", "http.server", "80", "--bind", ADDRESS,
                   "--directory", self.tree)
        lab.wait_until(lambda: "Serving HTTP" in self.log("http"), 20, "the HTTP server")

    def serve(self, exports):
        """An nbdserve, which is returned; started."""
        self.server = lab.Server(self, exports, address=ADDRESS)
        self.server.start()
        return self.server

    def tap(self):
        name = f"tap{len(self.boxes)}"
        self.run("ip", "tuntap", "add", name, "mode", "tap")
        self.run("ip", "link", "set", name, "master", "br0", "up")
        return name

    def switch_on(self, firmware="kernel", card="virtio-net-pci", append="", memory="512M", mac=None,
                  kernel="6.1", initramfs=None, more=()):
        """A machine; append and the kernel count where the firmware does not load them itself."""
        number = len(self.boxes)
        mac = mac or MACS[number]
        program = "qemu-system-i386" if kernel.endswith("i386") else "qemu-system-x86_64"
        argv = machine.qemu(memory, program=program)
        if firmware == "kernel":
            argv += ["-kernel", lab.BUILD / KERNELS[kernel] / "vmlinuz", "-initrd", initramfs,
                     "-append", f"console=ttyS0,115200 {append}"]
        elif firmware == "bios-pxe":
            argv += ["-boot", "n"]
        else:
            values = self.folder / f"vars{number}.fd"
            shutil.copy(OVMF / "OVMF_VARS_4M.fd", values)
            argv[argv.index("-machine") + 1] = "q35"
            argv += ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={OVMF}/OVMF_CODE_4M.fd",
                     "-drive", f"if=pflash,format=raw,unit=1,file={values}"]
        if card:
            argv += ["-netdev", f"tap,id=net,ifname={self.tap()},script=no,downscript=no"]
            options = f"netdev=net,id=card,mac={mac}"
            if firmware.startswith("uefi"):
                options += ",bootindex=1"
                # what a person chooses in the firmware's menu; it would try PXE for two minutes
                if "http" in firmware:
                    for version in "46":
                        argv += ["-fw_cfg", f"name=opt/org.tianocore/IPv{version}PXESupport,string=n"]
                if card == "virtio-net-pci": # the driver is the firmware's own, not one on the card
                    options += ",romfile="
            if card == "usb-net":
                argv += ["-device", "qemu-xhci,id=xhci"]
            argv += ["-device", f"{card},{options}"]
        box = Box(self.inside(*argv, *more), mac)
        self.boxes.append(box)
        return box

    def close(self):
        for box in self.boxes:
            box.close()
        if self.server:
            self.server.close()
        for process in self.processes:
            with contextlib.suppress(OSError):
                lab.end(process, signal.SIGKILL)
        super().close()


class Box(machine.Console):
    """A machine in the room."""

    def __init__(self, argv, mac):
        super().__init__(argv)
        self.mac = mac

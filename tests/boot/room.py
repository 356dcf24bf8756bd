# SPDX-License-Identifier: GPL-2.0-or-later
"""
A room full of machines without disks: a network namespace with a bridge, and in it dnsmasq with
what `nbdroot netboot` wrote for it, an HTTP server, nbdserve, and emulated machines on taps that boot
as real ones do, by the firmware and the card that a test names. Their root is small: busybox, a
line that says that it is there, a shell on the serial console; so a boot is seconds.

Nothing of the machines' traffic leaves the namespace, which goes away with close().
"""
import contextlib
import json
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys

import machine
from machine import lab

ADDRESS = "10.78.0.1"
RANGE = "10.78.0.100,10.78.0.199"
MACS = [f"52:54:00:78:00:{n:02x}" for n in range(1, 9)]
OVMF = pathlib.Path("/usr/share/OVMF")

# which Linux: the folder of images/fetch-kernel.sh
KERNELS = {"5.10": "kernel-5.10", "6.1": "kernel", "6.12": "kernel-6.12", "6.1-i386": "kernel-i386"}
# how a machine comes to its kernel, and what that needs in netboot.ini; "kernel": QEMU puts it there
FIRMWARES = {
    "bios-pxe": "", # the card's ROM, PXELINUX, TFTP
    "bios-ipxe": "bios = ipxe\nhttp = yes", # the card's ROM, HTTP
    "uefi-pxe": "", # the firmware, shim and GRUB, TFTP; or iPXE in the card's ROM instead of the firmware
    "uefi-ipxe": "uefi = ipxe", # the firmware, iPXE, TFTP
    "uefi-http": "http = yes", # the firmware, iPXE, HTTP
    "kernel": None,
}
CARDS = {"virtio": "virtio-net-pci", "e1000": "e1000", "e1000e": "e1000e", "rtl8139": "rtl8139",
         "usb": "usb-net"}
DRIVERS = "virtio_net,virtio_pci,e1000,e1000e,8139cp,8139too,cdc_ether,rndis_host,xhci_pci"

ROOT_INIT = """#!/bin/sh
export PATH=/bin:/run/initramfs/bin
echo "small root: $(uname -rm), $(grep -c . /proc/net/route) routes, $(grep ' / ' /proc/mounts | tail -n 1)"
# a shell without line editing, so that what is typed comes back as it was typed
while :; do setsid cttyhack sh -c "cat | sh 2>&1"; done
"""


def export(mac, what="root"):
    """The name under which a machine's image is served."""
    return f"{what}-{mac.replace(':', '-')}"


def root_line(more=""):
    """The parameters of one boot entry for all machines."""
    return f"root=nbd://{ADDRESS}/root-{{mac}} rw {more}".strip()


def make_tree(folder):
    """The small root; with the busybox that runs on all x86 kernels, if there is one."""
    tree = folder / "small-root"
    for name in ("bin", "sbin", "dev", "proc", "sys", "run", "tmp", "mnt", "etc", "srv",
                 "var/lib/rpm"):
        (tree / name).mkdir(parents=True)
    i386 = lab.BUILD / "i386/busybox"
    shutil.copy(i386 if i386.exists() else lab.BUILD / "busybox", tree / "bin/busybox")
    for applet in machine.run(lab.BUILD / "busybox", "--list").split():
        if applet != "busybox":
            (tree / "bin" / applet).symlink_to("busybox")
    (tree / "sbin/init").write_text(ROOT_INIT)
    (tree / "sbin/init").chmod(0o755)
    return tree


def works(box):
    """Its root can be written to; and it can be switched off, with everything written."""
    status, output = box.command("dd if=/dev/urandom of=/srv/f bs=64k count=16 2>/dev/null && sync "
                                 "&& echo 3 >/proc/sys/vm/drop_caches && md5sum /srv/f /srv/f | uniq | wc -l")
    assert (status, output.strip()) == (0, "1"), output
    box.switch_off()
    assert "everything is written" in box.text()
    assert not box.io_errors()


def are_clean(server):
    """What machines that are off have left in their images."""
    server.kill()
    for name, path in server.exports.items():
        clean, text = lab.fsck_is_clean(path)
        assert clean, f"{name}: {text}"


def make_image(path, tree):
    machine.run(lab.NBDROOT, "image", "create", path, "--size", "48M", "--from", tree)
    return path


def make_initramfs(path, *kernels, drivers=DRIVERS):
    """By the product's own tool; one of 32 bits runs on both kinds of kernels."""
    trees = [word for kernel in kernels for word in ("--modules", lab.BUILD / KERNELS[kernel] / "modules")]
    arch = ["--arch", "i386"] if any(kernel.endswith("i386") for kernel in kernels) else []
    return machine.run(lab.NBDROOT, "initramfs", "-o", path, *trees, "--drivers", drivers, *arch)


class Room(lab.Namespace):
    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.processes = []
        self.boxes = []
        self.server = None
        for line in ("link add br0 type bridge forward_delay 0", f"addr add {ADDRESS}/24 dev br0",
                     "addr add fd78::1/64 dev br0 nodad", "link set br0 up"):
            self.run("ip", *line.split())

    # ---- what the room offers ----------------------------------------------------------------

    def _spawn(self, name, *argv):
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes.append(subprocess.Popen(self.inside(*argv), stdin=subprocess.DEVNULL,
                                                   stdout=log, stderr=log))
        return self.processes[-1]

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def start_dhcp(self, *options):
        """dnsmasq, alone; what to boot, if anything, is in options."""
        fixed = ["--port=0", "--interface=br0", "--bind-interfaces"]
        if not any(o.startswith("--conf-file") for o in options):
            fixed += [f"--dhcp-range={RANGE},1h", "--dhcp-authoritative", "--conf-file="]
        # IPv6, for iPXE waits 15 s for a router
        fixed += ["--enable-ra", "--dhcp-range=fd78::,ra-only", "--no-ping", "--log-dhcp"]
        before = self.log("dnsmasq") if (self.folder / "dnsmasq.log").exists() else ""
        process = self._spawn("dnsmasq", "dnsmasq", "--keep-in-foreground", *fixed, *options,
                              "--log-facility=-", "--user=root", "--group=root", "--pid-file=",
                              f"--dhcp-leasefile={self.folder}/leases")
        lab.wait_until(lambda: "IP range" in self.log("dnsmasq")[len(before):], 20,
                       "dnsmasq to answer")
        return process

    def offer(self, firmware, kernel, initramfs, append, more=""):
        """One boot entry for all machines, by `nbdroot netboot`, its DHCP and its HTTP server."""
        root, _, rest = append.partition(" ")
        config = self.folder / "netboot.ini"
        config.write_text(f"[netboot]\nserver = {ADDRESS}\nrange = {RANGE}\n{FIRMWARES[firmware]}\n"
                          f"[entry room]\nkernel = {lab.BUILD / KERNELS[kernel] / 'vmlinuz'}\n"
                          f"initramfs = {initramfs}\nroot = {root.removeprefix('root=')}\n"
                          f"append = console=ttyS0,115200 {rest}\n{more}")
        tree = self.folder / "netboot"
        machine.run(lab.NBDROOT, "netboot", "--config", config, "-o", tree)
        if "http" in FIRMWARES[firmware]:
            self._spawn("http", sys.executable, "-u", "-m", "http.server", "80", "--bind", ADDRESS,
                        "--directory", tree / "tftp")
            lab.wait_until(lambda: "Serving HTTP" in self.log("http"), 20, "the HTTP server")
        return self.start_dhcp(f"--conf-file={tree}/dnsmasq.conf")

    def serve(self, exports):
        """An nbdserve, started; it is returned."""
        self.server = lab.Server(self, exports, address=ADDRESS)
        self.server.start()
        return self.server

    # ---- machines ----------------------------------------------------------------------------

    def tap(self):
        """A network cable, plugged in at this end."""
        name = f"tap{len(self.boxes)}"
        self.run("ip", "tuntap", "add", name, "mode", "tap")
        self.run("ip", "link", "set", name, "master", "br0", "up")
        return name

    def switch_on(self, firmware="kernel", card="virtio", kernel="6.1", initramfs=None, append="",
                  memory="512M", is_late=False):
        """
        A machine; append and initramfs count when it is given its kernel. is_late: its card is
        not there before plug_in().
        """
        number = len(self.boxes)
        argv = machine.qemu(memory, program="qemu-system-i386" if kernel.endswith("i386")
                            else "qemu-system-x86_64")
        if firmware == "kernel":
            argv += ["-kernel", lab.BUILD / KERNELS[kernel] / "vmlinuz", "-initrd", initramfs,
                     "-append", f"console=ttyS0,115200 {append}"]
        elif firmware.startswith("bios"):
            argv += ["-boot", "n"]
        else:
            values = self.folder / f"firmware{number}.fd"
            shutil.copy(OVMF / "OVMF_VARS_4M.fd", values)
            argv[argv.index("-machine") + 1] = "q35"
            argv += ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={OVMF}/OVMF_CODE_4M.fd",
                     "-drive", f"if=pflash,format=raw,unit=1,file={values}"]
            if firmware == "uefi-http": # a choice in the firmware's menu; else it tries PXE for two minutes
                for version in "46":
                    argv += ["-fw_cfg", f"name=opt/org.tianocore/IPv{version}PXESupport,string=n"]
        device = f"{CARDS[card]},netdev=net,id=card,mac={MACS[number]}"
        if firmware.startswith("uefi"):
            device += ",bootindex=1"
            if card == "virtio": # for which the firmware has a driver of its own
                device += ",romfile="
        if card == "usb":
            argv += ["-device", "qemu-xhci"]
        argv += ["-netdev", f"tap,id=net,ifname={self.tap()},script=no,downscript=no"]
        if not is_late:
            argv += ["-device", device]
        self.boxes.append(Box(self, argv, MACS[number], device))
        return self.boxes[-1]

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
    """A machine in a room."""

    def __init__(self, room, argv, mac, device):
        self.mac = mac
        self._device = device
        self._control = room.folder / f"control-{mac.replace(':', '')}"
        super().__init__(room.inside(*argv, "-qmp", f"unix:{self._control},server=on,wait=off"))

    def plug_in(self):
        """The card, into a machine that runs."""
        driver, *options = self._device.split(",")
        arguments = dict(option.split("=") for option in options) | {"driver": driver}
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(30)
            s.connect(str(self._control))
            answers = s.makefile()
            for command in ({"execute": "qmp_capabilities"},
                            {"execute": "device_add", "arguments": arguments}):
                s.sendall(json.dumps(command).encode())
                while "return" not in (answer := json.loads(answers.readline())):
                    assert "error" not in answer, answer

    def wait_root(self, timeout=300):
        """Until the small root is there; its line."""
        return self.wait_for(r"small root: (.*)$", timeout, whole=True)[2].group(1).rstrip()

    def last_words(self, timeout=60, start=0):
        """The frame that says why it cannot boot: {"step": ..., "why": ..., "try": ..., "next": ...}."""
        end, _, _ = self.wait_for(r"nbdroot: \+-{60}", timeout, start, whole=True)
        words, key = {}, None
        for _, line in self.lines[start:end]:
            if match := re.search(r"nbdroot: \| (\w*):? +(.*)$", line):
                key = match.group(1) or key
                words[key] = f"{words.get(key, '')} {match.group(2)}".strip()
        return words

    def switch_off(self, timeout=60):
        """As a person does in the shell."""
        self.type("exec /run/initramfs/shutdown poweroff\n")
        self.wait_off(timeout)

    def guest_times(self):
        """
        Seconds by its kernel's clock: when /init started, the card had a link, there was an
        address, the last device was attached, the real init started. None: not said.
        """
        said = {"init": r"Run /init as init", "link": r"nbdroot: network card .* link up",
                "address": r"nbdroot: network: .* has address",
                "attached": r"nbdroot: /dev/nbd\d+: attached to", "root": r"nbdroot: boot: starting "}
        times = dict.fromkeys(said)
        for _, line in self.lines:
            for name, pattern in said.items():
                if match := re.search(rf"\[ *(\d+\.\d+)\] .*{pattern}", line):
                    times[name] = float(match.group(1))
        return times

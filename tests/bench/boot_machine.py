# SPDX-License-Identifier: GPL-2.0-or-later
"""
The room in which bench-boot.py boots its machines: a namespace with a bridge, a DHCP server and an
NBD server, and QEMU without a disk on a tap. Kernel and initramfs are handed over by QEMU, so
that the way of PXE, which is the same for all, is not measured with them.

The machine's first serial line is its console, the second is for what has to outlive the machine:
what its writer was told. Every line comes with three clocks: ours, the guest's where the kernel
printed it, and the processor time that the emulator has used so far.
"""
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
import lab  # noqa: E402

MAC = "52:54:00:12:34:56"
CORES, MEMORY = 2, "1024M"
TICK = os.sysconf("SC_CLK_TCK")
STAMP = re.compile(r"^\[ *(\d+\.\d+)\]")
# no timer check: it fails, for ever, where QEMU gets too little time; rdrand: a kernel without a
# source of random numbers makes them of timers, which takes as long as it likes
CPU, COMMON = "qemu64,+rdrand", "console=ttyS0,115200 no_timer_check rw"


class Room:
    """The network: close() ends all that is in it."""

    def __init__(self, folder):
        self.net = lab.Network()
        for line in ("link add br0 type bridge", "addr flush dev tap0", "link set tap0 master br0",
                     f"addr add {lab.SERVER_IP}/24 dev br0", "link set br0 up"):
            self.net.run("ip", *line.split())
        self.log = open(folder / "dnsmasq.log", "wb")
        # a known address, so that it need not be tried out first (3 s)
        self.dhcp = subprocess.Popen(self.net.inside(
            "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--log-dhcp",
            "--log-facility=-", "--user=root", "--group=root", "--pid-file=",
            "--interface=br0", "--bind-interfaces", "--no-ping", "--dhcp-authoritative",
            f"--dhcp-leasefile={folder}/leases", f"--dhcp-range={lab.SERVER_IP},static",
            f"--dhcp-host={MAC},{lab.GUEST_IP}", f"--dhcp-option=3,{lab.SERVER_IP}",
            f"--dhcp-option=6,{lab.SERVER_IP}"), stdout=self.log, stderr=self.log)

    def refused(self):
        """How many connections were refused, as nobody listens there."""
        snmp = pathlib.Path(f"/proc/{self.net.holder.pid}/net/snmp").read_text()
        names, values = (line.split() for line in snmp.split("\n") if line.startswith("Tcp:"))
        return int(values[names.index("OutRsts")])

    def _port(self, state):
        self.net.run("bridge", "link", "set", "dev", "tap0", "state", state)

    def black_hole(self):
        """Nothing gets through, either way, and no end is told."""
        self._port("disabled")

    def end_black_hole(self):
        self._port("forwarding")

    def close(self):
        lab.end(self.dhcp)
        self.log.close()
        self.net.close()


class Line:
    """One line of a serial console, and when it was complete."""

    __slots__ = ("at", "cpu", "guest", "text")

    def __init__(self, at, cpu, text):
        stamp = STAMP.match(text)
        self.at, self.cpu, self.text = at, cpu, text
        self.guest = float(stamp.group(1)) if stamp else None


class Serial(threading.Thread):
    """Reads a serial line of the machine until the machine is off."""

    def __init__(self, fd, machine):
        super().__init__(daemon=True)
        self.lines, self.partial, self.is_over = [], "", False
        self._fd, self._machine = fd, machine
        self._changed = threading.Condition()
        self.start()

    def run(self):
        while chunk := self._read():
            at, cpu = time.monotonic(), self._machine.cpu()
            with self._changed:
                *whole, self.partial = (self.partial + chunk).split("\n")
                self.lines += [Line(at, cpu, text.rstrip("\r")) for text in whole]
                self._changed.notify_all()
        with self._changed:
            self.is_over = True
            self._changed.notify_all()

    def _read(self):
        try:
            return os.read(self._fd, 65536).decode("utf-8", "replace")
        except OSError:
            return ""

    def text(self):
        return "\n".join([line.text for line in self.lines] + [self.partial])

    def find(self, pattern, start=0):
        """The number of the first line from start on that matches, None if none does."""
        for number in range(start, len(self.lines)):
            if re.search(pattern, self.lines[number].text):
                return number
        return len(self.lines) if re.search(pattern, self.partial) else None

    def wait(self, condition, timeout):
        """Until condition() is neither None nor False; None after timeout s or when it is over."""
        def met():
            value = condition()
            return (value,) if value is not None and value is not False else None

        with self._changed:
            result = self._changed.wait_for(lambda: met() or (self.is_over and (None,)), timeout)
        return (result or (None,))[0]

    def wait_line(self, pattern, timeout, start=0):
        """The number of a whole line that matches, None after timeout s."""
        def whole():
            number = self.find(pattern, start)
            return number if number is not None and number < len(self.lines) else None
        return self.wait(whole, timeout)

    def wait_text(self, pattern, timeout, start=0):
        """As wait_line, but a prompt that stands alone counts too."""
        return self.wait(lambda: self.find(pattern, start), timeout)


class Machine:
    """Switched on by its creation."""

    def __init__(self, room, initrd, append):
        ours, theirs = socket.socketpair()
        self.started = time.monotonic()
        self.process = subprocess.Popen(room.net.inside(
            "qemu-system-x86_64", "-accel", os.environ.get("NBDROOT_ACCEL", "tcg,thread=multi"),
            "-machine", "pc", "-cpu", CPU, "-smp", CORES, "-m", MEMORY, "-display", "none",
            "-no-reboot", "-nodefaults", "-serial", "stdio",
            "-chardev", f"socket,id=second,fd={theirs.fileno()}", "-serial", "chardev:second",
            "-device", "virtio-rng-pci",
            "-netdev", "tap,id=net,ifname=tap0,script=no,downscript=no",
            "-device", f"virtio-net-pci,netdev=net,mac={MAC},romfile=",
            "-kernel", lab.BUILD / "kernel/vmlinuz", "-initrd", initrd,
            "-append", f"{COMMON} {append}"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()])
        theirs.close()
        self._second = ours
        self.console = Serial(self.process.stdout.fileno(), self)
        self.writer = Serial(ours.fileno(), self)

    def cpu(self):
        """Seconds that the emulator has computed."""
        try:
            fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1]
        except (OSError, IndexError):
            return None
        return sum(map(int, fields.split()[11:13])) / TICK

    def type(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def wait_off(self, timeout):
        """Whether it has switched itself off within timeout s."""
        try:
            self.process.wait(timeout=timeout)
        except subprocess.TimeoutExpired:
            return False
        self.console.join(timeout=10)
        self.writer.join(timeout=10)
        return True

    def close(self):
        lab.end(self.process)
        self.console.join(timeout=10)
        self.writer.join(timeout=10)
        self._second.close()
        self.process.stdin.close()
        self.process.stdout.close()

# SPDX-License-Identifier: GPL-2.0-or-later
"""
For `make check-long`: the card under the root in a Debian with a network manager of its own, which was told to take
every card, and a cable that is pulled. The carrier is a real one here, unlike in User-Mode Linux.
"""
import os
import socket
import statistics
import time

import machine
from test_boot import parameters, power_off

# which file systemd-networkd goes by
USED = "sed -n 's/^NETWORK_FILE=//p' /run/systemd/netif/links/$(cat /sys/class/net/eth0/ifindex)"
STATUS = "/run/initramfs/bin/nbdclient status"
SLACK = 1 if os.environ.get("NBDROOT_STRICT") else 2


def write_into_root(disks, folder, path, text):
    source = folder / "file"
    source.write_text(text)
    machine.run("debugfs", "-w", "-R", f"write {source} {path}", disks.root)


class Cable:
    """Of a machine that was started with more=cable.arguments."""

    def __init__(self, folder):
        self.path = folder / "monitor"
        self.arguments = ("-monitor", f"unix:{self.path},server,nowait")

    def _do(self, command):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.path))
            s.settimeout(10)
            for line in ("", command + "\n"):
                s.sendall(line.encode())
                text = b""
                while not text.endswith(b"(qemu) "):
                    text += s.recv(4096)

    def pull(self):
        self._do("set_link net off")

    def plug_in(self):
        self._do("set_link net on")


def answer(box, command):
    status, output = box.command(command)
    assert status == 0, f"{command}: {output}"
    return output


def outages(box):
    return int(answer(box, f"{STATUS} --json /dev/nbd0 | grep -o '\"outages\": *[0-9]*'").split(":")[1])


def reads(box, block):
    answer(box, f"dd if=/dev/nbd0 of=/dev/null bs=4096 count=1 iflag=direct skip={block}")


def boot(switch_on, server, disks, **more):
    # the kernel's test of the timer fails, for ever, where QEMU gets too little time
    box = switch_on(parameters(server, "no_timer_check"), **more)
    box.wait_login(240 * SLACK)
    return box


def test_systemd_networkd_keeps_what_it_finds_and_when_it_does_not_the_root_comes_back(
        switch_on, server, disks, tmp_path):
    write_into_root(disks, tmp_path, "/etc/systemd/network/20-all.network",
                    "[Match]\nType=ether\n[Network]\nDHCP=yes\n")
    box = boot(switch_on, server, disks)
    before = answer(box, "ip -4 -o addr show dev eth0; ip -4 route")
    assert "valid_lft forever" in before and "default via" in before
    for verb in ("start", "restart"):
        answer(box, f"systemctl {verb} systemd-networkd")
        answer(box, "/lib/systemd/systemd-networkd-wait-online --timeout=60")
        assert answer(box, USED) == "/run/systemd/network/00-nbdroot.network"
        assert answer(box, "ip -4 -o addr show dev eth0; ip -4 route") == before
        reads(box, 1)
    answer(box, "systemctl stop systemd-networkd.socket systemd-networkd")
    assert answer(box, "ip -4 -o addr show dev eth0; ip -4 route") == before
    assert outages(box) == 0

    # an administrator who wants it otherwise
    answer(box, "ln -s /dev/null /etc/systemd/network/00-nbdroot.network")
    answer(box, "systemctl start systemd-networkd")
    answer(box, "/lib/systemd/systemd-networkd-wait-online --timeout=60")
    assert answer(box, USED) == "/etc/systemd/network/20-all.network"
    reads(box, 2)
    assert "/dev/nbd0  attached" in answer(box, STATUS)
    power_off(box, disks)


def pulled_for(box, cable, seconds, number):
    """Seconds until a read is answered after the cable was plugged in again."""
    cable.pull()
    box.wait_for(rf"carrier lost {number}", 20)
    time.sleep(seconds)
    start = len(box.lines)
    cable.plug_in()
    began = box.now()
    _, at, _ = box.wait_for(r"^tick", 30 * SLACK, start, whole=True)
    return at - began


def test_cable_pulled_for_90_seconds_and_plugged_in_again(switch_on, server, disks, tmp_path):
    cable = Cable(tmp_path)
    box = boot(switch_on, server, disks, more=cable.arguments)
    # a line for every read that no memory answers, and one for every time the carrier is gone
    box.type("n=0; while dd if=/dev/nbd0 of=/dev/null bs=4096 count=1 iflag=direct "
             "skip=$((n += 1)) 2>/dev/null; do echo tick; sleep 0.1; done & "
             "c=0; while :; do until [ $(cat /sys/class/net/eth0/carrier) = 0 ]; do sleep 0.2; "
             "done; echo carrier lost $((c += 1)); until [ $(cat /sys/class/net/eth0/carrier) = 1 ]; "
             "do sleep 0.2; done; done &\n")
    box.wait_for(r"^tick", 30)
    took = [pulled_for(box, cable, 90, number) for number in (1, 2, 3)]
    print(f"carrier back after 90 s: I/O goes on after", [f"{t:.2f} s" for t in took])
    assert statistics.median(took) < 1 * SLACK
    box.type("\nkill %1 %2\n")
    assert "default via" in answer(box, "ip -4 route")
    power_off(box, disks)

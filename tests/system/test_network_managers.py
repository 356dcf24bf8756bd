# SPDX-License-Identifier: GPL-2.0-or-later
"""
A whole Debian whose network manager was told to take every card, with its root on our device and
init's word in /run that it should leave this card alone. In User-Mode Linux.
"""
import os
import re
import time

import lab
import pytest
import roots
from test_network import Dhcp

SLACK = 1 if os.environ.get("NBDROOT_STRICT") else 2
CARD = "vec0"
MANAGERS = "managers-root.img"
READ = "dd if=/dev/nbd0 of=/dev/null bs=4096 count=1 iflag=direct skip={} 2>&1"
STATUS = "/run/initramfs/bin/nbdclient status"
WAIT_ONLINE = "/lib/systemd/systemd-networkd-wait-online --timeout=60"

# which file systemd-networkd goes by
USED = (f"sed -n 's/^NETWORK_FILE=//p' /run/systemd/netif/links/$(cat /sys/class/net/{CARD}/ifindex)")


class Managed:
    """A guest with a system of that name as its root, to which {path: text} was added."""

    def __init__(self, network, folder, initrd, name, files):  # noqa: F811
        root = roots.make_root(folder, name)
        for number, (path, text) in enumerate(files.items()):
            (folder / f"file{number}").write_text(text)
            roots.debugfs(root, f"write {folder}/file{number} {path}")
        self.dhcp = Dhcp(network, folder, lab.GUEST_IP, 600)
        self.server = lab.Server(network, {"root": root})
        self.server.start()
        self.guest = lab.Guest(network, memory="384M", initrd=initrd, append="rw ip=dhcp "
                               f"root=nbd://{lab.SERVER_IP}/root")
        self.guest.wait_ready(240)
        self.before = self.config()
        assert "valid_lft forever" in self.before and "default via" in self.before

    def close(self):
        self.guest.close()
        self.server.close()
        self.dhcp.close()

    def config(self):
        return self.guest.run(f"ip -4 -o addr show dev {CARD}; ip -4 route")

    def outages(self):
        return int(re.search(r'"outages": ?(\d+)', self.guest.run(f"{STATUS} --json"))[1])

    def is_untouched(self):
        time.sleep(2)  # what a manager does, it does soon
        self.guest.run(READ.format(1))
        assert self.config() == self.before
        assert "what a root hangs on" not in self.guest.log()
        assert self.outages() == 0

    def goes_on(self):
        status, output = self.guest.finish(self.guest.start(READ.format(2)), 30 * SLACK)
        assert status == 0, output
        assert not self.guest.io_errors()


@pytest.fixture
def machine(network, tmp_path, initrd):  # noqa: F811
    machines = []

    def make(name, files):
        machines.append(Managed(network, tmp_path, initrd, name, files))
        return machines[-1]

    yield make
    for m in machines:
        m.close()


def test_systemd_networkd_keeps_what_it_finds_and_when_it_does_not_io_goes_on(machine):
    box = machine(roots.SYSTEMD, {"/etc/systemd/network/20-all.network":
                                  "[Match]\nType=ether\n[Network]\nDHCP=yes\n"})
    guest = box.guest
    for verb in ("start", "restart"):
        guest.run(f"systemctl {verb} systemd-networkd && {WAIT_ONLINE}", 90 * SLACK)
        assert guest.run(USED) == "/run/systemd/network/00-nbdroot.network\n"
        box.is_untouched()
    guest.run("systemctl stop systemd-networkd.socket systemd-networkd", 90 * SLACK)
    box.is_untouched()

    # an administrator who wants it otherwise
    guest.run("ln -s /dev/null /etc/systemd/network/00-nbdroot.network && "
              f"systemctl start systemd-networkd && {WAIT_ONLINE}", 90 * SLACK)
    assert guest.run(USED) == "/etc/systemd/network/20-all.network\n"
    box.goes_on()


# ---- make check-long: the others, in a root of their own -------------------------------------

if os.environ.get("NBDROOT_LONG"):

    def test_networkmanager_leaves_the_card_alone_and_when_it_does_not_io_goes_on(machine):
        box = machine(MANAGERS, {})
        guest = box.guest

        def state():
            listing = guest.run("nmcli -t -f DEVICE,STATE device; :", 60 * SLACK)
            return dict(line.split(":") for line in listing.splitlines() if ":" in line).get(CARD)

        for verb in ("start", "restart"):
            guest.run(f"systemctl {verb} NetworkManager", 120 * SLACK)
            lab.wait_until(lambda: state() == "unmanaged", 60 * SLACK, "the card to be unmanaged")
            box.is_untouched()
        guest.run("systemctl stop NetworkManager", 60 * SLACK)
        box.is_untouched()

        guest.run(": >/etc/NetworkManager/conf.d/00-nbdroot.conf && "
                  "systemctl start NetworkManager", 120 * SLACK)
        lab.wait_until(lambda: (state() or "").startswith("connected"), 60 * SLACK,
                       "NetworkManager to have taken the card over")
        box.goes_on()

    def test_ifupdown_takes_the_card_for_configured_and_when_it_does_not_io_goes_on(machine):
        box = machine(MANAGERS, {"/etc/network/interfaces.d/all": f"auto {CARD}\nallow-hotplug {CARD}\n"
                                 f"iface {CARD} inet dhcp\n"})
        guest = box.guest
        guest.run("systemctl start networking", 120 * SLACK)
        assert "already configured" in guest.run(f"ifup {CARD} 2>&1")
        box.is_untouched()
        guest.run("systemctl stop networking", 120 * SLACK)
        box.is_untouched()

        # whose state has been cleared by this, so that now it does take the card over
        guest.run("systemctl start networking", 120 * SLACK)
        assert "dhclient" in guest.run("ps -e")
        box.goes_on()
        guest.run("systemctl stop networking", 120 * SLACK)
        box.goes_on()

    @pytest.mark.parametrize("manager", ["dhcpcd", "connman"])
    def test_manager_that_cannot_be_told_does_no_lasting_harm(machine, manager):
        box = machine(MANAGERS, {})
        guest = box.guest
        # dhcpcd's unit in Debian 12 fails without them
        guest.run("mkdir -p /etc/wpa_supplicant && touch /etc/resolv.conf")
        for verb in ("start", "stop"):
            guest.run(f"systemctl {verb} {manager} || journalctl -b -u {manager}", 120 * SLACK)
            time.sleep(10)
            box.goes_on()
        print(f"{manager}: {box.outages()} outages;", guest.run(f"ip -4 -o addr show dev {CARD}"))

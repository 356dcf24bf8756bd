# SPDX-License-Identifier: GPL-2.0-or-later
"""
The network underneath a mounted device: addresses and links that go away and come back, a lease
that changes, a DHCP server that is away. Some guests have nbdclient alone and get help by hand;
those that init has booted have its resident for the card too, and get none.
"""
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

import lab
import pytest
import roots

URI = f"nbd://{lab.SERVER_IP}/root"
OTHER_IP = "10.77.0.9"
STATIC = f"ip={lab.GUEST_IP}::{lab.SERVER_IP}:255.255.255.0:pc-17:vec0:none"
CARD = "vec0"
CUTS_S = (90, 90, 90) if os.environ.get("NBDROOT_LONG") else (2, 11, 12)
SLACK = 1 if os.environ.get("NBDROOT_STRICT") else 2


def start_reading(guest):
    """Reads one block after the other, none from memory, and logs when each was there."""
    return guest.start("n=0; while :; do dd if=/dev/nbd0 of=/dev/null bs=4096 count=1 iflag=direct "
                       "skip=$((n = (n + 1) % 4000)) 2>/dev/null || exit 1; date +%s.%N; "
                       "usleep 20000; done >/tmp/reads")


def reads_after(guest, when):
    """When the first read was there that ended after when; None if none was yet."""
    for line in guest.run("tail -n 400 /tmp/reads 2>/dev/null; :").split():
        if float(line) > when:
            return float(line)
    return None


def seconds_until_io(guest, when, timeout):
    """How long after the wall-clock time when the first read was there."""
    return lab.wait_until(lambda: reads_after(guest, when), timeout * SLACK, "I/O to go on") - when


def attach(guest):
    guest.run(f"nbdclient attach {URI} --device /dev/nbd0")
    job = start_reading(guest)
    lab.wait_until(lambda: reads_after(guest, 0), 10, "the first read")
    return job


def is_well(guest, job):
    assert guest.is_running(job), "a read has failed: " + str(guest.finish(job))
    assert not guest.io_errors()


# ---- with help: what nbdclient makes of it ---------------------------------------------------


def test_address_flushed_and_given_back_at_once_costs_no_connection(guest, server):
    job = attach(guest)
    guest.run(f"ip addr flush dev {CARD}; sleep 0.3; ip addr add {lab.GUEST_IP}/24 dev {CARD}")
    seconds_until_io(guest, time.time(), 3)
    time.sleep(1.5)
    assert guest.status()["outages"] == 0
    is_well(guest, job)


def test_address_flushed_and_given_back(guest, server):
    job = attach(guest)
    guest.run(f"ip addr flush dev {CARD}")
    lab.wait_until(lambda: guest.status()["outages"] == 1, 3 * SLACK, "the loss to be noticed")
    time.sleep(3)
    guest.run(f"ip addr add {lab.GUEST_IP}/24 dev {CARD}")
    took = seconds_until_io(guest, time.time(), 3)
    print(f"address back: I/O goes on after {took * 1000:.0f} ms")
    assert took < 1 * SLACK
    is_well(guest, job)


def test_address_flushed_and_another_given(guest, server):
    job = attach(guest)
    guest.run(f"ip addr flush dev {CARD}; ip addr add {OTHER_IP}/24 dev {CARD}")
    began = time.time()
    lab.wait_until(lambda: guest.status()["outages"] == 1, 3 * SLACK, "the loss to be noticed")
    seconds_until_io(guest, time.time(), 3)
    took = time.time() - began
    print(f"another address: I/O goes on after {took:.2f} s")
    assert took < 2.5 * SLACK, "it was silence that gave the loss away"
    assert guest.status()["outages"] == 1
    is_well(guest, job)


def test_link_of_the_guest_down_and_up(guest, server):
    job = attach(guest)
    took = []
    for seconds in (1, 4, 12):
        guest.run(f"ip link set {CARD} down")
        time.sleep(seconds)
        guest.run(f"ip link set {CARD} up")
        took.append(seconds_until_io(guest, time.time(), 15))
    print("link up: I/O goes on after", [f"{t * 1000:.0f} ms" for t in took])
    assert statistics.median(took) < 1 * SLACK
    is_well(guest, job)


def cut_wire(network, guest, seconds):
    """Nothing arrives and no card tells of it; seconds until I/O goes on once the wire is whole."""
    network.black_hole()
    time.sleep(seconds)
    network.end_black_hole()
    return seconds_until_io(guest, time.time(), 20)


def test_wire_that_is_cut(guest, network, server):
    job = attach(guest)
    took = [cut_wire(network, guest, seconds) for seconds in CUTS_S]
    print(f"wire whole after {CUTS_S} s: I/O goes on after",
          [f"{t * 1000:.0f} ms" for t in took])
    assert statistics.median(took) < 1 * SLACK
    is_well(guest, job)


# ---- without help: the machine that init has booted ------------------------------------------


class Dhcp:
    """busybox' udhcpd beside the server. It gives one address, and no other to anybody."""

    def __init__(self, network, folder, address, lease_s):
        self.network, self.folder = network, folder
        self.log = open(folder / "udhcpd.log", "w+b")
        self.process = None
        self.start(address, lease_s)

    def start(self, address, lease_s):
        conf = self.folder / "udhcpd.conf"
        leases = self.folder / "udhcpd.leases"
        leases.touch()
        conf.write_text(
            f"start {address}\nend {address}\ninterface tap0\nmax_leases 1\nmin_lease 5\n"
            f"lease_file {leases}\npidfile {self.folder}/udhcpd.pid\nauto_time 5\n"
            f"option subnet 255.255.255.0\noption router {lab.SERVER_IP}\n"
            f"option dns {lab.SERVER_IP}\noption domain example.net\noption hostname pc-17\n"
            f"option lease {lease_s}\n")
        self.process = subprocess.Popen(self.network.inside("busybox", "udhcpd", "-f", conf),
                                        stdout=self.log, stderr=self.log)

    def acks(self):
        return (self.folder / "udhcpd.log").read_bytes().count(b"sending ACK")

    def wait_acks(self, count, timeout):
        lab.wait_until(lambda: self.acks() >= count, timeout * SLACK, f"{count} leases; udhcpd: "
                       + (self.folder / "udhcpd.log").read_text()[-1500:])

    def kill(self, forget=False):
        lab.end(self.process)
        if forget:
            (self.folder / "udhcpd.leases").unlink(missing_ok=True)

    def close(self):
        lab.end(self.process)
        self.log.close()


# Answers requests with a DHCPNAK, as one does that knows the client and has moved it: also those
# that are broadcast, for udhcpc's socket for the first one sometimes gets, and loses, the answer.
REFUSING_DHCP_SERVER = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 67))
print("ready", flush=True)
options = bytes([53, 1, 6, 54, 4, 10, 77, 0, 1, 255])
while True:
    data, sender = s.recvfrom(2048)
    if bytes([53, 1, 3]) in data[240:]:
        s.sendto(b"\\2" + data[1:12] + bytes(16) + data[28:240] + options, sender)
"""


@pytest.fixture
def dhcp(network, tmp_path):
    servers = []
    if not shutil.which("busybox"):
        pytest.skip("busybox, whose udhcpd is the DHCP server here, is not installed (make deps)")

    def make(address=lab.GUEST_IP, lease_s=600):
        servers.append(Dhcp(network, tmp_path, address, lease_s))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def booted(boot, images_server):  # noqa: F811
    """booted("ip=...") is a guest that init has booted, and that reads all the time."""
    def make(ip):
        guest = boot(f"root={URI} {ip}")
        guest.wait_ready()
        guest.run("mount -t tmpfs tmpfs /tmp")
        job = start_reading(guest)
        lab.wait_until(lambda: reads_after(guest, 0), 10, "the first read")
        return guest, job

    return make


def pids(guest, name):
    """Of the processes whose argv[0] begins with name."""
    files = guest.run(f"grep -l '^{name}' /proc/[0-9]*/cmdline 2>/dev/null; :")
    return re.findall(r"/proc/(\d+)/", files)


def addresses(guest):
    return re.findall(r"inet (\S+)", guest.run(f"ip -4 addr show dev {CARD}"))


def has_default_route(guest):
    return f"default via {lab.SERVER_IP} dev {CARD}" in guest.run("ip route")


@pytest.mark.parametrize("ip", [STATIC, "ip=dhcp"])
def test_flushed_address_and_its_routes_come_back_by_themselves(booted, dhcp, ip):
    if ip == "ip=dhcp":
        dhcp()
    guest, job = booted(ip)
    assert has_default_route(guest)
    guest.run(f"ip addr flush dev {CARD}")
    guest.wait_log("took from vec0 what a root hangs on: address 10.77.0.2 routes", 5 * SLACK)
    seconds_until_io(guest, time.time(), 5)
    assert addresses(guest) == [f"{lab.GUEST_IP}/24"] and has_default_route(guest)
    guest.run("ip route del default")
    lab.wait_until(lambda: has_default_route(guest), 5 * SLACK, "the default route")
    is_well(guest, job)


def test_card_taken_down_comes_up_by_itself_with_its_routes(booted):
    guest, job = booted(STATIC)
    guest.run(f"ip link set {CARD} down")
    guest.wait_log("took from vec0 what a root hangs on: link routes", 10 * SLACK)
    seconds_until_io(guest, time.time(), 5)
    assert has_default_route(guest)
    is_well(guest, job)


def test_card_taken_down_while_the_kernel_tells_too_much_comes_up_by_itself(booted):
    """More than a socket holds: that the link went is among what is lost."""
    guest, job = booted(STATIC)
    keeper = pids(guest, "@nbdroot-net")[0]
    guest.run(f"kill -STOP {keeper}; n=0; while [ $((n = n + 1)) -lt 200 ]; do "
              "ip addr add 127.0.0.9/8 dev lo; ip addr del 127.0.0.9/8 dev lo; done; "
              f"ip link set {CARD} down; kill -CONT {keeper}", timeout=60)
    guest.wait_log("took from vec0 what a root hangs on: link routes", 10 * SLACK)
    seconds_until_io(guest, time.time(), 5)
    assert has_default_route(guest)
    is_well(guest, job)


def test_address_that_somebody_else_gave_is_left_alone(booted):
    guest, job = booted(STATIC)
    guest.run(f"ip addr flush dev {CARD}; ip addr add {OTHER_IP}/24 dev {CARD}")
    seconds_until_io(guest, time.time(), 12)
    time.sleep(2)
    assert addresses(guest) == [f"{OTHER_IP}/24"]
    assert "what a root hangs on" not in guest.log()
    is_well(guest, job)


def test_route_in_whose_place_there_is_another_is_left_alone(booted):
    guest, job = booted(STATIC)
    guest.run("ip route del default; ip route add default via 10.77.0.254")
    # and a look at the card later
    guest.run("ip route add 10.99.0.0/16 via 10.77.0.1; ip route del 10.99.0.0/16")
    time.sleep(3)
    assert re.findall("default via (.*?) ", guest.run("ip route")) == ["10.77.0.254"]
    assert "what a root hangs on" not in guest.log()
    is_well(guest, job)


def test_lease_is_renewed_after_switch_root_and_outlives_its_dhcp_server(booted, dhcp):
    server = dhcp(lease_s=20)
    guest, job = booted("ip=dhcp")
    first = server.acks()
    server.wait_acks(first + 1, 20)
    server.kill()
    guest.wait_log("no DHCP server answers for vec0 (keeping 10.77.0.2", 60 * SLACK)
    seconds_until_io(guest, time.time(), 5)
    assert addresses(guest) == [f"{lab.GUEST_IP}/24"] and has_default_route(guest)
    server.start(lab.GUEST_IP, 20)
    guest.wait_log("a DHCP server answers for vec0 again: 10.77.0.2", 30 * SLACK)
    assert guest.log().count("no DHCP server answers") == 1
    assert guest.status()["outages"] == 0
    is_well(guest, job)


def test_lease_of_a_card_that_has_become_part_of_a_bond_changes_nothing(
        booted, dhcp, images):  # noqa: F811
    modules = ("lib/crc-ccitt.ko", "net/ipv6/ipv6.ko", "drivers/net/bonding/bonding.ko")
    roots.debugfs(images["root"], *(f"write {lab.uml_modules()}/kernel/{m} {pathlib.Path(m).name}"
                                    for m in modules))
    server = dhcp(lease_s=20)
    guest, job = booted("ip=dhcp")
    guest.run("; ".join(f"insmod /{pathlib.Path(m).name}" for m in modules))
    guest.run(f"ip link add m0 type bond; ip link set {CARD} down; ip link set {CARD} master m0; "
              f"ip addr flush dev {CARD}; ip link set m0 up; ip link set {CARD} up; "
              f"ip addr add {lab.GUEST_IP}/24 dev m0; ip route add default via {lab.SERVER_IP}")
    show = "ip -4 -o addr; ip route"
    before = guest.run(show)
    server.wait_acks(server.acks() + 1, 30)
    time.sleep(1)
    assert guest.run(show) == before
    assert "what a root hangs on" not in guest.log()
    seconds_until_io(guest, time.time(), 5)
    is_well(guest, job)


def test_lease_changed_to_another_address(booted, dhcp):
    server = dhcp(lease_s=20)
    guest, job = booted("ip=dhcp")
    server.kill(forget=True)
    server.start(OTHER_IP, 20)
    guest.wait_log(f"moved {CARD} from {lab.GUEST_IP}/24 to {OTHER_IP}/24", 60 * SLACK)
    took = seconds_until_io(guest, time.time(), 5)
    print(f"I/O at the new address after {took * 1000:.0f} ms")
    assert addresses(guest) == [f"{OTHER_IP}/24"] and has_default_route(guest)
    assert f"address={OTHER_IP}" in guest.run("cat /run/nbdroot/lease.vec0")
    is_well(guest, job)


def test_address_that_the_dhcp_server_takes_back_is_given_up_and_another_taken(
        booted, dhcp, network):
    server = dhcp(lease_s=30)
    guest, job = booted("ip=dhcp")
    lab.wait_until(lambda: "lease_s=" in guest.run("cat /run/nbdroot/lease.vec0"), 20 * SLACK,
                   "udhcpc to take init's lease over")
    server.kill()
    refuser = subprocess.Popen(network.inside(sys.executable, "-c", REFUSING_DHCP_SERVER),
                               stdout=subprocess.PIPE)
    try:
        # The first renewal is 15 s after the lease; after 30 s there is none to refuse.
        assert refuser.stdout.readline() == b"ready\n"
        guest.wait_log(f"has taken {lab.GUEST_IP} of {CARD} back", 40 * SLACK)
        lab.wait_until(lambda: addresses(guest) == [], 5 * SLACK, "the address to be given up")
        time.sleep(1)  # not given back by who keeps the card
        assert addresses(guest) == []
        lab.end(refuser)
        server.start(OTHER_IP, 600)
        lab.wait_until(lambda: addresses(guest) == [f"{OTHER_IP}/24"], 30 * SLACK, "another")
        seconds_until_io(guest, time.time(), 5)
        assert has_default_route(guest)
    finally:
        lab.end(refuser)
    is_well(guest, job)


def test_dhcp_client_survives_every_signal_but_sigkill_and_then_comes_back(booted, dhcp):
    dhcp()
    guest, job = booted("ip=dhcp")
    lab.wait_until(lambda: pids(guest, "@/udhcpc"), 5 * SLACK, "udhcpc")
    keeper, client = pids(guest, "@nbdroot-net"), pids(guest, "@/udhcpc")
    assert len(keeper) == 1 and len(client) == 1
    for name in ("STOP", "CONT", "HUP", "INT", "TERM", "USR1", "USR2"):
        guest.run(f"kill -{name} {keeper[0]} {client[0]}")
    time.sleep(1)
    assert pids(guest, "@nbdroot-net") == keeper and pids(guest, "@/udhcpc") == client
    assert addresses(guest) == [f"{lab.GUEST_IP}/24"]

    guest.run(f"kill -KILL {client[0]}")
    lab.wait_until(lambda: pids(guest, "@/udhcpc"), 5 * SLACK, "another udhcpc")
    second = pids(guest, "@/udhcpc")
    guest.run(f"kill -KILL {keeper[0]}")
    time.sleep(0.5)
    assert pids(guest, "@/udhcpc") == second
    assert addresses(guest) == [f"{lab.GUEST_IP}/24"]
    is_well(guest, job)


def test_card_that_gets_another_name_keeps_its_lease(booted, dhcp):
    dhcp()
    guest, job = booted("ip=dhcp")
    guest.run(f"ip link set {CARD} down; ip link set {CARD} name lan0; ip link set lan0 up")
    lab.wait_until(lambda: "default via" in guest.run("ip route"), 5 * SLACK, "the route")
    seconds_until_io(guest, time.time(), 5)
    lab.wait_until(lambda: pids(guest, "@/udhcpc"), 5 * SLACK, "udhcpc")
    assert "lan0" in guest.run(f"cat /proc/{pids(guest, '@/udhcpc')[0]}/cmdline")
    assert f"address={lab.GUEST_IP}\n" in guest.run("cat /run/nbdroot/lease.lan0")
    is_well(guest, job)


def test_resident_of_the_card_is_locked_spared_and_needs_nothing_of_the_root(booted, dhcp):
    dhcp()
    guest, job = booted("ip=dhcp")
    lab.wait_until(lambda: pids(guest, "@/udhcpc"), 5 * SLACK, "udhcpc")
    for name in ("@nbdroot-net", "@/udhcpc"):
        pid = pids(guest, name)[0]
        assert guest.run(f"readlink /proc/{pid}/root") == "/run/initramfs\n"
        assert guest.run(f"cat /proc/{pid}/oom_score_adj") == "-1000\n"
        maps = guest.run(f"grep -o '/.*' /proc/{pid}/maps | sort -u; :").split()
        assert maps and all(m.startswith(("/bin/busybox", "/shutdown", "/run/initramfs"))
                            for m in maps), maps
    keeper = pids(guest, "@nbdroot-net")[0]
    fields = dict(re.findall(r"(\w+):\s+(\d+) kB", guest.run(f"cat /proc/{keeper}/status")))
    print(f"VmRSS {fields['VmRSS']} kB, VmLck {fields['VmLck']} kB")
    # but for what the kernel maps into everybody
    assert int(fields["VmLck"]) >= int(fields["VmRSS"]) - 16
    is_well(guest, job)


def test_network_managers_are_told_to_leave_the_card_alone_and_the_root_is_not_touched(
        booted, images, tmp_path):  # noqa: F811
    before = pathlib.Path(images["root"]).read_bytes()
    guest, job = booted(STATIC)
    network = guest.run("cat /run/systemd/network/00-nbdroot.network")
    assert f"MACAddress={lab.GUEST_MAC}\n" in network and "KeepConfiguration=yes\n" in network
    assert f"MACAddress={lab.GUEST_MAC}\n" in guest.run("cat /run/systemd/network/00-nbdroot.link")
    manager = guest.run("cat /run/NetworkManager/conf.d/00-nbdroot.conf")
    assert f"match-device=mac:{lab.GUEST_MAC}\nmanaged=0\n" in manager
    assert guest.run("cat /run/network/ifstate") == f"{CARD}=nbdroot\n"
    # what makes programs believe that systemd is running
    assert "system" not in guest.run("ls /run/systemd").split()
    is_well(guest, job)
    assert pathlib.Path(images["root"]).read_bytes() == before

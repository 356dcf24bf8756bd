# SPDX-License-Identifier: GPL-2.0-or-later
"""
How the boot finds its network: several cards, cards that come late, VLANs, every form of ip=, and
DHCP servers that are slow, deaf, of two minds, or hostile. The guest's cards are taps in the test's
namespace: vec0 on tap0 (10.77.0.0/24), vec1 on tap1 (10.78.0.0/24).
"""
import ctypes
import os
import pathlib
import re
import signal
import socket
import struct
import time

import dhcp
import lab
import pytest
import vlan

URI = f"nbd://{lab.SERVER_IP}/root"
SECOND_MAC = "02:00:00:00:00:18"
SECOND_SERVER, SECOND_GUEST = "10.78.0.1", "10.78.0.2"
VLAN_SERVER, VLAN_GUEST = "10.79.0.1", "10.79.0.2"
VEC1 = f"vec1:transport=tap,ifname=tap1,depth=128,gro=1,mac={SECOND_MAC}"
STATIC = f"ip={lab.GUEST_IP}::{lab.SERVER_IP}:255.255.255.0:pc-17:vec0:none"


def router(address):
    return {3: socket.inet_aton(address)}


@pytest.fixture
def second_tap(network):
    """A second card's other end, for which the machine is one more network away."""
    network.run("ip", "tuntap", "add", "tap1", "mode", "tap")
    network.run("ip", "addr", "add", f"{SECOND_SERVER}/24", "dev", "tap1")
    network.run("ip", "link", "set", "tap1", "up")
    return "tap1"


@pytest.fixture
def serve(network):
    """serve(card, guest's address, server's address, options...) starts a DHCP server."""
    servers = []

    def start(card="tap0", address=lab.GUEST_IP, server=lab.SERVER_IP, **more):
        servers.append(dhcp.Server(network, card, address, server, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def power_cut(guest):
    os.killpg(guest.process.pid, signal.SIGKILL)
    guest.process.wait(timeout=30)


def flags(guest, card):
    return int(guest.run(f"cat /sys/class/net/{card}/flags"), 16)


def lease(guest, card):
    text = guest.run(f"cat /run/nbdroot/lease.{card}")
    return dict(line.split("=", 1) for line in text.splitlines())


# ---- several cards ---------------------------------------------------------------------------


def test_card_on_which_a_dhcp_server_answers_is_used_and_the_other_taken_down(
        boot, images_server, second_tap, serve):
    serve("tap1", SECOND_GUEST, SECOND_SERVER, options=router(SECOND_SERVER))
    guest = boot(f"root={URI} {VEC1}")
    guest.wait_ready()
    assert f"vec1 has address {SECOND_GUEST} (DHCP)" in guest.log()
    assert flags(guest, "vec0") & 1 == 0 and flags(guest, "vec1") & 1 == 1
    assert "inet " not in guest.run("ip addr show vec0")
    # what follows the boot is told about the one that is used
    assert SECOND_MAC in guest.run("cat /run/systemd/network/00-nbdroot.network")


@pytest.mark.parametrize("words", [f"BOOTIF=01-{SECOND_MAC.replace(':', '-')}",
                                   f"ip={SECOND_MAC.replace(':', '-')}:dhcp", "ip=vec1:dhcp",
                                   f"ip=enx{SECOND_MAC.replace(':', '')}:dhcp"])
def test_card_that_is_named_is_the_only_one_asked_on(boot, images_server, second_tap, serve, words):
    other = serve()
    serve("tap1", SECOND_GUEST, SECOND_SERVER, options=router(SECOND_SERVER), deaf=2)
    guest = boot(f"root={URI} {VEC1} {words}")
    guest.wait_ready()
    assert f"vec1 has address {SECOND_GUEST} (DHCP)" in guest.log()
    assert not other.of_type(dhcp.DISCOVER)


@pytest.mark.parametrize("ip", ["vec1:dhcp", "dhcp"])
def test_card_that_is_to_be_left_alone_is_and_another_has_the_root(
        boot, images_server, second_tap, serve, ip):
    other = serve()
    serve("tap1", SECOND_GUEST, SECOND_SERVER, options=router(SECOND_SERVER), deaf=2)
    guest = boot(f"root={URI} {VEC1} ip=vec0:none ip={ip}")
    guest.wait_ready()
    assert f"vec1 has address {SECOND_GUEST} (DHCP)" in guest.log()
    assert not other.of_type(dhcp.DISCOVER) and flags(guest, "vec0") & 1 == 0


def test_each_of_two_cards_has_an_ip_of_its_own(boot, images_server, second_tap, serve):
    serve("tap1", SECOND_GUEST, SECOND_SERVER, options=router(SECOND_SERVER))
    guest = boot(f"root={URI} {VEC1} ip=vec1:dhcp {STATIC} bootdev=vec0")
    guest.wait_ready()
    guest.wait_log(f"vec1 has address {SECOND_GUEST} (DHCP)", 5)
    assert f"vec0 has address {lab.GUEST_IP} (ip=), name pc-17" in guest.log()
    assert guest.run("grep -l '^@nbdroot-net' /proc/[0-9]*/cmdline 2>/dev/null; :").count("\n") == 2
    files = guest.run("ls /run/systemd/network").split()
    assert files == ["00-nbdroot-vec1.link", "00-nbdroot-vec1.network", "00-nbdroot.link",
                     "00-nbdroot.network"]
    assert lab.GUEST_MAC in guest.run("cat /run/systemd/network/00-nbdroot.network")


def test_second_card_that_does_not_come_up_costs_seconds_not_the_boot(
        boot, images_server, second_tap):
    guest = boot(f"root={URI} {VEC1} {STATIC} ip=vec1:dhcp bootdev=vec0")
    guest.wait_ready(60)
    assert "vec1: no answer by DHCP after 10 s (going on" in guest.log()


def mconsole(guest, command):
    """Has the guest's management console do something to its machine."""
    path = next((guest.folder / "uml").glob("*/mconsole"))
    own = pathlib.Path(guest.folder / f"console-{time.monotonic_ns()}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(own))
        s.settimeout(10)
        s.sendto(struct.pack("=IiI", 0xCAFEBABE, 2, len(command)) + command.encode().ljust(512, b"\0"),
                 str(path))
        return s.recv(4096)


def test_card_that_appears_while_it_is_waited_for_is_used_at_once(
        boot, images_server, second_tap, serve):
    serve("tap1", SECOND_GUEST, SECOND_SERVER, options=router(SECOND_SERVER))
    guest = boot(f"root={URI} BOOTIF=01-{SECOND_MAC.replace(':', '-')}")
    guest.wait_log(f"waiting for the network card {SECOND_MAC} (BOOTIF=), there are vec0", 30)
    mconsole(guest, f"config {VEC1}")
    began = time.monotonic()
    guest.wait_log(f"vec1 has address {SECOND_GUEST} (DHCP)", 10)
    print(f"from the card to its address: {time.monotonic() - began:.2f} s")
    guest.wait_ready()


# ---- DHCP ------------------------------------------------------------------------------------


def test_first_requests_that_are_lost_are_repeated_within_a_second(boot, images_server, serve):
    server = serve(deaf=2)
    guest = boot(f"root={URI}")
    guest.wait_ready()
    asked = [m["at"] for m in server.of_type(dhcp.DISCOVER)][:3]
    assert 0.2 < asked[1] - asked[0] < 1 and 0.4 < asked[2] - asked[1] < 2
    assert "(DHCP)" in guest.log()


def test_identity_is_the_same_in_every_request_and_over_boots(boot, images_server, serve):
    server = serve(lease_s=20)
    for _ in range(2):
        guest = boot(f"root={URI}")
        guest.wait_ready()
        count = len(server.messages())
        # udhcpc has taken over
        lab.wait_until(lambda n=count: len(server.messages()) > n, 30, "a renewal")
        power_cut(guest)
    asked = [m for m in server.messages() if "options" in m]
    assert {m["options"]["61"] for m in asked} == {"01" + lab.GUEST_MAC.replace(":", "")}
    assert {bytes.fromhex(m["options"]["60"]) for m in asked} == {b"nbdroot"}
    assert not any("12" in m["options"] for m in asked), "no name was given, and one is told"


def test_server_that_refuses_what_it_offers_is_named_once_and_another_taken(
        boot, images_server, second_tap, serve):
    refuser = serve(refuses=True)
    guest = boot(f"root={URI} {VEC1}")
    guest.wait_log("the DHCP server 10.77.0.1 refuses vec0 what it has offered", 30)
    lab.wait_until(lambda: len(refuser.of_type(dhcp.REQUEST)) >= 3, 20, "more tries")
    assert guest.log().count("refuses vec0") == 1
    at = [m["at"] for m in refuser.of_type(dhcp.REQUEST)]
    assert min(b - a for a, b in zip(at, at[1:])) > 1, "it is asked without a pause"
    serve("tap1", SECOND_GUEST, SECOND_SERVER, options=router(SECOND_SERVER))
    guest.wait_log(f"vec1 has address {SECOND_GUEST}", 20)


def test_options_reach_the_lease_the_resolver_and_the_routes(boot, images_server, serve):
    serve(next_server="10.77.0.5", options={
        6: socket.inet_aton("10.77.0.8") + socket.inet_aton("10.77.0.9"), 12: b"pc-99",
        15: b"example.net", 17: b"10.77.0.1:/export/{mac}", 26: struct.pack("!H", 1400),
        42: socket.inet_aton("10.77.0.7"), 119: b"\1a\7example\0\1b\xc0\2",
        121: bytes([24, 10, 99, 0, 10, 77, 0, 1, 0, 10, 77, 0, 1])})
    guest = boot(f"root={URI} nameserver=10.77.0.6")
    guest.wait_ready()

    def check():
        got = lease(guest, "vec0")
        assert got["root_path"] == "10.77.0.1:/export/{mac}" and got["next_server"] == "10.77.0.5"
        assert got["ntp"] == "10.77.0.7" and got["domain"] == "example.net"
        assert got["search"] == "a.example b.example" and got["server"] == "10.77.0.1"
        assert guest.run("cat /run/nbdroot/resolv.conf") == (
            "search a.example b.example\nnameserver 10.77.0.6\nnameserver 10.77.0.8\n"
            "nameserver 10.77.0.9\n")
        routes = guest.run("ip route")
        assert "10.99.0.0/24 via 10.77.0.1" in routes and "default via 10.77.0.1" in routes
        assert guest.run("cat /sys/class/net/vec0/mtu") == "1400\n"
        assert guest.run("hostname") == "pc-99\n"

    check()
    # the same, written by udhcpc's script
    lab.wait_until(lambda: "lease_s" in lease(guest, "vec0"), 10, "udhcpc to take the lease over")
    check()


HOSTILE = {
    12: b"$(reboot)\nhostname=x;`poweroff`", 15: b"a b\nsearch evil", 17: b"/x\naddress=10.77.0.66\nprefix=0",
    119: b"\3a;b\0\xc0\0", 6: b"\x7f\0\0\1" + b"\xff" * 4 + b"\0" * 4, 42: b"\1\2\3",
    121: bytes([33, 1, 2, 3]), 26: b"\0\1", 43: bytes(range(200, 256)), 66: b"-rf\n", 67: b"\xff" * 20,
    28: b"\0", 3: b"\0\0\0\0",
}


def test_hostile_dhcp_server_gives_an_address_and_nothing_else(boot, images_server, serve):
    serve(options=HOSTILE)
    guest = boot(f"root={URI}")
    guest.wait_ready()
    guest.wait_log("sends what no machine can use: host name, domain, root path, search list, "
                   "classless routes (left out)", 5)

    def check():
        got = lease(guest, "vec0")
        assert got["address"] == lab.GUEST_IP and got["prefix"] == "24"
        for key in ("hostname", "domain", "search", "root_path", "routes"):
            assert got[key] == "", (key, got[key])
        assert set(got) <= {"address", "prefix", "gateway", "routes", "dns", "domain", "search",
                            "hostname", "ntp", "root_path", "next_server", "server", "lease_s"}
        assert "evil" not in guest.run("cat /run/nbdroot/resolv.conf")

    check()
    guest.wait_log("root path (option 17) for vec0 is too long, or has characters", 10)
    lab.wait_until(lambda: "lease_s" in lease(guest, "vec0"), 10, "udhcpc to take the lease over")
    check()
    assert guest.run("ip -4 addr show vec0").count("inet ") == 1


def test_answer_with_a_root_path_is_preferred_to_a_faster_one_without(
        boot, images_server, second_tap, serve):
    without = serve()
    serve("tap1", SECOND_GUEST, SECOND_SERVER, slow_s=1.5,
          options={**router(SECOND_SERVER), 17: b"nbd:10.77.0.1:root"})
    guest = boot(f"root=dhcp {VEC1}")
    guest.wait_ready()
    assert "the DHCP server 10.77.0.1 on vec0 gives no root path (option 17; waiting" in guest.log()
    assert f"vec1 has address {SECOND_GUEST} (DHCP)" in guest.log()
    assert not without.of_type(dhcp.REQUEST)


def test_answer_without_a_root_path_is_taken_when_there_is_no_better_one(boot, network, serve):
    server = serve()
    guest = boot("root=dhcp")
    guest.wait_log(f"vec0 has address {lab.GUEST_IP} (DHCP)", 20)
    asked = server.of_type(dhcp.REQUEST)[0]["at"] - server.of_type(dhcp.DISCOVER)[0]["at"]
    assert 4 < asked < 10
    guest.wait_log("this machine cannot boot", 10)
    guest.wait_log("gives no root path", 5)


@pytest.mark.parametrize("wrong, words", [
    (None, "gives no root path"),
    (b"iscsi:192.0.2.1::::iqn.2001-04.com.example", "not a root"),
    (b"nbd:10.77.0.1:nosuch", "no such export"),
    (b"nbd:10.77.0.1:root-{uuid}", "this machine has no {uuid}"),
    (b"nbd://10.77.0.1:99999/root", "the port is not a number"),
    (b"nbd:10.77.0.9:root", "waiting for the NBD server 10.77.0.9"),
    (b"nbd:10.77.0.1:empty", "this machine cannot boot"),
    (b"nbd:10.77.0.1:root:ext9", "this machine cannot boot"),
])
def test_root_path_that_is_corrected_on_the_server_is_seen_without_a_restart(
        boot, network, images, tmp_path, serve, wrong, words):
    nbd = lab.Server(network, {"root": images["root"],
                               "empty": lab.make_image(tmp_path / "empty.img", "16M")})
    nbd.start()
    try:
        server = serve(options={} if wrong is None else {17: wrong})
        guest = boot("root=dhcp panic=1")
        guest.wait_log(words, 40)
        lab.wait_until(lambda: len(server.of_type(dhcp.REQUEST)) == 2, 15, "udhcpc to take over")
        server.close()
        server = serve(options={17: b"nbd:10.77.0.1:root"})
        began = time.monotonic()
        guest.wait_ready(60)
        print(f"from the correction to the real init: {time.monotonic() - began:.1f} s")
        assert guest.log().count("Linux version") == 1, "it has restarted"
        assert "nbd:10.77.0.1:root" in lease(guest, "vec0")["root_path"]
        # the lease is the first one, and stays udhcpc's
        assert guest.run("ip -4 addr show vec0").count("inet ") == 1
        asked_at = server.of_type(dhcp.DISCOVER)[0]["at"]
        assert not [m for m in server.of_type(dhcp.REQUEST) if m["at"] > asked_at]
    finally:
        nbd.close()


def test_root_path_that_is_corrected_while_the_server_is_down(boot, network, images, tmp_path, serve):
    """Of the client that waited for the old one nothing is left when the server comes."""
    nbd = lab.Server(network, {"root": images["root"],
                               "empty": lab.make_image(tmp_path / "empty.img", "16M")})
    try:
        server = serve(options={17: b"nbd:10.77.0.1:empty"})
        guest = boot("root=dhcp")
        guest.wait_log("waiting for the NBD server 10.77.0.1", 40)
        server.close()
        serve(options={17: b"nbd:10.77.0.1:root"})
        guest.wait_log("looking for the root anew", 60)
        nbd.start()
        guest.wait_ready(60)
        assert re.search(r"/dev/nbd0: attached to nbd://10\.77\.0\.1(:10809)?/root,", guest.log())
        assert guest.run("grep -l '/[e]mpty' /proc/[0-9]*/cmdline; true") == ""
        assert "attached already" not in guest.log()
    finally:
        nbd.close()


def test_route_that_cannot_be_given_back_is_said_once_and_tried_again(boot, images_server, serve):
    serve(options={121: bytes([16, 10, 99, 10, 55, 0, 1, 0, 10, 77, 0, 1])})
    guest = boot(f"root={URI}")
    guest.wait_ready()
    lab.wait_until(lambda: "lease_s" in lease(guest, "vec0"), 10, "udhcpc to take the lease over")
    guest.run("ip route del default")
    words = "the route to 10.99.0.0/16 by 10.55.0.1 cannot be given back to vec0"
    guest.wait_log(words, 5)
    guest.wait_log("what a root hangs on: routes", 5)
    time.sleep(4)  # two more tries
    assert guest.log().count(words) == 1
    guest.run("ip route add 10.55.0.1/32 dev vec0")
    lab.wait_until(lambda: "10.99.0.0/16 via 10.55.0.1" in guest.run("ip route"), 20, "the route")


@pytest.mark.parametrize("address", ["127.0.0.1", "224.0.0.1", "0.0.0.0", "255.255.255.255"])
def test_address_that_no_machine_can_have_is_not_taken(boot, network, serve, address):
    server = serve(address=address)
    boot(f"root={URI}")
    lab.wait_until(lambda: len(server.of_type(dhcp.DISCOVER)) >= 3, 20, "more tries")
    assert not server.of_type(dhcp.REQUEST)


# ---- ip= and vlan= ---------------------------------------------------------------------------


def test_dracuts_form_sets_the_mtu_which_dhcp_does_not_change(boot, images_server, serve):
    server = serve(options={26: struct.pack("!H", 1450)})
    guest = boot(f"root={URI} ip=vec0:dhcp:1300")
    guest.wait_ready()
    lab.wait_until(lambda: "lease_s" in lease(guest, "vec0"), 10, "udhcpc to take the lease over")
    assert guest.run("cat /sys/class/net/vec0/mtu") == "1300\n"
    assert server.of_type(dhcp.REQUEST)


def test_what_ipappend_1_gives_is_asked_for_and_a_host_name_is_told(boot, images_server, serve):
    server = serve()
    guest = boot(f"root={URI} ip=10.77.0.44:10.77.0.1:10.77.0.1:255.255.255.0")
    guest.wait_ready()
    first = server.of_type(dhcp.DISCOVER)[0]["options"]
    assert first["50"] == socket.inet_aton("10.77.0.44").hex()
    assert f"vec0 has address {lab.GUEST_IP} (DHCP)" in guest.log()
    power_cut(guest)

    guest = boot(f"root={URI} ip=::::pc-55:vec0:dhcp")
    guest.wait_ready()
    lab.wait_until(lambda: "lease_s" in lease(guest, "vec0"), 10, "udhcpc to take the lease over")
    assert guest.run("hostname") == "pc-55\n"
    told = [m["options"].get("12") for m in server.messages()[-4:] if "options" in m]
    assert told == [b"pc-55".hex()] * 4


@pytest.fixture
def trunk(network, serve):
    """A VLAN beside the network, with a DHCP server in it."""
    made = vlan.Trunk(network, "tap0", "tap5", 5, VLAN_SERVER)
    serve("tap5", VLAN_GUEST, VLAN_SERVER, options=router(VLAN_SERVER))
    yield made
    made.close()


def test_vlan_has_the_address_and_is_kept_with_the_card_below_it(
        boot, images_server, trunk):
    guest = boot(f"root={URI} vlan=vlan5:vec0")
    guest.wait_ready()
    assert f"vlan5 has address {VLAN_GUEST} (DHCP)" in guest.log()
    assert "inet " not in guest.run("ip -4 addr show vec0")
    guest.run("ip link set vec0 down")
    guest.wait_log("took from vlan5 what a root hangs on: link", 15)
    assert flags(guest, "vec0") & 1 == 1
    lab.wait_until(lambda: "default via" in guest.run("ip route"), 5, "the route")
    guest.run("dd if=/dev/nbd0 of=/dev/null bs=4096 count=1 iflag=direct")
    text = guest.run("cat /run/systemd/network/00-nbdroot.network")
    assert "Name=vlan5\nType=vlan\n" in text
    text = guest.run("cat /run/systemd/network/00-nbdroot-vec0.network")
    assert f"MACAddress={lab.GUEST_MAC}\nType=ether\n" in text and "DNS=" not in text
    manager = guest.run("cat /run/NetworkManager/conf.d/00-nbdroot.conf")
    assert f"match-device=mac:{lab.GUEST_MAC},interface-name:vlan5\n" in manager
    assert not guest.io_errors()


def test_vlan_goes_on_the_card_that_is_up_when_nobody_names_one(
        boot, images_server, trunk):
    guest = boot(f"root={URI} {STATIC} vlan=vlan5:BOOTIF ip=vlan5:dhcp bootdev=vec0")
    guest.wait_ready()
    guest.wait_log(f"vlan5 has address {VLAN_GUEST} (DHCP)", 5)


def test_vlan_that_cannot_be_made_gets_last_words(boot, network, second_tap):
    guest = boot(f"root={URI} {VEC1} vlan=vec1:vec0 ip=10.79.0.2:::24::vec1:none")
    guest.wait_log("this machine cannot boot", 20)
    guest.wait_log("vec1: cannot make VLAN 1 on vec0: File exists", 5)


# ---- what the person at the screen sees ------------------------------------------------------


def test_waiting_is_said_rarely_and_is_no_failure(boot, network):
    guest = boot(f"root={URI} panic=1")
    guest.wait_log("network: waiting for a DHCP answer on vec0 (02:00:00:00:00:17), link up, 3 s "
                   "(is there a DHCP server", 30)
    guest.wait_log("link up, 10 s", 15)
    assert guest.log().count("waiting for a DHCP answer") == 2
    assert guest.log().count("Linux version") == 1, "it has restarted"
    assert "cannot boot" not in guest.log()


def test_server_that_is_away_is_waited_for_in_the_same_words(boot, network, images):
    guest = boot(f"root={URI} {STATIC} panic=1")
    guest.wait_log("/dev/nbd0: waiting for the NBD server 10.77.0.1:10809, refused, 3 s", 30)
    server = lab.Server(network, images)
    server.start()
    try:
        guest.wait_ready()
    finally:
        server.close()
    assert guest.log().count("Linux version") == 1, "it has restarted"


def test_times_of_the_boot_are_its_last_words(boot, images_server):
    guest = boot(f"root={URI} {STATIC}")
    guest.wait_ready()
    line = re.search(r"nbdroot: boot: (kernel .*)", guest.log()).group(1)
    parts = dict(re.findall(r"(\w+) (\d+\.\d) s", line))
    assert float(parts["together"]) >= float(parts["kernel"]) > 0, line


def test_what_cannot_heal_restarts_after_panic_seconds_and_what_can_is_tried_again(
        boot, network, tmp_path):
    guest = boot("root= panic=2")
    guest.wait_log("next: restart in 2 s (panic=)", 20)
    lab.wait_until(lambda: guest.log().count("Linux version") > 1, 20, "the restart")
    power_cut(guest)
    server = lab.Server(network, {"root": lab.make_image(tmp_path / "empty.img", "16M")})
    server.start()
    try:
        guest = boot(f"root={URI} {STATIC} panic=2")
        guest.wait_log("next: the step is tried again every 30 s", 20)
        time.sleep(4)
        assert guest.log().count("Linux version") == 1
    finally:
        server.close()


ADDR_NO_RANDOMIZE = 0x0040000


@pytest.fixture
def same_addresses():
    """What a guest's kernel needs for itself depends on where the host's puts its heap."""
    libc = ctypes.CDLL(None)
    before = libc.personality(0xFFFFFFFF)
    libc.personality(before | ADDR_NO_RANDOMIZE)
    yield
    libc.personality(before)


def test_last_words_tell_of_memory_that_is_too_little(network, initrd, same_addresses):
    for memory, is_short in (("52M", True), ("192M", False)):
        guest = lab.Guest(network, memory=memory, initrd=initrd, append="root=")
        try:
            guest.wait_log("next:", 30)
            assert ("| mem:  the machine has" in guest.log()) == is_short
        finally:
            guest.close()


def test_quiet_shows_errors_and_keeps_the_rest_in_the_log(boot, images_server):
    guest = boot(f"root={URI} {STATIC} quiet")
    guest.wait_ready()
    assert "nbdroot: network" not in guest.log()
    assert "nbdroot: network: vec0 has address" in guest.run("dmesg")

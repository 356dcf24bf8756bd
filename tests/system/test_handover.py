# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the new root is told, in /run and by nothing in the root itself: who the machine is, its name
servers, its time servers. Small roots for each case, and a whole Debian for what systemd makes of it.
NBDROOT_LONG: its way down with the NFS server dead, which takes a minute.
"""
import os
import re

import lab
import nfs
import pytest
import roots

LONG = bool(os.environ.get("NBDROOT_LONG"))
OWN = "0123456789abcdef0123456789abcdef\n"
SERVER = lab.SERVER_IP


@pytest.fixture(scope="session")
def initrd(tmp_path_factory):
    return nfs.make_initrd(tmp_path_factory.mktemp("init"))


@pytest.fixture
def tree(tree):
    (tree / "etc").mkdir()
    return tree


@pytest.fixture
def boot_tree(boot, network):
    """A machine on an NFS root, so that what becomes of the root can be looked at."""
    servers = []

    def start(tree, append=f"rw {roots.IP}:{SERVER}"):
        servers.append(nfs.Server(network, [nfs.Export(tree)]))
        servers[-1].start()
        guest = boot(f"root=nfs:{SERVER}:{tree} {append}")
        guest.wait_ready()
        return guest

    yield start
    for server in servers:
        server.close()


def contents(tree):
    """All of it, and when it was last changed."""
    return {(str(p.relative_to(tree)), p.lstat().st_mtime_ns, p.lstat().st_ctime_ns, p.lstat().st_size)
            for p in tree.rglob("*")}


def derived(guest):
    return re.search(r"nbdroot: machine id: ([0-9a-f]{32})\n", guest.log()).group(1)


@pytest.mark.parametrize("text", ["", "uninitialized\n"])
def test_machine_id_is_derived_where_the_root_has_none(boot_tree, tree, text):
    (tree / "etc/machine-id").write_text(text)
    before = contents(tree)
    guest = boot_tree(tree)
    got = guest.run("cat /etc/machine-id")
    assert re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}\n", got)
    assert got == derived(guest) + "\n" == guest.run("cat /run/machine-id")
    assert guest.run("grep -c ' /etc/machine-id tmpfs ro,' /proc/mounts") == "1\n"
    assert contents(tree) == before, "something was written to the root"


def test_machine_id_of_the_root_counts(boot_tree, tree):
    (tree / "etc/machine-id").write_text(OWN)
    guest = boot_tree(tree)
    assert guest.run("cat /etc/machine-id") == OWN
    assert "machine id:" not in guest.log() and " /etc/machine-id " not in guest.run("cat /proc/mounts")


def test_machine_id_is_the_same_at_every_boot(boot, boot_tree, tree):
    (tree / "etc/machine-id").write_text("")
    guest = boot_tree(tree)
    first = guest.run("cat /etc/machine-id")
    guest.start("/run/initramfs/shutdown poweroff")
    roots.wait_end(guest, 60)
    guest = boot(f"root=nfs:{SERVER}:{tree} {roots.IP}")
    guest.wait_ready()
    assert guest.run("cat /etc/machine-id") == first


def test_machine_id_is_the_same_by_whichever_card_it_boots(boot, boot_tree, network, tree):
    (tree / "etc/machine-id").write_text("")
    network.run("ip", "tuntap", "add", "tap1", "mode", "tap")
    network.run("ip", "addr", "add", "10.78.0.1/24", "dev", "tap1")
    network.run("ip", "link", "set", "tap1", "up")
    second = "vec1:transport=tap,ifname=tap1,depth=128,gro=1,mac=02:00:00:00:00:05"
    ids = []
    for ip in (roots.IP, "ip=10.78.0.2::10.78.0.1:24:pc-17:vec1:none",
               "ip=10.78.0.2::10.78.0.1:24:pc-17:vec1:none::02:00:00:00:00:01"):
        if not ids:
            guest = boot_tree(tree, f"{ip} {second}")
        else:
            guest = boot(f"root=nfs:{SERVER}:{tree} {ip} {second}")
            guest.wait_ready()
        ids.append(guest.run("cat /etc/machine-id"))
        guest.start("/run/initramfs/shutdown poweroff")
        roots.wait_end(guest, 60)
    assert len(set(ids)) == 1, ids


def test_empty_resolv_conf_gets_the_name_servers_also_those_of_a_later_lease(boot_tree, tree):
    (tree / "etc/resolv.conf").write_text("")
    before = contents(tree)
    guest = boot_tree(tree)
    assert guest.run("cat /etc/resolv.conf") == f"nameserver {SERVER}\n"
    guest.run(f"export interface=vec0 ip={lab.GUEST_IP} mask=24 dns='192.0.2.53 192.0.2.54' "
              "domain=example.net; chroot /run/initramfs /bin/sh /etc/udhcpc.script renew")
    assert guest.run("cat /etc/resolv.conf") == ("search example.net\nnameserver 192.0.2.53\n"
                                                "nameserver 192.0.2.54\n")
    assert contents(tree) == before, "something was written to the root"


def test_resolv_conf_that_leads_to_run_is_there_and_a_written_one_is_left_alone(boot_tree, tree):
    (tree / "etc/resolv.conf").symlink_to("../run/resolvconf/resolv.conf")
    guest = boot_tree(tree)
    assert guest.run("cat /etc/resolv.conf") == f"nameserver {SERVER}\n"


def test_written_resolv_conf_is_left_alone(boot_tree, tree):
    (tree / "etc/resolv.conf").write_text("nameserver 192.0.2.1\n")
    guest = boot_tree(tree)
    assert guest.run("cat /etc/resolv.conf") == "nameserver 192.0.2.1\n"
    assert " /etc/resolv.conf " not in guest.run("cat /proc/mounts")


def test_time_and_name_servers_of_the_lease_are_where_their_programs_look(boot_tree, tree, udhcpd):
    udhcpd("option ntpsrv 192.0.2.123 192.0.2.124", "option dns 192.0.2.53", "option domain example.net",
           "option hostname pc-17")
    before = contents(tree)
    guest = boot_tree(tree, "rw ip=dhcp")
    assert "[Time]\nNTP= 192.0.2.123 192.0.2.124\n" in guest.run(
        "cat /run/systemd/timesyncd.conf.d/00-nbdroot.conf")
    assert "server 192.0.2.123 iburst\nserver 192.0.2.124 iburst\n" in guest.run(
        "cat /run/chrony-dhcp/nbdroot.sources")
    assert "[Resolve]\nDNS= 192.0.2.53\nDomains= example.net\n" in guest.run(
        "cat /run/systemd/resolved.conf.d/00-nbdroot.conf")
    assert guest.run("hostname") == "pc-17\n"
    assert "/etc/resolv.conf: the root has none" in guest.log()
    assert contents(tree) == before, "something was written to the root"


# ---- a whole system --------------------------------------------------------------------------


@pytest.fixture
def debian(network, initrd, tmp_path):
    """A Debian with systemd on an NFS root: debian(how, append) is the guest, and its server."""
    made = []

    def start(prepare, append):
        tree = roots.make_tree(tmp_path)
        prepare(tree)
        server = nfs.Server(network, [nfs.Export(tree)])
        server.start()
        guest = lab.Guest(network, memory="384M", initrd=initrd,
                          append=f"root=nfs:{SERVER}:{tree} rw {append}")
        made.extend([guest, server])
        guest.wait_ready(240)
        return guest, server, tree

    yield start
    for each in made:
        each.close()


def test_systemd_takes_what_it_is_given(debian, udhcpd):
    udhcpd("option ntpsrv 192.0.2.123", "option dns 192.0.2.53", "option hostname pc-17")

    def prepare(tree):
        (tree / "etc/hostname").write_text("")
        (tree / "etc/resolv.conf").write_text("")

    guest, _, tree = debian(prepare, "ip=dhcp")
    assert guest.run("systemd-id128 machine-id") == derived(guest) + "\n"
    assert guest.run("hostname") == "pc-17\n"
    assert "nameserver 192.0.2.53" in guest.run("cat /etc/resolv.conf")
    assert "NTP= 192.0.2.123" in guest.run("systemd-analyze cat-config systemd/timesyncd.conf")
    assert "0 loaded units listed" in guest.run("systemctl --failed")
    guest.start("systemctl poweroff")
    how, after = roots.wait_end(guest, 60)
    print(f"NFS root, server alive: {how} after {after:.1f} s")
    assert how == "off" and "shutdown: poweroff, everything is written" in guest.log()
    assert (tree / "etc/machine-id").read_text() == ""


def test_systemd_without_a_file_is_told_its_id(debian):
    guest, _, _ = debian(lambda tree: (tree / "etc/machine-id").unlink(), roots.IP)
    assert guest.run("systemd-id128 machine-id") == derived(guest) + "\n"


if LONG:
    def test_way_out_of_the_initramfs_ends_a_machine_whose_nfs_server_is_dead(debian):
        """Nothing of the root is needed by who stands in /run/initramfs already."""
        guest, server, tree = debian(lambda tree: None, roots.IP)
        guest.start("cd /run/initramfs && exec ./bin/busybox sh -c 'echo >started; "
                    "./bin/busybox sleep 8; exec ./shutdown poweroff'")
        guest.run("until [ -e /run/initramfs/started ]; do sleep 0.1; done")
        guest.start("i=0; while :; do i=$((i+1)); echo $i >/root/f$((i % 100)); done")
        lab.wait_until(lambda: (tree / "root/f99").exists(), 30, "the writer")
        server.kill()
        how, after = roots.wait_end(guest, 90)
        print(f"NFS root, server dead: {how} after {after:.1f} s")
        assert how == "off"
        assert "writing takes long: a server is slow or away" in guest.log()
        assert "not everything could be written" in guest.log() or "is lost" in guest.log()

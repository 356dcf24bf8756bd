# SPDX-License-Identifier: GPL-2.0-or-later
"""
Roots on NFS: our initramfs in User-Mode Linux mounts them from a real NFS server, whatever the server
is like, and says in words what it waits for.
"""
import contextlib
import os
import subprocess

import dhcp
import lab
import nfs
import pytest
import roots

LONG = bool(os.environ.get("NBDROOT_LONG"))

IP = f"ip={lab.GUEST_IP}::{lab.SERVER_IP}:255.255.255.0:pc-17:vec0:none"
SERVER = lab.SERVER_IP


@pytest.fixture(scope="session")
def initrd(tmp_path_factory):
    return nfs.make_initrd(tmp_path_factory.mktemp("init"))


@pytest.fixture
def serve(network):
    servers = []

    def start(*exports, **options):
        servers.append(nfs.Server(network, list(exports), **options))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def framed(guest):
    """Of the last words, as one line."""
    return " ".join(line.split("nbdroot: |", 1)[1].strip() for line in guest.log().splitlines()
                    if "nbdroot: |" in line)


def wait_last_words(guest, *words):
    guest.wait_log("this machine cannot boot", 60)
    lab.wait_until(lambda: "next:" in guest.log(), 5, "the last words' end")
    for word in words:
        assert word in framed(guest), framed(guest)


def root_mount(guest):
    return next(line for line in guest.run("cat /proc/mounts").splitlines() if " / nfs" in line)


@pytest.mark.parametrize("append, version", [
    ("root=nfs:{server}:{path}", "4.2"),
    ("root=nfs:{server}:{path}:vers=3", "3"),
    ("root=nfs4:{server}:{path}", "4.2"),
    ("root=/dev/nfs nfsroot={server}:{path},vers=4.0", "4.0"),
    ("root=nfs:{server}:{path}:vers=4.1,noatime", "4.1"),
])
def test_root_is_mounted_by_each_form_and_version(boot, serve, tree, append, version):
    serve(nfs.Export(tree))
    guest = boot(append.format(server=SERVER, path=tree) + f" rw {IP}")
    guest.wait_ready()
    mount = root_mount(guest)
    assert mount.startswith(f"{SERVER}:{tree} / nfs") and f"vers={version}," in mount
    assert " rw," in mount and ",hard," in mount and "proto=tcp," in mount
    assert ("nolock" in mount) == (version == "3")
    guest.run("echo hello >/from-guest; sync")
    assert (tree / "from-guest").read_text() == "hello\n"
    assert f"root: {SERVER}:{tree} (NFS version {version}, read-write)" in guest.log()


def test_server_of_version_3_alone_gets_version_3(boot, serve, tree):
    serve(nfs.Export(tree), versions="3")
    guest = boot(f"root=nfs:{SERVER}:{tree} {IP}")
    guest.wait_ready()
    assert "vers=3," in root_mount(guest) and " ro," in root_mount(guest)


def test_server_without_minor_versions_gets_version_4_0(boot, serve, tree):
    serve(nfs.Export(tree, versions="4"), versions="4", minors="0")
    guest = boot(f"root=nfs:{SERVER}:{tree} {IP}")
    guest.wait_ready()
    assert "vers=4.0," in root_mount(guest)


def test_path_that_only_version_3_knows_is_found(boot, serve, tree):
    """As on a server whose exports lie below an fsid=0: to version 4 they have other paths."""
    serve(nfs.Export(tree, pseudo="/other"))
    guest = boot(f"root=nfs:{SERVER}:{tree} {IP}")
    guest.wait_ready()
    assert "vers=3," in root_mount(guest)


def test_placeholders_and_the_kernels_mark_stand_in_paths(boot, serve, tree):
    serve(nfs.Export(tree, pseudo=f"/srv/pc-17/{lab.GUEST_IP}"))
    guest = boot(f"root=/dev/nfs nfsroot={SERVER}:/srv/%s/{{ip}} {IP}")
    guest.wait_ready()
    assert f"{SERVER}:/srv/pc-17/{lab.GUEST_IP} / nfs4" in root_mount(guest)
    # its host name is not enough to tell a client of version 4 from others
    assert guest.run("cat /sys/module/nfs/parameters/nfs4_unique_id") == f"nbdroot-{lab.GUEST_MAC}\n"


def test_missing_path_is_named_and_tried_again(boot, serve, tree):
    server = serve(nfs.Export(tree, pseudo="/there", versions="4"), versions="4")
    guest = boot(f"root=nfs:{SERVER}:/here {IP} panic=0")
    wait_last_words(guest, f"{SERVER}:/here", "version 4.2: No such file or directory", "exported",
                    "tried again every 30 s")
    server.kill()
    server.exports = [nfs.Export(tree, pseudo="/here", versions="4")]
    server.start()
    guest.wait_ready(60)


@pytest.mark.parametrize("version", ["4.2", "3"])
def test_refused_client_is_told_what_to_do(boot, serve, tree, version):
    serve(nfs.Export(tree, clients="192.0.2.1"))
    guest = boot(f"root=nfs:{SERVER}:{tree}:vers={version} {IP}")
    wait_last_words(guest, f"{SERVER}:{tree}", lab.GUEST_IP, "/etc/exports", "[mount]",
                    f"version {version}: ")


def test_bad_options_get_the_kernels_refusal_in_words(boot, serve, tree):
    serve(nfs.Export(tree))
    guest = boot(f"root=nfs:{SERVER}:{tree}:nonsense {IP}")
    wait_last_words(guest, "nfs(5)", "Invalid argument", "restart in 0 s")


def test_root_without_a_directory_that_is_needed_is_looked_at_again(boot, serve, tree):
    (tree / "sys").rmdir()
    serve(nfs.Export(tree))
    guest = boot(f"root=nfs:{SERVER}:{tree} {IP} panic=2")
    wait_last_words(guest, "[mount]", "/sys: not a directory in the root", "tried again every 30 s")
    (tree / "sys").mkdir()
    guest.wait_ready(60)
    assert guest.log().count("Linux version") == 1


def test_server_that_comes_late_is_waited_for_in_words(boot, serve, network, tree):
    guest = boot(f"root=nfs:{SERVER}:{tree} {IP}")
    guest.wait_log(f"root: waiting for the NFS server {SERVER}, refused, 3 s", 40)
    serve(nfs.Export(tree))
    guest.wait_ready()
    assert "this machine cannot boot" not in guest.log()


def test_server_that_says_nothing_is_waited_for_in_words(boot, serve, network, tree):
    """It accepts connections and answers nothing, so that mount(2) hangs; then a real one comes."""
    code = ("import socket\ns = socket.create_server(('', 2049))\nkept = []\n"
            "while True: kept.append(s.accept())")
    silent = subprocess.Popen(network.inside("/usr/bin/python3", "-c", code))
    try:
        guest = boot(f"root=nfs:{SERVER}:{tree} {IP}")
        guest.wait_log(f"root: waiting for the NFS server {SERVER}, asked to mount, 3 s", 40)
    finally:
        lab.end(silent)
    serve(nfs.Export(tree))
    guest.wait_ready(120)


@contextlib.contextmanager
def name_server(network, name, address, address_v6=None):
    """A DNS server that knows one name."""
    code = """if True:
        import socket, sys
        name = b"".join(bytes([len(p)]) + p.encode() for p in sys.argv[1].split(".")) + b"\\0"
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((sys.argv[3], 53))
        while True:
            q, who = s.recvfrom(512)
            end = q.index(b"\\0", 12) + 5
            is_it = q[12:end - 4] == name
            kind, answer = q[end - 4:end - 2], b""
            if is_it and kind == b"\\0\\1":
                answer = b"\\0\\4" + socket.inet_aton(sys.argv[2])
            if is_it and kind == b"\\0\\x1c" and sys.argv[4]:
                answer = b"\\0\\x10" + socket.inet_pton(socket.AF_INET6, sys.argv[4])
            if answer:
                answer = b"\\xc0\\x0c" + kind + b"\\0\\1\\0\\0\\0\\x3c" + answer
            s.sendto(q[:2] + (b"\\x81\\x80" if is_it else b"\\x81\\x83") + b"\\0\\1"
                     + (b"\\0\\1" if answer else b"\\0\\0") + b"\\0\\0\\0\\0" + q[12:end] + answer, who)
    """
    process = subprocess.Popen(network.inside("/usr/bin/python3", "-c", code, name, address,
                                              lab.SERVER_IP, address_v6 or ""))
    try:
        yield
    finally:
        lab.end(process)


def test_server_is_found_by_its_name(boot, serve, network, tree):
    serve(nfs.Export(tree))
    with name_server(network, "filer.example.net", SERVER):
        guest = boot(f"root=nfs:filer.example.net:{tree} {IP}:{SERVER}")
        guest.wait_ready()
    assert root_mount(guest).startswith(f"filer.example.net:{tree} / nfs4")
    assert f"addr={SERVER}" in root_mount(guest)


def test_name_that_nobody_knows_is_waited_for_in_words(boot, network):
    with name_server(network, "filer.example.net", SERVER):
        guest = boot(f"root=nfs:filter.example.net:/x {IP}:{SERVER}")
        guest.wait_log("root: waiting for the NFS server filter.example.net, no name server knows "
                       "this name", 60)


# ---- IPv6 ------------------------------------------------------------------------------------

SERVER_V6 = "2001:db8:77::1"
ROUTER = """if True:
    import contextlib, socket, struct, time
    s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xc0, 86400, 14400, 0) + socket.inet_pton(
        socket.AF_INET6, "2001:db8:77::")
    while True:
        with contextlib.suppress(OSError): # until the card has its own address
            s.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix,
                     ("ff02::1", 0, 0, socket.if_nametoindex("tap0")))
        time.sleep(0.5)
"""


@pytest.fixture
def boot_ipv6(network, tmp_path_factory):
    """With a router that gives addresses; UML's IPv6 is a module, which a file of ours has loaded."""
    initrd = nfs.make_initrd(tmp_path_factory.mktemp("ipv6"), "nfsv3,nfsv4,ipv6")
    lab.add_to_initrd(initrd, initrd, [
        ("etc/modprobe.d", 0o040755), ("etc/modprobe.d/ipv6.conf", 0o100644, b"softdep nfs pre: ipv6\n")])
    network.run("ip", "addr", "add", f"{SERVER_V6}/64", "dev", "tap0", "nodad")
    router = subprocess.Popen(network.inside("/usr/bin/python3", "-c", ROUTER))
    with lab.booting(network, initrd) as start:
        yield start
    lab.end(router)


@pytest.mark.parametrize("version", ["4.2", "3"])
def test_server_with_an_ipv6_address_is_mounted_by_it(boot_ipv6, serve, tree, version):
    serve(nfs.Export(tree))
    guest = boot_ipv6(f"root=nfs:[{SERVER_V6}]:{tree}:vers={version} {IP}")
    guest.wait_ready(60)
    mount = root_mount(guest)
    assert f"vers={version}," in mount and "proto=tcp6," in mount and f"addr={SERVER_V6}" in mount


def test_address_that_is_refused_is_not_the_last_of_a_name(boot_ipv6, serve, network, tree):
    with name_server(network, "filer.example.net", SERVER, SERVER_V6):
        guest = boot_ipv6(f"root=nfs:filer.example.net:{tree}:vers=3 {IP}:{SERVER}")
        guest.wait_log(f"waiting for the NFS server {SERVER_V6}, refused", 60) # it comes first
        serve(nfs.Export(tree, clients=lab.GUEST_IP))
        guest.wait_ready(60)
    assert f"addr={SERVER}," in root_mount(guest) + ","
    assert "this machine cannot boot" not in guest.log()


# ---- root=dhcp -------------------------------------------------------------------------------


@pytest.mark.parametrize("root, siaddr, root_path", [
    ("dhcp", False, "{server}:{path}"),
    ("dhcp", True, "{path}:vers=3"),
    ("dhcp", False, "nfs4:{server}:/pseudo/{{hostname}}"),
    ("nfs", False, "{server}:{path}"),
    ("/dev/nfs", True, None),
])
def test_nfs_root_by_dhcp(boot, serve, udhcpd, tree, root, siaddr, root_path):
    pseudo = tree if root_path else "/tftpboot/pc-17"
    if root_path and "pseudo" in root_path:
        pseudo = "/pseudo/pc-17"
    serve(nfs.Export(tree, pseudo=pseudo))
    udhcpd("option hostname pc-17", f"siaddr {SERVER}" if siaddr else "siaddr 0.0.0.0",
           *([f"option rootpath {root_path.format(server=SERVER, path=tree)}"] if root_path else []))
    guest = boot(f"root={root}")
    guest.wait_ready()
    assert " / nfs" in root_mount(guest)
    assert ("vers=3," in root_mount(guest)) == ("vers=3" in (root_path or ""))
    if root_path is None:
        assert "nobody names the NFS server (taking 10.77.0.1, the DHCP server's next-server)" in guest.log()


@pytest.mark.parametrize("root_path", ["nbd:{server}:root:ext3:noatime", "{server}:10809/root",
                                       "nbd://{server}/root"])
def test_nbd_root_by_dhcp(boot, images_server, udhcpd, root_path):
    udhcpd("option rootpath " + root_path.format(server=SERVER))
    guest = boot("root=dhcp rw")
    guest.wait_ready()
    assert "/dev/nbd0 / ext" in guest.run("cat /proc/mounts")
    assert ("noatime" in guest.run("grep ' / ' /proc/mounts")) == ("noatime" in root_path)


@pytest.mark.parametrize("wrong, words", [
    (f"{SERVER}:/nowhere", "this machine cannot boot"),
    (f"{SERVER}:/nowhere,nonsense", "Invalid argument"),
    (f"{SERVER}:/nowhere,vers=7", "a version of NFS"),
    ("10.77.0.9:/nowhere", "waiting for the NFS server 10.77.0.9"),
])
def test_nfs_root_that_is_corrected_on_the_dhcp_server_is_mounted_without_a_restart(
        boot, network, serve, tree, wrong, words):
    serve(nfs.Export(tree))
    server = dhcp.Server(network, "tap0", lab.GUEST_IP, SERVER, options={17: wrong.encode()})
    try:
        guest = boot("root=dhcp panic=1")
        guest.wait_log(words, 60)
        lab.wait_until(lambda: len(server.of_type(dhcp.REQUEST)) == 2, 15, "udhcpc to take over")
        server.close()
        server = dhcp.Server(network, "tap0", lab.GUEST_IP, SERVER,
                             options={17: f"{SERVER}:{tree}".encode()})
        guest.wait_ready(60)
        assert " / nfs" in root_mount(guest)
        assert guest.log().count("Linux version") == 1, "it has restarted"
    finally:
        server.close()


@pytest.mark.parametrize("root_path, words", [
    (None, "gives no root path (option 17)"),
    ("iscsi:192.0.2.1::::iqn.2001-04.com.example", "not a root that this initramfs knows"),
])
def test_dhcp_without_a_usable_root_path_gets_last_words(boot, network, udhcpd, root_path, words):
    udhcpd(*([f"option rootpath {root_path}"] if root_path else []))
    guest = boot("root=dhcp")
    wait_last_words(guest, words, "[attach]", "DHCP server's option 17")

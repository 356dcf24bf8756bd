# SPDX-License-Identifier: GPL-2.0-or-later
"""
`nbdroot netboot`: the tree that it writes, what it does not touch, and that other programs read its
files. That machines boot from it is tested in tests/boot.
"""
import fcntl
import json
import os
import random
import re
import shutil
import struct
import subprocess
import time

import lab
import pytest

CONFIG = """
[netboot]
server = 10.0.0.1
range = 10.0.0.100,10.0.0.200
{server}
[entry room]
kernel = {folder}/vmlinuz
initramfs = {folder}/nbdroot.img
root = nbd://10.0.0.1/root-{{mac}}
rpmdb = nbd://10.0.0.1/{{mac}}/rpm
append = quiet panic=30
{more}
"""
PROGRAMS = ("pxelinux", "ldlinux", "shim", "grub", "grub-ia32", "ipxe-bios", "ipxe-uefi")
CLIENT = "[client 52:54:00:12:34:57]\nname = pc17\naddress = 10.0.0.17\nappend = debug\n"


def kernel(version, filler=b"", size=4096):
    """What looks like a kernel for x86: its header, and its version in it."""
    data = bytearray(size)
    data[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", data, 0x20e, 0x400)
    text = f"{version} (someone@somewhere) #1 SMP".encode()
    data[0x600:0x600 + len(text)] = text
    return bytes(data) + filler


class Room:
    """A configuration with its files, and the tree that comes of it. Boot programs are made up."""

    def __init__(self, folder):
        self.folder = folder
        self.out = folder / "out"
        self.tftp = self.out / "tftp"
        self.config = folder / "netboot.conf"
        (folder / "vmlinuz").write_bytes(kernel("6.1.0-1-amd64"))
        (folder / "nbdroot.img").write_bytes(b"070701" + b"an archive")
        for name in PROGRAMS:
            (folder / name).write_text(f"the program {name}\n")
        self.programs = "".join(f"{name} = {folder}/{name}\n" for name in PROGRAMS)
        self.write()

    def write(self, server="", more="", programs=None):
        programs = self.programs if programs is None else programs
        self.config.write_text(CONFIG.format(folder=self.folder, server=programs + server, more=more))

    def argv(self, *more):
        return [lab.NBDROOT, "netboot", "--config", self.config, "-o", self.out, *more]

    def run(self, *more, status=0, **kwargs):
        done = subprocess.run(self.argv(*more), capture_output=True, text=True, check=False,
                              timeout=60, **kwargs)
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        if status != 0:
            assert done.stderr.count("\n") >= 1
        return done

    def files(self):
        return {str(p.relative_to(self.out)): p.read_bytes()
                for p in self.out.rglob("*") if p.is_file() and not p.name.startswith(".")}


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path)


def test_a_first_run_writes_the_whole_tree(room):
    room.write(server="http = yes\n", more=CLIENT)
    done = room.run()
    names = set(room.files())
    images = {n for n in names if n.startswith("tftp/boot/")}
    assert names - images == {
        "tftp/pxelinux.0", "tftp/ldlinux.c32", "tftp/shimx64.efi", "tftp/grubx64.efi",
        "tftp/grubia32.efi", "tftp/snponly.efi", "tftp/boot.ipxe", "tftp/grub/grub.cfg",
        "tftp/pxelinux.cfg/default", "tftp/pxelinux.cfg/01-52-54-00-12-34-57", "dnsmasq.conf",
        "dnsmasq-boot.conf", "dhcpd.conf.txt", "kea.json.txt"}
    assert len(images) == 2
    assert any(re.fullmatch(r"tftp/boot/vmlinuz-6\.1\.0-1-amd64\.[0-9a-f]{8}", n) for n in images)
    assert f"{len(names)} files written, 0 as they were, 0 removed" in done.stdout
    assert "BIOS (pxelinux.0), UEFI (shimx64.efi)" in done.stdout
    for path in room.out.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_everybody_may_read_the_tree_whatever_the_umask(room):
    (room.folder / "vmlinuz").chmod(0o600)
    room.run(preexec_fn=lambda: os.umask(0o077))
    for path in room.out.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_a_second_run_changes_nothing(room):
    room.write(more=CLIENT)
    room.run()
    before = {p: p.stat().st_ino for p in room.tftp.rglob("*")}
    done = room.run()
    assert " 0 files written" in done.stdout and "restart it" not in done.stdout
    assert {p: p.stat().st_ino for p in room.tftp.rglob("*")} == before
    assert "as " in room.run("--check").stdout


def menu_files(room):
    """What the menus name; every one of them must be there, and nothing else."""
    texts = [p.read_text() for p in room.tftp.rglob("pxelinux.cfg/*")]
    texts.append((room.tftp / "grub/grub.cfg").read_text())
    return {name for text in texts for name in re.findall(r"boot/[^\s',]+", text)}


def test_a_new_kernel_has_a_new_name_and_the_old_one_stays_for_a_while(room):
    room.run()
    old = menu_files(room)
    (room.folder / "vmlinuz").write_bytes(kernel("6.1.0-1-amd64", b"another build"))
    assert "is out of date" in room.run("--check", status=1).stdout
    done = room.run()
    new = menu_files(room)
    assert len(old & new) == 1 and len(new - old) == 1  # the archive; the kernel
    assert "1 to be removed by the first run in an hour" in done.stdout
    for name in old | new:
        assert (room.tftp / name).exists(), name
    room.run("--check")
    age_list(room)
    assert "1 removed" in room.run().stdout
    assert {f"boot/{p.name}" for p in (room.tftp / "boot").iterdir()} == new


def age_list(room):
    """As if the last run had been an hour ago."""
    path = room.out / ".nbdroot-netboot"
    lines = path.read_text().splitlines(keepends=True)
    aged = [re.sub(r"^(\d+)", lambda m: str(max(0, int(m[0]) - 3600)), line) for line in lines[1:]]
    path.write_text(lines[0] + "".join(aged))


def test_what_is_no_longer_wanted_is_removed(room):
    room.write(more=CLIENT)
    room.run()
    room.write(server="uefi = none\n")
    assert "is not needed any more" in room.run("--check", status=1).stdout
    room.run()
    # a menu would still be read; a program may be named in an answer of DHCP that is out
    assert not (room.tftp / "pxelinux.cfg/01-52-54-00-12-34-57").exists()
    assert (room.tftp / "shimx64.efi").exists()
    age_list(room)
    room.run()
    assert not (room.tftp / "shimx64.efi").exists()
    assert not (room.tftp / "grub").exists()
    assert (room.tftp / "pxelinux.0").exists()


def test_files_of_others_stay(room):
    room.run()
    for name in ("tftp/theirs", "tftp/pxelinux.cfg/01-52-54-00-00-00-01", "tftp/boot/theirs", "theirs"):
        (room.out / name).write_text("theirs\n")
    room.write(server="uefi = none\n")
    room.run()
    age_list(room)
    room.run()
    assert sum(data == b"theirs\n" for data in room.files().values()) == 4


def test_a_file_of_others_in_the_way_is_not_replaced_unless_forced(room):
    (room.tftp / "pxelinux.cfg").mkdir(parents=True)
    theirs = room.tftp / "pxelinux.cfg/default"
    theirs.write_text("theirs\n")
    done = room.run(status=1)
    assert f"{theirs}: was not written by nbdroot netboot" in done.stderr
    assert room.files() == {"tftp/pxelinux.cfg/default": b"theirs\n"}  # nothing half done
    room.run("--force")
    assert theirs.read_text().startswith("# Written by nbdroot")
    room.run()


def test_what_somebody_changed_is_neither_replaced_nor_removed(room):
    room.write(more=CLIENT)
    room.run()
    default, own = (room.tftp / "pxelinux.cfg" / n for n in ("default", "01-52-54-00-12-34-57"))
    text = default.read_text()
    default.write_text(text + "# mine\n")
    own.write_text(own.read_text() + "# mine\n")
    assert "was changed since" in room.run("--check", status=1).stdout
    room.run(status=1)
    assert default.read_text().endswith("# mine\n")
    default.write_text(text)
    room.write()
    room.run()
    assert own.read_text().endswith("# mine\n")


@pytest.mark.parametrize("what", ["link", "folder", "fifo", "file for a folder"])
def test_what_is_no_regular_file_is_not_replaced_by_force_either(room, what):
    target, path = room.folder / "target", room.tftp / "grub/grub.cfg"
    target.write_text("mine\n")
    path.parent.mkdir(parents=True)
    if what == "link":
        path.symlink_to(target)
    elif what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.parent.rmdir()
        path.parent.write_text("theirs\n")
    before = sorted(room.out.rglob("*"))
    for force in ([], ["--force"]):
        done = room.run(*force, status=1)
        assert f"{path}: is not a regular file" in done.stderr and "remove it first" in done.stderr
        assert sorted(room.out.rglob("*")) == before  # nothing half done
    assert "is not a regular file" in room.run("--check", status=1).stdout
    assert target.read_text() == "mine\n"


def test_a_list_that_leads_elsewhere_is_refused(room):
    victim = room.folder / "victim"
    victim.write_text("mine\n")
    room.run()
    path = room.out / ".nbdroot-netboot"
    text = path.read_text()
    for name in ("../victim", str(victim), "tftp/../../victim"):
        path.write_text(text + f"1 00000000 5 {name}\n")
        assert "is not a list that nbdroot netboot wrote" in room.run(status=1).stderr
    assert victim.exists()


def test_at_every_moment_the_menus_name_files_that_are_there(room):
    """Killed anywhere, by SIGKILL: what is there fits together, and the next run mends the rest."""
    random.seed(os.environ.get("NBDROOT_SEED", "5"))
    contents = [kernel(f"6.1.{i}", bytes([i]) * 3_000_000) for i in range(4)]
    began = time.monotonic()
    room.run()
    whole = time.monotonic() - began
    for number in range(20):
        (room.folder / "vmlinuz").write_bytes(contents[number % 4])
        (room.folder / "nbdroot.img").write_bytes(b"070701" + bytes([number]) * 2_000_000)
        process = subprocess.Popen(room.argv(), stdout=subprocess.DEVNULL)
        try:
            process.wait(random.uniform(0, whole))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for name in menu_files(room):
            data = (room.tftp / name).read_bytes()
            assert data in contents or data[:6] == b"070701" and len(set(data[6:])) == 1 \
                or len(data) < 5000, name
    room.run()
    room.run("--check")


def test_two_at_once_do_not_mix(room):
    room.run()
    folder = os.open(room.out, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        assert "another nbdroot netboot is writing there" in room.run(status=1).stderr
    finally:
        os.close(folder)
    room.run()


@pytest.mark.parametrize("change, words", [
    ("vmlinuz", "not a Linux kernel for x86"),
    ("nbdroot.img", "not an initramfs"),
])
def test_a_file_that_is_not_what_it_should_be_is_refused(room, change, words):
    (room.folder / change).write_bytes(b"#!/bin/sh\n" * 200)
    done = room.run(status=1)
    assert words in done.stderr and f"{room.config}:" in done.stderr and str(room.folder / change) in done.stderr
    assert not room.out.exists()
    (room.folder / change).write_bytes(b"")
    room.run(status=1)
    (room.folder / change).unlink()
    assert "No such file" in room.run(status=1).stderr


def test_a_missing_program_is_named_with_its_package(room):
    (room.folder / "shim").unlink()
    done = room.run(status=1)
    assert "shim = " in done.stderr and "there is no such file" in done.stderr
    room.write(programs="")
    # where Debian has them, hidden from this process alone
    hide = ["unshare", "-rm", "sh", "-c",
            "for d in /usr/lib/shim /usr/lib/grub; do [ ! -d $d ] || mount -t tmpfs none $d; done; "
            "exec \"$@\"", "sh"]
    done = subprocess.run([*hide, *room.argv()], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "package grub-efi-amd64-signed" in done.stderr and "uefi = none" in done.stderr
    assert not room.out.exists()


def test_a_command_line_that_the_kernel_would_cut_is_refused(room):
    room.write(more="[client 52:54:00:12:34:57]\nappend = " + "a" * 1700 + "\n")
    room.run()
    room.write(more="[client 52:54:00:12:34:57]\nappend = " + "a" * 2000 + "\n")
    assert "the kernel takes 2047" in room.run(status=1).stderr


@pytest.mark.parametrize("change, key", [
    ({}, None),
    ({"root-{mac}": "root"}, "root"),
    ({"root-{mac}": "root", "quiet": "nbdroot.overlay=tmpfs"}, None),
    ({"root-{mac}": "root", "quiet": "nbdroot.overlay=tmpfs", "{mac}/rpm": "rpm"}, "rpmdb"),
    ({"root = nbd://10.0.0.1/root-{mac}": "root = dhcp\nroot-path = nbd://10.0.0.1/b"}, "root-path"),
    ({"root = nbd://10.0.0.1/root-{mac}": "root = dhcp\nroot-path = 10.0.0.1:/srv/b"}, None),
    ({"root-{mac}": "root", "range =": "default = none\nrange ="}, None),
])
def test_one_image_for_many_machines_is_warned_of(room, change, key):
    text = room.config.read_text()
    for old, new in change.items():
        assert old in text
        text = text.replace(old, new)
    room.config.write_text(text)
    warned = room.run().stderr
    assert warned.count("\n") == warned.count("the second one waits for the first") == bool(key), warned
    assert not key or f"] {key} = nbd://" in warned


@pytest.mark.parametrize("clients, is_warned", [
    ((), False), (("one",), False), (("one", "one"), True), (("one", "two"), False),
    (("one", "one\nappend = nbdroot.overlay=tmpfs"), False)])
def test_one_image_for_two_clients_is_warned_of(room, clients, is_warned):
    entry = ("[entry {0}]\nkernel = {1}/vmlinuz\ninitramfs = {1}/nbdroot.img\n"
             "root = nbd://10.0.0.1/of-one\n")
    sections = (f"[client 52:54:00:12:34:0{i}]\nentry = {name}\n" for i, name in enumerate(clients))
    room.write(more=entry.format("one", room.folder) + entry.format("two", room.folder) + "".join(sections))
    assert room.run().stderr.count("each of 2 [client]s") == is_warned


def test_names_and_addresses_that_a_proxy_does_not_give_are_warned_of(room):
    for kind, is_warned in (("none", False), ("proxy", True)):
        room.write(more=CLIENT + "[client 52:54:00:12:34:58]\nname = pc18\n")
        room.config.write_text(re.sub("range = .*", f"dhcp = {kind}", room.config.read_text()))
        warned = room.run().stderr
        assert warned.count("with dhcp = proxy another server gives them") == is_warned, warned


def test_a_name_that_cannot_stand_in_dnsmasqs_configuration_is_refused(room):
    room.out = room.folder / "a b"
    assert "choose another name" in room.run(status=1).stderr
    room.out = room.folder / "out"
    room.config = room.config.rename(room.folder / "a\ndhcp-script=evil.conf")
    assert "choose another name" in room.run(status=1).stderr
    assert not room.out.exists()


def test_another_spelling_of_the_configurations_name_changes_nothing(room):
    room.run()
    config = room.config
    (room.folder / "link.conf").symlink_to(config)
    for room.config in (config.name, f"./../{room.folder.name}/{config.name}", "link.conf"):
        room.run("--check", cwd=room.folder)
        assert " 0 files written" in room.run(cwd=room.folder).stdout
    assert f"from {config}: change it there" in (room.out / "dnsmasq.conf").read_text()


def test_wrong_usage_is_told_in_one_line(room):
    before = sorted(room.folder.rglob("*"))
    for argv in ([], ["--config", room.config], ["-o", room.out], [*room.argv()[2:], "--check", "--force"],
                 ["--config", room.config, "-o", ""], ["--config", "", "-o", room.out]):
        done = subprocess.run([lab.NBDROOT, "netboot", *argv], capture_output=True, text=True,
                              check=False, cwd=room.folder)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done
    assert sorted(room.folder.rglob("*")) == before


SERVERS = {
    "range": "http = yes\nrouter = 10.0.0.254\ndns = 10.0.0.2, 10.0.0.3\nntp = 10.0.0.4\n"
             "domain = lab.example\ninterface = lo\n",
    "proxy": "dhcp = proxy\n",
    "static": "dhcp = static\nbios = ipxe\nuefi = ipxe\n",
    "none": "dhcp = none\n",
}
TOLD = ("[entry told]\nkernel = {0}/vmlinuz\ninitramfs = {0}/nbdroot.img\nroot = dhcp\n"
        "root-path = nbd:10.0.0.1:root:ext4:noatime,data=writeback\n"
        "[client 52:54:00:12:34:58]\nentry = told\n")


@pytest.mark.parametrize("kind", SERVERS)
def test_the_dhcp_servers_read_what_is_written_for_them(room, kind):
    room.write(server=SERVERS[kind], more=CLIENT + TOLD.format(room.folder))
    if kind != "range":
        room.config.write_text(re.sub(r"(?m)^range.*\n", "", room.config.read_text()))
    room.run()
    done = subprocess.run(["dnsmasq", "--test", f"--conf-file={room.out}/dnsmasq.conf"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(["dhcpd", "-t", "-cf", room.out / "dhcpd.conf.txt"], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0 and "semicolon" not in done.stderr, done.stderr
    kea = room.out / "kea.json.txt"
    json.loads(kea.read_text())
    done = subprocess.run(["kea-dhcp4", "-t", kea], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "ERROR" not in done.stdout, done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("grub-script-check"), reason="needs grub-common (make deps)")
def test_grub_reads_its_menu(room):
    room.write(more=CLIENT + "[client 52:54:00:12:34:59]\nentry = none\n")
    room.run()
    subprocess.run(["grub-script-check", room.tftp / "grub/grub.cfg"], check=True)


def test_the_example_that_is_installed_is_a_whole_configuration(room):
    example = (lab.TOP / "images/netboot/netboot.conf.example").read_text()
    for path, name in (("/srv/roots/client1/vmlinuz", "vmlinuz"), ("/srv/nbdroot.img", "nbdroot.img")):
        assert path in example
        example = example.replace(path, str(room.folder / name))
    room.config.write_text(example.replace("[netboot]\n", f"[netboot]\n{room.programs}"))
    assert not room.run().stderr
    # and so it is with what it has for other rooms
    more = re.sub(r"(?m)^#(?=\w+ = |\[)", "", room.config.read_text())
    room.config.write_text(re.sub(r"(?m)^dhcp = .*\n", "", more))
    room.run()


def test_append_is_checked_for_every_parameter_that_init_knows():
    """The list is kept twice, for a program does not include its neighbour: here they are compared."""
    init = "".join(p.read_text() for p in sorted((lab.TOP / "init").glob("cmdline*.c")))
    known = set(re.findall(r'strcmp\(name, "(nbdroot\.[a-z-]+)"\)', init))
    known |= set(re.findall(r'\{ "(nbdroot\.[a-z-]+)",', init))
    ours = set(re.findall(r'\{ "(nbdroot\.[a-z-]+)",',
                          (lab.TOP / "server-tools/nbdroot/netboot-words.c").read_text()))
    assert known and known <= ours, (known - ours)

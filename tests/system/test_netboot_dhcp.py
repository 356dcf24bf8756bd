# SPDX-License-Identifier: GPL-2.0-or-later
"""
What `nbdroot netboot` writes for DHCP servers, asked of the servers themselves: dnsmasq, ISC dhcpd and
Kea run with it in a network namespace, and a client in another one asks what each kind of firmware, the
initramfs and the running system ask.
"""
import json
import pathlib
import shutil
import subprocess
import sys

import lab
import pytest
from test_netboot import Room

ASK = pathlib.Path(__file__).with_name("dhcp_ask.py")
MAC, OTHER = "52:54:00:12:34:57", "52:54:00:99:99:99"
CLIENT = f"[client {MAC}]\nname = pc17\naddress = 10.0.0.17\nentry = told\n"
TOLD = ("[entry told]\nkernel = {0}/vmlinuz\ninitramfs = {0}/nbdroot.img\nroot = dhcp\n"
        "root-path = nbd:10.0.0.1:root:ext4:noatime,data=writeback\n")


def firmware(arch, is_http=False):
    kind = "HTTPClient" if is_http else "PXEClient"
    return {60: f"{kind}:Arch:{arch:05}:UNDI:003016".encode().hex(), 93: f"{arch:04x}",
            61: "00" + bytes(range(16)).hex(), 97: "00" + bytes(range(16)).hex()}


def ipxe(arch):
    return firmware(arch) | {77: b"iPXE".hex(), 175: "b105010d8139"}


INITRAMFS = {60: b"udhcp 1.35.0".hex()}
SYSTEM = {61: "ff" + bytes(range(20, 38)).hex()}


class Lan:
    """Two namespaces with a cable between them."""

    def __init__(self, folder):
        self.folder = folder
        self.here, self.there = lab.Namespace(), lab.Namespace()
        self.process = None
        self.here.run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns",
                      str(self.there.holder.pid))
        self.here.run("ip", "addr", "add", "10.0.0.1/24", "dev", "lan0")
        self.here.run("ip", "link", "set", "lan0", "up")
        self.there.run("ip", "link", "set", "eth0", "up")

    def serve(self, *argv):
        with open(self.folder / "dhcp.log", "wb") as log:
            self.process = subprocess.Popen(self.here.inside(*argv), stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)

        def is_bound():
            assert self.process.poll() is None, (self.folder / "dhcp.log").read_text()
            return ":67 " in self.here.run("ss", "-Hlunp").stdout
        lab.wait_until(is_bound, 20, "the DHCP server")

    def ask(self, options, mac=MAC, wait=10):
        wish = json.dumps({"mac": mac, "options": options, "wait": wait})
        done = subprocess.run(self.there.inside(sys.executable, ASK, "eth0", wish), check=True,
                              capture_output=True, text=True)
        return json.loads(done.stdout)

    def close(self):
        if self.process:
            lab.end(self.process)
        self.here.close()
        self.there.close()


def serve_dnsmasq(lan, room):
    room.run()
    lan.serve("dnsmasq", "--keep-in-foreground", f"--conf-file={room.out}/dnsmasq.conf", "--user=root",
              "--group=root", "--pid-file=", "--log-facility=-", "--no-ping",
              f"--dhcp-leasefile={lan.folder}/leases")


def serve_dhcpd(lan, room):
    room.run()
    config = lan.folder / "dhcpd.conf"
    config.write_text("authoritative;\nsubnet 10.0.0.0 netmask 255.255.255.0 {\n"
                      "  range 10.0.0.100 10.0.0.200;\n}\nping-check false;\n"
                      f"include \"{room.out}/dhcpd.conf.txt\";\n")
    (lan.folder / "leases").touch()
    lan.serve("dhcpd", "-f", "-d", "-q", "-cf", config, "-lf", lan.folder / "leases", "-pf",
              lan.folder / "pid", "-user", "root", "-group", "root", "lan0")


def serve_kea(lan, room):
    room.run()
    config = json.loads((room.out / "kea.json.txt").read_text())
    config["Dhcp4"] |= {
        "interfaces-config": {"interfaces": ["lan0"]},
        "lease-database": {"type": "memfile", "persist": False},
        "subnet4": [{"id": 1, "subnet": "10.0.0.0/24", "pools": [{"pool": "10.0.0.100 - 10.0.0.200"}]}],
    }
    (lan.folder / "kea.json").write_text(json.dumps(config))
    lan.serve("env", f"KEA_PIDFILE_DIR={lan.folder}", f"KEA_LOCKFILE_DIR={lan.folder}", "kea-dhcp4", "-c",
              lan.folder / "kea.json")


SERVERS = {"dnsmasq": serve_dnsmasq, "dhcpd": serve_dhcpd, "kea": serve_kea}


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path)


@pytest.fixture
def lan(tmp_path):
    lan = Lan(tmp_path)
    yield lan
    lan.close()


@pytest.fixture(params=SERVERS)
def serve(request, lan):
    program = {"kea": "kea-dhcp4"}.get(request.param, request.param)
    if not shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin"):
        pytest.skip(f"{program} is not installed (make deps)")
    return lambda room: SERVERS[request.param](lan, room)


def test_each_kind_of_firmware_is_told_its_program(room, lan, serve):
    room.write(server="http = 8080\n", more=TOLD.format(room.folder) + CLIENT)
    serve(room)
    for arch, name in ((0, "pxelinux.0"), (6, "grubia32.efi"), (7, "shimx64.efi"), (9, "shimx64.efi")):
        told = lan.ask(firmware(arch))
        assert (told["file"], told["next_server"]) == (name, "10.0.0.1"), (arch, told)
        assert told["address"] == "10.0.0.17"
    # a card with iPXE in its ROM boots PXELINUX like any other; under UEFI it is given the script
    assert lan.ask(ipxe(0))["file"] == "pxelinux.0"
    assert lan.ask(ipxe(7))["file"] == "boot.ipxe"
    told = lan.ask(firmware(16, is_http=True))
    assert told["file"] == "http://10.0.0.1:8080/snponly.efi"
    assert bytes.fromhex(told["options"]["60"]) == b"HTTPClient"
    # what is neither PXE nor HTTP, or another kind of machine, is told nothing
    assert lan.ask(SYSTEM)["file"] == ""
    assert lan.ask(firmware(11))["file"] == ""


def test_ipxe_is_told_its_script_and_not_itself_again(room, lan, serve):
    room.write(server="bios = ipxe\nuefi = ipxe\n")
    serve(room)
    assert lan.ask(firmware(0))["file"] == "undionly.kpxe"
    assert lan.ask(firmware(7))["file"] == "snponly.efi"
    assert lan.ask(ipxe(0))["file"] == lan.ask(ipxe(7))["file"] == "boot.ipxe"


def test_a_machine_keeps_its_address_from_firmware_to_system(room, lan, serve):
    serve(room)
    addresses = {lan.ask(options, mac=OTHER)["address"]
                 for options in (firmware(7), ipxe(7), INITRAMFS, SYSTEM)}
    assert len(addresses) == 1, addresses


def test_the_root_path_is_told_to_the_initramfs_and_not_to_ipxe(room, lan, serve):
    root = b"nbd:10.0.0.1:root:ext4:noatime,data=writeback"
    room.write(more=TOLD.format(room.folder) + CLIENT)
    serve(room)
    told = lan.ask(INITRAMFS)["options"]
    assert bytes.fromhex(told["17"]) == root
    assert bytes.fromhex(told["12"]) == b"pc17"
    assert "17" not in lan.ask(INITRAMFS, mac=OTHER)["options"]


def test_the_default_root_path_is_not_told_to_ipxe(room, lan, serve):
    room.write(server="default = told\n", more=TOLD.format(room.folder))
    serve(room)
    assert "17" in lan.ask(INITRAMFS)["options"]
    told = lan.ask(ipxe(7))
    assert "17" not in told["options"] and told["file"] == "boot.ipxe"  # GRUB for others, no HTTP


def test_the_default_root_path_is_told_to_others_as_the_manual_says(room, lan, serve, request):
    """dnsmasq tells it to the machines of its entry alone."""
    room.write(server="default = told\n", more=TOLD.format(room.folder)
               + f"[client {MAC}]\nname = pc17\nentry = room\n")
    serve(room)
    assert "17" in lan.ask(INITRAMFS, mac=OTHER)["options"]
    is_dnsmasq = request.node.callspec.params["serve"] == "dnsmasq"
    assert ("17" in lan.ask(INITRAMFS)["options"]) == (not is_dnsmasq)


def test_dnsmasq_tells_of_a_router_and_a_name_server_only_when_there_is_one(room, lan):
    serve_dnsmasq(lan, room)
    assert not {"3", "6"} & set(lan.ask(SYSTEM)["options"])
    lab.end(lan.process)
    room.write(server="router = 10.0.0.254\ndns = 10.0.0.2,10.0.0.3\n")
    serve_dnsmasq(lan, room)
    told = lan.ask(SYSTEM)["options"]
    assert told["3"] == "0a0000fe" and told["6"] == "0a0000020a000003"


def test_dnsmasq_answers_known_machines_alone_when_it_is_told_so(room, lan):
    room.write(more=TOLD.format(room.folder) + CLIENT)
    room.config.write_text(room.config.read_text().replace("range = 10.0.0.100,10.0.0.200",
                                                           "dhcp = static"))
    serve_dnsmasq(lan, room)
    assert lan.ask(firmware(7))["address"] == "10.0.0.17"
    assert lan.ask(firmware(7), mac=OTHER, wait=3) is None

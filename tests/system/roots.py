# SPDX-License-Identifier: GPL-2.0-or-later
"""
Whole systems as roots of User-Mode Linux guests: Debian with systemd, and with sysvinit, booted by
our initramfs from an nbdserve. What is added to the images is the test's own agent, nothing else.
"""
import pathlib
import shutil
import socket
import struct
import subprocess
import time

import lab

IP = f"ip={lab.GUEST_IP}::{lab.SERVER_IP}:255.255.255.0:pc-17:vec0:none"
SYSTEMD = "demo-root.img"
SYSVINIT = "sysvinit-root.img"

AGENT_UNIT = """[Unit]
Description=the test's agent
DefaultDependencies=no
IgnoreOnIsolate=yes
After=sysinit.target
[Service]
ExecStart=/usr/local/bin/guest agent /dev/tty1
StandardInput=null
StandardOutput=kmsg
StandardError=kmsg
"""
AGENT_LINE = "ag:2345:respawn:/usr/local/bin/guest agent /dev/tty1\n"


def debugfs(image, *commands):
    result = subprocess.run(["debugfs", "-w", "-f", "-", image], input="\n".join(commands) + "\n",
                            capture_output=True, text=True, check=True)
    errors = [line for line in result.stderr.splitlines()[1:] if line and "already exists" not in line]
    assert not errors, errors


def make_root(folder, name):
    """A copy of the root of that name with the agent in it."""
    root = folder / "root.img"
    subprocess.run(["cp", "--sparse=always", lab.BUILD / name, root], check=True)
    guest = "/usr/local/bin/guest"
    commands = [f"write {lab.BUILD}/guest {guest}", f"set_inode_field {guest} mode 0100755"]
    added = folder / "added"
    if name != SYSVINIT:
        added.write_text(AGENT_UNIT)
        unit = "/etc/systemd/system/agent.service"
        commands += [f"write {added} {unit}",
                     f"symlink /etc/systemd/system/multi-user.target.wants/agent.service {unit}"]
    else:
        text = subprocess.run(["debugfs", "-R", "cat /etc/inittab", root], check=True,
                              capture_output=True, text=True).stdout
        added.write_text(text + AGENT_LINE)
        commands += ["rm /etc/inittab", f"write {added} /etc/inittab"]
    debugfs(root, *commands)
    return root


def make_tree(folder, name=SYSTEMD):
    """The same root as a folder, for an NFS server, with the agent in it."""
    tree = folder / "tree"
    tree.mkdir()
    subprocess.run(["debugfs", "-R", f"rdump / {tree}", lab.BUILD / name], check=True,
                   capture_output=True)
    shutil.copy(lab.BUILD / "guest", tree / "usr/local/bin/guest")
    units = tree / "etc/systemd/system"
    (units / "agent.service").write_text(AGENT_UNIT)
    (units / "multi-user.target.wants/agent.service").symlink_to("/etc/systemd/system/agent.service")
    return tree


class Box:
    """One machine, its network, its server, and what has become of it."""

    def __init__(self, folder, initrd, name, append=""):
        self.root = make_root(folder, name)
        self.network = lab.Network()
        self.server = lab.Server(self.network, {"root": self.root})
        self.server.start()
        self.guest = lab.Guest(self.network, memory="384M", initrd=initrd,
                               append=f"root=nbd://{lab.SERVER_IP}/root rw {IP} {append}")
        self.guest.wait_ready(240)
        # as on a machine that has been running for a while
        self.guest.wait_log("hold: ", 120)

    def close(self):
        self.guest.close()
        self.server.close()
        self.network.close()


def press_ctrl_alt_del(guest):
    """By the guest's management console: to its kernel it is the keyboard."""
    path = next((guest.folder / "uml").glob("*/mconsole"))
    own = pathlib.Path(guest.folder / f"keys-{time.monotonic_ns()}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(own))
        s.settimeout(10)
        s.sendto(struct.pack("=IiI", 0xCAFEBABE, 2, 3) + b"cad".ljust(512, b"\0"), str(path))
        s.recv(4096)


def wait_end(guest, timeout):
    """How it ended, "off" or "restart" (it boots again), and after how long; fails if it does not."""
    boots = guest.log().count("Linux version")
    began = time.monotonic()

    def how():
        if guest.process.poll() is not None:
            return "off"
        return guest.log().count("Linux version") > boots and "restart"

    ended = lab.wait_until(how, timeout, "the machine to end; its console ends:\n"
                           + guest.log()[-2000:])
    return ended, time.monotonic() - began

# SPDX-License-Identifier: GPL-2.0-or-later
"""
A machine whose server is dead is asked to shut down: Debian's unmodified kernel in QEMU, a root with
systemd, a root with sysvinit. It ends within a minute and says what it lost. Each request three
times, and a boot of a minute before each: make check-long (NBDROOT_LONG). The fast lane is
tests/system/test_way_down.py.
"""
import os
import socket
import time

import machine
import pytest
from machine import lab

LIMIT = 60
KEYS = "ctrl-alt-del"
RUNS = range(int(os.environ.get("NBDROOT_RUNS", "3")))
REQUESTS = {"demo-root.img": ["systemctl reboot", "reboot", "poweroff", KEYS],
            "sysvinit-root.img": ["reboot", "poweroff", KEYS]}
CASES = [(root, request) for root, requests in REQUESTS.items() for request in requests]


class Monitor:
    """QEMU's: keys, and the button on the machine's front."""

    def __init__(self, folder):
        self.path = folder / "monitor"
        self.arguments = ("-monitor", f"unix:{self.path},server=on,wait=off")

    def say(self, command):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.path))
            s.sendall(command.encode() + b"\n")
            time.sleep(0.5)
            s.recv(65536)


if os.environ.get("NBDROOT_LONG"):
    @pytest.mark.parametrize("run", RUNS)
    @pytest.mark.parametrize("root,request_", CASES)
    def test_machine_with_its_server_dead_ends_within_a_minute(
            tmp_path, switch_on, root, request_, run):
        image = tmp_path / "root.img"
        machine.run("cp", "--sparse=always", lab.BUILD / root, image)
        server = lab.Server(None, {"root": image}, port=machine.free_port(), address="127.0.0.1")
        server.start()
        monitor = Monitor(tmp_path)
        box = switch_on(f"root=nbd://{machine.HOST}:{server.port}/root rw", more=monitor.arguments)
        try:
            box.wait_login(400)
            box.wait_for("hold: ", 120)
            box.command("dd if=/dev/zero of=/root/f bs=64k count=16; sync")
            server.kill()
            box.wait_for("lost server", 15)
            time.sleep(2)
            asked = time.monotonic()
            if request_ == KEYS:
                monitor.say("sendkey ctrl-alt-delete")
            else:
                box.type(request_ + "\n")
            box.wait_off(LIMIT)
            print(f"{root}: {request_}: ended after {time.monotonic() - asked:.1f} s")
        finally:
            print(box.tail(30))
            server.close()
        assert "the machine is to" in box.text()
        assert "NOT WRITTEN: " in box.text()
        assert not box.io_errors()

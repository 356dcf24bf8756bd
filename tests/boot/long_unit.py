# SPDX-License-Identifier: GPL-2.0-or-later
"""
make check-long: nbdclient@.service in a real systemd. The diskless machine of the demo boots as
ever; in its root is what a machine with a disk would have there, the unit, a configuration and a
line in /etc/fstab, for one more export.
"""
import subprocess
import time

import machine
import pytest
from machine import lab

UNIT = lab.TOP / "images/nbdclient/nbdclient@.service"
FSTAB = ("/dev/nbd5 /srv ext3 _netdev,nofail,x-systemd.requires=nbdclient@extra.service,"
         "x-systemd.device-timeout=0 0 0\n")


@pytest.fixture
def server(disks, tmp_path):
    extra = tmp_path / "extra.img"
    machine.run(lab.NBDROOT, "image", "create", extra, "--size", "64M")
    port = machine.free_port()
    files = {
        "etc/systemd/system/nbdclient@.service": UNIT.read_text().replace(
            "@SBINDIR@", "/usr/local/sbin").replace("@SYSCONFDIR@", "/etc"),
        "etc/nbdclient/extra.conf":
            f"URI=nbd://{machine.HOST}:{port}/extra\nDEVICE=/dev/nbd5\nOPTIONS=\n",
        "etc/fstab": FSTAB,
    }
    commands = ["mkdir /etc/nbdclient", "rm /etc/fstab",
                f"write {lab.NBDCLIENT} /usr/local/sbin/nbdclient",
                "sif /usr/local/sbin/nbdclient mode 0100755"]
    for number, (name, text) in enumerate(files.items()):
        (tmp_path / f"file-{number}").write_text(text)
        commands.append(f"write {tmp_path}/file-{number} /{name}")
    (tmp_path / "commands").write_text("\n".join(commands) + "\n")
    machine.run("debugfs", "-w", "-f", tmp_path / "commands", disks.root)
    srv = lab.Server(None, {**disks.exports(), "extra": extra}, port=port, address="127.0.0.1")
    srv.extra = extra
    srv.start()
    yield srv
    srv.close()


def test_unit_and_fstab_mount_a_device_that_survives_its_server(switch_on, server, disks):
    base = f"nbd://{machine.HOST}:{server.port}"
    box = switch_on(f"root={base}/root rw rpmdb={base}/clients/{{mac}}/rpm")
    box.wait_login(900)

    def ask(command, timeout=120):
        status, output = box.command(command, timeout)
        assert status == 0, f"{command}: {output}"
        return output

    lab.wait_until(lambda: "/dev/nbd5 /srv ext3 rw" in ask("cat /proc/mounts"), 120,
                   "the unit and fstab to mount it")
    assert ask("systemctl is-active nbdclient@extra.service srv.mount") == "active\nactive"
    pid = ask("systemctl show --value -p MainPID nbdclient@extra.service").strip()
    assert ask(f"tr '\\0' '\\n' </proc/{pid}/cmdline").startswith("@")
    assert "StatusText=attached" in ask("systemctl show -p StatusText nbdclient@extra.service")

    # the server dies under it, and comes back
    token = box.start_command("dd if=/dev/zero of=/srv/f bs=64k count=64 conv=fsync 2>/dev/null")
    server.kill()
    time.sleep(3)
    server.start()
    assert box.finish_command(token, 120)[0] == 0
    assert ask("systemctl is-active nbdclient@extra.service") == "active"

    # killed, it is followed by one that adopts the device
    ask(f"kill -9 {pid}")
    lab.wait_until(lambda: ask("systemctl show --value -p MainPID -p SubState "
                               "nbdclient@extra.service").split() not in
                   ([pid, "running"], ["0", "auto-restart"]), 60, "its successor to be started")
    lab.wait_until(lambda: ask("systemctl is-active nbdclient@extra.service; true") == "active",
                   60, "its successor to be attached")
    pid = ask("systemctl show --value -p MainPID nbdclient@extra.service").strip()

    # in use it does not let go, and is not killed either
    ask("cd /srv; systemctl stop nbdclient@extra.service; cd /")
    assert "/dev/nbd5 /srv ext3 rw" in ask("cat /proc/mounts")
    ask(f"kill -0 {pid}")
    ask("dd if=/srv/f of=/dev/null iflag=direct bs=64k 2>/dev/null")

    # nor does the way down lose anything
    box.type("systemctl poweroff\n")
    box.wait_off()
    assert not box.io_errors()
    for name, (clean, text) in disks.check().items():
        assert clean, f"{name}: {text}"
    server.kill()
    done = subprocess.run(["e2fsck", "-fn", server.extra], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout

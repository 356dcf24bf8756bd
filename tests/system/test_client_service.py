# SPDX-License-Identifier: GPL-2.0-or-later
"""
Machines with disks: the running system attaches a device and mounts a file system on it, by a
unit of systemd or by a script of System V's init. The script runs in a guest here; the unit runs
in a real systemd in tests/boot/test_unit.py.
"""
import json
import shutil
import subprocess
import time

import lab
import pytest

IMAGES = lab.TOP / "images/nbdclient"
UNIT = "nbdclient@.service"


def filled(name, executable="/bin/nbdclient", etc="/etc"):
    text = (IMAGES / name).read_text().replace("@SBINDIR@/nbdclient", executable)
    return text.replace("@SBINDIR@", "/run/bin").replace("@SYSCONFDIR@", etc)


def verify(folder, text):
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        pytest.skip("systemd-analyze is not installed (make deps)")
    (folder / UNIT).write_text(text)
    done = subprocess.run([analyze, "verify", "--man=no", folder / UNIT], capture_output=True,
                          text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_systemd_has_nothing_to_say_about_the_unit(tmp_path):
    assert verify(tmp_path, filled(UNIT, "/bin/true")) == (0, "")


def test_systemd_would_say_something_about_a_misspelt_line(tmp_path):
    """The test above can fail."""
    text = filled(UNIT, "/bin/true").replace("IgnoreOnIsolate", "IgnoreOnIsolation")
    assert "IgnoreOnIsolation" in verify(tmp_path, text)[1]


# Of a service manager, what Type=notify needs.
MANAGER = f"""
import os, socket, subprocess
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("/run/manager")
s.settimeout(20)
subprocess.Popen(["/run/bin/nbdclient", "attach", "--foreground", "--device", "/dev/nbd1",
                  "nbd://{lab.SERVER_IP}/rpm"], env={{"NOTIFY_SOCKET": "/run/manager"}})
try:
    print(s.recv(1000).decode())
except TimeoutError:
    print("nothing")
print("attached" if os.path.exists("/sys/block/nbd1/pid") else "not attached")
"""


@pytest.fixture
def disk(network, tmp_path):
    """The exports: one to mount, and one with what a machine has in its /etc."""
    etc = tmp_path / "etc"
    (etc / "nbdclient").mkdir(parents=True)
    (etc / "nbdclient/rpmdb.conf").write_text(
        f"URI=nbd://{lab.SERVER_IP}/rpm\nDEVICE=/dev/nbd1\nOPTIONS=\"--connect-timeout 20\"\n")
    (etc / "fstab").write_text("/dev/nbd1 /mnt ext3 _netdev,noatime 0 0\n"
                               "/dev/nbd1 /tmp ext3 defaults 0 0\n")
    (etc / "init.d").mkdir()
    (etc / "init.d/nbdclient").write_text(filled("nbdclient.init"))
    (etc / "init.d/nbdclient").chmod(0o755)
    (etc / "manager.py").write_text(MANAGER)
    images = {"rpm": lab.make_image(tmp_path / "rpm.img", "16M"),
              "etc": f"{lab.make_image(tmp_path / 'etc.img', '16M', '--from', etc)},ro"}
    srv = lab.Server(network, images)
    srv.start()
    yield srv
    srv.close()


# This machine's own userland, read-only, with an /etc of ours: sh, mount and umount are real.
DEBIAN = f"""
mkdir /host; mount -t hostfs -o ro none /host
for d in etc run tmp mnt; do mount -t tmpfs tmpfs /host/$d; done
for d in dev proc sys; do mount -o bind /$d /host/$d; done
nbdclient attach nbd://{lab.SERVER_IP}/etc --device /dev/nbd3; mount -r -t ext3 /dev/nbd3 /mnt2
cp -r /mnt2/* /host/etc; umount /mnt2; nbdclient detach /dev/nbd3
mkdir /host/run/bin; cp /bin/nbdclient /host/run/bin/
"""


def test_script_of_system_v_starts_mounts_and_stops_over_a_killed_server(guest, disk, tmp_path):
    guest.run("set -e; " + "; ".join(DEBIAN.strip().splitlines()))

    def script(command, **kwargs):
        return guest.run(f"chroot /host /etc/init.d/nbdclient {command}", **kwargs)

    def device():
        text = guest.run("chroot /host /run/bin/nbdclient status --json /dev/nbd1")
        return json.loads(text)[0]

    assert script("status", check=False)[0] == 3
    script("start")
    mounts = guest.run("cat /proc/mounts")
    assert "/dev/nbd1 /host/mnt ext3 rw,noatime" in mounts and "/dev/nbd1 /host/tmp" not in mounts
    pid = device()["pid"]
    script("start")  # nothing to do
    assert device()["pid"] == pid

    disk.kill()
    writer = guest.start("echo written >/host/mnt/f && sync && echo done")
    disk.start()
    assert guest.finish(writer, 30) == (0, "done\n")
    assert script("status", check=False)[0] == 0

    # in use: it stays
    user = guest.start("cd /host/mnt && echo $$ >/run/user && exec sleep 1000")
    lab.wait_until(lambda: guest.run("cat /run/user", check=False)[0] == 0, 10, "the user")
    status, output = script("stop", check=False)
    assert status == 1 and "/mnt stays mounted, and /dev/nbd1 attached" in output
    assert guest.run("cat /host/mnt/f") == "written\n"
    guest.run("kill $(cat /run/user)")
    guest.finish(user)
    script("stop")
    assert script("status", check=False)[0] == 3
    assert not guest.io_errors()
    disk.kill()
    clean, text = lab.fsck_is_clean(tmp_path / "rpm.img")
    assert clean, text


def test_service_manager_is_told_when_the_device_is_attached(guest, disk):
    guest.run("set -e; " + "; ".join(DEBIAN.strip().splitlines()))
    disk.kill()
    job = guest.start("chroot /host python3 /etc/manager.py 2>/dev/null")
    time.sleep(2)
    assert guest.is_running(job)
    disk.start()
    assert guest.finish(job, 60) == (
        0, "READY=1\nSTATUS=attached; nbdclient status tells more\nattached\n")


def test_script_of_system_v_says_which_file_lacks_a_setting(tmp_path):
    (tmp_path / "nbdclient").mkdir()
    (tmp_path / "nbdclient/half.conf").write_text("URI=nbd://server/x\n")
    script = tmp_path / "nbdclient.init"
    script.write_text(filled("nbdclient.init", etc=str(tmp_path)))
    done = subprocess.run(["sh", script, "status"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == f"nbdclient: {tmp_path}/nbdclient/half.conf: URI and DEVICE must both be set\n"
    assert subprocess.run(["sh", script, "dance"], capture_output=True,
                          check=False).returncode == 2

# SPDX-License-Identifier: GPL-2.0-or-later
"""
make check-long: the README's "One real client", typed. An empty Debian 12 is the server, in a container
with its own systemd; what is in the section's shell blocks is typed into it, in order and as it stands
there. Then an emulated client boots from it by the firmware that a test names, twice, with its server
killed under it in between.

What differs from a person's first client: the kernel's console is the serial one, which a test can
read; the first two steps, which fetch packages, run before the server's systemd does.
"""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess

import machine
import pytest
from machine import lab

MAC = "52:54:00:12:34:56"
OVMF = pathlib.Path("/usr/share/OVMF")
# for a test to read; a person looks at the screen
CHANGES = {"append = rw\n": "append = rw console=ttyS0\n"}
WITH_INTERNET = ("1", "2")


def steps():
    """The section's shell blocks, {step: script}."""
    text = (lab.TOP / "README.md").read_text()
    section = re.search(r"(?ms)^## One real client.*?\n(.*?)^More servers of the same", text).group(1)
    found = {}
    for number, body in re.findall(r"(?ms)^\*\*(\d)\. (.*?)(?=^\*\*\d\. |\Z)", section):
        script = "".join(re.findall(r"(?ms)^```sh\n(.*?)^```$", body))
        for old, new in CHANGES.items():
            if number == "6":
                assert script.count(old) == 1, f"the README has no {old!r} any more"
                script = script.replace(old, new)
        found[number] = script
    assert sorted(found) == list("1234567")
    return found


class Server:
    """A machine with Debian, from its packages; first without an init, then booted."""

    def __init__(self, folder):
        self.root = folder / "server"
        self.network = None
        self.process = None
        self.log = open(folder / "server.log", "wb")
        self._install(folder)

    def _install(self, folder):
        """With the package sources of this machine, as images/apt.sh finds them."""
        apt = folder / "apt"
        machine.run(lab.TOP / "images/apt.sh", apt, "true")
        machine.run("mmdebstrap", "--quiet", f"--aptopt={apt}/acquire.conf", "bookworm", self.root,
                    *sorted((apt / "sources.d").iterdir()))
        shutil.copy(apt / "acquire.conf", self.root / "etc/apt/apt.conf.d/00machine")
        shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")
        (self.root / "etc/hostname").write_text("server\n")
        clone = self.root / "root/nbdroot"
        clone.mkdir()
        files = machine.run("git", "-C", lab.TOP, "ls-files", "-z").split("\0")
        there = "".join(f"{name}\0" for name in files if name and (lab.TOP / name).exists())
        subprocess.run(["tar", "-C", lab.TOP, "--null", "-T", "-", "-cf", folder / "clone.tar"],
                       input=there, text=True, check=True)
        machine.run("tar", "-C", clone, "-xf", folder / "clone.tar")

    def type_before_boot(self, script):
        """With the network of this machine, and no service started by a package."""
        policy = self.root / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        # the shell stays outside, as process 1: so systemctl sees that it is in a chroot, and does nothing
        inside = ("for d in sys dev dev/pts; do mount --bind /$d $0/$d; done; mount -t proc proc $0/proc; "
                  "mount -t tmpfs none $0/run; chroot $0 bash -exc \"cd /root/nbdroot; $1\"; exit $?")
        try:
            self._run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", inside,
                       self.root, script])
        finally:
            policy.unlink()

    def boot(self):
        """In a network namespace, where its card is a bridge with the name of the README's card."""
        self.network = lab.Namespace()
        for line in ("link add eth1 type bridge forward_delay 0", "addr add 10.0.0.1/24 dev eth1",
                     "link set eth1 up"):
            self.network.run("ip", *line.split())
        self.process = subprocess.Popen(
            self.network.inside("systemd-nspawn", "--quiet", "--register=no", "--keep-unit",
                                "--kill-signal=SIGRTMIN+4", "--resolv-conf=off",
                                "--capability=CAP_NET_ADMIN", "--system-call-filter="
                                "landlock_create_ruleset landlock_add_rule landlock_restrict_self",
                                "--machine=readme", "-D", self.root, "--boot"),
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        lab.wait_until(lambda: self.type("systemctl is-system-running", check=False).stdout.strip()
                       in ("running", "degraded"), 120, "the server's systemd")

    def _leader(self):
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return pathlib.Path(children).read_text().split()[-1]

    def type(self, script, check=True):
        try:
            leader = self._leader()
        except (IndexError, FileNotFoundError):
            return subprocess.CompletedProcess([], 1, "", "the server has no init yet")
        return self._run(["nsenter", "-t", leader, "-m", "-u", "-i", "-p", "-n", "-r", "-w",
                          "env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                          "HOME=/root", "LC_ALL=C", "bash", "-exc", f"cd /root/nbdroot; {script}"], check)

    def _run(self, argv, check=True):
        done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL)
        self.log.write((done.stdout + done.stderr).encode())
        self.log.flush()
        assert not check or done.returncode == 0, \
            f"exit {done.returncode}: {done.stdout[-6000:]}{done.stderr[-6000:]}"
        return done

    def tap(self, name):
        self.network.run("ip", "tuntap", "add", name, "mode", "tap")
        self.network.run("ip", "link", "set", name, "master", "eth1", "up")

    def close(self):
        if self.process:
            with contextlib.suppress(IndexError, OSError):
                os.kill(int(self._leader()), signal.SIGKILL)  # and with it all that runs there
            lab.end(self.process)
        if self.network:
            self.network.close()
        self.log.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    folder.chmod(0o755)  # the server's services look through it
    server = Server(folder)
    try:
        script = steps()
        for number in WITH_INTERNET:
            server.type_before_boot(script[number])
        assert "nbdserve:" in (server.root / "etc/passwd").read_text()
        server.boot()
        for number in "3456":
            server.type(script[number])
        yield server
    finally:
        server.close()
        machine.run("rm", "-rf", "--one-file-system", server.root)


def switch_on(server, firmware, folder):
    argv = machine.qemu("1G")
    card = f"virtio-net-pci,netdev=net,mac={MAC}"
    if firmware == "bios":
        argv += ["-boot", "n"]
    else:
        values = folder / "firmware.fd"
        shutil.copy(OVMF / "OVMF_VARS_4M.fd", values)
        argv[argv.index("-machine") + 1] = "q35"
        argv += ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={OVMF}/OVMF_CODE_4M.fd",
                 "-drive", f"if=pflash,format=raw,unit=1,file={values}"]
        card += ",bootindex=1,romfile="
    tap = f"tap-{firmware}"
    server.tap(tap)
    argv += ["-netdev", f"tap,id=net,ifname={tap},script=no,downscript=no", "-device", card]
    return machine.Console(server.network.inside(*argv))


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_a_first_client_boots_by_the_readme_alone(server, firmware, tmp_path):
    box = switch_on(server, firmware, tmp_path)
    try:
        box.wait_for(r"pc1 login: ?$", 1200)
        box.type("root\n")
        box.wait_for(r"Password: ?$", 60)
        box.type("change-me\n")
        box.wait_for(r"root@pc1:~# ?$", 120)
        box.type("stty cols 300; bind 'set enable-bracketed-paste off'\n")

        def ask(command, timeout=300):
            status, output = box.command(command, timeout)
            assert status == 0, f"{command}: {output}"
            return output.strip()

        assert ask("findmnt -no SOURCE /") == "/dev/nbd0"
        assert ask("findmnt -no SOURCE /var/lib/rpm") == "/dev/nbd1"
        assert "10.0.0.11/24" in ask("ip -4 -o addr")
        assert "/dev/nbd0" in ask("/run/initramfs/bin/nbdclient status")

        # step 7, with the client at work
        before = server.type("systemctl show --value -p MainPID nbdserve").stdout
        token = box.start_command("for i in $(seq 40); do dd if=/dev/urandom of=/srv/f$i bs=256k count=4 "
                                  "conv=fsync 2>/dev/null || exit 9; done; sync; rpm --dbpath /var/lib/rpm "
                                  "--initdb && rpm --dbpath /var/lib/rpm --verifydb")
        output = server.type(steps()["7"]).stdout
        assert MAC.replace(":", "-") in output, output
        assert box.finish_command(token, 600)[0] == 0
        assert server.type("systemctl show --value -p MainPID nbdserve").stdout != before
        assert not re.search(r"I/O error|EXT4-fs error|Remounting filesystem read-only", box.text())
        box.type("poweroff\n")
        box.process.wait(timeout=300)
    finally:
        lab.end(box.process)
    server.type("systemctl stop nbdserve; for f in /srv/nbd/*.img; do nbdroot image check $f; done; "
                "systemctl start nbdserve")


def test_the_readme_speaks_of_what_is_there():
    """Needs no server: the section can be read, and names programs and options that exist."""
    script = "".join(steps().values())
    for command in re.findall(r"(?m)^nbdroot (\w+)", script):
        assert machine.run(lab.NBDROOT, command, "--help")
    assert os.path.exists(lab.TOP / "docs/netboot.md")


def test_of_several_kernels_step_5_takes_the_one_that_step_6_boots(tmp_path):
    (tmp_path / "vmlinuz").symlink_to("boot/vmlinuz-2-amd64")
    for version in ("1-amd64", "2-amd64", "3-amd64"):
        (tmp_path / "lib/modules" / version).mkdir(parents=True)
    script = steps()["5"].replace("/srv/roots/client1", str(tmp_path))
    told = machine.run("bash", "-euc", f'nbdroot() {{ echo "$@"; }}; {script}').split()
    assert told[-2:] == ["--modules", f"{tmp_path}/lib/modules/2-amd64"]

# SPDX-License-Identifier: GPL-2.0-or-later
"""
A trial of the fast lane: a User-Mode Linux guest with an ext3 image of its own on /dev/nbd0, two
writers and some readers, and the faults of the plan. What it leaves in its folder is judged by
check.py; what is raised here is wrong, too.
"""
import contextlib
import os
import pathlib
import re
import signal
import time
import types

from server import Server, lab  # finds the next one
from faultfs import FaultFS

PLACES = (("10.77.0.1", 10809), ("10.77.0.3", 10810))
OTHER_GUEST_IP = "10.77.0.12"
URI = "nbd://10.77.0.1/root --fallback nbd://10.77.0.3:10810/root"
WRITERS = ("red", "blue")
RECOVERY_S = 40  # from the end of the last fault until every writer has gone on
ATTACH_S = 40    # for nbdclient, while its server is there
GIVES_UP_S = 1.5 # nbdclient gives a link up whose address is gone for a second
IMAGE_SIZE = "48M"
ACKS_FD = 200  # beyond any that the guest is given


class Trial:
    def __init__(self, plan, folder):
        self.plan = plan
        self.folder = pathlib.Path(folder)
        self.network = self.server = self.guest = self.disk = None
        self.guest_ip = lab.GUEST_IP
        self.client_pid = None
        self.outages = []
        self.jobs = {}

    # ---- the machine and its load ------------------------------------------------------------

    def set_up(self):
        folder = self.folder
        if any(fault["kind"] == "worker" for fault in self.plan["faults"]):
            self.disk = FaultFS(self.folder)
            folder = self.disk.folder
        image = lab.make_image(folder / "root.img", IMAGE_SIZE)
        if self.disk:
            image = self.disk.mount / "root.img"
        self.network = self.make_network()
        self.server = Server(self.network, {"root": image}, PLACES, self.folder)
        self.server.start()
        acks = self.folder / "acks"
        acks.touch()
        # the guest's third console: a file, which outlives the guest
        tell = ["bash", "-c", f'exec {ACKS_FD}>>"$0"; exec "$@"', acks]
        self.guest = lab.Guest(
            types.SimpleNamespace(inside=lambda *argv: self.network.inside(*tell, *argv)),
            append=f"con2=null,fd:{ACKS_FD}")
        self.finish_attach(self.start_attach())
        self.guest.run("mount -t ext3 /dev/nbd0 /mnt")

    @staticmethod
    def make_network():
        """
        A bridge between: the kernel of User-Mode Linux gives its card up for ever when it sends
        while the tap is down.
        """
        network = lab.Network()
        for line in ("link add br0 type bridge", "addr flush dev tap0", "link set tap0 master br0",
                     f"addr add {PLACES[0][0]}/24 dev br0", f"addr add {PLACES[1][0]}/24 dev br0",
                     "link set br0 up"):
            network.run("ip", *line.split())
        return network

    def start_attach(self):
        return self.guest.start(f"nbdclient attach {URI} --device /dev/nbd0")

    def finish_attach(self, job):
        try:
            status, output = self.guest.finish(job, ATTACH_S)
        except AssertionError:
            raise AssertionError(f"nbdclient attach: not attached after {ATTACH_S} s") from None
        if status != 0:
            raise AssertionError(f"nbdclient attach: exit {status}: {output}")
        self.client_pid = self.guest.status()["pid"]

    def start_load(self):
        load = {name: f"overwrite /mnt/{name} /dev/tty2 {name} {self.plan['slots']}"
                for name in WRITERS}
        load["probe"] = "probe /dev/nbd0 /dev/tty2"
        for name, command in load.items():
            self.jobs[name] = self.guest.start(f"echo $$ >/tmp/{name}.pid; exec guest {command}")
        self.wait_progress()

    def acked(self):
        text = (self.folder / "acks").read_text(errors="replace")
        return {name: len(re.findall(rf"^{name} ack ", text, re.M)) for name in WRITERS}

    def wait_progress(self):
        before = self.acked()

        def has_gone_on():
            for name, job in self.jobs.items():
                if not self.guest.is_running(job):
                    raise AssertionError(f"the load {name} died: {self.guest.finish(job)}")
            now = self.acked()
            return all(now[name] > before[name] + 3 for name in WRITERS)

        lab.wait_until(has_gone_on, RECOVERY_S, "I/O to go on")

    # ---- faults ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def outage(self, fault):
        """Notes its beginning and its end, which is the server's start if there was one in it."""
        note = {"kind": fault["kind"], "began": time.time()}
        started = self.server.up_at
        yield note
        note["ended"] = self.server.up_at if self.server.up_at != started else time.time()
        self.outages.append(note)

    def suffer(self, fault):
        time.sleep(fault["after"])
        with self.outage(fault) as note:
            getattr(self, "fault_" + fault["kind"])(fault, note)

    def fault_kill(self, fault, _note):
        self.server.kill()
        time.sleep(fault["for"])
        self.server.start()

    def fault_term(self, fault, _note):
        self.server.terminate()
        time.sleep(fault["for"])
        self.server.start()

    def fault_move(self, fault, _note):
        self.server.kill()
        time.sleep(fault["for"])
        self.server.place = 1 - self.server.place
        self.server.start()

    def fault_takeover(self, fault, note):
        note["done"] = self.server.replace(fault["pick"] * 0.06, fault["for"], time.sleep)

    def fault_stop(self, fault, _note):
        self.server.signal(signal.SIGSTOP)
        time.sleep(fault["for"])
        self.server.signal(signal.SIGCONT)

    def fault_stale(self, fault, note):
        """
        A reset takes what the server has not read yet with it. A client that gives up by itself,
        for its address is gone, leaves all of that in the server's socket.
        """
        self.server.signal(signal.SIGSTOP)
        time.sleep(fault["pick"] % 0.1)
        note["by reset"] = fault["pick"] < 0.5
        if note["by reset"]:
            self.server.reset_connections()
        else:
            self.fault_address({"for": GIVES_UP_S}, note)
        time.sleep(fault["for"])
        self.server.signal(signal.SIGCONT)

    def fault_worker(self, fault, _note):
        """The write is sent again over the next connection: this one is old when it lands."""
        frozen = self.disk.freeze("write", file="root.img", count=1)
        self.disk.wait_for_hits(frozen, 1)
        self.server.reset_connections()
        time.sleep(fault["for"])
        self.disk.clear(frozen)

    def fault_reset(self, _fault, _note):
        self.server.reset_connections()

    def fault_blackhole(self, fault, _note):
        for ip in (lab.GUEST_IP, OTHER_GUEST_IP):
            self.network.run("ip", "neigh", "replace", ip, "lladdr", "02:00:00:00:00:99", "dev",
                             "br0", "nud", "permanent")
        time.sleep(fault["for"])
        for ip in (lab.GUEST_IP, OTHER_GUEST_IP):
            self.network.run("ip", "neigh", "del", ip, "dev", "br0")

    def fault_link(self, fault, _note):
        self.network.run("ip", "link", "set", "br0", "down")
        time.sleep(fault["for"])
        self.network.run("ip", "link", "set", "br0", "up")

    def fault_card(self, fault, _note):
        self.guest.run("ip link set vec0 down")
        time.sleep(fault["for"])
        self.guest.run("ip link set vec0 up")

    def fault_address(self, fault, _note):
        self.guest.run("ip addr flush dev vec0")
        time.sleep(fault["for"])
        self.guest.run(f"ip addr add {self.guest_ip}/24 dev vec0")

    def fault_renumber(self, fault, note):
        self.guest_ip = OTHER_GUEST_IP if self.guest_ip == lab.GUEST_IP else lab.GUEST_IP
        self.fault_address(fault, note)

    def fault_client(self, fault, note):
        """Half of the time its server dies with it, and comes back while the new one adopts."""
        self.guest.run(f"kill -9 {self.client_pid}; "
                       f"while [ -d /proc/{self.client_pid} ]; do usleep 10000; done")
        note["with server"] = fault["pick"] < 0.5
        if not note["with server"]:
            time.sleep(fault["for"])
            self.finish_attach(self.start_attach())
            return
        self.server.kill()
        job = self.start_attach()
        time.sleep(fault["for"])
        self.server.start()
        self.finish_attach(job)

    # ---- the end -----------------------------------------------------------------------------

    def end(self):
        self.wait_progress()
        if self.plan["ending"] == "off":
            time.sleep(self.plan["off_after"])
            os.killpg(self.guest.process.pid, signal.SIGKILL)
            self.guest.process.wait(timeout=30)
        else:
            # each is a session of its own; the readers are several, of which one may still read
            for name, job in self.jobs.items():
                self.guest.run(f"p=$(cat /tmp/{name}.pid); kill -TERM -$p; "
                               "while kill -0 -$p 2>/dev/null; do usleep 20000; done")
                self.guest.finish(job, 15)
            self.guest.run("umount /mnt")
            self.guest.run("nbdclient detach /dev/nbd0")
        # what it has received it writes
        self.server.terminate()

    def play(self):
        self.set_up()
        self.start_load()
        for fault in self.plan["faults"]:
            self.suffer(fault)
        self.end()

    def close(self):
        if self.guest:
            (self.folder / "console").write_text(self.guest.log())
        for part in (self.guest, self.server, self.network, self.disk):
            if part:
                part.close()
        if self.disk and (self.disk.folder / "root.img").exists():
            (self.disk.folder / "root.img").rename(self.folder / "root.img")

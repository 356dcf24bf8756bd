# SPDX-License-Identifier: GPL-2.0-or-later
"""
Dead and hostile peers: none of them costs much, lasts long or keeps anybody else waiting. In each
of nbdserve's engines. What takes its time by nature is begun before the first test and looked at
by the last ones.
"""
import os
import pathlib
import random
import resource
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time

import nbd
import pytest
from nbd import Server, go_data, until

MIB = 1 << 20
SIZE = 64 * MIB
PAYLOAD = 256 * 1024

# For 5,000 sockets; servers that are started get the same.
resource.setrlimit(resource.RLIMIT_NOFILE, 2 * resource.getrlimit(resource.RLIMIT_NOFILE)[1:])

# A build with a sanitizer: its memory and its speed say nothing about ours.
SANITIZED = b"san_init" in (nbd.BUILD / "nbdserve").read_bytes()

# In a network namespace of its own, whose link can be cut: how long until the server notices a
# client that is idle and one that waits for a reply.
DEAD_PEERS = """
import subprocess, sys, time
import nbd
def ip(*words): subprocess.run(["ip", *words], check=True)
ip("link", "set", "lo", "up")
server = nbd.Server(sys.argv[1], "--export", "a=" + sys.argv[2] + ",ro",
                    engine=sys.argv[3] or None)
idle, busy = server.client("a"), server.client("a")
ports = [client.sock.getsockname()[1] for client in (idle, busy)]
for client in idle, busy:
    client.read(0, 512)
time.sleep(1)
for _ in range(64):
    busy.request(nbd.READ, 0, 1 << 20)
ip("link", "set", "lo", "down")
start = time.monotonic()
for port in ports:
    nbd.until(lambda: any(f":{port}" in line and "disconnected from export" in line
                          for line in server.text().splitlines()), 25, f"the end of :{port}")
    print(time.monotonic() - start)
server.kill()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("hostile")
    for name in "rw", "ro":
        with open(tmp / f"{name}.img", "wb") as f:
            f.truncate(SIZE)
            if name == "ro":
                f.write(random.Random(1).randbytes(4 * MIB))
    return tmp


@pytest.fixture
def serve(folder, engine):
    """Starts a server of the test's own."""
    servers = []

    def start(*args, **kwargs):
        servers.append(Server(folder, *args, "--export", f"ro={folder}/ro.img,ro",
                              engine=engine, **kwargs))
        return servers[-1]
    yield start
    for server in servers:
        assert server.is_alive(), server.text()
        assert server.stop() == 0, server.text()


def settings(tmp_path, text):
    path = tmp_path / "nbdserve.conf"
    path.write_text(f"[server]\n{text}\n")
    return "--config", path


def in_step(client):
    return len(client.read(0, 512)) == 512


def seconds_to_be_served(server, **kwargs):
    start = time.monotonic()
    with server.client("ro", **kwargs) as client:
        assert in_step(client)
    return time.monotonic() - start


def connect(server, count, source="127.0.0.1"):
    """So many connections that say nothing."""
    sockets = []
    for _ in range(count):
        sock = socket.socket()
        sock.bind((source, 0))
        sock.connect(server.address)
        sockets.append(sock)
    return sockets


def close_all(sockets):
    for sock in sockets:
        sock.close()


def is_over(sock):
    """Whether the server has closed; the greeting is thrown away."""
    sock.setblocking(False)
    try:
        while sock.recv(4096):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


class Slow:
    """Things that take their time, all begun at once."""

    def __init__(self, folder, engine):
        self.server = Server(folder, "--export", f"ro={folder}/ro.img,ro", engine=engine)
        self.began = time.monotonic()
        begun = {"says nothing": self.server.client(flags=None)}
        for case in ("stops after the flags", "stops in an option's head", "stops in a name",
                     "asks for the list for ever", "sends a name byte by byte"):
            begun[case] = self.server.client()
        begun["stops in an option's head"].send(struct.pack(">QI", nbd.IHAVEOPT, nbd.OPT_GO))
        begun["stops in a name"].send(
            struct.pack(">QII", nbd.IHAVEOPT, nbd.OPT_GO, 100) + go_data("ro"))
        begun["sends a name byte by byte"].send(
            struct.pack(">QIII", nbd.IHAVEOPT, nbd.OPT_GO, 4000, 3990))
        for case, words in [("asks for the list for ever",
                             struct.pack(">QII", nbd.IHAVEOPT, nbd.OPT_LIST, 0)),
                            ("sends a name byte by byte", b"n")]:
            threading.Thread(target=self.say_for_ever, args=(begun[case].sock, words),
                             daemon=True).start()
        self.silent = begun
        before = self.server.rss_kib()
        self.deaf = [self.ask_and_read_nothing() for _ in range(3)]
        self.deaf_since = time.monotonic()
        self.deaf_kib = self.server.rss_kib() - before
        self.dead_peers = subprocess.Popen(
            ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child",
             sys.executable, "-c", DEAD_PEERS, folder, folder / "ro.img", engine or ""],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent)})

    def ask_and_read_nothing(self):
        client = self.server.client("ro")
        client.sock.settimeout(0.3)
        try:
            for _ in range(20000):
                client.request(nbd.READ, 0, PAYLOAD)
        except socket.timeout:
            pass  # the server reads no more, as it should
        return client

    @staticmethod
    def say_for_ever(sock, words):
        """Every 100 ms until the connection is over; the answers fit in its buffers."""
        try:
            while True:
                sock.sendall(words)
                time.sleep(0.1)
        except OSError:
            pass

    def close(self):
        self.dead_peers.kill()
        self.dead_peers.wait()
        self.server.kill()  # a planned stop would wait for those who read nothing


@pytest.fixture(scope="module", autouse=True)
def slow(folder, engine):
    slow = Slow(folder, engine)
    yield slow
    slow.close()


# ---- crowds ----------------------------------------------------------------------------------

def test_crowd_of_silent_connections_delays_nobody_and_the_oldest_goes(serve):
    server = serve()
    oldest = server.client(flags=None)
    crowd = [sock for n in range(2, 42) for sock in connect(server, 125, f"127.0.0.{n}")]
    times = [seconds_to_be_served(server) for _ in range(5)]
    assert statistics.median(times) < (5 if SANITIZED else 0.1)
    assert oldest.is_closed()
    server.wait_for_log("has been for the longest time")
    assert server.text().count("\n") < 200
    close_all(crowd)


def test_silent_crowd_that_goes_on_coming_delays_nobody(serve):
    server = serve()
    over, crowd = threading.Event(), []

    def come():
        while not over.is_set():
            crowd.extend(connect(server, 100, "127.0.0.2"))
            while len(crowd) > 2000:
                crowd.pop(0).close()

    thread = threading.Thread(target=come)
    thread.start()
    try:
        until(lambda: len(crowd) > 1100)
        times = [seconds_to_be_served(server) for _ in range(20)]
    finally:
        over.set()
        thread.join()
        close_all(crowd)
    assert statistics.median(times) < (5 if SANITIZED else 0.25)


def test_crowd_that_uses_up_the_descriptors_keeps_nobody_out(serve):
    server = serve(prefix=["prlimit", "--nofile=200:200"])
    with server.client("ro") as client:
        crowd = connect(server, 400, "127.0.0.2")
        assert seconds_to_be_served(server) < (5 if SANITIZED else 1)
        assert in_step(client)
        close_all(crowd)


def test_client_in_transmission_does_not_feel_a_crowd(serve):
    server = serve()
    with server.client("ro") as client:
        crowd = connect(server, 1500)
        assert in_step(client)
        close_all(crowd)
        assert in_step(client)
    assert seconds_to_be_served(server) < (5 if SANITIZED else 1)


def test_address_that_opens_too_many_connections_is_refused_and_no_other(serve, tmp_path):
    server = serve(*settings(tmp_path, "per-address = 5"))
    clients = [server.client("ro", source="127.0.0.2") for _ in range(5)]
    with pytest.raises((EOFError, ConnectionError)):
        server.client("ro", source="127.0.0.2")
    assert seconds_to_be_served(server, source="127.0.0.3") < 1
    server.wait_for_log("127.0.0.2")
    clients.pop().close()

    def is_let_in():
        try:
            return seconds_to_be_served(server, source="127.0.0.2")
        except (EOFError, ConnectionError):
            return False
    until(is_let_in)
    assert all(map(in_step, clients))


def test_crowd_from_one_address_pushes_out_its_own_connections_and_no_other_s(serve, tmp_path):
    server = serve(*settings(tmp_path, "half-open = 100"))
    others = [server.client(source=f"127.0.0.{n}") for n in range(3, 13)]
    crowd = connect(server, 300, "127.0.0.2")
    assert seconds_to_be_served(server, source="127.0.0.14") < 1
    until(lambda: sum(map(is_over, crowd)) >= 205)
    for client in others:
        assert in_step(client.go("ro"))
        client.close()
    close_all(crowd)


def test_crowd_from_many_addresses_is_bounded_and_the_oldest_goes(serve, tmp_path):
    server = serve(*settings(tmp_path, "half-open = 100"))
    crowd = [sock for n in range(2, 42) for sock in connect(server, 5, f"127.0.0.{n}")]
    assert seconds_to_be_served(server, source="127.0.0.50") < 1
    until(lambda: sum(map(is_over, crowd)) >= 100)
    assert not any(map(is_over, crowd[-50:]))
    close_all(crowd)


def test_thousand_connections_that_are_reset_at_once_leave_nothing_behind(serve):
    server = serve()
    assert seconds_to_be_served(server)
    fds = pathlib.Path(f"/proc/{server.process.pid}/fd")
    before = len(list(fds.iterdir()))
    for _ in range(1000):
        sock = socket.socket()
        sock.connect(server.address)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    assert seconds_to_be_served(server) < (5 if SANITIZED else 1)
    until(lambda: len(list(fds.iterdir())) <= before)


# ---- slow senders ----------------------------------------------------------------------------

class Dribble:
    """Connections that send a write's payload byte by byte, and never all of it."""

    def __init__(self, clients):
        self.clients, self.over = clients, threading.Event()
        for client in clients:
            client.request(nbd.WRITE, 0, 32 * MIB, b"x")
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.over.wait(1):
            for client in self.clients:
                client.send(b"x")

    def close(self):
        self.over.set()
        self.thread.join()
        close_all(self.clients)


def test_payload_that_comes_byte_by_byte_delays_nobody_and_costs_little(serve, folder):
    server = serve("--export", f"rw={folder}/rw.img")
    with server.client("ro") as client:
        client.read(0, MIB)
        before = server.rss_kib()
        dribble = Dribble([server.client("ro") for _ in range(20)])
        try:
            worst = 0
            for _ in range(150):
                start = time.monotonic()
                client.read(0, 4096)
                worst = max(worst, time.monotonic() - start)
                time.sleep(0.01)
            grown = server.rss_kib() - before
        finally:
            dribble.close()
    assert worst < (2 if SANITIZED else 0.25)
    assert SANITIZED or grown < 16 * 1024  # 20 payloads of 32 MiB were announced


def test_writer_that_dribbles_can_be_taken_over(serve, folder):
    server = serve("--export", f"rw={folder}/rw.img")
    dribble = Dribble([server.client("rw")])
    try:
        start = time.monotonic()
        with server.client("rw") as young:
            assert time.monotonic() - start < 1
            assert young.read(0, 16) == bytes(16)
            assert in_step(young)
    finally:
        dribble.close()


def test_writer_that_dribbles_does_not_hold_up_a_planned_stop(folder, engine):
    server = Server(folder, "--export", f"rw={folder}/rw.img", engine=engine)
    with server.client("rw") as client:
        client.request(nbd.WRITE, 0, 32 * MIB, b"x")
        start = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - start < 2


# ---- fairness --------------------------------------------------------------------------------

GREEDY = """
import sys
import nbd
client = nbd.Client(("127.0.0.1", int(sys.argv[1]))).go("ro")
for i in range(32):
    client.request(nbd.READ, i * 65536, 65536)
print("begun", flush=True)
i = 0
while True:
    client.recv(16 + 65536)
    client.request(nbd.READ, i % 64 * 65536, 65536)
    i += 1
"""


def latencies(client, seconds):
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        client.read(4096 * (len(times) % 1000), 4096)
        times.append(time.monotonic() - start)
    return times


def test_client_with_one_request_is_served_fairly_beside_one_with_32(serve):
    server = serve(prefix=["taskset", "-c", "0"])
    processes = []
    with server.client("ro") as client:
        alone = statistics.median(latencies(client, 0.5))
        try:
            for _ in range(2):
                processes.append(subprocess.Popen(
                    [sys.executable, "-c", GREEDY, str(server.address[1])],
                    stdout=subprocess.PIPE,
                    env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent)}))
            for process in processes:
                assert process.stdout.readline() == b"begun\n"
            times = latencies(client, 2)
        finally:
            for process in processes:
                process.kill()
                process.wait()
    crowded = statistics.median(times)
    print(f"alone {alone * 1e6:.0f} us, beside two with 32 of 64 KiB {crowded * 1e6:.0f} us")
    assert crowded < (0.1 if SANITIZED else max(0.003, 20 * alone))
    assert len(times) > 50


# ---- what took its time ----------------------------------------------------------------------

def test_client_that_chooses_nothing_for_ten_seconds_is_dropped(slow):
    for case, client in slow.silent.items():
        assert client.is_closed(max(0.1, slow.began + 13 - time.monotonic())), case
    assert time.monotonic() - slow.began > 10
    slow.server.wait_for_log("did not choose an export within 10 s")


def test_client_whose_link_is_cut_is_dropped_within_15_seconds(slow):
    out, err = slow.dead_peers.communicate(timeout=60)
    if "unshare" in err:
        pytest.skip(f"no network namespace can be made here: {err.strip()}")
    assert slow.dead_peers.returncode == 0, err
    idle, busy = map(float, out.split())
    assert 5 < idle < 15.5
    assert busy < 15.5


def test_client_that_reads_no_replies_costs_little_and_is_dropped(slow):
    assert SANITIZED or slow.deaf_kib < 3 * 80 * 1024
    ports = [client.sock.getsockname()[1] for client in slow.deaf]

    def are_gone():  # dropped by us, or by the kernel, which finds no room for so long
        lines = [line for line in slow.server.text().splitlines() if "disconnected from" in line]
        return all(any(f":{port}:" in line for line in lines) for port in ports)
    until(are_gone, max(1, slow.deaf_since + 60 - time.monotonic()), "the end of who read nothing")
    assert "the client does not read its replies" in slow.server.text()
    assert seconds_to_be_served(slow.server) < 1


def test_clients_that_read_no_replies_cost_together_what_the_server_may_use(folder, engine):
    server = Server(folder, "--memory", "64M", "--export", f"ro={folder}/ro.img,ro",
                    engine=engine)
    deaf = []
    try:
        for _ in range(30):
            client = server.client("ro")
            client.sock.settimeout(0.05)
            deaf.append(client)
            try:
                for _ in range(256):
                    client.request(nbd.READ, 0, PAYLOAD)
            except socket.timeout:
                pass
        assert SANITIZED or server.rss_kib() < 110 * 1024
        start = time.monotonic()
        with server.client("ro") as client:
            assert in_step(client)
            assert time.monotonic() - start < 1
            assert len(client.read(0, 4 * PAYLOAD)) == 4 * PAYLOAD
            assert time.monotonic() - start < 10  # those who waste what it needs have to go
    finally:
        close_all(deaf)
        server.kill()

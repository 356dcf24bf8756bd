# SPDX-License-Identifier: GPL-2.0-or-later
"""
A thousand clients lose their server at once and find it again: tests/system/fleet.c has a process
for each, with the product's own machine and dialling, and nbdserve has an export for each, from
one pattern. All on the loopback of a network namespace, clients and server on the same processors:
what is left of those is the server's.

NBDROOT_LONG: outages of 10 and 70 s, too (the back-off grows after a minute).
"""
import os
import re
import subprocess
import time

import lab
import pytest

COUNT = int(os.environ.get("NBDROOT_FLEET", "1000"))
OUTAGES_S = (1, 10, 70) if os.environ.get("NBDROOT_LONG") else (1,)
SLACK = 1 if os.environ.get("NBDROOT_STRICT") else 2
BACK_S = 3 * SLACK
ADDRESS, PORT = "127.0.0.1", 10809


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Fleet:
    def __init__(self, network):
        self.process = subprocess.Popen(
            network.inside(lab.BUILD / "fleet", COUNT, f"{ADDRESS}:{PORT}"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        words = self.process.stdout.readline().split()
        return dict(zip(words[::2], map(int, words[1::2])))

    def wait_up(self, timeout):
        return lab.wait_until(lambda: (a := self.ask())["up"] == COUNT and a, timeout,
                              f"all of {COUNT} clients to be back; {self.ask()}")

    def end(self):
        """Seconds of processor time that the clients have used."""
        out, _ = self.process.communicate(timeout=60)
        return float(re.fullmatch(r"cpu (\S+)\n", out).group(1))

    def close(self):
        if self.process.poll() is None:
            lab.end(self.process)


@pytest.fixture
def fleet_server(empty_network, tmp_path):
    for i in range(COUNT):
        with open(tmp_path / f"02-00-00-00-{i >> 8:02x}-{i & 255:02x}-root.img", "wb") as f:
            f.truncate(1 << 20)
    srv = lab.Server(empty_network, {"clients/{mac}/root": f"{tmp_path}/{{mac}}-root.img"},
                     address=ADDRESS, port=PORT)
    srv.start()
    yield srv
    srv.close()


def resets(network):
    """How many resets this namespace has sent: one for each connection that was refused."""
    lines = [line.split() for line in network.run("cat", "/proc/net/snmp").stdout.splitlines()
             if line.startswith("Tcp:")]
    return dict(zip(*lines))["OutRsts"]


def test_thousand_clients_are_back_within_three_seconds_of_the_servers_start(
        empty_network, fleet_server):
    fleet = Fleet(empty_network)
    late = []
    try:
        fleet.wait_up(60)
        for outage_s in OUTAGES_S:
            fleet_server.kill()
            before, knocked = time.monotonic(), int(resets(empty_network))
            time.sleep(outage_s)
            knocks = (int(resets(empty_network)) - knocked) / (time.monotonic() - before)
            assert fleet.ask()["up"] == 0
            started_ns = now_ns()
            fleet_server.start()
            listens_ms = (now_ns() - started_ns) / 1e6
            said = fleet.wait_up(60)
            first, median, last = ((said[k] - started_ns) / 1e6
                                   for k in ("first", "median", "last"))
            late.append(last / 1000)
            print(f"{COUNT} clients, outage {outage_s} s: server listens after {listens_ms:.0f} "
                  f"ms, clients back: first {first:.0f} ms, median {median:.0f} ms, last "
                  f"{last:.0f} ms; refused before: {knocks:.0f} a second")
        reads = fleet.ask()["reads"]
        lab.wait_until(lambda: fleet.ask()["reads"] > reads + COUNT, 20,
                       "every client to read again")
        assert fleet.ask()["errors"] == 0
        print(f"clients' processor time: {fleet.end():.1f} s")
    finally:
        fleet.close()
    assert max(late) <= BACK_S, late

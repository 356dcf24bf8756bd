# SPDX-License-Identifier: GPL-2.0-or-later
"""
nbdserve as its operator has it: patterns for a fleet, a service manager that waits for it and
gives it its sockets, SIGHUP, log lines for a machine.
"""
import datetime
import fcntl
import json
import os
import signal
import socket
import subprocess

import pytest

import nbd
from nbd import Client, Refused, Server, until

SIZE = 1 << 20
MAC, OTHER = "52-54-00-12-34-56", "52-54-00-12-34-57"


def make(path, fill=b"\0"):
    path.write_bytes(fill * SIZE)
    return path


def write_config(folder, *lines):
    path = folder / "nbdserve.conf"
    path.write_text("\n".join(lines) + "\n")
    return path


# ---- one entry for a fleet -------------------------------------------------------------------

@pytest.fixture
def fleet(tmp_path, engine):
    for mac, fill in (MAC, b"1"), (OTHER, b"2"):
        make(tmp_path / f"{mac}-root.img", fill)
    make(tmp_path / "golden.img", b"g")
    config = write_config(
        tmp_path, "[export clients/{mac}/root]", f"path = {tmp_path}/{{mac}}-root.img",
        f"[export clients/{OTHER}/root]", f"path = {tmp_path}/golden.img", "ro = yes")
    server = Server(tmp_path, "--config", config, engine=engine)
    yield server
    assert server.stop() == 0


def test_name_that_matches_a_pattern_opens_its_own_image(fleet):
    with fleet.client(f"clients/{MAC}/root") as client:
        assert client.read(0, 8) == b"1" * 8
        client.write(0, b"mine")
        client.flush()


def test_name_that_is_written_out_comes_before_a_pattern(fleet):
    with fleet.client(f"clients/{OTHER}/root") as client:
        assert client.read(0, 8) == b"g" * 8
        assert client.flags & nbd.FLAG_READ_ONLY


@pytest.mark.parametrize("name", [
    "clients/52-54-00-12-34-58/root",    # no such image
    "clients/52:54:00:12:34:56/root",    # not how an address is written
    "clients/../root", "clients//root", f"clients/{MAC}/root/", f"x/clients/{MAC}/root",
    f"clients/{MAC}/../{MAC}/root", "clients/{mac}/root", f"clients/{MAC}\0/root"])
def test_other_name_is_unknown_and_the_connection_goes_on(fleet, name):
    with fleet.client() as client:
        assert client.option(nbd.OPT_GO, nbd.go_data(name)) in (nbd.ERR_UNKNOWN, nbd.ERR_INVALID)
        client.go(f"clients/{MAC}/root")


def test_image_of_a_pattern_is_let_go_with_its_last_client(fleet, tmp_path):
    with fleet.client(f"clients/{MAC}/root"):
        refused = subprocess.run(["qemu-io", "-f", "raw", "-c", "read 0 512",
                                  tmp_path / f"{MAC}-root.img"], capture_output=True, text=True)
        assert "lock" in refused.stderr

    def is_free():
        return subprocess.run(["qemu-io", "-f", "raw", "-c", "write 0 512",
                               tmp_path / f"{MAC}-root.img"], capture_output=True).returncode == 0
    until(is_free, what="the image to be free")


def test_image_of_a_pattern_has_one_client(fleet):
    with fleet.client(f"clients/{MAC}/root"):
        with fleet.client(source="127.0.0.2") as other, pytest.raises(Refused, match="in use by"):
            other.go(f"clients/{MAC}/root")


# ---- a service manager -----------------------------------------------------------------------

class Manager:
    """The socket on which a service tells its manager what it does."""

    def __init__(self, folder):
        self.path = folder / "notify"
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(self.path))
        self.sock.settimeout(10)
        self.env = {"NOTIFY_SOCKET": str(self.path)}

    def wait_for(self, words):
        while True:
            message = self.sock.recv(4096).decode()
            if words in message.splitlines():
                return message


def test_manager_is_told_of_the_start_a_reload_and_the_end(tmp_path, engine):
    manager = Manager(tmp_path)
    config = write_config(tmp_path, "[export a]", f"path = {make(tmp_path / 'a')}", "ro = yes")
    server = Server(tmp_path, "--config", config, engine=engine, env=manager.env)
    manager.wait_for("READY=1")
    server.process.send_signal(signal.SIGHUP)
    assert "MONOTONIC_USEC=" in manager.wait_for("RELOADING=1")
    manager.wait_for("READY=1")
    assert server.stop() == 0
    manager.wait_for("STOPPING=1")


def test_watchdog_is_fed_while_the_loops_run(tmp_path, engine):
    manager = Manager(tmp_path)
    server = Server(tmp_path, "--export", f"a={make(tmp_path / 'a')},ro", engine=engine,
                    env={**manager.env, "WATCHDOG_USEC": "200000"})
    for _ in range(5):
        manager.wait_for("WATCHDOG=1")
    assert server.stop() == 0


def test_sockets_that_the_manager_opened_are_used(tmp_path, engine):
    image = make(tmp_path / "a", b"a")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ready, write_end = os.pipe()
        told = fcntl.fcntl(write_end, fcntl.F_DUPFD, 100)  # out of the way of descriptor 3
        os.close(write_end)
        command = ["sh", "-c", 'LISTEN_PID=$$ exec "$0" "$@"', nbd.BUILD / "nbdserve",
                   "--foreground", "--ready-fd", str(told), "--engine", engine,
                   "--export", f"a={image},ro"]
        with open(tmp_path / "log", "w") as log:
            process = subprocess.Popen(
                [str(word) for word in command], stderr=log, close_fds=False,
                preexec_fn=lambda: os.dup2(listener.fileno(), 3, inheritable=True),
                env={**os.environ, "LISTEN_FDS": "1"})
        os.close(told)
        try:
            assert nbd.is_readable(ready, 10) and os.read(ready, 1) == b"\n"
            with Client(listener.getsockname()) as client:
                assert client.go("a").read(0, 4) == b"aaaa"
        finally:
            process.terminate()
            assert process.wait(15) == 0
            os.close(ready)


# ---- SIGHUP, log lines -----------------------------------------------------------------------

def test_sighup_with_an_error_in_the_file_changes_nothing(tmp_path, engine):
    config = write_config(tmp_path, "[export a]", f"path = {make(tmp_path / 'a', b'a')}")
    server = Server(tmp_path, "--config", config, engine=engine)
    with server.client("a") as client:
        write_config(tmp_path, "[export a]", "pth = nonsense")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("cannot reload")
        assert "nbdserve.conf, line 2" in server.text()
        assert server.text().count("pth") == 1
        assert client.read(0, 4) == b"aaaa"
    assert server.stop() == 0


def test_export_that_is_served_otherwise_after_a_reload_is_opened_anew(tmp_path, engine):
    image = make(tmp_path / "a", b"a")
    config = write_config(tmp_path, "[export a]", f"path = {image}")
    server = Server(tmp_path, "--config", config, engine=engine)
    with server.client("a") as client:
        client.write(0, b"kept")
        write_config(tmp_path, "[export a]", f"path = {image}", "ro = yes")
        server.process.send_signal(signal.SIGHUP)
        assert client.is_closed()
    server.wait_for_log("reloaded")
    with server.client("a") as client:
        assert client.flags & nbd.FLAG_READ_ONLY and client.read(0, 4) == b"kept"
    assert server.stop() == 0


def test_log_lines_for_a_machine_are_objects(tmp_path, engine):
    server = Server(tmp_path, "--export", f"a={make(tmp_path / 'a')},ro", "--log-format", "json",
                    engine=engine)
    with server.client() as client:
        client.option(nbd.OPT_GO, nbd.go_data('x"\n{"level":"error"}'))
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.text().splitlines()]
    assert {"time", "level", "program", "message"} <= set(lines[0])
    assert all(line["program"] == "nbdserve" for line in lines)
    datetime.datetime.fromisoformat(lines[0]["time"].replace("Z", "+00:00"))
    assert not any(line["level"] == "error" for line in lines)

# SPDX-License-Identifier: GPL-2.0-or-later
"""How nbdserve starts, fails to start with words, becomes a daemon, and ends."""
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess

import nbd
import pytest
from nbd import Client, Server, until


def run(*args, **kwargs):
    return subprocess.run([nbd.BUILD / "nbdserve", *map(str, args)], capture_output=True,
                          text=True, timeout=30, **kwargs)


@pytest.mark.parametrize("args, status, words", [
    ([], 2, "nothing to serve"),
    (["--export", "a"], 2, "NAME=PATH"),
    (["--export", "a=/x,base=/y"], 2, "not part of this version"),
    (["--bogus"], 2, "--bogus"),
    (["word"], 2, "word"),
    (["--export", "a=/x", "--listen", "1.2.3.4:x"], 2, "not a port"),
    (["--export", "a=/x", "--ready-fd", "77"], 2, "open descriptor"),
    (["--config", "/nonexistent/c"], 1, "cannot read the configuration /nonexistent/c: No such"),
    (["--export", "a=/nonexistent/i"], 1, "cannot serve /nonexistent/i: No such file"),
    (["--export", "a=/tmp"], 1, "is a directory"),
    (["--export", "a=/dev/null"], 1, "not a file"),
], ids=lambda v: None if not isinstance(v, str) else v)
def test_server_that_cannot_start_says_why_in_one_line(args, status, words):
    for foreground in [], ["--foreground"]:
        result = run(*args, *foreground)
        assert result.returncode == status
        assert words in result.stderr
        assert result.stderr.count("\n") == 1 and result.stderr.startswith("nbdserve: ")


def test_port_in_use_is_an_error_in_words(tmp_path):
    (tmp_path / "i").write_bytes(bytes(512))
    server = Server(tmp_path, "--export", f"a={tmp_path}/i,ro")
    result = run("--foreground", "--export", f"b={tmp_path}/i,ro", "--listen",
                 f"127.0.0.1:{server.address[1]}")
    assert result.returncode == 1
    assert "Address already in use; is another server running there?" in result.stderr
    server.stop()


def test_image_served_twice_by_one_server_is_refused_at_once(tmp_path):
    (tmp_path / "i").write_bytes(bytes(512))
    os.symlink("i", tmp_path / "link")
    result = run("--foreground", "--export", f"a={tmp_path}/i,ro", "--export", f"b={tmp_path}/link")
    assert result.returncode == 1
    assert 'it is export "a" already' in result.stderr
    Server(tmp_path, "--export", f"a={tmp_path}/i,ro", "--export", f"b={tmp_path}/link,ro").stop()


def test_ini_file_is_served_and_adds_to_the_command_line(tmp_path):
    (tmp_path / "i").write_bytes(b"from the file" + bytes(499))
    (tmp_path / "c.ini").write_text(f"[server]\nunix = {tmp_path}/s\n"
                                    f"[export one]\npath = {tmp_path}/i\nro = yes\n")
    server = Server(tmp_path, "--config", tmp_path / "c.ini", "--export", f"two={tmp_path}/i,ro")
    for address, name in [(server.address, "one"), (tmp_path / "s", "two")]:
        with Client(address).go(name) as client:
            assert client.read(0, 13) == b"from the file"
    assert server.stop() == 0
    assert not (tmp_path / "s").exists()


def test_daemon_is_ready_when_its_parent_ends(tmp_path):
    (tmp_path / "i").write_bytes(bytes(512))
    result = subprocess.run([nbd.BUILD / "nbdserve", "--unix", "s", "--export", "a=i"],
                            cwd=tmp_path, stderr=subprocess.PIPE, timeout=20)
    assert result.returncode == 0, result.stderr
    with Client(tmp_path / "s").go("a") as client:
        cred = client.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid = struct.unpack("iII", cred)[0]
        assert client.read(0, 512)
    assert os.getsid(pid) == pid
    os.kill(pid, signal.SIGTERM)
    until(lambda: not (tmp_path / "s").exists())
    until(lambda: not pathlib.Path(f"/proc/{pid}").exists()
          or pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z")


def test_socket_file_of_a_killed_server_is_replaced_and_a_live_one_is_not(tmp_path):
    (tmp_path / "i").write_bytes(bytes(512))
    args = ["--unix", tmp_path / "s", "--export", f"a={tmp_path}/i,ro"]
    server = Server(tmp_path, *args)
    server.kill()
    assert (tmp_path / "s").exists()
    server = Server(tmp_path, *args)
    result = run("--foreground", *args)
    assert result.returncode == 1 and "Address already in use" in result.stderr
    with Client(tmp_path / "s").go("a") as client:
        assert client.read(0, 512)
    server.stop()
    (tmp_path / "s").write_text("somebody's file")
    result = run("--foreground", *args)
    assert result.returncode == 1 and "File exists" in result.stderr
    assert (tmp_path / "s").read_text() == "somebody's file"


def test_help_and_manual_page_name_the_same_options():
    page = pathlib.Path(__file__).resolve().parents[2] / "docs" / "nbdserve.8.scd"
    result = run("--help")
    assert result.returncode == 0 and result.stderr == ""
    in_help = set(re.findall(r"--[a-z-]+", result.stdout))
    assert in_help == set(re.findall(r"--[a-z-]+", page.read_text().replace("\\", "")))
    assert len(in_help) == 16
    assert run("--version").stdout.startswith("nbdserve ")

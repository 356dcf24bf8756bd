# SPDX-License-Identifier: GPL-2.0-or-later
"""
Figures and control: what the control socket tells and does (docs/control.md), the metrics
address, and `nbdroot status|reload|client`, against a real server; and nbdroot against servers
that are none.
"""
import json
import os
import pathlib
import re
import socket
import stat
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request

import nbd
import pytest
from nbd import Client, Refused, Server, until

MIB = 1 << 20
SIZE = 16 * MIB


class Control:
    """One connection to a control socket."""

    def __init__(self, path, timeout=20):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(str(path))
        self.file = self.sock.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.sock.close()

    def ask(self, command, **arguments):
        self.sock.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
        line = self.file.readline()
        assert line.endswith(b"\n"), line
        return json.loads(line)


def make_images(tmp, *names):
    for name in names:
        with open(tmp / f"{name}.img", "wb") as f:
            f.truncate(SIZE)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("control")
    make_images(tmp, "rw", "ro", "other")
    server = Server(tmp, "--control", tmp / "control", "--metrics", "127.0.0.1:0",
                    "--export", f"rw={tmp}/rw.img", "--export", f"ro={tmp}/ro.img,ro",
                    "--export", f"a \"strange\\name={tmp}/other.img,durability=flush")
    server.control = tmp / "control"
    yield server
    assert server.is_alive(), server.text()
    assert server.stop() == 0
    assert "ERROR: " not in server.text() and "runtime error" not in server.text(), server.text()
    assert not server.control.exists()


def ask(server, command, **arguments):
    with Control(server.control) as control:
        answer = control.ask(command, **arguments)
    assert answer["ok"], answer
    return answer


def export_of(server, name):
    return next(e for e in ask(server, "exports")["exports"] if e["name"] == name)


def clients_of(server, name):
    return [c for c in ask(server, "clients")["clients"] if c["export"] == name]


def nbdroot(*argv):
    return subprocess.run([nbd.BUILD / "nbdroot", *map(str, argv)], capture_output=True,
                          text=True, check=False, timeout=60)


# ---- figures ----------------------------------------------------------------------------------

def test_control_socket_is_for_its_owner_only(server):
    mode = os.lstat(server.control).st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600


def test_status_says_what_the_server_is(server):
    status = ask(server, "status")
    assert status["server"]["pid"] == server.process.pid
    assert status["server"]["engine"] in ("io_uring", "epoll")
    assert status["server"]["threads"] >= 1
    assert abs(status["server"]["started"] - time.time()) < 3600
    found = {e["name"]: e for e in status["exports"]}
    assert set(found) == {"rw", "ro", "a \"strange\\name"}
    assert found["ro"]["read_only"] and not found["rw"]["read_only"]
    assert found["rw"]["durability"] == "write" and found["rw"]["on_full"] == "hold"
    assert found["a \"strange\\name"]["durability"] == "flush"
    for e in found.values():
        assert e["size"] == SIZE and e["state"] == "ok" and e["last_error"] is None


def test_each_request_of_a_client_is_counted(server):
    before = export_of(server, "rw")
    with server.client("rw", source="127.0.0.5") as client:
        for i in range(3):
            client.write(4096 * i, b"x" * 4096)
        client.read(0, 8192)
        client.flush()
        assert client.call(nbd.TRIM, 0, 4096) == 0
        assert client.call(nbd.READ, SIZE, 512) != 0
        [mine] = clients_of(server, "rw")
        during = export_of(server, "rw")
    assert mine["address"].startswith("127.0.0.5:")
    assert not mine["read_only"] and mine["in_flight"] == 0 and mine["unsent"] == 0
    assert 0 <= mine["age_s"] < 60
    assert mine["requests"]["write"] == 3 and mine["requests"]["flush"] == 1
    assert mine["requests"]["read"] == 2 and mine["requests"]["trim"] == 1
    assert mine["bytes_written"] == 3 * 4096 and mine["bytes_read"] == 8192
    assert mine["errors"] == 1
    assert during["connections"] == 1 and during["holder"].startswith("127.0.0.5")

    def closed():
        after = export_of(server, "rw")
        return after["connections"] == 0 and after

    after = until(closed, what="the end of the connection")
    assert after["holder"] is None
    # what a connection has counted outlives it
    for e in during, after:
        for op, n in mine["requests"].items():
            assert e["requests"][op] - before["requests"][op] == n
        assert e["bytes_written"] - before["bytes_written"] == 3 * 4096


def test_latencies_are_those_of_the_requests(server):
    before = export_of(server, "rw")["latency"]
    with server.client("rw") as client:
        for i in range(50):
            client.write(4096 * i, b"y" * 4096)
            client.read(4096 * i, 4096)
        client.flush()
    after = export_of(server, "rw")["latency"]
    for kind, n in ("read", 50), ("write", 50), ("flush", 1):
        now, then = after[kind], before[kind]
        assert now["count"] - then["count"] == n
        assert sum(b["count"] for b in now["buckets"]) == now["count"]
        assert 0 < now["p50_ns"] <= now["p90_ns"] <= now["p99_ns"] <= now["p999_ns"]
        assert (now["sum_ns"] - then["sum_ns"]) / n < 10e9


def test_reconnection_is_counted(server):
    before = export_of(server, "rw")["reconnections"]
    with server.client("rw") as old:
        with server.client("rw"):
            assert old.is_closed()
            assert export_of(server, "rw")["reconnections"] == before + 1


def test_negotiating_client_is_seen_without_an_export(server):
    with server.client():
        assert any(c["export"] is None for c in ask(server, "clients")["clients"])
        assert ask(server, "status")["server"]["half_open"] >= 1


def test_refused_client_is_counted(server):
    before = ask(server, "status")["server"]
    with server.client() as client:
        with pytest.raises(Refused):
            client.go("no such export")
    after = ask(server, "status")["server"]
    assert after["refused"] > before["refused"] and after["accepted"] > before["accepted"]


# ---- orders -----------------------------------------------------------------------------------

def test_disconnect_cuts_one_client_and_no_other(server):
    with server.client("ro", source="127.0.0.5") as one, server.client("ro") as two:
        [victim] = [c for c in clients_of(server, "ro") if c["address"].startswith("127.0.0.5:")]
        assert ask(server, "disconnect", id=victim["id"])["disconnected"] == 1
        assert one.is_closed()
        two.read(0, 512)
        with Control(server.control) as control:
            until(lambda: not control.ask("disconnect", id=victim["id"])["ok"])


def test_disconnect_of_an_export_cuts_all_of_its_clients(server):
    with server.client("ro") as one, server.client("ro") as two, server.client("rw") as other:
        assert ask(server, "disconnect", export="ro")["disconnected"] == 2
        assert one.is_closed() and two.is_closed()
        other.read(0, 512)


def test_release_lets_another_client_in(server):
    with server.client("rw", source="127.0.0.5") as holder:
        holder.write(0, b"mine")
        with server.client(source="127.0.0.6") as other:
            with pytest.raises(Refused) as refused:
                other.go("rw")
            assert "127.0.0.5" in refused.value.text
        ask(server, "release", export="rw")
        assert holder.is_closed()
        with server.client("rw", source="127.0.0.6") as other:
            assert other.read(0, 4) == b"mine"


@pytest.mark.parametrize("request_", [
    {"command": "release", "export": "no such export"},
    {"command": "disconnect", "export": "no such export"},
    {"command": "disconnect", "id": 2**64 - 1},
    {"command": "nonsense"},
    {"command": "status", "id": 1},
    {},
])
def test_order_that_cannot_be_obeyed_is_refused_in_words(server, request_):
    with Control(server.control) as control:
        control.sock.sendall(json.dumps(request_).encode() + b"\n")
        answer = json.loads(control.file.readline())
        assert answer["ok"] is False and len(answer["error"]) > 10
        assert control.ask("exports")["ok"]


def test_clients_of_the_control_socket_do_not_delay_those_of_nbd(server):
    hostile = []
    for i in range(40):
        control = Control(server.control)
        hostile.append(control)
        if i % 2:
            control.sock.sendall(b"{\"command\":\"status\"}\n" * 50)  # and never reads
        else:
            control.sock.sendall(b"{\"command\":")
    with server.client("rw") as client:
        for i in range(50):
            began = time.monotonic()
            client.read(0, 4096)
            assert time.monotonic() - began < 1
    assert ask(server, "exports")
    for control in hostile:
        control.__exit__()


def test_reload_adds_and_removes_exports_and_leaves_the_others_alone(tmp_path):
    make_images(tmp_path, "one", "two")
    config = tmp_path / "nbdserve.conf"
    one = f"[export one]\npath = {tmp_path}/one.img\n"
    two = f"[export two]\npath = {tmp_path}/two.img\n"
    config.write_text(one)
    server = Server(tmp_path, "--control", tmp_path / "control", "--config", config)
    with server.client("one") as client:
        client.write(0, b"1")
        config.write_text(one + two)
        result = nbdroot("reload", "--socket", tmp_path / "control")
        assert result.returncode == 0, result.stderr
        with server.client("two") as second:
            assert client.read(0, 1) == b"1"
            config.write_text(one)
            assert nbdroot("reload", "--socket", tmp_path / "control").returncode == 0
            assert second.is_closed()
        assert client.read(0, 1) == b"1"
        config.write_text("[export broken\n")
        result = nbdroot("reload", "--socket", tmp_path / "control")
        assert result.returncode == 1 and "nbdserve.conf" in result.stderr
        assert client.read(0, 1) == b"1"
    assert server.stop() == 0


def test_successor_takes_the_listening_sockets_over(tmp_path):
    make_images(tmp_path, "rw")
    arguments = ["--control", tmp_path / "control", "--export", f"rw={tmp_path}/rw.img"]
    old = Server(tmp_path, *arguments)
    with old.client("rw") as client:
        client.write(0, b"before")
    stop = threading.Event()
    gaps, wrong = [], []

    def keep_asking():
        last = time.monotonic()
        while not stop.is_set():
            try:
                with Client(old.address, timeout=5) as c:
                    if c.go("rw").read(0, 6) != b"before":
                        wrong.append("data")
            except (OSError, EOFError, Refused, struct.error):
                continue
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        until(lambda: len(gaps) > 5)
        new = Server(tmp_path, *arguments, "--take-over", port=old.address[1])
        assert old.process.wait(20) == 0
        seen = len(gaps)
        until(lambda: len(gaps) > seen + 5)
    finally:
        stop.set()
        asking.join()
    assert not wrong and max(gaps) < 1, (wrong, max(gaps))
    with Control(tmp_path / "control") as control:
        assert control.ask("status")["server"]["pid"] == new.process.pid
    assert new.stop() == 0


# ---- the metrics address ----------------------------------------------------------------------

def metrics_url(server):
    return re.search(r"http://127\.0\.0\.1:\d+/metrics", server.text()).group(0)


def labels_of(text):
    """{a="b",...} by the rules of the format; what it may not be does not match."""
    pair = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
    assert re.fullmatch(rf"(?:{pair}(?:,{pair})*)?", text), text
    unescape = {"\\\\": "\\", "\\\"": "\"", "\\n": "\n"}
    return {name: re.sub(r'\\["\\n]', lambda m: unescape[m.group(0)], value)
            for name, value in re.findall(pair, text)}


def scrape(server):
    with urllib.request.urlopen(metrics_url(server), timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = answer.read().decode("utf-8")
    assert text.endswith("\n")
    samples, types, family = {}, {}, None
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            family = line.split(" ")[2]
            assert family not in types
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family and kind in ("gauge", "counter", "histogram")
            types[name] = kind
        else:
            name, labels, value = re.fullmatch(
                r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)", line).groups()
            assert name == family or (types[family] == "histogram" and re.fullmatch(
                family + "_(bucket|sum|count)", name))
            key = name, tuple(sorted(labels_of(labels or "").items()))
            assert key not in samples
            samples[key] = float(value)
    return samples


def test_metrics_are_those_of_the_status(server):
    with server.client("rw", source="127.0.0.5") as client:
        client.write(0, b"z" * 512)
        client.flush()
        samples, status = scrape(server), ask(server, "status")
        for e in status["exports"]:
            label = ("export", e["name"])
            for op, n in e["requests"].items():
                assert samples["nbdserve_export_requests_total", (label, ("op", op))] == n
            for metric, field in (("size_bytes", "size"), ("connections", "connections"),
                                  ("written_bytes_total", "bytes_written"),
                                  ("reconnections_total", "reconnections")):
                assert samples[f"nbdserve_export_{metric}", (label,)] == e[field]
            for kind, h in e["latency"].items():
                if h["count"]:
                    name = "nbdserve_export_request_duration_seconds"
                    labels = ("class", kind), label
                    assert samples[name + "_count", labels] == h["count"]
                    assert samples[name + "_bucket", labels + (("le", "+Inf"),)] == h["count"]
        assert samples["nbdserve_export_has_holder", (("export", "rw"),)] == 1


def test_metrics_address_serves_nothing_else(server):
    base = metrics_url(server).removesuffix("/metrics")
    for path, method, status in (("/", "GET", 404), ("/metrics", "POST", 405)):
        request = urllib.request.Request(base + path, method=method)
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(request, timeout=20)
        assert error.value.code == status


def test_metrics_address_is_off_by_default(tmp_path):
    make_images(tmp_path, "rw")
    server = Server(tmp_path, "--export", f"rw={tmp_path}/rw.img")
    fds = pathlib.Path(f"/proc/{server.process.pid}/fd")
    mine = {os.readlink(fd) for fd in fds.iterdir()}
    listening = []
    for table in "tcp", "tcp6":
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in mine:
                listening.append(int(fields[1].split(":")[1], 16))
    assert set(listening) == {server.address[1]}
    assert server.stop() == 0


# ---- nbdroot ----------------------------------------------------------------------------------

def test_nbdroot_shows_the_server_its_exports_and_its_clients(server):
    with server.client("rw", source="127.0.0.5") as client:
        client.write(0, b"x")
        result = nbdroot("status", "--socket", server.control)
        assert result.returncode == 0 and not result.stderr, result.stderr
        about, exports, clients = result.stdout.split("\n\n")
        assert f"process {server.process.pid}," in about
        assert re.search(r"^rw +16 MiB +rw +ok +1 .* 127\.0\.0\.5", exports, re.MULTILINE)
        assert re.search(r"^ *\d+ +127\.0\.0\.5:\d+ +rw +rw ", clients, re.MULTILINE)
        listed = nbdroot("client", "list", "--socket", server.control)
        assert listed.returncode == 0 and "127.0.0.5:" in listed.stdout
        whole = json.loads(nbdroot("status", "--json", "--socket", server.control).stdout)
        assert {"server", "exports", "clients"} <= set(whole)
        part = json.loads(nbdroot("client", "list", "--json", "--socket", server.control).stdout)
        assert [c["export"] for c in part["clients"]] == ["rw"]


def test_nbdroot_disconnects_by_number_and_by_export(server):
    with server.client("ro") as one:
        [client] = clients_of(server, "ro")
        result = nbdroot("client", "disconnect", client["id"], "--socket", server.control)
        assert result.stdout == "disconnected: 1 connection\n" and result.returncode == 0
        assert one.is_closed()
    with server.client("ro") as one, server.client("ro") as two:
        until(lambda: len(clients_of(server, "ro")) == 2)
        result = nbdroot("client", "disconnect", "ro", "--socket", server.control)
        assert result.stdout == "disconnected: 2 connections\n" and result.returncode == 0
        assert one.is_closed() and two.is_closed()
    result = nbdroot("client", "disconnect", "--export", "77", "--socket", server.control)
    assert result.returncode == 1 and "77" in result.stderr


def test_nbdroot_releases_an_export(server):
    with server.client("rw") as holder:
        assert nbdroot("client", "release", "rw", "--socket", server.control).returncode == 0
        assert holder.is_closed()


@pytest.mark.parametrize("argv", [
    ["status", "x"], ["reload", "--json"], ["client"], ["client", "nonsense"],
    ["client", "list", "x"], ["client", "disconnect"], ["client", "disconnect", "1", "2"],
    ["client", "release"], ["status", "--nonsense"], ["status", "--socket"],
])
def test_wrong_usage_of_nbdroot_is_one_line_and_exit_2(argv):
    result = nbdroot(*argv)
    assert result.returncode == 2 and not result.stdout
    assert result.stderr.count("\n") == 1


def test_nbdroot_says_what_to_do_when_there_is_no_server(tmp_path):
    for command in ["status"], ["reload"], ["client", "list"], ["client", "release", "x"]:
        result = nbdroot(*command, "--socket", tmp_path / "control")
        assert result.returncode == 1 and not result.stdout
        assert result.stderr.count("\n") == 1
        assert f"is nbdserve running, with --control {tmp_path}/control?" in result.stderr


class Impostor:
    """Answers the first request on a control socket with these bytes, and closes."""

    def __init__(self, path, answer):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.answer = answer
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        sock, _ = self.listener.accept()
        with sock:
            self.request = sock.makefile("rb").readline()
            sock.sendall(self.answer)

    def close(self):
        self.thread.join()
        self.listener.close()


def ask_impostor(tmp_path, answer, *argv):
    impostor = Impostor(tmp_path / "control", answer)
    try:
        return nbdroot(*argv, "--socket", tmp_path / "control"), impostor
    finally:
        impostor.close()


@pytest.mark.parametrize("answer", [
    b"", b"\n", b"hello\n", b"[]\n", b"{}\n", b"{\"ok\":true", b"{\"ok\":1}\n", b"{\"ok\":true}x\n",
    b"{\"ok\":false}\n", b"{\"ok\":true,\"clients\":[\n",
])
def test_answer_that_makes_no_sense_is_an_error(tmp_path, answer):
    result, _ = ask_impostor(tmp_path, answer, "client", "list")
    assert result.returncode == 1 and not result.stdout
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("answer", [
    b"{\"ok\":true}\n", b"{\"ok\":true,\"server\":7,\"exports\":{},\"clients\":\"x\"}\n",
    b"{\"ok\":true,\"server\":{},\"exports\":[1,[2]],\"clients\":[{},null]}\n",
])
def test_answer_with_other_members_than_expected_is_shown_as_far_as_it_goes(tmp_path, answer):
    result, _ = ask_impostor(tmp_path, answer, "status")
    assert result.returncode == 0 and not result.stderr


def test_names_cannot_act_on_the_terminal(tmp_path):
    name = "evil\x1b[2J\x9b31m\x7f\n"
    client = {"id": 1, "address": name, "export": name, "host": name}
    answer = json.dumps({"ok": True, "clients": [client]}).encode() + b"\n"
    result, _ = ask_impostor(tmp_path, answer, "client", "list")
    assert result.returncode == 0
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", result.stdout)
    assert result.stdout.count("\n") == 2 and "evil?[2J" in result.stdout
    (tmp_path / "control").unlink()
    answer = json.dumps({"ok": False, "error": name}).encode() + b"\n"
    result, _ = ask_impostor(tmp_path, answer, "reload")
    assert result.returncode == 1 and "\x1b" not in result.stderr


def test_columns_stand_below_their_heads(tmp_path):
    clients = [{"id": i, "address": "a" * 3 ** i, "export": "é" * 2 ** i, "age_s": 40.0 ** i,
                "bytes_read": 10 ** (3 * i)} for i in range(5)]
    answer = json.dumps({"ok": True, "clients": clients}).encode() + b"\n"
    result, _ = ask_impostor(tmp_path, answer, "client", "list")
    head, *rows = result.stdout.splitlines()
    for row in rows:
        assert row.index("é") == head.index("EXPORT")
        assert row.index(" ro ") + 1 == head.index("MODE") if " ro " in row else \
            row.index(" rw ") + 1 == head.index("MODE")
        # numbers end where their head ends
        assert re.search(r"B$", row[:head.index("READ") + 4])
    assert "40.0 s" in result.stdout or "40 s" in result.stdout
    assert "26 min 40 s" in result.stdout and "17 h 46 min" in result.stdout
    assert "29 d 15 h" in result.stdout and "931 GiB" in result.stdout


def test_order_of_nbdroot_is_json_whatever_the_name(tmp_path):
    name = "a \"b\\\n é"
    _, impostor = ask_impostor(tmp_path, b"{\"ok\":true}\n", "client", "release", name)
    assert json.loads(impostor.request) == {"command": "release", "export": name}
    (tmp_path / "control").unlink()
    _, impostor = ask_impostor(tmp_path, b"{\"ok\":true}\n", "client", "disconnect", "12")
    assert json.loads(impostor.request) == {"command": "disconnect", "id": 12}

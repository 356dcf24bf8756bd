# SPDX-License-Identifier: GPL-2.0-or-later
"""
nbdserve locks itself up before it talks to anybody: what an intruder in one of its threads can
still do, and that serving is not hurt by it.
"""
import os
import pathlib
import pwd
import re
import signal
import subprocess

import pytest

from nbd import BUILD, Client, Server, until

MIB = 1 << 20


@pytest.fixture(scope="module")
def shim(preloaded):
    return preloaded("intruder.c")


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "images" / "a.img"
    path.parent.mkdir()
    path.write_bytes(bytes(MIB))
    return path


def statuses(server):
    """The status of each thread, as a dictionary."""
    for path in pathlib.Path(f"/proc/{server.process.pid}/task").glob("*/status"):
        yield dict(re.findall(r"^(\w+):\s*(.*)$", path.read_text(), re.MULTILINE))


def is_sanitized():
    """Such a build has no seccomp, see sandbox-internal.h."""
    program = (BUILD / "nbdserve").read_bytes()
    return b"__asan_init" in program or b"__tsan_init" in program


def use(server, name="a"):
    with server.client(name) as client:
        client.write(0, b"x" * 4096)
        client.flush()
        assert client.read(0, 4096) == b"x" * 4096


def test_every_thread_is_locked_up_and_serves(tmp_path, image):
    server = Server(tmp_path, "--export", f"a={image}")
    with server.client("a"):
        seen = list(statuses(server))
        assert seen
        for status in seen:
            assert status["NoNewPrivs"] == "1", status["Name"]
            if not is_sanitized():
                assert status["Seccomp"] == "2", status["Name"]
    use(server)
    assert server.stop() == 0


def test_server_becomes_the_user_of_its_configuration(tmp_path, image):
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    nobody = pwd.getpwnam("nobody")
    config = tmp_path / "nbdserve.conf"
    config.write_text(f"[server]\nuser = nobody\n[export a]\npath = {image}\n")
    server = Server(tmp_path, "--config", config)
    for status in statuses(server):
        assert set(status["Uid"].split()) == {str(nobody.pw_uid)}
        assert set(status["Gid"].split()) == {str(nobody.pw_gid)}
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    use(server)  # an image that root opened for it
    assert server.stop() == 0


def test_user_that_is_not_there_ends_the_start_in_words(tmp_path, image):
    config = tmp_path / "nbdserve.conf"
    config.write_text(f"[server]\nuser = no-such-user\n[export a]\npath = {image}\n")
    with pytest.raises(AssertionError, match="cannot become the user no-such-user: .*create it"):
        Server(tmp_path, "--config", config)


def preload(shim, tmp_path, **more):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    return {"LD_PRELOAD": str(shim), "INTRUDER_SECRET": str(secret),
            "ASAN_OPTIONS": "verify_asan_link_order=0", **more}


def results(server):
    return dict(re.findall(r"^intruder: (.*): (\w+)$", server.text(), re.MULTILINE))


def test_intruder_in_a_thread_gets_nowhere(tmp_path, image, shim):
    server = Server(tmp_path, "--export", f"a={image}", env=preload(shim, tmp_path))
    use(server)
    until(lambda: "fork" in results(server), what="a thread with an intruder")
    got = results(server)
    assert got["open /etc/passwd"] == got["open a secret"] == "EACCES"
    if not is_sanitized():
        assert {got[name] for name in ("netlink", "kill", "code", "setuid", "fork")} == {"ENOSYS"}
    assert server.stop() == 0
    assert "success" not in results(server).values() or is_sanitized()


def test_intruder_who_starts_a_program_ends_the_server(tmp_path, image, shim):
    if is_sanitized():
        pytest.skip("builds with a sanitizer have no seccomp")
    env = preload(shim, tmp_path, INTRUDER_EXECUTES="1")
    address = tmp_path / "socket"

    def is_over():
        try:
            Client(address).close()  # threads may begin with the first client, or before it
        except (OSError, EOFError):
            pass
        return server.poll() is not None

    with open(tmp_path / "log", "w+") as log:
        server = subprocess.Popen([BUILD / "nbdserve", "--foreground", "--unix", address,
                                   "--export", f"a={image}"],
                                  env={**os.environ, **env}, stderr=log)
        try:
            until(is_over, what="the end of the server")
        finally:
            server.kill()
            server.wait()
        log.seek(0)
        text = log.read()
    assert "intruder: fork: ENOSYS" in text
    assert server.returncode == -signal.SIGSYS

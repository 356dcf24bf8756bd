# SPDX-License-Identifier: GPL-2.0-or-later
"""
What is packaged beside nbdserve: systemd understands every line of the units, and nbdserve every
line of its configuration, the commented examples too.
"""
import os
import pathlib
import re
import shutil
import subprocess

import pytest

import nbd

IMAGES = pathlib.Path(__file__).resolve().parents[2] / "images" / "nbdserve"


def systemd(tool):
    path = shutil.which(tool)
    if not path:
        pytest.skip(f"{tool} is not installed")
    return path


def run(*command, **env):
    return subprocess.run([str(word) for word in command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60,
                          env={**os.environ, **env})


def units(folder, executable):
    """The units as they are installed, with a program that is there."""
    text = (IMAGES / "nbdserve.service").read_text()
    text = text.replace("@SBINDIR@/nbdserve", str(executable)).replace("@SYSCONFDIR@", "/etc")
    assert "@" not in text.replace("@system-service", "")
    (folder / "nbdserve.service").write_text(text)
    shutil.copy(IMAGES / "nbdserve.socket", folder)
    return [folder / "nbdserve.service", folder / "nbdserve.socket"]


def test_systemd_has_nothing_to_say_about_the_units(tmp_path):
    analyze = systemd("systemd-analyze")
    done = run(analyze, "verify", "--man=no", *units(tmp_path, "/bin/true"))
    assert (done.returncode, done.stdout) == (0, "")


def test_systemd_would_say_something_about_a_misspelt_line(tmp_path):
    """The test above can fail."""
    analyze = systemd("systemd-analyze")
    service, socket = units(tmp_path, "/bin/true")
    service.write_text(service.read_text().replace("ProtectSystem=", "ProtectSistem="))
    done = run(analyze, "verify", "--man=no", service, socket)
    assert "ProtectSistem" in done.stdout


def test_the_service_is_locked_up(tmp_path):
    analyze = systemd("systemd-analyze")
    service, _ = units(tmp_path, "/bin/true")
    done = run(analyze, "security", "--offline=true", "--threshold=20", service)
    assert done.returncode == 0, done.stdout


def test_the_user_and_the_folder_of_the_images_are_declared(tmp_path):
    sysusers, tmpfiles = systemd("systemd-sysusers"), systemd("systemd-tmpfiles")
    (tmp_path / "etc").mkdir()
    done = run(sysusers, f"--root={tmp_path}", "--dry-run", IMAGES / "nbdserve.sysusers")
    assert done.returncode == 0 and "Creating user 'nbdserve'" in done.stdout, done.stdout
    if os.geteuid() != 0:
        pytest.skip("only root can make folders for another user")
    (tmp_path / "etc" / "passwd").write_text("nbdserve:x:77:77::/srv/nbd:/bin/false\n")
    (tmp_path / "etc" / "group").write_text("nbdserve:x:77:\n")
    shutil.copy(IMAGES / "nbdserve.tmpfiles", tmp_path / "nbdserve.conf")
    done = run(tmpfiles, f"--root={tmp_path}", "--create", tmp_path / "nbdserve.conf")
    assert done.returncode == 0, done.stdout
    stat = (tmp_path / "srv" / "nbd").stat()
    assert (stat.st_uid, stat.st_gid, stat.st_mode & 0o777) == (77, 77, 0o750)


# The configuration is checked before anything is opened: a server of no exports, or of images
# that are not there, is far enough.

def serve(config):
    return run(nbd.BUILD / "nbdserve", "--foreground", "--config", config)


def test_the_packaged_configuration_serves_nothing_until_it_is_told_to():
    done = serve(IMAGES / "nbdserve.conf")
    assert done.returncode == 2
    assert "there is nothing to serve" in done.stdout


def test_the_packaged_configuration_admits_nobody_by_default():
    lines = (IMAGES / "nbdserve.conf").read_text().splitlines()
    assert "allow = none" in lines[:lines.index("directory = /srv/nbd")]


def test_the_examples_in_the_packaged_configuration_are_right(tmp_path):
    text = (IMAGES / "nbdserve.conf").read_text()
    text = re.sub(r"^#(?=\[|\w[\w-]* = )", "", text, flags=re.MULTILINE)
    text = text.replace("/srv/nbd", str(tmp_path / "no-images-here"))
    assert text.count("[export ") == 3 and "\nunix = " in text and "\nmetrics = " in text
    config = tmp_path / "nbdserve.conf"
    config.write_text(text)
    done = serve(config)
    assert done.returncode == 1, done.stdout
    assert "no-images-here/" in done.stdout and "line " not in done.stdout

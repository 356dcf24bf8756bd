# SPDX-License-Identifier: GPL-2.0-or-later
"""
NFS servers for tests: nfs-ganesha, which is a process like any other, in the namespace of a test's
network; with rpcbind beside it, for version 3. What it exports are folders of this machine.
"""
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import lab
import pytest


def need(program):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed (make deps)")


def make_initrd(folder, drivers="nfsv3,nfsv4,overlay"):
    """With what such roots need besides NBD: --drivers takes any module by name."""
    path = folder / "initrd"
    subprocess.run([lab.NBDROOT, "initramfs", "-o", path, "--modules", lab.uml_modules(), "--drivers",
                    drivers], check=True, capture_output=True)
    return path

CONFIG = """
NFS_CORE_PARAM {{ Protocols = {versions}; NFS_Port = {port}; Enable_NLM = false;
	Enable_RQUOTA = false; Enable_UDP = false; }}
NFSV4 {{ Minor_Versions = {minors}; Graceless = {graceless}; Grace_Period = 5; Lease_Lifetime = 5;
	RecoveryRoot = {run}/recovery;
	Only_Numeric_Owners = true; Allow_Numeric_Owners = true; }}
LOG {{ Default_Log_Level = EVENT; }}
"""
EXPORT = """
EXPORT {{ Export_Id = {id}; Path = {path}; Pseudo = {pseudo}; Protocols = {versions}; SecType = sys;
	Squash = No_Root_Squash; Access_Type = {access}; FSAL {{ Name = VFS; }} {more} }}
"""
# ganesha does not start where it cannot register.
RPCBIND = "rpcbind -w -f & until rpcinfo -p 127.0.0.1 >/dev/null 2>&1; do sleep 0.02; done"
# A /run of their own: both have sockets there that are one per machine.
RUN = """
set -e
mount -t tmpfs run /run
mkdir -p {run}/recovery /run/ganesha /run/rpcbind
{rpcbind}
exec ganesha.nfsd -F -f {config} -L {log} -p /run/ganesha.pid
"""


class Export:
    """A folder of this machine as clients see it: by version 3 as its own path, else as pseudo."""

    def __init__(self, path, pseudo=None, access="RW", clients=None, versions="3,4"):
        self.path, self.pseudo = pathlib.Path(path), pseudo or path
        self.access, self.clients, self.versions = access, clients, versions

    def text(self, number):
        more = ""
        access = self.access
        if self.clients is not None:
            more = f"CLIENT {{ Clients = {self.clients}; Access_Type = {access}; }}"
            access = "None"
        return EXPORT.format(id=number, path=self.path, pseudo=self.pseudo, access=access,
                             versions=self.versions, more=more)


class Server:
    """Started again and again on the same folders, as lab.Server is."""

    def __init__(self, network, exports, versions="3,4", minors="0,1,2", port=2049, grace=False):
        if os.geteuid() != 0:
            pytest.skip("an NFS server opens files by their handles, which only root may")
        need("ganesha.nfsd")
        need("rpcbind")
        self.network, self.exports = network, exports
        self.versions, self.minors, self.port = versions, minors, port
        self.grace = grace  # after a restart clients may take their locks back, and others wait
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="nbdroot-nfs-"))
        self.log = self.folder / "log"
        self.process = None

    def start(self):
        """Returns when it answers."""
        run, config = self.folder / "run", self.folder / "conf"
        config.write_text(CONFIG.format(versions=self.versions, minors=self.minors, port=self.port,
                                        graceless=str(not self.grace).lower(), run=run)
                          + "".join(e.text(i + 1) for i, e in enumerate(self.exports)))
        self.log.write_text("")
        rpcbind = RPCBIND if "3" in self.versions else ""
        script = RUN.format(run=run, config=config, log=self.log, rpcbind=rpcbind)
        self.process = subprocess.Popen(
            self.network.inside("unshare", "--mount", "sh", "-c", script),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True)
        lab.wait_until(lambda: "NFS SERVER INITIALIZED" in self.log.read_text(errors="replace"), 30,
                       lambda: f"the NFS server, whose log ends:\n{self.log.read_text()[-3000:]}")

    def kill(self):
        """ganesha and its rpcbind, which are a session of their own."""
        if self.process:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait(timeout=30)

    def close(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

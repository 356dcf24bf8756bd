# SPDX-License-Identifier: GPL-2.0-or-later
"""
An NFS root whose rpm database is on a network block device, in each of the three layouts of
docs/rpm.md: a whole Debian, its own rpm, a package of 600 files. Install, erase, a kill of the server
under a transaction, kill -9 of rpm in one, --verifydb, --rebuilddb. Real kernels and a real NFS server.
"""
import lab
import nfs
import pytest
import roots

PACKAGE = "nbdroot-hello"
INSTALL = "rpm -i --force-debian --nodeps /root/hello.rpm"
# docs/rpm.md, "Rebuilding when the mount point is the database"
RECIPE = ("mount /dev/nbd0 /mnt && mkdir /mnt/rebuild && cp -p /var/lib/rpm/rpmdb.sqlite* /mnt/rebuild/ && "
          "rpmdb --dbpath /mnt/rebuild --rebuilddb && rm -f /var/lib/rpm/rpmdb.sqlite-* && "
          "mv /mnt/rebuild/rpmdb.sqlite* /var/lib/rpm/ && rm -rf /mnt/rebuild && umount /mnt")


@pytest.fixture(scope="session")
def initrd(tmp_path_factory):
    return nfs.make_initrd(tmp_path_factory.mktemp("init"))


def set_dbpath(tree, path):
    (tree / "etc/rpm").mkdir(exist_ok=True)
    (tree / "etc/rpm/macros").write_text(f"%_dbpath {path}\n")


class Machine:
    """One machine, its NFS and NBD servers."""

    def __init__(self, folder, network, initrd, prepare, rpmdb):
        self.tree = roots.make_tree(folder)
        prepare(self.tree)
        package = next((lab.BUILD / "demo-package").glob("*.rpm"))
        (self.tree / "root/hello.rpm").write_bytes(package.read_bytes())
        self.image = lab.make_image(folder / "rpm.img", "64M")
        self.nfs = nfs.Server(network, [nfs.Export(self.tree)])
        self.server = lab.Server(network, {"rpm": self.image})
        self.nfs.start()
        self.server.start()
        self.guest = lab.Guest(network, memory="384M", initrd=initrd,
                               append=f"root=nfs:{lab.SERVER_IP}:{self.tree} rw {roots.IP} "
                                      f"rpmdb=nbd://{lab.SERVER_IP}/rpm{rpmdb}")

    def files(self, is_whole=str.isdigit):
        """How many files of the package are there: seen on the server."""
        folder = self.tree / "usr/share" / PACKAGE
        return sum(is_whole(f.name) for f in folder.iterdir()) if folder.exists() else 0

    def wait_transaction(self, job):
        """Into its middle: rpm gives its files their names at the end."""
        lab.wait_until(lambda: self.files(bool) > 50 or not self.guest.is_running(job), 60,
                       "the transaction")

    def close(self):
        self.guest.close()
        self.server.close()
        self.nfs.close()


@pytest.fixture
def switch_on(tmp_path, network, initrd):
    machines = []

    def start(prepare, rpmdb):
        machines.append(Machine(tmp_path, network, initrd, prepare, rpmdb))
        machines[-1].guest.wait_ready(240)
        return machines[-1]

    yield start
    for machine in machines:
        machine.close()


def use_sysimage(tree):
    (tree / "usr/lib/sysimage/rpm").mkdir(parents=True)
    set_dbpath(tree, "/usr/lib/sysimage/rpm")


@pytest.mark.parametrize("prepare, rpmdb, mount_point, database, rebuild", [
    (lambda tree: None, "", "/var/lib/rpm", "/var/lib/rpm", RECIPE),
    (use_sysimage, "", "/usr/lib/sysimage", "/usr/lib/sysimage/rpm", "rpmdb --rebuilddb"),
    (lambda tree: set_dbpath(tree, "/var/lib/own/db"), ",/var/lib/own", "/var/lib/own", "/var/lib/own/db",
     "rpmdb --rebuilddb"),
], ids=["classic", "sysimage", "own"])
def test_rpm_works_on_an_nfs_root_in_each_layout(switch_on, prepare, rpmdb, mount_point, database,
                                                 rebuild):
    machine = switch_on(prepare, rpmdb)
    guest = machine.guest
    assert f"/dev/nbd0 {mount_point} ext3 rw" in guest.run("cat /proc/mounts")
    assert " / nfs4 rw" in guest.run("cat /proc/mounts")
    guest.run(f"mkdir -p {database} && rpm --initdb && test -e {database}/rpmdb.sqlite", timeout=60)

    # the server dies under a transaction, which waits and goes on
    job = guest.start(INSTALL)
    machine.wait_transaction(job)
    machine.server.kill()
    guest.wait_log("lost server", 15)
    machine.server.start()
    status, output = guest.finish(job, 90)
    assert status == 0, output
    assert machine.files() == 600
    guest.run("rpmdb --verifydb", timeout=60)
    guest.run(f"rpm -V --nodeps {PACKAGE} && rpm -e --nodeps {PACKAGE}", timeout=60)
    assert machine.files() == 0

    # rpm is killed in one: the database stays whole, and the next transaction is possible
    job = guest.start(f"exec {INSTALL}")
    machine.wait_transaction(job)
    guest.run("kill -9 $(pidof rpm)")
    guest.run("rpmdb --verifydb", timeout=60)
    # rpm's temporary files are named after the second it was started in: one of the same second finds
    # those of the killed one in its way ("cpio: open failed", with the errno of something else)
    guest.run("now=$(date +%s); while [ $(date +%s) = $now ]; do sleep 0.05; done")
    guest.run(f"{INSTALL} --replacepkgs --replacefiles", timeout=90)
    assert machine.files() == 600

    guest.run(rebuild, timeout=60)
    guest.run("rpmdb --verifydb", timeout=60)
    assert guest.run("rpm -qa --qf '%{NAME}\\n'", timeout=60) == f"{PACKAGE}\n"
    # the rebuilt database is on the device, and not beside it on the NFS root
    assert guest.run(f"stat -c %m {database}/rpmdb.sqlite") == f"{mount_point}\n"

    assert not guest.io_errors()
    guest.start("systemctl poweroff")
    how, _ = roots.wait_end(guest, 60)
    assert how == "off" and "everything is written" in guest.log()
    machine.server.kill()
    clean, text = lab.fsck_is_clean(machine.image)
    assert clean, text

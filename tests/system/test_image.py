# SPDX-License-Identifier: GPL-2.0-or-later
"""
`nbdroot image`: what is in an image that was filled from a directory is read back by programs
that are not ours (e2fsck, debugfs and, where a loop device can be had, the kernel itself).
"""
import errno
import fcntl
import filecmp
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("NBDROOT_BUILD", TOP / "build")).resolve()
NBDROOT = BUILD / "nbdroot"
UUID = "01234567-89ab-cdef-0123-456789abcdef"
IS_ROOT = os.geteuid() == 0

os.environ["PATH"] += ":/usr/sbin:/sbin"


def nbdroot(*args, status=0, **kwargs):
    done = subprocess.run([NBDROOT, *map(str, args)], capture_output=True, text=True, timeout=120,
                          **kwargs)
    assert done.returncode == status, (args, done.returncode, done.stdout, done.stderr)
    return done


def create(path, *args, status=0, size="32M", **kwargs):
    return nbdroot("image", "create", path, "--size", size, *args, status=status, **kwargs)


def one_line(done):
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("nbdroot: "), done.stderr
    return lines[0]


def assert_clean(image):
    done = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def debugfs(image, *commands):
    done = subprocess.run(["debugfs", "-f", "-", image], input="\n".join(commands),
                          capture_output=True, text=True, errors="surrogateescape", check=True)
    return done.stdout


def debugfs_stat(image, path):
    text = debugfs(image, f'stat "{path}"')
    found = re.search(r"Inode: (\d+)\s+Type: (.*?)\s+Mode:\s+(\d+).*?User:\s+(\d+)\s+Group:\s+(\d+)"
                      r".*?Size: (\d+).*?Links: (\d+)\s+Blockcount: (\d+)", text, re.DOTALL)
    assert found, text
    names = ("inode", "type", "mode", "uid", "gid", "size", "links", "sectors")
    it = dict(zip(names, found.groups()))
    for name in names:
        if name not in ("type", "mode"):
            it[name] = int(it[name])
    it["mode"] = int(it["mode"], 8)
    it["mtime"] = int(re.search(r"\bmtime: 0x([0-9a-f]+):", text).group(1), 16)
    it["text"] = text
    return it


def leftovers(folder, *expected):
    return sorted(set(os.listdir(folder)) - set(expected))


def acl(*entries):
    """The value of system.posix_acl_access for (tag, permissions, id) triples."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


ACL = acl((0x01, 6, 0xFFFFFFFF), (0x02, 4, 1234), (0x04, 4, 0xFFFFFFFF), (0x10, 4, 0xFFFFFFFF),
          (0x20, 0, 0xFFFFFFFF))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A directory with one of everything."""
    top = tmp_path_factory.mktemp("tree") / "from"
    top.mkdir()
    (top / "plain").write_text("hello\n")
    (top / "empty").touch()
    (top / "big").write_bytes(b"".join(hashlib.sha256(str(i).encode()).digest()
                                       for i in range(5 * 1024 * 1024 // 32)) + b"end")
    with open(top / "sparse", "wb") as f:
        f.seek(3 * 1024 * 1024 * 1024)  # of its last block, three levels deep
        f.write(b"far away")
        f.seek(5 * 4096)
        f.write(b"x" * 4096)
        f.truncate(4 * 1024 * 1024 * 1024 + 1)
    (top / "setuid").write_text("#!/bin/sh\n")
    (top / "link-a").write_text("one inode, three names\n")
    (top / "dir").mkdir()
    os.link(top / "link-a", top / "dir" / "link-b")
    os.link(top / "link-a", top / "zlink-c")
    (top / "fast").symlink_to("x" * 59)
    (top / "slow").symlink_to("y" * 60)
    (top / "slowest").symlink_to("z/" * 2000)
    (top / "loop").symlink_to(".")
    os.mkfifo(top / "fifo")
    sock = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(top)
    sock.bind("socket")
    os.chdir(here)
    sock.close()
    os.symlink("target", os.fsencode(top) + b"/caf\xe9")  # Latin-1, not UTF-8
    (top / ("n" * 255)).write_text("long name")
    (top / "deep").mkdir()
    at = top / "deep"
    for i in range(60):
        at = at / "d"
        at.mkdir()
    (at / "bottom").write_text("bottom")
    os.setxattr(top / "plain", "user.comment", b"small")
    os.setxattr(top / "plain", "user.binary", bytes(range(256)) * 8)
    os.setxattr(top / "plain", "system.posix_acl_access", ACL)
    if IS_ROOT:
        os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(top / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 70000))
        os.setxattr(top / "setuid", "security.capability",
                    struct.pack("<IIIII", 0x02000001, 0x2000, 0, 0, 0))
        os.setxattr(top / "slow", "trusted.note", b"on a symlink", follow_symlinks=False)
        os.chown(top / "plain", 70000, 80000)
        os.chown(top / "dir", 12, 34)
        os.chown(top / "fast", 56, 78, follow_symlinks=False)
    os.chmod(top / "setuid", 0o6755)
    os.chmod(top / "dir", 0o1777)
    os.utime(top / "plain", ns=(123456789 * 10**9, 987654321 * 10**9 + 5))
    os.utime(top / "empty", ns=(0, 5 * 10**18))  # the year 2128: past 32 bits
    os.utime(top / "fast", ns=(0, 1111111111 * 10**9), follow_symlinks=False)
    os.utime(top / "dir", ns=(0, 1222222222 * 10**9))
    return top


@pytest.fixture(scope="module")
def filled(tree, tmp_path_factory):
    image = tmp_path_factory.mktemp("filled") / "image"
    done = create(image, "--from", tree, "--label", "everything", size="64M")
    assert done.stderr == ""
    return image


# ---- empty images -----------------------------------------------------------------------------


def test_empty_image_is_an_ext3_of_the_size_asked_for_and_takes_next_to_no_space(tmp_path):
    image = tmp_path / "image"
    create(image, "--label", "sixteen bytes xx", "--uuid", UUID, size="256M")
    assert_clean(image)
    assert image.stat().st_size == 256 << 20
    assert image.stat().st_blocks * 512 < 1 << 20
    assert stat.S_IMODE(image.stat().st_mode) == 0o600
    text = subprocess.run(["dumpe2fs", "-h", image], capture_output=True, text=True,
                          check=True).stdout
    for wanted in (r"volume name:\s+sixteen bytes xx\n", rf"UUID:\s+{UUID}\n",
                   r"Block size:\s+4096\n", r"Inode size:\s+256\n", r"Block count:\s+65536\n",
                   r"features:\s+has_journal ext_attr resize_inode dir_index filetype "
                   r"sparse_super large_file\n", r"mount options:\s+user_xattr acl\n",
                   r"Reserved block count:\s+655\n", r"Total journal blocks:\s+4096\n"):
        assert re.search(wanted, text), (wanted, text)


def test_empty_image_has_the_features_that_mke2fs_gives_an_ext3(tmp_path):
    create(tmp_path / "ours", size="1G")
    subprocess.run(["mke2fs", "-q", "-t", "ext3", "-b", "4096", "-m", "1", tmp_path / "theirs",
                    "1G"], check=True, stdout=subprocess.DEVNULL)
    ours, theirs = (json.loads(nbdroot("image", "info", "--json", tmp_path / name).stdout)
                    for name in ("ours", "theirs"))
    for name in ("type", "size", "block_size", "inode_size", "features", "inodes", "reserved",
                 "state", "free", "inodes_free"):
        assert ours[name] == theirs[name], name


@pytest.mark.parametrize("size", ["8M", "8396800", "128M", "134221824", "1G", "20G"])
def test_image_of_any_size_is_clean(tmp_path, size):
    create(tmp_path / "image", size=size)
    assert_clean(tmp_path / "image")


def test_image_grows_with_resize2fs(tmp_path):
    image = tmp_path / "image"
    create(image, size="64M")
    os.truncate(image, 1 << 30)
    subprocess.run(["resize2fs", image], check=True, capture_output=True)
    assert_clean(image)
    assert json.loads(nbdroot("image", "info", image, "--json").stdout)["size"] == 1 << 30


# ---- filled images ----------------------------------------------------------------------------


def test_filled_image_is_clean(filled):
    assert_clean(filled)


def test_content_comes_back_as_it_was(tree, filled, tmp_path):
    names = ["plain", "empty", "big", "setuid", "dir/link-b", "n" * 255, "deep" + "/d" * 60 +
             "/bottom"]
    debugfs(filled, *(f'dump "/{name}" {tmp_path}/{i}' for i, name in enumerate(names)))
    for i, name in enumerate(names):
        assert filecmp.cmp(tree / name, tmp_path / str(i), shallow=False), name


def test_every_name_is_there_with_its_type_mode_owner_and_time(tree, filled):
    for folder, dirs, files in os.walk(os.fsencode(tree)):
        for name in dirs + files:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            if b"caf" in name or folder.count(b"/d") > 4:
                continue  # debugfs takes no such bytes; one of the deep ones is enough
            it = debugfs_stat(filled, "/" + os.path.relpath(path, os.fsencode(tree)).decode())
            assert it["mode"] == stat.S_IMODE(st.st_mode), path
            assert (it["uid"], it["gid"]) == (st.st_uid, st.st_gid), path
            assert it["mtime"] == int(st.st_mtime) & 0xFFFFFFFF, path
            if not stat.S_ISDIR(st.st_mode):
                assert it["links"] == st.st_nlink, path
                assert it["size"] == st.st_size, path
            kinds = {stat.S_IFREG: "regular", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink",
                     stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket",
                     stat.S_IFCHR: "character special", stat.S_IFBLK: "block special"}
            assert it["type"] == kinds[stat.S_IFMT(st.st_mode)], path


def test_hard_links_are_one_inode(filled):
    inodes = {debugfs_stat(filled, name)["inode"] for name in ("/link-a", "/dir/link-b", "/zlink-c")}
    assert len(inodes) == 1


def test_holes_stay_holes(filled):
    it = debugfs_stat(filled, "/sparse")
    assert it["size"] == (4 << 30) + 1
    # Two blocks of data, one level for the first, three for the second at 3 GiB: two when below.
    assert it["sectors"] <= 8 * 8
    text = debugfs(filled, "blocks /sparse").splitlines()[1].split()
    assert 2 <= len(text) <= 8


def test_names_that_are_not_utf8_keep_their_bytes(filled):
    done = subprocess.run(["debugfs", "-R", "ls -p /", filled], capture_output=True, check=True)
    assert b"/caf\xe9/" in done.stdout


def test_extended_attributes_and_acls_are_as_the_kernel_would_write_them(filled, tmp_path):
    text = debugfs(filled, "ea_get /plain user.comment", f"ea_get -f {tmp_path}/b /plain user.binary",
                   "ea_get /plain system.posix_acl_access", "ea_list /setuid", "ea_list /slow")
    assert 'user.comment (5) = "small"' in text
    assert (tmp_path / "b").read_bytes() == bytes(range(256)) * 8
    if IS_ROOT:
        assert "security.capability" in text
        assert "trusted.note" in text


def mounted(image, folder):
    folder.mkdir()
    done = subprocess.run(["mount", "-o", "loop,ro", image, folder], capture_output=True, text=True)
    return done.returncode == 0


def test_kernel_sees_the_same_tree(tree, filled, tmp_path):
    """Byte for byte and attribute for attribute, by the one reader that counts in the end."""
    image = tmp_path / "copy"  # a loop device cannot be made of a locked or shared file
    shutil.copyfile(filled, image)
    there = tmp_path / "there"
    if not mounted(image, there):
        pytest.skip("no loop mount (not root, or a container); debugfs has compared the tree")
    try:
        seen = 0
        for folder, dirs, files in os.walk(os.fsencode(tree)):
            inside = os.path.join(os.fsencode(there), os.path.relpath(folder, os.fsencode(tree)))
            expected = set(os.listdir(folder))
            if folder == os.fsencode(tree):
                expected.add(b"lost+found")
            assert set(os.listdir(inside)) == expected
            for name in dirs + files:
                a, b = os.path.join(folder, name), os.path.join(inside, name)
                x, y = os.lstat(a), os.lstat(b)
                for field in ("st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_rdev"):
                    assert getattr(x, field) == getattr(y, field), (a, field)
                if not stat.S_ISDIR(x.st_mode):
                    assert (x.st_nlink, x.st_size) == (y.st_nlink, y.st_size), a
                if stat.S_ISLNK(x.st_mode):
                    assert os.readlink(a) == os.readlink(b)
                if stat.S_ISREG(x.st_mode) and x.st_size < 1 << 30:
                    assert filecmp.cmp(a, b, shallow=False), a
                for attr in os.listxattr(a, follow_symlinks=False):
                    assert os.getxattr(a, attr, follow_symlinks=False) == os.getxattr(
                        b, attr, follow_symlinks=False), (a, attr)
                seen += 1
        assert seen > 70
        with open(there / "sparse", "rb") as f:
            f.seek(5 * 4096)
            assert f.read(4097) == b"x" * 4096 + b"\0"
            f.seek(3 << 30)
            assert f.read(9) == b"far away\0"
    finally:
        subprocess.run(["umount", there], check=True)


def test_kernel_writes_to_it_replays_its_journal_and_nobody_replaces_it_meanwhile(tmp_path):
    image, there = tmp_path / "image", tmp_path / "there"
    create(image)
    there.mkdir()
    done = subprocess.run(["mount", "-o", "loop", image, there], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("no loop mount (not root, or a container)")
    try:
        (there / "file").write_bytes(b"x" * 100000)
        (there / "folder").mkdir()
        os.sync()
        shutil.copyfile(image, tmp_path / "pulled-plug")
        assert "mounted" in one_line(create(image, "--force", status=1))
        assert "in use" in one_line(nbdroot("image", "check", image, status=1))
    finally:
        subprocess.run(["umount", there], check=True)
    assert nbdroot("image", "check", image).stdout.endswith("clean\n")
    assert debugfs_stat(image, "/file")["size"] == 100000
    pulled = tmp_path / "pulled-plug"
    assert json.loads(nbdroot("image", "info", "--json", pulled).stdout)["state"] == "needs recovery"
    assert "not cleanly unmounted" in nbdroot("image", "check", pulled, status=1).stderr
    subprocess.run(["e2fsck", "-fy", pulled], capture_output=True)  # replays
    assert_clean(pulled)
    assert debugfs_stat(pulled, "/file")["size"] == 100000


def test_directory_of_twelve_thousand_names_is_complete(tmp_path):
    source = tmp_path / "from"
    (source / "many").mkdir(parents=True)
    for i in range(12000):
        (source / "many" / f"file-{i:05d}").touch()
    create(tmp_path / "image", "--from", source)
    assert_clean(tmp_path / "image")
    names = set(re.findall(r"file-\d{5}", debugfs(tmp_path / "image", "ls -p /many")))
    assert len(names) == 12000


def test_lost_and_found_of_the_source_is_taken_and_not_doubled(tmp_path):
    source = tmp_path / "from"
    (source / "lost+found").mkdir(parents=True)
    (source / "lost+found" / "#123").write_text("found")
    create(tmp_path / "image", "--from", source)
    assert_clean(tmp_path / "image")
    assert debugfs_stat(tmp_path / "image", "/lost+found/#123")["size"] == 5
    assert debugfs_stat(tmp_path / "image", "/lost+found")["size"] == 16384


# ---- reproducible -----------------------------------------------------------------------------


def test_same_input_gives_the_same_bytes(tree, tmp_path):
    again = tmp_path / "again"  # the same tree in another order on the disk
    again.mkdir()
    subprocess.run(["cp", "-a", "--sparse=always", f"{tree}/.", again], check=True)
    os.utime(again, ns=(0, os.stat(tree).st_mtime_ns))
    env = dict(os.environ, SOURCE_DATE_EPOCH="1700000000")
    for name, source in (("a", tree), ("b", again)):
        create(tmp_path / name, "--from", source, "--uuid", UUID, size="64M", env=env)
        time.sleep(1.1)  # a clock that shows would show now
    assert filecmp.cmp(tmp_path / "a", tmp_path / "b", shallow=False)
    assert_clean(tmp_path / "a")


def test_no_time_in_the_image_is_later_than_source_date_epoch(tmp_path):
    source = tmp_path / "from"
    source.mkdir()
    (source / "new").write_text("made just now")
    create(tmp_path / "image", "--from", source, env=dict(os.environ, SOURCE_DATE_EPOCH="1000"))
    assert debugfs_stat(tmp_path / "image", "/new")["mtime"] == 1000
    info = json.loads(nbdroot("image", "info", "--json", tmp_path / "image").stdout)
    assert (info["created"], info["written"], info["checked"], info["mounted"]) == (1000, 1000,
                                                                                    1000, 0)
    data = (tmp_path / "image").read_bytes()
    recent = {struct.pack("<I", int(time.time()) - i) for i in range(60)}
    assert not any(data[i:i + 4] in recent for i in range(0, 8 << 20, 4))


def test_without_a_uuid_two_images_differ_in_it(tmp_path):
    seen = set()
    for name in ("a", "b"):
        create(tmp_path / name)
        seen.add(json.loads(nbdroot("image", "info", "--json", tmp_path / name).stdout)["uuid"])
    assert len(seen) == 2
    assert all(u[14] == "4" and u[19] in "89ab" for u in seen)


# ---- refusals ---------------------------------------------------------------------------------


def test_existing_file_is_kept_without_force_and_replaced_with_it(tmp_path):
    image = tmp_path / "image"
    image.write_text("precious")
    assert "--force" in one_line(create(image, status=1))
    assert image.read_text() == "precious"
    assert leftovers(tmp_path, "image") == []
    image.chmod(0o640)
    create(image, "--force")
    assert_clean(image)
    assert stat.S_IMODE(image.stat().st_mode) == 0o640
    assert leftovers(tmp_path, "image") == []


@pytest.mark.parametrize("make", [
    lambda p: p.mkdir(), lambda p: os.mkfifo(p), lambda p: p.symlink_to("elsewhere")])
def test_what_is_no_regular_file_is_never_replaced(tmp_path, make):
    make(tmp_path / "image")
    before = os.lstat(tmp_path / "image")
    for force in ([], ["--force"]):
        assert "not a regular file" in one_line(create(tmp_path / "image", *force, status=1))
    assert os.lstat(tmp_path / "image").st_ino == before.st_ino
    assert leftovers(tmp_path, "image") == []


@pytest.mark.parametrize("lock", [fcntl.flock, fcntl.lockf])
def test_image_that_a_server_has_locked_is_not_replaced(tmp_path, lock):
    image = tmp_path / "image"
    create(image)
    with open(image, "r+b") as f:
        lock(f, fcntl.LOCK_EX)
        assert "in use" in one_line(create(image, "--force", status=1))
        assert "in use" in one_line(nbdroot("image", "check", image, status=1))
        nbdroot("image", "info", image)
        lock(f, fcntl.LOCK_SH)  # exported read-only
        assert "in use" in one_line(create(image, "--force", status=1))
        nbdroot("image", "check", image)
    create(image, "--force")


@pytest.mark.parametrize("arguments, words", [
    (["--size", "7M"], "8M"), (["--size", "16777217"], "16781312"), (["--size", "17T"], "16 TiB"),
    (["--size", "9999999999999999T"], "16 TiB"), (["--size", "12x"], "not a size"),
    (["--size", "-1"], "not a size"), (["--size", "32M", "--label", "seventeen bytes !"], "16"),
    (["--size", "32M", "--uuid", UUID + "0"], "UUID"), ([], "--size"),
    (["--size", "32M", "--no-such"], "no-such"), (["--size", "32M", "other"], "PATH")])
def test_wrong_usage_is_exit_2_and_says_what_is_wrong(tmp_path, arguments, words):
    done = nbdroot("image", "create", tmp_path / "image", *arguments, status=2)
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == []


def test_missing_directory_and_missing_place_are_named(tmp_path):
    line = one_line(create(tmp_path / "image", "--from", tmp_path / "nowhere", status=1))
    assert f"{tmp_path}/nowhere" in line and os.strerror(errno.ENOENT) in line
    assert os.listdir(tmp_path) == []
    assert "no/image" in one_line(create(tmp_path / "no/image", status=1))


@pytest.mark.parametrize("files, size_bytes", [(1, 40 << 20), (13000, 0), (2000, 5000)])
def test_content_that_does_not_fit_is_refused_and_the_size_suggested_is_enough(tmp_path, files,
                                                                               size_bytes):
    source = tmp_path / "from"
    source.mkdir()
    for i in range(files):
        (source / str(i)).write_bytes(b"x" * size_bytes)
    line = one_line(create(tmp_path / "image", "--from", source, size="8M", status=1))
    assert leftovers(tmp_path, "from") == []
    enough = re.search(r"try --size (\d+M)", line).group(1)
    create(tmp_path / "image", "--from", source, size=enough)
    assert_clean(tmp_path / "image")
    used = sum(f.stat().st_blocks for f in source.iterdir()) * 512
    assert int(enough[:-1]) << 20 < used + files * 256 * 1.3 + (12 << 20) + used // 10


def test_file_that_cannot_be_read_is_named_and_nothing_is_left(tmp_path):
    source = tmp_path / "from"
    source.mkdir()
    (source / "secret").write_text("x")
    (source / "secret").chmod(0)
    command = [NBDROOT, "image", "create", tmp_path / "image", "--size", "32M", "--from", source]
    if IS_ROOT:  # which reads everything, but for these two
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search",
                   "--inh-caps=-dac_override,-dac_read_search", *command]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert f"{source}/secret" in one_line(done) and os.strerror(errno.EACCES) in done.stderr
    assert os.listdir(tmp_path) == ["from"]


def in_own_mounts(script):
    """Runs a shell script that may mount, as root of a namespace at least."""
    flags = ["--mount"] if IS_ROOT else ["--mount", "--map-root-user"]
    return subprocess.run(["unshare", *flags, "sh", "-c", script], capture_output=True, text=True)


def test_attributes_too_large_for_ext3_are_refused_with_the_files_name(tmp_path):
    """Three of 2000 bytes: more than this file system may hold itself, so on a tmpfs."""
    (tmp_path / "from").mkdir()
    program = "import os; [os.setxattr('heavy', f'security.{i}', b'x' * 2000) for i in range(3)]"
    done = in_own_mounts(f"mount -t tmpfs none {tmp_path}/from && cd {tmp_path}/from && "
                         f'touch heavy && /usr/bin/python3 -c "{program}" && '
                         f"{NBDROOT} image create {tmp_path}/image --size 32M --from .")
    assert done.returncode == 1
    assert "./heavy" in one_line(done) and "extended attributes" in done.stderr
    assert os.listdir(tmp_path) == ["from"]


def test_full_disk_is_said_and_nothing_is_left(tmp_path):
    source = tmp_path / "from"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(6 << 20))
    small = tmp_path / "small"
    small.mkdir()
    script = (f"mount -t tmpfs -o size=4m none {small} && "
              f"{{ {NBDROOT} image create {small}/image --size 64M --from {source}; r=$?; "
              f"ls -A {small}; exit $r; }}")
    done = in_own_mounts(script)
    assert done.returncode == 1
    assert os.strerror(errno.ENOSPC) in one_line(done)
    assert done.stdout == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_in_the_middle_leaves_nothing(tmp_path, number):
    source = tmp_path / "from"
    source.mkdir()
    with open(source / "file", "wb") as f:
        for _ in range(60):
            f.write(b"x" * (1 << 20))
    out = tmp_path / "out"
    out.mkdir()
    process = subprocess.Popen([NBDROOT, "image", "create", out / "image", "--size", "1G",
                                "--from", source], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 10
    while not any(f.stat().st_blocks > 2048 for f in out.iterdir()):
        assert process.poll() is None and time.monotonic() < deadline
    process.send_signal(number)
    assert process.wait(10) == -number
    assert process.stderr.read() == b""
    assert os.listdir(out) == []


def stopped_in_the_middle(out, source, *options):
    """nbdroot image create, stopped by SIGSTOP while it copies the file of source/."""
    process = subprocess.Popen([NBDROOT, "image", "create", out / "image", "--size", "1G",
                                "--from", source, *options], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 10
    while not any(f.stat().st_blocks > 2048 for f in out.iterdir() if f.name != "image"):
        assert process.poll() is None and time.monotonic() < deadline
    process.send_signal(signal.SIGSTOP)
    return process


@pytest.fixture
def big(tmp_path):
    (tmp_path / "from").mkdir()
    (tmp_path / "out").mkdir()
    with open(tmp_path / "from/file", "wb") as f:
        for _ in range(60):
            f.write(b"x" * (1 << 20))
    return tmp_path / "from"


def test_file_that_changes_while_it_is_copied_is_an_error(tmp_path, big):
    process = stopped_in_the_middle(tmp_path / "out", big)
    with open(big / "file", "r+b") as f:  # the same size, in place
        f.write(b"y" * (1 << 20))
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "file" in err and err.count("\n") == 1
    assert os.listdir(tmp_path / "out") == []


def test_server_that_starts_while_its_image_is_replaced_serves_the_new_one(tmp_path, big):
    image = tmp_path / "out/image"
    create(image)
    old = os.stat(image).st_ino
    process = stopped_in_the_middle(tmp_path / "out", big, "--force")
    server = subprocess.Popen([BUILD / "nbdserve", "--foreground", "--unix", tmp_path / "sock",
                               "--export", f"x={image}"], stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        assert server.poll() is None and not (tmp_path / "sock").exists()
        process.send_signal(signal.SIGCONT)
        assert process.wait(30) == 0
        deadline = time.monotonic() + 10
        while not (tmp_path / "sock").exists():
            assert server.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        served = {os.stat(f"/proc/{server.pid}/fd/{fd}").st_ino
                  for fd in os.listdir(f"/proc/{server.pid}/fd")}
        assert os.stat(image).st_ino in served and old not in served
    finally:
        server.kill()
        server.wait()


# ---- info and check ---------------------------------------------------------------------------


def test_info_tells_label_uuid_and_state(filled):
    info = json.loads(nbdroot("image", "info", filled, "--json").stdout)
    assert (info["type"], info["label"], info["state"]) == ("ext3", "everything", "clean")
    text = nbdroot("image", "info", filled).stdout
    assert re.search(r"^label +everything$", text, re.MULTILINE)
    assert re.search(r"^last mounted *$", text, re.MULTILINE)
    assert info["uuid"] in text


@pytest.mark.parametrize("label", ["caf\u00e9", 'a"b\\c', "tab\there"])
def test_label_of_any_kind_comes_back_whole(tmp_path, label):
    create(tmp_path / "image", "--label", label)
    assert json.loads(nbdroot("image", "info", "--json", tmp_path / "image").stdout)["label"] == label
    assert nbdroot("image", "info", tmp_path / "image").stdout.isascii()


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4"])
def test_info_and_check_take_any_ext(tmp_path, kind):
    subprocess.run(["mke2fs", "-q", "-t", kind, tmp_path / "image", "16M"], check=True)
    assert json.loads(nbdroot("image", "info", "--json", tmp_path / "image").stdout)["type"] == kind
    assert nbdroot("image", "check", tmp_path / "image").stdout.endswith("image: clean\n")


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\0" * 65536],
                         ids=["empty", "short", "zeros"])
def test_what_is_no_ext_is_said_to_be_none(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    for command in ("info", "check"):
        line = one_line(nbdroot("image", command, tmp_path / "file", status=1))
        assert "not an ext2, ext3 or ext4" in line
    assert os.strerror(errno.ENOENT) in one_line(nbdroot("image", "info", tmp_path / "no", status=1))


def test_info_and_check_change_nothing(tmp_path):
    create(tmp_path / "image")
    before = hashlib.sha256((tmp_path / "image").read_bytes()).digest()
    nbdroot("image", "info", tmp_path / "image")
    nbdroot("image", "check", tmp_path / "image")
    assert hashlib.sha256((tmp_path / "image").read_bytes()).digest() == before


def test_check_tells_damage_from_a_journal_to_be_replayed(tmp_path):
    image = tmp_path / "image"
    create(image)
    subprocess.run(["debugfs", "-w", "-R", "feature needs_recovery", image], check=True,
                   capture_output=True)
    assert json.loads(nbdroot("image", "info", "--json", image).stdout)["state"] == "needs recovery"
    assert "not cleanly unmounted" in nbdroot("image", "check", image, status=1).stderr

    create(image, "--force")
    subprocess.run(["debugfs", "-w", "-R", "clri lost+found", image], check=True,
                   capture_output=True)
    done = nbdroot("image", "check", image, status=1)
    assert "damaged" in done.stderr.splitlines()[-1]


def test_check_without_e2fsck_says_so(tmp_path):
    create(tmp_path / "image")
    script = f"mount -t tmpfs none /usr/sbin && exec {NBDROOT} image check {tmp_path}/image"
    done = in_own_mounts(script)
    assert done.returncode == 1
    assert "not installed (install e2fsprogs)" in done.stderr


def test_help_names_every_option_and_usage_errors_are_2():
    text = nbdroot("image", "--help").stdout
    for command in ("create", "info", "check"):
        assert nbdroot("image", command, "--help").stdout == text
        assert f"nbdroot image {command} PATH" in text
    for option in ("--size", "--from", "--label", "--uuid", "--force", "--json"):
        assert option in text
    page = (TOP / "docs" / "nbdroot.8.scd").read_text()
    for option in re.findall(r"--[a-z-]+", text + nbdroot("initramfs", "--help").stdout):
        assert option.replace("-", "\\-") in page or option in page, option
    assert nbdroot(status=2).stderr.startswith("usage:")
    assert nbdroot("image", status=2).stderr.startswith("usage:")
    nbdroot("nonsense", status=2)
    nbdroot("image", "nonsense", status=2)
    assert nbdroot("--version").stdout.startswith("nbdroot ")

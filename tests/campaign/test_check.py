# SPDX-License-Identifier: GPL-2.0-or-later
"""
The campaign's judge can say no: folders as a trial leaves them, made by hand, in which one thing is
wrong. What a real trial leaves is doctored in test_campaign.py.
"""
import json
import pathlib
import shutil
import sqlite3
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import check  # noqa: E402
import lab  # noqa: E402

SLOTS, RECORDS = 16, 40


def acks(count=RECORDS, name="red"):
    return "".join(f"{name} ack {n} {n}.0 {n}.5\r\n" for n in range(1, count + 1))


def blocks(count=RECORDS, name="red"):
    """The places after so many records."""
    places = [bytes(check.BLOCK)] * SLOTS
    for n in range(1, count + 1):
        places[n % SLOTS] = check.record(name, n)
    return places


def database(path, packages=1, has_index=True):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE Name (key TEXT, hnum INTEGER, idx INTEGER)")
        db.executemany("INSERT INTO Name VALUES ('nbdroot-hello', ?, 0)",
                       [(n,) for n in range(packages)])
        if has_index:
            db.execute("CREATE TABLE filler (t TEXT)")
            db.executemany("INSERT INTO filler VALUES (?)", [("x" * 3000,)] * 50)
            db.execute("CREATE INDEX i ON filler (t)")
    db.close()


@pytest.fixture
def trial(tmp_path):
    """trial(places, ...) makes the folder and returns what the judge says of it."""
    def make(places, told=None, console="all is well\n", ending="unmount", rpm=None, packages=1,
             spoil=None):
        folder, content = tmp_path / "trial", tmp_path / "content"
        folder.mkdir()
        content.mkdir()
        (content / "red").write_bytes(b"".join(places))
        lab.make_image(folder / "root.img", "16M", "--from", content)
        (folder / "plan.json").write_text(json.dumps({"ending": ending, "slots": SLOTS}))
        (folder / "acks").write_text((acks() if told is None else told) + (rpm or ""))
        (folder / "console").write_text(console)
        if rpm:
            (content / "red").unlink()
            database(content / "rpmdb.sqlite", packages)
            if spoil:
                spoil(content / "rpmdb.sqlite")
            lab.make_image(folder / "rpmdb.img", "16M", "--from", content)
        elif spoil:
            spoil(folder / "root.img")
        return check.check(folder)[0]
    return make


def test_what_is_as_it_was_acknowledged_is_clean(trial):
    assert trial(blocks()) == []


def test_record_that_was_written_and_not_acknowledged_may_be_there(trial):
    assert trial(blocks(RECORDS + 1)) == []


def test_record_that_is_missing_is_reported(trial):
    places = blocks()
    places[RECORDS % SLOTS] = bytes(check.BLOCK)
    problem, = trial(places)
    assert f"record {RECORDS} of place {RECORDS % SLOTS} was acknowledged" in problem


def test_file_that_is_too_short_is_reported(trial):
    assert len(trial(blocks()[:-1])) == 1


def test_older_copy_of_a_block_is_reported_as_one(trial):
    places = blocks()
    places[3] = check.record("red", 19)
    problem, = trial(places)
    assert "record 35 of place 3" in problem
    assert "there is 19, an older one: a stale write" in problem


def test_half_of_a_record_is_reported(trial):
    places = blocks()
    places[3] = check.record("red", 35)[:2048] + check.record("red", 19)[2048:]
    assert len(trial(places)) == 1


def test_record_of_another_writer_is_reported(trial):
    places = blocks()
    places[3] = check.record("blue", 35)
    assert len(trial(places)) == 1


def test_stale_write_that_the_guest_saw_and_overwrote_is_reported(trial):
    problem, = trial(blocks(), told=acks(20) + "red wrong 4 0\n"
                     + "".join(acks().splitlines(True)[20:]))
    assert "record 4 was acknowledged, but later 0 stood in its place" in problem


def test_hole_in_the_acknowledgements_is_reported(trial):
    lines = acks().splitlines(True)
    del lines[7]
    assert "makes no sense" in trial(blocks(), told="".join(lines))[0]


def test_last_acknowledgement_may_be_cut_short(trial):
    assert trial(blocks(), told=acks() + "red ack 4") == []


@pytest.mark.parametrize("line", [
    "blk_update_request: I/O error, dev nbd0, sector 8 op 0x1:(WRITE)",
    "Aborting journal on device nbd0-8.", "EXT4-fs error (device nbd0): ext4_lookup:1858"])
def test_errors_in_the_guests_log_are_reported(trial, line):
    problem, = trial(blocks(), console=f"[    1.0] boot\n[    2.0] {line}\n")
    assert line in problem


def debugfs(image, *requests):
    for request in requests:
        subprocess.run(["debugfs", "-w", "-R", request, image], check=True, capture_output=True)


@pytest.mark.parametrize("ending", ["unmount", "off"])
def test_file_system_that_is_not_clean_is_reported(trial, ending):
    # a link count that is wrong, without the mark that it was in use
    problems = trial(blocks(), ending=ending,
                     spoil=lambda image: debugfs(image, "set_inode_field /red links_count 5"))
    assert any("e2fsck -fn" in p for p in problems)


def test_image_of_a_machine_that_was_switched_off_is_left_as_it_is(trial, tmp_path):
    copy = tmp_path / "copy"
    assert trial(blocks(), ending="off", spoil=lambda image: shutil.copy(image, copy)) == []
    assert (tmp_path / "trial/root.img").read_bytes() == copy.read_bytes()


def rpm(*transactions):
    return "".join(f"rpm {t} {n}.0\n" for n, t in enumerate(transactions))


def test_rpm_database_that_says_what_was_done_is_clean(trial):
    assert trial(blocks(), rpm=rpm("install begin", "install done")) == []


@pytest.mark.parametrize("packages", [0, 1])
def test_transaction_under_way_may_be_done_or_not(trial, packages):
    assert trial(blocks(), rpm=rpm("install begin"), packages=packages, ending="off") == []


@pytest.mark.parametrize(("transactions", "packages"), [
    (("install begin", "install done"), 0),
    (("install begin", "install done", "erase begin", "erase done"), 1)])
def test_transaction_that_is_lost_is_reported(trial, transactions, packages):
    problem, = trial(blocks(), rpm=rpm(*transactions), packages=packages)
    assert "last acknowledged transaction was" in problem


def test_transaction_that_failed_is_reported(trial):
    assert "rpm: install failed" in trial(
        blocks(), rpm=rpm("install begin", "install failed"), packages=0)


def test_rpm_database_that_is_damaged_is_reported(trial):
    def damage(path):
        with open(path, "r+b") as f:
            f.seek(20 * 4096)
            f.write(b"\xff" * 40960)

    problems = trial(blocks(), rpm=rpm("install begin", "install done"), spoil=damage)
    assert any("integrity_check" in p or "cannot be read" in p for p in problems)

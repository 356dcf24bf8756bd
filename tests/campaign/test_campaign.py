# SPDX-License-Identifier: GPL-2.0-or-later
"""
A campaign of a few trials, as `make campaign` runs it: they are clean, it goes on after an
interruption, and what a real trial has left is judged otherwise when it is doctored.
"""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import check  # noqa: E402
from conftest import need  # noqa: E402

TRIALS = 6
SEED = os.environ.get("NBDROOT_SEED", "7")


def campaign(out, *more):
    result = subprocess.run(
        [sys.executable, "-B", HERE / "campaign.py", "--trials", str(TRIALS), "--seed", SEED,
         "--keep", "--out", out, *more], check=False, capture_output=True, text=True)
    print(result.stdout, result.stderr)
    return result


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    need("linux.uml")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun cannot be opened, so a guest can have no network")
    out = tmp_path_factory.mktemp("campaign")
    return out, campaign(out)


def lines(out):
    return (out / "results.jsonl").read_text().splitlines()


def test_trials_are_clean_and_the_report_says_so(played):
    out, result = played
    assert result.returncode == 0, result.stdout
    found = [json.loads(line) for line in lines(out)]
    assert sorted(r["trial"] for r in found) == list(range(1, TRIALS + 1))
    assert all(r["problems"] == [] and r["records"] > 10 and r["faults"] for r in found)
    page = (out / "report.html").read_text()
    assert f"Campaign: {TRIALS} trials, 0 failed" in page and "<polyline" in page


def test_campaign_that_was_interrupted_goes_on_where_it_was(played):
    out, _ = played
    before = lines(out)
    # killed while it wrote its last line
    (out / "results.jsonl").write_text("".join(line + "\n" for line in before[:-1])
                                       + before[-1][:40])
    result = campaign(out)
    assert result.returncode == 0
    assert "5 trials are done" in result.stdout
    after = lines(out)
    assert after[:-1] == before[:-1]
    assert json.loads(after[-1])["trial"] == json.loads(before[-1])["trial"]


@pytest.fixture
def left(played, tmp_path):
    """A copy of what a trial has left that ended with an unmounted image; its newest record."""
    out, _ = played
    for source in sorted((out / "trials").iterdir()):
        if json.loads((source / "plan.json").read_text())["ending"] == "unmount":
            folder = tmp_path / "trial"
            shutil.copytree(source, folder, ignore=shutil.ignore_patterns("control"))
            assert check.check(folder)[0] == []
            plan = json.loads((folder / "plan.json").read_text())
            records = check.Acks((folder / "acks").read_text()).records["red"]
            return folder, len(records), plan["slots"]
    raise AssertionError("no trial ended with an unmounted image; take another NBDROOT_SEED")


def put(folder, slot, block):
    """Puts a block into a place of the file, in the image."""
    image = folder / "root.img"
    at = int(subprocess.run(["debugfs", "-R", f"bmap /red {slot}", image], check=True,
                            capture_output=True, text=True).stdout)
    with open(image, "r+b") as f:
        f.seek(at * check.BLOCK)
        old = f.read(check.BLOCK)
        f.seek(at * check.BLOCK)
        f.write(block)
    return struct.unpack("<Q", old[:8])[0]


def test_record_that_is_taken_away_is_missed(left):
    folder, newest, slots = left
    assert put(folder, newest % slots, bytes(check.BLOCK)) == newest
    problem, = check.check(folder)[0]
    assert f"red: record {newest} of place {newest % slots} was acknowledged" in problem


def test_older_copy_of_a_block_that_is_put_back_is_noticed(left):
    folder, newest, slots = left
    if newest <= slots:
        slot, older = newest, newest - 1  # of another place, as there was no round before
    else:
        slot, older = newest % slots, newest - slots
    put(folder, slot, check.record("red", older))
    problem, = check.check(folder)[0]
    assert f"there is {older}" in problem and "stale write" in problem


def test_replay_of_one_trial_has_the_same_plan(played, tmp_path):
    out, _ = played
    result = campaign(tmp_path, "--only", "2")
    assert result.returncode == 0, result.stdout
    first = json.loads((out / f"trials/uml-{SEED}-0002/plan.json").read_text())
    again = json.loads((tmp_path / f"replay/uml-{SEED}-0002/plan.json").read_text())
    assert first == again

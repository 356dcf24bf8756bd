# SPDX-License-Identifier: GPL-2.0-or-later
"""
make campaign: machines on a network block device, at work, while faults of a list happen to their
server, network and nbdclient at random instants. Each trial is judged (check.py) and leaves one
line in OUT/results.jsonl; OUT/report.html is drawn from these (report.py). Started again with the
same OUT, it goes on where it was. See docs/campaign.md.

Exit status: 0 every trial was clean, 1 some were not, 2 wrong usage.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shutil
import signal
import sys
import time
import traceback

import check
import plan
import qemu
import report
import uml
from server import lab

LANES = {"uml": 300, "qemu": 20}  # how many trials without --trials


def programs():
    """Which nbdclient and nbdserve this is about."""
    digest = hashlib.sha256()
    for path in (lab.NBDCLIENT, lab.NBDSERVE):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def run_trial(trial_plan, folder, keep):
    """Plays it, judges what it left, and returns the line of the results."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("acks", "console"):
        (folder / name).touch()
    began = time.time()
    problems, acks, facts = [], None, {}
    trial = {"uml": uml.Trial, "qemu": qemu.Trial}[trial_plan["lane"]](trial_plan, folder)
    try:
        try:
            trial.play()
        finally:
            trial.close()
    except Exception as e:  # whatever it is, the trial has failed, and the campaign goes on
        (folder / "traceback").write_text(traceback.format_exc())
        problems.append(f"{type(e).__name__}: {str(e).splitlines()[0][:300] if str(e) else ''}")
        # it was ended in the middle, as by a power cut
        trial_plan["ending"] = "off"
    (folder / "plan.json").write_text(json.dumps(trial_plan, indent=1) + "\n")
    try:
        more, facts, acks = check.check(folder)
        problems += more
    except Exception:
        (folder / "traceback-check").write_text(traceback.format_exc())
        problems.append("the check itself failed, see traceback-check")
    result = {"trial": trial_plan["trial"], "seed": trial_plan["seed"], "lane": trial_plan["lane"],
              "ending": trial_plan["ending"], "at": round(began, 1),
              "seconds": round(time.time() - began, 1),
              "faults": [{k: round(v, 3) if isinstance(v, float) else v for k, v in o.items()}
                         for o in trial.outages],
              "stalls": report.stalls(trial.outages, acks) if acks else [],
              "problems": problems, **facts}
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    if not problems and not keep:
        shutil.rmtree(folder)
    return result


class Results:
    """OUT/results.jsonl: a line for each finished trial."""

    def __init__(self, out):
        self.path = out / "results.jsonl"
        self.all = []
        if self.path.exists():
            *whole, rest = self.path.read_text().split("\n")
            self.all = [json.loads(line) for line in whole]
            if rest:  # cut short by a kill: that trial is run again
                self.path.write_text("".join(line + "\n" for line in whole))

    def add(self, result):
        self.all.append(result)
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps(result) + "\n")


def arguments(argv):
    p = argparse.ArgumentParser(prog="campaign", description="Faults at random instants, judged.")
    p.add_argument("--trials", type=int, metavar="N",
                   help="how many (uml: 300, about 20 minutes on two cores; qemu: 20, about 40)")
    p.add_argument("--seed", type=int, default=1, help="what the trials are drawn from (1)")
    p.add_argument("--lane", choices=LANES, default="uml",
                   help="uml: fast, User-Mode Linux; qemu: a whole emulated boot")
    p.add_argument("--faults", default="", metavar="KIND,...",
                   help="only these kinds: " + ", ".join(plan.UML_KINDS) + "; in qemu: "
                   + ", ".join(plan.QEMU_KINDS))
    p.add_argument("--jobs", type=int, default=0, metavar="N",
                   help="trials side by side (uml: twice as many as processors; qemu: as many)")
    p.add_argument("--out", default="campaign", metavar="DIR",
                   help="where results go; with results of earlier trials in it, it goes on")
    p.add_argument("--only", type=int, metavar="TRIAL", help="play this one again, and keep it all")
    p.add_argument("--keep", action="store_true", help="keep the folders of clean trials, too")
    return p, p.parse_args(argv)


def main(argv):
    parser, args = arguments(argv)
    kinds = [k for k in args.faults.split(",") if k]
    unknown = [k for k in kinds if k not in plan.KINDS[args.lane]]
    if unknown:
        parser.error(f"the lane {args.lane} has no fault kind {', '.join(unknown)}; it has "
                     + ", ".join(plan.KINDS[args.lane]))
    trials = args.trials or LANES[args.lane]
    cpus = os.cpu_count() or 2
    jobs = args.jobs or {"uml": 2 * cpus, "qemu": cpus}[args.lane]
    out = pathlib.Path(args.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    build = programs()
    command = " ".join(["campaign", *argv])

    def one(number):
        name = f"{args.lane}-{args.seed}-{number:04d}"
        made = plan.make(args.seed, number, args.lane, kinds)
        result = {"programs": build, "only": args.faults} | run_trial(
            made, out / ("replay" if args.only else "trials") / name,
            args.keep or bool(args.only))
        return name, result

    if args.only:
        name, result = one(args.only)
        print(json.dumps(result, indent=1))
        return 1 if result["problems"] else 0

    results = Results(out)
    if any(r["programs"] != build for r in results.all):
        parser.error(f"{out} has results of another build of nbdclient or nbdserve: remove it, or "
                     "take another folder with --out")

    def is_done(number):
        return any((r["trial"], r["seed"], r["lane"], r["only"])
                   == (number, args.seed, args.lane, args.faults) for r in results.all)

    todo = [n for n in range(1, trials + 1) if not is_done(n)]
    if len(todo) < trials:
        print(f"{trials - len(todo)} trials are done in {out}, {len(todo)} are left", flush=True)
    done = trials - len(todo)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(one, n) for n in todo]
        try:
            for future in concurrent.futures.as_completed(futures):
                name, result = future.result()
                results.add(result)
                done += 1
                verdict = "FAILED: " + result["problems"][0][:150] if result["problems"] else "ok"
                print(f"{done:4}/{trials} {name} {result['seconds']:5.1f} s  "
                      f"{' '.join(f['kind'] for f in result['faults'])}  {verdict}", flush=True)
        except KeyboardInterrupt:
            print("interrupted: waiting for the running trials, which do not count; start it "
                  "again to go on", flush=True)
            pool.shutdown(cancel_futures=True)
    text = report.write(out, results.all, command)
    print(text)
    return 1 if any(r["problems"] for r in results.all) else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # the second one
        os._exit(1)

# SPDX-License-Identifier: GPL-2.0-or-later
"""
What happens in a trial: which faults, when, and how it ends. All of it is drawn from the campaign's
seed and the trial's number before anything is started, so that a trial can be played again.
"""
import random

# For how long each kind lasts, in seconds: the least and the most.
UML_KINDS = {
    "kill": (0.0, 3.0),       # SIGKILL of the server, started again
    "term": (0.0, 3.0),       # SIGTERM of the server, started again
    "move": (0.0, 3.0),       # SIGKILL, started again on another address and port
    "takeover": (0.0, 3.0),   # a new server replaces it, and it is frozen in the middle of that
    "stop": (0.1, 8.0),       # SIGSTOP and SIGCONT of the server
    "stale": (0.5, 5.0),      # frozen, its connections lost, thawed when the client dials again
    "worker": (0.5, 5.0),     # one write is frozen in its disk, and lands that much later
    "reset": (0.0, 0.0),      # its connections reset
    "blackhole": (0.2, 12.0), # what is sent to the guest is lost without a word
    "link": (0.2, 8.0),       # the server's card goes down and up
    "card": (0.2, 8.0),       # the guest's card goes down and up
    "address": (0.2, 8.0),    # the guest loses its address and gets it back
    "renumber": (0.0, 3.0),   # the guest gets another address
    "client": (0.0, 2.0),     # SIGKILL of nbdclient, another instance adopts the device
}
# The link of the emulated machine is QEMU's, which answers for the guest's TCP: no black hole.
QEMU_KINDS = {
    "kill": (0.0, 6.0),
    "term": (0.0, 6.0),
    "move": (0.0, 6.0),
    "takeover": (0.0, 4.0),
    "stop": (0.5, 15.0),
    "stale": (0.5, 8.0),
    "reset": (0.0, 0.0),
    "link": (0.5, 15.0),
    "address": (0.5, 10.0),
    "client": (0.0, 4.0),
}
# Instants of a boot: a line of the console, and how long after it, at most.
BOOT_STEPS = {
    "before-attach": (r"Linux version", 12.0),
    "mounting": (r"/dev/nbd0: attached to", 2.5),
    "switch-root": (r"EXT4-fs \(nbd0\): mounted", 6.0),
    "starting": (r"systemd\[1\]: |Welcome to Debian", 25.0),
}
KINDS = {"uml": UML_KINDS, "qemu": QEMU_KINDS}
# Where the loss of the link is certain and at once, and where its end is a server that answers.
LOUD = ("kill", "term", "move", "takeover", "stale", "worker")
SERVER_RETURNS = ("kill", "term", "move")


def make(seed, trial, lane, kinds):
    """The plan of a trial; kinds narrows what may happen."""
    rng = random.Random(f"{seed} {trial} {lane}")
    ours = [k for k in KINDS[lane] if not kinds or k in kinds]
    if not ours:
        raise ValueError(f"the lane {lane} has none of the fault kinds {', '.join(kinds)}")
    plan = {
        "trial": trial, "seed": seed, "lane": lane,
        # a clean end tells most; a machine that is switched off leaves its journal to be replayed
        "ending": rng.choice(("unmount", "unmount", "off")),
        "off_after": round(rng.uniform(0, 1), 3),
        # few places, so that each is soon written again over what a late write could hit
        "slots": rng.choice((16, 64, 256)),
        "faults": [],
    }
    if lane == "qemu":
        plan["boot"] = []
        for step in rng.sample(list(BOOT_STEPS), 2):
            plan["boot"].append({"step": step, "kind": "boot", "pick": round(rng.random(), 4),
                                 "after": round(rng.uniform(0, BOOT_STEPS[step][1]), 3),
                                 "for": round(rng.uniform(0.0, 6.0), 3)})
        plan["boot"].sort(key=lambda b: list(BOOT_STEPS).index(b["step"]))
    for _ in range(rng.randint(3, 5)):
        kind = rng.choice(ours)
        least, most = KINDS[lane][kind]
        # as many short ones as long ones: a restart within the client's own reaction is a case
        most = rng.choice((most, least + (most - least) / 8))
        plan["faults"].append({
            "kind": kind,
            # from the end of the one before: often before the recovery is complete
            "after": round(min(rng.expovariate(1.2), 4.0), 3),
            "for": round(rng.uniform(least, most), 3),
            "pick": round(rng.random(), 4),
        })
    return plan

"""Managers die, restart and find their logs damaged under a stream of writes: `make soak-kill N=200`.

Rounds of each kind, every one with a history of its own that is judged: `kills` (kill -9 of any manager), `damages` (its
log is damaged besides), `rolls` (all are restarted one after the other, in turn as daemons and as machines), `losses` (the
leader, in each way in turn, a minute of SIGSTOP among them), `changes` (promotions and demotions). The result is a file of JSON in tests/soak/results/, saved after each round; a run that was stopped goes on from there. A round that
fails is written there with its verdict, its history beside it, and the run goes on with the swarm made whole.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.lab import damage
from tests.lab.managers import (
    DAEMON,
    LOSSES,
    MANAGERS,
    STOPPED,
    Managers,
    change_once,
    kill_once,
    lose_leader,
    restart_daemons,
    restore_managers,
)
from tests.lab.recorder import Recorder
from tests.lab.support import until
from tests.soak import swarm

RESULT = swarm.RESULTS / "kill.json"
ROUND = {"rolls": 1, "losses": 4, "changes": 5}  # blows with one history, else ten
STOPPED_SECONDS = 60.0

Blow = Callable[[Managers, random.Random, int], str]


def _kill(lab: Managers, chance: random.Random, number: int) -> str:
    victim = chance.choice(lab.three)
    kill_once(lab, victim)
    return f"{victim.name} killed"


def _damage(lab: Managers, chance: random.Random, number: int) -> str:
    victim, kind = chance.choice(lab.three), chance.choice(damage.KINDS)
    came = damage.once(lab, victim, kind, chance)
    return f"{victim.name} {kind}: {'started' if came.started else 'did not start'}; {came.said}"


def _roll(lab: Managers, chance: random.Random, number: int) -> str:
    for machine in lab.three:
        if number % 2:
            lab.tool("reboot", machine.name)
            lab.wait_settled(60)
        else:
            restart_daemons(lab, machine)
    return "all restarted, " + ("as machines" if number % 2 else "as daemons")


def _lose(lab: Managers, chance: random.Random, number: int) -> str:
    loss = LOSSES[number % len(LOSSES)]
    victim, seconds = lose_leader(lab, loss)
    struck = time.monotonic()
    if loss is STOPPED:
        until(lambda: time.monotonic() - struck > STOPPED_SECONDS, STOPPED_SECONDS + 1, "away for a while")
    loss.repair(lab, victim)
    lab.wait_settled(60)
    return f"{victim.name} {loss.name}: a write by another after {seconds:.2f} s"


def _change(lab: Managers, chance: random.Random, number: int) -> str:
    """Two to four changes, then the three are managers again."""
    now, told = set(MANAGERS), []
    for _ in range(chance.randrange(2, 5)):
        now, what = change_once(lab, now, chance)
        told.append(what)
    restore_managers(lab, now)
    return "; ".join(told)


BLOWS: dict[str, Blow] = {
    "kills": _kill,
    "damages": _damage,
    "rolls": _roll,
    "losses": _lose,
    "changes": _change,
}


def one_round(lab: Managers, kind: str, first: int, count: int, seed: int) -> tuple[bool, str]:
    """So many blows under one history; whether all went well, and what is to be said."""
    chance = random.Random(f"{seed} {kind} {first}")
    name = f"{kind}{first}"
    history = swarm.RESULTS / f"history-{name}.jsonl"
    history.parent.mkdir(exist_ok=True)
    with Recorder(lab.three, name) as recorder:
        for number in range(first, first + count):
            recorder.wait_more(chance.randrange(1, 12))
            print(f"{number + 1}. {BLOWS[kind](lab, chance, number)}", flush=True)
    verdict = recorder.conclude(history)
    if verdict.ok:
        history.unlink()
    return verdict.ok, verdict.sentence


def journals(lab: Managers, name: str) -> None:
    """What the managers said lately, beside the results."""
    for machine in lab.three:
        argv = ("logs", machine.name, "-u", DAEMON, "-u", "shoal-agent", "-o", "short-precise", "-n", "400")
        (swarm.RESULTS / f"journal-{name}-{machine.name}.txt").write_text(lab.tool(*argv, check=False).stdout)


def run(lab: Managers, found: dict[str, Any], wanted: dict[str, int], path: Path) -> None:
    """Goes on until there were so many of each."""
    for kind, count in wanted.items():
        while found[kind] < count:
            began = time.monotonic()
            blows = min(ROUND.get(kind, 10), count - found[kind])
            try:
                ok, said = one_round(lab, kind, found[kind], blows, found["seed"])
            except AssertionError as exc:
                ok, said = False, f"{exc}"
                journals(lab, f"{kind}{found[kind]}")
            found[kind] += blows
            found["rounds"].append({"kind": kind, "upto": found[kind], "ok": ok, "said": said,
                                    "seconds": round(time.monotonic() - began, 1)})  # fmt: skip
            swarm.save(path, found)
            print(f"{kind} {found[kind]}/{count}: {said}", flush=True)
            if not ok:
                lab.ensure()
                lab.services()


def main() -> int:
    """0 if nothing is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for kind, count in (("kills", 200), ("damages", 50), ("rolls", 10), ("losses", 8), ("changes", 25)):
        parser.add_argument(f"--{kind}", type=int, default=count)
    options = parser.parse_args()
    with swarm.five() as lab:
        found = swarm.load(
            RESULT, {"seed": random.randrange(1 << 32), "rounds": [], **dict.fromkeys(BLOWS, 0)}
        )
        run(lab, found, {kind: getattr(options, kind) for kind in BLOWS}, RESULT)
    bad = [each for each in found["rounds"] if not each["ok"]]
    done = ", ".join(f"{found[kind]} {kind}" for kind in BLOWS)
    print(f"{found['date']}: {done}; {len(found['rounds'])} histories, {len(bad)} not in order")
    for each in bad:
        print(f"{each['kind']} up to {each['upto']}: {each['said']}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

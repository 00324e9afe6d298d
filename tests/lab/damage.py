"""Damage to the end of a manager's log, as crashes and bad disks do it. The program runs in the machine, as root.

The daemon is stopped (SIGSTOP) first and killed afterwards, so that it starts on what is there then.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.lab.managers import DAEMON, Managers
from tests.lab.support import Machine, until

# Begun: what a crash leaves of a write that wasn't finished: it always starts. The others hit what was synced and
# acknowledged. Torn looks like a crash: who led comes back as a follower and is given again what it has forgotten, but a
# follower is contradicted by a leader that counts on its acknowledgement, and refuses to go on.
BEGUN, TORN, FLIPPED_LAST, FLIPPED_MIDDLE = "begun", "torn", "flipped-last", "flipped-middle"
KINDS = (BEGUN, TORN, FLIPPED_LAST, FLIPPED_MIDDLE)
NAMED = (
    " is damaged at byte",
    "entries are missing",
    "does not open with",
    "contradicts what the managers agreed on",
)
CUT = "of a write that a crash tore"
PLACE, REPAIR = "/var/lib/shoal/manager/", "remove this manager from the swarm and join it again"

PROGRAM = """
import os, pathlib, sys
kind, part = sys.argv[1], float(sys.argv[2])
path = sorted(pathlib.Path("/var/lib/shoal/manager").rglob("*.log"))[-1]
data = path.read_bytes()
end = len(data.rstrip(b"\\0"))
start, new = {
    "torn": (end // 8 * 8 - 16, bytes(24)),
    "begun": ((end + 7) // 8 * 8, bytes(range(1, 13))),
    "flipped-last": (end - 9, bytes([data[end - 9] ^ 4])),
    "flipped-middle": (int(40 + (end - 300) * part), None),
}[kind]
new = new or bytes([data[start] ^ 4])
with path.open("r+b") as file:
    file.seek(start)
    file.write(new)
    os.fsync(file.fileno())
print(path, start, end, new.hex())
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: it started, or said what is damaged."""

    kind: str
    started: bool
    said: str


def strike(lab: Managers, machine: Machine, kind: str, chance: random.Random) -> int:
    """Damages the log of a manager that others can do without, and kills it; returns the pid that it had."""
    lab.tool("pause", machine.name, DAEMON)
    # Only when another leads may it start again: an acknowledged entry less must not be part of an election.
    helper = lab.others(machine)[0]
    until(lambda: lab.write(helper, "before-damage"), 30, "the others agree without it")
    machine.run("python3", "-", kind, f"{chance.random():.3f}", input=PROGRAM)
    return machine.kill9(DAEMON)


def outcome(lab: Managers, machine: Machine, kind: str, since: str, pid: int, seconds: float = 30) -> Outcome:
    """Waits until it is a member again, as another process, or says in its journal that it is damaged."""

    def lines(*parts: str) -> list[str]:
        argv = ("journalctl", "--no-pager", "-o", "cat", "-u", DAEMON, f"--since={since}")
        journal = machine.run(*argv, check=False).stdout.splitlines()
        return [line for line in journal if any(part in line for part in parts)]

    def seen() -> Outcome | None:
        shown = machine.run("systemctl", "show", "--property=ActiveState,MainPID", DAEMON, check=False).stdout
        if f"MainPID={pid}\n" in shown:
            return None
        # It may start, and end when it hears from the leader: a write through it has been there and back.
        works = "ActiveState=active" in shown and lab.write(machine, "after-damage")
        named = lines(*NAMED)
        if named:
            return Outcome(kind, False, named[-1])
        return Outcome(kind, True, "".join(lines(CUT)[-1:])) if works else None

    return until(seen, seconds, f"{machine.name} starts or says what is damaged ({kind})")


def replace(lab: Managers, machine: Machine) -> None:
    """What the message advises: the manager is removed and joins again."""
    helper = lab.leader(lab.others(machine))
    old = lab.node_id(machine.name, helper)
    helper.docker("node", "demote", old)
    machine.shoal("swarm", "leave", "--force")
    until(
        lambda: helper.docker("node", "rm", "--force", old, check=False).returncode == 0,
        30,
        "its old self removed",
    )
    lab.join(machine, "manager", helper)


def once(lab: Managers, victim: Machine, kind: str, chance: random.Random) -> Outcome:
    """One manager's log is damaged, and all is well again afterwards."""
    since = victim.run("date", "+@%s.%N").stdout.strip()
    came = outcome(lab, victim, kind, since, strike(lab, victim, kind, chance))
    assert came.started or kind != BEGUN, came
    assert CUT in came.said if came.started else PLACE in came.said and REPAIR in came.said, came
    if not came.started:
        replace(lab, victim)
    lab.wait_settled(30)
    return came

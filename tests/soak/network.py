"""Random cycles of services, kills, cuts and restarts on three machines: `make soak-network N=1000 FIRST=0`.

python -m tests.soak.network --runs 1000        goes on where it was stopped, unless the code has changed
python -m tests.soak.network --first 1000       from another seed on, with a result of its own
python -m tests.soak.network --seed 47          one cycle again

A cycle begins with what the one before has left; after one with a fault in it everything of the cycles is removed, so that
the fault is told once. Takes the lab that is there if it has three machines in a swarm; LAB_KEEP=1 leaves it standing at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.lab import truth
from tests.lab.cycles import Cycles
from tests.lab.support import LAB, Lab
from tests.soak import seeds

CODE = (
    "manager",
    "common",
    "agent",
    "tests/lab/cycles.py",
    "tests/lab/truth.py",
    "tests/lab/kernel_state.py",
    "tests/lab/sampler.py",
)
MACHINES = ("manager", "worker1", "worker2")
LIMIT = 600.0


@contextmanager
def three() -> Iterator[Lab]:
    """The lab's machines, in one swarm."""
    lab = Lab()
    stands = lab.tool("status", check=False).returncode == 0
    if stands:
        lab.read_env()
        if set(lab.machines) != set(MACHINES):
            lab.tool("down")
            stands = False
    subprocess.run([str(LAB), "up", "--nodes", "3"], check=True, timeout=600)
    if stands:  # with an earlier state of this tree, perhaps
        lab.tool("install")
    lab.read_env()
    try:
        manager = lab.manager
        if manager.docker("info", "--format", "{{.Swarm.LocalNodeState}}").stdout.strip() != "active":
            manager.shoal("swarm", "init", "--advertise-addr", manager.addr)
        token = manager.shoal("swarm", "join-token", "-q", "worker").stdout.strip()
        for name in MACHINES[1:]:
            machine = lab.machines[name]
            if machine.docker("info", "--format", "{{.Swarm.LocalNodeState}}").stdout.strip() != "active":
                machine.shoal("swarm", "join", "--token", token, f"{manager.addr}:2377")
        yield lab
    finally:
        if not os.environ.get("LAB_KEEP"):
            lab.tool("down")


@dataclass(slots=True)
class Soak(seeds.Soak):
    """Cycles."""

    cycles: ClassVar[Cycles]
    deeds: int = 0

    def once(self, seed: int) -> str:
        began = time.monotonic()
        wrong = self.cycles.once(seed)
        took = time.monotonic() - began
        self.longest_settling = max(self.longest_settling, took)
        self.deeds += len(self.cycles.told)
        print(f"{seed}: {', '.join(self.cycles.told)}; {took:.1f} s", flush=True)
        if wrong:
            evidence(self.cycles.lab, seed)
            self.cycles.end()
            self.cycles.begin()
        return wrong

    def told(self) -> str:
        return f"{self.deeds} deeds, the longest cycle {self.longest_settling:.1f} s"


KERNEL = """date -Ins; ls -l /run/shoal/netns; ip -d addr; bridge link; nft list ruleset; ps -eo pid,ppid,lstart,wchan:20,args
for n in /run/shoal/netns/*; do
  echo "==== $n"
  nsenter --net=$n sh -c 'ip -d addr; ip rule; ip neigh; bridge fdb; nft list ruleset; cat /proc/net/nf_conntrack' || :
done"""


def evidence(lab: Lab, seed: int) -> None:
    """What stands in the kernels and in the store now, and what the daemons said lately, beside the results."""
    seeds.RESULTS.mkdir(exist_ok=True)
    for name, machine in lab.machines.items():
        found = machine.run("sh", "-c", f"({KERNEL}) 2>&1", check=False).stdout
        (seeds.RESULTS / f"kernel-network{seed}-{name}.txt").write_text(found)
    for name in lab.machines:
        argv = ("logs", name, "-u", "shoal-manager", "-u", "shoal-agent", "-o", "short-precise", "-n", "2000")
        path = seeds.RESULTS / f"journal-network{seed}-{name}.txt"
        path.write_text(lab.tool(*argv, check=False).stdout)
    try:
        store = {path: lab.manager.api(f"/{path}") for path in ("nodes", "services", "tasks", "networks")}
    except truth.UNANSWERED as error:
        store = {"unanswered": str(error)}
    (seeds.RESULTS / f"store-network{seed}.json").write_text(json.dumps(store, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if nothing is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    seeds.arguments(parser, 1_000)
    options = parser.parse_args(arguments)
    with three() as lab:
        Soak.cycles = Cycles(lab)
        Soak.cycles.begin()
        if options.seed is not None:
            wrong = Soak.cycles.once(options.seed)
            print(f"{', '.join(Soak.cycles.told)}\n{wrong or 'every machine says what the store says'}")
            return 1 if wrong else 0
        name = f"network-{options.first}.json" if options.first else "network.json"
        path: Path = seeds.RESULTS / name
        found = seeds.load(path, Soak, seeds.fingerprint(*CODE), options.first)
        seeds.run(found, options.runs, path, LIMIT)
        Soak.cycles.end()
    print(found.sentence())
    return 1 if found.violations else 0


if __name__ == "__main__":
    sys.exit(main())

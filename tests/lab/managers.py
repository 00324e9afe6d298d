"""A swarm of three managers and two workers on the lab's machines, and the ways in which a manager can be lost.

Used by test_managers.py and by the soaks. `Managers` is a Lab of five whose questions go to whichever manager lives.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.lab.support import LOAD, Lab, Machine, until

MANAGERS = ("manager", "manager2", "manager3")
WORKERS = ("worker1", "worker2")
UP = ("up", "--nodes", str(len(MANAGERS + WORKERS)), "--managers", str(len(MANAGERS)))
DAEMON = "shoal-manager"
NO_LEADER = (
    "The swarm does not have a leader. It's possible that too few managers are online. "
    "Make sure more than half of the managers are online."
)
LOCKED = (
    "Swarm is encrypted and needs to be unlocked before it can be used. "
    'Please use "docker swarm unlock" to unlock it.'
)

# The service that must not blink, the task that uses it by name and address, the one that writes go to.
STEADY, LOOKER, PROBE, NETWORK = "steady", "looker", "probe", "nginx-net"
STEADY_PORT, STEADY_TASKS = 8090, 4
APART = "apart"
PARTED = f"""
table inet {APART} {{{{
 chain in {{{{ type filter hook input priority -10; ip saddr {{{{ {{0}} }}}} drop; }}}}
 chain out {{{{ type filter hook output priority -10; ip daddr {{{{ {{0}} }}}} drop; }}}}
}}}}
"""
RATE, INSIDE_RATE, LOAD_SECONDS = "100", "25", 4.0


@dataclass
class Managers(Lab):
    """Five machines; `asked` is the manager that `Lab`'s own questions go to."""

    asked: str = MANAGERS[0]

    @property
    def manager(self) -> Machine:
        return self.machines[self.asked]

    @property
    def three(self) -> list[Machine]:
        return [self.machines[name] for name in MANAGERS]

    def others(self, *machines: Machine) -> list[Machine]:
        """The managers but these."""
        return [m for m in self.three if m not in machines]

    # -- what they say

    def nodes(self, via: Machine) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = via.api("/nodes")
        return found

    def roles(self, via: Machine) -> dict[str, str]:
        """Each manager's state in `node ls` of one of them; empty when that one doesn't answer."""
        try:
            nodes = self.nodes(via)
        except (OSError, LookupError, http.client.HTTPException):
            return {}
        found = {}
        for node in nodes:
            status = node.get("ManagerStatus")
            if status:
                state = "leader" if status.get("Leader") else status["Reachability"]
                found[node["Description"].get("Hostname", node["ID"])] = state
        return found

    def leader(self, among: Sequence[Machine] = (), seconds: float = 30) -> Machine:
        """Who leads, by the word of any of them."""

        def named() -> Machine | None:
            for machine in among or self.three:
                for name, state in self.roles(machine).items():
                    if state == "leader":
                        return self.machines[name]
            return None

        return until(named, seconds, "a manager that knows a leader")

    def node_id(self, name: str, via: Machine | None = None) -> str:
        """Of the newest node with that host name."""
        found = [n for n in self.nodes(via or self.manager) if n["Description"].get("Hostname") == name]
        newest: str = max(found, key=lambda n: n["CreatedAt"])["ID"]
        return newest

    def wait_settled(self, seconds: float = 30, names: Sequence[str] = MANAGERS) -> Machine:
        """Waits until these are the managers by the word of each, one leads, and all nodes are ready; the leader."""
        seen: dict[str, Any] = {}

        def settled() -> bool:
            for name in names:
                seen[name] = self.roles(self.machines[name])
            first = seen[names[0]]
            if set(first) != set(names) or sorted(first.values()) != [
                "leader",
                *["reachable"] * (len(names) - 1),
            ]:
                return False
            return all(seen[name] == first for name in names)

        try:
            until(settled, seconds, "the managers agree about one another")
        except AssertionError as exc:
            raise AssertionError(f"{exc}: {seen}") from None
        leader = next(self.machines[name] for name, state in seen[names[0]].items() if state == "leader")
        self.asked = leader.name
        for name in self.machines:
            self.wait_node(name, "ready", seconds)
        return leader

    # -- making it whole

    def states(self) -> dict[str, str]:
        """Each machine's state by `lab status`."""
        lines = [line.split() for line in self.tool("status", check=False).stdout.splitlines()[1:]]
        return {words[0]: words[2] for words in lines if words[0] in self.machines}

    def mend(self) -> None:
        """Cables in, power on, everything runs."""
        self.tool("heal", *self.machines)
        states = self.states()
        for name, state in states.items():
            if state != "off":
                self.tool("resume", name)
        off = [name for name, state in states.items() if state == "off"]
        if off:
            self.tool("power-on", *off)
        for machine in self.three:
            machine.run("nft", "delete", "table", "inet", APART, check=False)

    def part(self, machine: Machine, others: Sequence[Machine]) -> None:
        """The machine and these others don't hear one another any more; the rest hears them all."""
        machine.run("nft", "-f", "-", input=PARTED.format(", ".join(other.addr for other in others)))

    def rejoin(self, machine: Machine) -> None:
        """Ends what `part` did."""
        machine.run("nft", "delete", "table", "inet", APART)

    def ensure(self, say: Callable[[str], None] = print) -> Machine:
        """Whole, whatever was done to it before; made anew if it doesn't come back by itself. The leader."""
        self.mend()
        if any(self.roles(machine) for machine in self.three):
            try:
                return self.wait_settled(20)
            except AssertionError as exc:
                say(f"the swarm is made anew: {exc}")
        return self.anew()

    def anew(self) -> Machine:
        """Everybody leaves, three managers and two workers join."""
        for machine in self.machines.values():
            machine.shoal("swarm", "leave", "--force", check=False)
        self.asked = MANAGERS[0]
        first = self.manager
        first.shoal("swarm", "init", "--advertise-addr", first.addr)
        for name in WORKERS:
            self.join(self.machines[name], "worker", first)
        for name in MANAGERS[1:]:
            self.join(self.machines[name], "manager", first)
        return self.wait_settled()

    def join(self, machine: Machine, role: str, via: Machine) -> None:
        """As a tutorial says: the token from a manager's shell, the command in the new one's."""
        token = via.shoal("swarm", "join-token", "-q", role).stdout.strip()
        joined = machine.shoal("swarm", "join", "--token", token, f"{via.addr}:2377")
        assert f"This node joined a swarm as a {role}." in joined.stdout, joined.stdout

    def services(self) -> None:
        """The service under load, a task that looks it up, a service that writes go to."""
        manager = self.manager
        have = manager.docker("service", "ls", "--format", "{{.Name}}").stdout.split()
        if "my-nginx" in have:
            manager.docker("service", "rm", "my-nginx")
        if NETWORK not in manager.docker("network", "ls", "--format", "{{.Name}}").stdout.split():
            manager.docker("network", "create", "-d", "overlay", NETWORK)
        create = ["service", "create", "-d"]
        aside = [part for name in MANAGERS for part in ("--constraint", f"node.hostname!={name}")]
        if STEADY not in have:
            manager.docker(
                *create, "--name", STEADY, "--network", NETWORK, "--publish", f"{STEADY_PORT}:80",
                "--replicas", str(STEADY_TASKS), *aside, "nginx",
            )  # fmt: skip
        if LOOKER not in have:
            manager.docker(
                *create, "--name", LOOKER, "--network", NETWORK, "--constraint", f"node.hostname=={WORKERS[1]}",
                "alpine", "sleep", "100000",
            )  # fmt: skip
        if PROBE not in have:
            manager.docker(*create, "--name", PROBE, "--replicas", "0", "alpine")
        self.wait_running(STEADY, STEADY_TASKS)
        self.wait_running(LOOKER, 1)
        self.machines[WORKERS[1]].run("sh", "-c", "cat > /root/load.py", input=LOAD.read_text())

    # -- writing, and serving meanwhile

    def write(self, via: Machine, mark: str) -> bool:
        """One write by the docker CLI; whether it was acknowledged."""
        argv = ("service", "update", "--detach", "--label-add", f"mark={mark}", PROBE)
        return via.docker(*argv, check=False, timeout=30).returncode == 0

    def first_write(self, others: Sequence[Machine], began: float, seconds: float = 60) -> float:
        """Writes on `others` in turn until one is acknowledged; how long that is after `began`."""
        turns = itertools.cycle(others)
        numbers = itertools.count()
        until(
            lambda: self.write(next(turns), f"{began:.3f}-{next(numbers)}"),
            seconds,
            "a write is acknowledged",
            every=0.01,
        )
        return time.monotonic() - began

    def fingerprint(self) -> dict[str, str]:
        """The tasks that serve and their containers."""
        return {
            t["ID"]: t["Status"]["ContainerStatus"]["ContainerID"]
            for name in (STEADY, LOOKER)
            for t in self.tasks(name)
        }

    @contextmanager
    def undisturbed(self, through: Sequence[Machine], least: int = 200) -> Iterator[None]:
        """While the block runs, new connections through these nodes, to the VIP, and look-ups: none may fail."""
        targets = [f"{machine.addr}:{STEADY_PORT}" for machine in through]
        vip = self.vip(STEADY, NETWORK)
        (task,) = self.wait_running(LOOKER, 1)
        pid = task["Status"]["ContainerStatus"]["PID"]
        inside = [
            "nsenter", f"--net=/proc/{pid}/ns/net", "python3", "/root/load.py", "inside", INSIDE_RATE, STEADY,
            f"{vip}:80",
        ]  # fmt: skip
        began = time.monotonic()
        with (
            self.load(["python3", str(LOAD), "http", RATE, *targets]) as outside,
            self.load(inside, machine=WORKERS[1]) as in_task,
        ):
            yield
            until(
                lambda: time.monotonic() - began > LOAD_SECONDS, LOAD_SECONDS + 1, "enough load to judge by"
            )
        for account, enough in ((outside.account, least), (in_task.account, least // 8)):
            assert account["ok"] >= enough, account
            assert not account["failed"], (account["failed"], account["first"])
            assert not account["lookups_failed"], account["lookups_failed"]


# -- how a manager is lost


@dataclass(frozen=True, slots=True)
class Loss:
    """A way to lose a manager, and how it comes back; `machine_gone` when its node serves nobody meanwhile."""

    name: str
    strike: Callable[[Managers, Machine], None]
    repair: Callable[[Managers, Machine], None]
    machine_gone: bool


def _kill(lab: Managers, machine: Machine) -> None:
    machine.kill9(DAEMON)


def _started(lab: Managers, machine: Machine) -> None:
    machine.wait_unit(DAEMON)


def _by_tool(what: str, *more: str) -> Callable[[Managers, Machine], None]:
    def act(lab: Managers, machine: Machine) -> None:
        lab.tool(what, machine.name, *more)

    return act


KILLED = Loss("killed", _kill, _started, machine_gone=False)
POWER_CUT = Loss("power cut", _by_tool("power-off"), _by_tool("power-on"), machine_gone=True)
STOPPED = Loss("stopped", _by_tool("pause", DAEMON), _by_tool("resume", DAEMON), machine_gone=False)
CUT_OFF = Loss("cut off", _by_tool("cut"), _by_tool("heal"), machine_gone=True)
FROZEN = Loss("frozen", _by_tool("pause"), _by_tool("resume"), machine_gone=True)
LOSSES = (KILLED, POWER_CUT, STOPPED, CUT_OFF)


def lose_leader(lab: Managers, loss: Loss) -> tuple[Machine, float]:
    """Strikes the leader; who it was, and the seconds from the blow to the first write that another acknowledged."""
    victim = lab.wait_settled()
    began = time.monotonic()
    loss.strike(lab, victim)
    return victim, lab.first_write(lab.others(victim), began)


def restart_daemons(lab: Managers, machine: Machine) -> None:
    """A step of a rolling restart: an orderly one of the manager and the agent, over when all agree again."""
    old = machine.main_pid(DAEMON)
    machine.run("systemctl", "restart", DAEMON, "shoal-agent")
    machine.wait_unit(DAEMON, old)
    lab.wait_settled(30)


def kill_once(lab: Managers, machine: Machine) -> None:
    """The manager dies and starts again; over when all agree again."""
    machine.wait_unit(DAEMON, machine.kill9(DAEMON))
    lab.wait_settled(30)


def change_once(lab: Managers, now: set[str], chance: random.Random) -> tuple[set[str], str]:
    """Some node is promoted or demoted by some manager; the managers then, and what was done. Never below two."""
    name = chance.choice(sorted(lab.machines if len(now) > 2 else set(lab.machines) - now))
    via = lab.machines[chance.choice(sorted(now))]
    what, after = ("demote", now - {name}) if name in now else ("promote", now | {name})
    via.docker("node", what, name)
    lab.asked = min(after)
    lab.wait_settled(40, sorted(after))
    return after, f"{via.name}: {what} {name}, {len(after)} managers"


def restore_managers(lab: Managers, now: set[str]) -> None:
    """The three that it should be, again."""
    for name in sorted(set(MANAGERS) - now):
        lab.leader([lab.machines[n] for n in sorted(now)]).docker("node", "promote", name)
        now = now | {name}
        lab.wait_settled(40, sorted(now))
    for name in sorted(now - set(MANAGERS)):
        now = now - {name}
        lab.manager.docker("node", "demote", name)
        lab.wait_settled(40, sorted(now))


def same_nodes(nodes: list[dict[str, Any]]) -> str:
    """What must not change in a list of nodes."""
    return json.dumps(sorted((n["ID"], n["Spec"]) for n in nodes), sort_keys=True)

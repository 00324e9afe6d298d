"""Random cycles on three machines: services come, change and go, tasks, daemons and cables fail; then all must agree.

One cycle is a few deeds one upon the other, drawn from a seed, a wait until the store has come to rest, and a comparison of every
machine's names, balancers, tunnels' entries, interfaces and conntrack with the store (truth.py). Meanwhile sampler.py looks for balancers
that have a task which was told to stop. Used by test_network_cycles.py and by the soak.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass, field

from tests.lab import truth
from tests.lab.sampler import Held, Sampler
from tests.lab.support import Lab, Machine, until

NETWORKS = ("cycle-a", "cycle-b")
SERVICES = tuple(f"cycle{n}" for n in range(5))
PORTS = {name: 8200 + n for n, name in enumerate(SERVICES)}
EACH = "for n in /run/shoal/netns/{}*; do nsenter --net=$n sh -c '{}' || :; done"
SABOTAGE = {
    "rules of the machine deleted": "nft flush ruleset",
    "rules of the tasks deleted": EACH.format("t-", "nft flush ruleset"),
    "tunnels deleted": EACH.format("n-", "ip link del vxlan0"),
    "tunnels down": EACH.format("n-", "ip link set vxlan0 down"),
    "neighbours deleted": EACH.format("n-", "ip neigh flush dev vxlan0 nud permanent"),
    "entries deleted": EACH.format(
        "n-",
        "bridge fdb show dev vxlan0 | grep dst | while read mac word vtep rest;"
        " do bridge fdb del $mac dev vxlan0 dst $vtep self; done",
    ),
    "legs deleted": EACH.format("t-", "ip link del eth0"),
    "docker_gwbridge deleted": "ip link del docker_gwbridge",
}
# Seconds until the store is at rest: a node that was cut off has to be found out and to come back.
SETTLED = 90.0
# And until every machine says what the store says: less than the minute after which an agent looks afresh by itself, so that
# this hides nothing.
AGREED = 45.0


@dataclass
class Cycles:
    """The machines, and what was done to them lately."""

    lab: Lab
    chance: random.Random = field(default_factory=random.Random)
    long: bool = True  # also what takes its time: cuts that have a node declared dead, plugs that are pulled
    told: list[str] = field(default_factory=list)
    cut: dict[str, float] = field(default_factory=dict)  # until when
    disturbed: set[str] = field(
        default_factory=set
    )  # machines whose agents may not have heard of everything in time
    killed: set[str] = field(default_factory=set)  # tasks that nobody has told to stop
    sampler: Sampler | None = None

    # ---- what is done

    def deeds(self) -> list[Callable[[], str]]:
        """What can be done now."""
        have, absent = self.present(), [s for s in SERVICES if s not in self.present()]
        always = [self.kill_task, self.cut_off, self.agent_anew, self.manager_anew, self.sabotage]
        if self.long:
            always.append(self.unplug)
        some = [self.scale, self.update, self.move, self.scale, self.remove] if have else []
        return [*always, *some, *([self.create] * 2 if absent else [])]

    def present(self) -> list[str]:
        listed = self.lab.manager.api("/services")
        return sorted(s["Spec"]["Name"] for s in listed if s["Spec"]["Name"] in SERVICES)

    def create(self) -> str:
        name = self.chance.choice([s for s in SERVICES if s not in self.present()])
        networks = self.chance.choice([NETWORKS[:1], NETWORKS[1:], NETWORKS])
        replicas = self.chance.randrange(1, 5)
        way = self.chance.choice(
            [["-p", f"{PORTS[name]}:80"], ["-p", f"{PORTS[name]}:80"], [], ["--endpoint-mode", "dnsrr"]]
        )
        words = [word for network in networks for word in ("--network", network)]
        self.command(
            "create", "--name", name, "--replicas", str(replicas), "--restart-delay", "0s", "--update-monitor", "200ms",
            "--stop-signal", "SIGKILL", *way, *words, "nginx",
        )  # fmt: skip
        return f"create {name} x{replicas} {' '.join(way)} in {'+'.join(networks)}"

    def scale(self) -> str:
        name, count = self.chance.choice(self.present()), self.chance.randrange(0, 6)
        self.command("scale", f"{name}={count}")
        return f"scale {name}={count}"

    def update(self) -> str:
        name = self.chance.choice(self.present())
        order = self.chance.choice(["start-first", "stop-first"])
        self.command("update", "--force", "--update-parallelism", "2", "--update-order", order, name)
        return f"update {name} {order}"

    def move(self) -> str:
        """Into one more network, or out of one of two."""
        name = self.chance.choice(self.present())
        spec = self.lab.manager.api(f"/services/{name}")["Spec"]["TaskTemplate"]
        ids = {n["Id"]: n["Name"] for n in self.lab.manager.api("/networks")}
        now = sorted(ids[each["Target"]] for each in spec["Networks"])
        network = self.chance.choice(now) if len(now) == 2 else next(n for n in NETWORKS if n not in now)
        flag = "--network-rm" if network in now else "--network-add"
        self.command("update", "--update-parallelism", "0", flag, network, name)
        return f"update {name} {flag} {network}"

    def remove(self) -> str:
        name = self.chance.choice(self.present())
        self.command("rm", name, detach=False)
        return f"rm {name}"

    def kill_task(self) -> str:
        running = [t for s in self.present() for t in self.lab.tasks(s)]
        if not running:
            return "no task to kill"
        task = self.chance.choice(sorted(running, key=lambda t: (t["ServiceID"], t.get("Slot", 0), t["ID"])))
        pid = task["Status"].get("ContainerStatus", {}).get("PID", 0)
        self.killed.add(task["ID"])
        if pid:
            self.lab.node_of(task).run("kill", "-9", str(pid), check=False)
        return f"kill -9 of a task of slot {task.get('Slot')} on {self.lab.node_of(task).name}"

    def cut_off(self) -> str:
        machine = self.worker()
        seconds = self.chance.choice((0.5, 2.0, 15.0) if self.long else (0.3, 1.0, 2.0))
        self.disturbed.add(machine.name)
        self.lab.tool("cut", machine.name)
        self.cut[machine.name] = time.monotonic() + seconds
        return f"cut {machine.name} for {seconds:g} s"

    def unplug(self) -> str:
        """Without power for a moment: everything in its kernel is gone."""
        machine = self.worker()
        self.disturbed.add(machine.name)
        self.killed |= {
            t["ID"] for s in self.present() for t in self.lab.tasks(s) if self.lab.node_of(t) is machine
        }
        with self.sampler.without_power(machine.name) if self.sampler else nullcontext():
            self.lab.tool("power-off", machine.name)
        self.lab.tool("power-on", machine.name)
        machine.wait_unit("shoal-agent", 0, 60)
        return f"power cut of {machine.name}"

    def agent_anew(self) -> str:
        machine = self.chance.choice(list(self.lab.machines.values()))
        self.disturbed.add(machine.name)
        return self.restarted(machine, "shoal-agent")

    def manager_anew(self) -> str:
        return self.restarted(self.lab.manager, "shoal-manager")

    def sabotage(self) -> str:
        """Somebody takes away by hand what the agent has made."""
        machine, deed = (
            self.chance.choice(list(self.lab.machines.values())),
            self.chance.choice(sorted(SABOTAGE)),
        )
        machine.sh(SABOTAGE[deed])
        return f"{deed} on {machine.name}"

    def restarted(self, machine: Machine, unit: str) -> str:
        """Killed, or told to restart; back when this returns."""
        killed = self.chance.random() < 0.5
        pid = machine.main_pid(unit)
        if killed:
            machine.run("kill", "-9", str(pid))
        else:
            machine.run("systemctl", "restart", unit)
        machine.wait_unit(unit, pid, 60)
        until(self.answers, 60, "a manager that answers")
        return f"{'kill -9 of' if killed else 'restart of'} {unit} on {machine.name}"

    def worker(self) -> Machine:
        return self.chance.choice([m for m in self.lab.machines.values() if m is not self.lab.manager])

    def command(self, verb: str, *words: str, detach: bool = True) -> None:
        """`service VERB`, again where it met another change of the same service."""

        def accepted() -> bool:
            options = ["--detach"] if detach else []
            done = self.lab.manager.docker("service", verb, *options, *words, check=False)
            if done.returncode and "out of sequence" not in done.stderr:
                raise AssertionError(f"service {verb} {words}: {done.stdout}{done.stderr}")
            return done.returncode == 0

        until(accepted, 30, f"service {verb} is accepted")

    def answers(self) -> bool:
        try:
            self.lab.manager.api("/nodes")
            self.lab.manager.api("/services")
        except truth.UNANSWERED:
            return False
        return True

    # ---- a cycle

    def begin(self) -> None:
        """The networks that services are put into."""
        have = self.lab.manager.docker("network", "ls", "--format", "{{.Name}}").stdout.split()
        for name in NETWORKS:
            if name not in have:
                both = ["--ipv6"] if name == NETWORKS[1] else []
                self.lab.manager.docker("network", "create", "-d", "overlay", *both, name)
        if self.sampler is None:
            self.sampler = Sampler("-".join(filter(None, ("shoal-lab", os.environ.get("SHOAL_LAB", "")))))
            self.sampler.start()

    def end(self) -> None:
        """Nothing is left of it."""
        if self.sampler is not None:
            self.sampler, watching = None, self.sampler
            watching.stop()
        self.heal()
        if names := self.present():
            self.lab.manager.docker("service", "rm", *names)
        have = self.lab.manager.docker("network", "ls", "--format", "{{.Name}}").stdout.split()
        for name in NETWORKS:
            if name in have:
                self.lab.manager.docker("network", "rm", name)

    def heal(self) -> None:
        if self.cut:
            self.lab.tool("heal", *self.cut)
            self.cut.clear()

    def once(self, seed: int) -> str:
        """One cycle; what is wrong afterwards, or nothing."""
        self.chance = random.Random(seed)
        self.told = []
        self.disturbed, self.killed = set(self.cut), set()
        began = time.time()
        if self.sampler is not None:
            self.sampler.found.clear()
        try:
            for _ in range(self.chance.randrange(1, 4)):
                self.told.append(self.chance.choice(self.deeds())())
                if self.chance.random() < 0.5:
                    self.use()
            if self.cut:  # that takes its time; nothing is waited for
                time.sleep(max(0.0, max(self.cut.values()) - time.monotonic()))
            self.heal()
            return self.judged() or self.stale(began)
        except AssertionError as error:
            self.heal()
            return f"{error}"

    def use(self) -> None:
        """Connections for conntrack to hold, to all who are behind a balancer now."""
        try:
            store = truth.ask(self.lab)
        except truth.UNANSWERED:
            return  # a leader is being elected
        vips = [plain for s in store.services for v in s["Endpoint"].get("VirtualIPs") or ()
                if (plain := truth.plain(v.get("Addr", "")))]  # fmt: skip
        reachable = [m for m in self.lab.machines.values() if m.name not in self.cut]
        truth.run(reachable, "use", *sorted(set(vips)))

    def judged(self) -> str:
        """What differs from the store when all has come to rest."""
        names = [n for s in SERVICES for n in (s, f"tasks.{s}")]
        said: Collection[str] = ()
        took = 0.0  # of the last look

        def at_rest() -> bool:
            nonlocal said
            try:
                said = [truth.ask(self.lab).restless]
            except truth.UNANSWERED as error:
                said = [str(error)]
            return not any(said)

        def agreed() -> bool:
            nonlocal said, took
            began = time.monotonic()
            try:
                store = truth.ask(self.lab)
            except truth.UNANSWERED as error:
                said = [str(error)]
                return False
            said = [store.restless] if store.restless else truth.differences(
                store, truth.kernels(list(self.lab.machines.values()), names), names
            )  # fmt: skip
            took = time.monotonic() - began
            return not said

        try:
            until(at_rest, SETTLED, "the store is at rest")
            until(agreed, AGREED, "every machine says what the store says")
        except AssertionError as error:
            late = f"{str(error).partition(' (last')[0]}, the last look took {took:.1f} s"
            return "; ".join([*said, late])
        return ""

    def stale(self, began: float) -> str:
        """Balancers that had a task which had been told to stop, after its end; where the managers' patience was not over."""
        found = [
            held
            for held in (self.sampler.found if self.sampler else ())
            if held.machine not in self.disturbed
        ]
        if not found:
            return ""
        said = self.lab.manager.sh(
            f"journalctl -q -o cat -u shoal-manager --since @{began:.0f} | grep 'did not wait' || true"
        )
        excused = set(re.findall(r"worker\d|manager", said))
        return "; ".join(sorted({str(h) for h in found if h.machine not in excused and self.stopped(h)}))

    def stopped(self, held: Held) -> bool:
        """Whether it was told to: what ends by itself, and what is killed, is in the balancers until they hear of it."""
        if held.task in self.killed:
            return False
        try:
            return bool(self.lab.manager.api(f"/tasks/{held.task}")["Status"]["State"] == "shutdown")
        except LookupError:
            return True  # removed with its service

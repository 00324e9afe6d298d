"""Three managers: whichever is lost, however, the others go on, nothing acknowledged is lost, and no service notices."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.lab import damage
from tests.lab.managers import (
    DAEMON,
    LOSSES,
    MANAGERS,
    NO_LEADER,
    STEADY,
    STEADY_TASKS,
    STOPPED,
    Loss,
    Managers,
    kill_once,
    lose_leader,
    restart_daemons,
)
from tests.lab.recorder import Recorder
from tests.lab.support import Machine, addresses, until

pytestmark = pytest.mark.lab

Say = Callable[[str], None]

# An election takes 1 to 2 s, a second one where votes were split as long again, on a machine that is busy with something else;
# who waits for something to time out takes longer. `make soak-failover` measures it.
FAILOVER_SECONDS = 10.0
AWAY_SECONDS = 15.0
TOLD_SECONDS = 30.0  # until all have heard, and their kernels stand that way
KILLS = 10
DAMAGES = (damage.BEGUN, damage.TORN, damage.FLIPPED_LAST, damage.BEGUN, damage.FLIPPED_MIDDLE)
# What a manager may answer that has no leader to ask, in Docker's words, or its node when it dies just then.
HONEST = (NO_LEADER, "context deadline exceeded", "node lost leader status", "code = Unavailable")

# What a client of a manager sees that has no power, or whose agent starts.
CONNECTION_ERRORS = ("NotSent", "Error", "RemoteDisconnected", "IncompleteRead", "BadStatusLine")


def judged(recorder: Recorder, path: Path, say: Say, what: str) -> None:
    """Prints the verdict on what was recorded; fails if it is a bad one."""
    verdict = recorder.conclude(path / "history.jsonl")
    say(f"{what}: {verdict.sentence}\n{recorder.account()}")
    assert verdict.ok, verdict.sentence


def table(machine: Machine) -> dict[str, list[str]]:
    """`docker node ls` by host name."""
    lines = machine.docker("node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}").stdout
    return {words[0]: words[1:] for line in lines.splitlines() if (words := line.split())}


def test_node_ls_on_every_manager(managers: Managers) -> None:
    first = table(managers.manager)
    assert sorted(first) == sorted(managers.machines)
    assert all(words[0] == "Ready" for words in first.values())
    assert sorted(first[name][1:] for name in MANAGERS) == [["Leader"], ["Reachable"], ["Reachable"]]
    for machine in managers.three:
        assert table(machine) == first
        marked = [
            line.split()[2] for line in machine.docker("node", "ls").stdout.splitlines() if " * " in line
        ]
        assert marked == [machine.name]
        assert machine.shoal("node", "ls").stdout == machine.docker("node", "ls").stdout


def shows(machine: Machine, line: str) -> bool:
    """Whether `docker service ls` there has it."""
    argv = ("service", "ls", "--format", "{{.Name}} {{.Mode}} {{.Replicas}}")
    return line in machine.docker(*argv).stdout.splitlines()


def test_the_docker_cli_works_on_every_manager(managers: Managers) -> None:
    """What one manager was told the next one shows at once."""
    first, second, third = managers.three
    for tell, ask, last in ((first, second, third), (second, third, first), (third, first, second)):
        name = f"any-{tell.name}"
        tell.docker("service", "create", "-d", "--name", name, "--replicas", "0", "alpine", "sleep", "1000")
        assert shows(ask, f"{name} replicated 0/0")
        assert f"{name} scaled to 1" in ask.docker("service", "scale", "-d", f"{name}=1").stdout
        running = partial(shows, last, f"{name} replicated 1/1")
        until(running, 60, f"{last.name} shows that the task runs")
        tell.docker("network", "create", "-d", "overlay", f"{name}-net")
        assert f"{name}-net" in ask.docker("network", "ls", "--format", "{{.Name}}").stdout.split()
        last.docker("network", "rm", f"{name}-net")
        last.docker("service", "rm", name)
        assert name not in tell.docker("service", "ls", "--format", "{{.Name}}").stdout.split()
        refused = ask.docker("service", "rm", name, check=False)
        assert (refused.returncode, "not found" in refused.stderr) == (1, True)
    out = second.docker(
        "service", "create", "--name", "any", "--replicas", "2", "alpine", "sleep", "1000"
    ).stdout
    assert out.splitlines()[-1].endswith("converged")
    third.docker("service", "rm", "any")


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name.replace(" ", "-"))
def test_the_leader_is_lost(managers: Managers, loss: Loss, say: Say, tmp_path: Path) -> None:
    before = managers.fingerprint()
    victim = managers.wait_settled()
    through = [m for m in managers.machines.values() if m is not victim or not loss.machine_gone]
    with Recorder(managers.three, loss.name.replace(" ", "")) as recorder, managers.undisturbed(through):
        recorder.wait_more(20)
        lost, seconds = lose_leader(managers, loss)
        assert lost is victim
        struck = time.monotonic()
        say(f"leader {loss.name}: a write was acknowledged by another manager after {seconds:.2f} s")
        recorder.wait_more(40)
        if loss is STOPPED:
            until(lambda: time.monotonic() - struck > AWAY_SECONDS, AWAY_SECONDS + 1, "away for a while")
        loss.repair(managers, victim)
        leader = managers.wait_settled(40)
        recorder.wait_more(40)
    judged(recorder, tmp_path, say, f"leader {loss.name}")
    assert seconds < FAILOVER_SECONDS
    assert loss.name == "killed" or leader is not victim
    assert managers.fingerprint() == before
    dishonest = [
        text
        for text in recorder.errors[victim.name]
        if not any(honest in text for honest in HONEST)
        and not text.split(": ")[1].endswith(CONNECTION_ERRORS)
    ]
    assert not dishonest, dishonest


def wait_unsent(machines: list[Machine], dead: set[str], seconds: float) -> None:
    """Until no balancer of any of them sends to these addresses; which do, by namespace, when that fails."""
    sending: dict[str, list[str]] = {}

    def unsent() -> bool:
        for machine in machines:
            sending[machine.name] = [where for where, there in machine.balancers().items() if dead & there]
        return not any(sending.values())

    try:
        until(unsent, seconds, "no node sends to the killed task")
    except AssertionError as exc:
        raise AssertionError(f"{exc}: {sending}") from None


def test_without_most_managers_a_killed_task_leaves_the_balancers(managers: Managers) -> None:
    """Nobody can decide anything: what the nodes tell one another is enough."""
    leader = managers.wait_settled()
    lost = managers.others(leader)
    victim, *_ = managers.wait_running(STEADY, STEADY_TASKS)
    there, pid = managers.node_of(victim), str(victim["Status"]["ContainerStatus"]["PID"])
    dead = addresses([victim])
    everywhere = list(managers.machines.values())
    until(lambda: all(dead & machine.backends() for machine in everywhere), 30, "all send to it")
    try:
        for machine in lost:
            machine.run("systemctl", "stop", "shoal-manager.socket", DAEMON)
        there.run("kill", "-9", pid)
        wait_unsent(everywhere, dead, TOLD_SECONDS)
        until(lambda: NO_LEADER in leader.docker("node", "ls", check=False).stderr, 30, "nobody leads")
    finally:
        for machine in lost:
            machine.run("systemctl", "start", "shoal-manager.socket", DAEMON)
        managers.wait_settled()
    managers.wait_running(STEADY, STEADY_TASKS)


def test_all_five_reboot_at_once(managers: Managers, say: Say, tmp_path: Path) -> None:
    with Recorder(managers.three, "reboot") as recorder:
        recorder.wait_more(60)
        managers.tool("power-off", *managers.machines)
        managers.tool("power-on", *managers.machines)
        managers.wait_settled(60)
        recorder.wait_more(20)
    judged(recorder, tmp_path, say, "all rebooted at once")
    managers.wait_running(STEADY, STEADY_TASKS, 60)
    with managers.undisturbed(list(managers.machines.values())):
        until(lambda: managers.write(managers.manager, "after the reboot"), 30, "a write")


def test_rolling_restart_under_writes(managers: Managers, say: Say, tmp_path: Path) -> None:
    before = managers.fingerprint()
    everybody = list(managers.machines.values())
    with Recorder(managers.three, "rolling") as recorder, managers.undisturbed(everybody):
        for machine in managers.three:
            recorder.wait_more(20)
            restart_daemons(managers, machine)
    judged(recorder, tmp_path, say, "rolling restart")
    assert managers.fingerprint() == before


def test_kill_9_of_any_manager_during_writes(managers: Managers, say: Say, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    say(f"killing {KILLS} times, seed {seed}")
    before = managers.fingerprint()
    everybody = list(managers.machines.values())
    with Recorder(managers.three, "kill") as recorder, managers.undisturbed(everybody):
        for _ in range(KILLS):
            recorder.wait_more(chance.randrange(1, 12))
            kill_once(managers, chance.choice(managers.three))
    judged(recorder, tmp_path, say, f"{KILLS} × kill -9")
    assert managers.fingerprint() == before


def test_a_damaged_log(managers: Managers, say: Say, tmp_path: Path) -> None:
    """A torn tail is cut; other damage is named, with what to do, and doing that helps."""
    chance = random.Random(5)
    with Recorder(managers.three, "damage") as recorder:
        for kind in DAMAGES:
            recorder.wait_more(10)
            managers.wait_settled(30)
            victim = chance.choice(managers.three)
            came = damage.once(managers, victim, kind, chance)
            say(f"{victim.name}, {kind}: {'started' if came.started else 'did not start'}; {came.said}")
    judged(recorder, tmp_path, say, "damaged logs")

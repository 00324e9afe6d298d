"""Managers come and go: promotion, demotion, leaving, the majority lost and won back, locks. Services never notice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.lab.managers import (
    DAEMON,
    LOCKED,
    MANAGERS,
    NO_LEADER,
    PROBE,
    STEADY,
    STEADY_TASKS,
    WORKERS,
    Managers,
    change_once,
    restore_managers,
    same_nodes,
)
from tests.lab.recorder import Recorder
from tests.lab.support import Machine, until

pytestmark = pytest.mark.lab

Say = Callable[[str], None]

NO_MANAGER = "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state."
TWO_MANAGERS = "Running Swarm in a two-manager configuration."
ANSWERED = (
    15.0  # seconds: a manager's patience is 2, the command's start and end take what a busy machine takes
)
CHANGES = 10


def swarm_info(machine: Machine) -> dict[str, object]:
    found: dict[str, object] = machine.api("/info")["Swarm"]
    return found


def counts(machine: Machine) -> tuple[object, object]:
    info = swarm_info(machine)
    return info["Managers"], info["Nodes"]


def refused(machine: Machine, *argv: str) -> str:
    done = machine.docker(*argv, check=False)
    assert done.returncode == 1, (argv, done.stdout)
    return done.stderr


def test_demote_and_promote(managers: Managers) -> None:
    """A follower, then the leader, by their own command lines and by others'."""
    everybody = list(managers.machines.values())
    with managers.undisturbed(everybody):
        for which in ("follower", "leader"):
            leader = managers.wait_settled()
            subject = leader if which == "leader" else managers.others(leader)[0]
            (via, *_) = managers.others(subject)
            left = [m.name for m in managers.others(subject)]
            out = subject.docker("node", "demote", subject.name).stdout
            assert out == f"Manager {subject.name} demoted in the swarm.\n"
            managers.asked = via.name
            managers.wait_settled(30, left)
            until(partial(no_manager, subject), 30, "it is a worker")
            assert counts(via) == (2, 5)
            assert TWO_MANAGERS in via.docker("info").stderr
            out = via.docker("node", "promote", subject.name).stdout
            assert out == f"Node {subject.name} promoted to a manager in the swarm.\n"
            managers.wait_settled(30)
            assert counts(subject) == (3, 5)
            assert TWO_MANAGERS not in via.docker("info").stderr


def test_four_managers_work(managers: Managers) -> None:
    leader = managers.wait_settled()
    leader.docker("node", "promote", WORKERS[0])
    managers.wait_settled(30, [*MANAGERS, WORKERS[0]])
    assert managers.write(managers.machines[WORKERS[0]], "by the fourth")
    leader.docker("node", "demote", WORKERS[0])
    managers.wait_settled(30)


def test_managers_come_and_go_under_writes(managers: Managers, say: Say, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    say(f"{CHANGES} promotions and demotions, seed {seed}")
    now = set(MANAGERS)
    before = managers.fingerprint()
    with (
        Recorder(managers.three, "change") as recorder,
        managers.undisturbed(list(managers.machines.values())),
    ):
        for _ in range(CHANGES):
            now, _ = change_once(managers, now, chance)
        restore_managers(managers, now)
        recorder.wait_more(10)
    verdict = recorder.conclude(tmp_path / "history.jsonl")
    say(f"{CHANGES} changes of the managers: {verdict.sentence}\n{recorder.account()}")
    assert verdict.ok
    assert managers.fingerprint() == before


def test_the_last_manager_is_not_demoted_and_leaving_warns(managers: Managers) -> None:
    leader = managers.wait_settled()
    text = refused(leader, "swarm", "leave")
    assert (
        "You are attempting to leave the swarm on a node that is participating as a manager. "
        "The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. "
        "Use `--force` to suppress this message."
    ) in text
    follower, last = managers.others(leader)
    node = managers.node_id(follower.name, leader)
    assert (
        f"node {node} is a cluster manager and is a member of the raft cluster. "
        "It must be demoted to worker before removal"
    ) in refused(leader, "node", "rm", follower.name)
    follower.docker("swarm", "leave", "--force")
    rest = [leader.name, last.name]
    managers.asked = leader.name
    until(lambda: follower.name not in managers.roles(leader), 30, "it is no manager any more")
    managers.machines.pop(follower.name)
    try:
        managers.wait_settled(30, rest)
        assert (
            "Removing this node leaves 1 managers out of 2. Without a Raft quorum your swarm will be inaccessible."
        ) in refused(last, "swarm", "leave")
        leader.docker("node", "demote", last.name)
        managers.wait_settled(30, [leader.name])
        assert "attempting to demote the last manager of the swarm" in refused(
            leader, "node", "demote", leader.name
        )
        assert "Removing the last manager erases all current state of the swarm" in refused(
            leader, "swarm", "leave"
        )
    finally:
        managers.machines[follower.name] = follower
    until(
        lambda: leader.docker("node", "rm", node, check=False).returncode == 0, 30, "its old self is removed"
    )
    managers.join(follower, "manager", leader)
    leader.docker("node", "promote", last.name)
    managers.wait_settled(30)


def test_a_majority_is_lost_and_the_survivor_goes_on_alone(managers: Managers, say: Say) -> None:
    leader = managers.wait_settled()
    survivor, other = managers.others(leader)
    gone = [leader, other]
    serving = [m for m in managers.machines.values() if m not in gone]
    before, objects = managers.fingerprint(), everything(survivor)
    with managers.undisturbed(serving):
        managers.tool("power-off", *(m.name for m in gone))
        managers.asked = survivor.name
        for argv in (["node", "ls"], ["service", "ls"], ["service", "update", "-d", "--label-add", "a=b", PROBE],
                     ["network", "create", "-d", "overlay", "nothing"]):  # fmt: skip
            began = time.monotonic()
            text = refused(survivor, *argv)
            took = time.monotonic() - began
            say(f"without a majority, docker {' '.join(argv)}: {took:.2f} s")
            assert NO_LEADER in text
            assert took < ANSWERED
        assert swarm_info(survivor)["Error"]
        began = time.monotonic()
        out = survivor.shoal(
            "swarm", "init", "--force-new-cluster", "--advertise-addr", survivor.addr
        ).stdout  # fmt: skip
        assert f"current node ({swarm_info(survivor)['NodeID']}) is now a manager." in out
        assert managers.roles(survivor) == {survivor.name: "leader"}
        say(f"--force-new-cluster: a leader after {time.monotonic() - began:.2f} s")
        for worker in WORKERS:
            until(
                partial(only_manager, managers.machines[worker], survivor),
                30,
                f"{worker} knows its only manager",
            )
        assert everything(survivor) == objects
        assert managers.fingerprint() == before
        assert managers.write(survivor, "alone")
        old_world(managers, survivor, gone, say)
    for machine in gone:
        survivor.docker("node", "promote", machine.name)
    managers.wait_settled(40)
    assert managers.fingerprint() == before


def everything(machine: Machine) -> dict[str, Any]:
    """What the user has made, by kind: ids and specifications; nodes by id alone, their roles change."""
    found: dict[str, Any] = {}
    found["services"] = sorted((s["ID"], str(s["Spec"])) for s in machine.api("/services"))
    found["networks"] = sorted(
        (n["Id"], n["Name"]) for n in machine.api("/networks") if n["Scope"] == "swarm"
    )
    found["nodes"] = sorted(n["ID"] for n in machine.api("/nodes"))
    found["swarm"] = [machine.api("/swarm")["ID"]]
    return found


def old_world(managers: Managers, survivor: Machine, gone: list[Machine], say: Say) -> None:
    """The two that were lost come back where they can't see the survivor: a majority of what was, in a world of its own.

    They agree and take orders, and the workers, who know better, are not there for them. Then they meet the survivor.
    """
    objects, nodes, before = everything(survivor), same_nodes(survivor.api("/nodes")), managers.fingerprint()
    managers.part(survivor, gone)
    managers.tool("power-on", *(m.name for m in gone))
    for machine in gone:
        until(partial(agree, managers, machine), 30, f"{machine.name} and the other agree in their own world")
    for argv in (["service", "scale", "-d", f"{STEADY}=1"], ["service", "rm", PROBE]):
        gone[0].docker(*argv)
        say(f"among the old managers, docker {' '.join(argv)} is acknowledged")
    managers.asked = gone[0].name
    for worker in WORKERS:
        managers.wait_node(worker, "down", 40)
    managers.asked = survivor.name
    assert managers.fingerprint() == before
    managers.rejoin(survivor)
    for machine in gone:
        until(partial(no_manager, machine), 30, f"{machine.name} is a worker of the new swarm")
    assert everything(survivor) == objects
    assert same_nodes(survivor.api("/nodes")) == nodes
    assert managers.roles(survivor) == {survivor.name: "leader"}
    assert len(managers.wait_running(STEADY, STEADY_TASKS)) == STEADY_TASKS
    assert managers.fingerprint() == before


def agree(managers: Managers, machine: Machine) -> bool:
    return {"leader", "reachable"} <= set(managers.roles(machine).values())


def no_manager(machine: Machine) -> bool:
    return NO_MANAGER in machine.docker("node", "ls", check=False).stderr


def only_manager(worker: Machine, manager: Machine) -> bool:
    """Whether it has been told that there is no other: it was connected since."""
    managers: Any = swarm_info(worker)["RemoteManagers"]
    return [m["Addr"] for m in managers] == [f"{manager.addr}:2377"]


def test_a_locked_manager_waits_for_its_key(managers: Managers, tmp_path: Path) -> None:
    leader = managers.wait_settled()
    subject = managers.others(leader)[0]
    everybody = list(managers.machines.values())
    out = leader.shoal("swarm", "update", "--autolock=true").stdout
    key = next(word for word in out.split() if word.startswith("SWMKEY-1-"))
    try:
        assert leader.docker("swarm", "unlock-key", "-q").stdout.strip() == key
        until(lambda: managers.roles(subject), 30, "the others know it as well")
        with managers.undisturbed(everybody):
            for machine in (subject, leader):
                old = machine.main_pid(DAEMON)
                machine.run("systemctl", "restart", DAEMON)
                machine.wait_unit(DAEMON, old)
                managers.asked = next(m.name for m in managers.others(machine))
                until(
                    lambda m=machine: LOCKED in m.docker("node", "ls", check=False).stderr, 30, "it is locked"
                )
                assert swarm_info(machine)["LocalNodeState"] == "locked"
                assert "Please unlock it first or use `--force`" in refused(machine, "swarm", "leave")
                wrong = machine.run("shoal", "swarm", "unlock", input=f"SWMKEY-1-{'A' * 43}\n", check=False)
                assert "swarm could not be unlocked: invalid key provided" in wrong.stderr
                until(lambda: managers.write(managers.manager, "while one is locked"), 30, "the others write")
                machine.run("shoal", "swarm", "unlock", input=f"{key}\n")
                managers.wait_settled(30)
    finally:
        managers.asked = managers.leader().name
        managers.manager.shoal("swarm", "update", "--autolock=false")
    old = subject.main_pid(DAEMON)
    subject.run("systemctl", "restart", DAEMON)
    subject.wait_unit(DAEMON, old)
    managers.wait_settled(30)

"""`shoal network check` between machines: what is filtered, cut short or gone is named, in its direction; nothing is left behind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab.managers import Managers
from tests.lab.support import Lab, Machine, until
from tests.lab.test_gossip import spread

pytestmark = pytest.mark.lab

# What a check could leave behind: sockets, here and in the namespaces of networks.
KERNEL = (
    "tail -n +2 /proc/net/raw | wc -l; "
    "for n in /run/shoal/netns/n-*; do nsenter --net=$n tail -n +2 /proc/net/packet; done | wc -l"
)
Faults = set[tuple[str, str, str]]  # kind, from, to; "" from a node's own


def check(machine: Machine, network: str = "nginx-net") -> dict[str, Any]:
    done = machine.shoal("network", "check", "--format", "json", network, check=False)
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == bool(found["Faults"])
    return found


def faults(found: dict[str, Any]) -> Faults:
    names = {node["ID"]: node["Hostname"] for node in found["Nodes"]}
    return {
        (fault["Kind"], names.get(source, ""), names[fault["To"]])
        for fault in found["Faults"]
        for source in fault["From"] or [""]
    }


def settles(machine: Machine, wanted: Faults, what: str) -> dict[str, Any]:
    """The check finds just these, as soon as the machines have come to rest."""
    last: list[Any] = []

    def found() -> dict[str, Any] | None:
        last[:] = [check(machine)]
        return last[0] if faults(last[0]) == wanted else None

    try:
        return until(found, 30, what)
    except AssertionError as failure:
        raise AssertionError(f"{failure}; the last check: {json.dumps(last)}") from None


@contextmanager
def dropped(machine: Machine, rule: str) -> Iterator[None]:
    """What the rule matches is not let into the machine."""
    rules = f"table inet blocked {{ chain input {{ type filter hook input priority -10; {rule} drop; }}; }}"
    machine.sh(f"echo '{rules}' | nft -f -")
    try:
        yield
    finally:
        machine.sh("nft delete table inet blocked")


def printed(machine: Machine, network: str) -> list[str]:
    """What people see once there is no fault."""

    def well() -> list[str]:
        done = machine.shoal("network", "check", network, check=False)
        return done.stdout.splitlines() if done.returncode == 0 else []

    return until(well, 30, f"no fault in {network} as {machine.name} sees it")


def test_all_is_well_from_any_node(web: Lab) -> None:
    spread(web)
    manager, worker = web.manager, web.machines["worker1"]
    before = worker.sh(KERNEL)
    settles(manager, set(), "no fault")
    for machine in (manager, worker):
        lines = printed(machine, "nginx-net")
        assert re.fullmatch(r"Network nginx-net \(VXLAN \d+, MTU 1450\): on 3 of 3 nodes", lines[0])
        assert [line.split() for line in lines[-6:-2]] == [
            ["FROM", "\\", "TO", "manager", "worker1", "worker2"],
            ["manager", "-", "ok", "ok"],
            ["worker1", "ok", "-", "ok"],
            ["worker2", "ok", "ok", "-"],
        ]
        assert lines[-1] == "No faults found."
    until(lambda: worker.sh(KERNEL) == before, 30, "every socket of a check is closed")


def test_each_fault_is_named_in_its_direction(web: Lab) -> None:
    manager, worker1, worker2 = web.manager, web.machines["worker1"], web.machines["worker2"]
    with dropped(worker2, "udp dport 4789"):
        wanted = {("4789", "manager", "worker2"), ("4789", "worker1", "worker2")}
        settles(worker1, wanted, "VXLAN does not come in on worker2")
        with dropped(worker1, f"ip saddr {worker2.addr} udp dport 4789"):
            settles(manager, wanted | {("4789", "worker2", "worker1")}, "nor from worker2 on worker1")
    with dropped(worker2, "udp dport 4789 meta length > 1400"):
        found = settles(manager, {("mtu", "manager", "worker2"), ("mtu", "worker1", "worker2")}, "MTU")
        assert "packets of more than 1400 bytes are lost" in found["Faults"][0]["Text"]
    with dropped(worker1, "th dport 7946"):
        wanted = {("7946", name, "worker1") for name in ("manager", "worker2")}
        settles(manager, wanted, "gossip does not come in on worker1")
    settles(manager, set(), "no fault any more")


def test_what_cannot_be_checked_is_told(web: Lab) -> None:
    manager, worker = web.manager, web.machines["worker1"]
    own = "network bridge is this node's own: it connects no nodes with each other"
    for machine, name, text in (
        (manager, "nowhere", "network nowhere not found"),
        (worker, "nowhere", "network nowhere not found"),
        (manager, "bridge", own),
    ):
        refused = machine.shoal("network", "check", name, check=False)
        assert (refused.returncode, refused.stderr) == (1, f"Error response from daemon: {text}\n")
    manager.shoal("network", "create", "-d", "overlay", "idle-net")
    try:
        assert "\n".join(printed(manager, "idle-net")).count("not on this network") == 3
        refused = worker.shoal("network", "check", "idle-net", check=False)
        assert refused.stderr == "Error response from daemon: network idle-net not found\n"
    finally:
        manager.shoal("network", "rm", "idle-net")


def test_by_way_of_managers_that_do_not_lead(managers: Managers) -> None:
    """The leader has the nodes probe each other, and the answer comes back to whoever was asked: also of a network that it isn't on."""
    leader = managers.wait_settled()
    leader.shoal("network", "create", "-d", "overlay", "idle-net")
    try:
        for follower in managers.others(leader):
            lines = printed(follower, "ingress")
            assert f"on {len(managers.machines)} of {len(managers.machines)} nodes" in lines[0]
            assert "\n".join(printed(follower, "idle-net")).count("not on this network") == len(
                managers.machines
            )
            refused = follower.shoal("network", "check", "nowhere", check=False)
            assert refused.stderr == "Error response from daemon: network nowhere not found\n"
    finally:
        leader.shoal("network", "rm", "idle-net")

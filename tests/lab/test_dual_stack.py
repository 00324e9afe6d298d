"""A network of both families by the unchanged docker CLI: addresses, names, VIPs, the mesh by the machines' IPv6 addresses."""

from __future__ import annotations

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.lab.support import Lab, Machine, addresses, until

pytestmark = pytest.mark.lab

NET, WEB, PORT = "dual-net", "dual-web", "8066"
SIX = ipaddress.ip_network("fd66:1::/64")


def underlay(lab: Lab) -> dict[str, str]:
    """IPv6 addresses for the machines and the world outside."""
    return {name: f"fd66::{n:x}" for n, name in enumerate([*sorted(lab.machines), "outside"], 0x11)}


@pytest.fixture
def both(swarm: Lab) -> Iterator[Lab]:
    """The machines have IPv6 addresses for as long as a test lasts; nothing of it stays."""
    here = {**swarm.machines, "outside": Machine("outside", swarm.outside_addr, "")}
    legs = {}
    for name, address in underlay(swarm).items():
        shown = json.loads(here[name].run("ip", "-j", "-4", "addr", "show").stdout)
        legs[name] = next(
            link["ifname"] for link in shown for a in link["addr_info"] if a["local"] == here[name].addr
        )
        here[name].run("ip", "addr", "replace", f"{address}/64", "dev", legs[name], "nodad")
    yield swarm
    swarm.manager.docker("service", "rm", WEB, check=False)
    swarm.wait_gone(WEB)
    for name, address in underlay(swarm).items():
        here[name].run("ip", "addr", "del", f"{address}/64", "dev", legs[name], check=False)
    until(
        lambda: not swarm.manager.docker("network", "rm", NET, check=False).returncode
        or NET not in swarm.manager.docker("network", "ls", "--format", "{{.Name}}").stdout.split(),
        30, "the network is gone",
    )  # fmt: skip


def split(found: set[str]) -> tuple[set[str], set[str]]:
    """By family."""
    return {a for a in found if ":" not in a}, {a for a in found if ":" in a}


def test_a_network_of_both_families(both: Lab) -> None:
    lab, manager = both, both.manager
    here = underlay(lab)
    done = manager.docker("network", "create", "-d", "overlay", "--subnet", str(SIX), NET, check=False)
    assert done.returncode == 1 and "it needs --ipv6" in done.stderr
    manager.docker(
        "network", "create", "-d", "overlay", "--ipv6", "--attachable", "--subnet", "10.66.0.0/24", "--subnet", str(SIX), NET
    )  # fmt: skip
    shown = json.loads(manager.docker("network", "inspect", NET).stdout)[0]
    assert shown["EnableIPv6"] is True
    assert sorted(c["Subnet"] for c in shown["IPAM"]["Config"]) == ["10.66.0.0/24", str(SIX)]
    manager.docker(
        "service", "create", "-d", "--name", WEB, "--replicas", "3", "--network", f"name={NET},alias=www",
        "-p", f"{PORT}:80", "nginx",
    )  # fmt: skip
    tasks = lab.wait_running(WEB, 3)
    four, six = split(addresses(tasks, NET))
    assert (len(four), len(six)) == (3, 3)
    assert all(ipaddress.ip_address(a) in SIX for a in six)
    vips = split(
        {v["Addr"].partition("/")[0] for v in manager.api(f"/services/{WEB}")["Endpoint"]["VirtualIPs"]}
    )
    (vip,) = vips[1]
    inside(lab, tasks, vip, six)
    container(lab, vips, four, six)
    mesh(lab, here)
    manager.docker(
        "service", "update", "-d", "--force", "--update-parallelism", "3", "--stop-signal", "SIGKILL", WEB
    )
    old = {t["ID"] for t in tasks}
    until(lambda: len(now := lab.tasks(WEB)) == 3 and not old & {t["ID"] for t in now}, 60, "three others")
    new = split(addresses(lab.tasks(WEB), NET))[1]
    assert not new & six, "addresses rest"
    all_serve(lab, vip)
    manager.docker("service", "rm", WEB)
    lab.wait_gone(WEB)
    manager.docker("network", "rm", NET)
    until(lambda: not left(lab), 60, "nothing of it is left")


def inside(lab: Lab, tasks: list[dict[str, Any]], vip: str, six: set[str]) -> None:
    """From a task: the others, and the VIP with its own address seen."""
    for address in six:
        ping = ("ping", "-6", "-c1", "-W5", address)
        until(
            lambda p=ping: " 0% packet loss" in lab.in_netns(tasks[0], *p, check=False),
            30,
            f"{address} answers",
        )
    all_serve(lab, vip)
    asking = tasks[1]
    own = next(iter(split(addresses([asking], NET))[1]))
    assert lab.in_netns(asking, "curl", "-sS", "-m", "10", f"http://[{vip}]/client").strip() == own


def all_serve(lab: Lab, vip: str) -> None:
    """The three that run, and nobody else, are behind the VIP."""

    def so() -> bool:
        tasks = lab.tasks(WEB)
        return len(tasks) == 3 and served(lab, tasks[0], vip) == {t["ID"] for t in tasks}

    until(so, 60, "the three that run and nobody else behind the VIP")


def served(lab: Lab, task: dict[str, Any], vip: str) -> set[str]:
    """Tasks that answer at a VIP."""
    names = {t["Status"]["ContainerStatus"]["ContainerID"][:12]: t["ID"] for t in lab.tasks(WEB)}
    script = f"for n in $(seq 9); do curl -sS -m 10 http://[{vip}]/whoami; done"
    return {names.get(name, name) for name in lab.in_netns(task, "sh", "-c", script, check=False).split()}


def container(lab: Lab, vips: tuple[set[str], set[str]], four: set[str], six: set[str]) -> None:
    """One of `docker run` has addresses of both families, and is told those of all names."""
    worker = lab.machines["worker1"]
    worker.docker("run", "-d", "--name", "dual-box", "--network", NET, "alpine", "sleep", "1000")
    try:
        (shown,) = json.loads(worker.docker("inspect", "dual-box").stdout)
        mine = shown["NetworkSettings"]["Networks"][NET]
        assert ipaddress.ip_address(mine["GlobalIPv6Address"]) in SIX
        assert mine["GlobalIPv6PrefixLen"] == 64
        assert mine["GlobalIPv6Address"] in worker.docker("exec", "dual-box", "cat", "/etc/hosts").stdout
        (net,) = json.loads(worker.docker("network", "inspect", NET).stdout)
        known = {each["Name"]: each["IPv6Address"] for each in net["Containers"].values()}
        assert known["dual-box"] == f"{mine['GlobalIPv6Address']}/64"
        meant = {name: vips[0] & of_net(vips[0]) | vips[1] for name in (WEB, "www", f"{WEB}.{NET}")}
        for name, wanted in {**meant, f"tasks.{WEB}": four | six}.items():
            until(partial(answers, worker, name, wanted), 30, f"{wanted} for {name}")
        assert f"{WEB}.{NET}" in worker.docker("exec", "dual-box", "nslookup", *vips[1]).stdout
        inside = ("nsenter", f"--net=/proc/{shown['State']['Pid']}/ns/net")
        page = worker.run(*inside, "curl", "-sS", "-m", "10", f"http://[{next(iter(vips[1]))}]/client")
        assert page.stdout.strip() == mine["GlobalIPv6Address"]
    finally:
        worker.docker("rm", "-f", "dual-box")


def of_net(found: set[str]) -> set[str]:
    return {a for a in found if ipaddress.ip_address(a) in ipaddress.ip_network("10.66.0.0/24")}


def told(worker: Machine, name: str) -> set[str]:
    """What the resolver says of a name, of both families."""
    out = worker.docker("exec", "dual-box", "nslookup", name, check=False).stdout.partition("Name:")[2]
    return {
        word for word in out.split() if re.fullmatch(r"[\d.]+|[0-9a-f]*:[0-9a-f:]+", word) and word[-1] != ":"
    }


def answers(worker: Machine, name: str, wanted: set[str]) -> bool:
    return told(worker, name) == wanted


def mesh(lab: Lab, here: dict[str, str]) -> None:
    """Every machine's IPv6 address leads to every task, which sees the client; [::1] on the machine too."""
    machines = {name: here[name] for name in lab.machines}

    def everywhere() -> bool:
        counted = lab.connections([f"{address}:{PORT}" for address in machines.values()], 9)
        return all(len(found) == 3 and not any("FAILED" in a for a in found) for found in counted.values())

    until(everywhere, 60, "each machine's address leads to all three")
    for name, address in machines.items():
        seen = lab.outside("curl", "-sS", "-m", "10", f"http://[{address}]:{PORT}/client").strip()
        assert seen == here["outside"], name
        own = Counter(
            lab.machines[name]
            .sh(f"for n in $(seq 9); do curl -sS -m 10 http://[::1]:{PORT}/whoami; done")
            .split()
        )
        assert len(own) == 3, (name, own)


def left(lab: Lab) -> list[str]:
    """What there still is of IPv6 on the machines."""
    said = []
    for name, machine in lab.machines.items():
        for script in (
            "nft list tables | grep ip6.shoal", "ip -6 addr show dev shoal_ing scope global | grep inet6",
            "ip -6 route show table local | grep '::1 dev shoal_ing'",
            "for n in /run/shoal/netns/n-*; do nsenter --net=$n ip -6 neigh show nud permanent; done",
        ):  # fmt: skip
            said += [f"{name}: {line}" for line in machine.sh(script + " || true").splitlines()]
    return said

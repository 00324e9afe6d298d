"""The routing mesh by the unchanged docker CLI: datagrams, host mode, ports on one address, and what tables say of them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from tests.lab.support import Lab, Machine, until

pytestmark = pytest.mark.lab

# Answers each datagram with the task's hostname, the sender's address and what it said.
ECHO = ("-T2", "UDP4-RECVFROM:7000,fork", "SYSTEM:read said; echo $(hostname) $SOCAT_PEERADDR $said")
# From one port to one target, every 20 ms, until standard input closes: the answers' first words, with their times.
TALK = """
import json, selectors, socket, sys, time
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ready = selectors.DefaultSelector()
ready.register(made, selectors.EVENT_READ)
ready.register(sys.stdin, selectors.EVENT_READ)
answers, due, end = [], 0.0, time.monotonic() + 120
print("started", flush=True)
while time.monotonic() < end:
    if time.monotonic() >= due:
        made.sendto(b"hello\\n", (sys.argv[1], int(sys.argv[2])))
        due = time.monotonic() + 0.02
    events = [key.fileobj for key, _ in ready.select(max(0.0, due - time.monotonic()))]
    if made in events:
        words = made.recv(2048).decode().split()
        answers.append([time.monotonic(), words[0]])
    if sys.stdin in events:
        break
print(json.dumps({"answers": answers}))
"""
ASK = """
import socket, sys
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.settimeout(5)
made.connect((sys.argv[1], int(sys.argv[2])))
made.send(b"hello\\n")
print(made.recv(2048).decode())
"""
SHOWN = "{{.Name}}|{{.Node}}|{{.CurrentState}}|{{.Error}}|{{.Ports}}"


@pytest.fixture
def clean(swarm: Lab) -> Iterator[Lab]:
    """Services of a test go with it."""
    before = set(swarm.manager.docker("service", "ls", "-q").stdout.split())
    yield swarm
    if new := set(swarm.manager.docker("service", "ls", "-q").stdout.split()) - before:
        swarm.manager.docker("service", "rm", *new)


def datagram(machine: Machine | None, lab: Lab, address: str, port: int) -> list[str]:
    """One datagram's answer, from a machine or from outside: who has answered, whom it has seen, what was said. Asked
    again while nobody answers: a task runs before its server listens and before every machine has heard of it."""
    argv = ("python3", "-c", ASK, address, str(port))

    def answered() -> list[str]:
        out = (
            machine.run(*argv, check=False).stdout if machine is not None else lab.outside(*argv, check=False)
        )
        return out.split()

    return until(answered, 30, f"an answer from {address}:{port}/udp")


def rows(machine: Machine, service: str) -> list[list[str]]:
    shown = machine.docker(
        "service", "ps", "--no-trunc", "--filter", "desired-state=running", "--format", SHOWN, service
    )
    return [line.split("|") for line in shown.stdout.splitlines()]


def test_datagrams(clean: Lab, say: Callable[[str], None]) -> None:
    """One task is reached through every node, and from each node itself; when it dies, a client of it is another's."""
    manager = clean.manager
    manager.docker(
        "service", "create", "-d", "--name", "echo", "-p", "9000-9002:9000-9002", "-p", "5353:7000/udp",
        "-p", "target=70,published=7070,protocol=sctp", "--restart-delay", "1s", "socat", *ECHO,
    )  # fmt: skip
    (task,) = clean.wait_running("echo", 1)
    listed = manager.docker("service", "ls", "--filter", "name=echo", "--format", "{{.Ports}}").stdout
    assert listed == "*:7070->70/sctp, *:9000-9002->9000-9002/tcp, *:5353->7000/udp\n"
    hostname = clean.task_exec(task, "hostname").strip()
    for machine in clean.machines.values():
        assert datagram(None, clean, machine.addr, 5353) == [hostname, clean.outside_addr, "hello"], (
            machine.name
        )
        for address in ("127.0.0.1", machine.addr):
            assert datagram(machine, clean, address, 5353)[0] == hostname, (machine.name, address)
    manager.docker("service", "scale", "-d", "echo=2")
    tasks = {clean.task_exec(t, "hostname").strip(): t for t in clean.wait_running("echo", 2)}
    command = ["python3", "-c", TALK, manager.addr, "5353"]
    with clean.load(command) as talk:
        first = datagram(None, clean, manager.addr, 5353)[0]
        assert first in tasks
        # Whoever it is: the client has one of the two, and has to move once at least.
        for dead in tasks.values():
            clean.node_of(dead).run("kill", "-9", str(dead["Status"]["ContainerStatus"]["PID"]))
            ended = dead["ID"]

            def over(ended: str = ended) -> bool:
                return ended not in {t["ID"] for t in clean.tasks("echo")}

            until(over, 30, f"{ended} has ended")
            clean.wait_running("echo", 2)
        new = {clean.task_exec(t, "hostname").strip() for t in clean.tasks("echo")} - set(tasks)
        assert len(new) == 2
        until(lambda: datagram(None, clean, manager.addr, 5353)[0] in new, 30, "new tasks answer")
    answers = talk.account["answers"]
    heard = Counter(name for _, name in answers)
    assert set(heard) & set(tasks), heard
    assert answers[-1][1] in new, heard
    gap = max(after[0] - before[0] for before, after in pairwise(answers))
    say(f"    a UDP client's longest silence while both of its tasks were killed: {gap:.2f} s")
    assert gap < 20  # one that stays where it was hears nothing for ever


def test_host_mode(clean: Lab) -> None:
    """One task on each node and no more, at the node's own address; without a number it gets one."""
    manager = clean.manager
    manager.docker(
        "service", "create", "-d", "--name", "hostp", "--replicas", "4", "--publish", "mode=host,published=8081,target=80",
        "nginx",
    )  # fmt: skip
    manager.docker(
        "service", "create", "-d", "--name", "anyport", "--publish", "mode=host,target=80", "nginx"
    )
    tasks = clean.wait_running("hostp", 3)
    waiting = until(
        lambda: [row for row in rows(manager, "hostp") if not row[1] and row[3]],
        30,
        "the fourth says why it waits",
    )
    assert [row[3] for row in waiting] == ['"no suitable node (host-mode port already in use on 3 nodes)"']
    running = [row for row in rows(manager, "hostp") if row[1]]
    assert {row[1] for row in running} == set(clean.machines)
    assert {row[4] for row in running} == {"*:8081->80/tcp"}
    assert (
        manager.docker(
            "service", "ls", "--filter", "name=hostp", "--format", "{{.Replicas}}|{{.Ports}}"
        ).stdout
        == "3/4|\n"
    )
    (shown,) = json.loads(manager.docker("service", "inspect", "hostp").stdout)
    wanted = {"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8081, "PublishMode": "host"}
    assert shown["Endpoint"]["Ports"] == shown["Spec"]["EndpointSpec"]["Ports"] == [wanted]
    assert "VirtualIPs" not in shown["Endpoint"]
    for task in tasks:
        node = clean.node_of(task)
        clean.wait_served(8081, 1, [node])
        assert clean.connections([f"{node.addr}:8081"], 3) == {
            f"{node.addr}:8081": Counter({clean.task_exec(task, "hostname").strip(): 3})
        }
        assert node.run("curl", "-s", "http://127.0.0.1:8081/whoami").stdout.strip()
    assert clean.connections([f"{manager.addr}:8081"], 1, "/client") == {
        f"{manager.addr}:8081": Counter({clean.outside_addr: 1})
    }
    (task,) = clean.wait_running("anyport", 1)
    ((*_, ports),) = rows(manager, "anyport")
    found = re.fullmatch(r"\*:(\d+)->80/tcp", ports)
    assert found, ports
    node = clean.node_of(task)
    assert (
        f"0.0.0.0:{found[1]}->80/tcp"
        in node.docker("ps", "--format", "{{.Ports}}", "--filter", "name=anyport").stdout
    )
    target = f"{node.addr}:{found[1]}"
    clean.wait_served(int(found[1]), 1, [node])
    assert clean.connections([target], 1) == {target: Counter({clean.task_exec(task, "hostname").strip(): 1})}


def test_labels(clean: Lab) -> None:
    """Ports on some addresses of each node, and for all of a sudden the nodes' addresses instead of the client's."""
    manager = clean.manager
    manager.docker(
        "service", "create", "-d", "--name", "inner", "-p", "8085:80", "--label", "shoal.publish.address=127.0.0.0/8", "nginx",
    )  # fmt: skip
    (task,) = clean.wait_running("inner", 1)
    hostname = clean.task_exec(task, "hostname").strip()
    target = f"{manager.addr}:8085"
    argv = ("curl", "-s", "http://127.0.0.1:8085/whoami")
    for machine in clean.machines.values():
        said = until(lambda m=machine: m.run(*argv, check=False).stdout, 30, f"{machine.name} reaches itself")
        assert said.strip() == hostname
    assert set(clean.connections([target], 1)[target]) == {"FAILED ConnectionRefusedError: [Errno 111] Connect call failed "
                                                           f"('{manager.addr}', 8085)"}  # fmt: skip
    manager.docker(
        "service", "update", "-d", "--label-rm", "shoal.publish.address", "--label-add", "shoal.publish.masquerade=true", "inner",
    )  # fmt: skip
    seen = until(
        lambda: [a for a in clean.connections([target], 1, "/client")[target] if "FAILED" not in a],
        30,
        "published everywhere",
    )
    assert seen[0] not in (clean.outside_addr, manager.addr)
    assert clean.wait_running("inner", 1)[0]["ID"] == task["ID"]
    refused = manager.docker(
        "service", "update", "-d", "--label-add", "shoal.publish.address=all", "inner", check=False
    )
    assert "label shoal.publish.address" in refused.stderr

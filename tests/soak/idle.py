"""TCP connections that say nothing for long, and then go on: `make soak-idle N=600` (root).

Through the mesh of every node, from a node's own loopback, through a VIP and in host mode; half-way the balancers are made anew and every
agent is restarted. Takes the lab that is there if it has three machines in a swarm (SHOAL_LAB=name gives this one a lab of its own).
Ends with 1 when a connection did not carry the same bytes both ways afterwards.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.lab.support import LAB, Lab
from tests.soak.network import three
from tests.soak.seeds import commit

NETWORK, SERVICE, CALLER, OTHER = "idle-net", "idle-echo", "idle-caller", "idle-other"
ECHO = ("TCP-LISTEN:7000,fork,reuseaddr", "PIPE")
MESH, HOST, INNER = 7000, 7001, 7000
# In a namespace: one connection to each target, a word there and back, silence, then more than a word.
TALK = """
import json, socket, sys, time
def echoed(made, data):
    made.sendall(data)
    got = b""
    while len(got) < len(data) and (part := made.recv(65536)):
        got += part
    return got == data
opened = {}
for target in sys.argv[2:]:
    host, _, port = target.rpartition(":")
    opened[target] = socket.create_connection((host, int(port)), 20)
    assert echoed(opened[target], b"hello")
time.sleep(float(sys.argv[1]))
found = {}
for target, made in opened.items():
    try:
        found[target] = "" if echoed(made, bytes(range(256)) * 100) else "cut short"
    except OSError as error:
        found[target] = str(error)
print(json.dumps(found))
"""


def start(lab: Lab) -> None:
    """An echo on one node, with a port of the mesh and one in host mode, and a task that calls it from another node."""
    manager = lab.manager
    manager.docker("network", "create", "-d", "overlay", NETWORK)
    manager.docker(
        "service", "create", "-d", "--name", SERVICE, "--network", NETWORK, "--constraint", "node.hostname==worker2",
        "-p", f"{MESH}:{INNER}", "-p", f"mode=host,published={HOST},target={INNER}", "socat", *ECHO,
    )  # fmt: skip
    manager.docker(
        "service", "create", "-d", "--name", CALLER, "--network", NETWORK, "--constraint", "node.hostname==worker1",
        "--stop-signal", "SIGKILL", "alpine", "sleep", "100000",
    )  # fmt: skip
    lab.wait_running(SERVICE, 1)
    lab.wait_running(CALLER, 1)


def end(lab: Lab) -> None:
    """Takes it all away."""
    have = lab.manager.docker("service", "ls", "--format", "{{.Name}}").stdout.split()
    if mine := [name for name in (SERVICE, CALLER, OTHER) if name in have]:
        lab.manager.docker("service", "rm", *mine)
    if NETWORK in lab.manager.docker("network", "ls", "--format", "{{.Name}}").stdout.split():
        lab.manager.docker("network", "rm", NETWORK)


def disturb(lab: Lab) -> None:
    """What must not touch a connection: another service in the same networks, and agents that begin anew."""
    lab.manager.docker(
        "service",
        "create",
        "-d",
        "--name",
        OTHER,
        "--network",
        NETWORK,
        "-p",
        "7002:80",
        "--replicas",
        "3",
        "nginx",
    )
    lab.wait_running(OTHER, 3)
    for machine in lab.machines.values():
        pid = machine.main_pid("shoal-agent")
        machine.run("systemctl", "restart", "shoal-agent")
        machine.wait_unit("shoal-agent", pid)


def idle(lab: Lab, seconds: float) -> dict[str, str]:
    """What was wrong with each connection, or nothing."""
    (caller,) = lab.tasks(CALLER)
    pid = caller["Status"]["ContainerStatus"]["PID"]
    worker = lab.machines["worker2"]
    talkers = {
        "outside": (
            "outside", (), [f"{m.addr}:{MESH}" for m in lab.machines.values()] + [f"{worker.addr}:{HOST}"]
        ),
        "a node": ("manager", (), [f"127.0.0.1:{MESH}", f"{lab.manager.addr}:{MESH}", f"{worker.addr}:{HOST}"]),
        "a task": (
            "worker1", ("nsenter", f"--net=/proc/{pid}/ns/net"),
            [f"{lab.vip(SERVICE, NETWORK)}:{INNER}", f"{lab.manager.addr}:{MESH}"],
        ),
    }  # fmt: skip

    def talk(name: str) -> dict[str, str]:
        machine, before, targets = talkers[name]
        argv = [str(LAB), "exec", machine, *before, "python3", "-c", TALK, str(seconds), *targets]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 120, check=False)
        if done.returncode:
            return {f"{name} -> {', '.join(targets)}": done.stderr.strip().splitlines()[-1]}
        return {f"{name} -> {target}": wrong for target, wrong in json.loads(done.stdout).items()}

    with ThreadPoolExecutor(len(talkers)) as pool:
        talking = [pool.submit(talk, name) for name in talkers]
        time.sleep(seconds / 2)
        disturb(lab)
        return {what: wrong for each in talking for what, wrong in each.result().items()}


def main() -> int:
    """0 if every connection went on."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    options = parser.parse_args()
    with three() as lab:
        end(lab)
        try:
            start(lab)
            found = idle(lab, options.seconds)
        finally:
            end(lab)
    for what, wrong in found.items():
        print(f"{what}: {wrong or 'whole'}")
    wrong = sum(map(bool, found.values()))
    print(
        f"commit {commit()}: {len(found)} connections silent for {options.seconds:g} s, {wrong} of them not whole afterwards"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
